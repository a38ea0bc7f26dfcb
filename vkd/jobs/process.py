"""Processes that work in a folder: start, liveness, stop request, and the queue of a device.

The folder of a run or of an evaluation holds the whole state, so that any process can watch or stop it:

    lock        which process works here: host, process id and start time; the id alone once it has ended
    stop        exists while the work is asked to end
    log.txt     what the process printed
    queue.json  the device it waits for or uses, and since when it has asked for it

A process counts as alive while its id and start time are those of a running one. So a kill frees the folder,
whatever the process' own children (data-loader workers) do, and reading never competes with a start.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import filelock
import psutil

from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import is_running, process_token, write_text

JobState = Literal[
    "new", "waiting", "running", "stopping", "finished", "stopped", "failed", "died", "damaged"
]
"""`died`: no process works here and no terminal state was written; `damaged`: the record cannot be read."""

CLAIM, QUEUE = ".claim", "queue.json"
FILES = {"lock", CLAIM, QUEUE, "stop", "log.txt", "settings.json"}
"""Files that a folder may hold before any work was done in it."""

_TOKEN = re.compile(r"([0-9a-f]{6})-([0-9]{1,10})-([0-9]{1,16})")
_LAUNCHED = "VKD_LAUNCHED"  # environment of a process that `launch` starts: its folder
_CLAIM_SECONDS = 60.0  # a claim lasts for the start of one process
_held: set[Path] = set()  # folders that this very process works in


def _token(folder: Path) -> str:
    try:
        return (folder / "lock").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def pid(folder: str | Path) -> int | None:
    """Returns the id of the process that works or last worked in the folder (see `alive`), if any."""
    token = _token(Path(folder))
    number = match[2] if (match := _TOKEN.fullmatch(token)) else token
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 12 else None


def alive(folder: str | Path) -> bool:
    """True while a process of this machine works in the folder. Only reads."""
    match = _TOKEN.fullmatch(_token(Path(folder)))
    return (
        match is not None
        and process_token().startswith(match[1])
        and is_running(int(match[2]), int(match[3]))
    )


@contextmanager
def _claim(folder: Path) -> Iterator[None]:
    """Grants one process at a time access to the lock."""
    try:
        with filelock.FileLock(folder / CLAIM, timeout=_CLAIM_SECONDS):
            yield
    except filelock.Timeout:
        raise VKDError(f"{folder} is being started by another process: try again.") from None


def _remove_requests(folder: Path) -> None:
    """Removes an old stop request, and the old place in the queue that a killed process left."""
    for name in ("stop", QUEUE):
        (folder / name).unlink(missing_ok=True)


def _refuse_busy(folder: Path) -> None:
    raise VKDError(f"{folder} is already in use by process {pid(folder)}: stop that one first.")


def _is_launched(folder: Path) -> bool:
    """True if `launch` noted down this very process. In a virtual environment of Windows it noted down the
    parent: python.exe there starts the interpreter as a process of its own.
    """
    launched_in = os.environ.pop(_LAUNCHED, "")
    number = pid(folder)
    parent = number == os.getppid() and launched_in == str(folder)
    return alive(folder) and (number == os.getpid() or parent)


@contextmanager
def lock(folder: str | Path) -> Iterator[bool]:
    """Holds the folder for this process; yields whether `launch` had noted it down for this process.

    Removes an old stop request, except one that came after `launch`. Raises VKDError if another process works
    there, MissingFileError without the folder.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is missing: there is no such run.")
    with _claim(folder):
        launched = _is_launched(folder)
        if folder in _held or (alive(folder) and not launched):
            _refuse_busy(folder)
        if not launched:
            _remove_requests(folder)
        if pid(folder) != os.getpid() or not launched:
            write_text(folder / "lock", process_token() + "\n")
        _held.add(folder)
    try:
        yield launched
    finally:
        _held.discard(folder)
        with suppress(OSError):
            (folder / QUEUE).unlink(missing_ok=True)
        try:
            write_text(folder / "lock", f"{os.getpid()}\n")
        except OSError:  # a full disk has room for less
            with suppress(OSError):
                (folder / "lock").unlink(missing_ok=True)


def launch(folder: Path, arguments: Sequence[str]) -> None:
    """Starts `python -m vkd` with these arguments in a process that outlives this one and holds the folder.

    Its output goes to log.txt. Raises VKDError if another process works there.
    """
    with _claim(folder):  # the child claims the folder only after its id is written
        if alive(folder):
            _refuse_busy(folder)
        _remove_requests(folder)
        with (folder / "log.txt").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "vkd", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    **_import_path(),
                    "PYTHONUNBUFFERED": "1",
                    _LAUNCHED: str(folder.absolute()),
                },
                **_detached(),
            )
        write_text(folder / "lock", process_token(child.pid) + "\n")
    threading.Thread(target=child.wait, daemon=True).start()  # so that no zombie stays behind


