"""Image grids with captions: result sheets, heatmap sheets and contact sheets as one image."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from vkd.io.images import ImageOrArray, resize_to_height

INK, FAINT = "#1b1f24", "#595f69"
GAP, EDGE = 8, 4  # pixels: between cells, and the width of a coloured edge
TITLE, CAPTION = 15, 12  # font sizes
LEADING = 4  # pixels between two lines of text


class Cell(NamedTuple):
    """An image of a grid; `caption` stands below it ('\\n' breaks lines), `edge` is its border's colour."""

    image: ImageOrArray
    caption: str = ""
    edge: str = ""


class Row(NamedTuple):
    """A row of a grid with a title above it."""

    cells: Sequence[Cell]
    title: str = ""


def grid(
    rows: Sequence[Row],
    *,
    title: str = "",
    height: int = 192,
    columns: int | None = None,
    cell_width: int = 0,
    min_width: int = 480,
) -> Image.Image:
    """Draws rows of images of one height in aligned columns; titles and captions wrap, nothing is cut.

    Args:
        rows: one below the other; a row without cells is a line of text.
        title: heading of the whole grid.
        height: of every image in pixels, its coloured edge included.
        columns: cells per line, after which a row goes on in the next line; None for no limit.
        cell_width: least width of a column in pixels, for captions that are wider than their images.
        min_width: least width of the result in pixels.
    """
    lines: list[tuple[str, list[tuple[Image.Image, str]]]] = []
    for row in rows:
        cells = [(_framed(cell, height), cell.caption) for cell in row.cells]
        step = columns or max(1, len(cells))
        for start in range(0, max(1, len(cells)), step):
            lines.append(("" if start else row.title, cells[start : start + step]))
    widths: list[int] = []
    for _, cells in lines:
        widths += [cell_width] * (len(cells) - len(widths))
        for column, (image, _) in enumerate(cells):
            widths[column] = max(widths[column], image.width)
    page = _Page(max(min_width, GAP + sum(width + GAP for width in widths)))
    page.heading(title)
    for heading, cells in lines:
        page.heading(heading)
        if cells:
            page.cells(cells, widths, height)
    return page.draw()


def wrap(text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Breaks a text into lines of at most `width` pixels, at blanks or else within a word."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            if line and font.getlength(f"{line} {word}") <= width:
                line = f"{line} {word}"
                continue
            lines += [line] if line else []
            line = ""
            for letter in word:
                if line and font.getlength(line + letter) > width:
                    lines.append(line)
                    line = ""
                line += letter
        lines.append(line)
    return lines


def _framed(cell: Cell, height: int) -> Image.Image:
    if not cell.edge:
        return resize_to_height(cell.image, height).convert("RGB")
    inner = resize_to_height(cell.image, height - 2 * EDGE)
    framed = Image.new("RGB", (inner.width + 2 * EDGE, height), cell.edge)
    framed.paste(inner, (EDGE, EDGE))
    return framed


class _Page:
    """Collects images and lines of text from top to bottom, since the page's height follows from them."""

    def __init__(self, width: int) -> None:
        self.width, self.top = width, GAP
        self.images: list[tuple[Image.Image, tuple[int, int]]] = []
        self.texts: list[tuple[str, tuple[int, int], int, str]] = []

    def text(self, text: str, left: int, top: int, width: int, size: int, colour: str) -> int:
        """Places wrapped text; returns the y coordinate below it."""
        for line in wrap(text, width, ImageFont.load_default(size=size)):
            self.texts.append((line, (left, top), size, colour))
            top += size + LEADING
        return top

    def heading(self, text: str) -> None:
        """Places a title over the whole width."""
        if text:
            self.top = self.text(text, GAP, self.top, self.width - 2 * GAP, TITLE, INK) + LEADING

    def cells(self, cells: Sequence[tuple[Image.Image, str]], widths: Sequence[int], height: int) -> None:
        """Places a line of images with their captions."""
        left, bottom = GAP, self.top + height
        for (image, caption), width in zip(cells, widths, strict=False):
            self.images.append((image, (left, self.top)))
            if caption:
                below = self.text(caption, left, self.top + height + LEADING, width, CAPTION, FAINT)
                bottom = max(bottom, below)
            left += width + GAP
        self.top = bottom + GAP

    def draw(self) -> Image.Image:
        """Returns the page with everything that was placed."""
        page = Image.new("RGB", (self.width, self.top), "white")
        pen = ImageDraw.Draw(page)
        for image, corner in self.images:
            page.paste(image, corner)
        for text, corner, size, colour in self.texts:
            pen.text(corner, text, fill=colour, font=ImageFont.load_default(size=size))
        return page
