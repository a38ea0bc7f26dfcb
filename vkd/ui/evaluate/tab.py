"""The Evaluate tab: several checkpoints on one data set, told in tables, curves, queries and thresholds."""

from pathlib import Path
from typing import Any

import gradio as gr

from vkd.evaluation.comparison import Comparison
from vkd.evaluation.sides import GALLERY_FRAMES, QUERY_VIEWS
from vkd.jobs import evaluations
from vkd.ui import dataset, html, mode, plots
from vkd.ui.errors import show_errors
from vkd.ui.evaluate import actions, films, labels, request, results
from vkd.ui.state import AppPaths

HITS = 12
RATE = 1.0  # percent
ORDERS = {"worst": "worst first", "loses": "where the student loses", "gains": "where it gains"}
"""Orders of queries; of other networks than teacher and student the name is told."""
CSS = Path(__file__).parents[1] / "static" / "evaluate.css"

EMPTY = html.empty_state(
    "How good is it?",
    "Choose a teacher, a student and a data set on the left and press Evaluate. Scores with intervals, "
    "curves, the queries where the two disagree and a threshold for 'same or not' appear here.",
)


# ---- what the page shows


def newest(paths: AppPaths) -> tuple[Any, Any, Any]:
    """What a page begins with: the last evaluation, the data folder, whether to offer a small street."""
    names = evaluations.names(paths.checkpoints)
    root = "" if mode.DEMO else actions.first_root(paths)
    return (
        gr.update(choices=actions.job_choices(paths), value=names[0] if names else None, visible=bool(names)),
        root or gr.skip(),
        gr.update(visible=not root),
    )


def show_started(paths: AppPaths, name: str) -> Any:
    """The evaluation just started becomes the one shown."""
    return gr.update(choices=actions.job_choices(paths), value=name, visible=True)


def look(paths: AppPaths, name: str | None, seen: str) -> list[Any]:
    """How the chosen evaluation stands, where that changed since the page looked last."""
    try:
        folder = evaluations.folder_of(paths.checkpoints, name or "")
        asked, status = evaluations.read_request(folder), evaluations.status(folder)
    except ValueError:
        mark = "empty"
        return [gr.skip()] * 7 if mark == seen else _stand(mark, "", False, None, "")
    mark = f"{folder.name} {status.state} {status.done} {status.network} {' '.join(status.ahead)}"
    if mark == seen:
        return [gr.skip()] * 7
    told = results.progress_html(folder.name, asked, status)
    if status.state != "finished":
        return _stand(mark, told, status.state in results.BUSY, None, "")
    try:
        found, _ = actions.comparison(paths, folder.name)
    except ValueError as error:
        return _stand(mark, told + dataset.wrong_html(str(error)), False, None, "")
    told = results.progress_html(folder.name, asked, status, results.headline(found))
    return _stand(mark, told, False, found, folder.name)


def _stand(mark: str, told: str, busy: bool, found: Comparison | None, name: str) -> list[Any]:
    """Mark, headline, Cancel, table, downloads, the panel of figures, what its figures are drawn for."""
    return [
        mark,
        told,
        gr.update(visible=busy),
        results.table_html(found) if found else "" if told else EMPTY,
        results.downloads_html(found, name) if found else "",
        gr.update(visible=found is not None),
        name,
    ]


def choices_of(paths: AppPaths, name: str, protocol: str | None) -> list[Any]:
    """What an evaluation lets one choose: its protocols (the one chosen stays where it can), the pair of
    networks where there are more than two, the words of the orders.
    """
    if not name:
        return [gr.skip()] * 6
    found, _ = actions.comparison(paths, name)
    base, other = found.pair()
    at = protocol if protocol in found.query_gallery else next(iter(found.query_gallery))
    networks = [(label, each) for each, label in labels.labels(found).items()]
    return [
        gr.update(
            choices=[(each.upper(), each) for each in found.query_gallery],
            value=at,
            visible=len(found.query_gallery) > 1,
        ),
        at,
        gr.update(visible=len(networks) > 2),
        gr.update(choices=networks, value=base),
        gr.update(choices=networks, value=other),
        orders(paths, name, other),
    ]


def same(value: str) -> str:
    """A choice as plain text: what programs send is not held against the choices of a page."""
    return value


