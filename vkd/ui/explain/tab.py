"""The Explain tab: where teacher and student look, side by side or under a slider that wipes between them."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gradio as gr
import torch

from vkd.explain.dataset import METHODS
from vkd.ui import components, html, limits, mode
from vkd.ui import inputs as ui_inputs
from vkd.ui import state as ui_state
from vkd.ui.errors import show_errors
from vkd.ui.explain import explained, heatmaps
from vkd.ui.explain.explained import CHOSEN, IDENTITY, SECOND, Wanted
from vkd.ui.state import AppPaths

EMPTY = html.empty_state(
    "Where does it look?",
    "Upload a picture, or click an example. The parts that made the teacher and the student "
    "recognise the person appear here. With a second picture the maps show what the two have in common.",
)
NO_SECOND = html.empty_state(
    "Which second picture?",
    "Upload it in the form, or click an example: it becomes the second picture. Then the maps show what the "
    "two have in common.",
)
NO_NUMBER = html.empty_state(
    "Which training identity?",
    "Type its number in the form and press Enter. Then the maps show what in the picture speaks for it.",
)
CANCELLED = html.empty_state("Cancelled", "Press Explain to look again.")
LABELS = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "layercam": "Layer-CAM",
    "eigencam": "Eigen-CAM (looks at no target)",
    "hirescam": "HiRes-CAM",
}
LAYERS = [("the last map", "last"), *((f"stage {n} from the end", str(-n)) for n in range(2, 6))]


@limits.rate_limited
@mode.on_gpu
@show_errors
def explain(
    paths: AppPaths,
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
    wanted = Wanted(target, method, teacher, student, layer, identity)
    *_, found = explained.explain(paths, pictures, second, wanted)
    return explained.as_html(found), explained.as_data(found)


@components.downloads(like=explain)
def save_heat(
    paths: AppPaths, pictures: list[Any] | None, second: list[Any] | None, *choices: Any
) -> tuple[bytes, str]:
    """The heatmaps of `explain`, with the same arguments, as one PNG picture."""
    file = io.BytesIO()
    *_, found = explained.explain(paths, pictures, second, Wanted(*choices))
    explained.as_picture(found).save(file, "PNG")
    return file.getvalue(), "vkd-heatmaps.png"


# --- what the page shows ------------------------------------------------------------------------------------


def welcome(paths: AppPaths) -> str:
    """What to do first."""
    return EMPTY if ui_state.checkpoints(paths) else html.NO_MODEL


def missing(paths: AppPaths, pictures: Any, second: Any, target: str, identity: str) -> str:
    """What to do next where something is not there yet; empty where all is."""
    if not pictures:
        return welcome(paths)
    if target == SECOND and not second:
        return NO_SECOND
    return NO_NUMBER if target == CHOSEN and not (identity or "").strip() else ""


@show_errors
def _shown(steps: Iterator[explained.Explained]) -> tuple[str, Any] | None:
    """The next step as the page shows it; None after the last."""
    found = next(steps, None)
    return found and (explained.as_html(found), gr.skip() if found.rest else explained.as_data(found))


@mode.on_gpu
def _steps(
    paths: AppPaths, pictures: list[Any] | None, second: list[Any] | None, choices: Sequence[Any]
) -> Iterator[tuple[str, Any]]:
    """One network's maps after the other, as the page shows them."""
    steps = explained.explain(paths, pictures, second, Wanted(*choices))
    while (shown := _shown(steps)) is not None:
        yield shown


def explain_now(
    paths: AppPaths, pictures: list[Any] | None, second: list[Any] | None, *choices: Any
) -> Iterator[tuple[str, Any, str]]:
    """`explain` for the page: the teacher's maps are shown while the student's are made, and what went wrong
    stands where the answer would be."""
    asked = ui_inputs.question(pictures, second, choices)
    try:
        limits.check_rate()
        for shown in _steps(paths, pictures, second, choices):
            yield *shown, asked
    except gr.Error as wrong:
        yield html.error_box("Search failed", wrong.message), None, asked


