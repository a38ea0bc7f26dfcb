"""Figures of a comparison as plain data; the page draws them with plotly in its own colours (figures.js)."""

import html
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from vkd.evaluation.comparison import Comparison
from vkd.evaluation.sides import GALLERY_FRAMES, QUERY_VIEWS
from vkd.metrics.bootstrap import cmc_band
from vkd.ui.evaluate.labels import colours, labels

SCRIPT = Path(str(files("plotly"))) / "package_data" / "plotly.min.js"
_JS = Path(__file__).parent / "static" / "figures.js"
RANKS_SHOWN = 50
MOST_POINTS = 4000
MOST_BANDS = 3
"""Networks whose intervals are drawn as bands; of more they are told on hovering only."""

Figure = dict[str, Any]


def component(**common: Any) -> gr.HTML:
    """The place of one figure; its value is what a function below returns."""
    gr.set_static_paths([SCRIPT])
    return gr.HTML(
        value=None,
        html_template='<div class="vkd-figure" role="img"></div>',
        js_on_load=_JS.read_text(encoding="utf-8"),
        head=f'<script src="gradio_api/file={SCRIPT}"></script>',
        **common,
    )


def cmc(found: Comparison, protocol: str) -> Figure:
    """Share of queries with a match among the first 1, 2, … items."""
    lines = [
        _line(
            found, name, range(1, RANKS_SHOWN + 1), scores[protocol].cmc[:RANKS_SHOWN],
            cmc_band(scores[protocol], RANKS_SHOWN),
        )
        for name, scores in found.scores.items()
    ]  # fmt: skip
    tops = ", ".join(f"{line['name']} {100 * line['y'][0]:.1f} %" for line in lines)
    return {
        "kind": "lines",
        "key": f"cmc {protocol}",
        "lines": lines,
        "across": "rank",
        "up": "",
        "few": False,
        "bands": len(lines) <= MOST_BANDS,
        "summary": f"CMC curves, {protocol.upper()}: top-1 {tops}",
    }


def against(found: Comparison, protocol: str, what: str) -> Figure:
    """mAP against the number of "gallery frames" or "query views"."""
    if what == GALLERY_FRAMES and not protocol.endswith("v"):
        return _nothing(f"The gallery of {protocol.upper()} is single pictures.")
    lines = []
    for name, curves in found.curves.items():
        if line := curves[protocol].get(what):
            ends = [[each.get(f"map_{end}") for each in line.values()] for end in ("low", "high")]
            band = ends if None not in ends[0] else None
            lines.append(_line(found, name, line, [each["map"] for each in line.values()], band))
    if not lines:
        return _nothing("Not asked for: tick 'Accuracy against frames and views' and evaluate again.")
    words = {GALLERY_FRAMES: "frames of each gallery tracklet", QUERY_VIEWS: "views of each query tracklet"}
    ends = ", ".join(
        f"{line['name']} {100 * line['y'][0]:.1f} to {100 * line['y'][-1]:.1f} %" for line in lines
    )
    return {
        "kind": "lines",
        "key": f"{what} {protocol}",
        "lines": lines,
        "across": words[what],
        "up": "",
        "few": True,
        "bands": len(lines) <= MOST_BANDS,
        "summary": f"mAP against the number of {what}, {protocol.upper()}: {ends}",
    }


def _line(found: Comparison, name: str, x: Any, y: Any, band: Any = None) -> dict[str, Any]:
    """A line; `band` has the lower and the upper ends of its intervals."""
    low, high = band if band is not None else ([], [])
    ends = {"low": _plain(low), "high": _plain(high)}
    label = html.escape(labels(found)[name], quote=False)
    return {"name": label, "colour": colours(found)[name], "x": list(x)[: len(y)], "y": _plain(y), **ends}


def _plain(shares: Any) -> list[float]:
    return [round(float(share), 5) for share in shares]


def scatter(
    found: Comparison, protocol: str, chosen: int | None = None, base: str = "", other: str = ""
) -> Figure:
    """AP of each query, one network of the pair across, the other up; the points that differ most where there
    are many.
    """
    if len(found.networks) < 2:
        return _nothing("Choose a teacher and a student to see where they differ.")
    pair = found.pair(base, other)
    first, second = (found.ap(name, protocol) for name in pair)
    one, two = (html.escape(labels(found)[name], quote=False) for name in pair)
    valid = np.flatnonzero(~np.isnan(first))
    kept = valid[np.argsort(-np.abs(second - first)[valid], kind="stable")[:MOST_POINTS]]
    better, worse = int((second > first)[valid].sum()), int((second < first)[valid].sum())
    items = [found.items[int(found.query_gallery[protocol][0][query])] for query in kept]
    return {
        "kind": "scatter",
        "key": f"scatter {protocol}",
        "x": [round(float(first[query]), 4) for query in kept],
        "y": [round(float(second[query]), 4) for query in kept],
        "query": [int(query) for query in kept],
        "chosen": chosen,
        "colours": [colours(found)[name] for name in pair],
        "text": [
            f"query {query}: identity {item.identity}, camera {item.camera}<br>"
            f"{one} AP {100 * first[query]:.1f} %, {two} AP {100 * second[query]:.1f} %"
            for query, item in zip(kept, items, strict=True)
        ],
        "above": f"{two} better: {better}",
        "below": f"{one} better: {worse}",
        "across": f"{one} AP",
        "up": f"{two} AP",
        "summary": f"AP of each query, {protocol.upper()}: {two} better for {better}, {one} for {worse} "
        f"of {len(valid)} queries",
    }


def pairs(found: Comparison, protocol: str, rate: float) -> Figure:
    """Similarities of true and false pairs of each network, and the threshold at a false-positive rate."""
    middles: np.ndarray = np.empty(0)
    seen = np.zeros(1, bool)
    rows = []
    for name, label in labels(found).items():
        histogram = found.pairs[name][protocol]
        middles, true, false = histogram.shares()
        seen = seen | (true > 5e-4) | (false > 5e-4)
        rows.append(
            {
                "name": html.escape(label, quote=False),
                "colour": colours(found)[name],
                "true": _plain(true),
                "false": _plain(false),
                "threshold": round(histogram.threshold(rate).similarity, 4),
            }
        )
    shown = middles[seen] if seen.any() else middles
    step = float(middles[1] - middles[0])
    told = ", ".join(f"{row['name']} {row['threshold']:.3f}" for row in rows)
    return {
        "kind": "pairs",
        "key": f"pairs {protocol}",
        "x": _plain(middles),
        "range": [float(shown[0]) - step, min(1.0, float(shown[-1]) + step)],
        "rows": rows,
        "across": "similarity (cosine)",
        "summary": f"Similarities of true and false pairs, {protocol.upper()}; thresholds: {told}",
    }


def _nothing(why: str) -> Figure:
    return {"kind": "", "why": why, "summary": why}
