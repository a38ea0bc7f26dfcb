"""Runs go on bit by bit where they were stopped, with their own settings, and train over nothing else."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.training import (
    after,
    events_of,
    kinds,
    losses_of,
    same,
    student_settings,
    teacher_settings,
    weights,
)
from vkd.cli.main import main
from vkd.io.errors import VKDError
from vkd.jobs import runs
from vkd.training import loop
from vkd.training.settings import Settings


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8])
def test_stopped_run_resumes_bit_equal(small_street: Path, uninterrupted: Path, tmp_path: Path, steps: int):
    settings = teacher_settings(small_street, epochs=4)
    first = events_of(settings, tmp_path, after(steps))
    assert kinds(first)[-2:] == ["saved", "stopped"]
    second = events_of(settings, tmp_path)
    assert kinds(second)[0] == "started"
    assert second[0]["resumed"]
    assert "sanity_check" not in kinds(second)
    epochs = [event["epoch"] for event in first + second if event["kind"] == "epoch"]
    assert epochs == [1, 2, 3, 4]
    assert same(weights(tmp_path), weights(uninterrupted))


def test_student_resumes_bit_equal(small_street: Path, teacher: Path, tmp_path: Path):
    settings = student_settings(small_street, teacher, workers=1)
    events_of(settings, tmp_path / "whole")
    events_of(settings, tmp_path / "parts", after(2))
    events_of(settings, tmp_path / "parts")
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_mean_losses_survive_a_stop(small_street: Path, tmp_path: Path):
    settings = teacher_settings(small_street, epochs=1)
    whole = losses_of(events_of(settings, tmp_path / "whole"))
    events_of(settings, tmp_path / "parts", after(1))
    parts = losses_of(events_of(settings, tmp_path / "parts"))
    assert parts[0] == pytest.approx(whole[0], rel=1e-12)


def test_finished_run_stays(small_street: Path, uninterrupted: Path):
    before = weights(uninterrupted)
    events = events_of(teacher_settings(small_street, epochs=4), uninterrupted)
    assert kinds(events) == ["started", "finished"]
    assert same(before, weights(uninterrupted))


def test_more_epochs(small_street: Path, tmp_path: Path, uninterrupted: Path):
    events_of(teacher_settings(small_street, epochs=2), tmp_path)
    events_of(teacher_settings(small_street, epochs=4), tmp_path)
    assert same(weights(tmp_path), weights(uninterrupted))


def refused(settings: Settings, folder: Path, pattern: str) -> None:
    """The folder's weights stay as they are."""
    before = weights(folder)
    with pytest.raises(VKDError, match=pattern):
        loop.train(settings, folder)
    assert same(weights(folder), before)


def test_other_settings_are_refused(small_street: Path, teacher: Path):
    refused(teacher_settings(small_street, views=3, seed=4), teacher, "views, seed")
    refused(student_settings(small_street, teacher), teacher, "stage")


def test_checkpoint_is_not_trained_over(small_street: Path, tiny_pair: Any, tmp_path: Path):
    folder = shutil.copytree(tiny_pair[0], tmp_path / "shipped")
    refused(teacher_settings(small_street), folder, "no run")


def test_imported_run_is_not_trained_over(small_street: Path, teacher: Path, tmp_path: Path):
    """Neither here nor in a process of its own, and nothing is written into its folder."""
    folder = shutil.copytree(teacher, tmp_path / "record", ignore=shutil.ignore_patterns("training.pt"))
    (folder / "events.jsonl").write_text('{"kind":"finished","epoch":2,"time":1.0}\n')
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(VKDError, match="cannot be resumed"):
        runs.train(teacher_settings(small_street), folder)
    with pytest.raises(ValueError, match="cannot be resumed"):
        runs.start(folder=folder)
    assert main(["train", "teacher", "--folder", str(folder), "--root", str(small_street)]) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_checkpoint_is_refused_unwritten(
    small_street: Path, tiny_pair: Any, tmp_path: Path, detach: list[str], capsys: pytest.CaptureFixture[str]
):
    folder = shutil.copytree(tiny_pair[0], tmp_path / "plain")
    before = sorted(path.name for path in folder.iterdir())
    assert main(["train", "teacher", "--folder", str(folder), "--root", str(small_street), *detach]) == 1
    assert "holds a checkpoint that is no run" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_damaged_training_file(small_street: Path, teacher: Path, tmp_path: Path):
    folder = shutil.copytree(teacher, tmp_path / "run")
    (folder / "training.pt").write_bytes(b"PK\x03\x04 torn")
    refused(teacher_settings(small_street), folder, r"training\.pt")
