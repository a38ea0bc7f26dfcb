"""Evaluation jobs: each is a folder, written by its own process and readable by any page.

`asked.json` holds the request, `progress.json` its state; `results/` the results. The rest is as in a run
(`vkd.jobs.process`).
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic.dataclasses import dataclass

from vkd.evaluation.results_io import load, save
from vkd.io.errors import CancelledError, VKDError
from vkd.io.files import NAME, atomic_path, write_text
from vkd.io.progress import Progress
from vkd.jobs import process, runs
from vkd.jobs.process import JobState
from vkd.retrieval.storage import QUALITY, make_thumbnail

__all__ = [
    "FOLDER",
    "SHIPPED",
    "EvaluationRequest",
    "EvaluationStatus",
    "cancel",
    "command",
    "folder_of",
    "load",
    "names",
    "read_request",
    "recording",
    "save",
    "start",
    "status",
    "thumbnail",
    "write_finished",
    "write_thumbnail",
]

FOLDER = ".evaluations"
SHIPPED = "street-evaluation"
"""The one that lies beside the demo pair, with thumbnails of its own and without embeddings."""


@dataclass(frozen=True)
class EvaluationRequest:
    """Names of checkpoints in their folder, the teacher first, and options of `vkd evaluate`."""

    checkpoints: tuple[str, ...]
    dataset: str
    root: str
    protocols: tuple[str, ...]
    views: int = 8
    ap: str = "trapezoid"
    cameras: str = "auto"
    curves: bool = True


@dataclass(frozen=True)
class EvaluationStatus:
    """Progress of an evaluation: frames done of all, the current network, estimated seconds left.

    `ahead`: names before a waiting one in the queue of the device, the one at work first.
    """

    state: JobState
    done: int = 0
    total: int = 0
    network: str = ""
    seconds_left: float | None = None
    why: str = ""
    ahead: tuple[str, ...] = ()


_Count = Annotated[int, pydantic.Field(ge=0, lt=2**53)]
_Seconds = Annotated[float, pydantic.Field(ge=0, lt=2**53)]


class _Record(pydantic.BaseModel):
    """progress.json. Times in seconds since 1970."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    state: JobState
    done: _Count = 0
    total: _Count = 0
    network: str = ""
    begun: _Seconds = 0.0
    now: _Seconds = 0.0
    why: str = ""
    ahead: tuple[str, ...] = ()


def command(request: EvaluationRequest, folder: Path) -> list[str]:
    """Returns the arguments after `python -m vkd` that evaluate the request in `folder`."""
    checkpoints = [str(folder.parents[1] / name) for name in request.checkpoints]
    return [
        *("evaluate", *checkpoints, "--dataset", request.dataset, "--root", request.root),
        *("--protocols", *request.protocols, "--views", str(request.views), "--ap", request.ap),
        *("--cameras", request.cameras, "--curves" if request.curves else "--no-curves"),
        *("--batch", "8", "--workers", "0", "--folder", str(folder), "--wait"),
    ]


def start(checkpoints: Path, request: EvaluationRequest) -> Path:
    """Evaluates in a process of its own that outlives this one; returns its folder below `checkpoints`.

    It queues there behind the runs and evaluations that asked for the device earlier.
    """
    folder = runs.fresh(checkpoints.resolve() / FOLDER, f"{datetime.now():%Y%m%d-%H%M%S}")
    write_text(folder / "asked.json", json.dumps(asdict(request)))
    _write(folder, _Record(state="running"))
    process.launch(folder, command(request, folder))
    return folder


def names(checkpoints: Path) -> list[str]:
    """Returns the names of the evaluations, newest first, the one that ships last."""
    paths = (checkpoints / FOLDER).glob("*/asked.json")
    own = [path.parent.name for path in paths if NAME.fullmatch(path.parent.name)]
    shipped = (checkpoints / SHIPPED / "asked.json").is_file()
    return sorted(own, key=_age, reverse=True) + [SHIPPED] * shipped


def _age(name: str) -> tuple[str, int]:
    """Returns the sort key of a name; a number separates evaluations of one second."""
    return name[:15], int(name[16:]) if name[16:].isdecimal() else 0


def folder_of(checkpoints: Path, name: str) -> Path:
    """Returns the folder of an evaluation. Raises VKDError for anything but the plain name of one."""
    if NAME.fullmatch(name or ""):
        folder = checkpoints / SHIPPED if name == SHIPPED else checkpoints / FOLDER / name
        if (folder / "asked.json").is_file():
            return folder
    available = ", ".join(names(checkpoints)) or "none yet"
    raise VKDError(f"There is no evaluation called '{name}'. Available: {available}.")


