"""Ranked lists to keep: a table (CSV), and one picture: green is right, red is wrong, grey is junk."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vkd.retrieval.gallery import Hit

COLUMNS = ("network", "rank", "item", "similarity", "identity", "camera", "name", "verdict", "first_frame")
EDGES = {"correct": "#1a7f37", "incorrect": "#c22f3d", "junk": "#8f98a5", "unknown": "#c9c6bd"}
HEIGHT, WIDTH, GAP, LINE = 128, 96, 10, 16  # pixels of a cell's picture, between cells, of a line of text
ACROSS = 12  # cells in a row


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
    """One sheet: the query's views (H, W, 3), then each network's hits with rank, cosine and who it is."""
    rows = {name: max(1, -(-len(hits) // ACROSS)) for name, hits in lists.items()}
    most = max([len(query[:ACROSS]), 4, *(min(ACROSS, len(hits)) for hits in lists.values())])
    cell = HEIGHT + 2 * LINE + GAP
    size = (
        GAP + most * (WIDTH + GAP),
        2 * GAP + 2 * LINE + cell + sum(2 * LINE + rows[name] * cell for name in lists),
    )
    page = Image.new("RGB", size, "white")
    pen, large, small = ImageDraw.Draw(page), ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    pen.text((GAP, GAP), headline, fill="black", font=large)
    top = GAP + 2 * LINE
    for place, view in enumerate(query[:ACROSS]):
        _paste(page, Image.fromarray(view), GAP + place * (WIDTH + GAP), top, "#1b1f24")
    top += HEIGHT + GAP
    for name, hits in lists.items():
        pen.text((GAP, top + 6), name, fill="black", font=large)
        top += 2 * LINE
        for place, (rank, hit) in enumerate(zip(ranks(hits), hits, strict=True)):
            left = GAP + place % ACROSS * (WIDTH + GAP)
            at = top + place // ACROSS * cell
            if hit.thumbnail.is_file():
                with Image.open(hit.thumbnail) as thumbnail:
                    _paste(page, thumbnail.convert("RGB"), left, at, EDGES[hit.verdict])
            verdict = "" if hit.verdict == "unknown" else f" {hit.verdict}"
            first = f"{rank or '-'}{verdict} {hit.similarity:.2f}"
            pen.text((left, at + HEIGHT + 1), first, fill="black", font=small)
            who = f"id {hit.identity}" if hit.identity >= 0 else hit.name[:14]
            camera = f" · cam {hit.camera}" if hit.camera >= 0 else ""
            pen.text((left, at + HEIGHT + LINE - 1), who + camera, fill="#595f69", font=small)
        top += rows[name] * cell
    return page


def _paste(page: Image.Image, picture: Image.Image, left: int, top: int, edge: str) -> None:
    """Scaled into its cell with an edge of 4 pixels."""
    picture.thumbnail((WIDTH - 8, HEIGHT - 8), Image.Resampling.BICUBIC)
    if picture.height < HEIGHT - 8 and picture.width < WIDTH - 8:  # thumbnail() never enlarges
        scale = min((WIDTH - 8) / picture.width, (HEIGHT - 8) / picture.height)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    frame = Image.new("RGB", (picture.width + 8, picture.height + 8), edge)
    frame.paste(picture, (4, 4))
    page.paste(frame, (left + (WIDTH - frame.width) // 2, top + (HEIGHT - frame.height) // 2))
