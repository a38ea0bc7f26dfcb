"""Plotly figures, and the component that draws them in the page's own colours (static/plot.js).

A figure's colours are the theme's (`var(--name)`), so that light and dark need no second answer from the
server. `layout.uirevision` names the figure: the page keeps the zoom of figures that keep their name.
"""

import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from vkd.evaluation.comparison import Comparison
from vkd.evaluation.protocols import GALLERY_FRAMES, QUERY_VIEWS
from vkd.metrics.bootstrap import cmc_band
from vkd.ui.labels import colours, labels

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SCRIPT = Path(str(files("plotly"))) / "package_data" / "plotly.min.js"
MAX_RANK = 50
MAX_POINTS = 4000
MAX_BANDS = 3
"""Networks whose intervals are drawn as bands; with more of them the hover box alone has the intervals."""
INK, MUTED, LINE, CARD = (f"var(--vkd-{name})" for name in ("ink", "muted", "line", "card"))
_JS = Path(__file__).parent / "static" / "plot.js"
_NETWORK_COLOURS = ("teacher", "student", "run-2", "run-3", "run-4", "run-5")
_DASHES = ("dash", "solid", "dot", "dashdot", "longdash", "longdashdot")
_SYMBOLS = ("diamond", "circle", "square", "triangle-up", "x", "star")


def component(**common: Any) -> gr.HTML:
    """Returns the component that draws figures; its value is made by `drawing`."""
    gr.set_static_paths([SCRIPT])
    return gr.HTML(
        value=None,
        html_template='<div class="vkd-figures-root vkd-early"></div>',
        js_on_load=_JS.read_text(encoding="utf-8"),
        head=f'<script src="gradio_api/file={SCRIPT}"></script>',
        **common,
    )


def drawing(figures: Iterable["Figure"], mark: str = "") -> dict[str, Any]:
    """Returns the component's value; `mark` (default: a digest) identifies it."""
    drawn = [figure.to_plotly_json() for figure in figures]
    for each in drawn:
        each["layout"].pop("template", None)
    mark = mark or hashlib.sha1(json.dumps(drawn).encode(), usedforsecurity=False).hexdigest()[:12]
    return {"mark": mark, "figures": drawn}


def figure(
    name: str, traces: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], **layout: Any
) -> "Figure":
    """Returns a figure of scatter traces in the app's style; `meta` is read by static/plot.js."""
    from plotly import graph_objects

    axis = {"gridcolor": LINE, "zerolinecolor": LINE, "linecolor": LINE, "automargin": True}
    for key in {"xaxis", "yaxis"} | {key for key in layout if key.startswith("yaxis")}:
        layout[key] = {**axis, **layout.get(key, {})}
    drawn = graph_objects.Figure([graph_objects.Scatter(trace) for trace in traces])
    drawn.update_layout(
        template=None, uirevision=name, meta=dict(meta), paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", font={"color": MUTED, "size": 12},
        hoverlabel={"bgcolor": CARD, "bordercolor": LINE, "font": {"color": INK}, "namelength": 30},
    )  # fmt: skip
    return drawn.update_layout(layout)


def unavailable(name: str, why: str) -> "Figure":
    """Returns an empty figure with the reason as its text."""
    return figure(name, [], {"why": why, "summary": why})


# ---- figures of an evaluation


def cmc(results: Comparison, protocol: str) -> "Figure":
    """Draws the CMC curves: share of queries with a match among the first 1, 2, … items."""
    lines = []
    for name, scores in results.scores.items():
        values = scores[protocol].cmc[:MAX_RANK]
        ranks = list(range(1, len(values) + 1))
        lines.append((name, ranks, values, cmc_band(scores[protocol], MAX_RANK)))
    tops = ", ".join(f"{labels(results)[name]} {100 * values[0]:.1f} %" for name, _, values, _ in lines)
    ticks = {"dtick": 10 if len(lines[0][1]) > 12 else 1}
    summary = f"CMC curves, {protocol.upper()}: top-1 {tops}"
    return _lines(results, f"cmc {protocol}", lines, "rank", summary, ticks, "lines")


