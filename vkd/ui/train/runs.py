"""What the page knows of runs, read from their folders alone: states, events, points of curves, the log.

Nothing here is state: a file that was read is remembered until it changes, so that many watchers cost one
reading.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from vkd.io.errors import VKDError
from vkd.io.files import NAME
from vkd.jobs import events as written
from vkd.jobs import runs
from vkd.models.config import read_config
from vkd.training.presets import PRESETS, PUBLISHED
from vkd.training.settings import Settings, load
from vkd.ui.train import troubles

MOST_SHOWN = 6  # runs overlaid: as many as there are colours
LOG_LINES = 60
_LOG_BYTES = 32_768
_TOKEN = re.compile(r"hf_[A-Za-z0-9]+")

# --- events -------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """The events of a run that can be read, how many lines cannot, and the byte up to which the file was
    read.
    """

    events: tuple[dict[str, Any], ...] = ()
    damaged: int = 0
    offset: int = 0


_SEEN: OrderedDict[Path, tuple[int, Seen]] = OrderedDict()
_LOCK = threading.Lock()


def seen(folder: Path) -> Seen:
    """All events so far; only what was added since the last look is read."""
    path = folder / "events.jsonl"
    try:
        found = path.stat()
    except OSError:
        return Seen()
    with _LOCK:
        number, before = _SEEN.get(path, (found.st_ino, Seen()))
        if number != found.st_ino or found.st_size < before.offset:
            before = Seen()
        if found.st_size > before.offset:
            before = _more(folder, before)
        _SEEN[path] = (found.st_ino, before)
        _SEEN.move_to_end(path)
        while len(_SEEN) > 256:
            _SEEN.popitem(last=False)
        return before


def _more(folder: Path, before: Seen) -> Seen:
    try:
        events, offset = written.read(folder, before.offset)
    except OSError:  # a folder, or nobody may read it
        return before
    good = tuple(event for event in events if troubles.is_event(event))
    with (folder / "events.jsonl").open("rb") as file:
        file.seek(before.offset)
        lines = sum(bool(line.strip()) for line in file.read(offset - before.offset).splitlines())
    return Seen(before.events + good, before.damaged + lines - len(good), offset)


# --- rows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run as the page tells of it. `state` is `runs.State`, or 'waiting', 'starting', 'stopping',
    'broken'.
    """

    name: str
    folder: Path
    state: str
    settings: Settings | None = None
    status: runs.RunStatus | None = None
    why: str = ""
    damaged: int = 0
    notes: tuple[str, ...] = ()
    pace: dict[str, float] | None = None

    @property
    def living(self) -> bool:
        return self.state in ("running", "waiting", "starting", "stopping")

    @property
    def record(self) -> bool:
        """Whether it was finished elsewhere: to be looked at, not to be gone on with or deleted here."""
        return runs.is_record(self.folder)

    @property
    def stage(self) -> str:
        return self.settings.stage if self.settings else ""


def names(root: Path) -> list[str]:
    """Names of the folders that are runs: they have settings.json."""
    return [path.parent.name for path in root.glob("*/settings.json") if NAME.fullmatch(path.parent.name)]


def folder_of(root: Path, name: str) -> Path:
    """The folder of a run by its plain name. Raises ValueError for any other text, before the disk is
    touched.
    """
    folder = root / runs.check_name(name or "")
    if not (folder / "settings.json").is_file():
        raise VKDError(f"There is no run called '{name}'. Known: {', '.join(names(root)) or 'none yet'}.")
    return folder


def look(root: Path, name: str) -> Run:
    """One run as it stands now."""
    folder = root / name
    living = runs.alive(folder)
    try:
        settings = load(folder / "settings.json")
    except (ValueError, OSError) as error:
        return Run(name, folder, "running" if living else "broken", why=str(error))
    found = seen(folder)
    status = runs.status(folder, found.events)
    last = found.events[-1] if found.events else {}
    state, why = str(status.state), status.why
    if status.state == "running":
        if runs.stop_requested(folder):
            state = "stopping"
        elif last.get("kind") == "waiting":
            state, ahead = "waiting", last.get("ahead", [])
            why = f"waits for {', '.join(map(str, ahead[:3]))} to leave the {last.get('device', 'device')}"
        elif not last or last["kind"] in written.TERMINAL_EVENTS:
            state = "starting"
    started = next((event for event in reversed(found.events) if event["kind"] == "started"), {})
    epochs = [event for event in found.events if event["kind"] == "epoch"]
    pace = (
        {key: epochs[-1][key] for key in ("images_per_second", "memory_mb") if key in epochs[-1]}
        if epochs
        else None
    )
    status = status if status.epochs else replace(status, epochs=settings.epochs)
    told = [str(note) for note in started.get("notes") or ()]
    if state != "finished":
        told += troubles.notes(folder, living, found.offset)
    return Run(name, folder, state, settings, status, why, found.damaged, tuple(told), pace)


