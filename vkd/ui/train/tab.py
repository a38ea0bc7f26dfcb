"""The Train tab: a settings form, runs that are independent of the page, live curves."""

from pathlib import Path
from typing import Any

import gradio as gr

from vkd.ui import components, limits, plots
from vkd.ui.components import QUIET
from vkd.ui.errors import show_errors
from vkd.ui.html import render
from vkd.ui.state import AppPaths
from vkd.ui.train import actions, attention, curves, presets, runs, views

CSS = Path(__file__).parents[1] / "static" / "train.css"
IN_DEMO = (
    "Public demo: training is disabled. The runs of the demo's own models are shown, and the form writes the "
    "command line that starts such a run on your own machine."
)
# What the page shows already, read from the page itself: a component may not be drawn yet.
_HAVE = """(paths, selected, have) => {
  const mark = (id) => document.querySelector(`#${id} [data-mark]`)?.dataset.mark ?? '';
  const played = window.vkdAttention;
  return [paths, selected, {
    list: mark('vkd-train-list'), headline: mark('vkd-train-headline'), log: mark('vkd-train-log'),
    curves: mark('vkd-train-curves'), attention: played ? { run: played.run, epochs: played.epochs } : null,
  }];
}"""
# A box shows what the server answers: a run too many stays unticked.
_CLICKS = """
element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-run]');
  if (!row) return;
  const box = event.target.closest('label');
  if (box) event.preventDefault();
  trigger('click', { run: row.dataset.run, how: box ? 'box' : 'name' });
});
"""

# ---- for programs


def list_runs(paths: AppPaths) -> list[dict[str, Any]]:
    """List every run: name, state, stage, dataset, epochs, seconds left, scores (fractions), why it ended."""
    return [runs.as_json(run) for run in runs.read_runs(paths.checkpoints)]


@show_errors
def run_points(paths: AppPaths, name: str, offset: float) -> dict[str, Any]:
    """Return points of a run's curves after a byte offset (0: all), with the offset of the next call."""
    points, end = runs.points_after(runs.folder_of(paths.checkpoints, name), int(offset))
    return {"points": points, "offset": end}


@show_errors
def run_log(paths: AppPaths, name: str) -> str:
    """Return the last lines of a run's log."""
    return runs.log_tail(runs.folder_of(paths.checkpoints, name))


# ---- what the page shows


def refresh(paths: AppPaths, selected: list[str] | None, have: dict[str, Any] | None) -> list[Any]:
    """Returns what changed since this page's last call: selection, list, headline, curves, attention, log,
    Stop, Resume, Delete. `have` has the digests of what the page shows.
    """
    have = have or {}
    listed = runs.read_runs(paths.checkpoints)
    by_name, colours = {run.name: run for run in listed}, runs.colour_indexes(listed)
    chosen = [name for name in selected or [] if name in by_name] or runs.default_selection(listed)
    first = by_name[chosen[0]] if chosen else None
    list_html = views.list_html(listed, chosen, colours)
    headline = views.headline_html(first) if first else views.marked("")
    log = views.log_html(paths.checkpoints, chosen)
    drawn = curves.refresh(paths.checkpoints, chosen, colours, have.get("curves"))
    shows = have.get("attention")  # None: that sub-tab was not opened yet, and its images are not sent
    snapshots = attention.refresh(first.folder, shows) if first and shows is not None else None
    changed = views.mark_of(headline) != have.get("headline")
    return [
        gr.skip() if chosen == selected else chosen,
        gr.skip() if views.mark_of(list_html) == have.get("list") else list_html,
        headline if changed else gr.skip(),
        gr.skip() if drawn is None else drawn,
        gr.skip() if snapshots is None else snapshots,
        gr.skip() if views.mark_of(log) == have.get("log") else log,
        *(_buttons(first) if changed else [gr.skip()] * 3),
    ]


def _buttons(run: runs.Run | None) -> list[Any]:
    """Returns the updates of Stop, Resume and Delete."""
    if run is None:
        return [gr.update(interactive=False)] * 3
    return [
        gr.update(interactive=run.active and run.state != "stopping"),
        gr.update(interactive=not run.active and run.state not in ("finished", "broken")),
        gr.update(interactive=not run.active and not run.imported),
    ]


def select(selected: list[str] | None, event: gr.EventData) -> list[str]:
    """Returns the selection after a click: a name is selected, a box adds or removes a run's curves."""
    name, others = str(event.run), list(selected or [])
    if event.how != "box":
        return [name, *(other for other in others[1:] if other != name)]
    if name in others:
        return [other for other in others if other != name]
    if len(others) >= runs.MAX_DRAWN:
        gr.Warning(f"At most {runs.MAX_DRAWN} runs are drawn: untick one first.", title="Too many runs")
        return others
    return [*others, name]


def ask_delete(selected: list[str] | None) -> tuple[Any, str, str]:
    """Opens the confirmation; it names the run that it deletes, whatever is selected meanwhile."""
    name = selected[0] if selected else ""
    return gr.update(visible=bool(name)), render("train/delete.html.j2", name=name), name


def close_other(selected: list[str] | None, name: str) -> tuple[Any, str]:
    """Closes the confirmation once another run is selected."""
    same = bool(name) and (selected or [""])[0] == name
    return gr.update(visible=same), name if same else ""


def close_confirmation() -> tuple[Any, str]:
    return gr.update(visible=False), ""


# ---- layout


