"""What travels beside the page: a pull or a push in a thread that outlives a closed page, with progress.

A job never holds a token: only the work that is handed to its thread does, while it lasts. The Hub's address
comes from the environment of the app, never from a visitor.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import gradio as gr

from vkd.hub import pull
from vkd.hub.client import translate
from vkd.io.errors import CancelledError, VKDError
from vkd.io.redact import redact
from vkd.ui import errors, mode
from vkd.ui.html import escape
from vkd.ui.state import AppPaths

ENDPOINT = os.environ.get("HF_ENDPOINT") or None
KINDS = ("pull", "push")
TICK = 0.3  # seconds between two looks at a job
_MOST = 64  # of a public demo's visitors


@dataclass
class Job:
    """One pull or push. Written by its thread, read by any page that may see it."""

    kind: Literal["pull", "push"]
    repo: str
    state: str = "working"
    """working, done, cancelled or failed."""
    done: int = 0
    total: int = 0
    file: str = ""
    began: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    wrong: str = ""
    """The sentence of a job that failed: plain text without a token."""
    pulled: list[pull.Pulled] = field(default_factory=list)
    url: str = ""

    def progress(self, done: int, total: int, file: str) -> None:
        """Note how far it is; ends the work where it was cancelled."""
        if self.stop.is_set():
            raise CancelledError(f"{self.repo} was cancelled.")
        if not self.total:  # the time before the first byte says nothing of the pace
            self.began = time.monotonic()
        self.done, self.total, self.file = done, total, file

    def left(self) -> float | None:
        """Seconds that it still takes by the pace so far."""
        if not 0 < self.done < self.total:
            return None
        return (time.monotonic() - self.began) / self.done * (self.total - self.done)

    def ticks(self) -> Iterator[None]:
        """Again and again until the job has ended."""
        while self.state == "working":
            yield
            self.ended.wait(TICK)

    def as_data(self) -> dict[str, Any]:
        """How it stands, as JSON."""
        return {
            "state": self.state, "repo": self.repo, "file": self.file, "done": self.done, "total": self.total,
        }  # fmt: skip


def given(text: str | None) -> str | None:
    """What was typed, None for nothing."""
    return (text or "").strip() or None


def visitor(request: gr.Request | None) -> str:
    """The page that asks."""
    return str(request.session_hash) if request is not None else ""


def raise_wrong(job: Job) -> None:
    """Programs are told of a failure by an error."""
    if job.state == "failed":
        raise gr.Error(escape(job.wrong), title="That did not work", print_exception=False)


_LOCK = threading.Lock()
_JOBS: OrderedDict[tuple[object, ...], Job] = OrderedDict()


def _key(paths: AppPaths, kind: str, visitor: str) -> tuple[object, ...]:
    """Everybody sees the jobs of one's own app; a visitor of a public demo sees what is theirs."""
    return paths.checkpoints, kind, visitor if mode.DEMO else ""


def current(paths: AppPaths, kind: str, visitor: str) -> Job | None:
    """The job at work, or the last one that was."""
    return _JOBS.get(_key(paths, kind, visitor))


def start(paths: AppPaths, job: Job, work: Callable[[Job], None], visitor: str, secret: str | None) -> Job:
    """Begin `work(job)`. `secret` is kept out of what is told. Raises ValueError while another is at work."""
    key = _key(paths, job.kind, visitor)
    with _LOCK:
        running = _JOBS.get(key)
        if running is not None and running.state == "working":
            raise VKDError(f"A {job.kind} of {running.repo} is under way: wait for it, or cancel it.")
        _JOBS.pop(key, None)
        _JOBS[key] = job
        for old in [old for old, each in _JOBS.items() if each.state != "working"][:-_MOST]:
            del _JOBS[old]
    threading.Thread(target=_work, args=(paths, job, work, secret), daemon=True).start()
    return job


def cancel(paths: AppPaths, kind: str, visitor: str) -> Job:
    """Ask the job to end. Raises ValueError where none is at work."""
    job = current(paths, kind, visitor)
    if job is None or job.state != "working":
        raise VKDError(f"No {kind} is under way: there is nothing to cancel.")
    job.stop.set()
    return job


def _work(paths: AppPaths, job: Job, work: Callable[[Job], None], secret: str | None) -> None:
    try:
        work(job)
        job.state = "done"
    except Exception as error:
        if not job.stop.is_set():
            job.wrong = sentence(paths, error, secret)
        job.state = "cancelled" if job.stop.is_set() else "failed"
    finally:
        job.ended.set()


def sentence(paths: AppPaths, error: Exception, secret: str | None) -> str:
    """What went wrong as one sentence: plain text, without tokens and without the folder of the checkpoints.

    What is no sentence of the library's goes to the log, its text redacted too.
    """
    known = isinstance(error, VKDError | OSError)
    text = redact(str(error) if known else str(translate(error)), secret)
    if not known and not isinstance(error, OSError):
        errors.LOG.error("The Hub tab failed: %s: %s", type(error).__name__, text)
        return "Internal error (see server log)."
    for folder in {str(paths.checkpoints), str(paths.checkpoints.absolute())}:
        text = text.replace(f"{folder}/", "")
    return text
