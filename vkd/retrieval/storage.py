"""What `gallery.json` holds: who and what each gallery item is, and which networks have embedded it.

The table names no file inside the gallery: thumbnails and indexes follow from item numbers and network
names, so that a table from elsewhere cannot point outside its folder. The paths of the original frames are
kept for the reader's information; nothing needs them.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vkd.data.tracklets import UNKNOWN_CAMERA
from vkd.io.errors import MissingFileError, VKDError

VERSION = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class IndexInfo:
    """One network's index: INDEXES kind, embedding width, fingerprint of the weights, sha256 of the file.

    `source` is "frames", or "thumbnails" where the original pictures were gone.
    """

    index: str
    width: int
    weights: str
    sha256: str
    source: str


@dataclass(frozen=True)
class Table:
    """Columns of equal length n. `frames` holds the frames embedded, repeats included; `views` the number of
    thumbnails; `skipped` the pictures that could not be read, with the reason."""

    identities: tuple[int, ...]
    cameras: tuple[int, ...]
    names: tuple[str, ...]
    frames: tuple[tuple[str, ...], ...]
    views: tuple[int, ...]
    networks: dict[str, IndexInfo]
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def known_cameras(self) -> list[int]:
        """The cameras that occur, ascending, without the unknown one."""
        return sorted(set(self.cameras) - {UNKNOWN_CAMERA})


def check_name(name: str) -> str:
    """→ `name`. Raises ValueError if it cannot be the name of a network and of its file."""
    if not NAME.fullmatch(name):
        raise VKDError(
            f"'{name}' cannot name a network: use up to 128 letters, digits, '.', '_' and '-', "
            "a letter or digit first."
        )
    return name


def write(path: Path, table: Table) -> None:
    """Write the table as JSON, under a temporary name first. Frames are stored below their common folder."""
    raw = asdict(table)
    root = _common_folder(table.frames)
    raw["frames"] = [[frame.removeprefix(root) for frame in frames] for frames in table.frames]
    text = json.dumps({"version": VERSION, "root": root, **raw}, separators=(",", ":"), ensure_ascii=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _common_folder(frames: Sequence[Sequence[str]]) -> str:
    folders = {os.path.dirname(frame) for item in frames for frame in item}  # noqa: PTH120 (half a million)
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # none, or on several drives
        return ""
    return common.rstrip(os.sep) + os.sep if common else ""


def read(path: Path) -> Table:
    """Read and check a table.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not JSON, of a newer format, or not a table; the sentence says which and where.
    """
    if not path.is_file():
        raise MissingFileError(f"{path.parent} is not a gallery: it has no {path.name}.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise VKDError(f"{path} is damaged ({error}); build the gallery again.") from None
    version = raw.get("version") if isinstance(raw, dict) else None
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise VKDError(f"{path} has format {version!r} and this program reads up to {VERSION}: update vkd.")
    try:
        return _table(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VKDError(f"{path} does not describe a gallery ({error}); build the gallery again.") from None


def _table(raw: dict[str, Any]) -> Table:
    root = _typed("root", [raw["root"]], str)[0]
    frames = tuple(tuple(root + frame for frame in _typed("frames", item, str)) for item in raw["frames"])
    table = Table(
        identities=_typed("identities", raw["identities"], int),
        cameras=_typed("cameras", raw["cameras"], int),
        names=_typed("names", raw["names"], str),
        frames=frames,
        views=_typed("views", raw["views"], int),
        networks={check_name(name): _indexed(name, value) for name, value in raw["networks"].items()},
        skipped=tuple((str(path), str(reason)) for path, reason in raw["skipped"]),
    )
    columns = (table.cameras, table.names, table.frames, table.views)
    if not len(table) or any(len(column) != len(table) for column in columns):
        raise VKDError("its columns are empty or differ in length")
    if min(table.views) < 1 or not table.networks:
        raise VKDError("an item without a thumbnail, or no network")
    return table


def _typed(name: str, values: Any, kind: type) -> tuple[Any, ...]:
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise VKDError(f"'{name}' must be a list of {kind.__name__}")
    return tuple(values)


def _indexed(name: str, raw: dict[str, Any]) -> IndexInfo:
    entry = IndexInfo(**{item.name: raw[item.name] for item in fields(IndexInfo)})
    texts = (entry.index, entry.weights, entry.sha256, entry.source)
    if type(entry.width) is not int or entry.width < 1 or any(type(text) is not str for text in texts):
        raise VKDError(f"network '{name}' is not described rightly")
    return entry
