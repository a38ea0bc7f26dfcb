"""The synthetic street: people walk past several cameras, and the pictures land on disk as a benchmark would.

Everything is drawn from seeds: the same arguments give the same bytes, with any number of processes.
"""

import json
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from vkd.io.errors import VKDError
from vkd.io.files import replace_dir, staging_dir
from vkd.synthetic.appearance import Look, look_alikes
from vkd.synthetic.camera import Camera, Picture, camera_ring
from vkd.synthetic.layouts import LAYOUTS, Track
from vkd.synthetic.motion import Moment, walk
from vkd.synthetic.render import render

__all__ = ["LAYOUTS", "Moment", "contact_sheet", "render", "write_street"]


class Walker(NamedTuple):
    """All tracklets of one person: what one process draws at a time."""

    look: Look
    tracks: tuple[Track, ...]
    seed: tuple[int, ...]
    rings: tuple[int, ...]
    """For each camera the ring that it is taken from."""


class Plan(NamedTuple):
    """What every process needs to know."""

    rings: tuple[tuple[Camera, ...], ...]
    size: tuple[int, int]
    difficulty: float
    masks: bool


def _unchanged(items: Iterable[Any]) -> Iterable[Any]:
    return items


def write_street(
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
    progress: Callable[[Iterable[Any]], Iterable[Any]] = _unchanged,
    workers: int | None = None,
) -> Path:
    """Draw a street and write it below `root`, in the layout of a benchmark; returns `root`.

    `group` people share their clothes. `size` is (height, width) in pixels; `difficulty` 0..1 makes
    members of a group more alike, cameras more different and boxes worse. Training and test identities
    are different people of different groups. Every test identity gives one query tracklet per camera
    (Duke: one in all, as there). MARS takes `distractors` (identity 0) and `junk` (identity -1) tracklets
    more. `masks` writes `masks/<path>.png`, 255 on the subject. `workers` processes share the work
    (default: this one does it all); the bytes do not depend on it. `progress` wraps the list of people.
    With `rings` above 1 a training identity's first camera is the first of one of that many rings, drawn
    for it, and so on; test identities meet a ring of their own, which no training picture shows. The folder
    appears under its name only when it is complete.

    Raises ValueError for arguments out of range and for a root that holds something.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("root", "progress", "workers")}
    root = Path(root)
    _check(root, arguments, workers)
    count = rings if rings == 1 else rings + 1  # the last is the test identities' own
    made = tuple(tuple(camera_ring(cameras, seed, difficulty, ring)) for ring in range(count))
    plan = Plan(made, (size[0], size[1]), difficulty, masks)
    walkers = _walkers(arguments)
    root.parent.mkdir(parents=True, exist_ok=True)
    with staging_dir(root) as unfinished:
        _draw_all(unfinished, plan, walkers, progress, workers or 1)
        tracks = [track for walker in walkers for track in walker.tracks]
        LAYOUTS[layout].tables(unfinished, tracks)
        _describe(unfinished, arguments, plan, walkers)
        replace_dir(unfinished, root)
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


def _walkers(a: dict[str, Any]) -> list[Walker]:
    """Everybody on the street with the tracklets to draw: junk, distractors, training, test identities."""
    layout, seed, walkers = LAYOUTS[a["layout"]], a["seed"], []
    own = (a["rings"] if a["rings"] > 1 else 0,) * a["cameras"]  # the ring of those who are not trained with
    per_camera = range(1, a["tracklets_per_camera"] + 1)

    def tracks(part: str, identity: int, where: Iterable[tuple[int, int]]) -> tuple[Track, ...]:
        made = []
        for order, (camera, number) in enumerate(where):
            query = part == "test" and identity > 0 and layout.query(identity, camera, number, a["cameras"])
            names = tuple(
                layout.name(part, identity, camera, number, f, order, query) for f in range(a["frames"])
            )
            made.append(Track(part, identity, camera, number, names, query))
        return tuple(made)

    for identity, count in ((-1, a["junk"]), (0, a["distractors"])):
        for k in range(count):
            look = look_alikes(np.random.default_rng([seed, 3, identity + 1, k]), 1, 0.0)[0]
            where = [(k % a["cameras"], k // a["cameras"] + 1)]
            walkers.append(Walker(look, tracks("test", identity, where), (seed, 4, identity + 1, k), own))
    first = 1
    for part, count in (("train", a["train_identities"]), ("test", a["test_identities"])):
        people: list[Look] = []
        for k in range(count):
            if k % a["group"] == 0:
                rng = np.random.default_rng([seed, 1, part == "test", k // a["group"]])
                people += look_alikes(rng, a["group"], a["difficulty"])
            where = [(camera, number) for camera in range(a["cameras"]) for number in per_camera]
            rings = own
            if part == "train" and a["rings"] > 1:
                drawn = np.random.default_rng([seed, 5, k]).integers(a["rings"], size=a["cameras"])
                rings = tuple(int(ring) for ring in drawn)
            walkers.append(Walker(people[k], tracks(part, first + k, where), (seed, 2, first + k), rings))
        first += count
    return walkers


def _draw_all(
    root: Path,
    plan: Plan,
    walkers: list[Walker],
    progress: Callable[[Iterable[Any]], Iterable[Any]],
    workers: int,
) -> None:
    folders = {(root / name).parent for walker in walkers for track in walker.tracks for name in track.frames}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        if plan.masks:
            (root / "masks" / folder.relative_to(root)).mkdir(parents=True, exist_ok=True)
    if workers == 1:
        for walker in progress(walkers):
            draw(root, plan, walker)
        return
    # spawn: the caller may have threads (torch), which a fork would not survive
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(draw, root, plan, walker) for walker in walkers]
        for done in progress(waiting):
            done.result()


def draw(root: Path, plan: Plan, walker: Walker) -> None:
    """Draw and write all frames of one person."""
    for track in walker.tracks:
        rng = np.random.default_rng([*walker.seed, track.camera, track.number])
        camera = plan.rings[walker.rings[track.camera]][track.camera]
        for name, moment in zip(
            track.frames, walk(rng, camera, len(track.frames), plan.difficulty), strict=True
        ):
            picture, mask = render(walker.look, camera, moment, plan.size)
            Image.fromarray(picture).save(root / name, quality=camera.quality)
            if plan.masks:
                Image.fromarray(mask.astype(np.uint8) * 255).save((root / "masks" / name).with_suffix(".png"))


def _describe(root: Path, arguments: dict[str, Any], plan: Plan, walkers: list[Walker]) -> None:
    """`street.json`: every argument, the cameras by ring (`views`), each identity's group, rings and look."""
    known = [walker for walker in walkers if walker.tracks[0].identity > 0]
    counts = {"train": 0, "test": 0}
    people = {}
    for walker in known:
        part, identity = walker.tracks[0].part, walker.tracks[0].identity
        people[str(identity)] = {
            "part": part,
            "group": counts[part] // arguments["group"],
            "rings": walker.rings,
            **asdict(walker.look),
        }
        counts[part] += 1
    text = {
        **arguments,
        "views": [[asdict(camera) for camera in ring] for ring in plan.rings],
        "people": people,
    }
    (root / "street.json").write_text(json.dumps(text, indent=1) + "\n")


