"""The Explain tab: where teacher and student look, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch

from vkd.checkpoint import Checkpoint
from vkd.explain import METHODS
from vkd.ui import cards, heats, parts, queries
from vkd.ui.parts import Places
from vkd.ui.retrieve import REFUSED

EMPTY = cards.empty(
    "Where does it look?",
    "Upload a picture, or click an example. The parts that made the teacher and the student "
    "recognise the person appear here. With a second picture the maps show what the two have in common.",
)
IDENTITY, SECOND = "top identity", "second picture"
MAX_EXPLAINED = 8


def _identity_name(net: Checkpoint, index: int) -> str:
    labels = net.config.labels
    return f"training identity {labels[index] if labels else index}"


def _explain(
    net: Checkpoint, pictures: Sequence[torch.Tensor], second: Sequence[torch.Tensor], method: str
) -> tuple[np.ndarray, float, str]:
    """Maps (V, H, W) of one network, the number they explain and what that number is."""
    heat = heats.compute(net, pictures, queries.embed(net, second) if second else None, method)
    if heat.index < 0:
        return heat.maps, heat.value, "similarity to the second picture (cosine)"
    return heat.maps, heat.value, f"logit of its top identity, {_identity_name(net, heat.index)}"


@parts.kindly
def explain(
    places: Places,
    pictures: list[Any] | None,
    second: list[Any] | None,
    target: str,
    method: str,
    teacher: str,
    student: str,
) -> tuple[str, dict[str, Any]]:
    """Heatmaps of teacher and student for the pictures of one subject.

    `target` is `top identity` (the logit of the training identity the network thinks of) or `second picture`
    (the cosine similarity to the embedding of `second`). Names are plain text. Answers with the page's HTML
    and with the explained number of each network as JSON.
    """
    query = queries.read_query(places, queries.picture_files(pictures)[:MAX_EXPLAINED])
    if target not in (IDENTITY, SECOND):
        raise ValueError(f"'{target}' is not a target: choose '{IDENTITY}' or '{SECOND}'.")
    other: list[torch.Tensor] = []
    if target == SECOND:
        files = queries.picture_files(second, what="second picture")
        other = queries.read_query(places, files[:MAX_EXPLAINED]).pictures
    panels, data = [], {}
    for part, name in (("teacher", teacher), ("student", student)):
        if not name:
            continue
        net = parts.network(parts.checkpoint_folder(places, name))
        maps, value, meaning = _explain(net, query.pictures, other, method)
        views = heats.views(query.pictures, maps, "view")
        if other:
            back, _, _ = _explain(net, other, query.pictures, method)
            views += heats.views(other, back, "second picture")
        panels.append(cards.Panel(part, name, value, meaning, views))
        data[part] = {"network": name, "value": round(value, 4), "meaning": meaning}
    if not panels:
        raise ValueError("No network is chosen: pick a teacher or a student under 'Networks'.")
    return cards.heat(panels), data


def explain_again(
    places: Places, pictures: list[Any] | None, second: list[Any] | None, target: str, *rest: Any
) -> Any:
    """Explain once more after a choice was changed; nothing happens while a picture is missing."""
    if not pictures or (target == SECOND and not second):
        return gr.skip(), gr.skip()
    return explain(places, pictures, second, target, *rest)


def warm(places: Places) -> None:
    """Make one small heatmap, so that the first visitor does not wait for what only heatmaps need."""
    for name in filter(None, parts.pair(places)):
        net = parts.network(parts.checkpoint_folder(places, name))
        _explain(net, [torch.zeros(3, *net.config.image_size, dtype=torch.uint8)], [], next(iter(METHODS)))


def refused() -> tuple[str, None]:
    """What stands in place of an answer, so that no older answer is taken for this one's."""
    return REFUSED, None


def build(root: Path, gallery: Path | None = None) -> None:
    """Layout and wiring of the tab; `root` is the folder of checkpoints."""
    places = Places.of(root, gallery)
    teacher, student = parts.pair(places)
    state = gr.State(places)
    with gr.Row(elem_classes="vkd-page"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            with gr.Column(elem_classes="vkd-ask"):
                pictures = queries.picture_input("Pictures of one person")
                target = gr.Radio(
                    [
                        ("What speaks for its top identity", IDENTITY),
                        ("What it shares with a second picture", SECOND),
                    ],
                    value=IDENTITY,
                    label="Explain",
                )
                with gr.Column(visible=False) as beside:
                    second = queries.picture_input("Second picture")
                button = gr.Button("Explain", variant="primary")
                chosen = queries.example_buttons(places)
            with gr.Column(elem_classes="vkd-options"), gr.Accordion("Networks and method", open=False):
                method = gr.Dropdown(list(METHODS), label="Method", allow_custom_value=True)
                first = parts.network_choice(places, "teacher", teacher)
                other = parts.network_choice(places, "student", student)
        with gr.Column(elem_classes="vkd-results"):
            answer = gr.HTML(EMPTY, label="Heatmaps")
            with gr.Accordion("The same as data (JSON)", open=False):
                data = gr.JSON(label="Explained numbers")
    inputs = [state, pictures, second, target, method, first, other]
    outputs = [answer, data]
    shared: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}
    hidden: dict[str, Any] = {"api_visibility": "private"}
    target.change(show_second, target, beside, show_progress="hidden", **hidden)
    found = [
        button.click(explain, inputs, outputs, api_name="explain", **shared),
        gr.on(
            [pictures.upload, pictures.delete, second.upload, target.change, method.change, first.change,
             other.change],
            explain_again, inputs, outputs, **shared, **hidden,
        ),
        chosen.submit(queries.example_pictures, [state, chosen], pictures, **hidden).success(
            explain_again, inputs, outputs, **shared, **hidden
        ),
    ]  # fmt: skip
    for answered in found:
        answered.failure(refused, None, outputs, show_progress="hidden", **hidden)


def show_second(target: str) -> Any:
    """The place for a second picture, only where it is asked for."""
    return gr.Column(visible=target == SECOND)
