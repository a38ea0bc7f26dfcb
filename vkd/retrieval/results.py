"""Ranked lists as files: a table (CSV), and one image with green, red and grey edges for the verdicts."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vkd.io.formats import FORMATS
from vkd.io.grids import INK, Cell, Row, grid
from vkd.metrics.ranking import ranks_without_junk
from vkd.retrieval.gallery import Hit

COLUMNS = ("network", "rank", "item", "similarity", "identity", "camera", "name", "verdict", "first_frame")
EDGES = {"correct": "#1a7f37", "incorrect": "#c22f3d", "junk": "#8f98a5", "unknown": "#c9c6bd"}
ACROSS = 12  # cells in a row


def ranks(hits: Sequence[Hit]) -> list[int | None]:
    """Returns the rank of each hit as every protocol counts them: junk has none and takes none."""
    return ranks_without_junk([hit.verdict for hit in hits])


def table(lists: Mapping[str, Sequence[Hit]]) -> str:
    """Returns network → hits as CSV with the header `COLUMNS`; of a frame only the file's name.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(COLUMNS)
    for network, hits in lists.items():
        for rank, hit in zip(ranks(hits), hits, strict=True):
            first = hit.frames[0].replace("\\", "/").rpartition("/")[2] if hit.frames else ""
            numbers = (hit.item, f"{hit.similarity:.6f}", hit.identity, hit.camera)
            rows.writerow([_text(network), rank or "", *numbers, _text(hit.name), hit.verdict, _text(first)])
    return file.getvalue()


def _text(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def image(title: str, query: Sequence[NDArray[np.uint8]], lists: Mapping[str, Sequence[Hit]]) -> Image.Image:
    """Draws the query's views (H, W, 3), then each network's hits with rank, cosine and identity."""
    rows = [Row([Cell(view, edge=INK) for view in query[:ACROSS]])]
    rows += [
        Row([_cell(rank, hit) for rank, hit in zip(ranks(hits), hits, strict=True)], network)
        for network, hits in lists.items()
    ]
    return grid(rows, title=title, height=128, columns=ACROSS, cell_width=96)


def _cell(rank: int | None, hit: Hit) -> Cell:
    thumbnail = Image.new("RGB", (64, 128), "white")
    if hit.thumbnail.is_file():
        with Image.open(hit.thumbnail, formats=FORMATS) as file:
            thumbnail = file.convert("RGB")
    verdict = "" if hit.verdict == "unknown" else f" {hit.verdict}"
    identity = f"id {hit.identity}" if hit.identity >= 0 else hit.name
    camera = f" · cam {hit.camera}" if hit.camera >= 0 else ""
    caption = f"{rank or '-'}{verdict} {hit.similarity:.2f}\n{identity}{camera}"
    return Cell(thumbnail, caption, EDGES[hit.verdict])
