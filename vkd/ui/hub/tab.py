"""The Hub tab: checkpoints come from the Hugging Face Hub and go there, with their cards."""

import os
from pathlib import Path
from typing import Any

import gradio as gr

from vkd.ui import components, html, mode, state
from vkd.ui.hub import actions, arrivals
from vkd.ui.state import AppPaths

CSS = Path(__file__).parents[1] / "static" / "hub.css"

PULL_FIRST = html.empty_state(
    "Nothing pulled yet",
    "Give a repository of the Hub, such as user/name, and press Pull. The checkpoint is checked, its card is "
    "shown here, and every tab can use it.",
)
PUSH_FIRST = html.empty_state(
    "Look first, then send",
    "Choose a checkpoint, say where it goes, and press Preview: here you see every file that would go, what "
    "stays on this machine, and the card. Only then can it be pushed.",
)
_NO_NETWORK = html.empty_state(
    "There is nothing to push yet",
    "Train a teacher and a student in the Train tab, or pull a checkpoint. It can be chosen then.",
)
IN_DEMO = (
    "This is a public demo: it pulls nothing. Log in with Hugging Face to push a checkpoint of this demo "
    "to your own account."
)
# Five tabs fit on a phone. Gradio measures them once, often before the style sheets are there.
_MEASURE = """() => {
  for (const wait of [200, 1000, 3000]) setTimeout(() => window.dispatchEvent(new Event('resize')), wait);
}"""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_JUMP = """
element.addEventListener('click', (event) => {
  const wanted = event.target.closest('button[data-tab]')?.dataset.tab;
  if (!wanted) return;
  const tabs = [...document.querySelectorAll('button[role="tab"]')];
  tabs.find((tab) => tab.textContent.trim() === wanted)?.click();
});
"""


def look_again(paths: AppPaths, chosen: str | None) -> Any:
    """The checkpoints there are now; one that is gone gives way to the newest."""
    names = state.checkpoints(paths)
    return gr.update(choices=names, value=chosen if chosen in names else next(iter(names), None))


def teacher_field(paths: AppPaths, name: str | None) -> Any:
    """Only what is no teacher has a teacher."""
    if name in state.checkpoints(paths, "teacher"):
        return gr.update(visible=False, value="")
    return gr.update(visible=True)


def forget() -> tuple[str, Any]:
    """What was previewed is no longer what would be sent."""
    return "", gr.update(interactive=False, variant="secondary")


def forget_sent(preview: str | None) -> tuple[Any, Any]:
    """Once sent, it is not sent again without another look."""
    return forget() if not preview else (gr.skip(), gr.skip())


def remember(data: dict[str, Any] | None) -> tuple[str, Any]:
    """What was previewed may be sent."""
    mark = str((data or {}).get("previewed") or "")
    return mark, gr.update(interactive=bool(mark), variant="primary" if mark else "secondary")


# ---- layout


def _token(what: str) -> gr.Textbox:
    """A password field; what is typed goes to the Hub with the one request and is kept nowhere."""
    return gr.Textbox(
        "",
        type="password",
        label="Token (optional)",
        info=what,
        placeholder="hf_…",
        visible=not mode.DEMO,
        html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
    )


def _repository(label: str, placeholder: str = "user/name", **more: Any) -> gr.Textbox:
    return gr.Textbox("", label=label, placeholder=placeholder, max_lines=1, **more)


def _login() -> None:
    """On a Space: the button by which visitors log in. Elsewhere it would lend them the machine's own login,
    and without its packages the page could not open.
    """
    if actions.can_log_in(os.environ):
        gr.LoginButton(size="sm")


def _pull_form() -> dict[str, Any]:
    with gr.Column(elem_classes="vkd-ask"):
        components.demo_note(IN_DEMO)
        repo = _repository("Repository")
        pair = gr.Checkbox(False, label="With its teacher", info="The one that the student's card names")
        button = gr.Button("Pull", variant="primary", interactive=not mode.DEMO)
        token = _token("For what is private. Used once, kept nowhere")
    with gr.Column(elem_classes="vkd-options"), gr.Accordion("Revision, name here", open=False):
        revision = gr.Textbox(
            "", label="Revision", placeholder="main", info="Branch, tag or commit", max_lines=1
        )
        name = gr.Textbox("", label="Name here", placeholder="that of the repository", max_lines=1)
    return {"button": button, "asked": [repo, revision, pair, token, name]}


def _push_form(here: AppPaths, paths: gr.State) -> dict[str, Any]:
    names = state.checkpoints(here)
    first = next(iter(names), None)
    with gr.Column(elem_classes="vkd-ask"):
        chosen = gr.Dropdown(names, value=first, label="Checkpoint", allow_custom_value=True)
        repo = _repository("Repository")
        teacher = _repository(
            "Its teacher's repository (optional)", visible=first not in state.checkpoints(here, "teacher")
        )
        with gr.Group():
            private = gr.Checkbox(True, label="Private")
            proposal = gr.Checkbox(False, label="Open a pull request")
        token = _token("One that may write. Used once, kept nowhere")
        _login()
        with gr.Row():
            look = gr.Button("Preview", variant="primary", min_width=100)
            send = gr.Button("Push", interactive=False, min_width=100)
    with gr.Column(elem_classes="vkd-options"):
        with gr.Accordion("Branch", open=False):
            revision = gr.Textbox(
                "", label="Branch", placeholder="main", info="Made where it is missing", max_lines=1
            )
        card = [paths, chosen, repo, teacher]
        components.save_button("Save the card alone", actions.card_file, card, api_name="hub_card")
    asked = [chosen, repo, teacher, private, revision, proposal]
    return {"chosen": chosen, "teacher": teacher, "asked": asked, "token": token, "look": look, "send": send}


