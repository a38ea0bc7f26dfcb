"""The form of the Evaluate tab: models, dataset, protocols."""

from typing import Any, NamedTuple

import gradio as gr

from vkd.data.datasets import DATASETS
from vkd.data.tracklets import PROTOCOLS
from vkd.ui import components, mode, state
from vkd.ui.evaluate import actions
from vkd.ui.state import AppPaths

IN_DEMO = "Public demo: new evaluations are disabled; the results of the demo's own models are shown."


def refresh_models(
    paths: AppPaths, teacher: str | None, student: str | None, others: list[str] | None
) -> list[Any]:
    """Returns updates of the pickers: models may have been trained or pulled since the page was opened."""
    names = state.checkpoints(paths)
    value = [name for name in others or [] if name in names]
    return [*components.refresh_models(paths, teacher, student), gr.update(choices=names, value=value)]


class EvaluateForm(NamedTuple):
    """The components on the left; `request` in the order of `actions.start`."""

    request: list[Any]
    dataset: list[Any]
    root: gr.Textbox
    summary: gr.HTML
    street: gr.Button
    button: gr.Button
    job: gr.Dropdown


def build_form(paths: AppPaths) -> EvaluateForm:
    """Builds the form."""
    teacher, student = state.default_pair(paths)
    root_text = actions.default_root(paths)
    with gr.Column(elem_classes="vkd-form", scale=0):
        components.demo_note(IN_DEMO)
        with gr.Column(elem_classes="vkd-ask", visible=not mode.DEMO):
            with gr.Group():
                first = components.model_dropdown(paths, "teacher", teacher)
                second = components.model_dropdown(paths, "student", student)
                others = gr.Dropdown(
                    state.checkpoints(paths), label="Additional models", multiselect=True,
                    allow_custom_value=True,
                )  # fmt: skip
            root = gr.Textbox(root_text, label="Dataset folder", placeholder="data/street-small")
            summary = gr.HTML(elem_id="vkd-evaluate-data")
            street = gr.Button("Generate a small synthetic test set", visible=not root_text)
            protocols = gr.CheckboxGroup(
                [(key.upper(), key) for key in PROTOCOLS], value=["i2v", "v2v"],
                label="Protocols (query2gallery; i: image, v: video)", elem_classes="vkd-protocols",
            )  # fmt: skip
            button = gr.Button("Evaluate", variant="primary")
        with gr.Column(elem_classes="vkd-options"):
            job = gr.Dropdown([], label="Past evaluations", visible=False, allow_custom_value=True)
            with gr.Accordion("Advanced", open=False, visible=not mode.DEMO):
                layouts = [("Auto-detect", "auto"), *((row.title, key) for key, row in DATASETS.items())]
                data = gr.Dropdown(layouts, value="auto", label="Dataset")
                cameras = gr.Radio(
                    ["auto", "none"], value="auto", label="Cameras",
                    info="none: camera labels of a plain folder are ignored, nothing is junk",
                )  # fmt: skip
                views = gr.Slider(1, 32, value=8, step=1, label="Frames per tracklet")
                ap = gr.Radio(
                    [("trapezoid (as in the paper)", "trapezoid"), "standard"], value="trapezoid",
                    label="AP interpolation",
                )  # fmt: skip
                curves = gr.Checkbox(True, label="Ablate frames and views")
    request = [first, second, others, data, root, protocols, views, ap, curves, cameras]
    return EvaluateForm(request, [data, root, cameras], root, summary, street, button, job)
