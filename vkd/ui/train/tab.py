"""The Train tab: a form made of the settings, runs that live without the page, curves that move."""

from pathlib import Path
from typing import Any

import gradio as gr

from vkd.ui import components, curves, html, limits
from vkd.ui.errors import show_errors
from vkd.ui.state import AppPaths
from vkd.ui.train import actions, attention, board, presets, runs

# --- what programs ask --------------------------------------------------------------------------------------


def list_runs(paths: AppPaths) -> list[dict[str, Any]]:
    """Every run: name, state, stage, data set, epochs, seconds left, scores (fractions), why it ended."""
    return [runs.as_json(run) for run in runs.look_at_all(paths.checkpoints)]


@show_errors
def run_points(paths: AppPaths, name: str, offset: float) -> dict[str, Any]:
    """Points of a run's curves after a byte offset (0: all), with the offset to ask from next."""
    runs.folder_of(paths.checkpoints, name)
    message = runs.news(paths.checkpoints, [name], {name: int(offset)} if offset else {})
    part = (message or {"runs": {}})["runs"].get(name, {"points": [], "to": int(offset)})
    return {
        "points": [{"epoch": epoch, **numbers} for epoch, numbers in part["points"]],
        "offset": part["to"],
    }


@show_errors
def run_log(paths: AppPaths, name: str) -> str:
    """The last lines of a run's log."""
    return runs.log_tail(runs.folder_of(paths.checkpoints, name))


# --- what the page shows ------------------------------------------------------------------------------------


def look(paths: AppPaths, shown: list[str] | None, have: dict[str, Any] | None) -> list[Any]:
    """Everything that changed since this page looked last: list, headline, curves, log, which buttons make
    sense.

    `have` comes from the page itself: marks of the pieces it shows and byte offsets of the points it has.
    """
    have = have or {}
    found = runs.look_at_all(paths.checkpoints)
    known = {run.name: run for run in found}
    kept = [name for name in shown or [] if name in known]
    chosen = kept or runs.first_shown(found)
    listed = board.list_html(found, chosen)
    headline = board.headline_html(known[chosen[0]]) if chosen else board.marked("")
    log = board.log_html(paths.checkpoints, chosen)
    message = runs.news(paths.checkpoints, chosen, have.get("runs") or {}, have.get("order"))
    looks = attention.news(paths.checkpoints / chosen[0], have.get("looks") or {}) if chosen else None
    changed = board.mark_of(headline) != have.get("headline")
    buttons = _buttons(known.get(chosen[0]) if chosen else None) if changed else [gr.skip()] * 3
    return [
        gr.skip() if chosen == shown else chosen,
        gr.skip() if board.mark_of(listed) == have.get("list") else listed,
        headline if changed else gr.skip(),
        gr.skip() if message is None else message,
        gr.skip() if looks is None else looks,
        gr.skip() if board.mark_of(log) == have.get("log") else log,
        *buttons,
    ]


def _buttons(run: runs.Run | None) -> list[Any]:
    """Stop, Resume, Delete: each only where it makes sense."""
    if run is None:
        return [gr.update(interactive=False)] * 3
    return [
        gr.update(interactive=run.living and run.state != "stopping"),
        gr.update(interactive=not run.living and run.state not in ("finished", "broken")),
        gr.update(interactive=not run.living and not run.record),
    ]


def choose_run(shown: list[str] | None, event: gr.EventData) -> list[str]:
    """What is drawn after a click in the list: a name makes that run the chosen one, a box adds or removes
    its curves.
    """
    name, kept = str(event.run), list(shown or [])
    if event.how == "box":
        kept = [other for other in kept if other != name] if name in kept else [*kept, name]
        return kept[-runs.MOST_SHOWN :]
    return [name, *(other for other in kept[1:] if other != name)]


def show_started(name: str) -> list[str]:
    """The run that was just started becomes the chosen one."""
    return [name]


def ask_delete(shown: list[str] | None) -> tuple[Any, str]:
    """Ask before a run is deleted."""
    if not shown:
        return gr.skip(), ""
    name = html.escape(shown[0])
    return gr.update(visible=True), f"<p>Delete <b>{name}</b> with its weights and curves, for good?</p>"


def hide() -> Any:
    return gr.update(visible=False)


def first(shown: list[str] | None) -> str:
    return shown[0] if shown else ""


# --- layout -------------------------------------------------------------------------------------------------

CSS = Path(__file__).parents[1] / "static" / "train.css"
IN_DEMO = (
    "This is a public demo: it trains nothing, and shows the runs that made its networks. "
    "The form writes the command line that starts such a run on your own machine."
)
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_HAVE = """(paths, shown, have) => {
  const mark = (id) => document.querySelector(`#${id} [data-mark]`)?.dataset.mark ?? '';
  const curves = window.vkdCurves ?? { have: {}, order: [] };
  const looks = window.vkdAttention ?? { run: '', epochs: [] };
  return [paths, shown, {
    runs: curves.have, order: curves.order, looks: { run: looks.run, epochs: looks.epochs },
    list: mark('vkd-train-list'), headline: mark('vkd-train-headline'), log: mark('vkd-train-log'),
  }];
}"""
_CLICKS = """
element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-run]');
  if (!row) return;
  const box = event.target.closest('label');
  if (box && event.target.tagName !== 'INPUT') return;
  trigger('click', { run: row.dataset.run, how: box ? 'box' : 'name' });
});
"""


