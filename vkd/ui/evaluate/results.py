"""HTML of an evaluation: progress, score tables, downloads, queries, ranked lists, thresholds."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vkd.data.tracklets import PROTOCOLS, Tracklet
from vkd.evaluation.comparison import Comparison, published
from vkd.jobs.evaluations import SHIPPED, EvaluationRequest, EvaluationStatus, thumbnail
from vkd.metrics import tables
from vkd.metrics.bootstrap import Interval
from vkd.metrics.ranking import METRICS, metric_value, ranks_without_junk
from vkd.ui import html
from vkd.ui.html import render
from vkd.ui.labels import css_parts, difference_label, labels
from vkd.ui.train.views import duration

BUSY = ("waiting", "running", "stopping")
"""States in which an evaluation can be cancelled."""
FORMATS = {"JSON": ".json", "CSV": ".csv", "Markdown": ".md", "LaTeX": ".tex"}
_MIMES = {".json": "application/json", ".csv": "text/csv", ".md": "text/markdown", ".tex": "text/x-tex"}
_OTHER_AP = {"trapezoid": ("standard", "std."), "standard": ("trapezoid", "trap.")}
MAX_QUERIES = 24


# ---- progress


def progress_html(name: str, request: EvaluationRequest, status: EvaluationStatus, headline: str = "") -> str:
    """Renders one line about an evaluation; a bar while it runs, the reason when it ended early."""
    facts = [f"{' · '.join(request.checkpoints)} on {Path(request.root).name}"]
    facts.append("bundled" if name == SHIPPED else f"evaluation {name}")
    if request.cameras == "none":
        facts.append("camera labels ignored")
    if name != SHIPPED and status.state == "finished" and not Path(request.root).is_dir():
        facts.append(f"{request.root} is missing: images not viewed yet cannot be shown")
    if status.state in BUSY:
        facts.append("continues when this page is closed")
    share = 100 * status.done / status.total if status.total else 0.0
    return render(
        "evaluate/progress.html.j2", state=status.state, busy=status.state in BUSY, facts=facts,
        share=round(share, 1), headline=headline or _state_text(status),
    )  # fmt: skip


def _state_text(status: EvaluationStatus) -> str:
    if status.state == "waiting":
        others = f" and {len(status.ahead) - 3} more" if len(status.ahead) > 3 else ""
        ahead = ", ".join(name.replace("evaluation-", "evaluation ", 1) for name in status.ahead[:3])
        return f"Queued (number {len(status.ahead) + 1}), behind {ahead}{others}"
    if status.state == "running" and not status.total:
        return "Reading the dataset and loading the models"
    left = f", about {duration(status.seconds_left)} left" if status.seconds_left is not None else ""
    running = f"Embedding with {status.network}: {status.done} of {status.total} frames{left}"
    return {
        "running": "Ranking and comparing" if status.done == status.total else running,
        "stopping": "Cancelling after this batch",
        "finished": "Finished",
        "stopped": "Cancelled.",
        "failed": f"Evaluation failed: {status.why.rstrip('.')}.",
        "died": f"Process was killed: {status.why.rstrip('.')}.",
        "damaged": f"Cannot be read: {status.why.rstrip('.')}.",
    }[status.state]


def headline(results: Comparison) -> str:
    """Returns the mAP of each protocol in one line, in the table's order."""
    maps = {
        protocol: [f"{100 * scores[protocol].map:.1f}" for scores in results.scores.values()]
        for protocol in results.query_gallery
    }
    arrow, who = " / ", ""
    if len(results.networks) <= 2:
        arrow, who = " → ", f", {' → '.join(labels(results).values())}:"
    shares = [f"{protocol.upper()} {arrow.join(values)} %" for protocol, values in maps.items()]
    return f"mAP{who} {', '.join(shares)}"


# ---- tables


def table_html(results: Comparison, base: str = "") -> str:
    """Renders a table for each protocol: networks, differences to `base` (the first), published scores."""
    base = results.pair(base)[0]
    reference = published(results.networks, results.dataset, results.query_gallery)
    return render(
        "evaluate/scores.html.j2", titles=[METRICS[key].title for key in _columns(results)],
        boards=[_board(results, protocol, base, reference) for protocol in results.query_gallery],
        results=results, ap=_OTHER_AP[results.convention], published=bool(reference),
        in_gallery=next(iter(next(iter(results.scores.values())).values())).queries_in_gallery,
    )  # fmt: skip


