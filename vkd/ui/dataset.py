"""Summary of a dataset before it is used: rows of its splits, and notes."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vkd.data import datasets
from vkd.data.datasets import Splits
from vkd.ui import limits
from vkd.ui.html import render
from vkd.ui.state import AppPaths

Row = dict[str, Any]


def summarise(dataset: str, root: str, cameras: str = "auto") -> tuple[list[Row], list[str]]:
    """Reads a dataset; returns rows of its splits and notes. Raises VKDError with the reader's message."""
    folder = Path(root).expanduser()
    changed = folder.stat().st_mtime_ns if folder.exists() else 0
    rows, notes = _summarised(dataset, str(folder), "" if cameras == "auto" else cameras, changed)
    return [dict(row) for row in rows], list(notes)


@functools.lru_cache(maxsize=16)
def _summarised(dataset: str, root: str, cameras: str, changed: int) -> tuple[list[Row], list[str]]:
    options: dict[str, Any] = {"cameras": cameras} if cameras else {}
    splits = datasets.read_dataset(dataset, root, **options)
    return split_rows(splits), notes(splits)


def split_rows(splits: Splits) -> list[Row]:
    """Returns a row for each split; where queries are gallery items too, the gallery's rows count them."""
    rows: list[Row] = [dict(row) for row in datasets.summary(splits)]
    if splits.queries_in_gallery:
        for split, items in (("gallery", splits.gallery), ("gallery images", splits.gallery_images)):
            row = next(row for row in rows if row["split"] == split)
            row |= {
                "split": f"{split}*",
                "identities": len({item.identity for item in items}),
                "tracklets": len(items),
                "images": sum(len(item.frames) for item in items),
                "cameras": len({item.camera for item in items} - {datasets.UNKNOWN_CAMERA}) or None,
            }
    return rows


def notes(splits: Splits) -> list[str]:
    """Returns notes on splits to read before training; none of them stops a run."""
    cameras: dict[int, set[int]] = {}
    for tracklet in splits.train:
        cameras.setdefault(tracklet.identity, set()).add(tracklet.camera)
    if not cameras:
        return [*splits.notes, "The train split is empty: nothing to train on."]
    messages = list(splits.notes)
    single = sum(len(seen) == 1 for seen in cameras.values())
    if datasets.UNKNOWN_CAMERA in set().union(*cameras.values()):
        messages.append("No camera labels: nothing is junk, so scores are higher than on the benchmarks.")
    elif single:
        messages.append(
            f"{single} of {len(cameras)} training identities have one camera only: little view diversity for "
            "a student."
        )
    for protocol in ("v2v", "i2v"):
        queries, gallery = splits.query_gallery(protocol)
        invalid = len(queries) - datasets.valid_queries(queries, gallery)
        if invalid:
            messages.append(
                f"{invalid} of {len(queries)} {protocol.upper()} queries have no match under another camera "
                "and are ignored."
            )
    return messages


def batch_error(rows: Sequence[Row], identities_per_batch: int) -> str:
    """Returns why a batch of that many identities cannot be drawn from the train split; '' if it can."""
    train = next((row["identities"] for row in rows if row["split"] == "train"), 0)
    if train >= identities_per_batch:
        return ""
    return (
        f"A batch has {identities_per_batch} identities, the train split {train}: "
        "lower 'Identities per batch'."
    )


def show(
    paths: AppPaths, name: str, root: str, cameras: str, *, training: bool
) -> tuple[Markup, dict[str, Any]]:
    """Returns a dataset's summary as HTML and as data: `rows`, `notes`, `wrong` with the reader's message.

    The HTML has the notes, which are about training, where the page is about `training`.
    """
    try:
        limits.require_readable(paths, root)
        rows, notes = summarise(name, root, cameras)
    except (ValueError, OSError) as error:
        return why_html(str(error)), {"rows": [], "notes": [], "wrong": str(error)}
    return table_html(rows, notes if training else []), {"rows": rows, "notes": notes, "wrong": ""}


def table_html(rows: Sequence[Row], notes: Sequence[str]) -> Markup:
    """Renders the table and its notes."""
    return render("train/dataset.html.j2", rows=rows, notes=notes, error="")


def why_html(message: str, style: str = "vkd-why") -> Markup:
    """Renders why there is no dataset; `style` is a class of the style sheets."""
    return render("train/dataset.html.j2", error=message, style=style)
