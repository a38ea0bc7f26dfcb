"""Runs as data, read from their folders alone: state, events, points of the curves, log.

A file that was read is cached until it changes, so that many watchers cost one read.
"""

import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from vkd.evaluation.published import PUBLISHED
from vkd.io.errors import VKDError
from vkd.io.files import NAME
from vkd.io.redact import redact
from vkd.jobs import events as event_log
from vkd.jobs import runs
from vkd.models.config import read_config
from vkd.training import resume
from vkd.training.presets import PRESETS
from vkd.training.settings import Settings, load

MAX_DRAWN = 6
"""Runs drawn over each other."""
LOG_LINES = 60
_LOG_BYTES = 32_768
_MIN_FREE_BYTES = 4 * 2**20

# ---- events


class Events(NamedTuple):
    """The valid events of a run, the number of invalid lines, and the byte offset read up to."""

    events: tuple[dict[str, Any], ...] = ()
    invalid_lines: int = 0
    offset: int = 0


_EVENTS: OrderedDict[Path, tuple[int, Events]] = OrderedDict()
_LOCK = threading.Lock()


def events_of(folder: Path) -> Events:
    """Returns all events so far; only what was appended since the last call is read."""
    path = folder / "events.jsonl"
    try:
        stat = path.stat()
    except OSError:
        return Events()
    with _LOCK:
        inode, before = _EVENTS.get(path, (stat.st_ino, Events()))
        if inode != stat.st_ino or stat.st_size < before.offset:
            before = Events()
        if stat.st_size > before.offset:
            before = _append(folder, before)
        _EVENTS[path] = (stat.st_ino, before)
        _EVENTS.move_to_end(path)
        while len(_EVENTS) > 256:
            _EVENTS.popitem(last=False)
        return before


def _append(folder: Path, before: Events) -> Events:
    try:
        events, offset = event_log.read(folder, before.offset)
    except OSError:  # a folder, or no permission
        return before
    with (folder / "events.jsonl").open("rb") as file:
        file.seek(before.offset)
        lines = sum(bool(line.strip()) for line in file.read(offset - before.offset).splitlines())
    return Events((*before.events, *events), before.invalid_lines + lines - len(events), offset)


# ---- runs


@dataclass(frozen=True)
class Run:
    """A run as the page shows it. `state` is `runs.State` or waiting, starting, stopping, broken."""

    name: str
    folder: Path
    state: str
    settings: Settings | None = None
    status: runs.RunStatus = field(default_factory=lambda: runs.RunStatus("new"))
    why: str = ""
    invalid_lines: int = 0
    notes: tuple[str, ...] = ()
    pace: dict[str, float] | None = None

    @property
    def active(self) -> bool:
        return self.state in ("running", "waiting", "starting", "stopping")

    @property
    def imported(self) -> bool:
        """True if it was trained elsewhere: it can be read, not resumed or deleted here."""
        return runs.is_record(self.folder)

    @property
    def stage(self) -> str:
        return self.settings.stage if self.settings else ""


def names(root: Path) -> list[str]:
    """Returns the names of the folders that are runs: they have settings.json."""
    return [path.parent.name for path in root.glob("*/settings.json") if NAME.fullmatch(path.parent.name)]


def folder_of(root: Path, name: str) -> Path:
    """Returns the folder of a run by its name. Raises VKDError for anything else, before disk access."""
    folder = root / runs.check_name(name or "")
    if not (folder / "settings.json").is_file():
        raise VKDError(f"There is no run '{name}'. Choose from: {', '.join(names(root)) or 'none yet'}.")
    return folder


def read_run(root: Path, name: str) -> Run:
    """Returns one run as it stands now."""
    folder = root / name
    active = runs.alive(folder)
    log = events_of(folder)
    status = runs.status(folder, log.events)
    try:
        settings = load(folder / "settings.json")
    except (ValueError, OSError) as error:
        state = "running" if active else "broken"
        return Run(name, folder, state, None, status, str(error), log.invalid_lines)
    last, state, why = log.events[-1] if log.events else {}, str(status.state), status.why
    if status.state == "running":
        if runs.stop_requested(folder):
            state = "stopping"
        elif last.get("kind") == "waiting":
            state, ahead = "waiting", last.get("ahead", [])
            why = f"Queued behind {', '.join(map(str, ahead[:3]))} ({last.get('device', 'device')} busy)"
        elif not last or last["kind"] in event_log.TERMINAL_EVENTS:
            state = "starting"
    started = next((event for event in reversed(log.events) if event["kind"] == "started"), {})
    epoch = next((event for event in reversed(log.events) if event["kind"] == "epoch"), {})
    pace = {key: epoch[key] for key in ("images_per_second", "memory_mb") if epoch.get(key)} or None
    notes = [str(note) for note in started.get("notes") or ()]
    if state != "finished":
        notes += _problems(folder, active, log.offset)
    status = status if status.epochs else replace(status, epochs=settings.epochs)
    return Run(name, folder, state, settings, status, why, log.invalid_lines, tuple(notes), pace)


def read_runs(root: Path) -> list[Run]:
    """Returns every run: active ones first, then the latest changed, then the imported ones."""

    def changed(run: Run) -> float:
        if run.imported:  # its files are as old as the clone
            return max((event["time"] for event in events_of(run.folder).events[-1:]), default=0.0)
        files = [run.folder / name for name in ("events.jsonl", "settings.json")]
        return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)

    runs = [read_run(root, name) for name in names(root)]
    return sorted(runs, key=lambda run: (not run.active, run.imported, -changed(run)))


