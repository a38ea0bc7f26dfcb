"""Images of a model card: curves of training, and Grad-CAM of the run's last snapshot."""

import io
import json
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd.data.datasets import DATASETS, UNKNOWN
from vkd.evaluation.published import PUBLISHED
from vkd.hub.files import public_events
from vkd.hub.summary import CURVES, HEATMAPS, Summary, last_part
from vkd.io.errors import VKDError
from vkd.io.grids import Cell, Row, grid
from vkd.io.images import read_image
from vkd.training.objectives import LOSSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SNAPSHOTS = "probes"  # of vkd.explain.snapshots, which imports the networks
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a0528f", "#8a6d00", "#5b6ee1")  # apart for the colour-blind too
_MAX_ROWS, _MAX_JSON = 8, 2**20

Lines = dict[str, dict[int, float]]
"""Name of a curve → epoch → value."""


def write_figures(summary: Summary, folder: Path) -> list[str]:
    """Draws the images that the run allows into `folder`; returns their names."""
    images = {CURVES: curves(summary), HEATMAPS: heatmaps(summary)}
    for name, image in images.items():
        if image is not None:
            (folder / name).write_bytes(image)
    return [name for name, image in images.items() if image is not None]


# ---- curves


def curves(summary: Summary) -> bytes | None:
    """Draws losses and test mAP by epoch as a PNG; None for a run without such events."""
    scores = _scores(summary)
    levels = {name: level for name, level in _levels(summary).items() if name.split()[-1] in scores}
    weighted = "weighted" if summary.settings is not None else "unweighted"
    panels = [(f"Losses, {weighted}", _losses(summary), {}, "log")]
    panels.append(("Test mAP (trapezoid), %", scores, levels, "linear"))
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return None
    # matplotlib only here, so that the page opens without it; its objects alone, because pyplot keeps state
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(panels), 3.9), dpi=150, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _plot(axes, *panel)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file.getvalue()


def _losses(summary: Summary) -> Lines:
    """Returns each loss times its weight; what counts for nothing is left out."""
    weights = summary.settings.weights if summary.settings is not None else {}
    return _lines(
        (epoch, {_title(name): weights.get(name, 1.0) * value for name, value in losses.items() if value > 0})
        for epoch, losses in _rows(summary, "epoch", "losses")
    )


def _title(loss: str) -> str:
    return LOSSES[loss].title if loss in LOSSES else loss


def _scores(summary: Summary) -> Lines:
    return _lines(
        (epoch, {name.upper(): 100 * _map(metrics) for name, metrics in scores.items() if _map(metrics)})
        for epoch, scores in _rows(summary, "scores", "scores")
    )


def _levels(summary: Summary) -> dict[str, float]:
    """Returns the mAP to compare with: the teacher's and the published one of each protocol."""
    config = summary.config
    teacher = summary.teacher.config.scores if summary.teacher else {}
    published = PUBLISHED.get((config.dataset, config.backbone, config.stage), {})
    levels = {f"teacher {name.upper()}": 100 * _map(metrics) for name, metrics in teacher.items()}
    levels |= {f"published {name.upper()}": 100 * metrics["map"] for name, metrics in published.items()}
    return {name: level for name, level in levels.items() if level}


def _rows(summary: Summary, kind: str, field: str) -> list[tuple[int, dict[str, Any]]]:
    """Returns epoch and a field of its event, numbers alone: a line of the file may be damaged."""
    events = {epoch: public_events((event,))[0] for epoch, event in summary.by_epoch(kind).items()}
    return [(epoch, event[field]) for epoch, event in events.items() if isinstance(event.get(field), dict)]


def _lines(rows: Any) -> Lines:
    lines: Lines = {}
    for epoch, values in rows:
        for name, value in values.items():
            if isinstance(value, int | float) and value > 0:
                lines.setdefault(name, {})[epoch] = value
    return lines


def _map(metrics: Any) -> float:
    value = metrics.get("map_trapezoid") if isinstance(metrics, Mapping) else None
    return float(value) if isinstance(value, int | float) and 0 < value <= 1 else 0.0


def _plot(axes: "Axes", title: str, lines: Lines, levels: Mapping[str, float], scale: str) -> None:
    colours = dict(zip(lines, cycle(COLOURS), strict=False))
    for name, points in lines.items():
        marker = "o" if len(points) < 30 else ""
        axes.plot([*points], [*points.values()], color=colours[name], marker=marker, ms=3.5, label=name)
    for name, level in levels.items():
        style = "--" if name.startswith("teacher") else ":"
        axes.axhline(level, color=colours[name.split()[-1]], ls=style, lw=1.2, alpha=0.75, label=name)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_yscale(scale)
    axes.set_xlabel("epoch", fontsize=9)
    axes.locator_params(axis="x", integer=True)
    axes.grid(axis="y", color="#e3e6e9", lw=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


# ---- heatmaps


def heatmaps(summary: Summary) -> bytes | None:
    """Draws each probe image beside its Grad-CAM by teacher and model as a PNG.

    None for photographs, as the people in them have not asked to be shown, and for a run without snapshots.
    """
    if not DATASETS.get(summary.config.dataset, UNKNOWN).synthetic:
        return None
    folder = summary.folder / SNAPSHOTS
    probes = [(row.get("picture"), None) for row in _table(folder / "probes.json", "probes")]
    own = _latest(folder, summary.config.epoch)
    columns = [("image", folder, probes), ("teacher", folder / "teacher", _cams(folder / "teacher"))]
    if own is None or not probes:
        return None
    columns.append((summary.config.stage, own, _cams(own)))
    rows = []
    for number in range(len(probes)):
        images = [(title, _image(where, cams[number]), cams[number][1]) for title, where, cams in columns
                  if number < len(cams)]  # fmt: skip
        cells = [Cell(image, _caption(title, cosine)) for title, image, cosine in images if image is not None]
        if len(cells) > 1:
            rows.append(Row(cells))
    if not rows:
        return None
    title = "Grad-CAM of the similarity to the same person in another camera"
    file = io.BytesIO()
    grid(rows, title=title, height=236, cell_width=130).save(file, "PNG", optimize=True)
    return file.getvalue()


def _caption(title: str, cosine: Any) -> str:
    return f"{title}, cosine {cosine:.2f}" if isinstance(cosine, int | float) else title


def _latest(folder: Path, epoch: int) -> Path | None:
    """Returns the snapshot of the weights that load by default, else the last one."""
    snapshots = sorted(
        (path.parent for path in folder.glob("*/look.json") if path.parent.name.isdecimal()),
        key=lambda path: int(path.name),
    )
    same = [path for path in snapshots if int(path.name) == epoch]
    return (same or snapshots or [None])[-1]


def _cams(folder: Path) -> list[tuple[Any, Any]]:
    return [(row.get("heat"), row.get("similarity")) for row in _table(folder / "look.json", "looks")]


def _table(path: Path, key: str) -> list[dict[str, Any]]:
    """Reads a list of objects; [] where it is missing or damaged."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))[key] if path.stat().st_size < _MAX_JSON else []
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return []
    return [row for row in rows if isinstance(row, dict)][:_MAX_ROWS] if isinstance(rows, list) else []


def _image(folder: Path, cam: tuple[Any, Any]) -> Any:
    """Reads an image of a plain name as (H, W, 3); None if it cannot be read."""
    name = cam[0]
    if not isinstance(name, str) or not name or last_part(name) != name:
        return None
    try:
        return read_image(folder / name).permute(1, 2, 0).numpy()
    except VKDError:
        return None
