"""Reader of own images: a plain folder or a CSV file, with or without camera labels. No torch here.

`<identity>/<camera>/…`, `<identity>/<camera>/<tracklet>/…` or `<identity>/…`; or a CSV with the columns path,
identity and, optionally, camera, tracklet and split. The images of one camera folder form one tracklet; an
image in the identity's own folder is a tracklet of one frame without a camera label.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vkd.data.benchmarks import walk
from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY, Splits, Tracklet, first_frames, is_junk
from vkd.io.errors import MissingFileError, VKDError

PARTS = ("train", "query", "gallery", "test")
"""Sub-folders (or values of the CSV column `split`); `test` is divided into query and gallery."""

COLUMNS = {
    "path": ("path", "file", "filename", "image", "picture"),
    "identity": ("identity", "id", "pid", "label", "person", "vehicle"),
    "camera": ("camera", "cam", "camid", "camera_id"),
    "tracklet": ("tracklet", "track", "tracklet_id", "track_id"),
    "split": ("split", "part", "subset"),
}


class LabelledImage(NamedTuple):
    """An image with its labels as written, "" where missing. Images of equal `group` form a tracklet."""

    path: str
    identity: str
    camera: str
    group: str
    split: str


def read_folder(root: Path, *, cameras: str = "auto", held_out: float = 0.5, seed: int = 0) -> Splits:
    """Reads own images as splits.

    Sub-folders `train`, `query` and `gallery` (or `train` and `test`; or the CSV column `split`) are taken
    as they are. Otherwise the share `held_out` of the identities is held out for testing; the choice depends
    on the identities' names and `seed` only, so it is the same on every machine. Queries are chosen in order
    of name. cameras "none" ignores camera labels, so that images of one camera may match each other.
    Unlabelled images (above the identity folders) are left out.
    """
    images = [image for image in labelled_images(root) if image.identity]
    if not images:
        raise VKDError(
            f"{root} has no labelled images: put them in <identity>/<camera>/ or <identity>/ folders, "
            "or list them in a CSV."
        )
    parts, names = _tracklets(images, cameras)
    if "" in parts:
        chosen = _held_out(parts.pop(""), held_out, seed, names)
        parts["test"] = [*parts.get("test", ()), *chosen["test"]]
        parts["train"] = [*parts.get("train", ()), *chosen["train"]]
    query, gallery = parts.get("query", []), parts.get("gallery", [])
    if bool(query) != bool(gallery):
        present, absent = ("query", "gallery") if query else ("gallery", "query")
        raise VKDError(f"{root} has a {present} part but no {absent} part: add it, or put both in test.")
    returning = False
    if "test" in parts and not query:
        query, gallery, returning = choose_queries(parts["test"])
    singles = list(gallery) + [t._replace(frames=t.frames[1:]) for t in query if returning]
    return Splits(
        name="folder",
        root=root,
        train=tuple(parts.get("train", ())),
        query=tuple(query),
        gallery_only=tuple(gallery),
        query_images=first_frames(query),
        gallery_only_images=tuple(t._replace(frames=(frame,)) for t in singles for frame in t.frames),
        queries_in_gallery=returning,
        names=names,
    )


def folder_tracklets(root: Path | str, *, cameras: str = "auto") -> tuple[list[Tracklet], dict[int, str]]:
    """Returns all images of a folder or CSV as tracklets, unlabelled ones too, and the identities' names."""
    parts, names = _tracklets(labelled_images(Path(root).expanduser().absolute()), cameras)
    return [tracklet for part in parts.values() for tracklet in part], names


def choose_queries(tracklets: list[Tracklet]) -> tuple[list[Tracklet], list[Tracklet], bool]:
    """Divides test tracklets into queries and gallery; also returns whether queries are gallery items too.

    With camera labels: the first tracklet of each identity and camera is a query if another camera saw the
    identity; a query's own tracklet is junk for it, so queries return to the gallery as in MARS. Without:
    the first tracklet of an identity that leaves a match behind, and it must stay out of the gallery, where
    it would find itself.
    """
    returning = all(t.camera != UNKNOWN_CAMERA for t in tracklets)
    cameras = _cameras_of(tracklets)
    queries, gallery, seen = [], [], set()
    for tracklet in tracklets:
        key = (tracklet.identity, tracklet.camera if returning else None)
        if key not in seen and _has_match(tracklet.camera, cameras[tracklet.identity]):
            seen.add(key)
            queries.append(tracklet)
        else:
            gallery.append(tracklet)
    return queries, gallery, returning


def _cameras_of(tracklets: list[Tracklet]) -> dict[int, Counter[int]]:
    """Counts the tracklets of each identity by camera."""
    cameras: dict[int, Counter[int]] = {}
    for tracklet in tracklets:
        cameras.setdefault(tracklet.identity, Counter())[tracklet.camera] += 1
    return cameras


def _has_match(camera: int, cameras: Counter[int]) -> bool:
    """True if a tracklet of this camera has a match among the others of its identity."""
    others = cameras - Counter([camera])
    return any(not is_junk(0, camera, 0, other) for other in others)


