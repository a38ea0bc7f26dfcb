"""Figures of the training curves: one for each series of numbers, with a line for each run drawn."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd.io.files import evenly_spaced
from vkd.metrics.ranking import METRICS, metric_value
from vkd.training.objectives import LOSSES
from vkd.training.settings import load
from vkd.ui import plots
from vkd.ui.train import runs

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = 8
MAX_POINTS = 600
"""Points of a line: a longer run is thinned, so that a whole figure stays small enough to be sent anew."""
_OTHER = {
    "learning_rate": ("Learning rate", ""),
    "images_per_second": ("Throughput", " images/s"),
    "memory_mb": ("Peak memory", " MiB"),
}
_SECTIONS = ("Test metrics", "Losses", "Schedule and runtime", "More metrics")
_FIRST = ("losses/total", "learning_rate")
_LEVELS = {"teacher": ("dash", "var(--vkd-teacher)"), "published": ("dot", plots.MUTED)}

Drawn = tuple[tuple[str, int, int], ...]
"""Name, palette index and events read (bytes) of each run drawn."""


def refresh(
    root: Path, drawn: Sequence[str], colours: Mapping[str, int], mark: str | None
) -> dict[str, Any] | None:
    """Returns the value of the curves' component; None where a page that shows `mark` is up to date."""
    key = tuple((name, colours.get(name, 0) % COLOURS, runs.events_of(root / name).offset) for name in drawn)
    current = " ".join(f"{name}:{colour}:{offset}" for name, colour, offset in key) or "none"
    return None if mark == current else plots.drawing(_figures(root, key), current)


@functools.lru_cache(maxsize=32)
def _figures(root: Path, drawn: Drawn) -> list["Figure"]:
    lines = {name: _series(runs.events_of(root / name).events) for name, _, _ in drawn}
    names = sorted({key for series in lines.values() for key in series}, key=_rank)
    levels: list[runs.Level] = []
    for name, _, _ in drawn:
        try:
            levels += runs.levels(load(root / name / "settings.json"), root)
        except (ValueError, OSError):
            continue
    return [_figure(key, drawn, lines, list(dict.fromkeys(levels))) for key in names]


def _series(events: Sequence[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """Returns series → epoch → number; of an epoch that ran again after a resume the later one counts."""
    series: dict[str, dict[int, float]] = {}
    for epoch, numbers in runs.points(events):
        for key, value in numbers.items():
            series.setdefault(key, {})[epoch] = value
    return series


def _figure(
    key: str, drawn: Drawn, lines: Mapping[str, Mapping[str, Mapping[int, float]]], levels: list[runs.Level]
) -> "Figure":
    factor = 100 if _is_share(key) else 1
    traces, latest = [], ""
    for name, colour, _ in drawn:
        if not (values := lines[name].get(key)):
            continue
        epochs = sorted(values)
        latest = latest or format_number(key, values[epochs[-1]])
        epochs = [*evenly_spaced(epochs[:-1], MAX_POINTS - 1), epochs[-1]]
        mode = "lines" if len(epochs) >= 40 or factor == 1 else "lines+markers"
        traces.append(
            {"x": epochs, "y": [float(f"{values[epoch] * factor:.5g}") for epoch in epochs], "name": name,
             "mode": "markers" if len(epochs) < 2 else mode,
             "line": {"color": f"var(--vkd-run-{colour})", "width": 2},
             "marker": {"color": f"var(--vkd-run-{colour})", "size": 5},
             "hovertemplate": "%{y:.1f} %" if factor == 100 else "%{y:.4g}"}
        )  # fmt: skip
    own = [level for level in levels if level.series == key]
    first, last = min(line["x"][0] for line in traces), max(line["x"][-1] for line in traces)
    # Invisible points: levels count for the range of a plot that nobody has zoomed.
    traces += [
        {"x": [first], "y": [level.value * factor], "mode": "markers", "marker": {"opacity": 0},
         "hoverinfo": "skip", "showlegend": False} for level in own
    ]  # fmt: skip
    axis = {"automargin": False, "tickfont": {"size": 11}}
    return plots.figure(
        key, traces, {"title": title(key), "section": section(key), "latest": latest},
        margin={"l": 8, "r": 8, "t": 6, "b": 40}, showlegend=False, hovermode="x unified",
        xaxis={**axis, "rangemode": "tozero", "hoverformat": "d", "title": {"text": "epoch"},
               **({"dtick": 1} if last < 6 else {"nticks": 5})},
        yaxis={**axis, "automargin": True, "nticks": 5, "rangemode": "tozero" if key in _OTHER else "normal",
               "ticksuffix": " %" if factor == 100 else "", "exponentformat": "power",
               "tickformat": ".0e" if key == "learning_rate" else ""},
        shapes=[
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level.value * factor,
             "y1": level.value * factor, "line": {"color": colour, "width": 1.5, "dash": dash}}
            for level in own for dash, colour in [_LEVELS[level.source]]
        ],
        annotations=[
            {"xref": "paper", "x": 0 if number % 2 else 1, "xanchor": "left" if number % 2 else "right",
             "y": level.value * factor, "yanchor": "bottom", "text": level.source, "showarrow": False,
             "font": {"size": 10, "color": _LEVELS[level.source][1]}}
            for number, level in enumerate(own)
        ],
    )  # fmt: skip


def _is_share(series: str) -> bool:
    """True for a metric that is shown in percent."""
    first, _, key = series.partition("/")
    return first != "losses" and key in METRICS and METRICS[key].percent


def title(series: str) -> str:
    """Returns the title of a curve; series without one are named after themselves."""
    first, _, last = series.partition("/")
    if series in _OTHER:
        return _OTHER[series][0]
    if first == "losses":
        return LOSSES[last].title if last in LOSSES else last
    if last in METRICS:
        return f"{METRICS[last].title} · {first.upper()}"
    return series.replace("_", " ").replace("/", " · ")


def section(series: str) -> str:
    """Returns the heading that a curve stands under."""
    first, _, last = series.partition("/")
    if first == "losses":
        return _SECTIONS[1]
    if last in METRICS:
        return _SECTIONS[0] if METRICS[last].headline else _SECTIONS[3]
    return _SECTIONS[2]


def _rank(series: str) -> tuple[int, bool, str, int, str]:
    """Sorts by section, then metrics by protocol in the order of METRICS, others by name."""
    first, _, last = series.partition("/")
    is_metric = first != "losses" and last in METRICS
    protocol, order = (first, [*METRICS].index(last)) if is_metric else ("", 0)
    return _SECTIONS.index(section(series)), series not in _FIRST, protocol, order, series


def format_number(series: str, value: float) -> str:
    """Formats the latest number of a series for its caption."""
    if _is_share(series):
        return metric_value(series.rpartition("/")[2], value, 1, " %")
    size, unit = abs(value), _OTHER.get(series, ("", ""))[1]
    if 0 < size < 0.01 or size >= 1e5:
        return f"{value:.1e}{unit}"
    return f"{value:.0f}{unit}" if size >= 1000 else f"{float(f'{value:.3g}'):g}{unit}"
