"""The Retrieve tab: pictures in, ranked matches of teacher and student out."""

import io
import time
from typing import Any, NamedTuple

import gradio as gr

from vkd.retrieval import results
from vkd.ui import components, html, limits, mode
from vkd.ui import inputs as ui_inputs
from vkd.ui import state as ui_state
from vkd.ui.errors import show_errors
from vkd.ui.retrieve import build as gallery_form
from vkd.ui.retrieve import likeness, why
from vkd.ui.retrieve import search as retrieve_search
from vkd.ui.retrieve.search import Wanted
from vkd.ui.state import AppPaths

EMPTY = html.empty_state(
    "Who is this?",
    "Upload a picture of a person, several pictures or a short video of the same person, or click an "
    "example. The best matches of the teacher and of the student appear here, side by side.",
)

NO_GALLERY = html.empty_state(
    "There is no gallery yet",
    "A gallery is what is searched. Build one of your own pictures: open 'Build a gallery' in the form, give "
    "a folder or a zip, and press Build.",
)


@limits.rate_limited
@mode.on_gpu
@show_errors
def search(
    paths: AppPaths,
    pictures: list[Any] | None,
    gallery: str,
    teacher: str | None,
    student: str | None,
    top_k: float,
    cameras: list[str] | None,
    rerank: bool,
    strangers: str = likeness.DEFAULT,
) -> tuple[str, dict[str, Any]]:
    """Rank a gallery against the pictures of one subject, once with the teacher and once with the student.

    One picture is an image query, several, or a short video clip, are views of one tracklet. Names are plain
    text: `gallery`, `teacher` and `student` are folder names, `cameras` are numbers as text (empty: all),
    `strangers` is the share of different people that the threshold lets pass. Answers with the page's HTML
    and with the ranked lists as JSON: rank (null for junk), item, similarity (cosine), strangers (share of
    the gallery's pairs of different people that are at least this alike), identity, camera, name, verdict.
    """
    started = time.perf_counter()
    wanted = Wanted(gallery, teacher, student, top_k, cameras, rerank, strangers or likeness.DEFAULT)
    answer = retrieve_search.rank(paths, pictures, wanted)
    data = retrieve_search.as_data(answer)
    return retrieve_search.as_html(answer, gallery, time.perf_counter() - started), data


@components.downloads(like=search)
def save_table(paths: AppPaths, pictures: list[Any] | None, *choices: Any) -> tuple[bytes, str]:
    """The ranked lists of `search`, with the same arguments, as a CSV file."""
    answer = retrieve_search.rank(paths, pictures, Wanted(*choices))
    text = results.table({one.network: one.hits for one in answer.found})
    return text.encode("utf-8-sig"), "vkd-matches.csv"


@components.downloads(like=search)
def save_picture(paths: AppPaths, pictures: list[Any] | None, *choices: Any) -> tuple[bytes, str]:
    """The ranked lists of `search`, with the same arguments, as a PNG picture."""
    answer, file = retrieve_search.rank(paths, pictures, Wanted(*choices)), io.BytesIO()
    shown = {f"{one.part.capitalize()} {one.network}": one.hits for one in answer.found}
    sheet = results.picture(
        retrieve_search.headline(answer.query), retrieve_search.views_of(answer.query), shown
    )
    sheet.save(file, "PNG")
    return file.getvalue(), "vkd-matches.png"


# --- what the page shows ------------------------------------------------------------------------------------


def welcome(paths: AppPaths) -> str:
    """What to do first."""
    if not ui_state.gallery_folders(paths):
        return NO_GALLERY if ui_state.checkpoints(paths) else html.NO_MODEL
    return EMPTY


def search_now(paths: AppPaths, pictures: list[Any] | None, *choices: Any) -> tuple[str, Any, str]:
    """`search` for the page: what went wrong stands where the answer would be."""
    asked = ui_inputs.question(pictures, choices)
    try:
        return (*search(paths, pictures, *choices), asked)
    except gr.Error as wrong:
        return html.error_box("Search failed", wrong.message), None, asked


def search_again(paths: AppPaths, before: str, pictures: list[Any] | None, *choices: Any) -> Any:
    """Search after a change of pictures or choices, once for each change."""
    if (asked := ui_inputs.question(pictures, choices)) == before:
        return gr.skip(), gr.skip(), gr.skip()
    return search_now(paths, pictures, *choices) if pictures else (welcome(paths), None, asked)


def look_again(
    paths: AppPaths,
    pictures: list[Any] | None,
    gallery: str | None,
    teacher: str | None,
    student: str | None,
    cameras: list[str] | None,
) -> list[Any]:
    """The choices there are now: galleries, checkpoints, the gallery's cameras; and what to do first while
    nothing was asked."""
    names = [folder.name for folder in ui_state.gallery_folders(paths)]
    chosen = gallery if gallery in names else next(iter(names), None)
    return [
        gr.update(choices=names, value=chosen),
        *components.refresh_models(paths, teacher, student),
        _cameras(paths, chosen or "", cameras),
        gr.skip() if pictures else welcome(paths),
    ]


