"""Checks of a dataset's files, and its summary table. No torch here."""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from vkd.data.tracklets import UNKNOWN_CAMERA, Splits, Tracklet, valid_queries
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import evenly_spaced, is_lfs_pointer


def check_listed(splits: Splits) -> None:
    """Compares the frames with the listings of their directories, without a stat per file.

    Raises MissingFileError naming the first missing image and how many there are.
    """
    listings: dict[str, set[str]] = {}
    missing: list[str] = []
    total = 0
    for path in splits.frames():
        total += 1
        directory, _, file = path.rpartition("/")
        listing = listings.get(directory)
        if listing is None:
            listing = listings[directory] = _listing(Path(directory))
        if file not in listing:
            missing.append(path)
    if missing:
        raise MissingFileError(
            f"{missing[0]} is listed but missing ({len(missing)} of {total} images of {splits.root} are): "
            "unpack the archive again, correct the list, or pass check=False to read the lists alone."
        )


def _listing(directory: Path) -> set[str]:
    if not directory.is_dir():
        return set()
    with os.scandir(directory) as entries:
        return {entry.name for entry in entries}


def check_images(images: Splits | Iterable[str], *, limit: int | None = None, decode: bool = False) -> int:
    """Opens all images, or `limit` evenly spaced ones; returns how many.

    Reads each header and, for JPEG and PNG, whether the file ends where it should; `decode` decodes all of
    it. Raises MissingFileError or VKDError naming the first bad file.
    """
    paths: Sequence[str] = list(images.frames() if isinstance(images, Splits) else images)
    paths = paths if limit is None else evenly_spaced(paths, limit)
    for path in paths:
        if fault := _fault(path, decode):
            raise VKDError(f"{path} {fault}: replace it or remove it from the list.")
    return len(paths)


def _fault(path: str, decode: bool) -> str:
    """Returns what is wrong with an image file, "" if nothing is."""
    from PIL import Image, UnidentifiedImageError

    from vkd.io import formats

    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return "is not a file"
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                return "is an empty file"
            file.seek(max(size - 4096, 0))
            tail = file.read()
            file.seek(0)
            if is_lfs_pointer(tail):
                return "is a Git LFS pointer, not the image itself (run 'git lfs pull' in its repository)"
            try:
                with Image.open(file, formats=formats.FORMATS) as image:
                    formats.check_size(*image.size, image.format or "")
                    end = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}.get(
                        image.format or "", b""
                    )
            except VKDError:
                raise
            except Exception:  # metadata that Pillow cannot read says nothing about the image
                decode, end = True, b""
            file.seek(0)
            if (decode or end not in tail) and _is_truncated(file.read()):
                return "is cut off or damaged"
    except FileNotFoundError:
        raise MissingFileError(f"{path} is missing.") from None
    except UnidentifiedImageError:
        return "is not an image"
    except (OSError, VKDError) as error:
        return f"cannot be read as an image ({error})"
    return ""


def _is_truncated(data: bytes) -> bool:
    """True if decoding runs out of data. It does not where a phone appended a film to the image."""
    from PIL import UnidentifiedImageError

    from vkd.io import formats

    try:
        formats.open_image(data)[0].load()
    except (VKDError, UnidentifiedImageError):
        raise
    except Exception:  # decoders raise a different type for each way in which a file can be broken
        return True
    return False