def _under_way(kind: str) -> tuple[gr.HTML, gr.Button]:
    """How a job stands, and its Cancel, which the style sheet shows while it is at work."""
    with gr.Row(elem_classes="vkd-way"):
        status = gr.HTML(elem_id=f"vkd-hub-{kind}")
        halt = gr.Button("Cancel", size="sm", elem_classes="vkd-halt")
    return status, halt


def build(here: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    paths = gr.State(here)
    with gr.Tabs(elem_classes="vkd-ways"):
        with gr.Tab("Pull"), gr.Row(elem_classes="vkd-page vkd-hub"):
            with gr.Column(elem_classes="vkd-form", scale=0):
                pulls = _pull_form()
            with gr.Column(elem_classes="vkd-results"):
                came, halt_pull = _under_way("pull")
                shown = gr.HTML(PULL_FIRST, elem_id="vkd-hub-came", js_on_load=_JUMP)
        with gr.Tab("Push") as push_tab, gr.Row(elem_classes="vkd-page vkd-hub"):
            with gr.Column(elem_classes="vkd-form", scale=0):
                pushes = _push_form(here, paths)
            with gr.Column(elem_classes="vkd-results"):
                sent, halt_push = _under_way("push")
                preview = gr.HTML(
                    PUSH_FIRST if state.checkpoints(here) else _NO_NETWORK, elem_id="vkd-hub-preview"
                )
    page.load(None, None, None, js=_MEASURE, api_visibility="private")
    _wire_pull(paths, pulls, came, shown, halt_pull, opened)
    _wire_push(paths, pushes, preview, sent, halt_push, opened)
    gr.on(
        [*opened, push_tab.select], look_again, [paths, pushes["chosen"]], pushes["chosen"], **_QUIET
    ).success(teacher_field, [paths, pushes["chosen"]], pushes["teacher"], **_QUIET)


def _wire_pull(
    paths: gr.State, form: dict[str, Any], status: gr.HTML, shown: gr.HTML, halt: gr.Button, opened: list[Any]
) -> None:
    """Pull, Cancel, and a page that is opened while something is pulled."""
    asked, data, kind = form["asked"], gr.JSON(visible=False), gr.Textbox("pull", visible=False)
    many: dict[str, Any] = {"concurrency_limit": 8, **_QUIET}
    form["button"].click(arrivals.pull_now, [paths, *asked], [status, shown], **many)
    asked[0].submit(arrivals.pull_now, [paths, *asked], [status, shown], **many)
    gr.on(opened, arrivals.watch_pull, paths, [status, shown], **many)
    halt.click(
        arrivals.cancel, [paths, kind], status, api_name="hub_cancel", queue=False, show_progress="hidden"
    )
    programs = gr.Button(visible=False)
    programs.click(arrivals.pull, [paths, *asked], [status, data], api_name="hub_pull", concurrency_limit=8)


def _wire_push(
    paths: gr.State,
    form: dict[str, Any],
    preview: gr.HTML,
    status: gr.HTML,
    halt: gr.Button,
    opened: list[Any],
) -> None:
    """Preview, then Push of what was previewed; a change of the form takes the permission back."""
    asked, token, send = form["asked"], form["token"], form["send"]
    data, answer = gr.JSON(visible=False), gr.JSON(visible=False)
    mark, kind = gr.Textbox(visible=False), gr.Textbox("push", visible=False)
    gr.on([each.change for each in asked], forget, None, [mark, send], queue=False, **_QUIET)
    form["chosen"].change(teacher_field, [paths, form["chosen"]], form["teacher"], **_QUIET)
    looked = gr.on(
        [form["look"].click, asked[1].submit], actions.preview_now, [paths, *asked],
        [preview, status, data], show_progress_on=preview, api_visibility="private",
    )  # fmt: skip
    looked.success(remember, data, [mark, send], **_QUIET)
    many: dict[str, Any] = {"concurrency_limit": 8}
    asked_to_send = [paths, *asked, token, mark]
    send.click(actions.push_now, asked_to_send, [status, preview], **many, **_QUIET)
    preview.change(forget_sent, preview, [mark, send], **_QUIET)
    gr.on(opened, actions.watch_push, paths, status, **many, **_QUIET)
    halt.click(arrivals.cancel, [paths, kind], status, queue=False, **_QUIET)
    programs = gr.Button(visible=False)
    programs.click(actions.preview, [paths, *asked], [preview, data], api_name="hub_preview")
    programs.click(actions.push, asked_to_send, [status, answer], api_name="hub_push", **many)
