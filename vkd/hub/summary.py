"""Summary of a checkpoint's folder, read once and passed on to files, card and figures."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import refuse_lfs_pointer
from vkd.jobs import events as run_events
from vkd.jobs.runs import teacher_of
from vkd.models import checkpoint
from vkd.models.config import Config, apply_weights_metadata, read_config
from vkd.training import settings as run_settings
from vkd.training.settings import Settings

WEIGHTS = ("best.safetensors", "model.safetensors")
"""In the order in which `checkpoint.load` tries them."""
README, EVENTS, SETTINGS = "README.md", "events.jsonl", "settings.json"
CURVES, HEATMAPS = "curves.png", "heatmaps.png"


@dataclass(frozen=True)
class Summary:
    """A checkpoint's folder. `weights`: file name → config with the epoch and scores of that file, the file
    that loads by default first. Settings and events that are missing or unreadable are None and ().
    """

    folder: Path
    weights: dict[str, Config]
    settings: Settings | None = None
    events: tuple[dict[str, Any], ...] = ()

    @property
    def config(self) -> Config:
        """Config of the weights that load by default."""
        return next(iter(self.weights.values()))

    @cached_property
    def teacher(self) -> "Summary | None":
        """A student's teacher; None if it is missing or was trained on another dataset by now."""
        folder = self.teacher_folder
        try:
            teacher = read_summary(folder) if folder else None
        except (OSError, VKDError):
            return None
        return teacher if teacher and teacher.config.dataset == self.config.dataset else None

    @property
    def teacher_folder(self) -> Path | None:
        return teacher_of(self.folder, self.settings) if self.config.stage == "student" else None

    def started(self) -> dict[str, Any]:
        """Returns the last `started` event, {} without one."""
        return next((event for event in reversed(self.events) if event["kind"] == "started"), {})

    def by_epoch(self, kind: str) -> dict[int, dict[str, Any]]:
        """Returns epoch → event of one kind, ascending; of an epoch that ran twice the later counts."""
        rows = {
            event["epoch"]: event
            for event in self.events
            if event["kind"] == kind and isinstance(event.get("epoch"), int)
        }
        return dict(sorted(rows.items()))


def read_summary(folder: str | Path) -> Summary:
    """Reads a folder. Raises MissingFileError without config or weights, VKDError for damaged ones."""
    folder = Path(folder)
    config = read_config(folder)
    names = [name for name in WEIGHTS if (folder / name).is_file()]
    if not names:
        raise MissingFileError(f"{folder} has no weights: it has neither {' nor '.join(WEIGHTS)}.")
    weights = {name: apply_weights_metadata(config, _metadata(folder / name)) for name in names}
    if len(names) == 2 and _equal_tensors(*(folder / name for name in names)):
        del weights[WEIGHTS[0]]  # the last weights are the best: one file is enough
    try:
        settings = run_settings.load(folder / SETTINGS)
    except (OSError, VKDError):
        settings = None
    try:
        events = tuple(run_events.read(folder)[0])
    except OSError:
        events = ()
    return Summary(folder, weights, settings, events)


def check_weights(summary: Summary) -> None:
    """Loads each file of weights. Raises VKDError for one that is damaged or does not fit the config."""
    for name in summary.weights:
        checkpoint.load(summary.folder, weights="best" if name.startswith("best") else "model")


def _metadata(path: Path) -> str:
    refuse_lfs_pointer(path)
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("vkd", "")
    except SafetensorError as error:
        raise VKDError(f"{path} is damaged or not a safetensors file: {error}.") from None


def _equal_tensors(path: Path, other: Path) -> bool:
    with safe_open(path, framework="pt") as one, safe_open(other, framework="pt") as two:
        names = sorted(one.keys())
        return names == sorted(two.keys()) and all(
            torch.equal(one.get_tensor(name), two.get_tensor(name)) for name in names
        )


def last_part(path: str | Path) -> str:
    """Returns the last part of a path of any system, '' where it has none."""
    last = str(path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "" if last in (".", "..") or last.endswith(":") else last