def _board(
    results: Comparison, protocol: str, base: str, reference: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    names, parts, other = labels(results), css_parts(results), _OTHER_AP[results.convention][0]
    columns = _columns(results)
    rows = []
    for name, scores in results.scores.items():
        numbers = scores[protocol].numbers()
        cells = [metric_value(key, numbers[key]) for key in columns]
        rows.append((names[name], name, parts[name], cells, metric_value("map", numbers[f"map_{other}"])))
    return {
        "protocol": protocol, "kind": PROTOCOLS[protocol], "rows": rows,
        "scores": next(iter(results.scores.values()))[protocol],
        "differences": [
            (
                difference_label(results, name, base),
                [_difference(key, gain[protocol].get(key)) for key in columns],
            )
            for name, gain in results.gains(base).items()
        ],
        "published": [
            (name, [_optional(key, row[protocol].get(key)) for key in columns])
            for name, row in reference.items()
            if protocol in row
        ],
    }  # fmt: skip


def _columns(results: Comparison) -> list[str]:
    """Returns the metrics of the tables: the compared ones that this evaluation holds."""
    scores = next(iter(next(iter(results.scores.values())).values()))
    return [key for key, metric in METRICS.items() if metric.compared and key in scores.per_query]


def _optional(key: str, value: float | None) -> str:
    return "–" if value is None else metric_value(key, value)


def _difference(key: str, interval: Interval | None) -> tuple[str, str, str]:
    """Returns direction (up is better, down, level), mean and 95 % interval; of shares in points."""
    if interval is None:  # a metric that this evaluation did not know yet
        return "level", "–", ""
    metric = METRICS[key]
    mean, low, high = ((100 if metric.percent else 1) * number for number in interval)
    better, worse = ("up", "down") if metric.higher_is_better else ("down", "up")
    side = better if low > 0 else worse if high < 0 else "level"
    return side, f"{mean:+.2f}".replace("-", "−"), f"{low:.1f} … {high:.1f}".replace("-", "−")


def downloads_html(results: Comparison, name: str, base: str = "") -> str:
    """Renders links that hold the files themselves: no folder of the server is opened for them."""
    rows = results.results(base)
    links = [
        (title, f"vkd-{name}{suffix}", _MIMES[suffix],
         base64.b64encode(tables.WRITERS[suffix](rows).encode()).decode())
        for title, suffix in FORMATS.items()
    ]  # fmt: skip
    return render("evaluate/downloads.html.j2", links=links)


# ---- queries and ranked lists


def queries_html(
    results: Comparison, folder: Path, protocol: str, order: Sequence[int], selected: int | None
) -> str:
    """Renders queries in the given order as buttons: an image, the AP of each network."""
    names, parts = labels(results), css_parts(results)
    buttons = []
    for query in order[:MAX_QUERIES]:
        item = _query_item(results, protocol, query)
        aps = {name: 100 * results.ap(name, protocol)[query] for name in results.networks}
        words = ", ".join(f"{names[name]} AP {ap:.0f} %" for name, ap in aps.items())
        shares = [(parts[name], f"{ap:.0f}") for name, ap in list(aps.items())[:4]]
        label = f"Query {query}: {_identity(results, item)}, {words}"
        buttons.append((query, label, _uri(folder, item.frames[0]), shares))
    return render(
        "evaluate/queries.html.j2", buttons=buttons, selected=selected,
        label=f"{len(buttons)} of {len(order)} valid queries; AP in percent",
    )  # fmt: skip


def ranked_html(
    results: Comparison, folder: Path, protocol: str, query: int, k: int
) -> tuple[str, dict[str, Any]]:
    """Renders the ranked lists of one query, a strip for each network; returns them as data too."""
    strips, data = [], {}
    for name, label in labels(results).items():
        hits = results.ranked(name, protocol, query, k)
        ranks = ranks_without_junk([hit.verdict for hit in hits])
        items = [results.items[hit.item] for hit in hits]
        ap = float(results.ap(name, protocol)[query])
        cards = []
        for hit, rank, item in zip(hits, ranks, items, strict=True):
            similarity, uri = f"{hit.similarity:.2f}", _uri(folder, item.frames[len(item.frames) // 2])
            text = (
                f"{rank or 'not ranked'}: {_identity(results, item)}, similarity {similarity}, {hit.verdict}"
            )
            cards.append((hit.verdict, text, uri, rank or "–", similarity))
        first = int(results.scores[name][protocol].first_match[query])
        strips.append((label, css_parts(results)[name], f"{100 * ap:.1f}", first, cards))
        data[name] = {
            "label": label,
            "ap": ap,
            "hits": [
                {"rank": rank, "similarity": round(hit.similarity, 4), "identity": item.identity,
                 "camera": item.camera, "verdict": hit.verdict}
                for hit, rank, item in zip(hits, ranks, items, strict=True)
            ],
        }  # fmt: skip
    item = _query_item(results, protocol, query)
    frames = [_uri(folder, frame) for frame in dict.fromkeys(item.frames)][: html.STRIP_VIEWS]
    page = render(
        "evaluate/ranked.html.j2", query=query, identity=_identity(results, item), strips=strips,
        frames=[uri for uri in frames if uri],
    )  # fmt: skip
    return page, data


def _query_item(results: Comparison, protocol: str, query: int) -> Tracklet:
    return results.items[int(results.query_gallery[protocol][0][query])]


def _identity(results: Comparison, item: Tracklet) -> str:
    return html.identity_label(item.identity, item.camera, results.names.get(item.identity, ""))


def _uri(folder: Path, frame: str) -> str:
    """Returns the frame's thumbnail as a data URI; '' where the image is gone."""
    path = thumbnail(folder, frame)
    return html.file_uri(path) if path.is_file() else ""


# ---- verification


def thresholds(results: Comparison, protocol: str, rate: float) -> dict[str, dict[str, float]]:
    """Returns network → the threshold at an FPR, its rates, and the numbers of pairs."""
    table = {}
    for name in results.networks:
        pairs = results.pairs[name][protocol]
        table[name] = {
            **{key: round(value, 5) for key, value in pairs.threshold(rate)._asdict().items()},
            "genuine_pairs": int(pairs.genuine.sum()),
            "impostor_pairs": int(pairs.impostor.sum()),
        }
    return table


def thresholds_html(results: Comparison, protocol: str, rate: float) -> str:
    """Renders the thresholds."""
    names, parts = labels(results), css_parts(results)
    rows = [
        (names[name], parts[name], f"{row['similarity']:.3f}", f"{100 * row['tpr']:.1f}",
         f"{100 * row['fpr']:.2f}", f"{row['genuine_pairs']:,}", f"{row['impostor_pairs']:,}")
        for name, row in thresholds(results, protocol, rate).items()
    ]  # fmt: skip
    return render("evaluate/thresholds.html.j2", rows=rows)
