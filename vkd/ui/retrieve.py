"""The Retrieve tab: pictures in, ranked matches of teacher and student out."""

import io
import time
from pathlib import Path
from typing import Any

import gradio as gr

from vkd import lists
from vkd.ui import cards, galleries, likeness, parts, queries, ranked, save, why
from vkd.ui.parts import Places

EMPTY = cards.empty(
    "Who is this?",
    "Upload a picture of a person, several pictures or a short video of the same person, or click an "
    "example. The best matches of the teacher and of the student appear here, side by side.",
)

NO_GALLERY = cards.empty(
    "There is no gallery yet",
    "A gallery is what is searched. Build one of your own pictures: open 'Build a gallery' on the left, give "
    "a folder or a zip, and press Build.",
)
REFUSED = cards.empty(
    "No answer to this one",
    "The message at the top says what is wrong. Change the pictures or the choices and try again.",
)


@parts.kindly
def search(
    places: Places,
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
    answer = ranked.rank(
        places, pictures, gallery, teacher, student, top_k, cameras, rerank, strangers or likeness.DEFAULT
    )
    data = ranked.as_data(answer)
    return ranked.as_html(answer, gallery, time.perf_counter() - started), data


def search_again(places: Places, pictures: list[Any] | None, *choices: Any) -> Any:
    """Search once more after a choice was changed; nothing happens while there are no pictures."""
    return search(places, pictures, *choices) if pictures else (gr.skip(), gr.skip())


@save.kindly
def save_table(places: Places, pictures: list[Any] | None, *choices: Any) -> tuple[bytes, str]:
    """The ranked lists of `search`, with the same arguments, as a CSV file."""
    answer = ranked.rank(places, pictures, *choices)
    text = lists.table({one.network: one.hits for one in answer.found})
    return text.encode("utf-8-sig"), "vkd-matches.csv"


@save.kindly
def save_picture(places: Places, pictures: list[Any] | None, *choices: Any) -> tuple[bytes, str]:
    """The ranked lists of `search`, with the same arguments, as a PNG picture."""
    answer, file = ranked.rank(places, pictures, *choices), io.BytesIO()
    shown = {f"{one.part.capitalize()} {one.network}": one.hits for one in answer.found}
    sheet = lists.picture(ranked.headline(answer.query), ranked.views_of(answer.query), shown)
    sheet.save(file, "PNG")
    return file.getvalue(), "vkd-matches.png"


def refused() -> tuple[str, None]:
    """What stands in place of an answer, so that no older answer is taken for this one's."""
    return REFUSED, None


def look_again(
    places: Places, gallery: str | None, cameras: list[str] | None, teacher: str | None, student: str | None
) -> list[Any]:
    """The choices there are now: galleries, the gallery's cameras, checkpoints."""
    names = [folder.name for folder in parts.gallery_folders(places)]
    chosen = gallery if gallery in names else next(iter(names), None)
    return [
        gr.update(choices=names, value=chosen),
        _cameras(places, chosen or "", cameras),
        *parts.networks_again(places, teacher, student),
    ]


def follow(
    places: Places, gallery: str | None, cameras: list[str] | None, teacher: str | None, student: str | None
) -> list[Any]:
    """Cameras and networks that fit the gallery just chosen."""
    folders = {folder.name: folder for folder in parts.gallery_folders(places)}
    known = parts.contents(folders[gallery]).networks if gallery in folders else {}
    networks = []
    for stage, name in (("teacher", teacher), ("student", student)):
        fitting = [other for other in parts.checkpoints(places, stage) if other in known]
        networks.append(gr.skip() if name in known or not known else (fitting or [""])[0])
    return [_cameras(places, gallery or "", cameras), *networks]


def _cameras(places: Places, gallery: str, chosen: list[str] | None) -> Any:
    known = parts.cameras_of(places, gallery)
    kept = [camera for camera in chosen or [] if camera in known]
    return gr.update(choices=known, value=kept, visible=bool(known))


def build(root: Path, gallery: Path | None = None) -> None:
    """Layout and wiring of the tab; `root` is the folder of checkpoints."""
    places = Places.of(root, gallery)
    names = [folder.name for folder in parts.gallery_folders(places)]
    teacher, student = parts.pair(places)
    choices = parts.cameras_of(places, names[0]) if names else []
    state = gr.State(places)
    with gr.Row(elem_classes="vkd-page"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            with gr.Column(elem_classes="vkd-ask"):
                pictures = queries.picture_input("Pictures or a clip")
                button = gr.Button("Find matches", variant="primary")
                chosen = queries.example_buttons(places)
            with gr.Column(elem_classes="vkd-options"):
                with gr.Group():
                    top_k = gr.Slider(1, 50, value=10, step=1, label="Matches to show (top k)")
                    strangers = gr.Radio(
                        [(rate.removeprefix("1 in "), rate) for rate in likeness.RATES],
                        value=likeness.DEFAULT,
                        label="Threshold: strangers that pass, 1 in",
                    )
                    cameras = gr.Dropdown(
                        choices, label="Only these cameras (none chosen: all)", multiselect=True,
                        allow_custom_value=True, visible=bool(choices),
                    )  # fmt: skip
                    rerank = gr.Checkbox(label="Re-rank by k-reciprocal neighbours")
                with gr.Accordion("Networks and gallery", open=False):
                    shelf = gr.Dropdown(
                        names, value=names[0] if names else None, label="Gallery", allow_custom_value=True
                    )
                    first = parts.network_choice(places, "teacher", teacher)
                    second = parts.network_choice(places, "student", student)
                maker = galleries.layout(state, first, second)
        with gr.Column(elem_classes="vkd-results"):
            answer = gr.HTML(EMPTY if names else NO_GALLERY, label="Matches", js_on_load=why.CLICKS)
            reasons = why.component()
            inputs = [state, pictures, shelf, first, second, top_k, cameras, rerank, strangers]
            with gr.Row(elem_classes="vkd-keep"):
                save.button("Save as CSV", save_table, inputs, api_name="search_table")
                save.button("Save as PNG", save_picture, inputs, api_name="search_picture")
            with gr.Accordion("The same as data (JSON)", open=False):
                data = gr.JSON(label="Ranked lists")
    outputs = [answer, data]
    hidden: dict[str, Any] = {"api_visibility": "private"}
    found = [
        gr.on([button.click, pictures.upload], search, inputs, outputs, api_name="search", **save.SHARED),
        gr.on(
            [pictures.delete, top_k.release, cameras.input, rerank.change, strangers.change, first.change,
             second.change],
            search_again, inputs, outputs, **save.SHARED, **hidden,
        ),
        chosen.submit(queries.example_pictures, [state, chosen], pictures, api_name="example").success(
            search, inputs, outputs, **save.SHARED, **hidden
        ),
        shelf.input(
            follow, [state, shelf, cameras, first, second], [cameras, first, second],
            show_progress="hidden", **hidden,
        ).success(search_again, inputs, outputs, **save.SHARED, **hidden),
    ]  # fmt: skip
    for answered in found:
        answered.failure(refused, None, outputs, show_progress="hidden", **hidden)
    gr.on(
        parts.opened(),
        look_again,
        [state, shelf, cameras, first, second],
        [shelf, cameras, first, second],
        show_progress="hidden",
        **hidden,
    )
    maker.built.success(galleries.built_name, maker.data, shelf, show_progress="hidden", **hidden).success(
        look_again,
        [state, shelf, cameras, first, second],
        [shelf, cameras, first, second],
        show_progress="hidden",
        **hidden,
    )
    _wire_reasons(answer, reasons, [state, pictures, shelf, first, second])


def _wire_reasons(answer: gr.HTML, reasons: gr.HTML, inputs: list[Any]) -> None:
    """A click on a match explains it."""
    item, numbers = gr.Number(0, visible=False, precision=0), gr.JSON(visible=False)
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    asked = answer.click(why.clicked, None, item, **hidden).success(
        why.explain_match,
        [*inputs[:3], item, *inputs[3:]],
        [reasons, numbers],
        api_name="explain_match",
        show_progress="hidden",
        **save.SHARED,
    )
    asked.failure(why.refused, None, reasons, **hidden)
