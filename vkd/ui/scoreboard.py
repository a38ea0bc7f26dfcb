"""An evaluation as HTML: how far it is, the table, queries, thresholds. Outside text is escaped here."""

import base64
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from vkd import report
from vkd.comparison import Comparison, Ranked, published
from vkd.evaluate import PROTOCOLS
from vkd.evaluations import Asked, Status, thumbnail
from vkd.intervals import Interval
from vkd.tracklets import Tracklet
from vkd.ui import cards
from vkd.ui.cards import escape
from vkd.ui.figures import labels
from vkd.ui.watch import duration

_COLUMNS = {"map": "mAP", "top1": "top-1", "top5": "top-5", "top10": "top-10", "minp": "mINP"}
_OTHER = {"trapezoid": "standard", "standard": "trapezoid"}
_SHORT = {"trapezoid": "trap.", "standard": "std."}
_KINDS = {"image": "pictures", "tracklet": "tracklets"}
FORMATS = {"JSON": ".json", "CSV": ".csv", "Markdown": ".md", "LaTeX": ".tex"}
_MIMES = {".json": "application/json", ".csv": "text/csv", ".md": "text/markdown", ".tex": "text/x-tex"}


def parts_of(found: Comparison) -> dict[str, str]:
    """Network → teacher, student or other: what it is coloured as."""
    roles = ["teacher", "student"] if len(found.networks) > 1 else [next(iter(found.networks.values())).stage]
    roles = [role if role in ("teacher", "student") else "other" for role in roles]
    return {name: roles[n] if n < len(roles) else "other" for n, name in enumerate(found.networks)}


# ---- how far it is


def progress_html(name: str, asked: Asked, status: Status, words: str = "") -> str:
    """One line about an evaluation: what, where, how far; a bar while it works, the reason when it ended
    early.
    """
    what = f"{escape(' · '.join(asked.checkpoints))} on {escape(Path(asked.root).name)}"
    state, share = _state(status)
    words = words or state
    bar = ""
    if status.state in ("running", "stopping"):
        bar = (
            f'<div class="vkd-progress" role="progressbar" aria-label="Frames embedded" aria-valuemin="0" '
            f'aria-valuemax="100" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></div>'
        )
        what += " · goes on when this page is closed"
    alarm = " vkd-alarm" if status.state in ("failed", "died") else ""
    return (
        f'<div class="vkd-job" data-state="{status.state}"><p class="vkd-headline{alarm}" role="status">'
        f'{escape(words)}</p><p class="vkd-detail">{what} · evaluation {escape(name)}</p>{bar}</div>'
    )


def _state(status: Status) -> tuple[str, float]:
    share = 100 * status.done / status.total if status.total else 0.0
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
        "died": f"The process ended without a word ({status.why}). Evaluate again.",
    }
    return words[status.state], share


def headline(found: Comparison) -> str:
    """The main number of each protocol in one line."""
    shown = list(found.scores.items())[:2]
    who = " → ".join(labels(found)[name].lower() for name, _ in shown)
    told = [
        f"{protocol.upper()} {' → '.join(f'{100 * each[protocol].map:.1f}' for _, each in shown)} %"
        for protocol in found.sides
    ]
    return f"mAP, {who}: {', '.join(told)}"


# ---- the table


def table_html(found: Comparison) -> str:
    """A small table for each protocol: the networks, their differences, what was published."""
    boards = "".join(_board(found, protocol) for protocol in found.sides)
    return f'<div class="vkd-boards">{boards}</div>{_note(found)}'


