"""Callbacks of a training: each gets every event (see `vkd.training.loop`)."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd.training.settings import Settings

if TYPE_CHECKING:
    from vkd.data.datasets import Splits

Event = dict[str, Any]
Callback = Callable[[Event], None]


def never() -> bool:
    """Stops nothing: the default of every `stop`."""
    return False


def fan_out(callbacks: Sequence[Callback]) -> Callback:
    """Joins callbacks into one that calls them in order."""

    def emit(event: Event) -> None:
        for callback in callbacks:
            callback(event)

    return emit


def snapshots(settings: Settings, folder: Path, splits: "Splits", emit: Callback) -> Callback:
    """Returns a callback that writes Grad-CAM of fixed images after each evaluation, once weights are saved.

    It emits a `probes` event. A snapshot that fails costs the training nothing: the event holds the reason.
    """
    from vkd.explain.snapshots import Snapshots
    from vkd.models.inference import resolve_device

    due, writer = False, None
    teacher, device = getattr(settings, "teacher", None), resolve_device(settings.device)

    def callback(event: Event) -> None:
        nonlocal due, writer
        due = due or event["kind"] == "scores"
        if event["kind"] != "saved" or not due:
            return
        due, why = False, ""
        try:
            writer = writer or Snapshots(folder, splits, teacher=teacher, device=device)
            writer.write(event["epoch"])
        except (ValueError, OSError, RuntimeError) as error:
            why = str(error)
        emit({"kind": "probes", "epoch": event["epoch"], "time": time.time(), "why": why})

    return callback


def tensorboard(folder: Path) -> Callback:
    """Returns a callback that writes every number of an epoch for TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def callback(event: Event) -> None:
        if event["kind"] in ("epoch", "scores"):
            for name, value in numbers(event).items():
                writer.add_scalar(name, value, event["epoch"])
            writer.flush()

    return callback


def numbers(event: Event) -> dict[str, float]:
    """Returns every number of an event by name: 'losses/triplet', 'i2v/map', 'learning_rate' …"""
    named: dict[str, float] = {}

    def collect(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(f"{prefix}/{key}" if prefix and prefix != "scores" else str(key), item)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            named[prefix] = float(value)

    collect("", {name: value for name, value in event.items() if name not in ("epoch", "time")})
    return named
