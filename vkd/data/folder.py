"""Reader of own images: a plain folder or a CSV file, with or without camera labels. No torch here.

`<identity>/<camera>/…`, `<identity>/<camera>/<tracklet>/…` or `<identity>/…`; or a CSV with the columns path,
identity and, optionally, camera, tracklet and split. The images of one camera folder form one tracklet; an
image in the identity's own folder is a tracklet of one frame without a camera label.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vkd.data.checks import own_file_is_junk
from vkd.data.layouts import divide, labels_in_name, part_of
from vkd.data.scan import Omitted, check_utf8, visible, walk
from vkd.data.tables import LabelledImage, is_list, read_table
from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY, Splits, Tracklet, first_frames, is_junk
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.formats import IMAGE_SUFFIXES, TABLE_SUFFIXES


class FolderItems(NamedTuple):
    """All images of a folder or table as tracklets, the names of identities, and notes on what was read."""

    tracklets: Sequence[Tracklet]
    names: dict[int, str]
    notes: list[str]


def read_folder(root: Path, *, cameras: str = "auto", held_out: float = 0.5, seed: int = 0) -> Splits:
    """Reads own images as splits.

    Folders of parts (or values of the CSV column `split`; see `layouts.part_of` for the names understood)
    are taken as they are. Otherwise the share `held_out` of the identities is held out for testing; the
    choice depends on the identities' names and `seed` only, so it is the same on every machine. Queries are
    chosen in order of name. cameras "none" ignores camera labels, so that images of one camera may match
    each other. Unlabelled images (above the identity folders) are left out.
    """
    _check_mode(cameras)
    everything, notes = labelled_images(root)
    images = [image for image in everything if image.identity]
    if not images:
        raise VKDError(
            f"{root} has no labelled images: put them in <identity>/<camera>/ or <identity>/ folders, "
            "or list them in a CSV."
        )
    if len(images) < len(everything):
        notes.append(f"{len(everything) - len(images):,} images without an identity are left out.")
    parts, names = _tracklets(images, cameras)
    if "" in parts:
        chosen = _held_out(parts.pop(""), held_out, seed, names)
        parts["test"] = [*parts.get("test", ()), *chosen["test"]]
        parts["train"] = [*parts.get("train", ()), *chosen["train"]]
    query, gallery, returning = _query_and_gallery(root, parts, notes)
    query, gallery = own_file_is_junk(query, gallery, notes)
    singles = list(gallery) + [t._replace(frames=t.frames[1:]) for t in query if returning]
    train = parts.get("train", [])
    if shared := {t.identity for t in train} & {t.identity for t in query}:
        notes.append(f"{len(shared):,} identities are both trained on and searched for.")
    if parts.get("val"):
        notes.append(f"The val part ({len(parts['val']):,} tracklets) is neither trained on nor searched.")
    return Splits(
        name="folder",
        root=root,
        train=tuple(train),
        query=tuple(query),
        gallery_only=tuple(gallery),
        query_images=first_frames(query),
        gallery_only_images=tuple(t._replace(frames=(frame,)) for t in singles for frame in t.frames),
        queries_in_gallery=returning,
        names=names,
        val=tuple(parts.get("val", ())),
        notes=tuple(notes),
    )


def _query_and_gallery(
    root: Path, parts: dict[str, list[Tracklet]], notes: list[str]
) -> tuple[list[Tracklet], list[Tracklet], bool]:
    """Returns queries, gallery and whether queries are gallery items too; takes them out of `parts`."""
    query, gallery, test = (parts.pop(name, []) for name in ("query", "gallery", "test"))
    if not query and not gallery and not test and parts.get("train") and parts.get("val"):
        test = parts.pop("val")
        notes.append("There is no test part: the val part is searched instead.")
    if query and gallery and test:
        raise VKDError(f"{root} has the parts query, gallery and test: leave out test, or the other two.")
    if query and test:  # as bounding_box_test is the gallery of Market-1501
        gallery, test = test, []
    if bool(query) != bool(gallery):
        present, absent = ("query", "gallery") if query else ("gallery", "query")
        raise VKDError(f"{root} has a {present} part but no {absent} part: add it, or put both in test.")
    return choose_queries(test) if test else (query, gallery, False)


def folder_items(root: Path | str, *, cameras: str = "auto", confined: bool = False) -> FolderItems:
    """Returns all images of a folder or CSV, unlabelled ones too; `confined` as `read_table`."""
    images, notes = labelled_images(Path(root).expanduser().absolute(), confined=confined)
    parts, names = _tracklets(images, cameras)
    return FolderItems([tracklet for part in parts.values() for tracklet in part], names, notes)


def folder_tracklets(root: Path | str, *, cameras: str = "auto") -> tuple[list[Tracklet], dict[int, str]]:
    """Returns all images of a folder or CSV as tracklets, unlabelled ones too, and the identities' names."""
    items = folder_items(root, cameras=cameras)
    return list(items.tracklets), items.names


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


def _check_mode(cameras: str) -> None:
    if cameras not in ("auto", "none"):
        raise VKDError(f"Unknown camera mode {cameras!r} for a folder: choose 'auto' or 'none'.")


def _tracklets(images: list[LabelledImage], cameras: str) -> tuple[dict[str, list[Tracklet]], dict[int, str]]:
    """Returns part → tracklets, and identity → name. Identities are numbered over all parts."""
    _check_mode(cameras)
    identities = numbered({image.identity for image in images if image.identity}, first=1)
    numbers = numbered({image.camera for image in images if image.camera}, first=0)
    groups: dict[tuple[str, int, int, str], dict[str, None]] = {}
    for image in images:
        identity = identities.get(image.identity, UNKNOWN_IDENTITY)
        camera = UNKNOWN_CAMERA if cameras == "none" else numbers.get(image.camera, UNKNOWN_CAMERA)
        frames = groups.setdefault((image.split, identity, camera, image.group), {})
        frames[image.path] = None  # a table may list an image twice
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


