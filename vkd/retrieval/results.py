"""Ranked lists to keep: a table (CSV), and one picture: green is right, red is wrong, grey is junk."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vkd.io.grids import INK, Cell, Row, grid
from vkd.retrieval.gallery import Hit

COLUMNS = ("network", "rank", "item", "similarity", "identity", "camera", "name", "verdict", "first_frame")
EDGES = {"correct": "#1a7f37", "incorrect": "#c22f3d", "junk": "#8f98a5", "unknown": "#c9c6bd"}
HEIGHT, WIDTH = 128, 96  # pixels of an image, and least width of a column
ACROSS = 12  # images in a row


def ranks(hits: Sequence[Hit]) -> list[int | None]:
    """Ranks as every protocol counts them: junk has none and takes none."""
    counted = 0
    found: list[int | None] = []
    for hit in hits:
        counted += hit.verdict != "junk"
        found.append(None if hit.verdict == "junk" else counted)
    return found


def table(lists: Mapping[str, Sequence[Hit]]) -> str:
    """Network → hits, as CSV with the header `COLUMNS`. Of a frame only the file's name is told.

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


def picture(
    headline: str, query: Sequence[NDArray[np.uint8]], lists: Mapping[str, Sequence[Hit]]
) -> Image.Image:
    """Draws the query's views (H, W, 3), then each network's hits with rank, cosine and identity."""
    rows = [Row([Cell(view, edge=INK) for view in query[:ACROSS]])]
    rows += [
        Row([_cell(hit, rank) for hit, rank in zip(hits, ranks(hits), strict=True)], name)
        for name, hits in lists.items()
    ]
    return grid(rows, title=headline, height=HEIGHT, columns=ACROSS, cell_width=WIDTH)


def _cell(hit: Hit, rank: int | None) -> Cell:
    image = Image.new("RGB", (HEIGHT // 2, HEIGHT), "white")
    if hit.thumbnail.is_file():
        with Image.open(hit.thumbnail) as thumbnail:
            image = thumbnail.convert("RGB")
    verdict = "" if hit.verdict == "unknown" else f" {hit.verdict}"
    identity = f"id {hit.identity}" if hit.identity >= 0 else hit.name
    camera = f" · cam {hit.camera}" if hit.camera >= 0 else ""
    caption = f"{rank or '-'}{verdict} {hit.similarity:.2f}\n{identity}{camera}"
    return Cell(image, caption, EDGES[hit.verdict])
