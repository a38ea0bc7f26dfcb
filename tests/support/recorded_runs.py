"""Folders of training runs made of events, without a trainer."""

import json
from pathlib import Path
from typing import Any

from vkd.training import settings
from vkd.training.presets import PRESETS

SCORES = {"i2v": {"map": 0.5, "map_trapezoid": 0.5, "map_standard": 0.52, "top1": 0.61}}


def started(**values: Any) -> dict[str, Any]:
    return {"kind": "started", "epoch": 0, "time": 100.0, "epochs": 20, "device": "cpu", "notes": []} | values


def epoch(number: int, **losses: float) -> dict[str, Any]:
    return {
        "kind": "epoch", "epoch": number, "time": 100.0 + 10 * number,
        "losses": losses or {"total": 1 / number},
        "learning_rate": 1e-3, "images_per_second": 200.0, "memory_mb": 900.0,
    }  # fmt: skip


def ended(kind: str, **values: Any) -> dict[str, Any]:
    return {"kind": kind, "epoch": 1, "time": 1.0, **values}


def write_run(
    root: Path, name: str, *events: dict[str, Any], preset: str = "street-tiny-teacher", **changes: Any
) -> Path:
    """Writes a run's folder with these events, whose trainer (if it was ever started) is gone."""
    folder = root / name
    folder.mkdir(parents=True)
    settings.save(PRESETS[preset].settings(**changes), folder / "settings.json")
    append(folder, *events)
    if events:
        (folder / "lock").write_text("99999\n")
    return folder


def append(folder: Path, *events: dict[str, Any]) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
