"""Background jobs in threads of this process: progress, time left, cancel; independent of pages."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from vkd.io.errors import CancelledError, VKDError
from vkd.io.redact import redact

LOG = logging.getLogger("vkd.jobs")
INTERNAL_ERROR = "Internal error: the server's log has the details."
_MOST_ENDED = 64

State = Literal["running", "done", "cancelled", "failed"]


@dataclass
class BackgroundJob:
    """One piece of work. Written by its thread, read by any page."""

    name: str
    state: State = "running"
    what: str = ""
    done: int = 0
    total: int = 0
    error: str = ""
    """The sentence of a failed job: plain text without tokens."""
    notes: list[str] = field(default_factory=list)
    """What the work passed over, as sentences."""
    result: Any = None
    began: float = field(default_factory=time.monotonic)
    """Start of the present step, in seconds of the monotonic clock."""
    _cancel: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)

    def progress(self, done: int, total: int, what: str) -> None:
        """Records progress (a `vkd.io.progress.Progress`). Raises CancelledError once `cancel` was called."""
        if self._cancel.is_set():
            raise CancelledError(f"{self.name} was cancelled; nothing was saved.")
        if not self.total or done < self.done:  # a step begins; the files within one are no steps
            self.began = time.monotonic()
        self.done, self.total, self.what = done, total, what

    def seconds_left(self) -> float | None:
        """Estimates the rest of the present step from its pace; None where that is not known yet."""
        if not 0 < self.done < self.total:
            return None
        return (time.monotonic() - self.began) / self.done * (self.total - self.done)

    def cancel(self) -> None:
        """Asks the work to end at its next progress call."""
        self._cancel.set()

    @property
    def cancelling(self) -> bool:
        """True once `cancel` was called."""
        return self._cancel.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the job has ended, at most `timeout` seconds; returns whether it has."""
        return self._ended.wait(timeout)

    def ticks(self, seconds: float = 0.3) -> Iterator[None]:
        """Yields every `seconds` until the job has ended."""
        while self.state == "running":
            yield
            self.wait(seconds)


_LOCK = threading.Lock()
_JOBS: OrderedDict[Hashable, BackgroundJob] = OrderedDict()


def current(key: Hashable) -> BackgroundJob | None:
    """Returns the running job of `key`, or the last one that was."""
    return _JOBS.get(key)


def start(
    key: Hashable, name: str, work: Callable[[BackgroundJob], Any], *, secret: str | None = None
) -> BackgroundJob:
    """Runs `work(job)` in a thread; its return value becomes `job.result`.

    One job runs for each `key`. `secret` is removed from what is shown and logged. Raises VKDError while
    another job of that key runs.
    """
    job = BackgroundJob(name)
    with _LOCK:
        running = _JOBS.pop(key, None)
        if running is not None and running.state == "running":
            _JOBS[key] = running
            raise VKDError(f"{running.name} is still running: wait for it, or cancel it.")
        _JOBS[key] = job
        for ended in [each for each, one in _JOBS.items() if one.state != "running"][:-_MOST_ENDED]:
            del _JOBS[ended]
    threading.Thread(target=_run, args=(job, work, secret), daemon=True).start()
    return job


def _run(job: BackgroundJob, work: Callable[[BackgroundJob], Any], secret: str | None) -> None:
    try:
        job.result = work(job)
        job.state = "done"
    except CancelledError as error:
        job.error, job.state = str(error), "cancelled"
    except (VKDError, OSError) as error:
        job.error, job.state = redact(str(error), secret), "failed"
    except Exception as error:
        LOG.error("%s failed: %s", job.name, redact(f"{type(error).__name__}: {error}", secret))
        job.error, job.state = INTERNAL_ERROR, "failed"
    finally:
        job._ended.set()
