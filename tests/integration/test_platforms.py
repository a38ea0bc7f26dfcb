"""Other systems: without Unix-only modules, with an MPS device, a narrow console, a pipe that is closed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.training import command, environment
from vkd.jobs import runs
from vkd.jobs.process import device_queue
from vkd.models.inference import resolve_device

WITHOUT = """
import os, sys
for name in ("torch.distributed", "torchvision", "accelerate", "gradio", "huggingface_hub", "tyro", "faiss",
             "multiprocessing.pool", "filelock", "psutil", "pandas", "matplotlib.figure", "spaces"):
    try:
        __import__(name)  # libraries look for themselves what their system has
    except ImportError:
        pass
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
del os.register_at_fork, os.fork
"""
MODULES = """
import importlib, pkgutil, vkd
for module in pkgutil.walk_packages(vkd.__path__, "vkd."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
VERBS = """
from vkd.cli.main import VERBS, main
for words in [[verb, "--help"] for verb in VERBS] + [["train", "student", "--help"]]:
    try:
        main(words)
    except SystemExit as done:
        assert not done.code, words
"""


@pytest.mark.parametrize("code", [MODULES, VERBS], ids=["modules", "verbs"])
def test_without_unix_modules(code: str):
    done = subprocess.run([sys.executable, "-c", WITHOUT + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_mps_is_never_chosen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("is_available", "is_built"):
        monkeypatch.setattr(torch.backends.mps, name, lambda: True)
    assert (resolve_device("auto"), device_queue("auto")) == ("cpu", "cpu")


def test_narrow_console(small_street: Path, tiny_pair: tuple[Path, Path]):
    """cp1252 lacks the minus sign of a difference: the table is printed all the same."""
    words = ["-m", "vkd", "evaluate", *map(str, tiny_pair), "--root", str(small_street)]
    words += ["--workers", "0", "--views", "1", "--resamples", "100", "--device", "cpu"]
    console = {**environment(), "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, *words], capture_output=True, env=console)
    assert done.returncode == 0, done.stderr
    assert "tiny-student ? tiny-teacher" in done.stdout.decode("cp1252")


def closed_after(lines: int, words: list[str]) -> tuple[int, str]:
    """Runs a command whose reader leaves after some lines of its output; returns exit code and stderr."""
    child = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert child.stdout
    assert child.stderr
    for _ in range(lines):
        child.stdout.readline()
    child.stdout.close()
    err = child.stderr.read()
    return child.wait(), err


def test_closed_pipe_costs_no_training(small_street: Path, tmp_path: Path):
    code, err = closed_after(1, command(tmp_path, small_street, "--epochs", "3", "--evaluate-every", "1"))
    assert (code, err) == (0, "")
    status = runs.status(tmp_path)
    assert (status.state, status.epoch) == ("finished", 3)
    assert (tmp_path / "training.pt").is_file()
    assert "Finished" in (tmp_path / "log.txt").read_text("utf-8")


@pytest.mark.parametrize("words", ["--help", "--version", "train --help", "evaluate --help"])
def test_closed_pipe_is_quiet(words: str):
    assert closed_after(0, ["-m", "vkd", *words.split()]) == (0, "")