def orders(paths: AppPaths, name: str, other: str) -> Any:
    """The orders of queries, in the words of the network that is set against another."""
    if not name:
        return gr.skip()
    label = labels.labels(actions.comparison(paths, name)[0]).get(other, "")
    words = ORDERS if label in ("", "Student") else {**ORDERS, "loses": f"where {label} loses"}
    return gr.update(choices=[(title, key) for key, title in words.items()])


def apart(paths: AppPaths, name: str, chosen: str, kept: str) -> Any:
    """The other network of a pair once one is chosen: another one where both would be the same."""
    if not name or chosen != kept:
        return gr.skip()
    return next(each for each in actions.comparison(paths, name)[0].networks if each != chosen)


@show_errors
def draw(
    paths: AppPaths, name: str, protocol: str, order: str, rate: float, k: float, base: str, other: str
) -> list[Any]:
    """Every figure of one protocol, the queries, and the ranked lists of the first of them."""
    if not name:
        return [gr.skip()] * 8
    found, folder = actions.comparison(paths, name)
    pair = found.pair(base, other)
    queries = found.order(protocol, order, *pair)
    lists, _ = films.lists_html(found, folder, protocol, queries[0], int(k))
    return [
        plots.cmc(found, protocol),
        plots.against(found, protocol, GALLERY_FRAMES),
        plots.against(found, protocol, QUERY_VIEWS),
        plots.scatter(found, protocol, queries[0], *pair),
        films.queries_html(found, folder, protocol, queries, queries[0]),
        lists,
        *actions.show_threshold(paths, name, protocol, rate)[:2],
    ]


def clicked(event: gr.EventData) -> int:
    """The query of a point or of a picture."""
    return int(event.query)


# ---- layout

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
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


def _box(title: str, hint: str = "") -> gr.Column:
    box = gr.Column(elem_classes="vkd-figure-box")
    with box:
        gr.HTML(f'<p class="vkd-caption">{title} <small>{hint}</small></p>')
    return box


def _results() -> dict[str, Any]:
    """The results on the right."""
    with gr.Column(elem_classes="vkd-results"):
        with gr.Row(elem_classes="vkd-job-row"):
            headline = gr.HTML(elem_id="vkd-evaluate-job")
            halt = gr.Button("Cancel", size="sm", visible=False)
            downloads = gr.HTML(elem_classes="vkd-downloads-box")
        with gr.Row(visible=False, elem_classes="vkd-pair-row") as pair:
            other = gr.Dropdown([], label="Compare", allow_custom_value=True)
            base = gr.Dropdown([], label="with", allow_custom_value=True)
        table = gr.HTML(EMPTY, elem_id="vkd-evaluate-table")
        with gr.Column(visible=False, elem_classes="vkd-panel-box") as panel:
            protocol = gr.Radio(
                [], label="Protocol", show_label=False, elem_classes="vkd-protocol", container=False
            )
            with gr.Tabs():
                with gr.Tab("Curves"), gr.Row(elem_classes="vkd-figures"):
                    with _box("CMC", "queries found by rank; 95 % intervals"):
                        cmc = plots.component(elem_id="vkd-cmc")
                    with _box("Gallery frames", "mAP; 95 % intervals"):
                        frames = plots.component(elem_id="vkd-gallery-frames")
                    with _box("Query views", "mAP; 95 % intervals"):
                        query_views = plots.component(elem_id="vkd-query-views")
                with gr.Tab("Queries"), gr.Row(elem_classes="vkd-figures"):
                    with _box("AP of each query", "click a point"):
                        scatter = plots.component(elem_id="vkd-scatter", elem_classes="vkd-tall")
                    with gr.Column(scale=2):
                        order = gr.Radio(
                            [(title, key) for key, title in ORDERS.items()], value="worst", show_label=False,
                            container=False, elem_classes="vkd-order",
                        )  # fmt: skip
                        queries = gr.HTML(elem_id="vkd-evaluate-queries", js_on_load=_CLICKS)
                        lists = gr.HTML(elem_id="vkd-evaluate-lists", elem_classes="vkd-lists")
                with gr.Tab("Same or not?"), gr.Row(elem_classes="vkd-figures"):
                    with _box(
                        "Similarities",
                        'of <span class="vkd-correct">true pairs</span> and '
                        '<span class="vkd-incorrect">pairs of strangers (dotted)</span>',
                    ):
                        pairs = plots.component(elem_id="vkd-pairs")
                    with gr.Column(scale=1):
                        rate = gr.Slider(
                            0.1,
                            10,
                            value=RATE,
                            step=0.1,
                            label="False-positive rate, %",
                            info="Strangers that may pass as the same",
                        )
                        told = gr.HTML(elem_id="vkd-evaluate-thresholds")
    return {
        "headline": headline, "halt": halt, "downloads": downloads, "table": table, "panel": panel,
        "protocol": protocol, "order": order, "rate": rate, "queries": queries, "scatter": scatter,
        "lists": lists, "pairs": pairs, "told": told, "pair": pair, "base": base, "other": other,
        "drawn": [cmc, frames, query_views, scatter, queries, lists, pairs, told],
    }  # fmt: skip