def explain_again(
    paths: AppPaths, before: str, pictures: list[Any] | None, second: list[Any] | None, *choices: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """Explain after a change of pictures or choices, once for each change."""
    asked, (target, *_, identity) = ui_inputs.question(pictures, second, choices), choices
    if asked == before:
        yield gr.skip(), gr.skip(), gr.skip()
    elif todo := missing(paths, pictures, second, target, identity):
        yield todo, None, asked
    else:
        yield from explain_now(paths, pictures, second, *choices)


def cancelled() -> tuple[str, None, str]:
    """What stands in place of an answer that nobody waits for any more."""
    return CANCELLED, None, ""


def look_again(
    paths: AppPaths, pictures: list[Any] | None, teacher: str | None, student: str | None
) -> list[Any]:
    """The checkpoints there are now, and what to do first while nothing was asked."""
    networks = components.refresh_models(paths, teacher, student)
    return [*networks, gr.skip() if pictures else welcome(paths)]


@show_errors
def show_example(paths: AppPaths, example: str, target: str, pictures: list[Any] | None) -> tuple[Any, Any]:
    """An example goes where a picture is missing: into the second field where that is what is asked for."""
    files = ui_inputs.example_pictures(paths, example)
    return (gr.skip(), files) if target == SECOND and pictures else (files, gr.skip())


def show_asked(target: str) -> tuple[Any, Any]:
    """The place for a second picture, or for a training identity, only where it is asked for."""
    return gr.Column(visible=target == SECOND), gr.Textbox(visible=target == CHOSEN)


def warm(paths: AppPaths) -> None:
    """Make one small heatmap, so that the first visitor does not wait for what only heatmaps need."""
    if mode.ZERO_GPU:  # no GPU is lent to this process itself
        return
    for name in filter(None, ui_state.default_pair(paths)):
        net = ui_state.load_model(ui_state.checkpoint_folder(paths, name))
        blank = torch.zeros(3, *net.config.image_size, dtype=torch.uint8)
        heatmaps.compute(net, [blank], None, next(iter(METHODS)))


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


class Form(NamedTuple):
    """The left side: what is asked, in the order of `explain`'s arguments."""

    pictures: gr.Gallery
    second: gr.Gallery
    target: gr.Radio
    method: gr.Dropdown
    teacher: gr.Dropdown
    student: gr.Dropdown
    layer: gr.Dropdown
    identity: gr.Textbox
    beside: gr.Column
    """Where the second picture is asked for."""
    button: gr.Button
    halt: gr.Button
    chosen: gr.HTML


def build(paths: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    state, before = gr.State(paths), gr.State("")
    with gr.Row(elem_classes="vkd-page"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            form = _form(paths)
        inputs = [state, *form[:8]]
        with gr.Column(elem_classes="vkd-results"):
            with gr.Row(elem_classes="vkd-keep"):
                components.save_button("Save as PNG", save_heat, inputs, api_name="explain_picture")
            answer = gr.HTML(welcome(paths), label="Heatmaps", js_on_load=_WIPE, elem_classes="vkd-heatmaps")
            with gr.Accordion("The same as data (JSON)", open=False, elem_classes="vkd-json"):
                data = gr.JSON(label="Explained numbers")
    components.endpoint(explain, inputs, [answer, data], api_name="explain", **components.SHARED)
    _wire(form, inputs, [answer, data, before], opened)


def _form(paths: AppPaths) -> Form:
    teacher, student = ui_state.default_pair(paths)
    with gr.Column(elem_classes="vkd-ask"):
        pictures = ui_inputs.picture_input("Pictures or a clip")
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
            value="", label="Training identity", info="Its number in the data set", max_lines=1, visible=False
        )
        with gr.Column(visible=False) as beside:
            second = ui_inputs.picture_input("Second picture")
        with gr.Row(elem_classes="vkd-go"):
            button = gr.Button("Explain", variant="primary")
            halt = gr.Button("Cancel", elem_classes="vkd-halt")
        chosen = ui_inputs.example_buttons(paths)
    with gr.Column(elem_classes="vkd-options"), gr.Accordion("Networks and method", open=False):
        methods = [(LABELS.get(name, name), name) for name in METHODS]
        method = gr.Dropdown(methods, label="Method", allow_custom_value=True)
        layer = gr.Dropdown(
            LAYERS, label="Layer", info="Or type a stage's number or a layer's name", allow_custom_value=True
        )
        first = components.model_dropdown(paths, "teacher", teacher)
        other = components.model_dropdown(paths, "student", student)
    return Form(pictures, second, target, method, first, other, layer, identity, beside, button, halt, chosen)


def _wire(form: Form, inputs: list[Any], outputs: list[Any], opened: list[Any]) -> None:
    """What is asked is answered at once; `inputs` start with the paths, `outputs` end with the question."""
    hidden: dict[str, Any] = {"api_visibility": "private"}
    state, (answer, _, before) = inputs[0], outputs
    once_more = [state, before, *inputs[1:]]
    form.target.change(
        show_asked, form.target, [form.beside, form.identity], show_progress="hidden", **hidden
    )
    running: list[Any] = [
        form.button.click(explain_now, inputs, outputs, **components.SHARED, **hidden),
        form.chosen.submit(
            show_example, [state, form.chosen, form.target, form.pictures], [form.pictures, form.second],
            show_progress="hidden", **hidden,
        ).success(explain_again, once_more, outputs, **components.SHARED, **hidden),
        gr.on(
            [form.pictures.change, form.second.change, form.target.change, form.method.input,
             form.layer.input, form.identity.submit, form.teacher.input, form.student.input],
            explain_again, once_more, outputs,
            trigger_mode="always_last", **components.SHARED, **hidden,
        ),
    ]  # fmt: skip
    form.halt.click(cancelled, None, outputs, cancels=running, queue=False, show_progress="hidden", **hidden)
    gr.on(
        opened, look_again, [state, form.pictures, form.teacher, form.student],
        [form.teacher, form.student, answer], show_progress="hidden", **hidden,
    )  # fmt: skip
