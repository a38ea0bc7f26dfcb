"""Data sets: one row of `DATASETS` each, `read` with its checks, and the summary table. No torch here.

Everything that can be wrong with a data set is said here in one sentence, before training starts.
"""

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vkd.data.benchmarks import is_duke_frame, read_duke, read_mars, read_street, read_veri, walk
from vkd.data.folder import labelled_tracklets, read_folder, tracklets_of_folder
from vkd.data.tracklets import (
    PROTOCOLS,
    UNKNOWN_CAMERA,
    UNKNOWN_IDENTITY,
    Splits,
    Tracklet,
    first_frames,
    remedy,
    valid_queries,
    why_no_query,
)
from vkd.io.errors import MissingFileError, VKDError

__all__ = [
    "DATASETS",
    "UNKNOWN_CAMERA",
    "UNKNOWN_IDENTITY",
    "Dataset",
    "Splits",
    "Tracklet",
    "check_listed",
    "check_pictures",
    "first_frames",
    "guess",
    "labelled_tracklets",
    "mask_path",
    "read",
    "summary",
    "summary_table",
    "tracklets_of_folder",
    "valid_queries",
]


@dataclass(frozen=True)
class Dataset:
    """A row of the table: how to read a data set and what its pictures want.

    `folders` are the names of the official archive's folder, `marks` are entries of which at least one lies
    in it. `image_size` is (height, width) in pixels; `aspect` is the range of height / width of random
    erasing.
    """

    title: str
    read: Callable[..., Splits]
    layout: str
    marks: tuple[str, ...]
    folders: tuple[str, ...] = ()
    image_size: tuple[int, int] = (256, 128)
    aspect: tuple[float, float] = (0.3, 3.3)
    protocols: tuple[str, ...] = tuple(PROTOCOLS)


DATASETS: dict[str, Dataset] = {
    "mars": Dataset(
        title="MARS",
        read=read_mars,
        layout="bbox_train/, bbox_test/ and info/ with train_name.txt, test_name.txt and three .mat files",
        marks=("info", "bbox_train", "bbox_test"),
        folders=("mars",),
    ),
    "duke": Dataset(
        title="Duke-Video-ReID",
        read=read_duke,
        layout="train/, query/ and gallery/, each with <identity>/<tracklet>/<identity>_C<camera>_….jpg",
        marks=("train", "query", "gallery"),
        folders=("dukemtmc-videoreid",),
    ),
    "veri": Dataset(
        title="VeRi-776",
        read=read_veri,
        layout="image_train/, image_query/, image_test/, name_train.txt, name_query.txt and test_track.txt",
        marks=("name_train.txt", "test_track.txt", "image_train"),
        folders=("veri", "veri-776", "veri_776", "veri776"),
        image_size=(224, 224),
        aspect=(0.7, 1.4),
    ),
    "folder": Dataset(
        title="folder",
        read=read_folder,
        layout="<identity>/<camera>/ or <identity>/ folders, or a CSV with path, identity, camera",
        marks=(),
    ),
    "street": Dataset(
        title="street",
        read=read_street,
        layout="as written by `vkd street`: a benchmark's layout, street.json and masks/",
        marks=("street.json", "info"),
        image_size=(128, 64),
    ),
}


def read(name: str, root: str | Path, *, check: bool = True, **options: object) -> Splits:
    """Read a data set: a key of DATASETS, or "auto" to tell it by the files found.

    `root` is the data set's folder or the one that holds it under its official name (for "folder" also a
    CSV file). `check` compares the lists with the directories and opens some of the pictures
    (`check_listed`, `check_pictures`). Options by data set: mars queries_in_gallery; duke grouping; folder
    cameras, held_out, seed. Raises FileNotFoundError or ValueError with one sentence that names the path
    and the reason.
    """
    base = Path(root).expanduser().absolute()
    if not base.exists():
        raise MissingFileError(f"{base} does not exist: give the folder of the data set.")
    name = guess(base) if name == "auto" else name
    if name not in DATASETS:
        raise VKDError(f"Unknown data set {name!r}: choose from auto, {', '.join(DATASETS)}.")
    dataset = DATASETS[name]
    taken = [key for key in inspect.signature(dataset.read).parameters if key != "root"]
    unknown = sorted(set(options) - set(taken))
    if unknown == ["cameras"]:
        raise VKDError(
            f"{dataset.title} tells its cameras in its own files: 'cameras' is a choice for plain folders "
            "only, leave it at auto."
        )
    if unknown:
        raise VKDError(
            f"Unknown option {unknown[0]!r} for {dataset.title}: it takes {', '.join(taken) or 'no options'}."
        )
    splits = dataset.read(_inside(base, dataset), **options)
    _require_queries(splits)
    if check:
        check_listed(splits)
        check_pictures(splits, limit=5000)
    return splits


def guess(root: str | Path) -> str:
    """The key of DATASETS that the files below `root` speak for; "folder" when none of the benchmarks
    fits."""
    base = Path(root).expanduser().absolute()
    places = [base, *sorted(path for path in base.iterdir() if path.is_dir())] if base.is_dir() else []
    for place in places:
        if (place / "street.json").is_file():
            return "street"
        if (place / "info" / "tracks_train_info.mat").is_file():
            return "mars"
        if (place / "test_track.txt").is_file():
            return "veri"
        if all((place / part).is_dir() for part in ("train", "query", "gallery")) and any(
            is_duke_frame(files[0]) for _, files in walk(place / "query")
        ):
            return "duke"
    return "folder"


