"""Several processes train as one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.training import (
    environment,
    events_of,
    losses_of,
    student_settings,
)
from vkd.jobs import runs
from vkd.training import resume
from vkd.training import settings as settings_io


def test_two_processes_take_the_steps_of_one(small_street: Path, teacher: Path, tmp_path: Path):
    """The same losses on the same groups, and the same gradient: Adam's averages tell of its size.

    A student, because its losses are the teacher's and two more.
    """
    settings = student_settings(small_street, teacher, freeze_batch_norm=True, dp_weight=0.01, margin=0.5)
    alone = losses_of(events_of(settings, tmp_path / "alone"))
    shared = tmp_path / "shared"
    shared.mkdir()
    settings_io.save(settings, shared / "settings.json")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = ["-m", "vkd", "train", "student", "--folder", str(shared)]
    launcher = subprocess.Popen(
        [sys.executable, *launch, *words],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, complaints = launcher.communicate(timeout=300)
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)  # with its trainers, who would wait for ever
    assert launcher.returncode == 0, complaints
    events, _ = runs.read(shared)
    assert events[0]["processes"] == 2
    together = losses_of(events)
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    first, second = resume.load(tmp_path / "alone"), resume.load(shared)
    assert first is not None
    assert second is not None
    for number, state in first["optimizer"]["state"].items():
        other = second["optimizer"]["state"][number]
        assert torch.allclose(state["exp_avg"], other["exp_avg"], rtol=1e-3, atol=1e-8)
        assert torch.allclose(state["exp_avg_sq"], other["exp_avg_sq"], rtol=1e-3, atol=1e-12)
