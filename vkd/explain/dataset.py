"""Heatmaps of one or several networks for a whole split, as files, and their share on the subject."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vkd.data.datasets import mask_path
from vkd.data.sampling import FRAMES
from vkd.data.tracklets import UNKNOWN_IDENTITY, Tracklet
from vkd.explain.gradcam import Heat, heatmaps
from vkd.explain.methods import TARGETS
from vkd.explain.overlay import on_subject, overlay
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import evenly_spaced, staging_dir
from vkd.io.grids import Cell, Row, grid
from vkd.io.images import read_image
from vkd.io.progress import Progress, silent, track
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import EmbedConfig, embed, select_frames
from vkd.models.network import Features

TableRow = dict[str, Any]


class Method(NamedTuple):
    """Options of the explanation of a tracklet; see `explain_split`."""

    method: str
    layer: str | int | None
    views: int
    frames: str


def explain_split(
    networks: Mapping[str, Checkpoint],
    tracklets: Sequence[Tracklet],
    folder: str | Path,
    *,
    views: int = 8,
    frames: str = "chunk",
    target: str = "logit",
    method: str = "gradcam",
    layer: str | int | None = None,
    masks: str | Path | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes a sheet for every tracklet: its images, and below them each network's heatmaps over them.

    Files in `folder`: `sheets/<identity>-c<camera>-<number>.jpg`, `heatmaps.csv` (a row for each tracklet and
    network) and `heatmaps.json` (the returned summary: the settings and each network's means; for two
    networks also the second's share minus the first's, tracklet by tracklet). They appear when all are done.

    Args:
        networks: name → checkpoint, in the order of the rows; teacher first, as a rule.
        target: a key of TARGETS. With "similarity" a tracklet that is alone with its identity is left out.
        layer: as `heatmaps`; it must exist in every network.
        masks: root of a dataset with subject masks beside its images (the street). Then the share of each
            heatmap on the subject is measured, mean over views. `mask_area`, the subject's share of the
            image, is what a heatmap without any preference would reach.
        limit: only this many tracklets, evenly spread over the split.

    Raises:
        VKDError: nothing to explain, unknown target, method, frame rule or layer.
        MissingFileError: an image or a mask is missing.
    """
    if not networks or not tracklets:
        raise VKDError("There is nothing to explain: give at least one model and one tracklet.")
    _check_choices(target, frames)
    if views < 1 or (limit is not None and limit < 1):
        raise VKDError(f"views and limit must be at least 1, not {views} and {limit}.")
    how = Method(method, layer, views, frames)
    references: dict[str, list[NDArray[np.float32] | None]] = {}
    if target == "similarity":
        references = {name: _references(network, tracklets, how) for name, network in networks.items()}
    numbers = _explainable(len(tracklets), limit, references)
    with _complete(Path(folder)) as work:
        rows: list[TableRow] = []
        for number in track(numbers, progress, "heatmaps"):
            goals = {name: column[number] for name, column in references.items()}
            sheet = f"{_label(tracklets[number])}-{number:05d}.jpg"
            strips, added = _explain(sheet, tracklets[number], networks, goals, masks, how)
            grid(strips).save(work / "sheets" / sheet, quality=90)
            rows += added
        summary = {
            **how._asdict(),
            "target": target,
            "tracklets": len(numbers),
            "left_out": len(tracklets) - len(numbers) if not limit else 0,
            **_means(rows, list(networks)),
        }
        _write_tables(work, rows, summary)
    return summary


def _check_choices(target: str, frames: str) -> None:
    for kind, name, table in (("target", target, TARGETS), ("frame rule", frames, FRAMES)):
        if name not in table:
            raise VKDError(f"There is no {kind} '{name}'; choose one of {', '.join(table)}.")


def _explainable(
    count: int, limit: int | None, references: Mapping[str, Sequence[NDArray[np.float32] | None]]
) -> list[int]:
    """Chooses the tracklets by number: evenly spread, each with a reference of every network."""
    numbers = [
        number
        for number in evenly_spaced(range(count), limit or count)
        if all(column[number] is not None for column in references.values())
    ]
    if not numbers:
        raise VKDError("No identity has two tracklets here, so there is no similarity to explain.")
    return numbers


