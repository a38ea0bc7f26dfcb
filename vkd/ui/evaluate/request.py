"""The form of the Evaluate tab: which networks, which data set, how."""

from typing import Any

import gradio as gr

from vkd.data.datasets import DATASETS
from vkd.data.tracklets import PROTOCOLS
from vkd.ui import limits, state
from vkd.ui.evaluate import actions
from vkd.ui.state import Places

IN_DEMO = "This is a public demo: it evaluates nothing new, and shows how its own networks did."


def look_again(
    places: Places, teacher: str | None, student: str | None, others: list[str] | None
) -> list[Any]:
    """The networks there are now: others may have been trained or pulled since the page was opened."""
    names = state.checkpoints(places)
    kept = [name for name in others or [] if name in names]
    return [*state.networks_again(places, teacher, student), gr.update(choices=names, value=kept)]


def form(places: Places) -> dict[str, Any]:
    """The inputs: `asked`, in the order of `answers.start`, and the others by name."""
    teacher, student = state.pair(places)
    with gr.Column(elem_classes="vkd-form", scale=0):
        limits.note(IN_DEMO)
        with gr.Column(elem_classes="vkd-ask", visible=not state.DEMO):
            with gr.Group():
                first = state.network_choice(places, "teacher", teacher)
                second = state.network_choice(places, "student", student)
                others = gr.Dropdown(
                    state.checkpoints(places), label="Further checkpoints", multiselect=True,
                    allow_custom_value=True,
                )  # fmt: skip
            root = gr.Textbox(
                actions.first_root(places), label="Folder of the data set", placeholder="data/street-small"
            )
            summary = gr.HTML(elem_id="vkd-evaluate-data")
            street = gr.Button("Write a small street to try with", visible=not actions.first_root(places))
            protocols = gr.CheckboxGroup(
                [(key.upper(), key) for key in PROTOCOLS],
                value=["i2v", "v2v"],
                label="Protocols (i: image, v: video)",
                elem_classes="vkd-protocols",
            )
            button = gr.Button("Evaluate", variant="primary")
        with gr.Column(elem_classes="vkd-options"):
            job = gr.Dropdown([], label="Evaluations so far", visible=False, allow_custom_value=True)
            rest = "Kind of data, cameras, frames, AP"
            with gr.Accordion(rest, open=False, visible=not state.DEMO):
                data = gr.Dropdown(
                    [("told by its files", "auto"), *((row.title, key) for key, row in DATASETS.items())],
                    value="auto",
                    label="Kind of data set",
                )
                cameras = gr.Radio(
                    ["auto", "none"],
                    value="auto",
                    label="Cameras",
                    info="none: the labels of a plain folder are ignored, and nothing is junk",
                )
                views = gr.Slider(1, 32, value=8, step=1, label="Frames of a tracklet")
                ap = gr.Radio(
                    ["trapezoid", "standard"],
                    value="trapezoid",
                    label="AP convention (trapezoid: as published)",
                )
                curves = gr.Checkbox(True, label="Accuracy against frames and views")
    return {
        "asked": [first, second, others, data, root, protocols, views, ap, curves, cameras],
        "data": data, "cameras": cameras, "root": root, "summary": summary, "street": street,
        "button": button, "job": job,
    }  # fmt: skip
