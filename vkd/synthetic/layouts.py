"""File layouts of the benchmarks: image names, queries and tracklet lists, for writing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Track(NamedTuple):
    """A tracklet to be rendered."""

    part: str  # train, test
    identity: int  # -1 junk, 0 distractor
    camera: int  # from 0
    number: int  # from 1, among those of one identity and camera
    frames: tuple[str, ...]  # paths below the root
    query: bool


class Layout(NamedTuple):
    """A benchmark's image names, its queries and its tracklet lists."""

    name: Callable[[str, int, int, int, int, int, bool], str]
    query: Callable[[int, int, int, int], bool]
    tables: Callable[[Path, list[Track]], None]


def _mars_name(
    part: str, identity: int, camera: int, number: int, frame: int, _order: int, _query: bool
) -> str:
    label = "00-1" if identity < 0 else f"{identity:04d}"
    return f"bbox_{part}/{label}/{label}C{camera + 1}T{number:04d}F{frame + 1:03d}.jpg"


def _mars_tables(root: Path, tracks: list[Track]) -> None:
    """Writes name lists, and rows of (first, last, identity, camera), 1-based and inclusive."""
    import numpy as np

    info = root / "info"
    info.mkdir()
    for part in ("train", "test"):
        rows, names, queries = [], [], []
        for track in (track for track in tracks if track.part == part):
            rows.append((len(names) + 1, len(names) + len(track.frames), track.identity, track.camera + 1))
            names += [Path(frame).name for frame in track.frames]
            if track.query:
                queries.append(len(rows))
        (info / f"{part}_name.txt").write_text("".join(f"{name}\n" for name in names))
        _save(info / f"tracks_{part}_info.mat", f"track_{part}_info", np.array(rows, np.int32))
    _save(
        info / "query_IDX.mat", "query_IDX", np.array([queries], np.uint16 if len(rows) < 2**16 else np.int32)
    )


def _save(path: Path, name: str, table: "np.ndarray") -> None:
    from scipy.io import savemat  # takes a fifth of a second to import

    savemat(path, {name: table})
    with path.open("r+b") as file:  # SciPy writes the date here
        file.write(b"MATLAB 5.0 MAT-file, synthetic street".ljust(116))


def _duke_name(
    part: str, identity: int, camera: int, number: int, frame: int, order: int, query: bool
) -> str:
    folder = part if part == "train" else "query" if query else "gallery"
    time = 1000 * order + 12 * frame + 50
    file = f"{identity:04d}_C{camera + 1}_F{frame + 1:04d}_X{time:05d}.jpg"
    return f"{folder}/{identity:04d}/{order + 1:04d}/{file}"


def _veri_name(
    part: str, identity: int, camera: int, number: int, frame: int, order: int, _query: bool
) -> str:
    time = 10000 * number + 600 * order + 5 * frame
    return f"image_{part}/{identity:04d}_c{camera + 1:03d}_{time:08d}_{frame}.jpg"


def _veri_tables(root: Path, tracks: list[Track]) -> None:
    """Writes name lists, the track list, and the query images (copies of test images)."""
    (root / "image_query").mkdir()
    queries = []
    for track in tracks:
        if track.query:
            queries.append(Path(track.frames[0]).name)
            for folder in (root, root / "masks"):
                for source in folder.glob(f"image_test/{Path(queries[-1]).stem}.*"):
                    (folder / "image_query").mkdir(exist_ok=True)
                    shutil.copyfile(source, folder / "image_query" / source.name)
    for part in ("train", "test"):
        names = [Path(frame).name for track in tracks if track.part == part for frame in track.frames]
        (root / f"name_{part}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "name_query.txt").write_text("".join(f"{name}\n" for name in queries))
    lines = [
        f"{t.identity:04d}_c{t.camera + 1:03d}_{t.number}.jpg {' '.join(Path(f).name for f in t.frames)} \n"
        for t in tracks
        if t.part == "test"
    ]
    (root / "test_track.txt").write_text("".join(lines))


LAYOUTS: dict[str, Layout] = {
    "mars": Layout(_mars_name, lambda identity, camera, number, cameras: number == 1, _mars_tables),
    "duke": Layout(
        _duke_name, lambda identity, camera, number, cameras: number == 1 and identity % cameras == camera,
        lambda root, tracks: None,
    ),
    "veri": Layout(_veri_name, lambda identity, camera, number, cameras: number == 1, _veri_tables),
}  # fmt: skip
