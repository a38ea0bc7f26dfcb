"""What stands in a run's way, told from its folder: a damaged or missing record, a full disk; and what was
saved.
"""

import shutil
from pathlib import Path
from typing import Any

from vkd.models.config import read_config
from vkd.training import resume

_LARGEST = 2**53  # of the numbers that a page can count with
_LEAST_ROOM = 4 * 2**20


def is_event(event: dict[str, Any]) -> bool:
    """Whether the fields that everything relies on are what they should be: a line may be damaged and still
    be JSON.
    """
    kinds = {
        "epoch": int, "epochs": int, "scores": dict, "losses": dict, "notes": list, "ahead": list,
        "images_per_second": int | float | None, "memory_mb": int | float | None,
    }  # fmt: skip
    return (
        isinstance(event.get("time"), int | float)
        and all(isinstance(event[name], kind) for name, kind in kinds.items() if name in event)
        and all(
            isinstance(metrics, dict) and isinstance(metrics.get("map"), int | float | None)
            for metrics in event.get("scores", {}).values()
        )
        and _countable(event)
    )


def _countable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_countable(item) for item in value.values())
    if isinstance(value, list):
        return all(_countable(item) for item in value)
    return not isinstance(value, int) or abs(value) < _LARGEST


def notes(folder: Path, living: bool, read_to: int) -> list[str]:
    """Sentences on a record that ends too early (it was read up to byte `read_to`) and on a disk that is
    full.
    """
    found = []
    path = folder / "events.jsonl"
    if not path.is_file() and not living and (folder / resume.NAME).is_file():
        found.append("Its events.jsonl is missing: the curves until now are lost, and nothing else.")
    elif not living and path.is_file() and path.stat().st_size > read_to:
        found.append("Its events.jsonl ends within a line, which is left out.")
    if room := _little_room(folder):
        found.append(f"The disk of {folder} has {room} left, too little for a save: make room on it.")
    return found


def _little_room(folder: Path) -> str:
    """The room on the folder's disk if the next save does not fit, else ''. A save is written beside the old
    one.
    """
    try:
        wanted = 2 * (folder / resume.NAME).stat().st_size
    except OSError:
        wanted = 0
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return f"{free / 2**20:.1f} MiB" if free < max(wanted, _LEAST_ROOM) else ""


def saved(folder: Path) -> str:
    """What a run that ended too early kept, and what Resume will do with it."""
    if not (folder / resume.NAME).is_file():
        return "Nothing was saved yet: Resume starts it anew."
    try:
        where = f"after epoch {read_config(folder).epoch}"
    except (ValueError, OSError):
        where = "from the last save"
    return f"What was saved is safe: Resume goes on {where}."
