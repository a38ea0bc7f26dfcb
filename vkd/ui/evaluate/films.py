"""Queries of an evaluation and their ranked lists, as HTML and data. Outside text is escaped here."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from vkd.data.tracklets import Tracklet
from vkd.evaluation.comparison import Comparison, Ranked
from vkd.jobs.evaluations import thumbnail
from vkd.ui import html
from vkd.ui.evaluate.labels import labels, parts_of
from vkd.ui.html import escape


def who(found: Comparison, item: Tracklet) -> str:
    return html.identity_label(item.identity, item.camera, found.names.get(item.identity, ""))


def queries_html(
    found: Comparison, folder: Path, protocol: str, order: Sequence[int], chosen: int | None, most: int = 24
) -> str:
    """Queries in the order given, as buttons: a picture, the AP of each network."""
    names, parts = labels(found), parts_of(found)
    buttons = []
    for query in order[:most]:
        item = found.items[int(found.query_gallery[protocol][0][query])]
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
    return f'<img src="{html.file_uri(path)}" alt="">' if path.is_file() else "<em>no picture</em>"


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
    item = found.items[int(found.query_gallery[protocol][0][query])]
    frames = [thumbnail(folder, frame) for frame in dict.fromkeys(item.frames)][: html.STRIP_VIEWS]
    views = "".join(f'<img src="{html.file_uri(path)}" alt="">' for path in frames if path.is_file())
    return (
        f'<div class="vkd-answer"><div class="vkd-query"><div class="vkd-strip">{views}</div><div>'
        f'<p class="vkd-headline" role="status">Query {query}: {escape(who(found, item))}</p>'
        '<p class="vkd-legend"><span class="vkd-correct">✓ correct</span>'
        '<span class="vkd-incorrect">✗ incorrect</span>'
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
        f'<img src="{html.file_uri(path)}" alt="{escape(label)}">'
        if path.is_file()
        else "<em>no picture</em>"
    )
    return (
        f'<li class="vkd-{hit.verdict}" title="{escape(label)}">{picture}<span><b>{rank or "–"}</b>'
        f"<i>{hit.similarity:.2f}</i></span></li>"
    )
