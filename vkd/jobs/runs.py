"""A run is a folder: create, start, stop, alive, record, read, status.

The trainer holds `lock` while it lives (`flock`: a dead process holds nothing, whatever killed it), appends
one JSON object a line to `events.jsonl` and obeys a file named `stop`. Nothing about a run is kept in
memory, so any process can watch or stop any run, and a page that is refreshed finds it again.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from vkd.io import locks
from vkd.io.errors import MissingFileError, VKDError
from vkd.jobs.events import TERMINAL_EVENTS, numbers, read, record
from vkd.training import resume
from vkd.training import settings as asked
from vkd.training.settings import Settings

__all__ = [
    "NAME",
    "RECORD",
    "RunStatus",
    "alive",
    "ask_to_stop",
    "check_name",
    "command",
    "create",
    "fresh",
    "is_record",
    "label",
    "launch",
    "lock",
    "numbers",
    "pid",
    "read",
    "record",
    "start",
    "status",
    "stop",
    "stop_asked",
]

NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}$")
RECORD = "record.json"
_RETRY_SECONDS = 1.0  # a reader that probes the lock holds it for an instant: never lose to one
_INHERITED = "VKD_LOCK"


def is_record(folder: str | Path) -> bool:
    """True for the record of a run that was finished elsewhere: curves only, it cannot be resumed."""
    return (Path(folder) / RECORD).is_file()


def check_name(name: str) -> str:
    """The name itself; raises ValueError for one that is no run name (`NAME`)."""
    if not NAME.fullmatch(name):
        raise VKDError(
            f"'{name}' is no name for a run: 1 to 64 small letters, digits, - and _, no - or _ first."
        )
    return name


def label(settings: Settings) -> str:
    """Words for a run's name: data set, network, stage. A student is named after its teacher's folder."""
    network = getattr(settings, "backbone", "")
    if not network and (teacher := getattr(settings, "teacher", None)):
        network = re.sub(r"^\d{8}-\d{6}-", "", Path(teacher).name)
        network = re.sub(r"(-(teacher|student|imported))?(-g\d+)?$", "", network)
        network = network.removeprefix(f"{settings.dataset}-")
    words = "-".join(word for word in (settings.dataset, network, settings.stage) if word)
    return re.sub(r"[^a-z0-9_]+", "-", words.lower()).strip("-_")[:44]


def create(root: str | Path, settings: Settings, name: str | None = None) -> Path:
    """Make `root/<name>` with settings.json; → the folder. Raises ValueError if the name is taken.

    The default name is date-time-dataset-network-stage.
    """
    root = Path(root)
    if name:
        folder = root / check_name(name)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise VKDError(f"{folder} is taken: choose another name, or go on with that run.") from None
    else:
        folder = fresh(root, f"{datetime.now():%Y%m%d-%H%M%S}-{label(settings)}")
    asked.save(settings, folder / "settings.json")
    return folder


def fresh(root: Path, base: str) -> Path:
    """Make `root/<base>` or, where that is taken, `<base>-2`, `<base>-3` …; → the folder.

    Raises ValueError after 99 of them.
    """
    for attempt in range(1, 100):
        folder = root / (base if attempt == 1 else f"{base}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise VKDError(f"{root / base} and 98 more are taken: choose another name")


def _take(descriptor: int, patience: float) -> bool:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)


def _adopted(path: Path) -> int | None:
    """The descriptor of this very lock that `start` handed over to its child, or None."""
    number = os.environ.pop(_INHERITED, "")
    if not number.isdigit():
        return None
    try:
        there, here = os.fstat(int(number)), path.stat()
    except OSError:
        return None
    if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
        return None
    os.set_inheritable(int(number), False)
    return int(number)


def _open(folder: Path) -> int:
    return os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _write_pid(descriptor: int, pid: int) -> None:
    """Over the old one, then cut to length: on a full disk the block that is there is kept."""
    text = f"{pid}\n".encode()
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


@contextmanager
def lock(folder: str | Path) -> Iterator[None]:
    """Hold the run while it trains. ValueError if another trainer does, FileNotFoundError without folder.

    The file keeps the trainer's pid. Removes an old request to stop.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is missing: there is no such run.")
    path = folder / "lock"
    descriptor = _adopted(path)
    handed = descriptor is not None
    if descriptor is None:
        descriptor = _open(folder)
    try:
        if not handed and not _take(descriptor, _RETRY_SECONDS):
            holder = pid(folder)
            raise VKDError(
                f"{folder} is being trained by another process{f' ({holder})' if holder else ''}: "
                "stop that one first, or train in another folder."
            )
        locks.keep(descriptor)
        _write_pid(descriptor, os.getpid())
        if not handed:
            (folder / "stop").unlink(missing_ok=True)
        yield
    finally:
        locks.close(descriptor)


