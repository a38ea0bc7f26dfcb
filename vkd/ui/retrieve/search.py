"""One search as the page, the API and the files show it: two ranked lists and where their scores stand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vkd.io.errors import VKDError
from vkd.retrieval import results
from vkd.retrieval.gallery import Gallery, Hit
from vkd.ui import html, inputs, state
from vkd.ui.retrieve import likeness
from vkd.ui.retrieve.likeness import Likeness
from vkd.ui.state import AppPaths


class Found(NamedTuple):
    """One network's list."""

    part: str
    network: str
    hits: list[Hit]
    likeness: Likeness | None


class Wanted(NamedTuple):
    """Where to search, with which networks, and how; as `vkd.ui.retrieve.search` takes them."""

    gallery: str
    teacher: str | None
    student: str | None
    top_k: float
    cameras: Sequence[str] | None
    rerank: bool
    strangers: str = likeness.DEFAULT


class Answer(NamedTuple):
    """The query as read, the gallery and what each network found in it."""

    query: inputs.Query
    gallery: Gallery
    found: list[Found]


def rank(paths: AppPaths, pictures: list[Any] | None, wanted: Wanted) -> Answer:
    """Search with both networks. Raises ValueError or FileNotFoundError with a sentence for a person."""
    query = inputs.read_query(paths, inputs.picture_files(pictures))
    shelf, keep = (
        state.load_gallery(state.gallery_folder(paths, wanted.gallery)),
        camera_numbers(wanted.cameras),
    )
    count = int(wanted.top_k)
    if not 1 <= count <= MOST:
        raise VKDError(f"Between 1 and {MOST} matches can be shown, not {count}.")
    found = []
    for part, name in (("teacher", wanted.teacher), ("student", wanted.student)):
        if not name:
            continue
        net = state.gallery_model(paths, name, shelf)
        hits = shelf.search(
            name,
            inputs.embed(net, query.pictures).numpy(),
            k=count,
            cameras=keep,
            identity=query.identity,
            camera=query.camera,
            rerank=bool(wanted.rerank),
        )
        found.append(Found(part, name, hits, likeness.of(shelf.pairs(name), wanted.strangers)))
    if not found:
        raise VKDError("No model is selected: choose a teacher or a student.")
    return Answer(query, shelf, found)


MOST = 200
"""Matches that can be shown."""


def camera_numbers(texts: Sequence[str] | None) -> set[int] | None:
    """Camera numbers as chosen or typed → a set, or None for all."""
    numbers = [str(text).lower().removeprefix("camera").strip() for text in texts or []]
    wrong = [number for number in numbers if not number.isdecimal()]
    if wrong:
        raise VKDError(f"'{wrong[0]}' is not a camera: give its number, for instance 3.")
    return {int(number) for number in numbers} or None


def headline(query: inputs.Query) -> str:
    """What was asked, in words."""
    count = len(query.pictures)
    kind = "Image query" if count == 1 else f"Tracklet query of {count} pictures"
    if query.identity is None:
        return f"{kind}: identity not known"
    return f"{kind}: {html.identity_label(query.identity, -1 if query.camera is None else query.camera)}"


def as_data(answer: Answer) -> dict[str, Any]:
    """The ranked lists and thresholds as JSON."""
    return {
        one.part: {
            "network": one.network,
            "threshold": likeness.as_data(one.likeness),
            "hits": [
                _row(hit, rank, one.likeness)
                for hit, rank in zip(one.hits, results.ranks(one.hits), strict=True)
            ],
        }
        for one in answer.found
    }


def _row(hit: Hit, rank: int | None, place: Likeness | None) -> dict[str, Any]:
    return {
        "rank": rank,
        "item": hit.item,
        "similarity": round(hit.similarity, 4),
        "strangers": None if place is None else round(likeness.passing(place, hit.similarity), 6),
        "identity": hit.identity,
        "camera": hit.camera,
        "name": hit.name,
        "verdict": hit.verdict,
    }


def as_html(answer: Answer, gallery: str, took: float) -> str:
    """The page's answer; `took` in seconds."""
    columns = []
    for one in answer.found:
        place = one.likeness
        words = [
            (likeness.short(place, hit.similarity), likeness.rarity(place, hit.similarity))
            for hit in one.hits
            if place is not None
        ]
        cut = None if place is None else place.threshold.similarity
        figure = likeness.figure(place, one.hits)
        columns.append(html.Column(one.part, one.network, one.hits, figure, cut, words))
    views = [html.array_uri(view, height=144) for view in views_of(answer.query)[:8]]
    detail = f"{len(answer.gallery)} gallery items in {gallery} · cosine similarity · {1000 * took:.0f} ms"
    return html.matches(headline(answer.query), detail, views, columns)


def views_of(query: inputs.Query) -> list[np.ndarray]:
    """The query's pictures as uint8 (H, W, 3)."""
    return [picture.permute(1, 2, 0).contiguous().numpy() for picture in query.pictures]
