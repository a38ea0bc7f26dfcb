"""The form of the Evaluate tab: which networks, which data set, how."""

from typing import Any

import gradio as gr

from vkd.data.datasets import DATASETS
from vkd.data.tracklets import PROTOCOLS
from vkd.ui import components, mode, state
from vkd.ui.evaluate import actions
from vkd.ui.state import AppPaths

IN_DEMO = "This is a public demo: it evaluates nothing new, and shows how its own networks did."


def look_again(
    paths: AppPaths, teacher: str | None, student: str | None, others: list[str] | None
) -> list[Any]:
    """The networks there are now: others may have been trained or pulled since the page was opened."""
    names = state.checkpoints(paths)
    kept = [name for name in others or [] if name in names]
    return [*components.refresh_models(paths, teacher, student), gr.update(choices=names, value=kept)]


def form(paths: AppPaths) -> dict[str, Any]:
    """The inputs: `asked`, in the order of `answers.start`, and the others by name."""
    teacher, student = state.default_pair(paths)
    with gr.Column(elem_classes="vkd-form", scale=0):
        components.demo_note(IN_DEMO)
        with gr.Column(elem_classes="vkd-ask", visible=not mode.DEMO):
            with gr.Group():
                first = components.model_dropdown(paths, "teacher", teacher)
                second = components.model_dropdown(paths, "student", student)
                others = gr.Dropdown(
                    state.checkpoints(paths), label="Further checkpoints", multiselect=True,
                    allow_custom_value=True,
                )  # fmt: skip
            root = gr.Textbox(
                actions.first_root(paths), label="Folder of the data set", placeholder="data/street-small"
            )
            summary = gr.HTML(elem_id="vkd-evaluate-data")
            street = gr.Button("Write a small street to try with", visible=not actions.first_root(paths))
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
            with gr.Accordion(rest, open=False, visible=not mode.DEMO):
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
