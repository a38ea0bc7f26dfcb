"""What a checkpoint's folder says of itself."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support import told_run
from vkd.hub.summary import by_epoch, facts, header, name_of, teacher_of
from vkd.models import checkpoint


@pytest.fixture
def student(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Path:
    return told_run.make(tmp_path, tiny_pair)


def test_each_file_of_weights_speaks_for_itself_and_the_one_that_loads_by_itself_comes_first(student: Path):
    found = facts(student)
    assert list(found.weights) == ["best.safetensors", "model.safetensors"]
    assert [config.epoch for config in found.weights.values()] == [1, 2]
    assert found.config == checkpoint.load(student).config


def test_of_two_files_with_the_same_tensors_one_is_told_of(student: Path):
    known = checkpoint.load(student)
    checkpoint.save(student, known.net, known.config, weights="model")
    assert list(facts(student).weights) == ["model.safetensors"]
    assert facts(student).config.epoch == 1


def test_of_an_epoch_that_ran_twice_the_later_event_counts(student: Path):
    rows = by_epoch(facts(student), "epoch")
    assert list(rows) == [1, 2]
    assert rows[1]["losses"]["class"] == 4.0


def test_config_and_weights_are_enough(tiny_pair: tuple[Path, Path]):
    found = facts(tiny_pair[0])
    assert (found.settings, found.events) == (None, ())


def test_damaged_settings_and_events_count_as_missing(student: Path):
    (student / "settings.json").write_text("{")
    (student / "events.jsonl").unlink()
    (student / "events.jsonl").mkdir()
    found = facts(student)
    assert (found.settings, found.events) == (None, ())


def test_the_teacher_is_found_by_the_settings_or_beside_the_student(student: Path):
    teacher = teacher_of(facts(student))
    assert teacher is not None
    assert teacher.folder.name == "tiny-teacher"
    (student / "settings.json").unlink()
    assert teacher_of(facts(student)) is not None
    shutil.rmtree(student.parent / "tiny-teacher")
    assert teacher_of(facts(student)) is None


def test_a_network_of_another_data_set_is_not_taken_for_the_teacher(student: Path):
    path = student.parent / "tiny-teacher" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": "mars"}))
    assert teacher_of(facts(student)) is None


@pytest.mark.parametrize(
    "damage", [b"", b"\xff" * 40, b"\x04" + bytes(7) + b"null", b"\x02" + bytes(7) + b"{]"]
)
def test_damaged_weights_are_refused_in_a_sentence(student: Path, damage: bytes):
    (student / "best.safetensors").write_bytes(damage)
    with pytest.raises(ValueError, match=r"best\.safetensors is damaged"):
        header(student / "best.safetensors")
    with pytest.raises(ValueError, match="damaged"):
        facts(student)


def test_a_folder_without_weights_is_no_checkpoint(student: Path):
    for name in ("best", "model"):
        (student / f"{name}.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        facts(student)


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
def test_a_path_of_any_system_is_reduced_to_its_last_part(path: str, name: str):
    assert name_of(path) == name
