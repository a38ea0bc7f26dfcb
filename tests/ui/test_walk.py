"""The walk of an uploaded image through the project's files, traced during one search."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

import vkd
from vkd.ui.retrieve import actions
from vkd.ui.state import AppPaths

ROOT = Path(vkd.__file__).parent
WALK = [
    "ui/retrieve/actions.py",
    "ui/inputs.py",
    "io/images.py",
    "models/checkpoint.py",
    "data/transforms.py",
    "models/network.py",
    "retrieval/gallery.py",
    "ui/html.py",
]
DECORATORS = {"ui/errors.py", "ui/limits.py", "ui/mode.py"}
"""Wrappers of every action: they pass its arguments on unread."""
LAYERS = {"ui": 4, "retrieval": 3, "models": 2, "metrics": 2, "data": 1, "io": 0}


def file_of(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""


def carries_query(value: Any) -> bool:
    """True for the query's pixels, prepared or not, and for its embedding, also inside a list."""
    if isinstance(value, list | tuple):
        return any(map(carries_query, value))
    if isinstance(value, torch.Tensor):
        return value.ndim >= 3
    if not isinstance(value, np.ndarray):
        return False
    return (value.dtype == np.uint8 and value.ndim == 3) or (value.dtype == np.float32 and value.ndim < 3)


def test_walk_of_uploaded_image(app_paths: AppPaths) -> None:
    image = str(next(app_paths.queries.glob("*.jpg")))
    values = (app_paths, [image], "street-gallery", "tiny-teacher", "tiny-student", 5, [], False)
    actions.search(*values)  # loads checkpoints and gallery
    entered: list[str] = []
    chains: set[tuple[str, ...]] = set()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "return") or not file_of(frame):
            return
        given = frame.f_locals.values() if event == "call" else [argument]
        if not any(map(carries_query, given)):
            return
        chain: list[str] = []
        step: FrameType | None = frame
        while step is not None:
            if (name := file_of(step)) and name not in DECORATORS and chain[:1] != [name]:
                chain.insert(0, name)
            step = step.f_back
        chains.add(tuple(chain))
        entered.extend(name for name in chain if name not in entered)

    sys.setprofile(profile)
    try:
        actions.search(*values)
    finally:
        sys.setprofile(None)
    assert entered == WALK
    assert len(WALK) <= 8
    for chain in chains:
        assert len(set(chain)) == len(chain), f"a file is entered twice: {chain}"
        layers = [LAYERS[name.split("/")[0]] for name in chain]
        assert layers == sorted(layers, reverse=True), f"not downwards: {chain}"
