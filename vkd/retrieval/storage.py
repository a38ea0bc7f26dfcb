"""The files of a gallery's folder: the record in gallery.json, and thumbnails.

The record names no file inside the gallery: thumbnails and indexes follow from item numbers and network
names, so that a record from elsewhere cannot point outside its folder. The paths of the original frames are
information for the reader; nothing needs them.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pydantic
from PIL import Image
from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, StrictInt, StrictStr

from vkd.data.tracklets import UNKNOWN_CAMERA, Tracklet
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import refuse_lfs_pointer, write_bytes
from vkd.io.images import read_image, resize_to_height
from vkd.io.progress import Progress, track
from vkd.models.inference import select_frames

VERSION = 1
RECORD = "gallery.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
HEIGHT = 128  # pixels of a thumbnail
QUALITY = 85  # of its JPEG: about 2 KB for a person
MAX_VIEWS = 8
"""Most thumbnails of an item."""


def check_name(name: str) -> str:
    """Returns `name`. Raises VKDError if it cannot be the name of a network and of its file."""
    if not NAME.fullmatch(name):
        raise VKDError(
            f"'{name}' cannot name a model: use up to 128 letters, digits, '.', '_' and '-', "
            "a letter or digit first."
        )
    return name


def _text(value: Any) -> str:
    if type(value) is not str:
        raise VKDError("a text is expected")
    return value


Text = Annotated[str, PlainValidator(_text)]
"""Text that may hold bytes of file names that are not UTF-8, which pydantic's own `str` refuses."""


class IndexInfo(pydantic.BaseModel):
    """One network's index: INDEXES kind, embedding width, fingerprint of the weights, sha256 of the file."""

    model_config = ConfigDict(frozen=True)

    index: StrictStr
    width: Annotated[StrictInt, Field(ge=1)]
    weights: StrictStr
    sha256: StrictStr
    source: StrictStr
    """ "frames", or "thumbnails" where the original images were gone."""


class GalleryRecord(pydantic.BaseModel):
    """Columns of equal length, one value an item.

    `frames`: the frames embedded, repeats included. `views`: number of thumbnails. `skipped`: path and
    reason of each image that could not be read.
    """

    model_config = ConfigDict(frozen=True)

    identities: Annotated[tuple[StrictInt, ...], Field(min_length=1)]
    cameras: tuple[StrictInt, ...]
    names: tuple[Text, ...]
    frames: tuple[tuple[Text, ...], ...]
    views: tuple[Annotated[StrictInt, Field(ge=1)], ...]
    networks: Annotated[
        dict[Annotated[str, AfterValidator(check_name)], IndexInfo],
        Field(min_length=1),
    ]
    skipped: tuple[tuple[Text, Text], ...] = ()

    @pydantic.model_validator(mode="after")
    def _columns(self) -> "GalleryRecord":
        columns = (self.cameras, self.names, self.frames, self.views)
        if any(len(column) != len(self) for column in columns):
            raise VKDError("its columns differ in length")
        return self

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def cameras_present(self) -> list[int]:
        """The cameras that occur, ascending, without the unknown one."""
        return sorted(set(self.cameras) - {UNKNOWN_CAMERA})


def write(path: Path, record: GalleryRecord) -> None:
    """Writes the record as JSON, atomically; frames are stored below their common folder."""
    raw = record.model_dump()
    root = _common_folder(record.frames)
    raw["frames"] = [[frame.removeprefix(root) for frame in frames] for frames in record.frames]
    text = json.dumps({"version": VERSION, "root": root, **raw}, separators=(",", ":"), ensure_ascii=False)
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def _common_folder(frames: Sequence[Sequence[str]]) -> str:
    folders = {os.path.dirname(frame) for item in frames for frame in item}  # noqa: PTH120 (half a million)
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # none, or on several drives
        return ""
    return common.rstrip(os.sep) + os.sep if common else ""


def read(path: Path) -> GalleryRecord:
    """Reads and checks a record.

    Raises MissingFileError if there is none; VKDError if it is not JSON, of a newer format, or no record.
    """
    if not path.is_file():
        raise MissingFileError(f"{path.parent} is not a gallery: it has no {path.name}.")
    refuse_lfs_pointer(path)
    try:
        raw = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise VKDError(f"{path} is damaged ({error}); build the gallery again.") from None
    version = raw.get("version") if isinstance(raw, dict) else None
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise VKDError(f"{path} has format {version!r} and this program reads up to {VERSION}: update vkd.")
    try:
        root = _text(raw["root"])
        frames = [[root + frame for frame in frames] for frames in raw["frames"]]
        return GalleryRecord.model_validate({**raw, "frames": frames})
    except pydantic.ValidationError as error:
        reason = error.errors()[0]
        text = f"{'.'.join(map(str, reason['loc']))}: {reason['msg']}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = str(error)
    raise VKDError(f"{path} does not describe a gallery ({text}); build the gallery again.")


def thumbnail_paths(folder: Path, item: int, views: int) -> tuple[Path, ...]:
    """Returns the paths of an item's thumbnails: `<item>.jpg`, or `<item>-<view>.jpg` of several views."""
    if views == 1:
        return (folder / f"{item}.jpg",)
    return tuple(folder / f"{item}-{view}.jpg" for view in range(views))


def make_thumbnail(frame: str) -> Image.Image:
    """Reads an image and resizes it to HEIGHT. Raises VKDError or OSError if it cannot be read."""
    return resize_to_height(read_image(frame).permute(1, 2, 0).contiguous().numpy(), HEIGHT, max_aspect=4)


def write_thumbnails(
    folder: Path, tracklets: Sequence[Tracklet], views: int, progress: Progress
) -> tuple[list[Tracklet], list[int], list[tuple[str, str]]]:
    """Reads the views of every tracklet and writes its thumbnails; leaves out what cannot be read.

    Returns the tracklets that remain, cut to the selected views (the chunk rule, repeats included), their
    numbers of thumbnails, and (path, reason) of each image left out. A tracklet loses only its unreadable
    frames and is dropped when none is left.
    """
    readable: list[Tracklet] = []
    counts: list[int] = []
    skipped: list[tuple[str, str]] = []
    for tracklet in track(tracklets, progress, "reading images"):
        frames, thumbnails = _read_views(tracklet.frames, views, skipped)
        if not frames:
            continue
        distinct = list(dict.fromkeys(frames))[:MAX_VIEWS]
        for path, frame in zip(thumbnail_paths(folder, len(readable), len(distinct)), distinct, strict=True):
            thumbnails[frame].save(path, quality=QUALITY)
        readable.append(tracklet._replace(frames=frames))
        counts.append(len(distinct))
    return readable, counts, skipped


def _read_views(
    frames: tuple[str, ...], views: int, skipped: list[tuple[str, str]]
) -> tuple[tuple[str, ...], dict[str, Image.Image]]:
    """Selects the views among the frames that can be read; returns them and a thumbnail of each."""
    thumbnails: dict[str, Image.Image] = {}
    while frames:
        selected = select_frames(frames, views, "chunk")
        unreadable = set()
        for frame in dict.fromkeys(selected):
            if frame in thumbnails:
                continue
            try:
                thumbnails[frame] = make_thumbnail(frame)
            except (OSError, ValueError) as error:
                unreadable.add(frame)
                skipped.append((frame, str(error)))
        if not unreadable:
            return selected, thumbnails
        frames = tuple(frame for frame in frames if frame not in unreadable)
    return (), {}
