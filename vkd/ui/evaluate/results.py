"""An evaluation as HTML: how far it is, the table, queries, thresholds. Outside text is escaped here."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vkd.data.tracklets import PROTOCOLS
from vkd.evaluation.comparison import Comparison, published
from vkd.jobs.evaluations import SHIPPED, EvaluationRequest, EvaluationStatus
from vkd.metrics import tables
from vkd.metrics.bootstrap import Interval
from vkd.metrics.ranking import METRICS, metric_value
from vkd.metrics.scores import Scores
from vkd.ui.evaluate.labels import labels, minus, parts_of
from vkd.ui.html import escape
from vkd.ui.train.runs import duration

_OTHER = {"trapezoid": "standard", "standard": "trapezoid"}
_SHORT = {"trapezoid": "trap.", "standard": "std."}
_KINDS = {"image": "pictures", "tracklet": "tracklets"}
BUSY = ("waiting", "running", "stopping")
"""States in which an evaluation can be cancelled."""
FORMATS = {"JSON": ".json", "CSV": ".csv", "Markdown": ".md", "LaTeX": ".tex"}
_MIMES = {".json": "application/json", ".csv": "text/csv", ".md": "text/markdown", ".tex": "text/x-tex"}


# ---- how far it is


def progress_html(name: str, asked: EvaluationRequest, status: EvaluationStatus, words: str = "") -> str:
    """One line about an evaluation: what, where, how far; a bar while it works, the reason when it ended
    early.
    """
    what = f"{escape(' · '.join(asked.checkpoints))} on {escape(Path(asked.root).name)}"
    what += " · came with the app" if name == SHIPPED else f" · evaluation {escape(name)}"
    state, share = _state(status)
    words = words or state
    bar = ""
    if asked.cameras == "none":
        what += " · camera labels ignored"
    if name != SHIPPED and status.state == "finished" and not Path(asked.root).is_dir():
        what += f" · {escape(asked.root)} is not there any more: pictures that nobody opened yet are missing"
    if status.state in BUSY:
        bar = (
            f'<div class="vkd-progress" role="progressbar" aria-label="Frames embedded" aria-valuemin="0" '
            f'aria-valuemax="100" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></div>'
        )
        what += " · goes on when this page is closed"
    alarm = " vkd-alarm" if status.state in ("failed", "died") else ""
    return (
        f'<div class="vkd-job" data-state="{status.state}"><p class="vkd-headline{alarm}" role="status">'
        f'{escape(words)}</p><p class="vkd-detail">{what}</p>{bar}</div>'
    )


def _state(status: EvaluationStatus) -> tuple[str, float]:
    share = 100 * status.done / status.total if status.total else 0.0
    if status.state == "waiting":
        others = f" and {len(status.ahead) - 3} more" if len(status.ahead) > 3 else ""
        ahead = ", ".join(name.replace("evaluation-", "evaluation ", 1) for name in status.ahead[:3])
        return f"Number {len(status.ahead) + 1} in the queue of the device, after {ahead}{others}", share
    if status.state == "running" and not status.total:
        return "Reading the data set and loading the networks", share
    left = f", about {duration(status.seconds_left)} left" if status.seconds_left is not None else ""
    last = "Ranking and comparing" if status.done == status.total else ""
    words = {
        "running": last or f"Embedding with {status.network}: {status.done} of {status.total} frames{left}",
        "stopping": "Cancelling after this batch",
        "finished": "Finished",
        "stopped": "Cancelled: nothing was kept. Change what you like and evaluate again.",
        "failed": f"It did not work: {status.why.rstrip('.')}. Change the form and evaluate again.",
        "damaged": f"It cannot be read: {status.why}.",
        "died": f"The process ended without a word ({status.why}). Evaluate again.",
    }
    return words[status.state], share


def headline(found: Comparison) -> str:
    """The main number of each protocol in one line, in the table's order."""
    maps = {p: [f"{100 * each[p].map:.1f}" for each in found.scores.values()] for p in found.query_gallery}
    if len(found.networks) > 2:
        told = [f"{protocol.upper()} {' / '.join(shares)} %" for protocol, shares in maps.items()]
        return f"mAP {', '.join(told)}"
    who = " → ".join(label.lower() for label in labels(found).values())
    told = [f"{protocol.upper()} {' → '.join(shares)} %" for protocol, shares in maps.items()]
    return f"mAP, {who}: {', '.join(told)}"


# ---- the table


def table_html(found: Comparison, base: str = "") -> str:
    """A small table for each protocol: the networks, their differences to `base` (the first one unless it is
    named), what was published.
    """
    base = found.pair(base)[0]
    boards = "".join(_board(found, protocol, base) for protocol in found.query_gallery)
    return f'<div class="vkd-boards">{boards}</div>{_note(found)}'


