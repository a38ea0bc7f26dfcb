"""The Evaluate tab: several models on one dataset, as tables, curves, ranked lists and thresholds."""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vkd.evaluation.comparison import Comparison
from vkd.evaluation.protocols import GALLERY_FRAMES, QUERY_VIEWS
from vkd.jobs import evaluations
from vkd.ui import components, dataset, html, mode, plots
from vkd.ui.components import QUIET
from vkd.ui.errors import show_errors
from vkd.ui.evaluate import actions, results
from vkd.ui.evaluate.form import EvaluateForm, build_form, refresh_models
from vkd.ui.labels import labels
from vkd.ui.state import AppPaths

TOP_K = 12
FPR_PERCENT = 1.0
ORDERS = (("lowest AP", "worst"), ("largest AP drop", "loses"), ("largest AP gain", "gains"))
CSS = Path(__file__).parents[1] / "static" / "evaluate.css"
EMPTY = html.empty_state(
    "Compare models",
    "Choose a teacher, a student and a dataset on the left and press Evaluate. Scores with intervals, "
    "curves, ranked lists of single queries and verification thresholds appear here.",
)


# ---- what the page shows


def open_page(paths: AppPaths) -> tuple[Any, Any, Any]:
    """Returns what a page begins with: evaluation, dataset folder, whether to offer a small test set."""
    choices, root = actions.job_choices(paths), "" if mode.DEMO else actions.default_root(paths)
    jobs = gr.update(choices=choices, value=actions.default_job(paths), visible=bool(choices))
    return jobs, root or gr.skip(), gr.update(visible=not root)


def show_started(paths: AppPaths, name: str) -> Any:
    """Selects the evaluation that was just started."""
    return gr.update(choices=actions.job_choices(paths), value=name, visible=True)


def refresh(paths: AppPaths, name: str | None, mark: str) -> list[Any]:
    """Returns the state of the selected evaluation: mark, headline, Cancel, table, downloads, figures' panel
    and what they are drawn for; nothing where `mark` is up to date.
    """
    try:
        folder = evaluations.folder_of(paths.checkpoints, name or "")
        request, status = evaluations.read_request(folder), evaluations.status(folder)
    except ValueError:
        return [gr.skip()] * 7 if mark == "empty" else _page("empty", "", False, None, "")
    now = f"{folder.name} {status.state} {status.done} {status.network} {' '.join(status.ahead)}"
    if now == mark:
        return [gr.skip()] * 7
    headline = results.progress_html(folder.name, request, status)
    if status.state != "finished":
        return _page(now, headline, status.state in results.BUSY, None, "")
    try:
        compared, _ = actions.comparison(paths, folder.name)
    except ValueError as error:
        return _page(now, headline + dataset.why_html(str(error)), False, None, "")
    headline = results.progress_html(folder.name, request, status, results.headline(compared))
    return _page(now, headline, False, compared, folder.name)


def _page(mark: str, headline: str, busy: bool, compared: Comparison | None, name: str) -> list[Any]:
    """Returns the updates of `refresh`."""
    return [
        mark,
        headline,
        gr.update(visible=busy),
        results.table_html(compared) if compared else "" if headline else EMPTY,
        results.downloads_html(compared, name) if compared else "",
        gr.update(visible=compared is not None),
        name,
    ]


def choices(paths: AppPaths, name: str, protocol: str | None) -> list[Any]:
    """Returns the choices of an evaluation: protocols, and pairs where it has more than two models.

    A protocol that was selected stays so where it can.
    """
    if not name:
        return [gr.skip()] * 6
    compared, _ = actions.comparison(paths, name)
    base, other = compared.pair()
    protocols = list(compared.query_gallery)
    selected = protocol if protocol in protocols else protocols[0]
    models = [(label, each) for each, label in labels(compared).items()]
    titles = [(each.upper(), each) for each in protocols]
    return [
        gr.update(choices=titles, value=selected, visible=len(protocols) > 1),
        selected,
        gr.update(visible=len(models) > 2),
        gr.update(choices=models, value=base),
        gr.update(choices=models, value=other),
        orders(paths, name, base, other),
    ]


def orders(paths: AppPaths, name: str, base: str, other: str) -> Any:
    """Returns the orders of queries, in the names of the pair."""
    if not name:
        return gr.skip()
    names = labels(actions.comparison(paths, name)[0])
    if len(names) < 2:
        return gr.update(choices=list(ORDERS[:1]), value="worst")
    pair = f"{names[other]} vs {names[base]}"
    return gr.update(choices=[ORDERS[0], *((f"{title}, {pair}", key) for title, key in ORDERS[1:])])


def different(paths: AppPaths, name: str, chosen: str, opposite: str) -> Any:
    """Returns the other model of a pair once one is chosen: another one where both would be the same."""
    if not name or chosen != opposite:
        return gr.skip()
    return next(each for each in actions.comparison(paths, name)[0].networks if each != chosen)