def look_at_all(root: Path) -> list[Run]:
    """Every run: those that live first, then the latest touched, then the records that ship (their files are
    as old as the clone, so that their own last word says which is the later one).
    """
    found = [look(root, name) for name in names(root)]

    def touched(run: Run) -> float:
        if run.record:
            return max((event["time"] for event in seen(run.folder).events[-1:]), default=0.0)
        files = [run.folder / name for name in ("events.jsonl", "settings.json")]
        return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)

    return sorted(found, key=lambda run: (not run.living, run.record, -touched(run)))


def first_shown(found: Sequence[Run]) -> list[str]:
    """What a page shows that has just been opened: what trains, else the latest run and its teacher's."""
    living = [run.name for run in found if run.living][:MOST_SHOWN]
    teacher = getattr(found[0].settings, "teacher", None) if found else None
    return living or [run.name for run in found if run is found[0] or (teacher and run.name == teacher.name)]


def duration(seconds: float) -> str:
    """'40 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _there(folder: Path, root: Path | None) -> Path:
    """The checkpoint folder that settings name or, where it is not there, the one of that name in `root`."""
    return folder if root is None or (folder / "config.json").is_file() else root / folder.name


def backbone(settings: Settings, root: Path | None = None) -> str:
    """Trunk of a run: asked for by a teacher, its teacher's (or its start's) for a student; '' if unknown."""
    asked = getattr(settings, "backbone", "")
    origin = getattr(settings, "start", None) or getattr(settings, "teacher", None)
    if not asked and origin:
        try:
            return read_config(_there(origin, root)).backbone
        except (ValueError, OSError):
            return PRESETS[settings.preset].backbone if settings.preset in PRESETS else ""
    return asked


# --- points -------------------------------------------------------------------------------------------------


def points(events: Sequence[dict[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """(epoch, numbers by name) of every event that stands on a curve, five digits each."""
    found = []
    for event in events:
        if event["kind"] in ("epoch", "scores") and "epoch" in event:
            numbers = {name: float(f"{value:.5g}") for name, value in written.numbers(event).items()}
            found.append((event["epoch"], numbers))
    return found


def references(settings: Settings, root: Path | None = None) -> list[dict[str, Any]]:
    """Level lines for a run's plots: its teacher's scores (dashed) and the published ones (dotted), as
    fractions. A teacher that has moved is looked for among the checkpoints in `root`.
    """
    lines = []
    teacher = getattr(settings, "teacher", None)
    if teacher is not None:
        try:
            scores = read_config(_there(teacher, root)).scores
        except (ValueError, OSError):
            scores = {}
        lines += _lines(scores, "teacher", "dash")
    published = PUBLISHED.get((settings.dataset, backbone(settings, root), settings.stage), {})
    return lines + _lines(published, "published", "dot")


def _lines(scores: dict[str, dict[str, float]], text: str, dash: str) -> list[dict[str, Any]]:
    return [
        {"series": f"{protocol}/{metric}", "value": value, "text": text, "dash": dash}
        for protocol, metrics in scores.items()
        for metric, value in metrics.items()
        if isinstance(value, int | float)
    ]


def news(
    root: Path, shown: Sequence[str], have: dict[str, Any], order: Sequence[str] | None = None
) -> dict[str, Any] | None:
    """What a page that has `have` ({run: byte offset}), drawn in `order`, must be sent to draw `shown`.

    None: nothing. Only points after the offset are sent, and all when the file is new or was replaced.
    """
    message: dict[str, Any] = {"order": list(shown), "runs": {}}
    for name in shown:
        found = seen(root / name)
        known = have.get(name)
        if known == found.offset:
            continue
        part: dict[str, Any] = {"to": found.offset, "from": 0}
        if isinstance(known, int) and 0 < known < found.offset:
            part["from"] = known
            part["points"] = points(_after(root / name, known))
        else:
            part["points"] = points(found.events)
            try:
                part["references"] = references(load(root / name / "settings.json"), root)
            except (ValueError, OSError):
                part["references"] = []
        message["runs"][name] = part
    return message if message["runs"] or order != list(shown) else None


def _after(folder: Path, offset: int) -> list[dict[str, Any]]:
    try:
        events, _ = written.read(folder, offset)
    except OSError:
        return []
    return [event for event in events if troubles.is_event(event)]


def log_tail(folder: Path, lines: int = LOG_LINES) -> str:
    """The last lines that the trainer printed; of a progress bar its last state; tokens blacked out."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    kept = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    kept = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in kept]
    return _TOKEN.sub("hf_…", "\n".join(kept[-lines:]).strip("\n"))


def as_json(run: Run) -> dict[str, Any]:
    """A run as data, for programs."""
    status = run.status
    return {
        "name": run.name,
        "state": run.state,
        "stage": run.stage,
        "dataset": run.settings.dataset if run.settings else "",
        "epoch": status.epoch if status else 0,
        "epochs": status.epochs if status else 0,
        "seconds_left": round(status.seconds_left, 1) if status and status.seconds_left is not None else None,
        "scores": status.scores if status else {},
        "why": run.why,
        "damaged_lines": run.damaged,
    }
