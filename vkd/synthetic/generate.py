"""Generator of the synthetic street: people walk past several cameras, written as a benchmark would be.

Everything is drawn from seeds: the same arguments give the same bytes, with any number of processes.
"""

import json
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vkd.io.errors import VKDError
from vkd.io.files import replace_dir, staging_dir
from vkd.io.grids import Cell, Row, grid
from vkd.io.progress import Progress, silent, track
from vkd.synthetic.appearance import Appearance, lookalike_group
from vkd.synthetic.camera import Camera, camera_ring
from vkd.synthetic.layouts import LAYOUTS, Track
from vkd.synthetic.motion import sample_walk
from vkd.synthetic.render import render


class PersonTracks(NamedTuple):
    """All tracklets of one person: the unit of work of a process."""

    appearance: Appearance
    tracks: tuple[Track, ...]
    seed: tuple[int, ...]
    rings: tuple[int, ...]
    """Index of the ring of each camera."""


class RenderSettings(NamedTuple):
    """Settings that all processes share."""

    rings: tuple[tuple[Camera, ...], ...]
    size: tuple[int, int]
    difficulty: float
    masks: bool


def generate_street(
    root: str | Path,
    *,
    layout: str = "mars",
    train_identities: int = 60,
    test_identities: int = 50,
    group: int = 5,
    cameras: int = 6,
    rings: int = 1,
    frames: int = 8,
    tracklets_per_camera: int = 1,
    size: tuple[int, int] = (128, 64),
    seed: int = 0,
    difficulty: float = 0.5,
    distractors: int = 0,
    junk: int = 0,
    masks: bool = True,
    workers: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Generates a synthetic dataset below `root`; returns `root`, which appears only when it is complete.

    Args:
        layout: key of LAYOUTS, the benchmark whose files are written.
        train_identities: people to train on; they share no group with the test identities.
        test_identities: people to test on, with one query tracklet per camera (duke: one in all).
        group: number of people who share their clothes.
        cameras: number of cameras in a ring around the street.
        rings: above 1, each camera of a training identity comes from one of that many rings, drawn for it,
            and test identities meet another ring, which no training image shows.
        frames: images of a tracklet.
        tracklets_per_camera: tracklets of each identity in each camera.
        size: height and width in pixels.
        seed: seed of everything.
        difficulty: 0..1; more makes a group more alike, cameras more different and boxes worse.
        distractors: additional tracklets of identity 0 (mars only).
        junk: additional tracklets of identity -1 (mars only).
        masks: whether to write `masks/<path>.png`, 255 on the subject.
        workers: processes; the bytes do not depend on it.
        progress: called after each person.

    Raises VKDError for arguments out of range and for a root that is not empty.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("root", "workers", "progress")}
    root = Path(root)
    _check(root, arguments, workers)
    count = rings if rings == 1 else rings + 1  # the last is that of the test identities
    all_rings = tuple(tuple(camera_ring(cameras, seed, difficulty, ring)) for ring in range(count))
    settings = RenderSettings(all_rings, (size[0], size[1]), difficulty, masks)
    people = _sample_people(arguments)
    root.parent.mkdir(parents=True, exist_ok=True)
    with staging_dir(root) as folder:
        _render_all(folder, settings, people, progress, workers or 1)
        LAYOUTS[layout].tables(folder, [track for each in people for track in each.tracks])
        _describe(folder, arguments, settings, people)
        replace_dir(folder, root)
    return root


