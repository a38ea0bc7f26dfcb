"""What this app may do: decided once, at the start, by the environment."""

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

YES, NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")

ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
"""On ZeroGPU a GPU is lent for one call at a time, to a copy of this process."""


class Mode(NamedTuple):
    """What the environment asks for; `notes` are sentences for whoever starts the app."""

    demo: bool
    training: bool
    notes: tuple[str, ...]


def mode(given: Mapping[str, str], gpu: Callable[[], bool]) -> Mode:
    """Read SYSTEM, VKD_DEMO and VKD_TRAINING; what is not understood is taken for the safe side and told."""
    notes: list[str] = []

    def switch(name: str, safe: bool) -> bool:
        text = given.get(name, "").strip().lower()
        if text not in YES + NO:
            notes.append(f"{name} is {text!r}: say 1 or 0. It is taken for {int(safe)}.")
            return safe
        return text in YES

    space, demo, training = (
        given.get("SYSTEM") == "spaces",
        switch("VKD_DEMO", True),
        switch("VKD_TRAINING", False),
    )
    if space and given.get("VKD_DEMO") and not demo:
        notes.append("VKD_DEMO=0 is not heard on a Space: others can reach it, so it is a public demo.")
    demo = demo or space
    training = training and demo
    if training and (ZERO_GPU or not gpu()):
        notes.append("VKD_TRAINING=1 needs a GPU of the app's own, and there is none: it trains nothing.")
        training = False
    return Mode(demo, training, tuple(notes))
