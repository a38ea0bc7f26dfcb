"""Actions of the Retrieve tab: search a gallery with teacher and student, and save the ranked lists."""

import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from markupsafe import Markup

from vkd.io.errors import VKDError
from vkd.io.files import evenly_spaced
from vkd.retrieval import results
from vkd.retrieval.gallery import Gallery, Hit
from vkd.ui import components, html, inputs, limits, mode, state
from vkd.ui.errors import show_errors
from vkd.ui.query_tab import QueryTab
from vkd.ui.retrieve import distribution
from vkd.ui.retrieve.distribution import Distribution
from vkd.ui.state import AppPaths

MAX_K = 200
EMPTY = html.empty_state(
    "Query the gallery",
    "Upload one image of a person, several images or a short video of the same person, or click an example. "
    "The best matches of the teacher and of the student appear here, side by side.",
)
NO_GALLERY = html.empty_state(
    "No gallery yet",
    "A gallery is the set of images that is searched. Open 'Build a gallery' in the form, give a dataset, an "
    "image folder or a zip, and press Build.",
)


class Ranked(NamedTuple):
    """The ranked list of one model (part: teacher or student)."""

    part: str
    model: str
    hits: list[Hit]
    distribution: Distribution | None


class Answer(NamedTuple):
    """The query as read, the gallery and the ranked lists."""

    query: inputs.Query
    gallery: Gallery
    ranked: list[Ranked]


def rank(
    paths: AppPaths,
    images: list[Any] | None,
    gallery: str,
    teacher: str | None,
    student: str | None,
    top_k: float,
    cameras: Sequence[str] | None,
    rerank: bool,
    fpr: str = distribution.DEFAULT,
) -> Answer:
    """Searches with both models; arguments as in `search`. Raises VKDError."""
    query = inputs.read_query(paths, inputs.image_files(images))
    index = state.load_gallery(state.gallery_folder(paths, gallery))
    allowed, k = camera_numbers(cameras), int(top_k)
    if not 1 <= k <= MAX_K:
        raise VKDError(f"Top-k must be between 1 and {MAX_K}, not {k}.")
    ranked = []
    for part, name in (("teacher", teacher), ("student", student)):
        if not name:
            continue
        model = state.gallery_model(paths, name, index)
        hits = index.search(
            name,
            model.embed([query.images])[0],
            k=k,
            cameras=allowed,
            identity=query.identity,
            camera=query.camera,
            rerank=bool(rerank),
        )
        pairs = index.pairs(name)
        ranked.append(
            Ranked(part, name, hits, distribution.distribution_at(pairs, fpr or distribution.DEFAULT))
        )
    if not ranked:
        raise VKDError("No model is selected: choose a teacher or a student under 'Models and gallery'.")
    return Answer(query, index, ranked)


def camera_numbers(texts: Sequence[str] | None) -> set[int] | None:
    """Parses camera numbers as chosen or typed; None for all cameras."""
    numbers = [str(text).lower().removeprefix("camera").strip() for text in texts or []]
    invalid = [number for number in numbers if not number.isdecimal()]
    if invalid:
        raise VKDError(f"'{invalid[0][:80]}' is not a camera: give its number, for instance 3.")
    return {int(number) for number in numbers} or None


@limits.rate_limited
@mode.on_gpu
@show_errors
def search(
    paths: AppPaths,
    images: list[Any] | None,
    gallery: str,
    teacher: str | None,
    student: str | None,
    top_k: float,
    cameras: list[str] | None,
    rerank: bool,
    fpr: str = distribution.DEFAULT,
) -> tuple[str, dict[str, Any]]:
    """Search a gallery for the person in the query images, with the teacher and with the student.

    One image is an image query; several images, or a short video, are the frames of one tracklet. Names are
    plain text: `gallery`, `teacher` and `student` are folder names, `cameras` are numbers as text (empty:
    all), `fpr` is the false-positive rate of the decision threshold (10 %, 1 % or 0.1 %). Answers with the
    page's HTML and with the ranked lists as JSON: rank (null for junk), item, similarity (cosine), fpr (share
    of the gallery's impostor pairs that are at least this similar), identity, camera, name, verdict.
    """
    started = time.perf_counter()
    answer = rank(paths, images, gallery, teacher, student, top_k, cameras, rerank, fpr)
    data = as_data(answer)
    return as_html(answer, gallery, time.perf_counter() - started), data


@components.downloads(like=search)
def save_csv(paths: AppPaths, images: list[Any] | None, *choices: Any) -> tuple[bytes, str]:
    """Save the ranked lists of `search`, with the same arguments, as a CSV file."""
    answer = rank(paths, images, *choices)
    text = results.table({one.model: one.hits for one in answer.ranked})
    return text.encode("utf-8-sig"), "vkd-matches.csv"


@components.downloads(like=search)
def save_png(paths: AppPaths, images: list[Any] | None, *choices: Any) -> tuple[bytes, str]:
    """Save the ranked lists of `search`, with the same arguments, as a PNG image."""
    answer, file = rank(paths, images, *choices), io.BytesIO()
    lists = {f"{one.part.capitalize()} {one.model}": one.hits for one in answer.ranked}
    results.image(headline(answer.query), answer.query.arrays, lists).save(file, "PNG")
    return file.getvalue(), "vkd-matches.png"


# ---- the answer as JSON and HTML