def ablation(results: Comparison, protocol: str, what: str) -> "Figure":
    """Draws mAP against the number of "gallery frames" or "query views"."""
    name = f"{what} {protocol}"
    if what == GALLERY_FRAMES and not protocol.endswith("v"):
        return unavailable(name, f"The gallery of {protocol.upper()} holds single images.")
    lines = []
    for network, curves in results.curves.items():
        if points := curves[protocol].get(what):
            ends = [[each.get(f"map_{end}") for each in points.values()] for end in ("low", "high")]
            band = ends if None not in ends[0] else None
            lines.append((network, list(points), [each["map"] for each in points.values()], band))
    if not lines:
        return unavailable(name, "Not computed: tick 'Ablate frames and views' and evaluate again.")
    title = {GALLERY_FRAMES: "frames per gallery tracklet", QUERY_VIEWS: "views per query tracklet"}[what]
    ends = ", ".join(
        f"{labels(results)[network]} {100 * values[0]:.1f} to {100 * values[-1]:.1f} %"
        for network, _, values, _ in lines
    )
    counts = lines[0][1]
    axis = {"type": "log", "tickmode": "array", "tickvals": counts, "ticktext": [str(n) for n in counts]}
    summary = f"mAP against the number of {what}, {protocol.upper()}: {ends}"
    return _lines(results, name, lines, title, summary, axis, "lines+markers")


def _lines(
    results: Comparison, name: str, lines: Sequence[tuple[str, list[int], Any, Any]], across: str,
    summary: str, axis: dict[str, Any], mode: str,
) -> "Figure":  # fmt: skip
    """Draws one line for each (network, x, y, band), shares in percent."""
    traces = []
    for network, x, y, band in lines:
        number, label = colours(results)[network], html.escape(labels(results)[network], quote=False)
        colour = network_colour(results, network)
        line = {
            "x": x, "y": _percent(y), "name": label, "legendgroup": label, "mode": mode,
            "line": {"color": colour, "width": 2.2, "dash": _DASHES[number]},
            "marker": {"color": colour, "size": 7, "symbol": _SYMBOLS[number]},
            "hovertemplate": "%{y:.2f} %",
        }  # fmt: skip
        if band is not None:
            low, high = (_percent(end) for end in band)
            line |= {"customdata": list(zip(low, high, strict=True))}
            line |= {"hovertemplate": "%{y:.2f} % (%{customdata[0]:.1f} … %{customdata[1]:.1f})"}
            if len(lines) <= MAX_BANDS:
                traces.append(
                    {"x": [*x, *x[::-1]], "y": [*high, *low[::-1]], "legendgroup": label, "mode": "lines",
                     "showlegend": False, "hoverinfo": "skip", "line": {"width": 0, "color": colour},
                     "fill": "toself", "fillcolor": colour, "opacity": 0.2}
                )  # fmt: skip
        traces.append(line)
    return figure(
        name, traces, {"summary": summary}, hovermode="x unified", showlegend=True,
        margin={"l": 12, "r": 14, "t": 26, "b": 12}, xaxis={**axis, **_titled(across)},
        yaxis={"ticksuffix": " %"},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom",
                "font": {"color": INK}},
    )  # fmt: skip


def ap_scatter(
    results: Comparison, protocol: str, selected: int | None = None, base: str = "", other: str = ""
) -> "Figure":
    """Draws the AP of each query, `base` across and `other` up; of many the points that differ most."""
    if len(results.networks) < 2:
        return unavailable(f"scatter {protocol}", "Choose a second model to see where the two differ.")
    pair = results.pair(base, other)
    first, second = (results.ap(name, protocol) for name in pair)
    one, two = (html.escape(labels(results)[name], quote=False) for name in pair)
    valid = np.flatnonzero(~np.isnan(first))
    drawn = valid[np.argsort(-np.abs(second - first)[valid], kind="stable")[:MAX_POINTS]]
    better, worse = int((second > first)[valid].sum()), int((second < first)[valid].sum())
    items = [results.items[int(results.query_gallery[protocol][0][query])] for query in drawn]
    signs = np.sign(np.round(1e4 * (second - first)[drawn]))
    by_sign = {1: network_colour(results, pair[1]), -1: network_colour(results, pair[0]), 0: MUTED}
    points = {
        "x": _percent(first[drawn]), "y": _percent(second[drawn]), "customdata": [int(q) for q in drawn],
        "mode": "markers", "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": 5 if len(drawn) > 600 else 8, "opacity": 0.72,
                   "line": {"width": 0.6, "color": CARD}, "color": [by_sign[int(sign)] for sign in signs]},
        "text": [
            f"query {query}: identity {item.identity}, camera {item.camera}<br>"
            f"{one} AP {100 * first[query]:.1f} %, {two} AP {100 * second[query]:.1f} %"
            for query, item in zip(drawn, items, strict=True)
        ],
    }  # fmt: skip
    ring = {
        "x": [], "y": [], "customdata": [] if selected is None else [selected], "meta": "selected",
        "mode": "markers", "hoverinfo": "skip",
        "marker": {"size": 17, "symbol": "circle-open", "color": INK, "line": {"width": 2.5}},
    }  # fmt: skip
    axis = {"range": [-4, 104], "dtick": 20, "ticksuffix": " %"}
    summary = f"AP of each query, {protocol.upper()}: {two} better for {better}, {one} for {worse}"
    return figure(
        f"scatter {protocol}", [points, ring], {"summary": f"{summary} of {len(valid)} queries"},
        hovermode="closest", showlegend=False, margin={"l": 12, "r": 14, "t": 44, "b": 12},
        xaxis={**axis, **_titled(f"{one} AP")}, yaxis={**axis, **_titled(f"{two} AP")},
        shapes=[{"type": "line", "x0": 0, "y0": 0, "x1": 100, "y1": 100, "layer": "below",
                 "line": {"color": MUTED, "width": 1, "dash": "dot"}}],
        # One above the other: side by side, two long names overlap.
        annotations=[
            {"xref": "paper", "yref": "paper", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom",
             "yshift": 2 + 16 * row, "showarrow": False, "text": text, "font": {"color": colour, "size": 12}}
            for row, text, colour in ((1, f"{two} better: {better}", by_sign[1]),
                                      (0, f"{one} better: {worse}", by_sign[-1]))
        ],
    )  # fmt: skip


