"""The Retrieve tab: pictures in, ranked matches of teacher and student out."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from vkd.retrieve import Hit
from vkd.ui import cards, parts, queries
from vkd.ui.parts import Places

EMPTY = cards.empty(
    "Who is this?",
    "Upload a picture of a person, or several pictures of the same person, or click an example. "
    "The best matches of the teacher and of the student appear here, side by side.",
)

NO_GALLERY = cards.empty(
    "There is no gallery yet",
    "A gallery is what is searched. Build one from a folder of pictures with: python -m vkd index FOLDER "
    "--checkpoints TEACHER STUDENT --out checkpoints/my-gallery, then open the app again.",
)
REFUSED = cards.empty(
    "No answer to this one",
    "The message at the top says what is wrong. Change the pictures or the choices and try again.",
)


def _cameras(texts: Sequence[str] | None) -> set[int] | None:
    """Camera numbers as chosen or typed → a set, or None for all."""
    numbers = [str(text).lower().removeprefix("camera").strip() for text in texts or []]
    wrong = [number for number in numbers if not number.isdecimal()]
    if wrong:
        raise ValueError(f"'{wrong[0]}' is not a camera: give its number, for instance 3.")
    return {int(number) for number in numbers} or None


def _row(hit: Hit, rank: int | None) -> dict[str, Any]:
    return {
        "rank": rank,
        "item": hit.item,
        "similarity": round(hit.similarity, 4),
        "identity": hit.identity,
        "camera": hit.camera,
        "name": hit.name,
        "verdict": hit.verdict,
    }


def _headline(query: queries.Query) -> str:
    count = len(query.pictures)
    kind = "Image query" if count == 1 else f"Tracklet query of {count} pictures"
    if query.identity is None:
        return f"{kind}: identity not known"
    return f"{kind}: {cards.who(query.identity, -1 if query.camera is None else query.camera)}"


@parts.kindly
def search(
    places: Places,
    pictures: list[Any] | None,
    gallery: str,
    teacher: str,
    student: str,
    top_k: int,
    cameras: list[str] | None,
    rerank: bool,
) -> tuple[str, dict[str, Any]]:
    """Rank a gallery against the pictures of one subject, once with the teacher and once with the student.

    One picture is an image query, several are views of one tracklet. Names are plain text: `gallery`,
    `teacher` and `student` are folder names, `cameras` are numbers as text (empty: all). Answers with the
    page's HTML and with the ranked lists as JSON: rank (null for junk), item, similarity (cosine), identity,
    camera, name, verdict.
    """
    started = time.perf_counter()
    query = queries.read_query(places, queries.picture_files(pictures))
    shelf, keep = parts.gallery(parts.gallery_folder(places, gallery)), _cameras(cameras)
    columns = []
    for part, name in (("teacher", teacher), ("student", student)):
        if not name:
            continue
        net = parts.network_of(places, name, shelf)
        hits = shelf.search(
            name,
            queries.embed(net, query.pictures).numpy(),
            k=int(top_k),
            cameras=keep,
            identity=query.identity,
            camera=query.camera,
            rerank=bool(rerank),
        )
        columns.append(cards.Column(part, name, hits))
    if not columns:
        raise ValueError("No network is chosen: pick a teacher or a student under 'Networks and gallery'.")
    views = [
        cards.picture_uri(picture.permute(1, 2, 0).numpy(), height=144) for picture in query.pictures[:8]
    ]
    took = (time.perf_counter() - started) * 1000
    detail = f"{len(shelf)} gallery items in {gallery} · cosine similarity · {took:.0f} ms"
    data = {
        answer.part: {
            "network": answer.network,
            "hits": list(map(_row, answer.hits, cards.ranks(answer.hits))),
        }
        for answer in columns
    }
    return cards.matches(_headline(query), detail, views, columns), data


def search_again(places: Places, pictures: list[Any] | None, *choices: Any) -> Any:
    """Search once more after a choice was changed; nothing happens while there are no pictures."""
    return search(places, pictures, *choices) if pictures else (gr.skip(), gr.skip())


def refused() -> tuple[str, None]:
    """What stands in place of an answer, so that no older answer is taken for this one's."""
    return REFUSED, None


def build(root: Path, gallery: Path | None = None) -> None:
    """Layout and wiring of the tab; `root` is the folder of checkpoints."""
    places = Places.of(root, gallery)
    names = [folder.name for folder in parts.gallery_folders(places)]
    teacher, student = parts.pair(places)
    choices = parts.camera_choices(places)
    state = gr.State(places)
    with gr.Row(elem_classes="vkd-page"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            with gr.Column(elem_classes="vkd-ask"):
                pictures = queries.picture_input("Pictures of one person")
                button = gr.Button("Find matches", variant="primary")
                chosen = queries.example_buttons(places)
            with gr.Column(elem_classes="vkd-options"):
                with gr.Group():
                    top_k = gr.Slider(1, 50, value=10, step=1, label="Matches to show (top k)")
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
        with gr.Column(elem_classes="vkd-results"):
            answer = gr.HTML(EMPTY if names else NO_GALLERY, label="Matches")
            with gr.Accordion("The same as data (JSON)", open=False):
                data = gr.JSON(label="Ranked lists")
    inputs = [state, pictures, shelf, first, second, top_k, cameras, rerank]
    outputs = [answer, data]
    shared: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}
    hidden: dict[str, Any] = {"api_visibility": "private"}
    found = [
        gr.on([button.click, pictures.upload], search, inputs, outputs, api_name="search", **shared),
        gr.on(
            [pictures.delete, top_k.release, cameras.change, rerank.change, shelf.change, first.change,
             second.change],
            search_again, inputs, outputs, **shared, **hidden,
        ),
        chosen.submit(queries.example_pictures, [state, chosen], pictures, api_name="example").success(
            search, inputs, outputs, **shared, **hidden
        ),
    ]  # fmt: skip
    for answered in found:
        answered.failure(refused, None, outputs, show_progress="hidden", **hidden)
