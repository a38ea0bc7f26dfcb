"""events.jsonl: what happened in a run, one JSON object a line. The trainer writes, anyone reads."""

import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

TERMINAL_EVENTS = ("finished", "stopped", "failed")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def record(folder: str | Path, events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Pass events on, each written to events.jsonl first (`step` events, which come by the second, are not).

    When the stream breaks, a last event `failed` says why and the error goes on. A line that an earlier
    death left unfinished is closed, so that it costs one event and not two. After a resume, epochs appear
    again that had run but were not saved: for one kind and epoch the later event counts.

    Raises OSError with a sentence if the file cannot be written, on a full disk for instance; it ends with a
    whole line then.
    """
    path = Path(folder) / "events.jsonl"
    with path.open("a+b", buffering=0) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                _append(file, b"\n")

        def write(event: dict[str, Any]) -> None:
            _append(file, json.dumps(_plain(event), separators=(",", ":")).encode() + b"\n")

        try:
            for event in events:
                if event["kind"] != "step":
                    write(event)
                yield event
        except Exception as error:
            why = str(error) or type(error).__name__
            with suppress(OSError):  # the disk may be full: the first error is the one to tell
                write({"kind": "failed", "why": why, "error": type(error).__name__, "time": time.time()})
            raise


def _append(file: FileIO, line: bytes) -> None:
    """The whole line or, with an OSError, nothing of it."""
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
    """Events from a byte offset on, and the offset to go on from. Whole lines only, without damaged ones."""
    path = Path(folder) / "events.jsonl"
    try:
        with path.open("rb") as file:
            file.seek(offset)
            text = file.read()
    except FileNotFoundError:
        return [], offset
    text = text[: text.rfind(b"\n") + 1]
    events = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("kind"), str):
            events.append(event)
    return events, offset + len(text)


def numbers(event: dict[str, Any]) -> dict[str, float]:
    """Every number that an event carries, by name: 'losses/triplet', 'i2v/map', 'learning_rate' …"""
    found: dict[str, float] = {}

    def collect(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(f"{prefix}/{key}" if prefix and prefix != "scores" else str(key), item)
        elif (
            isinstance(value, int | float) and not isinstance(value, bool) and prefix not in ("epoch", "time")
        ):
            found[prefix] = float(value)

    collect("", event)
    return found
