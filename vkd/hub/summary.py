"""What a checkpoint's folder says of itself: the network, each file of weights, the run, its teacher.

Only `config.json` and one file of weights must be there. What a folder does not know is None or empty, so an
imported checkpoint is told of as well as a run.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from vkd.io.errors import MissingFileError, VKDError
from vkd.jobs import events
from vkd.models.config import Config, apply_weights_metadata, read_config
from vkd.training import settings as asked
from vkd.training.settings import Settings

WEIGHTS = ("best.safetensors", "model.safetensors")
"""In the order in which `checkpoint.load` looks for them; 'auto' takes the first that is there."""

_MOST_HEADER = 100 * 2**20  # what the safetensors format allows
_BLOCK = 2**22


class Facts(NamedTuple):
    """One folder. `weights`: file name → the config with that file's own epoch and scores, the file that
    'auto' loads first; a file that holds the same tensors as an earlier one is left out.
    """

    folder: Path
    weights: dict[str, Config]
    settings: Settings | None
    events: tuple[dict[str, Any], ...]

    @property
    def config(self) -> Config:
        """Of the weights that 'auto' loads."""
        return next(iter(self.weights.values()))


def facts(folder: str | Path) -> Facts:
    """Read the folder. FileNotFoundError without config or weights, ValueError for damaged ones; settings and
    events that cannot be read count as missing.
    """
    folder = Path(folder)
    config = read_config(folder)
    there = [name for name in WEIGHTS if (folder / name).is_file()]
    if not there:
        raise MissingFileError(f"{folder} holds no weights: it has neither {' nor '.join(WEIGHTS)}.")
    headers = {name: header(folder / name) for name in there}
    if len(there) == 2 and _same(*(folder / name for name in there)):
        there = there[1:]  # the last weights are the best: one file is enough, and 'auto' finds it
    return Facts(
        folder,
        {name: apply_weights_metadata(config, _own(headers[name])) for name in there},
        _settings(folder),
        _events(folder),
    )


def header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file. Raises ValueError for a damaged one."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= min(_MOST_HEADER, path.stat().st_size - 8):
                raise VKDError("its header is as long as no header can be")
            found = json.loads(file.read(size))
        if not isinstance(found, dict):
            raise VKDError("its header is no object")
    except (ValueError, RecursionError) as error:
        raise VKDError(f"{path} is damaged or not a safetensors file: {error}.") from None
    return found


def _own(head: dict[str, Any]) -> str:
    metadata = head.get("__metadata__")
    return str(metadata.get("vkd", "")) if isinstance(metadata, dict) else ""


def _same(one: Path, other: Path) -> bool:
    """Whether two safetensors files hold the same tensors, whatever else their headers tell."""
    tensors = [{k: v for k, v in header(path).items() if k != "__metadata__"} for path in (one, other)]
    if tensors[0] != tensors[1]:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        for file in (first, second):
            file.seek(int.from_bytes(file.read(8), "little"), 1)
        while True:
            block = first.read(_BLOCK)
            if block != second.read(_BLOCK):
                return False
            if not block:
                return True


def _settings(folder: Path) -> Settings | None:
    try:
        return asked.load(folder / "settings.json")
    except (OSError, ValueError):
        return None


def _events(folder: Path) -> tuple[dict[str, Any], ...]:
    try:
        return tuple(events.read(folder)[0])
    except OSError:
        return ()


def teacher_of(found: Facts) -> Facts | None:
    """A student's teacher, where its folder can be found: as the settings say, or beside the student under
    the name that the config gives. None if it is not there or is another network by now.
    """
    config = found.config
    if config.stage != "student" or not config.parent:
        return None
    name = name_of(config.parent)
    told = getattr(found.settings, "teacher", None)
    places = [Path(told)] if told is not None and name_of(told) == name else []
    for place in [*places, found.folder.resolve().parent / name]:
        try:
            teacher = facts(place)
        except (OSError, ValueError):
            continue
        if teacher.config.dataset == config.dataset and name:
            return teacher
    return None


def name_of(path: str | Path) -> str:
    """The last part of a path of any system, '' where it has none."""
    last = str(path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "" if last in (".", "..") or last.endswith(":") else last


def started(found: Facts) -> dict[str, Any]:
    """The last `started` event, {} without one."""
    return next((event for event in reversed(found.events) if event["kind"] == "started"), {})


def by_epoch(found: Facts, kind: str) -> dict[int, dict[str, Any]]:
    """Epoch → event of one kind, ascending. Of an epoch that ran twice, after a resume, the later counts."""
    rows = {
        event["epoch"]: event
        for event in found.events
        if event["kind"] == kind and isinstance(event.get("epoch"), int)
    }
    return dict(sorted(rows.items()))
