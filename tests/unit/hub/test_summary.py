"""Summary of a checkpoint's folder."""

import json
import shutil
from pathlib import Path

import pytest

from vkd.hub.summary import last_part, read_summary
from vkd.io.errors import MissingFileError, VKDError
from vkd.models import checkpoint


def test_weights_carry_their_own_epoch_the_default_first(student_run: Path):
    summary = read_summary(student_run)
    assert list(summary.weights) == ["best.safetensors", "model.safetensors"]
    assert [config.epoch for config in summary.weights.values()] == [1, 2]
    assert summary.config == checkpoint.load(student_run).config


def test_equal_weights_count_once(student_run: Path):
    best = checkpoint.load(student_run)
    checkpoint.save(student_run, best.net, best.config, weights="model")
    summary = read_summary(student_run)
    assert list(summary.weights) == ["model.safetensors"]
    assert summary.config.epoch == 1


def test_later_event_of_an_epoch_counts(student_run: Path):
    rows = read_summary(student_run).by_epoch("epoch")
    assert list(rows) == [1, 2]
    assert rows[1]["losses"]["class"] == 4.0


def test_config_and_weights_are_enough(tiny_pair: tuple[Path, Path]):
    summary = read_summary(tiny_pair[0])
    assert (summary.settings, summary.events, summary.teacher) == (None, (), None)


def test_damaged_settings_and_events_count_as_missing(student_run: Path):
    (student_run / "settings.json").write_text("{")
    (student_run / "events.jsonl").unlink()
    (student_run / "events.jsonl").mkdir()
    summary = read_summary(student_run)
    assert (summary.settings, summary.events) == (None, ())


def test_teacher_by_settings_or_beside_the_student(student_run: Path):
    teacher = read_summary(student_run).teacher
    assert teacher is not None
    assert teacher.folder.name == "tiny-teacher"
    (student_run / "settings.json").unlink()
    assert read_summary(student_run).teacher is not None
    shutil.rmtree(student_run.parent / "tiny-teacher")
    assert read_summary(student_run).teacher is None


def test_teacher_of_another_dataset_is_none(student_run: Path):
    path = student_run.parent / "tiny-teacher" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": "mars"}))
    assert read_summary(student_run).teacher is None


@pytest.mark.parametrize(
    "damage", [b"", b"\xff" * 40, b"\x04" + bytes(7) + b"null", b"\x02" + bytes(7) + b"{]"]
)
def test_damaged_weights(student_run: Path, damage: bytes):
    (student_run / "best.safetensors").write_bytes(damage)
    with pytest.raises(VKDError, match=r"best\.safetensors"):
        read_summary(student_run)


def test_no_weights(student_run: Path):
    for name in ("best", "model"):
        (student_run / f"{name}.safetensors").unlink()
    with pytest.raises(MissingFileError):
        read_summary(student_run)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/mars", "mars"),
        ("C:\\data\\mars\\", "mars"),
        ("mars", "mars"),
        ("..", ""),
        ("/", ""),
        ("C:\\", ""),
    ],
)
def test_last_part_of_a_path_of_any_system(path: str, name: str):
    assert last_part(path) == name