def _write_tables(folder: Path, rows: Sequence[TableRow], summary: Mapping[str, Any]) -> None:
    with (folder / "heatmaps.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    (folder / "heatmaps.json").write_text(text, encoding="utf-8")


@contextmanager
def _complete(folder: Path) -> Iterator[Path]:
    """Yields a staging folder, whose files move into `folder` at the end; if the body raises, none does."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with staging_dir(folder / "sheets") as work:
            (work / "sheets").mkdir()
            yield work
            (folder / "sheets").mkdir(exist_ok=True)
            for path in sorted(work.rglob("*.*"), reverse=True):  # the table of the sheets comes last
                path.replace(folder / path.relative_to(work))
    finally:
        if new and not any(folder.iterdir()):
            folder.rmdir()


def _references(
    network: Checkpoint, tracklets: Sequence[Tracklet], how: Method
) -> list[NDArray[np.float32] | None]:
    """Returns for each tracklet the mean embedding (D,) of the others of its identity, None without any."""
    config = EmbedConfig.of(network.config, views=how.views, frames=how.frames)
    features: Features = embed(network.net, tracklets, config)
    members: dict[int, list[int]] = {}
    for number, tracklet in enumerate(tracklets):
        if tracklet.identity != UNKNOWN_IDENTITY:
            members.setdefault(tracklet.identity, []).append(number)
    out: list[NDArray[np.float32] | None] = []
    for number, tracklet in enumerate(tracklets):
        others = [other for other in members.get(tracklet.identity, []) if other != number]
        out.append(features[others].mean(axis=0) if others else None)
    return out


def _explain(
    sheet: str,
    tracklet: Tracklet,
    networks: Mapping[str, Checkpoint],
    references: Mapping[str, NDArray[np.float32] | None],
    masks: str | Path | None,
    how: Method,
) -> tuple[list[Row], list[TableRow]]:
    """Returns the strips of a tracklet's sheet, and its rows of the table, one for each network."""
    paths = select_frames(tracklet.frames, how.views, how.frames)
    images = [read_image(path) for path in paths]
    subjects = None if masks is None else [_read_mask(mask_path(masks, path)) for path in paths]
    arrays = [image.permute(1, 2, 0).numpy() for image in images]
    title = f"{_label(tracklet)}, {len(set(paths))} of {len(tracklet.frames)} frames"
    strips, rows = [Row([Cell(array) for array in arrays], title)], []
    for name, network in networks.items():
        clip = network.prepare(images)[None]
        heat = heatmaps(network.net, clip, target=references.get(name), method=how.method, layer=how.layer)
        row = {
            "sheet": sheet,
            "identity": tracklet.identity,
            "camera": tracklet.camera,
            "network": name,
            **_numbers(network, heat, subjects),
        }
        over = [Cell(overlay(array, view)) for array, view in zip(arrays, heat.maps[0], strict=True)]
        strips.append(Row(over, _caption(row)))
        rows.append(row)
    return strips, rows


def _read_mask(path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        raise MissingFileError(f"The subject mask {path} is missing; leave the masks out to go without them.")
    return read_image(path)[0].numpy()


def _numbers(network: Checkpoint, heat: Heat, subjects: Sequence[NDArray[np.uint8]] | None) -> TableRow:
    """Returns what the heatmaps of a clip explain, its value and, with masks, their share on the subject."""
    index, labels = int(heat.classes[0]), network.config.labels
    what = "similarity" if index < 0 else f"logit of identity {labels[index] if labels else index}"
    row: TableRow = {"explained": what, "value": float(heat.values[0])}
    if subjects is not None:
        shares = np.array([on_subject(view, mask) for view, mask in zip(heat.maps[0], subjects, strict=True)])
        share = _mean(shares)
        row["on_subject"] = float("nan") if share is None else share
        row["mask_area"] = float(np.mean([(mask > 0).mean() for mask in subjects]))
    return row


def _caption(row: TableRow) -> str:
    share = row.get("on_subject", float("nan"))
    subject = "" if np.isnan(share) else f", {share:.0%} on the subject"
    return f"{row['network']}: {row['explained']} = {row['value']:.2f}{subject}"


def _label(tracklet: Tracklet) -> str:
    who = f"{tracklet.identity:04d}" if tracklet.identity >= 0 else "unknown"
    return f"{who}-c{tracklet.camera}" if tracklet.camera >= 0 else who


def _means(rows: Sequence[TableRow], networks: Sequence[str]) -> dict[str, Any]:
    """Returns each network's means over tracklets (without maps that are 0), and second minus first."""

    def column(network: str, key: str) -> NDArray[np.float64]:
        return np.array([row.get(key, np.nan) for row in rows if row["network"] == network])

    measured = "on_subject" in rows[0]
    keys = ("value", "on_subject", "mask_area") if measured else ("value",)
    out: dict[str, Any] = {
        "networks": {name: {key: _mean(column(name, key)) for key in keys} for name in networks}
    }
    if measured and len(networks) == 2:
        first, second = (column(name, "on_subject") for name in networks)
        out["on_subject_difference"] = _mean(second - first)
    return out


def _mean(values: NDArray[np.float64]) -> float | None:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else None
