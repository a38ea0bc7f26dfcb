"""Heatmaps of teacher and student for a whole split, as files, and how much of them falls on the subject."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vkd.data.datasets import UNKNOWN_IDENTITY, Tracklet, mask_path
from vkd.data.sampling import FRAMES
from vkd.data.transforms import prepare
from vkd.explain.gradcam import METHODS, Heat, heatmaps
from vkd.explain.overlay import COLOURS, on_subject, overlay
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import staging_dir
from vkd.io.grids import Cell, Row, grid
from vkd.io.images import read_image
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import EmbedConfig, embed

__all__ = [
    "COLOURS",
    "METHODS",
    "TARGETS",
    "Heat",
    "explain_split",
    "heatmaps",
    "on_subject",
    "overlay",
]

TARGETS = {
    "logit": "each network's largest logit, as in the authors' script",
    "similarity": "the cosine to the mean embedding of the other tracklets of the same identity",
}

Progress = Callable[[Iterable[Any]], Iterable[Any]]


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
    progress: Progress = lambda items: items,
) -> dict[str, Any]:
    """Write a sheet for every tracklet: its pictures, and below them each network's heatmaps over them.

    Files in `folder`: `sheets/<identity>-c<camera>-<number>.jpg`, `heatmaps.csv` (a row for each tracklet and
    network) and `heatmaps.json` (what is returned: the settings and each network's means; for two networks
    also the second's share minus the first's, tracklet by tracklet). They appear when all are done.

    Args:
        networks: name → checkpoint, in the order of the rows; teacher first, as a rule.
        target: a key of TARGETS. With "similarity" a tracklet that is alone with its identity is left out.
        layer: as `heatmaps`; it must exist in every network.
        masks: root of a data set with subject masks beside its pictures (the street). Then the share of each
            heatmap on the subject is measured, mean over views. `mask_area`, the subject's share of the
            picture, is what a heatmap without any preference would reach.
        limit: only this many tracklets, evenly spread over the split.

    Raises:
        ValueError: nothing to explain, unknown target, method, frame rule or layer.
        FileNotFoundError: a picture or a mask is missing.
    """
    _check(networks, tracklets, views, frames, target, limit)
    asked = _Asked(method, layer, views, frames)
    references: dict[str, list[NDArray[np.float32] | None]] = {}
    if target == "similarity":
        references = {
            name: _references(net, tracklets, views, frames, progress) for name, net in networks.items()
        }
    chosen = [number for number in _spread(len(tracklets), limit) if _explainable(references, number)]
    if not chosen:
        raise VKDError("No identity has two tracklets here, so there is no similarity to explain.")
    with _whole(Path(folder)) as work:
        rows: list[dict[str, Any]] = []
        for number in progress(chosen):
            known = {network: column[number] for network, column in references.items()}
            name = f"{_label(tracklets[number])}-{number:05d}.jpg"
            explained = _explained(name, tracklets[number], networks, known, masks, asked)
            grid(explained.strips).save(work / "sheets" / name, quality=90)
            rows += explained.rows
        summary = {
            **asked._asdict(),
            "target": target,
            "tracklets": len(chosen),
            "left_out": len(tracklets) - len(chosen) if not limit else 0,
            **_means(rows, list(networks)),
        }
        _write(work, rows, summary)
    return summary


class _Asked(NamedTuple):
    """How every tracklet is explained."""

    method: str
    layer: str | int | None
    views: int
    frames: str


class _Explained(NamedTuple):
    """One tracklet's sheet, strip by strip, and its rows of the table, one for each network."""

    strips: list[Row]
    rows: list[dict[str, Any]]


