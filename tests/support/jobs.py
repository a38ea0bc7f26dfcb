"""Helpers for jobs: waiting for a condition, a device that is taken, a run that was interrupted."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vkd.jobs import events, process
from vkd.training import loop
from vkd.training.settings import Settings


def until(condition: Callable[[], Any], what: object = "nothing happened", seconds: float = 120) -> None:
    """Waits for the condition; fails with `what` (called if it is a function)."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, what() if callable(what) else what
        time.sleep(0.02)


@contextmanager
def busy_device(root: Path, name: str = "a-run", device: str = "auto") -> Iterator[Path]:
    """Something called `name` uses the device in the queue of `root`."""
    folder = root / name
    folder.mkdir(exist_ok=True)
    with process.lock(folder):
        process.wait_for_device(folder, process.device_queue(device), bool, print, wait=False)
        yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def interrupted(settings: Settings, folder: Path, epoch: int) -> Path:
    """Trains and ends without a last event once this epoch is saved."""

    def interrupt(event: dict[str, Any]) -> None:
        if event["kind"] == "saved" and event["epoch"] == epoch:
            raise KeyboardInterrupt

    with process.lock(folder), suppress(KeyboardInterrupt), events.recording(folder) as write:
        loop.train(settings, folder, [write, interrupt])
    return folder


def event(kind: str, epoch: int = 0, **values: Any) -> dict[str, Any]:
    """An event as the trainer makes them, one second an epoch."""
    return {"kind": kind, "epoch": epoch, "time": 100.0 + epoch, **values}


def write_events(folder: Path, *lines: dict[str, Any]) -> None:
    """Appends events to a run's record."""
    with events.recording(folder) as record:
        for line in lines:
            record(line)
