"""Galleries built beside the page: one at a time, in a thread that outlives a closed page; with progress."""

import re
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vkd.data.datasets import gallery_items
from vkd.io.archives import extract_images
from vkd.io.errors import VKDError
from vkd.models.checkpoint import Checkpoint
from vkd.retrieval.gallery import Gallery
from vkd.ui import errors
from vkd.ui import state as ui_state

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class CancelledError(ValueError):
    """Somebody asked for it."""


@dataclass
class Job:
    """One gallery in the making. Written by its thread, read by any page."""

    name: str
    steps: tuple[str, ...]
    step: int = -1
    done: int = 0
    total: int = 0
    began: float = field(default_factory=time.monotonic)
    """When the present step began."""
    stop: threading.Event = field(default_factory=threading.Event)
    state: str = "building"
    """building, done, cancelled or failed."""
    items: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    wrong: str = ""

    def progress(self, items: Iterable[Any]) -> Iterator[Any]:
        """Counts what is done and ends the work where it was cancelled."""
        self.step, self.done, self.began = self.step + 1, 0, time.monotonic()
        self.total = len(items) if hasattr(items, "__len__") else 0  # type: ignore[arg-type]
        for item in items:
            if self.stop.is_set():
                raise CancelledError(f"The gallery {self.name} was cancelled; nothing of it is kept.")
            yield item
            self.done += 1

    def report(self, done: int, total: int, what: str) -> None:
        """Counts the files that are unpacked and ends the work where it was cancelled."""
        if self.stop.is_set():
            raise CancelledError(f"The gallery {self.name} was cancelled; nothing of it is kept.")
        if not done:
            self.step, self.began = self.step + 1, time.monotonic()
        self.done, self.total = done, total

    def left(self) -> float | None:
        """Seconds that the present step still takes, as far as it can be told."""
        if self.done < 2 or not self.total:
            return None
        return (time.monotonic() - self.began) / self.done * (self.total - self.done)


_LOCK = threading.Lock()
_JOBS: dict[Path, Job] = {}
"""The last job of each folder of checkpoints."""


def current(paths: ui_state.AppPaths) -> Job | None:
    """The gallery being built, or the last one that was."""
    return _JOBS.get(paths.checkpoints)


def start(
    paths: ui_state.AppPaths, name: str, source: Path, networks: Mapping[str, Checkpoint], *, packed: bool
) -> Job:
    """Begin to build `checkpoints/<name>` of a folder, a data set or (`packed`) a zip file.

    Raises ValueError for a bad or taken name, and where another gallery is being built.
    """
    if not NAME.fullmatch(name):
        raise VKDError(
            f"'{name}' cannot name a gallery: use up to 64 small letters, digits, '-' and '_', a letter or "
            "digit first."
        )
    folder = paths.checkpoints / name
    with _LOCK:
        running = _JOBS.get(paths.checkpoints)
        if running is not None and running.state == "building":
            raise VKDError(f"The gallery {running.name} is being built: wait for it, or cancel it.")
        if folder.exists():
            raise VKDError(f"There is something called {name} already: choose another name.")
        first = ("Unpacking", "Reading pictures") if packed else ("Reading pictures",)
        job = Job(name, (*first, *(f"Embedding with {network}" for network in networks)))
        _JOBS[paths.checkpoints] = job
    threading.Thread(target=_work, args=(job, folder, source, dict(networks), packed), daemon=True).start()
    return job


def cancel(paths: ui_state.AppPaths, name: str) -> Job:
    """Ask the job to end. Raises ValueError where no such gallery is being built."""
    job = current(paths)
    if job is None or job.state != "building" or (name and job.name != name):
        raise VKDError(f"No gallery{f' called {name}' if name else ''} is being built.")
    job.stop.set()
    return job


def _work(job: Job, folder: Path, source: Path, networks: Mapping[str, Checkpoint], packed: bool) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix="vkd-gallery-") as place:
            root = extract_images(source, Path(place), progress=job.report) if packed else source
            items, names = gallery_items(root)
            made = Gallery.build(folder, items, networks, names=names, progress=job.progress)
        job.items, job.skipped, job.state = len(made), made.skipped, "done"
    except CancelledError as stopped:
        job.wrong, job.state = str(stopped), "cancelled"
    except (ValueError, FileNotFoundError) as error:
        job.wrong, job.state = errors.message(error), "failed"
    except Exception:
        errors.LOG.exception("The gallery %s failed", job.name)
        job.wrong = "Something went wrong on our side. The server's log has the details."
        job.state = "failed"
