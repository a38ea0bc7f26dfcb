"""The gallery and the query pictures that ship with the demo pair, made from a street's held-out people."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vkd.data.datasets import mask_path, read
from vkd.data.tracklets import Tracklet
from vkd.io.errors import VKDError
from vkd.io.files import replace_dir, staging_dir
from vkd.models import checkpoint
from vkd.retrieval import storage
from vkd.retrieval.gallery import Gallery

GALLERY, QUERIES = "street-gallery", "street-queries"
VIEWS = 4
"""Frames of each gallery tracklet that are embedded and kept as thumbnails: small enough to ship."""


class Shown(NamedTuple):
    """A query to ship: the tracklet it comes from, how many of its pictures, and its look-alike group."""

    tracklet: Tracklet
    pictures: int
    group: int


def _all(items: Iterable[Any]) -> Iterable[Any]:
    return items


def build_demo(
    street_root: str | Path,
    teacher: str | Path,
    student: str | Path,
    out: str | Path,
    *,
    identities: int = 30,
    queries: int = 8,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = _all,
) -> tuple[Path, Path]:
    """Write `<out>/street-gallery` and `<out>/street-queries` (pictures, queries.json, masks); returns both.

    The gallery holds every tracklet of the first `identities` test people (whole look-alike groups, so that
    it is not easy), embedded by the checkpoints in `teacher` and `student`. Queries are spread evenly over
    people and cameras rather than picked for their result; every second one is a single picture, the others
    are four views. A row of queries.json is {file, identity, camera, group}.

    Raises FileNotFoundError or ValueError, as the street's reader, `checkpoint.load` and `Gallery.build` do.
    """
    street, out = Path(street_root), Path(out)
    splits = read("street", street)
    groups = _groups(street)
    _, items = splits.query_gallery("v2v")
    people = sorted({item.identity for item in items if item.identity > 0})[:identities]
    shown = choose_queries([item for item in splits.query if item.identity in set(people)], groups, queries)
    kept = [item for item in items if item.identity in set(people)]
    networks = {Path(folder).name: checkpoint.load(folder) for folder in (teacher, student)}
    gallery = Gallery.build(out / GALLERY, kept, networks, views=VIEWS, progress=progress)
    _forget_where(gallery.folder / "gallery.json", splits.root.absolute().parent)
    return gallery.folder, write_queries(out / QUERIES, shown, splits.root)


def _forget_where(path: Path, above: Path) -> None:
    """Frames by their place below `above`: what ships does not tell where it was made."""
    known = storage.read(path)
    frames = tuple(tuple(str(Path(frame).relative_to(above)) for frame in item) for item in known.frames)
    storage.write(path, replace(known, frames=frames))


def choose_queries(tracklets: Sequence[Tracklet], groups: dict[int, int], count: int) -> list[Shown]:
    """`count` query tracklets at equal distances over people, each from the next camera."""
    by_person: dict[int, list[Tracklet]] = {}
    for tracklet in tracklets:
        by_person.setdefault(tracklet.identity, []).append(tracklet)
    people = sorted(by_person)
    if not people:
        raise VKDError("The street has no query tracklets of the people in the gallery: write a larger one.")
    count = min(count, len(people))
    chosen = []
    for place in range(count):
        person = people[place * len(people) // count]
        seen = sorted(by_person[person], key=lambda tracklet: tracklet.camera)
        tracklet = seen[place % len(seen)]
        chosen.append(Shown(tracklet, 1 if place % 2 == 0 else VIEWS, groups.get(person, -1)))
    return chosen


def write_queries(folder: Path, shown: Sequence[Shown], street: Path | None = None) -> Path:
    """Copy the pictures, with the subject masks that the street at `street` has of them, and write
    queries.json; older queries in `folder` go when all is written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and not (folder / "queries.json").is_file():
        raise VKDError(
            f"{folder} holds something that is not a set of queries; choose another folder, or empty it."
        )
    with staging_dir(folder) as work:
        (work / "masks").mkdir()
        rows = []
        for query in shown:
            # Odd frames: the gallery's chunk rule takes the even ones.
            frames = (query.tracklet.frames[1::2] or query.tracklet.frames)[: query.pictures]
            for frame in frames:
                shutil.copyfile(frame, work / Path(frame).name)
                if street is not None and (mask := mask_path(street, frame)).is_file():
                    shutil.copyfile(mask, work / "masks" / mask.name)
                rows.append(
                    {
                        "file": Path(frame).name,
                        "identity": query.tracklet.identity,
                        "camera": query.tracklet.camera,
                        "group": query.group,
                    }
                )
        (work / "queries.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        if not any((work / "masks").iterdir()):
            (work / "masks").rmdir()
        replace_dir(work, folder)
    return folder


def _groups(street: Path) -> dict[int, int]:
    """Identity → look-alike group, out of street.json."""
    people = json.loads((street / "street.json").read_text(encoding="utf-8"))["people"]
    return {int(identity): int(person["group"]) for identity, person in people.items()}