def build(here: AppPaths, page: gr.Blocks, opened: list[Any]) -> None:
    """Builds layout and wiring of the tab; `opened` are the events of its coming into view."""
    paths = gr.State(here)
    with gr.Row(elem_classes="vkd-page vkd-evaluate"):
        form, out = request.form(here), _results()
    seen, shown = gr.Textbox(visible=False), gr.Textbox(visible=False)
    started, data = gr.Textbox(visible=False), gr.JSON(visible=False)
    query, k = gr.Number(visible=False), gr.Number(HITS, visible=False)
    job, protocol = form["job"], out["protocol"]
    page.load(newest, paths, [job, form["root"], form["street"]], **_QUIET)
    networks = form["asked"][:3]
    gr.on(opened, request.look_again, [paths, *networks], networks, **_QUIET)
    looked = [seen, out["headline"], out["halt"], out["table"], out["downloads"], out["panel"], shown]
    gr.on([gr.Timer(2).tick, page.load, job.change], look, [paths, job, seen], looked, **_QUIET)
    at = gr.Textbox(visible=False)
    pair = [out["base"], out["other"]]
    chosen = [
        shown.change(
            choices_of, [paths, shown, at], [protocol, at, out["pair"], *pair, out["order"]], **_QUIET
        ),
        protocol.input(same, protocol, at, **_QUIET),
    ]
    for choice in chosen:
        choice.then(draw, [paths, shown, at, out["order"], out["rate"], k, *pair], out["drawn"], **_QUIET)
    order = [paths, shown, at, out["order"], *pair]
    for moved, kept in (pair, pair[::-1]):
        moved.input(apart, [paths, shown, moved, kept], kept, **_QUIET).then(
            actions.show_pair, [paths, shown, at, *pair],
            [out["table"], out["downloads"], out["scatter"], data],
            api_name="evaluate_pair" if moved is pair[0] else None,
            api_visibility="public" if moved is pair[0] else "private", show_progress="minimal",
        ).then(orders, [paths, shown, out["other"]], out["order"], **_QUIET).then(
            actions.show_order, order, [out["queries"], data], **_QUIET
        )  # fmt: skip
    form["button"].click(actions.start, [paths, *form["asked"]], started, api_name="evaluate_start").success(
        show_started, [paths, started], job, **_QUIET
    )
    out["halt"].click(actions.cancel, [paths, job], started, api_name="evaluate_cancel")
    asked = [form["root"].change, form["data"].change, form["cameras"].change]
    gr.on(
        asked if mode.DEMO else [*asked, page.load],
        actions.show_data, [form["data"], form["root"], form["cameras"]], [form["summary"], data],
        api_name="evaluate_data", show_progress="hidden",
    )  # fmt: skip
    form["street"].click(
        actions.write_small_street, paths, form["root"], api_name="evaluate_street", concurrency_limit=1
    ).success(lambda: gr.update(visible=False), None, form["street"], **_QUIET)
    gr.on([out["scatter"].click, out["queries"].click], clicked, None, query, **_QUIET).then(
        actions.show_query, [paths, shown, at, query, k], [out["lists"], data],
        api_name="evaluate_query", show_progress="minimal",
    )  # fmt: skip
    out["order"].input(
        actions.show_order, order, [out["queries"], data],
        api_name="evaluate_order", show_progress="hidden",
    )  # fmt: skip
    out["rate"].change(
        actions.show_threshold, [paths, shown, at, out["rate"]], [out["pairs"], out["told"], data],
        api_name="evaluate_threshold", show_progress="hidden", trigger_mode="always_last",
    )  # fmt: skip
    text, wanted = gr.Textbox(visible=False), gr.Textbox("JSON", visible=False)
    asks = gr.Button(visible=False)
    asks.click(actions.list_jobs, paths, data, api_name="evaluate_list")
    asks.click(actions.download, [paths, job, wanted], text, api_name="evaluate_download")