def similarities(results: Comparison, protocol: str, rate: float) -> "Figure":
    """Draws similarities of genuine and impostor pairs of each network, and the threshold at an FPR."""
    names = list(results.networks)
    gap, traces, shapes, annotations, axes = 0.14, [], [], [], {}
    shares = {name: results.pairs[name][protocol].shares() for name in names}
    middles = next(iter(shares.values()))[0]
    drawn = middles[
        np.any([(genuine > 5e-4) | (impostor > 5e-4) for _, genuine, impostor in shares.values()], 0)
    ]
    left, right = float((drawn if len(drawn) else middles)[0]), float((drawn if len(drawn) else middles)[-1])
    step = float(middles[1] - middles[0])
    left, right = left - step, min(1.0, right + step)
    thresholds = {name: results.pairs[name][protocol].threshold(rate).similarity for name in names}
    for number, name in enumerate(names):
        axis = f"y{number + 1}" if number else "y"
        height = (1 - gap * len(names)) / len(names)
        top = 1 - number * (height + gap) - gap / 2
        axes[axis.replace("y", "yaxis")] = {
            "domain": [max(0.0, top - height), top], "showticklabels": False, "rangemode": "tozero",
            "showgrid": False, "anchor": "x",
        }  # fmt: skip
        _, genuine, impostor = shares[name]
        for title, values, kind, dash in (
            ("impostor pairs", impostor, "wrong", "dot"), ("genuine pairs", genuine, "right", "solid")
        ):  # fmt: skip
            traces.append(
                {"x": [round(float(x), 4) for x in middles], "y": _percent(values), "yaxis": axis,
                 "name": title, "mode": "lines", "fill": "tozeroy", "hovertemplate": "%{y:.1f} %",
                 "line": {"shape": "hvh", "width": 1.6, "color": f"var(--vkd-{kind})", "dash": dash}}
            )  # fmt: skip
        at = float(thresholds[name])
        domain = f"{axis} domain"
        shapes.append({"type": "line", "xref": "x", "yref": domain, "x0": at, "x1": at, "y0": 0, "y1": 1,
                       "line": {"color": INK, "width": 2}})  # fmt: skip
        common = {"yref": domain, "y": 1, "yanchor": "bottom", "showarrow": False}
        label = html.escape(labels(results)[name], quote=False)
        annotations += [
            {**common, "xref": "paper", "x": 0, "xanchor": "left", "text": f"<b>{label}</b>",
             "font": {"color": network_colour(results, name), "size": 13}},
            {**common, "xref": "x", "x": at, "text": f" threshold {at:.3f} ", "font": {"color": INK},
             "xanchor": "right" if at > left + 0.72 * (right - left) else "left"},
        ]  # fmt: skip
    values = ", ".join(f"{labels(results)[name]} {at:.3f}" for name, at in thresholds.items())
    return figure(
        f"pairs {protocol}", traces,
        {"summary": f"Similarities of genuine and impostor pairs, {protocol.upper()}; thresholds: {values}"},
        hovermode="x unified", showlegend=False, margin={"l": 12, "r": 14, "t": 8, "b": 12}, shapes=shapes,
        annotations=annotations, **axes,
        xaxis={"range": [left, right], "anchor": f"y{len(names)}" if len(names) > 1 else "y",
               **_titled("cosine similarity")},
    )  # fmt: skip


def network_colour(results: Comparison, network: str) -> str:
    """Returns the colour of a network of an evaluation, in every figure and table."""
    return f"var(--vkd-{_NETWORK_COLOURS[colours(results)[network] % len(_NETWORK_COLOURS)]})"


def _titled(text: str) -> dict[str, Any]:
    return {"title": {"text": text, "standoff": 8}}


def _percent(shares: Any) -> list[float]:
    return [round(100 * float(share), 3) for share in shares]
