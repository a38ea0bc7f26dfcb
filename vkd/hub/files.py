"""Selects and sanitises the files that are uploaded to the Hub.

Weights go up as they are. Of settings, events and config only known fields with numbers, choices and names of
folders are written anew: free text, paths and names of machines stay here, so none has to be scrubbed.
"""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from vkd.hub.summary import EVENTS, SETTINGS, Summary, last_part
from vkd.models.config import to_json
from vkd.training.presets import PRESETS
from vkd.training.settings import Settings

EVENT_KINDS = (
    "started",
    "smoke",
    "sanity_check",
    "epoch",
    "scores",
    "saved",
    "finished",
    "stopped",
    "failed",
)
_KEY = re.compile(r"[a-z0-9_]{1,40}")
_LARGEST = 1e300


def write_upload_files(summary: Summary, folder: Path) -> None:
    """Writes config, weights, settings and events as they are uploaded into `folder`."""
    (folder / "config.json").write_text(to_json(_config(summary)), encoding="utf-8")
    for name in summary.weights:
        path = (summary.folder / name).resolve()  # the client's cache holds links
        try:
            os.link(path, folder / name)  # weights are large, and never changed in place
        except OSError:
            shutil.copyfile(path, folder / name)
    if summary.settings is not None:
        text = json.dumps(public_settings(summary.settings), indent=2) + "\n"
        (folder / SETTINGS).write_text(text, encoding="utf-8")
    if summary.events:
        lines = (json.dumps(each, separators=(",", ":")) + "\n" for each in public_events(summary.events))
        (folder / EVENTS).write_text("".join(lines), encoding="utf-8")


def not_uploaded(summary: Summary, uploaded: set[str]) -> list[str]:
    """Lists what of the checkpoint's folder is not uploaded, folders with a slash."""
    paths = [path for path in summary.folder.iterdir() if path.name not in uploaded]
    return sorted(f"{path.name}/" if path.is_dir() else path.name for path in paths)


def public_settings(settings: Settings) -> dict[str, Any]:
    """Returns stage and fields as JSON; folders by their names alone, a preset only if it is a known one."""
    values = settings.model_dump(mode="json")
    for name, value in settings:
        if isinstance(value, Path):
            values[name] = last_part(value) or name
    values["preset"] = settings.preset_name if settings.preset_name in PRESETS else ""
    return {"stage": settings.stage, **values}


def public_events(events: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """Returns the events that curves and readers need, with their numbers alone."""
    return [{"kind": event["kind"], **_numbers(event)} for event in events if event["kind"] in EVENT_KINDS]


def _numbers(values: dict[str, Any], depth: int = 3) -> dict[str, Any]:
    """Keeps finite numbers, and mappings of them, under plain names."""
    numbers: dict[str, Any] = {}
    for key, value in values.items():
        if not _KEY.fullmatch(key):
            continue
        if isinstance(value, dict) and depth > 1:
            numbers[key] = _numbers(value, depth - 1)
        elif isinstance(value, int | float) and abs(value) < _LARGEST:  # not so: a NaN
            numbers[key] = value
    return numbers


def _config(summary: Summary) -> Any:
    """Returns the config of the last weights; parent and dataset by their names alone."""
    config = summary.weights.get("model.safetensors", summary.config)
    parent = last_part(config.parent) if config.parent else None
    return replace(config, parent=parent or None, dataset=last_part(config.dataset))