def build(here: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    paths = gr.State(here)
    trains = limits.training_allowed()
    with gr.Row(elem_classes="vkd-train"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            form = presets.layout(here)
            with form.begin:
                if not trains:
                    components.demo_note(IN_DEMO)
                begin = gr.Button("Start training", variant="primary", visible=trains)
                with gr.Row(visible=trains, elem_classes="vkd-name-row"):
                    name = gr.Textbox(label="Run name", placeholder="optional", max_lines=1)
                    inspect = gr.Button("Inspect dataset", size="sm")
                summary = gr.HTML(elem_id="vkd-train-data")
                generate = gr.Button("Generate the synthetic dataset (~1 min)", size="sm", visible=False)
                rows = gr.JSON(visible=False)
                gr.HTML('<a class="vkd-jump" href="#vkd-train-data-group">All settings ↓</a>')
        with gr.Column(elem_classes="vkd-results"):
            listing = gr.HTML(elem_id="vkd-train-list", js_on_load=_CLICKS)
            headline, buttons, reuse = _headline(trains)
            confirmation = _confirmation()
            with gr.Tabs():
                with gr.Tab("Curves"):
                    drawn = plots.component(elem_id="vkd-train-curves", elem_classes="vkd-curves")
                with gr.Tab("Grad-CAM over epochs") as attention_tab:
                    played = attention.component(elem_id="vkd-train-attention")
                with gr.Tab("Log"):
                    log = gr.HTML(elem_id="vkd-train-log")
    selected, have = gr.JSON([], visible=False), gr.JSON({}, visible=False)
    presets.wire(page, paths, form, selected, reuse)
    ticks = [components.ticker().click, selected.change, attention_tab.select, *opened[1:]]
    outputs = [selected, listing, headline, drawn, played, log, *buttons]
    gr.on(ticks, refresh, [paths, selected, have], outputs, js=_HAVE, **QUIET)
    listing.click(select, selected, selected, **QUIET)
    _wire_dataset(paths, form, inspect, generate, (summary, rows, generate))
    started = gr.Textbox(visible=False)
    data = [form.inputs[field] for field in ("dataset", "root", "cameras")]
    begin.click(presets.read_form, [paths, *form.read], form.checked, **QUIET).success(
        presets.require_valid, form.errors, None, **QUIET
    ).success(actions.show_data, [paths, *data], [summary, rows, generate], **QUIET).success(
        actions.start, [paths, form.text, name], started, api_name="train_start"
    ).success(lambda name: [name], started, selected, **QUIET)
    _wire_run(paths, selected, buttons, confirmation)


def _headline(trains: bool) -> tuple[gr.HTML, list[gr.Button], gr.Button]:
    """Builds the selected run's line: headline, Stop, Resume and Delete, and the button to its settings."""
    with gr.Row(elem_classes="vkd-head-row"):
        headline = gr.HTML(elem_id="vkd-train-headline")
        with gr.Row(elem_classes="vkd-run-actions", visible=trains):
            labels = ("Stop", "Resume", "Delete…")
            buttons = [gr.Button(label, size="sm", interactive=False) for label in labels]
            reuse = gr.Button("Load settings into form", size="sm")
    return headline, buttons, reuse


def _confirmation() -> tuple[gr.Row, gr.HTML, gr.Textbox, gr.Button, gr.Button]:
    """Builds the question before a run is deleted; the hidden field holds the name that it shows."""
    with gr.Row(visible=False, elem_classes="vkd-confirm") as row:
        question = gr.HTML()
        confirm = gr.Button("Delete permanently", variant="stop", size="sm")
        cancel = gr.Button("Cancel", size="sm")
    return row, question, gr.Textbox(visible=False), confirm, cancel


def _wire_dataset(
    paths: gr.State,
    form: presets.SettingsForm,
    inspect: gr.Button,
    generate: gr.Button,
    outputs: tuple[Any, ...],
) -> None:
    """Wires what shows a dataset: Inspect, a chosen folder, a generated street."""
    root = form.inputs["root"]
    inputs = [paths, form.inputs["dataset"], root, form.inputs["cameras"]]
    shows: dict[str, Any] = {"fn": actions.show_data, "inputs": inputs, "outputs": list(outputs)}
    inspect.click(**shows, api_name="train_check")
    picked = components.wire_folder_browser(paths, form.browser, root, api_name="train_folders")
    picked.success(presets.read_form, [paths, *form.read], form.checked, **QUIET)
    picked.success(**shows, api_visibility="private")
    written, summary = gr.Textbox(visible=False), outputs[0]
    generate.click(lambda: "", None, summary, **QUIET).then(
        actions.generate_street, [paths, root], written, api_name="train_street", show_progress_on=summary
    ).success(**shows, api_visibility="private")


def _wire_run(
    paths: gr.State, selected: gr.JSON, buttons: list[gr.Button], confirmation: tuple[Any, ...]
) -> None:
    """Wires Stop, Resume and Delete of the selected run, and the endpoints for programs."""
    stop, resume, delete = buttons
    row, question, target, confirm, cancel = confirmation
    name, done = gr.Textbox(visible=False), gr.Textbox(visible=False)
    for button, action, api in ((stop, actions.stop, "train_stop"), (resume, actions.resume, "train_resume")):
        button.click(lambda names: (names or [""])[0], selected, name, **QUIET).success(
            action, [paths, name], done, api_name=api
        )
    delete.click(ask_delete, selected, [row, question, target], **QUIET)
    selected.change(close_other, [selected, target], [row, target], **QUIET)
    cancel.click(close_confirmation, None, [row, target], **QUIET)
    confirm.click(actions.delete, [paths, target, target], done, api_name="train_delete").then(
        close_confirmation, None, [row, target], **QUIET
    )
    data, text, offset = gr.JSON(visible=False), gr.Textbox(visible=False), gr.Number(0, visible=False)
    components.endpoint(list_runs, [paths], [data], api_name="train_runs")
    components.endpoint(run_points, [paths, name, offset], [data], api_name="train_points")
    components.endpoint(run_log, [paths, name], [text], api_name="train_log")