def _detached() -> dict[str, Any]:
    """Options of Popen for a process that no signal or window of the parent's terminal reaches."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    return {"start_new_session": True}


def _import_path() -> dict[str, str]:
    """Returns the PYTHONPATH by which a child imports this package if it is not installed."""
    parent = Path(__file__).resolve().parents[2]
    if parent.name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(parent), os.environ.get("PYTHONPATH")]))}


def ask_to_stop(folder: str | Path) -> None:
    """Leaves the request that the work obeys after its current step, once everything is saved."""
    (Path(folder) / "stop").touch()


def stop_requested(folder: str | Path) -> bool:
    """True if the work was asked to end."""
    return (Path(folder) / "stop").exists()


def stop(folder: str | Path, patience: float = 60.0) -> bool:
    """Asks the process to save and stop; after `patience` seconds terminates it, then kills it.

    Returns whether it stopped by itself.
    """
    ask_to_stop(folder)
    if _ended(folder, patience):
        return True
    for end in (psutil.Process.terminate, psutil.Process.kill):
        number = pid(folder)
        with suppress(psutil.NoSuchProcess):
            if number and alive(folder):
                end(psutil.Process(number))
        if _ended(folder, 10.0):
            break
    return False


def _ended(folder: str | Path, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while alive(folder):
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)
    return True


def last_line(folder: Path) -> str:
    """Returns the last line of log.txt: why a process that wrote no reason has ended."""
    try:
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "the process was killed"


# --- the queue of a device ---


def device_queue(device: str) -> str:
    """Returns the queue of a device setting ('auto', 'cpu', 'cuda'): 'cpu', 'cuda', 'cuda-1' …

    Raises VKDError for cuda where there is none.
    """
    from vkd.models.inference import resolve_device  # reading the queue needs no torch

    if resolve_device(device) == "cpu":
        return "cpu"
    visible = "".join(c if c.isalnum() else "-" for c in os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    return f"cuda-{visible}" if visible else "cuda"


def wait_for_device(
    folder: str | Path,
    device: str,
    stop: Callable[[], bool],
    on_wait: Callable[[list[str]], None],
    *,
    root: str | Path | None = None,
    wait: bool = True,
    seconds: float = 0.5,
) -> bool:
    """Queues for the device; returns True once it is free, False if `stop()` ended the waiting.

    The caller holds `lock` of the folder, and leaves the queue with it. Runs in `root` (default: beside the
    folder) and evaluations below it queue in the order in which they asked. `on_wait` gets the names of those
    ahead, the one at work first, whenever they change. With `wait=False` only the others wait for this one.
    """
    folder = Path(folder).absolute()
    root = folder.parent if root is None else Path(root).absolute()
    # Times follow the order of writing, so whoever asks later sees everybody who asked earlier.
    with filelock.FileLock(root / ".queue.lock"):
        latest = max((entered for entered, _, _ in _queue(root, device)), default=0.0)
        since = max(time.time(), latest + 1e-3)
        write_text(folder / QUEUE, json.dumps({"device": device, "time": since}))
    before: list[str] = []
    while wait and (ahead := [name for entered, name, _ in _queue(root, device) if entered < since]):
        if stop():
            return False
        if ahead != before:
            on_wait(ahead)
            before = ahead
        time.sleep(seconds)
    return True


def queue(root: str | Path, device: str) -> list[str]:
    """Returns the names of those that use the device or wait for it, in their order."""
    return [name for _, name, _ in _queue(Path(root).absolute(), device)]


def _queue(root: Path, device: str) -> list[tuple[float, str, Path]]:
    """Returns time, name and folder of each entry whose process runs, in order."""
    entries = []
    for path in (*root.glob(f"*/{QUEUE}"), *root.glob(f".*/*/{QUEUE}")):
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            entry = json.loads(path.read_text(encoding="utf-8"))
            if entry["device"] == device and alive(path.parent):
                entries.append((float(entry["time"]), _queue_name(root, path.parent), path.parent))
    return sorted(entries)


def _queue_name(root: Path, folder: Path) -> str:
    return (
        folder.name if folder.parent == root else f"{folder.parent.name.strip('.').rstrip('s')}-{folder.name}"
    )
