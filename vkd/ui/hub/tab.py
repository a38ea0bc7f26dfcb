"""The Hub tab: pulls checkpoints from the Hugging Face Hub, previews and pushes local ones."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vkd.ui import components, html, mode, state
from vkd.ui.components import QUIET
from vkd.ui.hub import actions
from vkd.ui.state import AppPaths

CSS = Path(__file__).parents[1] / "static" / "hub.css"

PULL_FIRST = html.empty_state(
    "Nothing pulled yet",
    "Enter a repository of the Hub, such as user/name, and press Pull. The checkpoint is verified, its card "
    "is shown here, and every tab can use it.",
)
PUSH_FIRST = html.empty_state(
    "Preview, then push",
    "Choose a checkpoint and a repository, and press Preview: the files to upload, what is not uploaded, and "
    "the model card are shown here. Only then can it be pushed.",
)
_NO_CHECKPOINT = html.empty_state(
    "Nothing to push yet",
    "Train a teacher and a student in the Train tab, or pull a checkpoint. It can be chosen then.",
)
IN_DEMO = (
    "Public demo: pulling is disabled. Log in with Hugging Face to push a checkpoint of this demo to your "
    "own account."
)
# Five tabs fit on a phone. Gradio measures them once, often before the style sheets are there.
_MEASURE = """() => {
  for (const wait of [200, 1000, 3000]) setTimeout(() => window.dispatchEvent(new Event('resize')), wait);
}"""
_MANY: dict[str, Any] = {"concurrency_limit": 8}
_OPEN_TAB = """
element.addEventListener('click', (event) => {
  const title = event.target.closest('button[data-tab]')?.dataset.tab;
  if (!title) return;
  const tabs = [...document.querySelectorAll('button[role="tab"]')];
  tabs.find((tab) => tab.textContent.trim() === title)?.click();
});
"""


def refresh_checkpoints(paths: AppPaths, chosen: str | None) -> Any:
    """Returns the update of the picker with the checkpoints that are there now."""
    names = state.checkpoints(paths)
    return gr.update(choices=names, value=chosen if chosen in names else next(iter(names), None))


def teacher_field(paths: AppPaths, name: str | None) -> Any:
    """Returns the update of the teacher's repository: hidden for a teacher."""
    if name in state.checkpoints(paths, "teacher"):
        return gr.update(visible=False, value="")
    return gr.update(visible=True)


def invalidate_preview() -> tuple[str, Any]:
    """Disables Push: what was previewed is no longer what would be sent."""
    return "", gr.update(interactive=False, variant="secondary")


def invalidate_sent(preview: str | None) -> tuple[Any, Any]:
    """Disables Push once the preview was sent and is gone."""
    return invalidate_preview() if not preview else (gr.skip(), gr.skip())


def enable_push(data: dict[str, Any] | None) -> tuple[str, Any]:
    """Enables Push of what was previewed."""
    digest = str((data or {}).get("previewed") or "")
    return digest, gr.update(interactive=bool(digest), variant="primary" if digest else "secondary")


# ---- layout


def _token(info: str) -> gr.Textbox:
    """Builds a password field; its value is sent with one request and is not stored."""
    return gr.Textbox(
        "",
        type="password",
        label="Token (optional)",
        info=info,
        placeholder="hf_…",
        visible=not mode.DEMO,
        html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
    )


def _repository(label: str, **more: Any) -> gr.Textbox:
    return gr.Textbox("", label=label, placeholder="user/name", max_lines=1, **more)


class PullForm(NamedTuple):
    """`values` in the order of `actions.pull`."""

    button: gr.Button
    values: list[Any]


def _pull_form() -> PullForm:
    with gr.Column(elem_classes="vkd-ask"):
        components.demo_note(IN_DEMO)
        repo = _repository("Repository")
        pair = gr.Checkbox(False, label="Also download the teacher", info="From the student's model card")
        button = gr.Button("Pull", variant="primary", interactive=not mode.DEMO)
        token = _token("For private repositories; not stored")
    title = "Advanced: revision, local name"
    with gr.Column(elem_classes="vkd-options"), gr.Accordion(title, open=False):
        revision = gr.Textbox(
            "", label="Revision", placeholder="main", info="Branch, tag or commit", max_lines=1
        )
        name = gr.Textbox("", label="Local name", placeholder="same as the repository", max_lines=1)
    return PullForm(button, [repo, revision, pair, token, name])


class PushForm(NamedTuple):
    """`values` in the order of `actions.preview`."""

    values: list[Any]
    token: gr.Textbox
    preview: gr.Button
    push: gr.Button

    @property
    def checkpoint(self) -> gr.Dropdown:
        return self.values[0]

    @property
    def teacher(self) -> gr.Textbox:
        return self.values[2]


