"""The Explain tab: heatmaps of teacher and student, side by side or under a slider. Layout and wiring."""

from typing import Any, NamedTuple

import gradio as gr

from vkd.explain.methods import METHODS
from vkd.ui import components, inputs, query_tab, state, theme
from vkd.ui.components import QUIET
from vkd.ui.explain import actions
from vkd.ui.query_tab import Save
from vkd.ui.state import AppPaths

LABELS = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM (class-agnostic)",
    "hirescam": "HiResCAM",
}
LAYERS = [("last conv stage", "last"), *((f"stage -{n}", str(-n)) for n in range(2, 6))]
SAVES = (Save("Save as PNG", actions.save_png, "explain_picture"),)


class ExplainForm(NamedTuple):
    """The left side; the first eight are the arguments of `actions.explain`."""

    images: gr.Gallery
    second: gr.Gallery
    target: gr.Radio
    method: gr.Dropdown
    teacher: gr.Dropdown
    student: gr.Dropdown
    layer: gr.Dropdown
    identity: gr.Textbox
    second_column: gr.Column
    button: gr.Button
    cancel: gr.Button
    example: gr.HTML


def build(paths: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    paths_state = gr.State(paths)
    with gr.Row(elem_classes="vkd-page"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            form = _form(paths)
        values = [paths_state, *form[:8]]
        results = query_tab.results(
            values,
            SAVES,
            value=actions.welcome(paths),
            label="Heatmaps",
            css_class="vkd-heatmaps",
            script=theme.script("slider.js"),
        )
    components.endpoint(
        actions.explain, values, [results.answer, results.data], api_name="explain", **components.SHARED
    )
    _wire(form, values, results, opened)


def _form(paths: AppPaths) -> ExplainForm:
    pair = state.default_pair(paths)
    with gr.Column(elem_classes="vkd-ask"):
        images = inputs.image_input("Query images or video (crops of one person)")
        target = gr.Radio(
            [(label, target) for target, label in actions.TARGETS.items()],
            value=actions.TOP,
            label="Target",
        )
        identity = gr.Textbox(
            value="", label="Training identity", info="Identity ID", max_lines=1, visible=False
        )
        with gr.Column(visible=False) as second_column:
            second = inputs.image_input("Second image")
        with gr.Row(elem_classes="vkd-go"):
            button = gr.Button("Explain", variant="primary")
            cancel = gr.Button("Cancel", elem_classes="vkd-halt")
        example = inputs.example_buttons(paths, images)
    with gr.Column(elem_classes="vkd-options"), gr.Accordion("Models and method", open=False):
        methods = [(LABELS.get(name, name), name) for name in METHODS]
        method = gr.Dropdown(methods, label="Method", allow_custom_value=True)
        layer = gr.Dropdown(
            LAYERS, label="Layer", info="Or type a stage number or a layer name", allow_custom_value=True
        )
        teacher = components.model_dropdown(paths, "teacher", pair[0])
        student = components.model_dropdown(paths, "student", pair[1])
    return ExplainForm(
        images,
        second,
        target,
        method,
        teacher,
        student,
        layer,
        identity,
        second_column,
        button,
        cancel,
        example,
    )


def _wire(form: ExplainForm, values: list[Any], results: query_tab.Results, opened: list[Any]) -> None:
    paths_state = values[0]
    form.target.change(actions.show_target_inputs, form.target, [form.second_column, form.identity], **QUIET)
    example = form.example.submit(
        actions.show_example,
        [paths_state, form.example, form.target, form.images],
        [form.images, form.second],
        **QUIET,
    )
    running = query_tab.wire(
        actions.TAB,
        values,
        results,
        button=form.button,
        changes=[
            form.images.change,
            form.second.change,
            form.target.change,
            form.method.input,
            form.layer.input,
            form.identity.submit,
            form.teacher.input,
            form.student.input,
        ],
        example=example,
    )
    form.cancel.click(actions.cancelled, None, list(results), cancels=running, queue=False, **QUIET)
    gr.on(
        opened,
        actions.refresh,
        [paths_state, form.images, form.teacher, form.student],
        [form.teacher, form.student, results.answer],
        **QUIET,
    )