def _explained(
    name: str,
    tracklet: Tracklet,
    networks: Mapping[str, Checkpoint],
    references: Mapping[str, NDArray[np.float32] | None],
    masks: str | Path | None,
    asked: _Asked,
) -> _Explained:
    count = asked.views if len(tracklet.frames) > 1 else 1
    places = FRAMES[asked.frames](len(tracklet.frames), count, torch.Generator())
    paths = [tracklet.frames[place] for place in places]
    pictures = [read_image(path) for path in paths]
    subjects = None if masks is None else [_mask(mask_path(masks, path)) for path in paths]
    shown = [picture.permute(1, 2, 0).numpy() for picture in pictures]
    title = f"{_label(tracklet)}, {len(set(paths))} of {len(tracklet.frames)} frames"
    strips = [Row([Cell(image) for image in shown], title)]
    rows = []
    for network, checkpoint in networks.items():
        heat = _heat(checkpoint, pictures, references.get(network), asked.method, asked.layer)
        rows.append(_row(name, tracklet, network, checkpoint, heat, subjects))
        over = [overlay(*pair) for pair in zip(shown, heat.maps[0], strict=True)]
        strips.append(Row([Cell(image) for image in over], _caption(rows[-1])))
    return _Explained(strips, rows)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A place to write; what is in it appears in `folder` once all of it is there, and not at all if it
    fails."""
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


def _check(
    networks: Mapping[str, Checkpoint],
    tracklets: Sequence[Tracklet],
    views: int,
    frames: str,
    target: str,
    limit: int | None,
) -> None:
    if not networks or not tracklets:
        raise VKDError("There is nothing to explain: give at least one network and one tracklet.")
    if target not in TARGETS:
        raise VKDError(f"There is no target '{target}'; choose one of {', '.join(TARGETS)}.")
    if frames not in FRAMES:
        raise VKDError(f"There is no frame rule '{frames}'; choose one of {', '.join(FRAMES)}.")
    if views < 1 or (limit is not None and limit < 1):
        raise VKDError(f"views and limit must be at least 1, not {views} and {limit}.")


def _spread(count: int, limit: int | None) -> list[int]:
    if limit is None or limit >= count:
        return list(range(count))
    return [place * count // limit for place in range(limit)]


def _explainable(references: Mapping[str, Sequence[NDArray | None]], number: int) -> bool:
    return all(column[number] is not None for column in references.values())


def _references(
    checkpoint: Checkpoint, tracklets: Sequence[Tracklet], views: int, frames: str, progress: Progress
) -> list[NDArray[np.float32] | None]:
    """For each tracklet the mean embedding (D,) of the others of its identity; None where there is none."""
    config = EmbedConfig.of(checkpoint.config, views=views, frames=frames)
    features = embed(checkpoint.net, tracklets, config)
    members: dict[int, list[int]] = {}
    for number, tracklet in enumerate(tracklets):
        members.setdefault(tracklet.identity, []).append(number)
    out: list[NDArray[np.float32] | None] = []
    for number, tracklet in enumerate(tracklets):
        known = tracklet.identity != UNKNOWN_IDENTITY
        others = [other for other in members[tracklet.identity] if known and other != number]
        out.append(features[others].mean(axis=0) if others else None)
    return out


def _heat(
    checkpoint: Checkpoint,
    pictures: Sequence[Tensor],
    reference: NDArray | None,
    method: str,
    layer: str | int | None,
) -> Heat:
    config = checkpoint.config
    clip = prepare(pictures, config.image_size, config.mean, config.std)[None]
    return heatmaps(checkpoint.net, clip, target=reference, method=method, layer=layer)


def _mask(path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        raise MissingFileError(
            f"The subject mask {path} is missing; leave the masks out to explain without them."
        )
    return read_image(path)[0].numpy()


def _row(
    name: str,
    tracklet: Tracklet,
    network: str,
    checkpoint: Checkpoint,
    heat: Heat,
    subjects: Sequence[NDArray[np.uint8]] | None,
) -> dict[str, Any]:
    index, labels = int(heat.classes[0]), checkpoint.config.labels
    row = {
        "sheet": name,
        "identity": tracklet.identity,
        "camera": tracklet.camera,
        "network": network,
        "explained": "similarity" if index < 0 else f"logit of identity {labels[index] if labels else index}",
        "value": float(heat.values[0]),
    }
    if subjects is not None:
        shares = [on_subject(view, mask) for view, mask in zip(heat.maps[0], subjects, strict=True)]
        known = [share for share in shares if not np.isnan(share)]
        row["on_subject"] = float(np.mean(known)) if known else float("nan")
        row["mask_area"] = float(np.mean([(mask > 0).mean() for mask in subjects]))
    return row


def _caption(row: Mapping[str, Any]) -> str:
    share = row.get("on_subject", float("nan"))
    subject = "" if np.isnan(share) else f", {share:.0%} on the subject"
    return f"{row['network']}: {row['explained']} = {row['value']:.2f}{subject}"


def _label(tracklet: Tracklet) -> str:
    who = f"{tracklet.identity:04d}" if tracklet.identity >= 0 else "unknown"
    return f"{who}-c{tracklet.camera}" if tracklet.camera >= 0 else who


def _means(rows: Sequence[Mapping[str, Any]], networks: Sequence[str]) -> dict[str, Any]:
    """Each network's means over tracklets (maps without heat left out), and the second minus the first."""

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
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _write(folder: Path, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    with (folder / "heatmaps.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    (folder / "heatmaps.json").write_text(text, encoding="utf-8")
