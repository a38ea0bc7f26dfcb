"""Reader of one's own pictures: a plain folder or a CSV file, with or without camera labels. No torch here.

`<identity>/<camera>/…`, `<identity>/<camera>/<tracklet>/…` or `<identity>/…`; or a CSV with the columns
path, identity and, where known, camera, tracklet and split. The pictures of one camera folder form one
tracklet; a picture that lies in the identity's own folder is a tracklet of one frame without a camera
label.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vkd.data.benchmarks import walk
from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY, Splits, Tracklet, first_frames
from vkd.io.errors import MissingFileError, VKDError

PARTS = ("train", "query", "gallery", "test")
"""Sub-folders (or values of the CSV column `split`) that fix the splits; `test` is divided into query and
gallery."""

COLUMNS = {
    "path": ("path", "file", "filename", "image", "picture"),
    "identity": ("identity", "id", "pid", "label", "person", "vehicle"),
    "camera": ("camera", "cam", "camid", "camera_id"),
    "tracklet": ("tracklet", "track", "tracklet_id", "track_id"),
    "split": ("split", "part", "subset"),
}


class Picture(NamedTuple):
    """One picture with its labels as written; "" where there is none. Pictures of equal `group` form a
    tracklet."""

    path: str
    identity: str
    camera: str
    group: str
    split: str


def read_folder(root: Path, *, cameras: str = "auto", held_out: float = 0.5, seed: int = 0) -> Splits:
    """One's own pictures as splits.

    Sub-folders `train`, `query` and `gallery` (or `train` and `test`; or the CSV column `split`) are taken
    as they are. Otherwise the share `held_out` of the identities is set aside for testing; the choice
    depends on the identities' names and `seed` only, so it is the same on every machine. Queries are chosen
    in order of name. cameras "none" ignores camera labels, so that pictures of one camera may match each
    other. Unlabelled pictures (above the identity folders) are left out.
    """
    pictures = [picture for picture in labelled_pictures(root) if picture.identity]
    if not pictures:
        raise VKDError(
            f"{root} has no labelled pictures: put them in <identity>/<camera>/ or <identity>/ folders, "
            "or list them in a CSV."
        )
    parts, names = _tracklets(pictures, cameras)
    if "" in parts:
        chosen = _held_out(parts.pop(""), held_out, seed, names)
        parts["test"] = [*parts.get("test", ()), *chosen["test"]]
        parts["train"] = [*parts.get("train", ()), *chosen["train"]]
    query, gallery = parts.get("query", []), parts.get("gallery", [])
    if bool(query) != bool(gallery):
        there, absent = ("query", "gallery") if query else ("gallery", "query")
        raise VKDError(
            f"{root} has a {there} part but no {absent} part: add it, or put both together in test."
        )
    returning = False
    if "test" in parts and not query:
        query, gallery, returning = choose_queries(parts["test"])
    images = list(gallery) + [t._replace(frames=t.frames[1:]) for t in query if returning]
    return Splits(
        name="folder",
        root=root,
        train=tuple(parts.get("train", ())),
        query=tuple(query),
        gallery=tuple(gallery),
        query_images=first_frames(query),
        gallery_images=tuple(t._replace(frames=(frame,)) for t in images for frame in t.frames),
        queries_in_gallery=returning,
        names=names,
    )


def tracklets_of_folder(root: Path | str, *, cameras: str = "auto") -> list[Tracklet]:
    """All pictures of a folder or CSV as tracklets, unlabelled ones too (identity -1): what is to be
    searched."""
    return labelled_tracklets(root, cameras=cameras)[0]


def labelled_tracklets(root: Path | str, *, cameras: str = "auto") -> tuple[list[Tracklet], dict[int, str]]:
    """As `tracklets_of_folder`, with the name of each identity."""
    parts, names = _tracklets(labelled_pictures(Path(root).expanduser().absolute()), cameras)
    return [tracklet for part in parts.values() for tracklet in part], names


def choose_queries(tracklets: list[Tracklet]) -> tuple[list[Tracklet], list[Tracklet], bool]:
    """Test tracklets → queries, gallery and whether the queries are gallery items too.

    With camera labels: the first tracklet of each identity and camera is a query if another camera saw the
    identity; a query's own tracklet is junk for it, so queries return to the gallery as in MARS. Without:
    the first tracklet of an identity that leaves a match behind, and it must stay out of the gallery, where
    it would find itself.
    """
    returning = all(t.camera != UNKNOWN_CAMERA for t in tracklets)
    cameras = _cameras_of(tracklets)
    queries, gallery, asked = [], [], set()
    for tracklet in tracklets:
        key = (tracklet.identity, tracklet.camera if returning else None)
        if key not in asked and _findable(tracklet.camera, cameras[tracklet.identity]):
            asked.add(key)
            queries.append(tracklet)
        else:
            gallery.append(tracklet)
    return queries, gallery, returning


def _cameras_of(tracklets: list[Tracklet]) -> dict[int, Counter[int]]:
    """Identity → how many of its tracklets each camera gives."""
    cameras: dict[int, Counter[int]] = {}
    for tracklet in tracklets:
        cameras.setdefault(tracklet.identity, Counter())[tracklet.camera] += 1
    return cameras


def _findable(camera: int, cameras: Counter[int]) -> bool:
    """Whether a tracklet of this camera has a match among the others of its identity."""
    return cameras.total() > 1 if camera == UNKNOWN_CAMERA else len(cameras) > 1


def _held_out(
    tracklets: list[Tracklet], share: float, seed: int, names: dict[int, str]
) -> dict[str, list[Tracklet]]:
    """Train and test tracklets; identities that can be found again and the others are divided separately."""
    if not 0 < share <= 1:
        raise VKDError(
            f"held_out is {share}; it is the share of identities kept for testing: above 0, at most 1."
        )
    cameras = _cameras_of(tracklets)
    findable = {identity for identity, seen in cameras.items() if any(_findable(c, seen) for c in seen)}
    test: set[int] = set()
    for kind in (findable, cameras.keys() - findable):
        ordered = sorted(kind, key=lambda i: hashlib.sha256(f"{seed}/{names[i]}".encode()).digest())
        test |= set(ordered[: max(round(share * len(ordered)), int(kind is findable))])
    return {
        "train": [t for t in tracklets if t.identity not in test],
        "test": [t for t in tracklets if t.identity in test],
    }


def _tracklets(pictures: list[Picture], cameras: str) -> tuple[dict[str, list[Tracklet]], dict[int, str]]:
    """Part → tracklets, and identity → name. Numbers are shared by all parts."""
    if cameras not in ("auto", "none"):
        raise VKDError(f"Unknown camera mode {cameras!r} for a folder: choose 'auto' or 'none'.")
    identities = numbered({p.identity for p in pictures if p.identity}, first=1)
    seen = numbered({p.camera for p in pictures if p.camera}, first=0)
    groups: dict[tuple[str, int, int, str], list[str]] = {}
    for picture in pictures:
        identity = identities.get(picture.identity, UNKNOWN_IDENTITY)
        camera = UNKNOWN_CAMERA if cameras == "none" else seen.get(picture.camera, UNKNOWN_CAMERA)
        groups.setdefault((picture.split, identity, camera, picture.group), []).append(picture.path)
    parts: dict[str, list[Tracklet]] = {}
    for (split, identity, camera, _), frames in groups.items():
        parts.setdefault(split, []).append(Tracklet(tuple(frames), identity, camera))
    return parts, {number: name for name, number in identities.items()}


def numbered(names: Iterable[str], first: int) -> dict[str, int]:
    """Names → numbers: their own where all are different whole numbers, else counted from `first` in
    natural order."""
    ordered = sorted(names, key=natural)
    if all(re.fullmatch(r"[0-9]{1,9}", name) for name in ordered):
        own = {name: int(name) for name in ordered}
        if len(set(own.values())) == len(own) and min(own.values(), default=0) >= 0:
            return own
    return {name: number for number, name in enumerate(ordered, first)}


def natural(name: str) -> list[str | int]:
    """Sorting key by which frame2 comes before frame10."""
    return [int(part) if odd % 2 else part for odd, part in enumerate(re.split(r"([0-9]+)", name))]


def labelled_pictures(root: Path) -> list[Picture]:
    """Every picture of a folder or CSV with its labels, in natural order of path (a CSV: in its own
    order)."""
    if not root.exists():
        raise MissingFileError(f"{root} does not exist.")
    if root.is_file():
        if root.suffix.lower() not in (".csv", ".tsv"):
            raise VKDError(f"{root} is neither a folder nor a CSV file.")
        return list(_table(root))
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    if len(tables) > 1:
        raise VKDError(f"{root} has {len(tables)} CSV files: give the path of the one to read.")
    pictures = list(_table(tables[0]) if tables else _tree(root))
    if not pictures:
        raise VKDError(f"{root} has no pictures (jpg, png, webp, bmp, tif, gif) in it or below it.")
    return pictures


def _tree(root: Path) -> Iterator[Picture]:
    base = root.as_posix()
    found = [(directory[len(base) + 1 :], directory, files) for directory, files in walk(root)]
    for below, directory, files in sorted(
        found, key=lambda entry: [natural(part) for part in entry[0].split("/")]
    ):
        levels = below.split("/") if below else []
        split = levels.pop(0) if levels and levels[0] in PARTS else ""
        identity, camera = (*levels[:2], "", "")[:2]
        # Names of one length sort the same either way, and much faster as plain text.
        alike = len({len(file) for file in files}) == 1
        for file in sorted(files) if alike else sorted(files, key=natural):
            path = f"{directory}/{file}"
            yield Picture(path, identity, camera, directory if camera else path, split)


def _table(table: Path) -> Iterator[Picture]:
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise VKDError(f"{table} is not a UTF-8 text file ({error.reason}).") from error
    header = lines[0] if lines else ""
    rows = csv.DictReader(lines, delimiter=next((mark for mark in "\t;" if mark in header), ","))
    columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    known = {
        key: columns[word] for key, words in COLUMNS.items() for word in reversed(words) if word in columns
    }
    if "path" not in known or "identity" not in known:
        raise VKDError(
            f"{table} has the columns {', '.join(columns) or '(none)'}; it needs path and identity, "
            "and may have camera, tracklet and split."
        )
    for number, row in enumerate(rows, 2):
        values = {key: (row.get(column) or "").strip() for key, column in known.items()}
        split = values.get("split", "").lower()
        if not values["path"] or split not in ("", *PARTS):
            what = f"the split {split!r} (train, query, gallery or test)" if values["path"] else "no path"
            raise VKDError(f"{table} line {number} has {what}.")
        path = (table.parent / values["path"]).as_posix()
        camera, tracklet = values.get("camera", ""), values.get("tracklet", "")
        group = tracklet or (camera and "one tracklet for each camera") or path
        yield Picture(path, values["identity"], camera, group, split)
