"""Permissions of this app, read from the environment at start: public demo, training, ZeroGPU."""

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

YES, NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")

ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
"""On ZeroGPU a GPU is lent for one call at a time, to a copy of this process."""


class Mode(NamedTuple):
    """Switches read from the environment; `notes` are sentences for whoever starts the app."""

    demo: bool
    training: bool
    notes: tuple[str, ...]


def read_mode(environ: Mapping[str, str], has_gpu: Callable[[], bool]) -> Mode:
    """Reads SYSTEM, VKD_DEMO and VKD_TRAINING; an invalid value counts as the safe one and adds a note."""
    notes: list[str] = []

    def switch(name: str, safe: bool) -> bool:
        text = environ.get(name, "").strip().lower()
        if text not in YES + NO:
            notes.append(f"{name}={text!r} is not valid: use 1 or 0. Assuming {int(safe)}.")
            return safe
        return text in YES

    space, demo, training = (
        environ.get("SYSTEM") == "spaces",
        switch("VKD_DEMO", True),
        switch("VKD_TRAINING", False),
    )
    if space and environ.get("VKD_DEMO") and not demo:
        notes.append("VKD_DEMO=0 is ignored on a Space: others can reach it, so it runs as a public demo.")
    demo = demo or space
    training = training and demo
    if training and (ZERO_GPU or not has_gpu()):
        notes.append("VKD_TRAINING=1 needs a GPU of the app's own and there is none: training is disabled.")
        training = False
    return Mode(demo, training, tuple(notes))


DEMO, TRAINING, NOTES = read_mode(os.environ, torch.cuda.is_available)
"""DEMO, a public demo: handlers that would train or write refuse. TRAINING: its owner lets it train."""


def on_gpu(callback: Callable[P, R]) -> Callable[P, R]:
    """Wraps the callback with `spaces.GPU` on ZeroGPU; returns it unchanged elsewhere.

    The package `spaces` is imported on ZeroGPU only. What may come under its name is our own folder of Space
    files, which has no `GPU`.
    """
    if not ZERO_GPU:
        return callback
    try:
        import spaces
    except ImportError:
        return callback
    gpu = getattr(spaces, "GPU", None)
    return callback if gpu is None else gpu(callback)
