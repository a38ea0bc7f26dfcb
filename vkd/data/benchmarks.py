"""Readers of the published benchmarks, from the files of their official archives. No torch here.

Each reader takes the dataset's folder and returns `Splits`; none of them touches an image file, so half a
million frame names are read in a second or two. Whether the images exist is checked separately (`checks`).
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from vkd.data.layouts import duke_labels
from vkd.data.scan import child, walk
from vkd.data.tracklets import Splits, Tracklet, first_frames
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import refuse_lfs_pointer

if TYPE_CHECKING:
    import numpy as np

_NO_TRAIN = "The training part is missing: this copy can be evaluated, but not trained on."


def read_mars(root: Path, *, queries_in_gallery: bool = True) -> Splits:
    """Reads MARS: `bbox_train`, `bbox_test` and the five files of `info`.

    Track rows are (start, end, identity, camera), 1-based and inclusive, cameras from 1. Identity -1 is
    junk and dropped; identity 0 is a distractor and stays in the gallery. The query image is the first
    frame of the query tracklet. The published protocol counts query tracklets as gallery items too (without
    them 140 of the 1980 queries have no match), which `queries_in_gallery=False` turns off.
    """
    info = root / "info"
    lists = (info / "train_name.txt", info / "tracks_train_info.mat")
    evaluation_only = not any(path.exists() for path in (root / "bbox_train", *lists))
    train = [] if evaluation_only else _mars_tracks(root, "bbox_train", *lists)
    test = _mars_tracks(root, "bbox_test", info / "test_name.txt", info / "tracks_test_info.mat")
    rows = _matrix(info / "query_IDX.mat").ravel() - 1
    for index in rows:
        if not (0 <= index < len(test)) or test[index] is None:
            raise VKDError(
                f"{info / 'query_IDX.mat'} names track {index + 1}, which tracks_test_info.mat does not have "
                "or marks as junk."
            )
    queries = tuple(track for index in rows if (track := test[index]) is not None)
    query_rows = set(rows.tolist())
    gallery = tuple(
        track for index, track in enumerate(test) if track is not None and index not in query_rows
    )
    return Splits(
        name="mars",
        root=root,
        train=tuple(track for track in train if track is not None),
        query=queries,
        gallery_only=gallery,
        query_images=first_frames(queries),
        gallery_only_images=first_frames(gallery),
        queries_in_gallery=queries_in_gallery,
        notes=(_NO_TRAIN,) if evaluation_only else (),
    )


def _mars_tracks(root: Path, folder: str, names_file: Path, rows_file: Path) -> list[Tracklet | None]:
    """Returns one entry per row of the track table; None for junk (identity -1)."""
    names = _lines(names_file)
    rows = _matrix(rows_file)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise VKDError(
            f"{rows_file} holds a table of shape {rows.shape}; expected rows of start, end, identity, camera."
        )
    prefix = f"{root.as_posix()}/{folder}/"
    tracks: list[Tracklet | None] = []
    for number, (start, end, identity, camera) in enumerate(rows.tolist(), 1):
        if not 1 <= start <= end <= len(names):
            raise VKDError(
                f"{rows_file} row {number} has the frames {start} to {end}, "
                f"but {names_file} has {len(names)} names."
            )
        if identity == -1:
            tracks.append(None)
            continue
        files = names[start - 1 : end]
        for name in (files[0], files[-1]):
            if name[:4].isdigit() and int(name[:4]) != identity:
                raise VKDError(
                    f"{rows_file} row {number} is identity {identity}, but {names_file} has {name} there: "
                    "the two files do not belong together."
                )
        frames = tuple([f"{prefix}{name[:4]}/{name}" for name in files])
        tracks.append(Tracklet(frames, identity, camera - 1))
    return tracks


def read_duke(root: Path, *, grouping: str = "adjacent") -> Splits:
    """Reads Duke-Video-ReID: `train`, `query`, `gallery` of `<identity>/<tracklet>/<id>_C<camera>_….jpg`.

    grouping "adjacent" joins neighbouring tracklets of one identity and camera in path order, as the
    published numbers were made; "folder" keeps each folder a tracklet of its own. Without `train` there is
    nothing to train on, and the rest can be evaluated.
    """
    if grouping not in ("adjacent", "folder"):
        raise VKDError(f"Unknown grouping {grouping!r} for Duke-Video-ReID: choose 'adjacent' or 'folder'.")
    train_folder = child(root, "train")
    train = tuple(_duke_tracks(train_folder, grouping)) if train_folder.exists() else ()
    query, gallery = (tuple(_duke_tracks(child(root, part), grouping)) for part in ("query", "gallery"))
    return Splits(
        name="duke",
        root=root,
        train=train,
        query=query,
        gallery_only=gallery,
        query_images=first_frames(query),
        gallery_only_images=first_frames(gallery),
        notes=() if train else (_NO_TRAIN,),
    )


def is_duke(folder: Path) -> bool:
    """True for a folder with the query and gallery parts of Duke-Video-ReID."""
    query, gallery = (child(folder, part) for part in ("query", "gallery"))
    frames = islice(walk(query), 50) if query.is_dir() and gallery.is_dir() else ()
    return any(duke_labels(files[0]) for _, files in frames)


def _duke_tracks(folder: Path, grouping: str) -> Iterator[Tracklet]:
    if not folder.is_dir():
        raise MissingFileError(
            f"{folder} is missing: Duke-Video-ReID needs the folders train, query and gallery."
        )
    # Paths are ordered part by part, not as strings: "0001/a" and "0001-b" must not interleave.
    frames = [(directory, file) for directory, files in walk(folder) for file in files]
    labelled = []
    for directory, file in sorted(frames, key=lambda frame: [*frame[0].split("/"), frame[1]]):
        labels = duke_labels(file)
        if labels is None:
            raise VKDError(
                f"{directory}/{file} does not look like a Duke-Video-ReID frame (<identity>_C<camera>_….jpg)."
            )
        group = directory if grouping == "folder" else ""
        labelled.append(((group, labels[0], labels[1] - 1), f"{directory}/{file}"))
    for (_, identity, camera), group in groupby(labelled, key=lambda entry: entry[0]):
        yield Tracklet(tuple([path for _, path in group]), identity, camera)


def read_veri(root: Path) -> Splits:
    """Reads VeRi-776: `name_train.txt`, `name_query.txt`, `test_track.txt` and the three image folders.

    A training tracklet is all images of one vehicle under one camera. A line of `test_track.txt` begins with
    the track's name (`0002_c002_1.jpg` or the name of its first image; only identity and camera are taken
    from it), then its images. The query tracklet of a query image is the first gallery track of that vehicle
    and camera; an image without one is a query of the image protocols only.
    """
    names = sorted(_lines(root / "name_train.txt"))
    train = tuple(
        Tracklet(tuple([_inside(root, "image_train", file) for file in files]), *key)
        for key, files in groupby(names, key=lambda file: _vehicle(file, root / "name_train.txt"))
    )
    gallery = tuple(_veri_tracks(root))
    queries = [(file, _vehicle(file, root / "name_query.txt")) for file in _lines(root / "name_query.txt")]
    first: dict[tuple[int, int], Tracklet] = {}
    for track in gallery:
        first.setdefault((track.identity, track.camera), track)
    return Splits(
        name="veri",
        root=root,
        train=train,
        query=tuple(first[key] for _, key in queries if key in first),
        gallery_only=gallery,
        query_images=tuple(Tracklet((_inside(root, "image_query", file),), *key) for file, key in queries),
        gallery_only_images=tuple(
            Tracklet((frame,), t.identity, t.camera) for t in gallery for frame in t.frames
        ),
    )


def _veri_tracks(root: Path) -> Iterator[Tracklet]:
    tracks = root / "test_track.txt"
    for number, line in enumerate(_lines(tracks), 1):
        # Some copies of the file end each line with a space and some do not; split() takes both.
        track, *files = line.split()
        if not files:
            raise VKDError(f"{tracks} line {number} has the track {track} but none of its images.")
        yield Tracklet(tuple([_inside(root, "image_test", file) for file in files]), *_vehicle(track, tracks))


def _vehicle(file: str, source: Path) -> tuple[int, int]:
    match = re.match(r"(\d+)_c(\d+)_", file)
    if match is None:
        raise VKDError(f"{source} has the entry {file!r}; expected <vehicle>_c<camera>_….jpg.")
    return int(match[1]), int(match[2]) - 1


def read_street(root: Path) -> Splits:
    """Reads the synthetic street, in the benchmark's layout that `street.json` names."""
    layout = "mars"
    description = root / "street.json"
    if description.is_file():
        try:
            layout = json.loads(description.read_text())["layout"]
        except (ValueError, KeyError, TypeError) as error:
            raise VKDError(f"{description} is damaged ({error}): generate the street again.") from error
    readers: dict[str, Callable[[Path], Splits]] = {"mars": read_mars, "duke": read_duke, "veri": read_veri}
    if layout not in readers:
        raise VKDError(f"{description} gives the layout {layout!r}; expected mars, duke or veri.")
    return replace(readers[layout](root), name="street")


