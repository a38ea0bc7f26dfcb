"""Why is this a match? What query and match share, in the eyes of both networks."""

import itertools
from typing import Any

import gradio as gr
import torch

from vkd.io.errors import VKDError
from vkd.io.images import read_image
from vkd.retrieval.gallery import Gallery
from vkd.ui import html, limits, mode, state
from vkd.ui import inputs as ui_inputs
from vkd.ui.errors import show_errors
from vkd.ui.explain import heatmaps
from vkd.ui.retrieve import likeness
from vkd.ui.state import AppPaths

MOST_VIEWS = 4


@limits.rate_limited
@mode.on_gpu
@show_errors
def explain_match(
    paths: AppPaths,
    pictures: list[Any] | None,
    gallery: str,
    item: float,
    teacher: str | None,
    student: str | None,
) -> tuple[str, dict[str, Any]]:
    """Explain one match: heatmaps of what the query and a gallery item share, for both networks.

    `item` is the item's number in the gallery, as `search` answers it. The number explained is the cosine
    between the query's embedding and the gallery's. The item is shown by its thumbnails. Answers with the
    page's HTML and with each network's similarity as JSON.
    """
    query = ui_inputs.read_query(paths, ui_inputs.picture_files(pictures)).pictures[:MOST_VIEWS]
    shelf, number = state.load_gallery(state.gallery_folder(paths, gallery)), int(item)
    panels, data = [], {}
    for part, name in (("teacher", teacher), ("student", student)):
        if not name:
            continue
        panels.append(_panel(paths, shelf, part, name, query, number))
        data[part] = {"network": name, "similarity": round(panels[-1].value, 4)}
    if not panels:
        raise VKDError("No network is chosen: pick a teacher or a student under 'Networks and gallery'.")
    subject = shelf.item(number)
    label = html.identity_label(subject.identity, subject.camera)
    return html.dialog(f"What the query shares with {label}", html.heat(panels)) + _anew(), data


def _anew() -> str:
    """Makes an answer differ from the one before: the page looks up only when something changed."""
    return f"<!-- {next(_ANSWERS)} -->"


_ANSWERS = itertools.count()


def _panel(
    paths: AppPaths, shelf: Gallery, part: str, name: str, query: list[torch.Tensor], number: int
) -> html.Panel:
    net = state.gallery_model(paths, name, shelf)
    reference = shelf.embedding(name, number)
    match = [read_image(path) for path in shelf.thumbnails(number)[:MOST_VIEWS]]
    there = heatmaps.compute(net, query, reference, "gradcam")
    back = heatmaps.compute(net, match, ui_inputs.embed(net, query), "gradcam")
    place = likeness.of(shelf.pairs(name), likeness.DEFAULT)
    rare = "" if place is None else f" · {likeness.rarity(place, there.value)}"
    asked, found = heatmaps.views(query, there.maps, "query"), heatmaps.views(match, back.maps, "match")
    return html.Panel(part, name, there.value, f"similarity (cosine){rare}", asked, found)


def clicked(event: gr.EventData) -> int:
    """The item of the card that was clicked."""
    return int(event.item)


CLICKS = """
element.addEventListener('click', (event) => {
  const card = event.target.closest('button[data-item]');
  if (!card) return;
  element.querySelectorAll('[aria-busy]').forEach((other) => other.removeAttribute('aria-busy'));
  card.setAttribute('aria-busy', 'true');
  trigger('click', { item: card.dataset.item });
});
"""
"""Of the ranked lists: a click on a card asks about its item; the card says that it is being looked at."""

_DIALOG = """
const open = () => {
  document.querySelectorAll('.vkd-card[aria-busy]').forEach((card) => card.removeAttribute('aria-busy'));
  const dialog = element.querySelector('dialog');
  if (dialog && !dialog.open) dialog.showModal();
};
element.addEventListener('click', (event) => {
  const dialog = element.querySelector('dialog');
  if (event.target === dialog || event.target.closest('.vkd-close')) dialog.close();
});
watch('value', () => requestAnimationFrame(open));
"""


def component() -> gr.HTML:
    """The dialog in which a match is explained; it opens with a new value."""
    return gr.HTML(value="", js_on_load=_DIALOG, label="Why this match", elem_classes="vkd-why")


def refused() -> str:
    """Nothing is shown where the explanation failed; the cards stop waiting."""
    return _anew()


def wire(answer: gr.HTML, reasons: gr.HTML, inputs: list[Any], **shared: Any) -> None:
    """A click on a match in `answer` explains it; `inputs` are paths, pictures, gallery and networks,
    `shared` says with whom the networks are shared."""
    item = gr.Number(0, visible=False, precision=0, label="Item of the gallery")
    numbers = gr.JSON(visible=False, label="Similarities")
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    asked = answer.click(clicked, None, item, **hidden).success(
        explain_match,
        [*inputs[:3], item, *inputs[3:]],
        [reasons, numbers],
        api_name="explain_match",
        show_progress="hidden",
        **shared,
    )
    asked.failure(refused, None, reasons, **hidden)
