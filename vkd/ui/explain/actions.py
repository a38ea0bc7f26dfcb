"""Actions of the Explain tab: heatmaps of teacher and student as HTML, JSON and PNG."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from markupsafe import Markup
from torch import Tensor

from vkd.explain.methods import METHODS
from vkd.explain.overlay import on_subject, overlay
from vkd.io.errors import VKDError
from vkd.io.grids import Cell, Row, grid
from vkd.io.images import read_image
from vkd.models.checkpoint import Checkpoint
from vkd.ui import components, html, inputs, limits, mode, state
from vkd.ui.errors import show_errors
from vkd.ui.explain import heatmaps
from vkd.ui.query_tab import QueryTab
from vkd.ui.state import AppPaths

TOP, CHOSEN, SECOND = "top identity", "chosen identity", "second image"
TARGETS = {
    TOP: "Top-1 class logit",
    CHOSEN: "Logit of a chosen class (training identity)",
    SECOND: "Similarity to a second image",
}
MAX_VIEWS = 8
EMPTY = html.empty_state(
    "Class activation maps",
    "Upload an image, or click an example. The regions that determine the output of the teacher and of the "
    "student appear here. With a second image the maps explain the similarity of the two.",
)
NO_SECOND = html.empty_state(
    "Second image",
    "Upload it in the form, or click an example, which becomes the second image. The maps then explain the "
    "similarity of the two.",
)
NO_IDENTITY = html.empty_state(
    "Identity ID", "Type the ID of a training identity and press Enter. The maps then explain its logit."
)
CANCELLED = html.empty_state("Cancelled", "Press Explain to compute again.")


class Explanation(NamedTuple):
    """One model's heatmaps of the images (V, H, W) and, for a similarity, of the second images."""

    part: str
    model: str
    value: float
    meaning: str
    on_mask: float | None
    """Share of the CAM mass on the person mask, mean over views; None where no mask is available."""
    maps: np.ndarray
    second_maps: np.ndarray | None


class Explained(NamedTuple):
    """The images, the explanations so far, and parts and models that are still to be computed."""

    images: list[Tensor]
    second: list[Tensor]
    explanations: list[Explanation]
    pending: list[tuple[str, str]]


class Request(NamedTuple):
    """Arguments of `explain`, parsed."""

    target: str
    method: str
    teacher: str | None
    student: str | None
    layer: str = ""
    identity: str = ""


def steps(
    paths: AppPaths, images: list[Any] | None, second: list[Any] | None, request: Request
) -> Iterator[Explained]:
    """Yields the explanations so far after each model. Raises VKDError."""
    query = inputs.read_query(paths, inputs.image_files(images)[:MAX_VIEWS])
    if request.target not in TARGETS:
        raise VKDError(f"'{request.target}' is not a target: choose one of {', '.join(TARGETS)}.")
    others: list[Tensor] = []
    if request.target == SECOND:
        files = inputs.image_files(second, what="second image")
        others = inputs.read_query(paths, files[:MAX_VIEWS]).images[:MAX_VIEWS]
    parts = (("teacher", request.teacher), ("student", request.student))
    pending = [(part, name) for part, name in parts if name]
    if not pending:
        raise VKDError("No model is selected: choose a teacher or a student under 'Models and method'.")
    explained = Explained(query.images[:MAX_VIEWS], others, [], pending)
    while explained.pending:
        (part, name), *pending = explained.pending
        model = state.load_model(state.checkpoint_folder(paths, name))
        one = _explain(part, name, model, explained, query.masks, request)
        explained = explained._replace(explanations=[*explained.explanations, one], pending=pending)
        yield explained


