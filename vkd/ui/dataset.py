"""What a data set holds, shown before anything is trained on it: the reader's table and what to mind."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vkd.data import datasets
from vkd.data.datasets import Splits
from vkd.ui.html import escape

Row = dict[str, Any]
_SHORT = {"identities": "ids", "valid_queries": "valid", "cameras": "cams"}


def check(dataset: str, root: str, cameras: str = "auto") -> tuple[list[Row], list[str]]:
    """The reader's summary rows and what to mind. Raises ValueError or FileNotFoundError with the reader's
    sentence.
    """
    folder = Path(root).expanduser()
    changed = folder.stat().st_mtime_ns if folder.exists() else 0
    rows, notes = _checked(dataset, str(folder), "" if cameras == "auto" else cameras, changed)
    return [dict(row) for row in rows], list(notes)


@functools.lru_cache(maxsize=16)
def _checked(dataset: str, root: str, cameras: str, changed: int) -> tuple[list[Row], list[str]]:
    options: dict[str, Any] = {"cameras": cameras} if cameras else {}
    splits = datasets.read_dataset(dataset, root, **options)
    return summary(splits), notes(splits)


def summary(splits: Splits) -> list[Row]:
    """The reader's rows; where queries are gallery items too, the gallery's rows count them."""
    rows: list[Row] = [dict(row) for row in datasets.summary(splits)]
    if splits.queries_in_gallery:
        for split, protocol in (("gallery", "v2v"), ("gallery images", "i2i")):
            _, items = splits.query_gallery(protocol)
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
    """What a person should know before training on these splits; nothing here stops it."""
    found = []
    cameras: dict[int, set[int]] = {}
    for tracklet in splits.train:
        cameras.setdefault(tracklet.identity, set()).add(tracklet.camera)
    if not cameras:
        return ["There is nothing to train on: the train split is empty."]
    single = sum(len(seen) == 1 for seen in cameras.values())
    if datasets.UNKNOWN_CAMERA in set().union(*cameras.values()):
        found.append(
            "There are no camera labels: nothing is junk, so scores are easier than the benchmarks'."
        )
    elif single:
        found.append(
            f"{single} of {len(cameras)} training identities are seen by one camera only: "
            "their views show a student little that is new."
        )
    for protocol in ("v2v", "i2v"):
        queries, gallery = splits.query_gallery(protocol)
        valid = datasets.valid_queries(queries, gallery)
        if valid < len(queries):
            found.append(
                f"{len(queries) - valid} of {len(queries)} {protocol.upper()} queries have no match under "
                "another camera and do not count."
            )
    return found


def against(rows: Sequence[Row], identities_per_batch: int) -> str:
    """What is wrong between a data set and the size of a batch; '' if nothing is."""
    train = next((row["identities"] for row in rows if row["split"] == "train"), 0)
    if train < identities_per_batch:
        return (
            f"A batch takes {identities_per_batch} identities and there are {train} to train with: "
            "lower 'Identities per batch'."
        )
    return ""


def as_html(rows: Sequence[Row], minded: Sequence[str]) -> str:
    """The table, and the notes below it."""
    head = "".join(f'<th title="{escape(key)}">{escape(_SHORT.get(key, key))}</th>' for key in rows[0])
    lines = "".join(
        "<tr>"
        + "".join(f"<td>{'–' if value is None else escape(value)}</td>" for value in row.values())
        + "</tr>"
        for row in rows
    )
    told = "".join(f'<p class="vkd-note">{escape(note)}</p>' for note in minded)
    if any(str(row["split"]).endswith("*") for row in rows):
        told = f'<p class="vkd-detail">* with the queries, which are gallery items too</p>{told}'
    return f'<table class="vkd-table"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{told}'


def wrong_html(sentence: str) -> str:
    """Why a data set cannot be read."""
    return f'<p class="vkd-why">{escape(sentence)}</p>'
