"""Unix-only modules and hooks are taken away: the package imports and its verbs parse all the same."""

import subprocess
import sys

import pytest

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
