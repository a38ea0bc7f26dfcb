"""Runs and evaluations that share a device take turns, in the order in which they asked. No process has to
watch over the queue.

Every trainer draws a ticket (a numbered file that it keeps locked while it lives) and waits until no older
ticket is held. A trainer that dies, however it dies, lets go of its ticket; the next one to look throws it
away. So the order survives the web server and needs nothing but the files in `<runs>/.queue/<device>/`.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vkd.io import locks

PLACE = ".queue"
_DIGITS = 10


def device_name(asked: str) -> str:
    """The queue that a run with this device setting ('auto', 'cpu', 'cuda') stands in: 'cpu', 'cuda',
    'cuda-1' …
    """
    import torch  # here, so that looking at the queue needs no torch

    if asked == "cpu" or not torch.cuda.is_available():
        return "cpu"
    chosen = "".join(c if c.isalnum() else "-" for c in os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    return f"cuda-{chosen}" if chosen else "cuda"


def in_turn(
    events: Iterable[dict[str, Any]],
    folder: str | Path,
    device: str,
    stop: Callable[[], bool],
    *,
    wait: bool = True,
    seconds: float = 1.0,
) -> Iterator[dict[str, Any]]:
    """The events of a run (a generator that has not begun), once the device is free for the run in `folder`.

    While others are ahead, a `waiting` event says who (`ahead`: names, the one that trains first), again
    whenever that changes, looked at every so many seconds; `stop` is asked as often, and its yes ends with
    `stopped`.
    """
    folder = Path(folder)
    place = folder.parent / PLACE / device
    told: list[str] = []
    with _ticket(place, folder.name) as ticket:
        while wait and (ahead := _ahead(place, ticket)):
            if stop():
                yield {
                    "kind": "stopped",
                    "epoch": 0,
                    "time": time.time(),
                    "why": "asked to stop while waiting",
                }
                return
            if ahead != told:
                told = ahead
                yield {"kind": "waiting", "epoch": 0, "time": time.time(), "ahead": ahead, "device": device}
            time.sleep(seconds)
        yield from events


@contextmanager
def turn(
    root: str | Path, name: str, device: str, told: Callable[[list[str]], None], *, seconds: float = 0.5
) -> Iterator[None]:
    """Stand in the queue of `root` under a name; inside, the device is free for whoever stood there.

    While others are ahead, `told` hears their names every so many seconds; what it raises ends the waiting.
    """
    place = Path(root) / PLACE / device
    with _ticket(place, name) as ticket:
        while ahead := _ahead(place, ticket):
            told(ahead)
            time.sleep(seconds)
        yield


def waiting(root: str | Path) -> dict[str, list[str]]:
    """Names of the runs that hold a ticket, by device, in their order; the first one trains."""
    places = sorted(path for path in (Path(root) / PLACE).glob("*") if path.is_dir())
    return {place.name: found for place in places if (found := _ahead(place, None))}


@contextmanager
def _ticket(place: Path, name: str) -> Iterator[str]:
    """A ticket with the next number, held; → its file name. Drawn one at a time, so that numbers follow the
    order.
    """
    place.mkdir(parents=True, exist_ok=True)
    drawing = os.open(place / "drawing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    descriptor = -1
    try:
        fcntl.flock(drawing, fcntl.LOCK_EX)
        last = max((int(path.name[:_DIGITS]) for path in _tickets(place)), default=0)
        ticket = place / f"{last + 1:0{_DIGITS}d}-{name}"
        descriptor = os.open(ticket, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # before anybody else may look: they look under the same lock
        locks.keep(descriptor)
        fcntl.flock(drawing, fcntl.LOCK_UN)
        try:
            yield ticket.name
        finally:
            ticket.unlink(missing_ok=True)
    finally:
        for number in (drawing, descriptor):
            if number >= 0:
                locks.close(number)


def _tickets(place: Path) -> list[Path]:
    return sorted(path for path in place.glob("[0-9]*-*") if path.name[:_DIGITS].isdecimal())


def _ahead(place: Path, ticket: str | None) -> list[str]:
    """Names on the tickets before `ticket` (None: all) that somebody holds; dead tickets are thrown away."""
    try:
        drawing = os.open(place / "drawing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return []
    try:
        fcntl.flock(drawing, fcntl.LOCK_EX)
        return [
            path.name[_DIGITS + 1 :]
            for path in _tickets(place)
            if (not ticket or path.name < ticket) and _is_held(path)
        ]
    finally:
        os.close(drawing)


def _is_held(ticket: Path) -> bool:
    try:
        descriptor = os.open(ticket, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        ticket.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
