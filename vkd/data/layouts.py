"""Names of parts, labels in file names, and trees that look like a benchmark. No torch here."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vkd.data.scan import walk
from vkd.io.errors import VKDError
from vkd.io.formats import is_ignored

PARTS = ("train", "query", "gallery", "test", "val")
"""Parts of own images; `test` is divided into query and gallery, or is the gallery of a query part."""

_NAMES = {
    **dict.fromkeys(("train", "training", "trainall", "trainval", "boundingboxtrain", "bboxtrain"), "train"),
    **dict.fromkeys(("query", "queries", "probe", "probes"), "query"),
    "gallery": "gallery",
    **dict.fromkeys(("test", "testing", "boundingboxtest", "bboxtest"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}
_WORD = re.compile(
    r"(?:^|[^a-z])(train|training|query|probe|gallery|test|testing|val|valid|validation)(?![a-z])"
)
_REPEATS = ("trainall", "trainval")
"""Training and validation part together; passed over where the training part is there by itself."""
_EXTRAS = ("multiquery", "gtbbox", "gtquery", "pytorch")
"""Folders beside the parts of Market-1501 and its copies that no protocol here uses."""


def _plain(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return (
        re.sub(r"(?<=.)(sets?|images?|imgs?|data|split|part)$", "", plain) if plain not in _NAMES else plain
    )


def part_of(name: str) -> str:
    """Returns the key of PARTS that a folder or a value names, in any letter case; "" for any other name."""
    plain = re.sub(r"^images?(?=train|query|test)", "", _plain(name))
    return _NAMES.get(plain, "")


class Division(NamedTuple):
    """How folders stand for parts: folder → key of PARTS, and the folders that are passed over."""

    parts: dict[str, str]
    omitted: tuple[str, ...] = ()


def divide(root: Path, folders: Sequence[str]) -> Division:
    """Decides which folders of `root` are parts. Raises VKDError, naming a folder, where that is unclear."""
    parts = {name: part for name in folders if (part := part_of(name))}
    if not set(parts.values()) - {"val"}:
        named = [name for name in folders if name in parts or _WORD.search(name.lower())]
        if len(named) > 1 or (parts and len(parts) == len(folders)):
            raise VKDError(
                f"{root} has folders that look like parts of a dataset, such as {named[0]}: name them "
                f"{', '.join(PARTS)}, or give one of them by itself."
            )
        return Division({})
    plain = {name: _plain(name) for name in folders}
    repeated = [name for name in folders if plain[name] in _REPEATS]
    if len(repeated) < list(parts.values()).count("train"):
        parts = {name: part for name, part in parts.items() if name not in repeated}
    else:
        repeated = []
    omitted = [*repeated, *(name for name in folders if plain[name] in _EXTRAS)]
    others = [name for name in folders if name not in parts and name not in omitted]
    if others:
        raise VKDError(
            f"{root} has the parts {', '.join(parts)} and beside them the folder {others[0]}, which is not "
            f"the name of a part ({', '.join(PARTS)}): rename it or move it elsewhere."
        )
    for part in set(parts.values()):
        same = [name for name in parts if parts[name] == part]
        if len(same) > 1:
            raise VKDError(
                f"{root} has {len(same)} folders for the part {part}: {', '.join(same)}. Keep one."
            )
    if {"query", "gallery", "test"} <= set(parts.values()):
        test = next(name for name in parts if parts[name] == "test")
        raise VKDError(
            f"{root} has the parts query and gallery, and {test} beside them: rename or move {test}."
        )
    return Division(parts, tuple(omitted))


_MARKET_FRAME = re.compile(r"(-1|\d+)_c(\d+)(?:s\d+)?_")


def labels_in_name(file: str) -> tuple[str, str] | None:
    """Returns identity and camera in a name such as 0002_c1s1_000451_03.jpg (Market-1501, VeRi), or None."""
    match = _MARKET_FRAME.match(file)
    return (match[1], match[2]) if match else None


# Benchmarks

_DUKE_FRAME = re.compile(r"(\d+)_?C(\d+)(?![\dT])")
_MARS_FRAME = re.compile(r"(\d{4}|00-1)C\dT\d{4}F\d{3}")


def duke_labels(file: str) -> tuple[int, int] | None:
    """Returns identity and camera (from 1) of a frame of Duke-Video-ReID under its new or old name, or None.

    New: 0001_C1_F0001_X7.jpg. Old: 0001C1F0001X7.jpg.
    """
    match = _DUKE_FRAME.match(file)
    return (int(match[1]), int(match[2])) if match else None


_MARS_FILES = (
    *("info/train_name.txt", "info/test_name.txt", "info/tracks_train_info.mat", "info/tracks_test_info.mat"),
    "info/query_IDX.mat",
)
_LISTED = {
    "MARS": ({"bbox_train", "bbox_test"}, _MARS_FILES),
    "VeRi-776": (
        {"image_train", "image_test", "image_query", "name_train.txt", "name_query.txt", "name_test.txt"},
        ("test_track.txt", "name_train.txt", "name_query.txt"),
    ),
}
"""Benchmark → entries by which it is recognised without its lists, and the lists that it needs."""

_CAMERA = re.compile(r"cam(era)?[-_ ]?[a-z0-9]{1,3}")
_OTHERS = {
    "MSMT17": ({"list_train.txt", "list_query.txt"}, {"list_gallery.txt", "list_query.txt"}),
    "CUHK03": ({"cuhk-03.mat"}, {"cuhk03_release"}, {"images_detected"}, {"images_labeled"}),
    "PRID-2011": ({"multi_shot"},),
    "iLIDS-VID": ({"i-lids-vid"}, {"sequences", "images"}),
    "PRCC": ({"rgb", "sketch"},),
}
"""Benchmark without a reader here → sets of entries of which one lies in its folder."""


def unreadable_benchmark(folder: Path) -> str:
    """Returns which benchmark a folder looks like that no reader takes, and what is missing; "" for none.

    The text ends a sentence that begins with the folder. Readable benchmarks are recognised elsewhere.
    """
    try:
        names = {path.name.lower() for path in folder.iterdir() if not is_ignored(path.name)}
    except OSError:
        return ""
    for title, (marks, needed) in _LISTED.items():
        if names & marks:
            missing = ", ".join(file for file in needed if not (folder / file).is_file())
            return f"looks like {title}, but these files are missing: {missing}. Add them from its archive"
    for title, sets in _OTHERS.items():
        if any(entries <= names for entries in sets):
            return (
                f"looks like {title}, whose layout is not read: arrange its images as <identity>/<camera>/ "
                "folders, or list them in a CSV with path, identity, camera and split"
            )
    folders = [name for name in names if (folder / name).is_dir()]
    if len(folders) > 1 and all(map(_CAMERA.fullmatch, folders)):
        return (
            f"has a folder for each camera ({min(folders)}, …), as iLIDS-VID and PRID-2011 do, not for each "
            "identity: arrange its images as <identity>/<camera>/ folders, or list them in a CSV"
        )
    return _by_frames(folder)


def _by_frames(folder: Path) -> str:
    """Recognises a benchmark, or a piece of one, by the name of an image and of the folders above it."""
    for number, (directory, files) in enumerate(walk(folder)):
        if number == 3:
            break
        above = directory[len(folder.as_posix()) :].split("/")[1:]
        if _MARS_FRAME.match(files[0]) and above[-1:] == [files[0][:4]]:
            return f"looks like frames of MARS, which need {', '.join(_MARS_FILES)}: give the folder of these"
        labels = duke_labels(files[0])
        numbered = len(above) >= 2 and above[-1].isdigit() and above[-2].isdigit()
        if labels and numbered and int(above[-2]) == labels[0]:
            return (
                "looks like Duke-Video-ReID, but it needs query/ and gallery/, each with "
                "<identity>/<tracklet>/ folders: give the folder that has them"
            )
    return ""
