"""The Explain tab: where teacher and student look, side by side or under a slider that wipes between them."""

import io
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from vkd.explain import METHODS
from vkd.ui import cards, explained, heats, parts, queries, save
from vkd.ui.explained import CHOSEN, IDENTITY, SECOND
from vkd.ui.parts import Places
from vkd.ui.retrieve import REFUSED

EMPTY = cards.empty(
    "Where does it look?",
    "Upload a picture, or click an example. The parts that made the teacher and the student "
    "recognise the person appear here. With a second picture the maps show what the two have in common.",
)
LAYERS = [("the last map", "last"), *((f"stage {n} from the end", str(-n)) for n in range(2, 6))]


@parts.kindly
def explain(
    places: Places,
    pictures: list[Any] | None,
    second: list[Any] | None,
    target: str,
    method: str,
    teacher: str | None,
    student: str | None,
    layer: str = "last",
    identity: str = "",
) -> tuple[str, dict[str, Any]]:
    """Heatmaps of teacher and student for the pictures, or the clip, of one subject.

    `target` is `top identity` (the logit of the training identity the network thinks of), `chosen identity`
    (that of the training identity numbered `identity`) or `second picture` (the cosine similarity to the
    embedding of `second`). `layer` is `last`, the number of a stage (from the end where negative) or a
    layer's name. Names are plain text. Answers with the page's HTML and with the explained number of each
    network as JSON; `on_subject` is the share of the heat on the subject where its mask is known.
    """
    found = explained.explain(places, pictures, second, target, method, teacher, student, layer, identity)
    return explained.as_html(found), explained.as_data(found)


def explain_again(
    places: Places, pictures: list[Any] | None, second: list[Any] | None, target: str, *rest: Any
) -> Any:
    """Explain once more after a choice was changed; nothing happens while something is missing."""
    if not pictures or (target == SECOND and not second) or (target == CHOSEN and not str(rest[-1] or "")):
        return gr.skip(), gr.skip()
    return explain(places, pictures, second, target, *rest)


@save.kindly
def save_heat(places: Places, pictures: list[Any] | None, *choices: Any) -> tuple[bytes, str]:
    """The heatmaps of `explain`, with the same arguments, as one PNG picture."""
    file = io.BytesIO()
    explained.as_picture(explained.explain(places, pictures, *choices)).save(file, "PNG")
    return file.getvalue(), "vkd-heatmaps.png"


def warm(places: Places) -> None:
    """Make one small heatmap, so that the first visitor does not wait for what only heatmaps need."""
    for name in filter(None, parts.pair(places)):
        net = parts.network(parts.checkpoint_folder(places, name))
        blank = torch.zeros(3, *net.config.image_size, dtype=torch.uint8)
        heats.compute(net, [blank], None, next(iter(METHODS)))


def refused() -> tuple[str, None]:
    """What stands in place of an answer, so that no older answer is taken for this one's."""
    return REFUSED, None


_WIPE = """
let view = 'side', cut = 50;
const show = () => {
  const answer = element.querySelector('.vkd-answer'), place = element.querySelector('.vkd-wipes');
  if (!answer || !place) return;
  answer.dataset.view = view;
  answer.querySelectorAll('[data-choose]').forEach((one) =>
    one.setAttribute('aria-pressed', String(one.dataset.choose === view)));
  if (view === 'wipe' && !place.childElementCount) {
    const maps = (part) => [...answer.querySelectorAll(`.vkd-panel.vkd-${part} .vkd-pair img:last-child`)];
    const student = maps('student');
    maps('teacher').forEach((under, n) => {
      const pair = document.createElement('div');
      pair.className = 'vkd-wipe';
      pair.append(under.cloneNode(), student[n].cloneNode());
      place.append(pair);
    });
    place.classList.toggle('vkd-many', place.childElementCount > 2);
  }
  place.style.setProperty('--vkd-cut', `${cut}%`);
  const slider = answer.querySelector('input[type=range]');
  if (slider) slider.value = cut;
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-choose]');
  if (button) { view = button.dataset.choose; show(); }
});
element.addEventListener('input', (event) => {
  if (event.target.type === 'range') { cut = Number(event.target.value); show(); }
});
watch('value', () => requestAnimationFrame(show));
"""


def build(root: Path, gallery: Path | None = None) -> None:
    """Layout and wiring of the tab; `root` is the folder of checkpoints."""
    places = Places.of(root, gallery)
    teacher, student = parts.pair(places)
    state = gr.State(places)
    with gr.Row(elem_classes="vkd-page"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            with gr.Column(elem_classes="vkd-ask"):
                pictures = queries.picture_input("Pictures or a clip")
                target = gr.Radio(
                    [
                        ("What speaks for its top identity", IDENTITY),
                        ("What speaks for a training identity", CHOSEN),
                        ("What it shares with a second picture", SECOND),
                    ],
                    value=IDENTITY,
                    label="Explain",
                )
                identity = gr.Textbox(
                    value="",
                    label="Training identity",
                    info="Its number in the data set",
                    max_lines=1,
                    visible=False,
                )
                with gr.Column(visible=False) as beside:
                    second = queries.picture_input("Second picture")
                button = gr.Button("Explain", variant="primary")
                chosen = queries.example_buttons(places)
            with gr.Column(elem_classes="vkd-options"), gr.Accordion("Networks and method", open=False):
                method = gr.Dropdown(list(METHODS), label="Method", allow_custom_value=True)
                layer = gr.Dropdown(
                    LAYERS,
                    label="Layer",
                    info="Or type a stage's number or a layer's name",
                    allow_custom_value=True,
                )
                first = parts.network_choice(places, "teacher", teacher)
                other = parts.network_choice(places, "student", student)
        with gr.Column(elem_classes="vkd-results"):
            answer = gr.HTML(EMPTY, label="Heatmaps", js_on_load=_WIPE)
            inputs = [state, pictures, second, target, method, first, other, layer, identity]
            with gr.Row(elem_classes="vkd-keep"):
                save.button("Save as PNG", save_heat, inputs, api_name="explain_picture")
            with gr.Accordion("The same as data (JSON)", open=False):
                data = gr.JSON(label="Explained numbers")
    outputs = [answer, data]
    hidden: dict[str, Any] = {"api_visibility": "private"}
    target.change(show_asked, target, [beside, identity], show_progress="hidden", **hidden)
    found = [
        button.click(explain, inputs, outputs, api_name="explain", **save.SHARED),
        gr.on(
            [pictures.upload, pictures.delete, second.upload, target.change, method.input, layer.input,
             identity.submit, first.input, other.input],
            explain_again, inputs, outputs, **save.SHARED, **hidden,
        ),
        chosen.submit(queries.example_pictures, [state, chosen], pictures, **hidden).success(
            explain_again, inputs, outputs, **save.SHARED, **hidden
        ),
    ]  # fmt: skip
    for answered in found:
        answered.failure(refused, None, outputs, show_progress="hidden", **hidden)
    gr.on(
        parts.opened(), parts.networks_again, [state, first, other], [first, other],
        show_progress="hidden", **hidden,
    )  # fmt: skip


def show_asked(target: str) -> tuple[Any, Any]:
    """The place for a second picture, or for a training identity, only where it is asked for."""
    return gr.Column(visible=target == SECOND), gr.Textbox(visible=target == CHOSEN)