def as_data(answer: Answer) -> dict[str, Any]:
    """Returns the ranked lists and thresholds as JSON."""
    return {
        one.part: {
            "network": one.model,
            "threshold": distribution.as_data(one.distribution),
            "hits": [
                _row(hit, rank, one.distribution)
                for hit, rank in zip(one.hits, results.ranks(one.hits), strict=True)
            ],
        }
        for one in answer.ranked
    }


def _row(hit: Hit, rank: int | None, pairs: Distribution | None) -> dict[str, Any]:
    fpr = None if pairs is None else distribution.false_positive_rate(pairs, hit.similarity)
    return {
        "rank": rank,
        "item": hit.item,
        "similarity": round(hit.similarity, 4),
        "fpr": None if fpr is None else round(fpr, 6),
        "identity": hit.identity,
        "camera": hit.camera,
        "name": hit.name,
        "verdict": hit.verdict,
    }


def headline(query: inputs.Query) -> str:
    """Returns 'Image query: identity 6 · camera 2', or 'Tracklet query, 8 frames: unlabelled query'."""
    count = len(query.images)
    kind = "Image query" if count == 1 else f"Tracklet query, {count} frames"
    if query.identity is None:
        return f"{kind}: unlabelled query"
    return f"{kind}: {html.identity_label(query.identity, -1 if query.camera is None else query.camera)}"


def summary(hits: Sequence[Hit]) -> str:
    """Returns 'first correct match: rank 1 · 3/10 correct (P@10 30 %)', without junk."""
    counted = [hit.verdict == "correct" for hit in hits if hit.verdict in ("correct", "incorrect")]
    if not counted:
        return ""
    correct, total = sum(counted), len(counted)
    ranks = [rank for hit, rank in zip(hits, results.ranks(hits), strict=True) if hit.verdict == "correct"]
    first = f"first correct match: rank {ranks[0]}" if ranks else "no correct match"
    return f"{first} · {correct}/{total} correct (P@{total} {100 * correct / total:.0f} %)"


def as_html(answer: Answer, gallery: str, seconds: float) -> str:
    """Renders the answer: the query as the models see it, then a column for each model."""
    columns = [
        {
            "part": one.part,
            "model": one.model,
            "summary": summary(one.hits),
            "figure": distribution.figure(one.distribution, one.hits),
            "cards": [
                _card(hit, rank, one.distribution)
                for hit, rank in zip(one.hits, results.ranks(one.hits), strict=True)
            ],
        }
        for one in answer.ranked
    ]
    duration = f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    return html.render(
        "matches.html.j2",
        headline=headline(answer.query),
        detail=f"{gallery}: {len(answer.gallery)} tracklets · cosine · {duration}",
        views=[html.array_uri(view, height=144) for view in answer.query.arrays[:8]],
        labelled=any(hit.verdict != "unknown" for one in answer.ranked for hit in one.hits),
        columns=columns,
    )


def _card(hit: Hit, rank: int | None, pairs: Distribution | None) -> dict[str, Any]:
    """Returns what `matches.html.j2` shows of a match."""
    file = Path(hit.frames[0]).name if hit.frames else ""
    thumbnails = evenly_spaced(hit.thumbnails or (hit.thumbnail,), html.STRIP_VIEWS)
    return {
        "hit": hit,
        "rank": rank,
        "label": html.identity_label(hit.identity, hit.camera, hit.name, file),
        "images": [html.file_uri(path) for path in thumbnails if path.is_file()],
        "cut": None if pairs is None else pairs.threshold.similarity,
        "fpr": distribution.fpr_text(pairs, hit.similarity),
    }


# ---- the page


def welcome(paths: AppPaths) -> Markup:
    """Renders what to do first."""
    if not state.gallery_folders(paths):
        return NO_GALLERY if state.checkpoints(paths) else html.NO_MODEL
    return EMPTY


def _steps(paths: AppPaths, *choices: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    yield search(paths, *choices)


def _missing(paths: AppPaths, images: list[Any] | None, *choices: Any) -> str:
    return "" if images else welcome(paths)


TAB = QueryTab(_steps, _missing, "Search failed")


def refresh(
    paths: AppPaths,
    images: list[Any] | None,
    gallery: str | None,
    teacher: str | None,
    student: str | None,
    cameras: list[str] | None,
) -> list[Any]:
    """Returns updates with the galleries, checkpoints and cameras there are now, and what to do first."""
    names = [folder.name for folder in state.gallery_folders(paths)]
    chosen = gallery if gallery in names else next(iter(names), None)
    return [
        gr.update(choices=names, value=chosen),
        *components.refresh_models(paths, teacher, student),
        _camera_update(paths, chosen or "", cameras),
        gr.skip() if images else welcome(paths),
    ]


def follow_gallery(
    paths: AppPaths, gallery: str | None, teacher: str | None, student: str | None, cameras: list[str] | None
) -> list[Any]:
    """Returns updates with models and cameras that fit the gallery just chosen."""
    folders = {folder.name: folder for folder in state.gallery_folders(paths)}
    indexed = state.load_gallery(folders[gallery]).networks if gallery in folders else []
    models = []
    for stage, name in (("teacher", teacher), ("student", student)):
        fitting = [other for other in state.checkpoints(paths, stage) if other in indexed]
        models.append(gr.skip() if name in indexed or not indexed else (fitting or [""])[0])
    return [*models, _camera_update(paths, gallery or "", cameras)]


def _camera_update(paths: AppPaths, gallery: str, chosen: list[str] | None) -> Any:
    cameras = state.gallery_cameras(paths, gallery)
    selected = [camera for camera in chosen or [] if camera in cameras]
    return gr.update(choices=cameras, value=selected, visible=bool(cameras))