def _inside(base: Path, dataset: Dataset) -> Path:
    """The data set's own folder: `base`, or its child with an official name."""
    if not dataset.marks:
        return base
    children = sorted(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    named = [path for path in children if path.name.lower() in dataset.folders or not dataset.folders]
    for place in (base, *named):
        if any((place / mark).exists() for mark in dataset.marks):
            return place
    raise VKDError(f"{base} does not look like {dataset.title}: expected {dataset.layout}.")


def _require_queries(splits: Splits) -> None:
    reason = why_no_query(splits, "v2v")
    reason = reason and why_no_query(splits, "i2v")
    if reason:
        raise VKDError(f"{splits.root} has 0 valid queries because {reason}; {remedy(splits, reason)}.")


def check_listed(splits: Splits) -> None:
    """Compare every listed picture with the listing of its directory: one listing per directory, no stat
    per file.

    Raises FileNotFoundError naming the first missing picture and how many there are.
    """
    listings: dict[str, set[str]] = {}
    missing: list[str] = []
    total = 0
    for path in splits.pictures():
        total += 1
        directory, _, file = path.rpartition("/")
        listing = listings.get(directory)
        if listing is None:
            listing = listings[directory] = _listing(Path(directory))
        if file not in listing:
            missing.append(path)
    if missing:
        raise MissingFileError(
            f"{missing[0]} is listed but missing ({len(missing)} of {total} pictures of {splits.root} are): "
            "unpack the archive again, correct the list, or pass check=False to read the lists alone."
        )


def _listing(directory: Path) -> set[str]:
    if not directory.is_dir():
        return set()
    with os.scandir(directory) as entries:
        return {entry.name for entry in entries}


def check_pictures(
    pictures: Splits | Iterable[str], *, limit: int | None = None, decode: bool = False
) -> int:
    """Open pictures and return how many were opened: all of them, or `limit` evenly spread ones.

    Reads each header and, for JPEG and PNG, whether the file ends where it should; `decode` decodes it
    altogether. Raises FileNotFoundError or ValueError naming the first bad file.
    """
    paths: Sequence[str] = list(pictures.pictures() if isinstance(pictures, Splits) else pictures)
    if limit is not None and len(paths) > limit:
        paths = [paths[index * len(paths) // limit] for index in range(limit)]
    for path in paths:
        fault = _fault(path, decode)
        if fault:
            raise VKDError(f"{path} {fault}: replace it or take it off the list.")
    return len(paths)


def _fault(path: str, decode: bool) -> str:
    """What is wrong with a picture file, "" if nothing is."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                return "is an empty file"
            file.seek(max(size - 4096, 0))
            tail = file.read()
            file.seek(0)
            with Image.open(file) as picture:
                end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(picture.format or "", b"")
                if end not in tail and _breaks_off(picture):
                    return "is cut off"
                if decode:
                    picture.load()
    except FileNotFoundError:
        raise MissingFileError(f"{path} is missing.") from None
    except UnidentifiedImageError:
        return "is not a picture"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"cannot be read as a picture ({error})"
    return ""


def _breaks_off(picture: Image.Image) -> bool:
    """Whether decoding runs out of data. Telephones append a film behind the end of a picture: then it does
    not."""
    try:
        picture.load()
    except (OSError, SyntaxError):
        return True
    return False


def summary(splits: Splits) -> list[dict[str, str | int | None]]:
    """One row per split: identities, tracklets, images, cameras (None: no labels), valid queries (query
    rows only).

    Valid queries of "query" are those of v2v, of "query images" those of i2v.
    """
    rows: list[dict[str, str | int | None]] = []
    protocols = {"query": "v2v", "query images": "i2v"}
    for part in ("train", "query", "gallery", "query images", "gallery images"):
        tracklets: tuple[Tracklet, ...] = getattr(splits, part.replace(" ", "_"))
        cameras = {t.camera for t in tracklets} - {UNKNOWN_CAMERA}
        rows.append(
            {
                "split": part,
                "identities": len({t.identity for t in tracklets}),
                "tracklets": len(tracklets),
                "images": sum(len(t.frames) for t in tracklets),
                "cameras": len(cameras) or None,
                "valid_queries": valid_queries(*splits.query_gallery(protocols[part]))
                if part in protocols
                else None,
            }
        )
    return rows


def summary_table(splits: Splits) -> str:
    """The summary as a Markdown table, with a line about the protocol."""
    rows = summary(splits)
    lines = [
        "| " + " | ".join(key.replace("_", " ") for key in rows[0]) + " |",
        "|---" + "|---:" * (len(rows[0]) - 1) + "|",
        *(
            "| " + " | ".join("–" if value is None else str(value) for value in row.values()) + " |"
            for row in rows
        ),
    ]
    if splits.queries_in_gallery:
        lines += ["", "Query tracklets are gallery items too; the gallery row does not count them."]
    return "\n".join(lines)


def mask_path(root: str | Path, frame: str | Path) -> Path:
    """Where the street keeps the subject mask (255: subject) of a frame below `root`."""
    return Path(root) / "masks" / Path(frame).relative_to(root).with_suffix(".png")