def _push_form(here: AppPaths, paths: gr.State) -> PushForm:
    names = state.checkpoints(here)
    first = next(iter(names), None)
    teachers = state.checkpoints(here, "teacher")
    with gr.Column(elem_classes="vkd-ask"):
        chosen = gr.Dropdown(names, value=first, label="Checkpoint", allow_custom_value=True)
        repo = _repository("Repository")
        teacher = _repository("Teacher's repository (optional)", visible=first not in teachers)
        with gr.Group():
            private = gr.Checkbox(True, label="Private")
            proposal = gr.Checkbox(False, label="Open a pull request")
        token = _token("With write access; not stored")
        if actions.can_log_in(os.environ):  # elsewhere it would lend visitors the machine's own login
            gr.LoginButton(size="sm")
        with gr.Row():
            preview = gr.Button("Preview", variant="primary", min_width=100)
            push = gr.Button("Push", interactive=False, min_width=100)
    with gr.Column(elem_classes="vkd-options"):
        with gr.Accordion("Advanced: branch", open=False):
            revision = gr.Textbox(
                "", label="Branch", placeholder="main", info="Created if missing", max_lines=1
            )
        inputs = [paths, chosen, repo, teacher]
        components.save_button("Download README.md", actions.card_file, inputs, api_name="hub_card")
    return PushForm([chosen, repo, teacher, private, revision, proposal], token, preview, push)


def _job(kind: str) -> tuple[gr.HTML, gr.Button]:
    """Builds the status of a job, and its Cancel, which the style sheet shows while it runs."""
    with gr.Row(elem_classes="vkd-way"):
        return gr.HTML(elem_id=f"vkd-hub-{kind}"), gr.Button("Cancel", size="sm", elem_classes="vkd-halt")


def build(here: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    paths = gr.State(here)
    with gr.Tabs(elem_classes="vkd-ways"):
        with gr.Tab("Pull"), gr.Row(elem_classes="vkd-page vkd-hub"):
            with gr.Column(elem_classes="vkd-form", scale=0):
                pull_form = _pull_form()
            with gr.Column(elem_classes="vkd-results"):
                pull_job = _job("pull")
                pulled = gr.HTML(PULL_FIRST, elem_id="vkd-hub-came", js_on_load=_OPEN_TAB)
        with gr.Tab("Push") as push_tab, gr.Row(elem_classes="vkd-page vkd-hub"):
            with gr.Column(elem_classes="vkd-form", scale=0):
                push_form = _push_form(here, paths)
            with gr.Column(elem_classes="vkd-results"):
                push_job = _job("push")
                first = PUSH_FIRST if state.checkpoints(here) else _NO_CHECKPOINT
                preview = gr.HTML(first, elem_id="vkd-hub-preview")
    page.load(None, None, None, js=_MEASURE, api_visibility="private")
    _wire_pull(paths, pull_form, pull_job, pulled, opened)
    _wire_push(paths, push_form, push_job, preview, opened)
    chosen = push_form.checkpoint
    gr.on([*opened, push_tab.select], refresh_checkpoints, [paths, chosen], chosen, **QUIET).success(
        teacher_field, [paths, chosen], push_form.teacher, **QUIET
    )


def _wire_pull(
    paths: gr.State, form: PullForm, job: tuple[gr.HTML, gr.Button], pulled: gr.HTML, opened: list[Any]
) -> None:
    """Wires Pull, Cancel, and a page that is opened while a pull runs."""
    status, stop = job
    inputs, data, kind = [paths, *form.values], gr.JSON(visible=False), gr.Textbox("pull", visible=False)
    outputs = [status, pulled]
    gr.on([form.button.click, form.values[0].submit], actions.pull_page, inputs, outputs, **_MANY, **QUIET)
    gr.on(opened, actions.watch, [paths, kind], outputs, **_MANY, **QUIET)
    stop.click(
        actions.cancel, [paths, kind], status, api_name="hub_cancel", queue=False, show_progress="hidden"
    )
    components.endpoint(actions.pull, inputs, [status, data], api_name="hub_pull", **_MANY)


def _wire_push(
    paths: gr.State, form: PushForm, job: tuple[gr.HTML, gr.Button], preview: gr.HTML, opened: list[Any]
) -> None:
    """Wires Preview, then Push of what was previewed; a change of the form disables Push."""
    status, stop = job
    inputs = [paths, *form.values]
    data, answer = gr.JSON(visible=False), gr.JSON(visible=False)
    digest, kind = gr.Textbox(visible=False), gr.Textbox("push", visible=False)
    allowed = [digest, form.push]
    gr.on([each.change for each in form.values], invalidate_preview, None, allowed, queue=False, **QUIET)
    form.checkpoint.change(teacher_field, [paths, form.checkpoint], form.teacher, **QUIET)
    gr.on(
        [form.preview.click, form.values[1].submit], actions.preview_page, inputs, [preview, status, data],
        show_progress_on=preview, api_visibility="private",
    ).success(enable_push, data, allowed, **QUIET)  # fmt: skip
    sent = [*inputs, form.token, digest]
    form.push.click(actions.push_page, sent, [status, preview], **_MANY, **QUIET)
    preview.change(invalidate_sent, preview, allowed, **QUIET)
    gr.on(opened, actions.watch, [paths, kind], [status, preview], **_MANY, **QUIET)
    stop.click(actions.cancel, [paths, kind], status, queue=False, **QUIET)
    components.endpoint(actions.preview, inputs, [preview, data], api_name="hub_preview")
    components.endpoint(actions.push, sent, [status, answer], api_name="hub_push", **_MANY)