def _board(found: Comparison, protocol: str) -> str:
    one = next(iter(found.scores.values()))[protocol]
    kind = PROTOCOLS[protocol]
    detail = (
        f"{one.valid_queries} of {one.queries} queries valid, {one.gallery} gallery {_KINDS[kind.gallery]}"
    )
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in _COLUMNS.values())
    other = _OTHER[found.convention]
    names, parts = labels(found), parts_of(found)
    told = published(found.networks, found.dataset, [protocol])
    lines = []
    for name, scores in found.scores.items():
        numbers = scores[protocol].numbers()
        small = {
            "map": f"<small title='{other} AP'>{100 * numbers[f'map_{other}']:.2f} {_SHORT[other]}</small>"
        }
        cells = "".join(f"<td>{100 * numbers[metric]:.2f}{small.get(metric, '')}</td>" for metric in _COLUMNS)
        second = "" if names[name] == name else f"<small>{escape(name)}</small>"
        lines.append(
            f'<tr class="vkd-{parts[name]}"><th scope="row" title="{escape(name)}">'
            f'<b class="vkd-part">{escape(names[name])}</b>{second}</th>{cells}</tr>'
        )
    lines += [_difference(found, name, intervals[protocol]) for name, intervals in found.differences.items()]
    lines += [_published(name, scores[protocol]) for name, scores in told.items()]
    return (
        f'<section class="vkd-board" aria-label="Scores {protocol.upper()}"><h3>{protocol.upper()} '
        f"<span>{escape(kind.name)} · {escape(detail)}</span></h3>"
        f'<div class="vkd-wide"><table class="vkd-scores"><thead><tr><th scope="col">Network</th>{head}</tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _difference(found: Comparison, name: str, intervals: Mapping[str, Interval]) -> str:
    first, *_ = found.networks
    names = labels(found)
    cells = []
    for metric in _COLUMNS:
        mean, low, high = (100 * number for number in intervals[metric])
        side = "up" if low > 0 else "down" if high < 0 else "level"
        cells.append(f'<td class="vkd-{side}"><b>{mean:+.2f}</b><small>{low:.1f} … {high:.1f}</small></td>')
    pair = " − ".join(names[each].lower() if names[each] != each else each for each in (name, first))
    title = f'Difference<small title="points, with the 95 % interval">{escape(pair)}</small>'
    return f'<tr class="vkd-gain"><th scope="row">{title}</th>{"".join(cells)}</tr>'


def _published(name: str, scores: Mapping[str, Any]) -> str:
    cells = "".join(
        f"<td>{100 * scores[metric]:.2f}</td>" if metric in scores else "<td>–</td>" for metric in _COLUMNS
    )
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
    if published(found.networks, found.dataset, found.sides):
        words.append("Published: arXiv 2007.04174, Table 1, trapezoid AP, queries in the gallery.")
    else:
        words.append(f"Nothing is published for {found.dataset}.")
    return f'<p class="vkd-detail vkd-terms">{escape(" ".join(words))}</p>'


def downloads_html(found: Comparison, name: str) -> str:
    """Links that hold the files themselves: nothing of the server is opened for them."""
    results = found.results()
    links = []
    for title, suffix in FORMATS.items():
        content = base64.b64encode(report.WRITERS[suffix](results).encode()).decode()
        links.append(
            f'<a download="vkd-{escape(name)}{suffix}" href="data:{_MIMES[suffix]};base64,{content}">'
            f"{title}</a>"
        )
    return f'<p class="vkd-downloads"><span>Download</span>{"".join(links)}</p>'


# ---- queries


def who(found: Comparison, item: Tracklet) -> str:
    return cards.who(item.identity, item.camera, found.names.get(item.identity, ""))


def queries_html(
    found: Comparison, folder: Path, protocol: str, order: Sequence[int], chosen: int | None, most: int = 24
) -> str:
    """Queries in the order given, as buttons: a picture, the AP of each network."""
    names, parts = labels(found), parts_of(found)
    buttons = []
    for query in order[:most]:
        item = found.items[int(found.sides[protocol][0][query])]
        aps = {name: 100 * found.ap(name, protocol)[query] for name in found.networks}
        told = ", ".join(f"{names[name]} AP {ap:.0f} %" for name, ap in aps.items())
        rows = "".join(f'<i class="vkd-{parts[name]}">{ap:.0f}</i>' for name, ap in list(aps.items())[:4])
        label = escape(f"Query {query}: {who(found, item)}, {told}")
        buttons.append(
            f'<li><button type="button" data-query="{query}" aria-label="{label}" title="{label}" '
            f'aria-current="{"true" if query == chosen else "false"}">'
            f"{_picture(folder, item)}<span>{rows}</span></button></li>"
        )
    shown = f"{min(most, len(order))} of {len(order)} valid queries; AP in percent"
    return f'<ol class="vkd-worst" aria-label="{escape(shown)}">{"".join(buttons)}</ol>'


def _picture(folder: Path, item: Tracklet) -> str:
    path = thumbnail(folder, item.frames[0])
    return f'<img src="{cards.file_uri(path)}" alt="">' if path.is_file() else "<em>no picture</em>"


def lists_html(
    found: Comparison, folder: Path, protocol: str, query: int, k: int
) -> tuple[str, dict[str, Any]]:
    """The ranked lists of one query, one strip for each network, and the same as data."""
    parts, names = parts_of(found), labels(found)
    strips, data = [], {}
    for name in found.networks:
        hits = found.ranked(name, protocol, query, k)
        counted = list(accumulate(int(hit.verdict != "junk") for hit in hits))
        ranks = [n if hit.verdict != "junk" else None for n, hit in zip(counted, hits, strict=True)]
        shown = "".join(_hit(found, folder, *each) for each in zip(hits, ranks, strict=True))
        ap, first = float(found.ap(name, protocol)[query]), found.scores[name][protocol].first_match[query]
        strips.append(
            f'<section class="vkd-film vkd-{parts[name]}" aria-label="Matches of {escape(names[name])}"><h4>'
            f'<b class="vkd-part">{escape(names[name])}</b> AP {100 * ap:.1f} %, first right match at rank '
            f"{int(first)}</h4><ol>{shown}</ol></section>"
        )
        data[name] = {
            "label": names[name],
            "ap": ap,
            "hits": [
                {
                    "rank": rank,
                    "similarity": round(hit.similarity, 4),
                    "identity": found.items[hit.item].identity,
                    "camera": found.items[hit.item].camera,
                    "verdict": hit.verdict,
                }
                for hit, rank in zip(hits, ranks, strict=True)
            ],
        }
    item = found.items[int(found.sides[protocol][0][query])]
    frames = [thumbnail(folder, frame) for frame in dict.fromkeys(item.frames)][: cards.STRIP_VIEWS]
    views = "".join(f'<img src="{cards.file_uri(path)}" alt="">' for path in frames if path.is_file())
    return (
        f'<div class="vkd-answer"><div class="vkd-query"><div class="vkd-strip">{views}</div><div>'
        f'<p class="vkd-headline" role="status">Query {query}: {escape(who(found, item))}</p>'
        '<p class="vkd-legend"><span class="vkd-right">✓ right</span><span class="vkd-wrong">✗ wrong</span>'
        '<span class="vkd-junk">– junk: same camera, does not count</span></p></div></div>'
        f"{''.join(strips)}</div>",
        data,
    )


def _hit(found: Comparison, folder: Path, hit: Ranked, rank: int | None) -> str:
    """One match of a strip: its middle frame, rank or junk, similarity."""
    item = found.items[hit.item]
    path = thumbnail(folder, item.frames[len(item.frames) // 2])
    label = f"{rank or 'not counted'}: {who(found, item)}, similarity {hit.similarity:.2f}, {hit.verdict}"
    picture = (
        f'<img src="{cards.file_uri(path)}" alt="{escape(label)}">'
        if path.is_file()
        else "<em>no picture</em>"
    )
    return (
        f'<li class="vkd-{hit.verdict}" title="{escape(label)}">{picture}<span><b>{rank or "–"}</b>'
        f"<i>{hit.similarity:.2f}</i></span></li>"
    )


# ---- same or not


def thresholds(found: Comparison, protocol: str, rate: float) -> dict[str, dict[str, float]]:
    """Network → the threshold at a false-positive rate, what passes it, and how many pairs there are."""
    out = {}
    for name in found.networks:
        pairs = found.pairs[name][protocol]
        out[name] = {
            **{key: round(value, 5) for key, value in pairs.threshold(rate)._asdict().items()},
            "true_pairs": int(pairs.true.sum()),
            "false_pairs": int(pairs.false.sum()),
        }
    return out


def thresholds_html(found: Comparison, protocol: str, rate: float) -> str:
    """The thresholds in sentences."""
    names, parts = labels(found), parts_of(found)
    told = []
    for name, each in thresholds(found, protocol, rate).items():
        told.append(
            f'<li class="vkd-{parts[name]}"><b class="vkd-part">{escape(names[name])}</b> Call two the same '
            f"from <b>{each['similarity']:.3f}</b>: {100 * each['false_rate']:.2f} % of "
            f"{each['false_pairs']:,} pairs of strangers pass, and <b>{100 * each['true_rate']:.1f} %</b> of "
            f"{each['true_pairs']:,} true pairs.</li>"
        )
    return f'<ul class="vkd-thresholds">{"".join(told)}</ul>'