def _held_out(
    tracklets: list[Tracklet], share: float, seed: int, names: dict[int, str]
) -> dict[str, list[Tracklet]]:
    """Divides identities into train and test, those with a match and those without separately."""
    if not 0 < share <= 1:
        raise VKDError(f"held_out is {share}; it is the share of test identities: above 0, at most 1.")
    cameras = _cameras_of(tracklets)
    matched = {identity for identity, own in cameras.items() if any(_has_match(c, own) for c in own)}
    test: set[int] = set()
    for kind in (matched, cameras.keys() - matched):
        ordered = sorted(kind, key=lambda i: hashlib.sha256(f"{seed}/{names[i]}".encode()).digest())
        test |= set(ordered[: max(round(share * len(ordered)), int(kind is matched))])
    return {
        "train": [t for t in tracklets if t.identity not in test],
        "test": [t for t in tracklets if t.identity in test],
    }


def _tracklets(images: list[LabelledImage], cameras: str) -> tuple[dict[str, list[Tracklet]], dict[int, str]]:
    """Returns part → tracklets, and identity → name. Identities are numbered over all parts."""
    if cameras not in ("auto", "none"):
        raise VKDError(f"Unknown camera mode {cameras!r} for a folder: choose 'auto' or 'none'.")
    identities = numbered({image.identity for image in images if image.identity}, first=1)
    numbers = numbered({image.camera for image in images if image.camera}, first=0)
    groups: dict[tuple[str, int, int, str], list[str]] = {}
    for image in images:
        identity = identities.get(image.identity, UNKNOWN_IDENTITY)
        camera = UNKNOWN_CAMERA if cameras == "none" else numbers.get(image.camera, UNKNOWN_CAMERA)
        groups.setdefault((image.split, identity, camera, image.group), []).append(image.path)
    parts: dict[str, list[Tracklet]] = {}
    for (split, identity, camera, _), frames in groups.items():
        parts.setdefault(split, []).append(Tracklet(tuple(frames), identity, camera))
    return parts, {number: name for name, number in identities.items()}


def numbered(names: Iterable[str], first: int) -> dict[str, int]:
    """Numbers names: by themselves if all are distinct integers, else from `first` in natural order."""
    ordered = sorted(names, key=natural)
    if all(re.fullmatch(r"[0-9]{1,9}", name) for name in ordered):
        own = {name: int(name) for name in ordered}
        if len(set(own.values())) == len(own) and min(own.values(), default=0) >= 0:
            return own
    return {name: number for number, name in enumerate(ordered, first)}


def natural(name: str) -> list[str | int]:
    """Returns a sorting key by which frame2 comes before frame10."""
    return [int(part) if odd % 2 else part for odd, part in enumerate(re.split(r"([0-9]+)", name))]


def labelled_images(root: Path) -> list[LabelledImage]:
    """Lists the images of a folder in natural order of path, or those of a CSV in its order."""
    if not root.exists():
        raise MissingFileError(f"{root} does not exist.")
    if root.is_file():
        if root.suffix.lower() not in (".csv", ".tsv"):
            raise VKDError(f"{root} is neither a folder nor a CSV file.")
        return list(_table(root))
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    if len(tables) > 1:
        raise VKDError(f"{root} has {len(tables)} CSV files: give the path of the one to read.")
    images = list(_table(tables[0]) if tables else _tree(root))
    if not images:
        raise VKDError(f"{root} has no images (jpg, png, webp, bmp, tif, gif) in it or below it.")
    return images


def _tree(root: Path) -> Iterator[LabelledImage]:
    base = root.as_posix()
    folders = [(directory[len(base) + 1 :], directory, files) for directory, files in walk(root)]
    folders.sort(key=lambda folder: [natural(part) for part in folder[0].split("/")])
    for relative, directory, files in folders:
        levels = relative.split("/") if relative else []
        split = levels.pop(0) if levels and levels[0] in PARTS else ""
        identity, camera = (*levels[:2], "", "")[:2]
        # Names of one length sort the same either way, and much faster as plain text.
        same_length = len({len(file) for file in files}) == 1
        for file in sorted(files) if same_length else sorted(files, key=natural):
            path = f"{directory}/{file}"
            yield LabelledImage(path, identity, camera, directory if camera else path, split)


def _table(table: Path) -> Iterator[LabelledImage]:
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise VKDError(f"{table} is not a UTF-8 text file ({error.reason}).") from error
    header = lines[0] if lines else ""
    rows = csv.DictReader(lines, delimiter=next((mark for mark in "\t;" if mark in header), ","))
    columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    labels = {
        key: columns[word] for key, words in COLUMNS.items() for word in reversed(words) if word in columns
    }
    if "path" not in labels or "identity" not in labels:
        raise VKDError(
            f"{table} has the columns {', '.join(columns) or '(none)'}; it needs path and identity, "
            "and may have camera, tracklet and split."
        )
    for number, row in enumerate(rows, 2):
        values = {key: (row.get(column) or "").strip() for key, column in labels.items()}
        split = values.get("split", "").lower()
        if not values["path"] or split not in ("", *PARTS):
            fault = f"the split {split!r} (train, query, gallery or test)" if values["path"] else "no path"
            raise VKDError(f"{table} line {number} has {fault}.")
        path = (table.parent / values["path"]).as_posix()
        camera, tracklet = values.get("camera", ""), values.get("tracklet", "")
        group = tracklet or (camera and "one tracklet for each camera") or path
        yield LabelledImage(path, values["identity"], camera, group, split)
