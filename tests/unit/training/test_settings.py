"""Settings: said once, checked with a sentence, kept in a file; presets and the scores they reach."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from vkd.data.datasets import DATASETS
from vkd.evaluation.published import PUBLISHED
from vkd.io.errors import VKDError
from vkd.models.backbones import BACKBONES
from vkd.training import settings as settings_io
from vkd.training.fields import GROUPS, sentences
from vkd.training.presets import PRESETS
from vkd.training.settings import (
    STAGES,
    Settings,
    StudentSettings,
    TeacherSettings,
)
from vkd.training.trainer import conflicts, generation_rate


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_is_described(stage: str):
    for name, info in STAGES[stage].model_fields.items():
        assert not info.is_required(), name
        assert info.description, name
        assert info.description.endswith("."), name
        assert info.title, name
        assert isinstance(info.json_schema_extra, dict)
        assert info.json_schema_extra["group"] in GROUPS, name


def test_choices():
    for backbone in BACKBONES:
        assert TeacherSettings(backbone=backbone).backbone == backbone
    for dataset in DATASETS:
        assert TeacherSettings(dataset=dataset).dataset == dataset


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"backbone": "vgg"}, "backbone: 'vgg' is not one of resnet18"),
        ({"views": 0}, "views: input should be greater than or equal to 1, not 0"),
        ({"image_size": (4, 64)}, "image_size: 4 × 64 pixels"),
        ({"milestones": (5, 3)}, "milestones: milestones .* must be ascending"),
        ({"protocols": ()}, "protocols: give at least 1"),
        ({"learning_rat": 1}, "learning_rat: extra inputs are not permitted"),
        ({"precision": "fp8"}, "precision: input should be 'fp32', 'bf16' or 'fp16', not 'fp8'"),
    ],
)
def test_wrong_values(values: dict, words: str):
    with pytest.raises(pydantic.ValidationError) as caught:
        TeacherSettings.model_validate(values)
    assert re.match(words, sentences(caught.value))


def test_student_views_are_among_the_views():
    with pytest.raises(ValueError, match="9 of 8 views"):
        StudentSettings(student_views=9)


def test_save_and_load(tmp_path: Path):
    student = StudentSettings(teacher=Path("checkpoints/a"), milestones=(3, 9), margin=0.3)
    path = settings_io.save(student, tmp_path / "settings.json")
    assert json.loads(path.read_text())["stage"] == "student"
    assert settings_io.load(path) == student
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "is not a file of settings"),
        ("[]", "is not a file of settings"),
        ('{"epochs": 3}', "is not a file of settings"),
        ('{"stage": "teacher", "epochs": -3}', "epochs: input should be greater"),
        ('{"stage": "teacher", "class_weight": 1e999}', "class_weight: input should be a finite"),
        ("[" * 100_000, "is not a file of settings"),
    ],
)
def test_damaged_file(tmp_path: Path, text: str, words: str):
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        settings_io.load(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="not a training run"):
        settings_io.load(tmp_path / "settings.json")


def test_conflicts():
    old = TeacherSettings()
    assert conflicts(old, old.changed(epochs=400, workers=0, device="cpu", root=Path("elsewhere"))) == []
    assert conflicts(old, old.changed(views=4, seed=1, epochs=2)) == ["views", "seed"]
    assert conflicts(old, StudentSettings()) == ["stage"]


def test_generation_rate():
    assert [generation_rate(g) for g in range(4)] == pytest.approx([1e-4, 1e-5, 1e-5, 1e-5])
    assert generation_rate(2, base=3.5e-4) == pytest.approx(1e-5)
    assert generation_rate(0, base=1e-6) == 1e-6


def test_published_loss_weights():
    assert TeacherSettings().weights == {"class": 1, "triplet": 1}
    assert StudentSettings().weights == {"class": 1, "triplet": 1, "kd": 0.1, "dp": 1e-4}
    assert StudentSettings(logits="mse").weights == {"class": 1, "triplet": 1, "mse": 0.1, "dp": 1e-4}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name: str):
    row = PRESETS[name]
    made = row.settings()
    assert isinstance(made, STAGES[row.stage])
    assert made.preset_name == name
    assert row.backbone in BACKBONES


def test_published_recipes():
    trunks = [name for name in BACKBONES if name != "tiny"]
    published = {f"{d}-{b}-{s}" for d in ("mars", "duke", "veri") for b in trunks for s in STAGES}
    assert published <= set(PRESETS)
    mars, veri = PRESETS["mars-resnet50-teacher"].settings(), PRESETS["veri-resnet50-teacher"].settings()
    assert (mars.image_size, mars.views, mars.identities_per_batch, mars.samples_per_identity) == (
        (256, 128),
        8,
        8,
        4,
    )
    assert (mars.epochs, mars.milestones, mars.learning_rate, mars.weight_decay) == (
        300,
        (100, 200),
        1e-4,
        1e-5,
    )
    assert (veri.image_size, veri.views, veri.identities_per_batch, veri.milestones) == (
        (224, 224),
        1,
        18,
        (200, 250),
    )
    assert PRESETS["duke-resnet18-teacher"].settings().milestones == (50, 100, 150, 200, 250)
    assert PRESETS["veri-resnet18-teacher"].settings().milestones == (200, 250)
    student = PRESETS["veri-mobilenet-student"].settings()
    assert isinstance(student, StudentSettings)
    assert (student.views, student.student_views, student.identities_per_batch) == (8, 2, 12)
    assert (student.epochs, student.milestones, student.image_size) == (500, (300, 450), (224, 224))


def test_expected_scores():
    assert PRESETS["mars-resnet50-student"].expected["i2v"] == {"top1": 0.8389, "map": 0.7727}
    assert PRESETS["mars-resnet18-student"].expected == {}
    assert len(PUBLISHED) == 12
    for (_, backbone, _), scores in PUBLISHED.items():
        assert backbone in BACKBONES
        assert all(0.6 < value < 0.95 for each in scores.values() for value in each.values())


def test_preset_method():
    teacher = TeacherSettings.preset("street-tiny-teacher", root="data/other")
    assert (teacher.backbone, teacher.root, teacher.preset_name) == (
        "tiny",
        Path("data/other"),
        "street-tiny-teacher",
    )
    student = StudentSettings.preset("street-tiny-student", teacher="runs/teacher")
    assert student.teacher == Path("runs/teacher")
    for name in ("mars", "street-tiny-student"):
        with pytest.raises(VKDError):
            TeacherSettings.preset(name)


def test_no_torch():
    code = "import sys, vkd.training.presets as p; p.PRESETS['mars-resnet50-student'].settings()\n"
    code += "sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_changed_is_checked():
    with pytest.raises(ValueError, match="epochs"):
        Settings().changed(epochs=0)
