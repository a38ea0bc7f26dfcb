"""events.jsonl: what happened in a run, one JSON object a line. The trainer writes, anyone reads."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from vkd.training.callbacks import numbers

__all__ = ["TERMINAL_EVENTS", "is_event", "numbers", "read", "recording"]

TERMINAL_EVENTS = ("finished", "stopped", "failed")

_RENAMED = {"smoke": "sanity_check"}  # kinds of 0.1.0
_NUMBER, _OPTIONAL_NUMBER = (int, float), (int, float, type(None))
_FIELDS: dict[str, tuple[type, ...]] = {
    "kind": (str,), "time": _NUMBER, "epoch": (int,), "epochs": (int,), "step": (int,), "steps": (int,),
    "losses": (dict,), "scores": (dict,), "notes": (list,), "ahead": (list,), "device": (str,),
    "images_per_second": _OPTIONAL_NUMBER, "memory_mb": _OPTIONAL_NUMBER,
}  # fmt: skip
_LARGEST = 2**53  # of the whole numbers that a page can count with


def is_event(value: Any) -> bool:
    """True if the fields that readers rely on have their types: a damaged line may still be JSON."""
    return (
        isinstance(value, dict)
        and value.keys() >= {"kind", "time"}
        and all(isinstance(value[name], kinds) for name, kinds in _FIELDS.items() if name in value)
        and all(isinstance(each, _OPTIONAL_NUMBER) for each in value.get("losses", {}).values())
        and all(
            isinstance(metrics, dict) and isinstance(metrics.get("map"), _OPTIONAL_NUMBER)
            for metrics in value.get("scores", {}).values()
        )
        and _countable(value)
    )


def _countable(value: Any, depth: int = 8) -> bool:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_countable(item, depth - 1) for item in items)
    return not isinstance(value, int | float) or (math.isfinite(value) and abs(value) < _LARGEST)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@contextmanager
def recording(folder: str | Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields a callback that writes events to events.jsonl, except `step`, which come by the second.

    An error raised inside is written as a last event `failed` and goes on. A line that a kill left unfinished
    is closed first, so that it costs one event and not two. After a resume, epochs that had run but were not
    saved appear again: for one kind and epoch the later event counts.

    Raises OSError with a sentence if the file cannot be written; it ends with a whole line then.
    """
    path = Path(folder) / "events.jsonl"
    with path.open("a+b", buffering=0) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                _append(file, b"\n")

        def write(event: dict[str, Any]) -> None:
            if event["kind"] != "step":
                _append(file, json.dumps(_finite(event), separators=(",", ":")).encode() + b"\n")

        try:
            yield write
        except Exception as error:
            why = str(error) or type(error).__name__
            with suppress(OSError):  # the disk may be full: the first error is the one to tell
                write({"kind": "failed", "why": why, "error": type(error).__name__, "time": time.time()})
            raise


def _append(file: FileIO, line: bytes) -> None:
    """Appends the whole line or, with an OSError, nothing of it."""
    end = file.seek(0, os.SEEK_END)
    try:
        rest = memoryview(line)
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        with suppress(OSError):
            file.truncate(end)
        raise OSError(
            f"{file.name} could not be written ({error}): make room on the disk and go on from the last save."
        ) from error


def read(folder: str | Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Returns the events from a byte offset on, and the offset to continue from.

    Reads whole lines only and skips damaged ones (`is_event`). Kinds of older versions get today's names.
    """
    try:
        with (Path(folder) / "events.jsonl").open("rb") as file:
            file.seek(offset)
            text = file.read()
    except FileNotFoundError:
        return [], offset
    text = text[: text.rfind(b"\n") + 1]
    events = []
    for line in text.splitlines():
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if is_event(event):
                events.append(event | {"kind": _RENAMED.get(event["kind"], event["kind"])})
    return events, offset + len(text)
