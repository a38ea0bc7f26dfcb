"""Runs as folders: create, train here, start in its own process, status, resume check, teacher.

Nothing about a run is kept in memory, so any process can watch or stop any run, and a page that is refreshed
finds it again. See `vkd.jobs.process` for locks and `vkd.jobs.events` for what happened.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from vkd.io import files
from vkd.io.errors import VKDError
from vkd.jobs import events as event_log
from vkd.jobs import process
from vkd.jobs.events import TERMINAL_EVENTS, read
from vkd.jobs.process import JobState, alive, ask_to_stop, lock, pid, stop, stop_requested
from vkd.models.config import read_config
from vkd.training import callbacks as hooks
from vkd.training import resume
from vkd.training import settings as settings_io
from vkd.training.callbacks import Callback, never
from vkd.training.settings import Settings

__all__ = [
    "RECORD",
    "RunStatus",
    "alive",
    "ask_to_stop",
    "check",
    "check_name",
    "create",
    "fresh",
    "is_record",
    "label",
    "lock",
    "pid",
    "read",
    "start",
    "status",
    "stop",
    "stop_requested",
    "teacher_of",
    "train",
]

RECORD = "record.json"


def is_record(folder: str | Path) -> bool:
    """True for the record of a run that was finished elsewhere: curves only, it cannot be resumed."""
    return (Path(folder) / RECORD).is_file()


def check_name(name: str) -> str:
    """Returns the name of a run if it is valid. Raises VKDError otherwise."""
    return files.check_name(name, "run")


def label(settings: Settings) -> str:
    """Composes a run's name of dataset, network and stage; a student's after its teacher's folder."""
    network = getattr(settings, "backbone", "")
    if not network and (teacher := getattr(settings, "teacher", None)):
        network = re.sub(r"^\d{8}-\d{6}-", "", Path(teacher).name)
        network = re.sub(r"(-(teacher|student|imported))?(-g\d+)?$", "", network)
        network = network.removeprefix(f"{settings.dataset}-")
    return files.slug("-".join(word for word in (settings.dataset, network, settings.stage) if word), 44)


def create(root: str | Path, settings: Settings, name: str | None = None) -> Path:
    """Creates `root/<name>` with settings.json; returns the folder. Raises VKDError if the name is taken.

    The default name is date-time-dataset-network-stage.
    """
    root = Path(root)
    if name:
        folder = root / check_name(name)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise VKDError(f"{folder} is taken: choose another name, or resume that run.") from None
    else:
        folder = fresh(root, f"{datetime.now():%Y%m%d-%H%M%S}-{label(settings)}")
    settings_io.save(settings, folder / "settings.json")
    return folder


