"""Callbacks of a training: snapshots never disturb it."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.training import student_settings
from vkd.models import checkpoint
from vkd.training.callbacks import Callback, snapshots


@pytest.fixture
def folder(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Path:
    """A student's run with a saved network."""
    saved = checkpoint.load(tiny_pair[1])
    checkpoint.save(tmp_path, saved.net, saved.config)
    return tmp_path


@pytest.fixture
def emitted() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def callback(
    folder: Path, tiny_pair: tuple[Path, Path], small_street: Path, emitted: list[dict[str, Any]]
) -> Callback:
    settings = student_settings(small_street, tiny_pair[0])
    return snapshots(settings, folder, settings.read_dataset(), emitted.append)


def run(callback: Callback, *kinds: str) -> None:
    for epoch, kind in enumerate(kinds):
        callback({"kind": kind, "epoch": epoch, "time": 0.0})


def test_snapshot_after_each_evaluation(callback: Callback, folder: Path, emitted: list[dict[str, Any]]):
    run(callback, "epoch", "saved", "scores", "saved", "epoch", "saved", "finished")
    assert [(event["kind"], event["epoch"], event["why"]) for event in emitted] == [("probes", 3, "")]
    assert sorted(path.name for path in (folder / "probes").glob("*/")) == ["00003", "teacher"]


def test_failed_snapshot_is_an_event(callback: Callback, folder: Path, emitted: list[dict[str, Any]]):
    (folder / "model.safetensors").write_bytes(b"torn")
    run(callback, "scores", "saved", "finished")
    assert [event["kind"] for event in emitted] == ["probes"]
    assert emitted[0]["why"]
    assert not list((folder / "probes").glob(".*"))