def alive(folder: str | Path) -> bool:
    """Whether a trainer holds the run."""
    try:
        descriptor = os.open(Path(folder) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _take(descriptor, 0)
    finally:
        os.close(descriptor)


def pid(folder: str | Path) -> int | None:
    """Process number in the lock, whether or not it lives (see `alive`)."""
    try:
        return int((Path(folder) / "lock").read_text().strip())
    except (OSError, ValueError):
        return None


def command(settings: Settings, folder: str | Path) -> list[str]:
    """The arguments after `python -m vkd` that train what the folder's settings.json asks."""
    return ["train", settings.stage, "--folder", str(folder), "--wait"]


def _findable() -> dict[str, str]:
    """Where the child finds this package when it is not installed and the working folder is another one."""
    place = Path(__file__).resolve().parents[2]
    if place.name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))}


def start(
    settings: Settings | None = None,
    root: str | Path = "checkpoints",
    *,
    name: str | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Train in a process of its own that outlives this one; → its folder, alive from the moment of return.

    A new run from `settings`, or with `folder` an old one goes on. Output goes to the folder's log.txt. The
    child inherits the lock already taken: there is no moment at which a second start, or a look, could miss
    it. Raises ValueError if the run already has a trainer, and as `resume.check` does.
    """
    if folder is None:
        if settings is None:
            raise VKDError("Say what to train: settings for a new run, or the folder of an old one.")
        folder = create(root, settings, name)
    folder = Path(folder).resolve()
    resume.check(folder)
    settings = asked.load(folder / "settings.json")
    launch(folder, command(settings, folder))
    return folder


def launch(folder: Path, arguments: Sequence[str]) -> None:
    """`python -m vkd` with these arguments in a process of its own that holds the folder's lock while it
    lives.

    Output goes to the folder's log.txt. Raises ValueError if another process holds the folder.
    """
    descriptor = _open(folder)
    try:
        if not _take(descriptor, _RETRY_SECONDS):
            holder = pid(folder)
            raise VKDError(
                f"{folder} is at work already{f' in process {holder}' if holder else ''}: "
                "let it end, or stop it first."
            )
        (folder / "stop").unlink(missing_ok=True)
        with (folder / "log.txt").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "vkd", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(descriptor,),
                env={**os.environ, **_findable(), _INHERITED: str(descriptor), "PYTHONUNBUFFERED": "1"},
            )
        _write_pid(descriptor, child.pid)
    finally:
        os.close(descriptor)
    threading.Thread(target=child.wait, daemon=True).start()  # so that no zombie stays behind


def ask_to_stop(folder: str | Path) -> None:
    """Leave the request that the trainer obeys after its current step, once everything is saved."""
    (Path(folder) / "stop").touch()


def stop_asked(folder: str | Path) -> bool:
    return (Path(folder) / "stop").exists()


def stop(folder: str | Path, patience: float = 60.0) -> bool:
    """Ask the trainer to save and stop; after `patience` seconds tell it by signal (SIGTERM, then SIGKILL).

    → whether it stopped by itself. The signals go to the pid written in the lock while that lock is held.
    """
    ask_to_stop(folder)
    willing = True
    for sign, wait in ((None, patience), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if sign is not None:
            number = pid(folder)
            if not alive(folder):
                break
            willing = False
            if number:
                try:
                    os.kill(number, sign)
                except ProcessLookupError:
                    break
        until = time.monotonic() + wait
        while alive(folder) and time.monotonic() < until:
            time.sleep(0.05)
        if not alive(folder):
            break
    return willing


State = Literal["new", "running", "finished", "stopped", "failed", "died"]


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands: `epoch` of `epochs` done, `seconds_left` by the pace so far, the latest scores."""

    state: State
    epoch: int = 0
    epochs: int = 0
    why: str = ""
    seconds_left: float | None = None
    losses: dict[str, float] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)


def status(folder: str | Path, events: Sequence[dict[str, Any]] | None = None) -> RunStatus:
    """What the folder says. `died`: no trainer lives and the last event is no last word (a kill)."""
    living = alive(
        folder
    )  # looked at before the events: a run that ends in between is then not taken for dead
    if events is None:
        events, _ = read(folder)
    last = events[-1] if events else {}
    word = last["kind"] if last.get("kind") in TERMINAL_EVENTS else ""
    if living and word:
        state: State = "running"  # its last word belongs to an earlier trainer, or it is about to leave
    elif living:
        state = "running"
    else:
        state = word or ("died" if pid(folder) else "new")
    begun = max((i for i, event in enumerate(events) if event["kind"] == "started"), default=0)
    epochs = next((e.get("epochs", 0) for e in reversed(events) if e["kind"] == "started"), 0)
    done = [event for event in events if event["kind"] == "epoch"]
    recent = [event for event in events[begun:] if event["kind"] == "epoch"][-20:]
    epoch = done[-1].get("epoch", 0) if done else 0
    left = None
    if state == "running" and recent and epochs:
        since = next((e for e in events[begun:] if e["kind"] == "started"), recent[0])
        pace = [since, *recent] if len(recent) < 20 else recent
        span = pace[-1]["time"] - pace[0]["time"]
        left = max(0.0, span / max(1, len(pace) - 1) * (epochs - epoch))
    scores = next((e.get("scores", {}) for e in reversed(events) if e["kind"] == "scores"), {})
    why = str(last.get("why", "")) if word else ""
    return RunStatus(state, epoch, epochs, why, left, done[-1].get("losses", {}) if done else {}, scores)
