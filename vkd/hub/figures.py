"""A run's curves and heatmaps as pictures for its card."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vkd.hub.attention_sheet import heatmaps
from vkd.hub.summary import Facts, by_epoch, facts, teacher_of
from vkd.training.presets import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["curves", "heatmaps", "spread"]

INK, FAINT, RULE = "#1b1f24", "#667079", "#e3e6e9"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a0528f", "#8a6d00", "#5b6ee1")  # apart for the colour-blind too
_LOSSES = ("total", "class", "triplet", "kd", "mse", "dp")
_LEAST = 1e-6  # of what a logarithmic axis shows


class Line(NamedTuple):
    """A curve over epochs, or with one value and no epochs a level."""

    name: str
    colour: str
    epochs: Sequence[int]
    values: Sequence[float]
    dash: str = "-"


def curves(folder: str | Path) -> bytes | None:
    """Losses and mAP over the epochs as a PNG: the teacher's mAP dashed, the published dotted.

    None for a folder that keeps no events of training. Raises as `facts`.
    """
    found = facts(folder)
    losses, scores = _loss_lines(found), _score_lines(found)
    if not losses and not scores:
        return None
    # matplotlib only here, so that the page opens without it; its objects alone, because pyplot keeps state
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [lines for lines in (losses, scores) if lines]
    figure = Figure(figsize=(5.6 * len(drawn), 3.9), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.15, wspace=0.05)
    canvas = FigureCanvasAgg(figure)
    for axes, lines in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        _draw(axes, lines, found, logarithmic=lines is losses)
    file = io.BytesIO()
    canvas.print_png(file, metadata={"Software": None})
    return file.getvalue()


def _loss_lines(found: Facts) -> list[Line]:
    """Each loss by its share in the sum; one that counts for nothing is left out."""
    weights: dict[str, float] = found.settings.weights if found.settings is not None else {}
    rows = {epoch: _numbers(event.get("losses")) for epoch, event in by_epoch(found, "epoch").items()}
    names = sorted({name for row in rows.values() for name in row}, key=lambda n: (_place(n), n))
    lines = []
    for place, name in enumerate(names):
        weight = weights.get(name, 1.0)
        points = [(e, weight * row[name]) for e, row in rows.items() if weight * row.get(name, 0) > _LEAST]
        if points:
            colour = INK if name == "total" else COLOURS[place % len(COLOURS)]
            lines.append(Line(name, colour, *_apart(points)))
    return lines


def _place(name: str) -> int:
    return _LOSSES.index(name) if name in _LOSSES else len(_LOSSES)


def _score_lines(found: Facts) -> list[Line]:
    """mAP in percent, a colour for each protocol, and the levels to compare it with."""
    config, lines = found.config, []
    rows = {
        epoch: {name: _map(metrics) for name, metrics in _mapping(event.get("scores")).items()}
        for epoch, event in by_epoch(found, "scores").items()
    }
    teacher = teacher_of(found)
    published = PUBLISHED.get((config.dataset, config.backbone, config.stage), {})
    table = {name: {"map_trapezoid": metrics["map"]} for name, metrics in published.items()}
    names = list(dict.fromkeys(str(name) for row in rows.values() for name in row))[: len(COLOURS)]
    for name, colour in zip(names, COLOURS, strict=False):
        points = [(epoch, 100 * value) for epoch, row in rows.items() if (value := row.get(name)) is not None]
        if not points:
            continue
        title = name.upper()[:12]
        lines.append(Line(title, colour, *_apart(points)))
        for who, scores, dash in (
            ("teacher", teacher.config.scores if teacher else {}, "--"),
            ("published", table, ":"),
        ):
            if (level := _map(scores.get(name))) is not None:
                lines.append(Line(f"{who} {title}", colour, (), (100 * level,), dash))
    return lines


def _apart(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [epoch for epoch, _ in points], [value for _, value in points]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: Any) -> dict[str, float]:
    """What of an event's field are finite numbers: a line of the file may be damaged."""
    return {
        str(name): float(number)
        for name, number in _mapping(value).items()
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    }


def _map(metrics: Any) -> float | None:
    return _numbers(metrics).get("map_trapezoid")


def _draw(axes: "Axes", lines: Sequence[Line], found: Facts, logarithmic: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    first, last = 1, max(epoch for line in lines for epoch in line.epochs)
    for line in lines:
        if line.epochs:
            mark = "o" if len(line.epochs) < 30 else ""
            width = 2.2 if line.name == "total" else 1.6
            axes.plot(line.epochs, line.values, color=line.colour, lw=width, marker=mark, ms=3.5)
        else:
            axes.axhline(line.values[0], color=line.colour, ls=line.dash, lw=1.2, alpha=0.75)
    best = found.weights.get("best.safetensors")
    if not logarithmic and best is not None:
        for line in lines:
            for epoch, value in zip(line.epochs, line.values, strict=False):
                if epoch == best.epoch:
                    axes.plot([epoch], [value], "o", ms=9, mfc="none", mec=line.colour, mew=1.4)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 50 else (1, 3)))
        axes.yaxis.set_minor_locator(NullLocator())
        weighted = "by their share in the sum" if found.settings is not None else "unweighted"
        title = f"Losses, {weighted}"
    else:
        ring = "; ringed: the best weights" if best is not None else ""
        title = f"mAP on the test split (trapezoid), %{ring}"
    axes.set_title(title, loc="left", fontsize=10, color=INK, pad=10)
    axes.set_xlabel("epoch", fontsize=9, color=FAINT)
    axes.set_xlim(first - 0.02 * (last - first) - 0.2, last + 0.02 * (last - first) + 0.2)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.tick_params(colors=FAINT, labelsize=9, length=0)
    axes.grid(axis="y", color=RULE, lw=0.8)
    axes.set_axisbelow(True)
    for name, side in axes.spines.items():
        side.set_visible(name == "bottom")
        side.set_color("#b5bcc2")
    _name_ends(axes, lines, logarithmic)


def _name_ends(axes: "Axes", lines: Sequence[Line], logarithmic: bool) -> None:
    """Names and last values at the right, moved apart where they would lie over each other."""
    low, high = axes.get_ylim()
    scale = math.log if logarithmic else float

    def height(value: float) -> float:
        return (scale(value) - scale(low)) / (scale(high) - scale(low))

    ends = sorted((height(line.values[-1]), line) for line in lines)
    places = spread([place for place, _ in ends], gap=0.062)
    for place, (_, line) in zip(places, ends, strict=True):
        number = f"{line.values[-1]:.3g}" if logarithmic else f"{line.values[-1]:.1f}"
        axes.annotate(
            f"{line.name} {number}",
            (1.02, place),
            xycoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=line.colour,
            weight="bold" if line.epochs else "normal",
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places moved as little as need be until neighbours are `gap` apart."""
    groups: list[
        list[float]
    ] = []  # [middle, members]: members of a group stand `gap` apart around its middle
    for place in places:
        groups.append([place, 1])
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], gap):
            middle, count = groups.pop()
            before = groups[-1]
            before[0] = (before[0] * before[1] + middle * count) / (before[1] + count)
            before[1] += count
    return [m + gap * (n - (count - 1) / 2) for m, count in groups for n in range(int(count))]


def _overlap(lower: Sequence[float], upper: Sequence[float], gap: float) -> bool:
    return upper[0] - lower[0] < gap * (lower[1] + upper[1]) / 2