def _explain(
    part: str, name: str, model: Checkpoint, explained: Explained, masks: Sequence[Any], request: Request
) -> Explanation:
    target: Any = None
    if request.target == SECOND:
        target = model.embed([explained.second])[0]
    elif request.target == CHOSEN:
        target = class_index(model, name, request.identity)
    layer, second_maps = parse_layer(request.layer), None
    heat = heatmaps.compute(model, explained.images, target, request.method, layer)
    if explained.second:
        embedding = model.embed([explained.images])[0]
        second_maps = heatmaps.compute(model, explained.second, embedding, request.method, layer).maps
    meaning = _meaning(model, heat.class_index, request.target)
    return Explanation(part, name, heat.value, meaning, _on_mask(heat.maps, masks), heat.maps, second_maps)


def parse_layer(text: str) -> str | int | None:
    """Parses a layer: '' or 'last' is the last conv stage, a whole number a stage, else a layer's name."""
    text = (text or "").strip()
    if text.lower() in ("", "last"):
        return None
    return int(text) if text.lstrip("-").isdecimal() else text


def class_index(model: Checkpoint, name: str, identity: str) -> int:
    """Returns the class of a training identity, by its ID in the dataset where the checkpoint has them."""
    labels, text = model.config.labels, (identity or "").strip()
    identities = labels or range(model.config.identities)
    valid = f"{name} has {len(identities)} training identities, from {min(identities)} to {max(identities)}"
    if not text:
        raise VKDError(f"Give an identity ID: {valid}.")
    if not text.isdecimal() or int(text) not in identities:
        raise VKDError(f"'{text[:80]}' is not a training identity: {valid}.")
    return labels.index(int(text)) if labels else int(text)


def _meaning(model: Checkpoint, index: int, target: str) -> str:
    if index < 0:
        return "similarity to the second image (cosine)"
    labels = model.config.labels
    which = "top-1 class, " if target == TOP else ""
    return f"logit of {which}training identity {labels[index] if labels else index}"


def _on_mask(maps: np.ndarray, masks: Sequence[Path | None]) -> float | None:
    shares = [
        on_subject(heat, read_image(mask)[0].numpy())
        for heat, mask in zip(maps, masks, strict=False)
        if mask is not None
    ]
    shares = [share for share in shares if not np.isnan(share)]
    return float(np.mean(shares)) if shares else None


# ---- the answer as JSON, HTML and PNG


def as_data(explained: Explained) -> dict[str, Any]:
    """Returns the explained numbers as JSON."""
    return {
        one.part: {
            "network": one.model,
            "value": round(one.value, 4),
            "meaning": one.meaning,
            "on_subject": None if one.on_mask is None else round(one.on_mask, 4),
        }
        for one in explained.explanations
    }


def as_html(explained: Explained) -> Markup:
    """Renders the heatmaps, with a slider between the models once both are there."""
    panels = []
    for one in explained.explanations:
        views = heatmaps.views(explained.images, one.maps, "view")
        others = ()
        if one.second_maps is not None:
            others = heatmaps.views(explained.second, one.second_maps, "second image")
        meaning = one.meaning + _mask_text(one)
        panels.append(heatmaps.Panel(one.part, one.model, one.value, meaning, views, others))
    return heatmaps.render(panels, slider=len(panels) == 2, pending=explained.pending)


def _mask_text(one: Explanation) -> str:
    return "" if one.on_mask is None else f" · {100 * one.on_mask:.0f} % of the CAM mass on the person mask"


def as_png(explained: Explained) -> bytes:
    """Draws the images, then each model's heatmaps with the number they explain."""
    images = [heatmaps.displayed(image) for image in (*explained.images, *explained.second)]
    rows = [Row([Cell(image) for image in images], "Images" if len(images) > 1 else "Image")]
    for one in explained.explanations:
        maps = [*one.maps, *([] if one.second_maps is None else one.second_maps)]
        title = f"{one.part.capitalize()} {one.model}: {one.meaning} = {one.value:.2f}{_mask_text(one)}"
        rows.append(Row([Cell(overlay(*pair)) for pair in zip(images, maps, strict=True)], title))
    file = io.BytesIO()
    grid(rows, height=256).save(file, "PNG")
    return file.getvalue()


