"""Quick runs of the tiny network on the small street."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vkd.training import loop
from vkd.training.settings import Settings, StudentSettings, TeacherSettings

QUICK = {
    "image_size": (64, 32),
    "views": 2,
    "identities_per_batch": 4,
    "samples_per_identity": 2,
    "epochs": 2,
    "learning_rate": 1e-3,
    "evaluate_every": 0,
    "test_views": 2,
    "device": "cpu",
    "workers": 0,
}
"""Three groups of 4 × 2 × 2 images in an epoch of the small street's twelve identities."""


def teacher_settings(street: Path, **values: Any) -> TeacherSettings:
    return TeacherSettings(**{**QUICK, "backbone": "tiny", "root": street, **values})


def student_settings(street: Path, teacher: Path, **values: Any) -> StudentSettings:
    return StudentSettings(**{**QUICK, "root": street, "teacher": teacher, "views": 4, **values})


def events_of(settings: Settings, folder: Path, stop: Callable[[], bool] = bool) -> list[dict[str, Any]]:
    """Trains and returns the events."""
    events: list[dict[str, Any]] = []
    loop.train(settings, folder, [events.append], stop)
    return events


def losses_of(events: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The mean losses of each epoch."""
    return [event["losses"] for event in events if event["kind"] == "epoch"]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in events if event["kind"] != "step"]


def after(steps: int) -> Callable[[], bool]:
    """A `stop` that says yes once it has been called `steps` times."""
    calls = iter(range(1, 1_000_000))
    return lambda: next(calls) >= steps


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Equal to the last bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def command(folder: Path, street: Path, *more: str) -> list[str]:
    """`vkd train teacher` with the quick settings, as arguments of an interpreter."""
    values = {**QUICK, "image_size": "64 32", "backbone": "tiny", "root": street, "folder": folder}
    flags = [f"--{name.replace('_', '-')} {value}" for name, value in values.items()]
    return ["-m", "vkd", "train", "teacher", *" ".join(flags).split(), *more]


def environment() -> dict[str, str]:
    """One thread count for this process and its children: sums in another order differ in their last bits."""
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