def follow(
    paths: AppPaths, gallery: str | None, teacher: str | None, student: str | None, cameras: list[str] | None
) -> list[Any]:
    """Networks and cameras that fit the gallery just chosen."""
    folders = {folder.name: folder for folder in ui_state.gallery_folders(paths)}
    known = ui_state.load_gallery(folders[gallery]).networks if gallery in folders else []
    networks = []
    for stage, name in (("teacher", teacher), ("student", student)):
        fitting = [other for other in ui_state.checkpoints(paths, stage) if other in known]
        networks.append(gr.skip() if name in known or not known else (fitting or [""])[0])
    return [*networks, _cameras(paths, gallery or "", cameras)]


def _cameras(paths: AppPaths, gallery: str, chosen: list[str] | None) -> Any:
    known = ui_state.gallery_cameras(paths, gallery)
    kept = [camera for camera in chosen or [] if camera in known]
    return gr.update(choices=known, value=kept, visible=bool(known))


class Form(NamedTuple):
    """The left side: what is asked, in the order of `search`'s arguments."""

    pictures: gr.Gallery
    shelf: gr.Dropdown
    teacher: gr.Dropdown
    student: gr.Dropdown
    top_k: gr.Slider
    cameras: gr.Dropdown
    rerank: gr.Checkbox
    strangers: gr.Radio
    button: gr.Button
    chosen: gr.HTML
    maker: gallery_form.Maker


def build(paths: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    state, before = gr.State(paths), gr.State("")
    with gr.Row(elem_classes="vkd-page"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            form = _form(paths, state, opened)
        inputs = [state, *form[:8]]
        with gr.Column(elem_classes="vkd-results"):
            with gr.Row(elem_classes="vkd-keep"):
                components.save_button("Save as CSV", save_table, inputs, api_name="search_table")
                components.save_button("Save as PNG", save_picture, inputs, api_name="search_picture")
            answer = gr.HTML(
                welcome(paths), label="Matches", js_on_load=why.CLICKS, elem_classes="vkd-matches"
            )
            reasons = why.component()
            with gr.Accordion("The same as data (JSON)", open=False, elem_classes="vkd-json"):
                data = gr.JSON(label="Ranked lists")
    components.endpoint(search, inputs, [answer, data], api_name="search", **components.SHARED)
    _wire(form, inputs, [answer, data, before], opened)
    why.wire(answer, reasons, inputs[:5], **components.SHARED)


def _form(paths: AppPaths, state: gr.State, opened: list[Any]) -> Form:
    names = [folder.name for folder in ui_state.gallery_folders(paths)]
    teacher, student = ui_state.default_pair(paths)
    known = ui_state.gallery_cameras(paths, names[0]) if names else []
    with gr.Column(elem_classes="vkd-ask"):
        pictures = ui_inputs.picture_input("Pictures or a clip")
        button = gr.Button("Find matches", variant="primary")
        chosen = ui_inputs.example_buttons(paths)
    with gr.Column(elem_classes="vkd-options"):
        with gr.Group():
            top_k = gr.Slider(1, 50, value=10, step=1, label="Matches to show (top k)")
            strangers = gr.Radio(
                [(rate.removeprefix("1 in "), rate) for rate in likeness.RATES],
                value=likeness.DEFAULT,
                label="Threshold: strangers that pass, 1 in",
            )
            cameras = gr.Dropdown(
                known, label="Only these cameras (none chosen: all)", multiselect=True,
                allow_custom_value=True, visible=bool(known),
            )  # fmt: skip
            rerank = gr.Checkbox(label="Re-rank by k-reciprocal neighbours")
        with gr.Accordion("Networks and gallery", open=False):
            shelf = gr.Dropdown(
                names, value=names[0] if names else None, label="Gallery", allow_custom_value=True
            )
            first = components.model_dropdown(paths, "teacher", teacher)
            second = components.model_dropdown(paths, "student", student)
        maker = gallery_form.layout(state, first, second, opened)
    return Form(pictures, shelf, first, second, top_k, cameras, rerank, strangers, button, chosen, maker)


def _wire(form: Form, inputs: list[Any], outputs: list[Any], opened: list[Any]) -> None:
    """What is asked is answered at once; `inputs` start with the paths, `outputs` end with the question."""
    hidden: dict[str, Any] = {"api_visibility": "private"}
    quiet: dict[str, Any] = {**hidden, "show_progress": "hidden"}
    state, (answer, _, before) = inputs[0], outputs
    once_more = [state, before, *inputs[1:]]
    form.button.click(search_now, inputs, outputs, **components.SHARED, **hidden)
    gr.on(
        [form.pictures.change, form.top_k.release, form.cameras.input, form.rerank.change,
         form.strangers.change, form.teacher.change, form.student.change],
        search_again, once_more, outputs, trigger_mode="always_last", **components.SHARED, **hidden,
    )  # fmt: skip
    form.chosen.submit(
        ui_inputs.example_pictures, [state, form.chosen], form.pictures, api_name="example",
        show_progress="hidden",
    ).success(search_again, once_more, outputs, **components.SHARED, **hidden)  # fmt: skip
    choices = [form.shelf, form.teacher, form.student, form.cameras]
    form.shelf.change(follow, [state, *choices], choices[1:], **quiet).success(
        search_again, once_more, outputs, **components.SHARED, **hidden
    )
    again = (look_again, [state, form.pictures, *choices], [*choices, answer])
    gr.on(opened, *again, **quiet)
    form.maker.built.success(gallery_form.built_name, form.maker.data, form.shelf, **quiet).success(
        *again, **quiet
    )