def contact_sheet(
    *,
    group: int = 5,
    cameras: int = 6,
    size: tuple[int, int] = (128, 64),
    seed: int = 0,
    difficulty: float = 0.5,
) -> Picture:
    """One look-alike group as a labelled picture: a row for each identity, a column for each camera."""
    people = look_alikes(np.random.default_rng([seed, 1, True, 0]), group, difficulty)
    eyes = camera_ring(cameras, seed, difficulty)
    high, wide, edge, gap = size[0], size[1], 16, 2
    sheet = Image.new("RGB", (edge + cameras * (wide + gap), edge + group * (high + gap)), "white")
    label = ImageDraw.Draw(sheet)
    for row, look in enumerate(people):
        label.text((3, edge + row * (high + gap) + high // 2 - 6), chr(65 + row), "black")
        for column, camera in enumerate(eyes):
            rng = np.random.default_rng([seed, 5, row, column])
            picture, _ = render(look, camera, walk(rng, camera, 1, difficulty)[0], size)
            sheet.paste(Image.fromarray(picture), (edge + column * (wide + gap), edge + row * (high + gap)))
            if row == 0:
                label.text((edge + column * (wide + gap) + wide // 2 - 12, 2), f"cam {column + 1}", "black")
    return np.asarray(sheet)
