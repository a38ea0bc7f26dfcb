"""Explanation of a match: Grad-CAM of the similarity between query and match, for both models."""

import itertools
from typing import Any

import gradio as gr
from torch import Tensor

from vkd.io.errors import VKDError
from vkd.io.images import read_image
from vkd.retrieval.gallery import Gallery
from vkd.ui import components, html, inputs, limits, mode, state, theme
from vkd.ui.components import QUIET
from vkd.ui.errors import show_errors
from vkd.ui.explain import heatmaps
from vkd.ui.retrieve import distribution
from vkd.ui.state import AppPaths

MAX_VIEWS = 4
_ANSWERS = itertools.count()


@limits.rate_limited
@mode.on_gpu
@show_errors
def explain_match(
    paths: AppPaths,
    images: list[Any] | None,
    gallery: str,
    item: float,
    teacher: str | None,
    student: str | None,
) -> tuple[str, dict[str, Any]]:
    """Explain one match by Grad-CAM of the similarity between query and gallery item, for both models.

    `item` is the item's number in the gallery, as `search` answers it. The number explained is the cosine
    between the query's embedding and the gallery's. The item is shown by its thumbnails. Answers with the
    page's HTML and with each model's similarity as JSON.
    """
    query = inputs.read_query(paths, inputs.image_files(images)).images[:MAX_VIEWS]
    index, number = state.load_gallery(state.gallery_folder(paths, gallery)), int(item)
    models = [(part, name) for part, name in (("teacher", teacher), ("student", student)) if name]
    if not models:
        raise VKDError("No model is selected: choose a teacher or a student under 'Models and gallery'.")
    panels = [_panel(paths, index, part, name, query, number) for part, name in models]
    subject = index.item(number)
    label = html.identity_label(subject.identity, subject.camera).replace(" · ", ", ")
    page = html.render(
        "explanation.html.j2",
        title=f"Grad-CAM of the similarity: query vs. {label}",
        item=number,
        body=heatmaps.render(panels),
    )
    data = {panel.part: {"network": panel.model, "similarity": round(panel.value, 4)} for panel in panels}
    return _unique(page), data


def _unique(page: str) -> str:
    """Makes an answer differ from the one before: the page reacts only to a changed value."""
    return f"{page}<!-- {next(_ANSWERS)} -->"


def _panel(
    paths: AppPaths, index: Gallery, part: str, name: str, query: list[Tensor], number: int
) -> heatmaps.Panel:
    model = state.gallery_model(paths, name, index)
    embedding = index.embedding(name, number)
    match = [read_image(path) for path in index.thumbnails(number)[:MAX_VIEWS]]
    there = heatmaps.compute(model, query, embedding, "gradcam")
    back = heatmaps.compute(model, match, model.embed([query])[0], "gradcam")
    fpr = distribution.fpr_text(
        distribution.distribution_at(index.pairs(name), distribution.DEFAULT), there.value
    )
    return heatmaps.Panel(
        part,
        name,
        there.value,
        " · ".join(filter(None, ("similarity (cosine)", fpr))),
        heatmaps.views(query, there.maps, "query"),
        heatmaps.views(match, back.maps, "match"),
    )


def _clicked(event: gr.EventData) -> int:
    return int(event.item)


def _failed() -> str:
    return _unique("")


# A click on a card asks for its explanation; the card is busy until it comes.
CLICKS = """
element.addEventListener('click', (event) => {
  const card = event.target.closest('button[data-item]');
  if (!card) return;
  element.querySelectorAll('[aria-busy]').forEach((other) => other.removeAttribute('aria-busy'));
  card.setAttribute('aria-busy', 'true');
  trigger('click', { item: card.dataset.item });
});
"""


def component() -> gr.HTML:
    """Adds the dialog in which a match is explained; it opens with a new value."""
    return gr.HTML(
        value="", js_on_load=theme.script("dialog.js"), label="Explanation", elem_classes="vkd-why"
    )


def wire(answer: gr.HTML, dialog: gr.HTML, inputs: list[Any]) -> None:
    """Wires a click on a match in `answer`; `inputs` are paths, images, gallery, teacher and student."""
    item = gr.Number(0, visible=False, precision=0, label="Gallery item")
    numbers = gr.JSON(visible=False, label="Similarities")
    explained = answer.click(_clicked, None, item, **QUIET).success(
        explain_match,
        [*inputs[:3], item, *inputs[3:]],
        [dialog, numbers],
        api_name="explain_match",
        show_progress="hidden",
        **components.SHARED,
    )
    explained.failure(_failed, None, dialog, **QUIET)