def labelled_images(root: Path, *, confined: bool = False) -> tuple[list[LabelledImage], list[str]]:
    """Lists the images of a folder in natural order of path, or those of a CSV in its order; and notes."""
    check_utf8(str(root))
    if not root.exists():
        raise MissingFileError(f"{root} does not exist.")
    if root.is_file():
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise VKDError(f"{root} is neither a folder nor a CSV file.")
        return list(read_table(root, confined=confined)), []
    if not root.is_dir():
        raise VKDError(f"{root} is neither a folder nor a CSV file.")
    tables = visible(root, TABLE_SUFFIXES)
    folders = [path for path in visible(root) if path.is_dir()]
    if not tables and len(folders) == 1 and not visible(root, IMAGE_SUFFIXES):
        tables = visible(folders[0], TABLE_SUFFIXES)
    lists = [path for path in tables if is_list(path)]
    if len(lists) > 1:
        raise VKDError(f"{root} has {len(lists)} CSV files: give the path of the one to read.")
    if lists:
        images, notes = list(read_table(lists[0], confined=confined)), []
    else:
        omitted = Omitted()
        images, notes = _tree(root, omitted)
        if len(tables) == 1 and not images:
            list(read_table(tables[0]))  # raises what is wrong with it
        notes += [f"{path.name} is not a list of images and was not read." for path in tables]
        notes += omitted.notes()
    if not images:
        reason = f" {' '.join(notes)}" if notes else ""
        raise VKDError(f"{root} has no images (jpg, png, webp, bmp, tif, gif) in it or below it.{reason}")
    return images, notes


class _Folder(NamedTuple):
    levels: list[str]
    directory: str
    files: list[str]


def _tree(root: Path, omitted: Omitted) -> tuple[list[LabelledImage], list[str]]:
    base = root.as_posix().rstrip("/")
    folders = [
        _Folder(directory[len(base) + 1 :].split("/") if len(directory) > len(base) else [], directory, files)
        for directory, files in walk(root, omitted)
    ]
    folders.sort(key=lambda folder: [natural(part) for part in folder.levels])
    folders, notes = _unwrap(root, folders)
    top = list(dict.fromkeys(folder.levels[0] for folder in folders if folder.levels))
    division = divide(root, top)
    if division.parts:
        parts = ", ".join(f"{name} ({part})" for name, part in division.parts.items())
        notes.append(f"Parts: {parts}.")
    if division.omitted:
        notes.append(f"Folders that no protocol uses were passed over: {', '.join(division.omitted)}.")
    images: list[LabelledImage] = []
    by_name = 0
    for folder in folders:
        levels = folder.levels
        if levels and levels[0] in division.omitted:
            continue
        split = division.parts[levels[0]] if division.parts and levels else ""
        levels = levels[1:] if split else levels
        rows = list(_images(folder, split, levels))
        by_name += bool(rows and rows[0].group == rows[0].path and rows[0].camera)
        images += rows
    if by_name:
        notes.append("Identities and cameras were read from file names such as 0002_c1s1_000451_03.jpg.")
    if len(top) == 1 and not division.parts and len({i.camera for i in images if i.identity}) > 1:
        notes.append(f"All images lie in the folder {top[0]}, which was read as one identity.")
    return images, notes


def _unwrap(root: Path, folders: list[_Folder]) -> tuple[list[_Folder], list[str]]:
    """Leaves out a single folder around the parts. Raises VKDError for parts in one folder of several."""
    second: dict[str, set[str]] = {}
    for folder in folders:
        if len(folder.levels) > 1:
            second.setdefault(folder.levels[0], set()).add(part_of(folder.levels[1]))
    wrappers = [name for name, parts in second.items() if len(parts - {"", "val"}) > 1]
    if not wrappers or any(part_of(folder.levels[0]) for folder in folders if folder.levels):
        return folders, []
    if len(second) > 1 or any(len(folder.levels) < 2 for folder in folders):
        raise VKDError(f"{root}/{wrappers[0]} has the parts of a dataset in it: give that folder.")
    return [folder._replace(levels=folder.levels[1:]) for folder in folders], []


def _images(folder: _Folder, split: str, levels: list[str]) -> Iterable[LabelledImage]:
    """Yields the images of a folder whose levels below the part are identity, camera and tracklet."""
    identity, camera = (*levels[:2], "", "")[:2]
    # Names of one length sort the same either way, and much faster as plain text.
    same_length = len({len(file) for file in folder.files}) == 1
    files = sorted(folder.files) if same_length else sorted(folder.files, key=natural)
    named = [labels_in_name(file) for file in files] if not camera and labels_in_name(files[0]) else []
    by_name = bool(named) and all(
        labels and (not identity or _same_number(identity, labels[0])) for labels in named
    )
    for number, file in enumerate(files):
        path = f"{folder.directory}/{file}"
        who, where = identity, camera
        if by_name and (labels := named[number]):
            who, where = identity or labels[0], labels[1]
        who = "" if who.lower() in _NO_IDENTITY else who
        yield LabelledImage(path, who, where, folder.directory if camera else path, split)


_NO_IDENTITY = {"-1", "00-1", "unknown"}


def _same_number(name: str, number: str) -> bool:
    return name == number or (name.isdigit() and number.isdigit() and int(name) == int(number))
