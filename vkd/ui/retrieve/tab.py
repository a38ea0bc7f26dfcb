"""The Retrieve tab: query images in, ranked matches of teacher and student out. Layout and wiring."""

from typing import Any, NamedTuple

import gradio as gr

from vkd.ui import components, inputs, query_tab, state
from vkd.ui.components import QUIET
from vkd.ui.query_tab import Save
from vkd.ui.retrieve import actions, distribution, explanation
from vkd.ui.retrieve import build as gallery_form
from vkd.ui.state import AppPaths

SAVES = (
    Save("Save as CSV", actions.save_csv, "search_table"),
    Save("Save as PNG", actions.save_png, "search_picture"),
)


class RetrieveForm(NamedTuple):
    """The left side; the first eight are the arguments of `actions.search`."""

    images: gr.Gallery
    gallery: gr.Dropdown
    teacher: gr.Dropdown
    student: gr.Dropdown
    top_k: gr.Slider
    cameras: gr.Dropdown
    rerank: gr.Checkbox
    fpr: gr.Radio
    button: gr.Button
    example: gr.HTML
    built: gallery_form.Built


def build(paths: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    paths_state = gr.State(paths)
    with gr.Row(elem_classes="vkd-page"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            form = _form(paths, paths_state, opened)
        values = [paths_state, *form[:8]]
        results = query_tab.results(
            values,
            SAVES,
            value=actions.welcome(paths),
            label="Matches",
            css_class="vkd-matches",
            script=explanation.CLICKS,
        )
    components.endpoint(
        actions.search, values, [results.answer, results.data], api_name="search", **components.SHARED
    )
    explanation.wire(results.answer, explanation.component(), values[:5])
    _wire(form, values, results, opened)


def _form(paths: AppPaths, paths_state: gr.State, opened: list[Any]) -> RetrieveForm:
    galleries = [folder.name for folder in state.gallery_folders(paths)]
    pair = state.default_pair(paths)
    camera_names = state.gallery_cameras(paths, galleries[0]) if galleries else []
    with gr.Column(elem_classes="vkd-ask"):
        images = inputs.image_input("Query images or video (crops of one person)")
        button = gr.Button("Search", variant="primary")
        example = inputs.example_buttons(paths, images)
    with gr.Column(elem_classes="vkd-options"):
        with gr.Group():
            top_k = gr.Slider(1, 50, value=10, step=1, label="Top-k")
            fpr = gr.Radio(
                list(distribution.FPRS), value=distribution.DEFAULT, label="Decision threshold at FPR"
            )
            cameras = gr.Dropdown(
                camera_names,
                label="Cameras (default: all)",
                multiselect=True,
                allow_custom_value=True,
                visible=bool(camera_names),
            )
            rerank = gr.Checkbox(label="k-reciprocal re-ranking")
        with gr.Accordion("Models and gallery", open=False):
            gallery = gr.Dropdown(
                galleries, value=next(iter(galleries), None), label="Gallery", allow_custom_value=True
            )
            teacher = components.model_dropdown(paths, "teacher", pair[0])
            student = components.model_dropdown(paths, "student", pair[1])
        built = gallery_form.layout(paths_state, teacher, student, opened)
    return RetrieveForm(
        images, gallery, teacher, student, top_k, cameras, rerank, fpr, button, example, built
    )


def _wire(form: RetrieveForm, values: list[Any], results: query_tab.Results, opened: list[Any]) -> None:
    paths_state, shared = values[0], {**components.SHARED, **components.HIDDEN}
    changed = [paths_state, results.key, *values[1:]]
    example = form.example.submit(
        inputs.example_images,
        [paths_state, form.example],
        form.images,
        api_name="example",
        show_progress="hidden",
    )
    query_tab.wire(
        actions.TAB,
        values,
        results,
        button=form.button,
        changes=[
            form.images.change,
            form.top_k.release,
            form.cameras.input,
            form.rerank.change,
            form.fpr.change,
            form.teacher.change,
            form.student.change,
        ],
        example=example,
    )
    choices = [form.gallery, form.teacher, form.student, form.cameras]
    form.gallery.change(actions.follow_gallery, [paths_state, *choices], choices[1:], **QUIET).success(
        actions.TAB.answer_change, changed, list(results), **shared
    )
    refresh: dict[str, Any] = {
        "fn": actions.refresh,
        "inputs": [paths_state, form.images, *choices],
        "outputs": [*choices, results.answer],
    }
    gr.on(opened, **refresh, **QUIET)
    form.built.event.success(gallery_form.built_name, form.built.data, form.gallery, **QUIET).success(
        **refresh, **QUIET
    )