def fresh(root: Path, base: str) -> Path:
    """Creates `root/<base>` or, where that is taken, `<base>-2`, `<base>-3` …; returns the folder."""
    for attempt in range(1, 100):
        folder = root / (base if attempt == 1 else f"{base}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise VKDError(f"{root / base} and 98 more are taken: choose another name.")


def check(folder: str | Path) -> None:
    """Raises VKDError where training would replace weights: see `resume.check`, and a finished run without
    its training.pt.
    """
    folder = Path(folder)
    resume.check(folder)
    if (folder / resume.NAME).is_file() or not (folder / "config.json").exists():
        return
    events, _ = read(folder)
    if events and events[-1]["kind"] == "finished":
        raise VKDError(
            f"{folder} is a finished run without its {resume.NAME}: it cannot be resumed, and training anew "
            "would replace its weights. Train in another folder."
        )


def start(
    settings: Settings | None = None,
    root: str | Path = "checkpoints",
    *,
    name: str | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Trains in a process of its own that outlives this one; returns its folder, already locked.

    Starts a new run from `settings`, or resumes the one in `folder`. Output goes to the folder's log.txt.
    Raises VKDError if the run already has a trainer, and as `check` does.
    """
    if folder is None:
        if settings is None:
            raise VKDError("Give settings for a new run, or the folder of an existing one.")
        folder = create(root, settings, name)
    folder = Path(folder).resolve()
    check(folder)
    stage = settings_io.load(folder / "settings.json").stage
    process.launch(folder, ["train", stage, "--folder", str(folder), "--wait"])
    return folder


def train(
    settings: Settings,
    folder: str | Path,
    callbacks: Sequence[Callback] = (),
    stop: Callable[[], bool] = never,
    *,
    wait: bool = False,
) -> dict[str, Any]:
    """Trains in this process until the end or a stop request; returns the last event.

    Holds the folder, writes events.jsonl, TensorBoard and snapshots of fixed images, and hands each event to
    the callbacks. `wait` queues behind the runs that asked for the device earlier. With several processes
    (accelerate, torchrun) each one calls this; the first writes.
    """
    from vkd.training import loop

    folder = Path(folder)
    check(folder)  # before anything is written there
    folder.mkdir(parents=True, exist_ok=True)

    def stopping() -> bool:
        return stop() or stop_requested(folder)

    if int(os.environ.get("RANK", 0)):  # set by the launcher
        return loop.train(settings, folder, stop=stopping)
    with (
        lock(folder) as launched,
        _removed_unless_started(folder, launched),
        event_log.recording(folder) as write,
    ):
        _remove_leftovers(folder)
        emit = hooks.fan_out([write, *callbacks])

        def waiting(ahead: list[str]) -> None:
            emit({"kind": "waiting", "epoch": 0, "time": time.time(), "ahead": ahead, "device": device})

        device = process.device_queue(settings.device)
        if not process.wait_for_device(folder, device, stopping, waiting, wait=wait):
            last = {"kind": "stopped", "epoch": 0, "time": time.time(), "why": "stop requested while waiting"}
            emit(last)
            return last
        splits = settings.read_dataset()
        every = [emit, hooks.snapshots(settings, folder, splits, emit)]
        if settings.tensorboard:
            every.append(hooks.tensorboard(folder))
        return loop.train(settings, folder, every, stopping, splits=splits)


@contextmanager
def _removed_unless_started(folder: Path, launched: bool) -> Iterator[None]:
    """Removes the folder of a run that failed before it started, unless it held something before.

    That of a launched one stays: nothing else says why it failed.
    """
    new = not launched and not ({path.name for path in folder.iterdir()} - process.FILES)
    try:
        yield
    except (ValueError, OSError):
        if new and not any(event["kind"] == "started" for event in read(folder)[0]):
            shutil.rmtree(folder)
        raise


def _remove_leftovers(folder: Path) -> None:
    """Removes leftovers of a killed trainer. Only the holder of the run's lock may call it."""
    for parent in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        files.remove_leftovers(parent)


def teacher_of(folder: str | Path, settings: Settings | None = None) -> Path | None:
    """Returns the checkpoint folder of a student's teacher, or None if it is not there.

    That is the folder that the settings (default: those in the folder) name or, where it has moved, the one
    of its name beside the student; without settings the one that the config calls its parent.
    """
    folder = Path(folder).resolve()
    try:
        settings = settings or settings_io.load(folder / "settings.json")
    except (ValueError, OSError):
        settings = None
    try:
        parent = read_config(folder).parent
    except (ValueError, OSError):
        parent = None
    teacher = getattr(settings, "teacher", None)
    candidates = [teacher, folder.parent / teacher.name] if teacher else []
    if parent:
        candidates.append(folder.parent / re.split(r"[/\\]", parent)[-1])
    return next((path for path in candidates if (path / "config.json").is_file()), None)


@dataclass(frozen=True)
class RunStatus:
    """Status of a run: `epoch` of `epochs` done, estimated `seconds_left`, the latest scores."""

    state: JobState
    epoch: int = 0
    epochs: int = 0
    why: str = ""
    seconds_left: float | None = None
    losses: dict[str, float] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)


def status(folder: str | Path, events: Sequence[dict[str, Any]] | None = None) -> RunStatus:
    """Reads a run's state from its folder, or from events that were read before. Never raises for damage."""
    living = alive(folder)  # before the events: a run that ends in between is then not taken for dead
    if events is None:
        try:
            events, _ = read(folder)
        except OSError as error:
            return RunStatus("running" if living else "damaged", why=str(error))
    last = events[-1] if events else {}
    terminal = last["kind"] if last.get("kind") in TERMINAL_EVENTS else ""
    if living:  # a terminal event belongs to an earlier trainer, or this one is about to leave
        state: JobState = "running"
    else:
        state = terminal or ("died" if pid(folder) else "new")
    begun = max((i for i, event in enumerate(events) if event["kind"] == "started"), default=0)
    epochs = [event for event in events if event["kind"] == "epoch"]
    latest = RunStatus(
        state,
        epochs[-1].get("epoch", 0) if epochs else 0,
        next((e.get("epochs", 0) for e in reversed(events) if e["kind"] == "started"), 0),
        str(last.get("why", "")) if terminal else "",
        losses=epochs[-1].get("losses", {}) if epochs else {},
        scores=next((e.get("scores", {}) for e in reversed(events) if e["kind"] == "scores"), {}),
    )
    return replace(latest, seconds_left=_seconds_left(latest, events[begun:])) if living else latest


def _seconds_left(run: RunStatus, events: Sequence[dict[str, Any]]) -> float | None:
    """Estimates the rest by the pace of the last 20 epochs since the trainer started."""
    times = [event["time"] for event in events if event["kind"] in ("started", "epoch")][-20:]
    if len(times) < 2 or not run.epochs:
        return None
    return max(0.0, (times[-1] - times[0]) / (len(times) - 1) * (run.epochs - run.epoch))