def build(here: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    paths = gr.State(here)
    with gr.Row(elem_classes="vkd-train"):
        with gr.Column(elem_classes="vkd-form", scale=0):
            asked = presets.layout(here)
            with asked.begin:
                if not limits.training_allowed():
                    components.demo_note(IN_DEMO)
                begin = gr.Button("Start training", variant="primary", visible=limits.training_allowed())
                with gr.Row(visible=limits.training_allowed()):
                    name = gr.Textbox(
                        show_label=False, placeholder="name (optional)", max_lines=1, container=False
                    )
                    check = gr.Button("Check the data", size="sm")
                summary = gr.HTML(elem_id="vkd-train-data")
                render = gr.Button("Render the street there", size="sm", visible=False)
                rows = gr.JSON(visible=False)
                gr.HTML('<a class="vkd-jump" href="#vkd-train-data-group">Every setting stands below ↓</a>')
        with gr.Column(elem_classes="vkd-results"):
            listed = gr.HTML(elem_id="vkd-train-list", js_on_load=_CLICKS)
            with gr.Row(elem_classes="vkd-head-row"):
                headline = gr.HTML(elem_id="vkd-train-headline")
                with gr.Row(elem_classes="vkd-deeds", visible=limits.training_allowed()):
                    halt = gr.Button("Stop", size="sm", interactive=False)
                    on = gr.Button("Resume", size="sm", interactive=False)
                    away = gr.Button("Delete…", size="sm", interactive=False)
                    reuse = gr.Button("Use its settings", size="sm")
            with gr.Row(visible=False, elem_classes="vkd-confirm") as confirm:
                question = gr.HTML()
                really, keep = (
                    gr.Button("Delete for good", variant="stop", size="sm"),
                    gr.Button("Keep it", size="sm"),
                )
            with gr.Tabs():
                with gr.Tab("Curves"):
                    drawn = curves.component(None, elem_id="vkd-train-curves")
                with gr.Tab("Attention"):
                    watched = attention.component(elem_id="vkd-train-attention")
                with gr.Tab("Log"):
                    log = gr.HTML(elem_id="vkd-train-log")
    shown, have = gr.JSON([], visible=False), gr.JSON({}, visible=False)
    presets.wire(page, paths, asked, shown, reuse)
    pieces = [shown, listed, headline, drawn, watched, log, halt, on, away]
    gr.on([gr.Timer(2).tick, page.load, shown.change], look, [paths, shown, have], pieces, js=_HAVE, **_QUIET)
    listed.click(choose_run, shown, shown, **_QUIET)
    data = [asked.inputs[field] for field in ("dataset", "root", "cameras")]
    shows = {"fn": actions.show_data, "inputs": [paths, *data], "outputs": [summary, rows, render]}
    check.click(**shows, api_name="train_check")
    picked = components.wire_folder_browser(
        paths, asked.browser, asked.inputs["root"], api_name="train_folders"
    )
    picked.success(presets.read_form, [paths, *asked.asked], asked.told, **_QUIET)
    picked.success(**shows, api_visibility="private")
    written = gr.Textbox(visible=False)
    render.click(
        actions.render_street,
        [paths, asked.inputs["root"]],
        written,
        api_name="train_street",
        show_progress_on=summary,
    ).success(**shows, api_visibility="private")
    started = gr.Textbox(visible=False)
    begin.click(presets.read_form, [paths, *asked.asked], asked.told, **_QUIET).success(
        presets.require_right, asked.wrong, None, **_QUIET
    ).success(actions.start, [paths, asked.text, name], started, api_name="train_start").success(
        show_started, started, shown, **_QUIET
    )
    _wire_deeds(paths, shown, (halt, on, away, really, keep), confirm, question)


def _wire_deeds(
    paths: gr.State, shown: gr.JSON, buttons: tuple[gr.Button, ...], confirm: gr.Row, question: gr.HTML
) -> None:
    """Stop, Resume and Delete of the chosen run, and what only programs ask for."""
    halt, on, away, really, keep = buttons
    name, again, done = (gr.Textbox(visible=False) for _ in range(3))
    for button, deed, api in ((halt, actions.stop, "train_stop"), (on, actions.resume, "train_resume")):
        button.click(first, shown, name, **_QUIET).success(deed, [paths, name], done, api_name=api)
    away.click(ask_delete, shown, [confirm, question], **_QUIET)
    keep.click(hide, None, confirm, **_QUIET)
    really.click(lambda shown: (first(shown),) * 2, shown, [name, again], **_QUIET).success(
        actions.delete, [paths, name, again], done, api_name="train_delete"
    ).then(hide, None, confirm, **_QUIET)
    data, text, offset = gr.JSON(visible=False), gr.Textbox(visible=False), gr.Number(0, visible=False)
    asks = gr.Button(visible=False)
    asks.click(list_runs, paths, data, api_name="train_runs")
    asks.click(run_points, [paths, name, offset], data, api_name="train_points")
    asks.click(run_log, [paths, name], text, api_name="train_log")