def read_request(folder: Path) -> EvaluationRequest:
    """Reads what was asked. Raises VKDError for a damaged file."""
    path = folder / "asked.json"
    try:
        return pydantic.TypeAdapter(EvaluationRequest).validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise VKDError(f"{path} is damaged ({type(error).__name__}).") from None


def status(folder: Path) -> EvaluationStatus:
    """Reads an evaluation's state from its folder. Never raises for damage."""
    living = process.alive(folder)  # before the record: one that ends in between is not taken for dead
    try:
        record = _Record.model_validate_json((folder / "progress.json").read_bytes())
    except (OSError, ValueError):
        return EvaluationStatus("running" if living else "damaged", why="its progress cannot be read")
    state, why, left = record.state, record.why, None
    if state in ("waiting", "running"):
        if not living:
            state, why = "died", process.last_line(folder)
        elif process.stop_requested(folder):
            state = "stopping"
    if state == "running" and record.done and record.begun:
        left = (record.now - record.begun) / record.done * (record.total - record.done)
    return EvaluationStatus(state, record.done, record.total, record.network, left, why, record.ahead)


def cancel(folder: Path) -> None:
    """Asks the work to stop after its current batch. Raises VKDError if nothing is at work."""
    if not process.alive(folder):
        raise VKDError(f"The evaluation {folder.name} is not running: there is nothing to cancel.")
    process.ask_to_stop(folder)


@contextmanager
def recording(
    folder: Path, root: Path | None = None, device: str = "auto", *, seconds: float = 0.5
) -> Iterator[Progress]:
    """Holds the folder and writes the state to progress.json; yields the callback for the progress.

    With `root` it first queues for the device with the runs there. The callback raises CancelledError once
    a stop was requested; that and every error go on after they are written down.
    """
    with process.lock(folder):
        record, last = _Record(state="running"), 0.0

        def progress(done: int, total: int, what: str) -> None:
            nonlocal record, last
            if process.stop_requested(folder):
                raise CancelledError("cancelled")
            if time.time() - last >= seconds:
                last = time.time()
                begun = record.begun or last
                record = _Record(state="running", done=done, total=total, network=what, begun=begun)
                _write(folder, record)

        def waiting(ahead: list[str]) -> None:
            _write(folder, _Record(state="waiting", ahead=tuple(ahead)))

        _write(folder, record)
        try:
            if root is not None:
                queue = process.device_queue(device)
                stop = lambda: process.stop_requested(folder)  # noqa: E731
                if not process.wait_for_device(folder, queue, stop, waiting, root=root):
                    raise CancelledError("cancelled")
                _write(folder, record)
            yield progress
        except BaseException as error:
            state = "stopped" if isinstance(error, CancelledError) else "failed"
            _write(folder, _Record(state=state, why=str(error) or type(error).__name__))
            raise
        _write(folder, _Record(state="finished"))


def _write(folder: Path, record: _Record) -> None:
    values = record.model_dump(mode="json") | {"now": record.now or time.time()}
    write_text(folder / "progress.json", json.dumps(values))


def write_finished(folder: Path, request: EvaluationRequest) -> None:
    """Makes a folder that holds results a finished evaluation of the request."""
    write_text(folder / "asked.json", json.dumps(asdict(request)))
    write_text(folder / "progress.json", _Record(state="finished").model_dump_json())


def thumbnail(folder: Path, frame: str) -> Path:
    """Returns the path of a frame's thumbnail, made when it is first asked for.

    There is no such file where the original is gone or, as in what ships, only its relative path is given.
    """
    path = _thumbnail_path(folder, frame)
    if not path.is_file() and Path(frame).is_absolute() and Path(frame).is_file():
        write_thumbnail(folder, frame, Path(frame))
    return path


def write_thumbnail(folder: Path, frame: str, original: Path) -> None:
    """Writes the thumbnail of a frame."""
    path = _thumbnail_path(folder, frame)
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        make_thumbnail(str(original)).save(temporary, "JPEG", quality=QUALITY)


def _thumbnail_path(folder: Path, frame: str) -> Path:
    return folder / "thumbnails" / f"{hashlib.sha256(frame.encode()).hexdigest()[:24]}.jpg"