def _check(root: Path, a: dict[str, Any], workers: int | None) -> None:
    if a["layout"] not in LAYOUTS:
        raise VKDError(f"layout must be one of {', '.join(LAYOUTS)}, not {a['layout']!r}.")
    limits = {
        "train_identities": (1, 4999), "test_identities": (1, 4999), "group": (1, 1000), "cameras": (2, 9),
        "rings": (1, 100), "frames": (1, 999), "tracklets_per_camera": (1, 99), "distractors": (0, 999),
        "junk": (0, 999),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        if not low <= a[name] <= high:
            raise VKDError(f"{name} must be from {low} to {high}, not {a[name]}.")
    if not 0 <= a["difficulty"] <= 1:
        raise VKDError(f"difficulty must be from 0 to 1, not {a['difficulty']}.")
    if min(a["size"]) < 16 or max(a["size"]) > 1024:
        raise VKDError(f"size must be (height, width) from 16 to 1024 pixels, not {a['size']}.")
    if a["layout"] != "mars" and (a["distractors"] or a["junk"]):
        raise VKDError(f"Only the mars layout has distractors and junk, not {a['layout']}.")
    if workers is not None and workers < 1:
        raise VKDError(f"workers must be at least 1, not {workers}.")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise VKDError(f"{root} is not empty: choose another folder or delete it first.")


def _sample_people(a: dict[str, Any]) -> list[PersonTracks]:
    """Samples everybody with their tracklets: junk, distractors, training and test identities."""
    seed, people = a["seed"], []
    last_ring = (a["rings"] if a["rings"] > 1 else 0,) * a["cameras"]
    for identity, count in ((-1, a["junk"]), (0, a["distractors"])):
        for k in range(count):
            person = lookalike_group(np.random.default_rng([seed, 3, identity + 1, k]), 1, 0.0)[0]
            tracks = _tracks(a, "test", identity, [(k % a["cameras"], k // a["cameras"] + 1)])
            people.append(PersonTracks(person, tracks, (seed, 4, identity + 1, k), last_ring))
    per_camera = range(1, a["tracklets_per_camera"] + 1)
    cameras = [(camera, number) for camera in range(a["cameras"]) for number in per_camera]
    identity = 1
    for part, count in (("train", a["train_identities"]), ("test", a["test_identities"])):
        group: list[Appearance] = []
        for k in range(count):
            if k % a["group"] == 0:
                rng = np.random.default_rng([seed, 1, part == "test", k // a["group"]])
                group = lookalike_group(rng, a["group"], a["difficulty"])
            rings = last_ring
            if part == "train" and a["rings"] > 1:
                drawn = np.random.default_rng([seed, 5, k]).integers(a["rings"], size=a["cameras"])
                rings = tuple(int(ring) for ring in drawn)
            tracks = _tracks(a, part, identity, cameras)
            people.append(PersonTracks(group[k % a["group"]], tracks, (seed, 2, identity), rings))
            identity += 1
    return people


def _tracks(
    a: dict[str, Any], part: str, identity: int, cameras: Iterable[tuple[int, int]]
) -> tuple[Track, ...]:
    """Names the frames of an identity's tracklets; `cameras` holds camera and number of each."""
    layout, tracks = LAYOUTS[a["layout"]], []
    for order, (camera, number) in enumerate(cameras):
        query = part == "test" and identity > 0 and layout.query(identity, camera, number, a["cameras"])
        names = [layout.name(part, identity, camera, number, f, order, query) for f in range(a["frames"])]
        tracks.append(Track(part, identity, camera, number, tuple(names), query))
    return tuple(tracks)


def _render_all(
    root: Path, settings: RenderSettings, people: list[PersonTracks], progress: Progress, workers: int
) -> None:
    for folder in {(root / name).parent for each in people for one in each.tracks for name in one.frames}:
        folder.mkdir(parents=True, exist_ok=True)
        if settings.masks:
            (root / "masks" / folder.relative_to(root)).mkdir(parents=True, exist_ok=True)
    if workers == 1:
        for person in track(people, progress, "Rendering"):
            render_person(root, settings, person)
        return
    # spawn: the caller may have threads (torch), which a fork would not survive
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(render_person, root, settings, person) for person in people]
        try:
            for future in track(futures, progress, "Rendering"):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def render_person(root: Path, settings: RenderSettings, person: PersonTracks) -> None:
    """Renders and writes all frames of one person."""
    for one in person.tracks:
        rng = np.random.default_rng([*person.seed, one.camera, one.number])
        camera = settings.rings[person.rings[one.camera]][one.camera]
        states = sample_walk(rng, camera, len(one.frames), settings.difficulty)
        for name, state in zip(one.frames, states, strict=True):
            image, mask = render(person.appearance, camera, state, settings.size)
            Image.fromarray(image).save(root / name, quality=camera.quality)
            if settings.masks:
                Image.fromarray(mask.astype(np.uint8) * 255).save((root / "masks" / name).with_suffix(".png"))


def _describe(
    root: Path, arguments: dict[str, Any], settings: RenderSettings, people: list[PersonTracks]
) -> None:
    """Writes `street.json`: all arguments, the cameras by ring (`views`), each identity's appearance."""
    counts = {"train": 0, "test": 0}
    identities = {}
    for person in people:
        part, identity = person.tracks[0].part, person.tracks[0].identity
        if identity > 0:
            group = counts[part] // arguments["group"]
            identities[str(identity)] = {
                "part": part, "group": group, "rings": person.rings, **asdict(person.appearance),
            }  # fmt: skip
            counts[part] += 1
    views = [[asdict(camera) for camera in ring] for ring in settings.rings]
    text = {**arguments, "views": views, "people": identities}
    (root / "street.json").write_text(json.dumps(text, indent=1) + "\n")


def contact_sheet(
    *,
    group: int = 5,
    cameras: int = 6,
    size: tuple[int, int] = (128, 64),
    seed: int = 0,
    difficulty: float = 0.5,
) -> Image.Image:
    """Renders one look-alike group as a captioned grid: a row per identity, a column per camera."""
    people = lookalike_group(np.random.default_rng([seed, 1, True, 0]), group, difficulty)
    ring = camera_ring(cameras, seed, difficulty)
    rows = []
    for number, person in enumerate(people):
        cells = []
        for column, camera in enumerate(ring):
            rng = np.random.default_rng([seed, 5, number, column])
            image, _ = render(person, camera, sample_walk(rng, camera, 1, difficulty)[0], size)
            cells.append(Cell(image, f"camera {column + 1}"))
        rows.append(Row(cells, f"identity {number + 1}"))
    return grid(rows, height=size[0], min_width=0)