def _board(found: Comparison, protocol: str, base: str) -> str:
    one = next(iter(found.scores.values()))[protocol]
    kind = PROTOCOLS[protocol]
    detail = (
        f"{one.valid_queries} of {one.queries} queries valid, {one.gallery} gallery {_KINDS[kind.gallery]}"
    )
    metrics = _columns(one)
    head = "".join(f'<th scope="col">{escape(METRICS[key].title)}</th>' for key in metrics)
    other = _OTHER[found.convention]
    names, parts = labels(found), parts_of(found)
    told = published(found.networks, found.dataset, [protocol])
    lines = []
    for name, scores in found.scores.items():
        numbers = scores[protocol].numbers()
        small = {
            "map": f"<small title='{other} AP'>{metric_value('map', numbers[f'map_{other}'])} "
            f"{_SHORT[other]}</small>"
        }
        cells = "".join(f"<td>{metric_value(key, numbers[key])}{small.get(key, '')}</td>" for key in metrics)
        second = "" if names[name] == name else f"<small>{escape(name)}</small>"
        lines.append(
            f'<tr class="vkd-{parts[name]}"><th scope="row" title="{escape(name)}">'
            f'<b class="vkd-part">{escape(names[name])}</b>{second}</th>{cells}</tr>'
        )
    lines += [
        _difference(minus(found, name, base), intervals[protocol])
        for name, intervals in found.gains(base).items()
    ]
    lines += [_published(name, scores[protocol], metrics) for name, scores in told.items()]
    return (
        f'<section class="vkd-board" aria-label="Scores {protocol.upper()}"><h3>{protocol.upper()} '
        f"<span>{escape(kind.title)} · {escape(detail)}</span></h3>"
        f'<div class="vkd-wide"><table class="vkd-scores"><thead><tr><th scope="col">Network</th>{head}</tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _columns(scores: Scores) -> list[str]:
    """The metrics of a table: the compared ones that this evaluation holds."""
    return [key for key, metric in METRICS.items() if metric.compared and key in scores.per_query]


def _difference(pair: str, intervals: Mapping[str, Interval]) -> str:
    cells = []
    for key, interval in intervals.items():
        factor = 100 if METRICS[key].percent else 1
        mean, low, high = (factor * number for number in interval)
        side = "up" if low > 0 else "down" if high < 0 else "level"
        if not METRICS[key].higher_is_better:
            side = {"up": "down", "down": "up"}.get(side, side)
        told = f"<b>{mean:+.2f}</b><small>{low:.1f} … {high:.1f}</small>".replace("-", "−")
        cells.append(f'<td class="vkd-{side}">{told}</td>')
    title = f'Difference<small title="points, with the 95 % interval">{escape(pair)}</small>'
    return f'<tr class="vkd-gain"><th scope="row">{title}</th>{"".join(cells)}</tr>'


def _published(name: str, scores: Mapping[str, Any], metrics: Sequence[str]) -> str:
    cells = "".join(f"<td>{metric_value(key, scores[key]) if key in scores else '–'}</td>" for key in metrics)
    title = f"{escape(name)}<small>arXiv 2007.04174</small>"
    return f'<tr class="vkd-paper"><th scope="row">{title}</th>{cells}</tr>'


def _note(found: Comparison) -> str:
    one = next(iter(next(iter(found.scores.values())).values()))
    where, other = "in" if one.queries_in_gallery else "not in", _OTHER[found.convention]
    words = [
        f"In percent; {found.convention} AP ({_SHORT[other]}: {other}), "
        f"queries {where} the gallery, {found.views} frames a tracklet."
    ]
    if found.differences:
        words.append("Bold: the 95 % interval leaves out 0.")
    if published(found.networks, found.dataset, found.query_gallery):
        words.append("Published: arXiv 2007.04174, Table 1, trapezoid AP, queries in the gallery.")
    else:
        words.append(f"Nothing is published for {found.dataset}.")
    return f'<p class="vkd-detail vkd-terms">{escape(" ".join(words))}</p>'


def downloads_html(found: Comparison, name: str, base: str = "") -> str:
    """Links that hold the files themselves: nothing of the server is opened for them."""
    results = found.results(base)
    links = []
    for title, suffix in FORMATS.items():
        content = base64.b64encode(tables.WRITERS[suffix](results).encode()).decode()
        links.append(
            f'<a download="vkd-{escape(name)}{suffix}" href="data:{_MIMES[suffix]};base64,{content}">'
            f"{title}</a>"
        )
    return f'<p class="vkd-downloads"><span>Download</span>{"".join(links)}</p>'


# ---- same or not


def thresholds(found: Comparison, protocol: str, rate: float) -> dict[str, dict[str, float]]:
    """Network → the threshold at a false-positive rate, what passes it, and how many pairs there are."""
    out = {}
    for name in found.networks:
        pairs = found.pairs[name][protocol]
        out[name] = {
            **{key: round(value, 5) for key, value in pairs.threshold(rate)._asdict().items()},
            "genuine_pairs": int(pairs.genuine.sum()),
            "impostor_pairs": int(pairs.impostor.sum()),
        }
    return out


def thresholds_html(found: Comparison, protocol: str, rate: float) -> str:
    """The thresholds in sentences."""
    names, parts = labels(found), parts_of(found)
    told = []
    for name, each in thresholds(found, protocol, rate).items():
        told.append(
            f'<li class="vkd-{parts[name]}"><b class="vkd-part">{escape(names[name])}</b> Call two the same '
            f"from <b>{each['similarity']:.3f}</b>: {100 * each['fpr']:.2f} % of "
            f"{each['impostor_pairs']:,} pairs of strangers pass, and <b>{100 * each['tpr']:.1f} %</b> of "
            f"{each['genuine_pairs']:,} true pairs.</li>"
        )
    return f'<ul class="vkd-thresholds">{"".join(told)}</ul>'
