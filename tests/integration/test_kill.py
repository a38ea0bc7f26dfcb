"""A kill at any moment loses nothing that was saved."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.jobs import until
from tests.support.training import (
    command,
    environment,
    events_of,
    same,
    teacher_settings,
    weights,
)
from vkd.io.files import process_token
from vkd.jobs import runs
from vkd.models import checkpoint
from vkd.training import loop, resume
from vkd.training.trainer import Trainer


def test_kill_between_the_files_of_a_save(
    small_street: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """training.pt is already of the second epoch and model.safetensors still of the first."""
    settings = teacher_settings(small_street, epochs=4)
    export = Trainer.export

    def killed(trainer: Trainer, name: str) -> None:
        if trainer.progress.epoch == 2:
            raise KeyboardInterrupt
        export(trainer, name)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "export", killed)
        with pytest.raises(KeyboardInterrupt):
            events_of(settings, tmp_path)
    assert checkpoint.read_config(tmp_path).epoch == 1
    mended: list[tuple[int, int]] = []

    def look(event: dict[str, Any]) -> None:
        mended.append((event["epoch"], checkpoint.read_config(tmp_path).epoch))

    loop.train(settings, tmp_path, [look])
    assert mended[0] == (2, 1)
    assert mended[1] == (2, 2), "before the next step"
    assert same(weights(tmp_path), weights(uninterrupted))


def test_killed_run_resumes_bit_equal(small_street: Path, tmp_path: Path):
    epochs = 25
    events_of(teacher_settings(small_street, epochs=epochs), tmp_path / "whole")
    folder = tmp_path / "killed"
    words = [sys.executable, *command(folder, small_street, "--epochs", str(epochs))]
    child = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: child.poll() is not None or runs.status(folder).epoch >= 3)
    assert child.poll() is None, child.stderr and child.stderr.read().decode()
    assert runs.alive(folder)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert runs.status(folder).state == "died"
    done = runs.status(folder).epoch
    assert 3 <= done < epochs
    dead = process_token(child.pid)
    for name in ("training.pt", "model.safetensors"):
        (folder / f".{name}.{dead}-00000000.tmp").write_text("half written")
    subprocess.run(words, env=environment(), check=True, stdout=subprocess.DEVNULL)
    assert runs.status(folder).state == "finished"
    assert not list(folder.glob(".*.tmp")), "leftovers are swept"
    assert same(weights(folder), weights(tmp_path / "whole"))
    one, two = resume.load(folder), resume.load(tmp_path / "whole")
    assert one is not None
    assert two is not None
    for number, state in one["optimizer"]["state"].items():
        assert same(state, two["optimizer"]["state"][number])


def test_failed_save_keeps_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    resume.save(tmp_path, {"number": 1})

    def full(*args: Any) -> None:
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"could not be written .*No space left.*: make room"):
        resume.save(tmp_path, {"number": 2})
    monkeypatch.undo()
    assert (resume.load(tmp_path) or {})["number"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]


def test_output_that_nobody_reads_ends_no_run(small_street: Path, tmp_path: Path):
    child = subprocess.Popen(
        [sys.executable, *command(tmp_path, small_street)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait(120) == 0
    assert runs.status(tmp_path).state == "finished"
    assert "Finished" in (tmp_path / "log.txt").read_text()