# ---- endpoints


@limits.rate_limited
@mode.on_gpu
@show_errors
def explain(
    paths: AppPaths,
    images: list[Any] | None,
    second: list[Any] | None,
    target: str,
    method: str,
    teacher: str | None,
    student: str | None,
    layer: str = "last",
    identity: str = "",
) -> tuple[str, dict[str, Any]]:
    """Heatmaps (class activation maps) of teacher and student for the images, or the video, of one subject.

    `target` is `top identity` (the top-1 class logit), `chosen identity` (the logit of the training identity
    `identity`) or `second image` (the cosine similarity to the embedding of `second`). `layer` is `last`,
    the number of a stage (from the end where negative) or a layer's name. Names are plain text. Answers with
    the page's HTML and with the explained number of each model as JSON; `on_subject` is the share of the CAM
    mass on the person mask, where one is available.
    """
    request = Request(target, method, teacher, student, layer, identity)
    *_, explained = steps(paths, images, second, request)
    return as_html(explained), as_data(explained)


@components.downloads(like=explain)
def save_png(
    paths: AppPaths, images: list[Any] | None, second: list[Any] | None, *choices: Any
) -> tuple[bytes, str]:
    """Save the heatmaps of `explain`, with the same arguments, as one PNG image."""
    *_, explained = steps(paths, images, second, Request(*choices))
    return as_png(explained), "vkd-heatmaps.png"


# ---- the page


@limits.rate_limited
@mode.on_gpu
@show_errors
def explain_steps(
    paths: AppPaths, images: list[Any] | None, second: list[Any] | None, *choices: Any
) -> Iterator[tuple[str, Any]]:
    """Yields the teacher's heatmaps while the student's are being computed."""
    for explained in steps(paths, images, second, Request(*choices)):
        yield as_html(explained), gr.skip() if explained.pending else as_data(explained)


def welcome(paths: AppPaths) -> Markup:
    """Renders what to do first."""
    return EMPTY if state.checkpoints(paths) else html.NO_MODEL


def missing(
    paths: AppPaths, images: list[Any] | None, second: list[Any] | None, target: str, *choices: Any
) -> str:
    """Returns what to do next where an input is missing; "" where all are there."""
    if not images:
        return welcome(paths)
    if target == SECOND and not second:
        return NO_SECOND
    return NO_IDENTITY if target == CHOSEN and not (choices[-1] or "").strip() else ""


TAB = QueryTab(explain_steps, missing, "Explanation failed")


def cancelled() -> tuple[str, None, str]:
    """Returns what stands in place of a cancelled answer."""
    return CANCELLED, None, ""


def refresh(paths: AppPaths, images: list[Any] | None, teacher: str | None, student: str | None) -> list[Any]:
    """Returns updates with the checkpoints there are now, and what to do first."""
    models = components.refresh_models(paths, teacher, student)
    return [*models, gr.skip() if images else welcome(paths)]


@show_errors
def show_example(paths: AppPaths, example: str, target: str, images: list[Any] | None) -> tuple[Any, Any]:
    """Puts an example where an image is missing: into the second field where that is what is asked for."""
    files = inputs.example_images(paths, example)
    return (gr.skip(), files) if target == SECOND and images else (files, gr.skip())


def show_target_inputs(target: str) -> tuple[Any, Any]:
    """Shows the field of the second image, or of the identity, only for its target."""
    return gr.update(visible=target == SECOND), gr.update(visible=target == CHOSEN)


def warm(paths: AppPaths) -> None:
    """Computes one small heatmap, so that the first visitor does not wait for what only heatmaps need."""
    if mode.ZERO_GPU:  # no GPU is lent to this process itself
        return
    for name in filter(None, state.default_pair(paths)):
        model = state.load_model(state.checkpoint_folder(paths, name))
        blank = inputs.blank(model)
        heatmaps.compute(model, [blank], None, next(iter(METHODS)))