def colour_indexes(listed: Sequence[Run]) -> dict[str, int]:
    """Returns the palette index of each run, whatever is selected: by age, teachers odd, students even."""

    def began(run: Run) -> tuple[float, str]:
        times = [float(event["time"]) for event in events_of(run.folder).events[:1]]
        file = run.folder / "settings.json"
        return (times or [file.stat().st_mtime if file.is_file() else 0.0])[0], run.name

    ordered = sorted(listed, key=began)
    teachers = [run.name for run in ordered if run.stage == "teacher"]
    others = [run.name for run in ordered if run.stage != "teacher"]
    return {
        name: 2 * at + odd for odd, group in ((1, teachers), (0, others)) for at, name in enumerate(group)
    }


def default_selection(listed: Sequence[Run]) -> list[str]:
    """Returns what a new page shows: what trains, else the latest run and its teacher's."""
    active = [run.name for run in listed if run.active][:MAX_DRAWN]
    teacher = getattr(listed[0].settings, "teacher", None) if listed else None
    return active or [
        run.name for run in listed if run is listed[0] or (teacher and run.name == teacher.name)
    ]


def _checkpoint_in(folder: Path, root: Path | None) -> Path:
    """Returns the checkpoint folder in settings or, where it has moved, that of its name in `root`."""
    return folder if root is None or (folder / "config.json").is_file() else root / folder.name


def backbone(settings: Settings, root: Path | None = None) -> str:
    """Returns a run's backbone: a teacher's own, a student's from its start or teacher; '' if unknown."""
    own = getattr(settings, "backbone", "")
    origin = getattr(settings, "start", None) or getattr(settings, "teacher", None)
    if not own and origin:
        try:
            return read_config(_checkpoint_in(origin, root)).backbone
        except (ValueError, OSError):
            return PRESETS[settings.preset_name].backbone if settings.preset_name in PRESETS else ""
    return own


# ---- points and levels of the curves


def points(events: Sequence[dict[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """Returns (epoch, numbers by series) of every event on a curve, five digits each."""
    return [
        (event["epoch"], {key: float(f"{value:.5g}") for key, value in event_log.numbers(event).items()})
        for event in events
        if event["kind"] in ("epoch", "scores") and "epoch" in event
    ]


def points_after(folder: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Returns the points after a byte offset, one object each, and the offset of the next call."""
    log = events_of(folder)
    events: Sequence[dict[str, Any]] = log.events
    if 0 < offset < log.offset:
        events = event_log.read(folder, offset)[0]
    elif offset == log.offset:
        events = []
    return [{"epoch": epoch, **numbers} for epoch, numbers in points(events)], log.offset


class Level(NamedTuple):
    """A horizontal line in a plot: a score (fraction) to compare with, of the "teacher" or "published"."""

    series: str
    value: float
    source: str


def levels(settings: Settings, root: Path | None = None) -> list[Level]:
    """Returns the scores of the run's teacher and the published ones. `root`: the checkpoints folder."""
    teacher, scores = getattr(settings, "teacher", None), {}
    if teacher is not None:
        try:
            scores = read_config(_checkpoint_in(teacher, root)).scores
        except (ValueError, OSError):
            scores = {}
    published = PUBLISHED.get((settings.dataset, backbone(settings, root), settings.stage), {})
    return [
        Level(f"{protocol}/{metric}", value, source)
        for source, table in (("teacher", scores), ("published", published))
        for protocol, metrics in table.items()
        for metric, value in metrics.items()
        if isinstance(value, int | float)
    ]


# ---- log and problems


def log_tail(folder: Path, lines: int = LOG_LINES) -> str:
    """Returns the last lines of the log, of a progress bar its last state, without tokens."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    rows = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    rows = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", row) for row in rows]
    return redact("\n".join(rows[-lines:]).strip("\n"))


def _problems(folder: Path, active: bool, offset: int) -> list[str]:
    """Returns notes on a record that ends too early (read up to byte `offset`) and on a full disk."""
    notes, path = [], folder / "events.jsonl"
    if not path.is_file() and not active and (folder / resume.NAME).is_file():
        notes.append("events.jsonl is missing: earlier curves are lost, nothing else.")
    elif not active and path.is_file() and path.stat().st_size > offset:
        notes.append("events.jsonl ends within a line, which is ignored.")
    try:
        needed = 2 * (folder / resume.NAME).stat().st_size  # a save is written beside the old one
    except OSError:
        needed = 0
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return notes
    if free < max(needed, _MIN_FREE_BYTES):
        notes.append(
            f"Disk of {folder}: {free / 2**20:.1f} MiB left, too little for a save. Free some space."
        )
    return notes


def saved_state(folder: Path) -> str:
    """Describes the saved state of a run that ended too early, and what Resume does with it."""
    if not (folder / resume.NAME).is_file():
        return "Nothing was saved: Resume starts from the beginning."
    try:
        return f"Saved: Resume continues after epoch {read_config(folder).epoch}."
    except (ValueError, OSError):
        return "Saved: Resume continues from the last save."


def as_json(run: Run) -> dict[str, Any]:
    """Returns a run as data, for programs."""
    status, left = run.status, run.status.seconds_left
    return {
        "name": run.name, "state": run.state, "stage": run.stage,
        "dataset": run.settings.dataset if run.settings else "", "epoch": status.epoch,
        "epochs": status.epochs, "seconds_left": None if left is None else round(left, 1),
        "scores": status.scores, "why": run.why, "damaged_lines": run.invalid_lines,
    }  # fmt: skip