def _inside(root: Path, folder: str, file: str) -> str:
    return f"{root.as_posix()}/{folder}/{file}"


def _lines(path: Path) -> list[str]:
    """Returns the lines of a name list, stripped, without empty ones."""
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: it belongs to the dataset's archive.")
    refuse_lfs_pointer(path)
    try:
        lines = [line for line in map(str.strip, path.read_text(encoding="utf-8-sig").split("\n")) if line]
    except UnicodeDecodeError as error:
        raise VKDError(f"{path} is not a text file ({error.reason} at byte {error.start}).") from error
    if not lines:
        raise VKDError(f"{path} is empty.")
    return lines


def _matrix(path: Path) -> "np.ndarray":
    """Returns the one numeric table of a MATLAB file, as integers."""
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: it belongs to the dataset's archive.")
    refuse_lfs_pointer(path)
    import numpy as np
    from scipy.io import loadmat  # takes a fifth of a second to import

    try:
        content = loadmat(path)
    except Exception as error:  # scipy raises a different type for each way in which a file can be broken
        raise VKDError(f"{path} cannot be read as a MATLAB file ({error}).") from error
    tables = [value for key, value in content.items() if not key.startswith("__")]
    if len(tables) != 1 or not np.issubdtype(tables[0].dtype, np.number) or tables[0].size == 0:
        raise VKDError(f"{path} should hold one table of numbers; it holds {len(tables)} variables.")
    if not np.isfinite(tables[0]).all():
        raise VKDError(f"{path} holds values that are not numbers.")
    return tables[0].astype(np.int64)