@show_errors
def draw(
    paths: AppPaths, name: str, protocol: str, order: str, rate: float, k: float, base: str, other: str
) -> list[Any]:
    """Returns every figure of one protocol, the queries, and the ranked lists of the first of them."""
    if not name:
        return [gr.skip()] * 8
    compared, folder = actions.comparison(paths, name)
    pair = compared.pair(base, other)
    queries = compared.order(protocol, order, *pair)
    ranked, _ = results.ranked_html(compared, folder, protocol, queries[0], int(k))
    figures = [
        plots.cmc(compared, protocol),
        plots.ablation(compared, protocol, GALLERY_FRAMES),
        plots.ablation(compared, protocol, QUERY_VIEWS),
        plots.ap_scatter(compared, protocol, queries[0], *pair),
    ]
    return [
        *(plots.drawing([figure]) for figure in figures),
        results.queries_html(compared, folder, protocol, queries, queries[0]),
        ranked,
        *actions.show_threshold(paths, name, protocol, rate)[:2],
    ]


def clicked_query(event: gr.EventData) -> int:
    """Returns the query of a clicked point or image."""
    return int(event.query)


# ---- layout

_CLICKS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-query]');
  if (!button) return;
  const query = Number(button.dataset.query);
  window.dispatchEvent(new CustomEvent('vkd-query', { detail: query }));
  trigger('click', { query });
});
window.addEventListener('vkd-query', (event) => {
  element.querySelectorAll('button[data-query]').forEach((other) =>
    other.setAttribute('aria-current', String(Number(other.dataset.query) === event.detail)));
});
"""


def _box(title: str, hint: str = "", pairs: bool = False) -> gr.Column:
    box = gr.Column(elem_classes="vkd-figure-box")
    with box:
        gr.HTML(html.render("evaluate/caption.html.j2", title=title, hint=hint, pairs=pairs))
    return box


class ResultPanel(NamedTuple):
    """The components on the right; `drawn` in the order of `draw`."""

    headline: gr.HTML
    cancel: gr.Button
    downloads: gr.HTML
    pair_row: gr.Row
    base: gr.Dropdown
    other: gr.Dropdown
    table: gr.HTML
    panel: gr.Column
    protocol: gr.Radio
    order: gr.Radio
    rate: gr.Slider
    drawn: list[Any]


def _output() -> ResultPanel:
    with gr.Column(elem_classes="vkd-results"):
        with gr.Row(elem_classes="vkd-job-row"):
            headline = gr.HTML(elem_id="vkd-evaluate-job")
            cancel = gr.Button("Cancel", size="sm", visible=False)
            downloads = gr.HTML(elem_classes="vkd-downloads-box")
        with gr.Row(visible=False, elem_classes="vkd-pair-row") as pair_row:
            other = gr.Dropdown([], label="Compare", allow_custom_value=True)
            base = gr.Dropdown([], label="with", allow_custom_value=True)
        table = gr.HTML(EMPTY, elem_id="vkd-evaluate-table")
        with gr.Column(visible=False, elem_classes="vkd-panel-box") as panel:
            protocol = gr.Radio(
                [], label="Protocol", show_label=False, elem_classes="vkd-protocol", container=False
            )
            with gr.Tabs():
                with gr.Tab("Curves"), gr.Row(elem_classes="vkd-figures"):
                    with _box("CMC", "95 % intervals"):
                        cmc = plots.component(elem_id="vkd-cmc", elem_classes="vkd-figure")
                    with _box("Gallery frames", "mAP; 95 % intervals"):
                        frames = plots.component(elem_id="vkd-gallery-frames", elem_classes="vkd-figure")
                    with _box("Query views", "mAP; 95 % intervals"):
                        views = plots.component(elem_id="vkd-query-views", elem_classes="vkd-figure")
                with gr.Tab("Queries"), gr.Row(elem_classes="vkd-figures"):
                    with _box("AP of each query", "click a point"):
                        scatter = plots.component(elem_id="vkd-scatter", elem_classes="vkd-figure vkd-tall")
                    with gr.Column(scale=2):
                        order = gr.Radio(
                            list(ORDERS), value="worst", label="Order of queries", show_label=False,
                            container=False, elem_classes="vkd-order",
                        )  # fmt: skip
                        queries = gr.HTML(elem_id="vkd-evaluate-queries", js_on_load=_CLICKS)
                        ranked = gr.HTML(elem_id="vkd-evaluate-lists", elem_classes="vkd-lists")
                with gr.Tab("Verification"), gr.Row(elem_classes="vkd-figures"):
                    with _box("Similarities", pairs=True):
                        pairs = plots.component(elem_id="vkd-pairs", elem_classes="vkd-figure")
                    with gr.Column(scale=1):
                        rate = gr.Slider(0.1, 10, value=FPR_PERCENT, step=0.1, label="FPR, %")
                        thresholds = gr.HTML(elem_id="vkd-evaluate-thresholds")
    drawn = [cmc, frames, views, scatter, queries, ranked, pairs, thresholds]
    return ResultPanel(
        headline, cancel, downloads, pair_row, base, other, table, panel, protocol, order, rate, drawn
    )


def build(here: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    paths = gr.State(here)
    with gr.Row(elem_classes="vkd-page vkd-evaluate"):
        form, out = build_form(here), _output()
    mark, evaluation = gr.Textbox(visible=False), gr.Textbox(visible=False)
    protocol, data = gr.Textbox(visible=False), gr.JSON(visible=False)
    page.load(open_page, paths, [form.job, form.root, form.street], **QUIET)
    pickers = form.request[:3]
    gr.on(opened, refresh_models, [paths, *pickers], pickers, **QUIET)
    refreshed = [mark, out.headline, out.cancel, out.table, out.downloads, out.panel, evaluation]
    gr.on(
        [components.ticker().click, form.job.change, *opened], refresh, [paths, form.job, mark], refreshed,
        **QUIET,
    )  # fmt: skip
    _wire_form(paths, form, out, page, data)
    _wire_figures(paths, out, evaluation, protocol, data)
    text, written_as = gr.Textbox(visible=False), gr.Textbox("JSON", visible=False)
    components.endpoint(actions.list_jobs, [paths], [data], api_name="evaluate_list")
    components.endpoint(actions.download, [paths, form.job, written_as], [text], api_name="evaluate_download")


def _wire_form(paths: gr.State, form: EvaluateForm, out: ResultPanel, page: gr.Blocks, data: gr.JSON) -> None:
    """Wires Evaluate, Cancel, and what shows the dataset."""
    started = gr.Textbox(visible=False)
    form.button.click(actions.start, [paths, *form.request], started, api_name="evaluate_start").success(
        show_started, [paths, started], form.job, **QUIET
    )
    out.cancel.click(actions.cancel, [paths, form.job], started, api_name="evaluate_cancel")
    changes = [each.change for each in form.dataset]
    gr.on(
        changes if mode.DEMO else [*changes, page.load], actions.show_data, [paths, *form.dataset],
        [form.summary, data], api_name="evaluate_data", show_progress="hidden",
    )  # fmt: skip
    form.street.click(
        actions.generate_street, paths, form.root, api_name="evaluate_street", concurrency_limit=1
    ).success(lambda: gr.update(visible=False), None, form.street, **QUIET)


def _wire_figures(
    paths: gr.State, out: ResultPanel, evaluation: gr.Textbox, protocol: gr.Textbox, data: gr.JSON
) -> None:
    """Wires figures, pairs, queries and thresholds of the evaluation whose name is in `evaluation`."""
    pair, k = [out.base, out.other], gr.Number(TOP_K, visible=False)
    drawn_for = [paths, evaluation, protocol]
    order = [*drawn_for, out.order, *pair]
    scatter, queries, ranked, pairs, thresholds = out.drawn[3:]
    changes = [
        evaluation.change(
            choices, drawn_for, [out.protocol, protocol, out.pair_row, *pair, out.order], **QUIET
        ),
        out.protocol.input(lambda value: value, out.protocol, protocol, **QUIET),
    ]
    for change in changes:
        change.then(draw, [*drawn_for, out.order, out.rate, k, *pair], out.drawn, **QUIET)
    for moved, opposite in (pair, pair[::-1]):
        public = moved is out.base
        moved.input(different, [paths, evaluation, moved, opposite], opposite, **QUIET).then(
            actions.show_pair, [*drawn_for, *pair], [out.table, out.downloads, scatter, data],
            api_name="evaluate_pair" if public else None,
            api_visibility="public" if public else "private", show_progress="minimal",
        ).then(orders, [paths, evaluation, *pair], out.order, **QUIET).then(
            actions.show_order, order, [queries, data], **QUIET
        )  # fmt: skip
    query = gr.Number(visible=False)
    gr.on([scatter.click, queries.click], clicked_query, None, query, **QUIET).then(
        actions.show_query, [*drawn_for, query, k], [ranked, data],
        api_name="evaluate_query", show_progress="minimal",
    )  # fmt: skip
    out.order.input(
        actions.show_order, order, [queries, data], api_name="evaluate_order", show_progress="hidden"
    )
    out.rate.change(
        actions.show_threshold, [*drawn_for, out.rate], [pairs, thresholds, data],
        api_name="evaluate_threshold", show_progress="hidden", trigger_mode="always_last",
    )  # fmt: skip