def own_file_is_junk(
    queries: list[Tracklet], gallery: list[Tracklet], notes: list[str]
) -> tuple[list[Tracklet], list[Tracklet]]:
    """Gives a query and the gallery items with one of its files a camera of their own, if they have none.

    Such numbers lie below UNKNOWN_CAMERA, so that only those items are junk for the query. Equal bytes under
    two names get a note; only files of tracklets without a camera are compared.
    """
    unlabelled = [t for t in (*queries, *gallery) if t.camera <= UNKNOWN_CAMERA]
    if not unlabelled or not queries or not gallery:
        return queries, gallery
    keys = {frame: _file_key(frame) for t in (*queries, *gallery) for frame in t.frames}
    owners: dict[object, int] = {}
    labelled = []
    for number, query in enumerate(queries):
        cameras = [owners[keys[frame]] for frame in query.frames if keys[frame] in owners]
        own = cameras[0] if cameras else UNKNOWN_CAMERA - 1 - number
        own = query.camera if query.camera > UNKNOWN_CAMERA else own
        owners |= {keys[frame]: own for frame in query.frames}
        labelled.append(own)
    held: set[int] = set()
    items = []
    for item in gallery:
        camera = next((owners[keys[frame]] for frame in item.frames if keys[frame] in owners), None)
        if camera is not None:
            held.add(camera)
        items.append(
            item._replace(camera=camera) if camera is not None and item.camera <= UNKNOWN_CAMERA else item
        )
    if held:
        notes.append(
            f"{sum(own in held for own in labelled):,} queries are files of the gallery too: each is ignored "
            "in its own ranking."
        )
    renamed = _equal_bytes(queries, gallery, keys)
    if renamed:
        notes.append(
            f"{len(renamed):,} queries have an exact copy in the gallery under another name, such as "
            f"{renamed[0]}: they find themselves, and scores are too high."
        )
    queries = [q._replace(camera=own) if own in held else q for q, own in zip(queries, labelled, strict=True)]
    return queries, items


def _file_key(path: str) -> object:
    """Identifies a file by device and inode, however many links lead to it; a missing one by its path."""
    try:
        status = os.stat(path)  # noqa: PTH116 (a Path for each file is slow)
    except (OSError, ValueError):
        return os.path.normpath(path)
    return (status.st_dev, status.st_ino, status.st_size) if status.st_ino else os.path.normpath(path)


def _equal_bytes(queries: list[Tracklet], gallery: list[Tracklet], keys: dict[str, object]) -> list[str]:
    """Returns the query frames with the bytes of another gallery file; only files of equal size are read."""
    sizes: dict[int, list[str]] = {}
    for frame in (frame for t in gallery for frame in t.frames):
        if isinstance(key := keys[frame], tuple):
            sizes.setdefault(key[2], []).append(frame)
    digests: dict[object, bytes] = {}

    def digest(frame: str) -> bytes:
        if keys[frame] not in digests:
            try:
                digests[keys[frame]] = hashlib.sha256(Path(frame).read_bytes()).digest()
            except OSError:
                digests[keys[frame]] = frame.encode()
        return digests[keys[frame]]

    out = []
    for frame in (frame for t in queries if t.camera <= UNKNOWN_CAMERA for frame in t.frames):
        key = keys[frame]
        others = sizes.get(key[2], []) if isinstance(key, tuple) else []
        if any(keys[other] != key and digest(other) == digest(frame) for other in others):
            out.append(frame)
    return out


def summary(splits: Splits) -> list[dict[str, str | int | None]]:
    """Counts identities, tracklets, images, cameras (None: no labels) and valid queries of each split.

    Valid queries of "query" are those of v2v, of "query images" those of i2v.
    """
    rows: list[dict[str, str | int | None]] = []
    protocols = {"query": "v2v", "query images": "i2v"}
    for part in ("train", "query", "gallery", "query images", "gallery images"):
        tracklets: tuple[Tracklet, ...] = getattr(
            splits, part.replace(" ", "_").replace("gallery", "gallery_only")
        )
        cameras = {t.camera for t in tracklets if t.camera > UNKNOWN_CAMERA}
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
    """Returns the summary as a Markdown table, with a line about the protocol."""
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
        lines += ["", "The queries are gallery items too; the gallery row does not count them."]
    return "\n".join(lines)


def mask_path(root: str | Path, frame: str | Path) -> Path:
    """Returns the path of the street's subject mask (255: subject) of a frame below `root`."""
    return Path(root) / "masks" / Path(frame).relative_to(root).with_suffix(".png")
