"""An evaluation is a folder, made by a process of its own: any page finds it again, whatever was closed.

`asked.json` says what was asked, `progress.json` how far it is or who is ahead in the queue of the device;
`comparison.json` with `arrays.npz`, `items.json` and `features-*.npy` what came out. `lock`, `stop` and
`log.txt` are as in a run.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from vkd.evaluation.comparison import Progress
from vkd.evaluation.results_io import load, save, write_json
from vkd.io.errors import VKDError
from vkd.jobs import runs, turns
from vkd.retrieval.thumbnails import QUALITY, small

__all__ = [
    "PLACE",
    "SHIPPED",
    "EvaluationRequest",
    "EvaluationStatus",
    "Stopped",
    "asked_of",
    "cancel",
    "command",
    "describe",
    "folder_of",
    "in_turn",
    "keep_picture",
    "load",
    "names",
    "recording",
    "save",
    "start",
    "status",
    "thumbnail",
]

PLACE = ".evaluations"
SHIPPED = "street-evaluation"
"""The one that lies beside the demo pair, with pictures of its own and without embeddings."""

State = Literal["waiting", "running", "stopping", "finished", "stopped", "failed", "died"]


class Stopped(Exception):  # noqa: N818 (a request, not an error)
    """Raised inside the work when somebody asked to stop."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What an evaluation was asked for: names of checkpoints beside it, the teacher first, and the rest of
    `vkd evaluate`.
    """

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
    """How far an evaluation is: frames done of all, the network at work, seconds left by the pace so far.

    `ahead`: who is before a waiting one in the queue of the device, the one at work first.
    """

    state: State
    done: int = 0
    total: int = 0
    network: str = ""
    seconds_left: float | None = None
    why: str = ""
    ahead: tuple[str, ...] = ()


def command(asked: EvaluationRequest, folder: Path) -> list[str]:
    """The arguments after `python -m vkd` that do what was asked and keep it in `folder`."""
    places = [str(folder.parents[1] / name) for name in asked.checkpoints]
    return [
        *("evaluate", *places, "--dataset", asked.dataset, "--root", asked.root),
        *("--protocols", *asked.protocols, "--views", str(asked.views), "--ap", asked.ap),
        *("--cameras", asked.cameras, "--curves" if asked.curves else "--no-curves"),
        *("--batch", "8", "--workers", "0", "--folder", str(folder), "--wait"),
    ]


def start(checkpoints: Path, asked: EvaluationRequest) -> Path:
    """Evaluate in a process of its own that outlives this one; → its folder below `checkpoints`.

    It waits there until the runs and evaluations that asked earlier have left the device.
    """
    folder = runs.fresh(checkpoints.resolve() / PLACE, f"{datetime.now():%Y%m%d-%H%M%S}")
    write_json(folder / "asked.json", asdict(asked))
    _progress(folder, "running")
    runs.launch(folder, command(asked, folder))
    return folder


def names(checkpoints: Path) -> list[str]:
    """Names of the evaluations, newest first, the one that ships last."""
    found = (path.parent.name for path in (checkpoints / PLACE).glob("*/asked.json"))
    made = sorted((name for name in found if runs.NAME.match(name)), key=_order, reverse=True)
    return made + [SHIPPED] * (checkpoints / SHIPPED / "asked.json").is_file()


def _order(name: str) -> tuple[str, int]:
    """Evaluations of one second are told apart by a number."""
    return name[:15], int(name[16:]) if name[16:].isdigit() else 0


def folder_of(checkpoints: Path, name: str) -> Path:
    """Folder of an evaluation by its plain name. Raises ValueError for any other text, disk untouched."""
    if runs.NAME.match(name or ""):
        folder = checkpoints / SHIPPED if name == SHIPPED else checkpoints / PLACE / name
        if (folder / "asked.json").is_file():
            return folder
    known = ", ".join(names(checkpoints)) or "none yet"
    raise VKDError(f"There is no evaluation called '{name}'. Known: {known}.")


def asked_of(folder: Path) -> EvaluationRequest:
    """What was asked. Raises ValueError for a damaged file."""
    try:
        text = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in text.items()}
        return EvaluationRequest(**values)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise VKDError(f"{folder / 'asked.json'} is damaged: {error}.") from None


def status(folder: Path) -> EvaluationStatus:
    """What the folder says. `died`: nobody is at work and no last word was written (a kill)."""
    living = runs.alive(
        folder
    )  # looked at before the progress: one that ends in between is not taken for dead
    try:
        told = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        state, done, total = told["state"], int(told["done"]), int(told["total"])
        begun, now = float(told["begun"]), float(told["now"])
    except (OSError, ValueError, KeyError, TypeError):
        return EvaluationStatus(
            "running" if living else "died", why="" if living else "its progress cannot be read"
        )
    if state in ("waiting", "running") and not living:
        return EvaluationStatus("died", done, total, str(told["network"]), why=_last_line(folder))
    if state in ("waiting", "running") and runs.stop_asked(folder):
        state = "stopping"
    left = (now - begun) / done * (total - done) if state == "running" and done and begun else None
    ahead = tuple(map(str, told.get("ahead", [])))
    return EvaluationStatus(state, done, total, str(told["network"]), left, str(told.get("why", "")), ahead)


def _last_line(folder: Path) -> str:
    try:
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "the process was killed"


def cancel(folder: Path) -> None:
    """Ask the work to stop after its current batch. Raises ValueError when nothing is at work."""
    if not runs.alive(folder):
        raise VKDError(f"The evaluation {folder.name} is not at work: there is nothing to cancel.")
    runs.ask_to_stop(folder)


@contextmanager
def recording(folder: Path, seconds: float = 0.5) -> Iterator[Progress]:
    """Hold the folder and write down how far the work is and how it ended; → what to tell the progress to.

    That raises Stopped once somebody asked to stop; it and every error go on after they are written down.
    """
    with runs.lock(folder):
        begun, last = 0.0, 0.0

        def told(done: int, total: int, network: str) -> None:
            nonlocal begun, last
            if runs.stop_asked(folder):
                raise Stopped
            begun = begun or time.time()
            if time.time() - last >= seconds:
                last = time.time()
                _progress(folder, "running", done=done, total=total, network=network, begun=begun)

        _progress(folder, "running")
        try:
            yield told
        except Stopped:
            _progress(folder, "stopped", why="cancelled")
            raise
        except BaseException as error:
            _progress(folder, "failed", why=str(error) or type(error).__name__)
            raise
        _progress(folder, "finished")


@contextmanager
def in_turn(folder: Path, root: Path, device: str) -> Iterator[None]:
    """Wait, inside `recording`, until the device is free in the queue of the runs below `root`.

    Raises Stopped once somebody asked to stop.
    """

    def told(ahead: list[str]) -> None:
        if runs.stop_asked(folder):
            raise Stopped
        _progress(folder, "waiting", ahead=ahead)

    with turns.turn(root, f"evaluation-{folder.name}", turns.device_name(device), told):
        _progress(folder, "running")
        yield


def _progress(folder: Path, state: State, **told: Any) -> None:
    nothing = {"done": 0, "total": 0, "network": "", "begun": 0.0, "why": "", "ahead": []}
    write_json(folder / "progress.json", {"state": state, **nothing, "now": time.time(), **told})


def describe(folder: Path, asked: EvaluationRequest) -> None:
    """Make a folder that holds results a finished evaluation of what was asked."""
    write_json(folder / "asked.json", asdict(asked))
    _progress(folder, "finished", now=0.0)


def thumbnail(folder: Path, frame: str) -> Path:
    """A small picture of a frame, made at the first time it is asked for. Where the original is gone, or only
    its place within the data set is told, as in what ships, the path may lead nowhere.
    """
    path = _place(folder, frame)
    if not path.is_file() and Path(frame).is_absolute() and Path(frame).is_file():
        keep_picture(folder, frame, Path(frame))
    return path


def keep_picture(folder: Path, frame: str, original: Path) -> None:
    """Make the small picture of a frame out of its original."""
    path = _place(folder, frame)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}")
    small(str(original)).save(temporary, "JPEG", quality=QUALITY)
    temporary.replace(path)


def _place(folder: Path, frame: str) -> Path:
    return folder / "thumbnails" / f"{hashlib.sha256(frame.encode()).hexdigest()[:24]}.jpg"
