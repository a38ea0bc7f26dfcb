"""Image grids: every image at one height, every word of a caption on the sheet."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from vkd.io.grids import Cell, Row, grid, wrap
from vkd.io.images import resize_to_height

GREY = np.full((60, 30, 3), 120, np.uint8)
WIDE = np.full((10, 40, 3), 120, np.uint8)
FONT = ImageFont.load_default(size=12)


@pytest.mark.parametrize("image", [GREY, Image.fromarray(GREY)])
def test_resize_to_height(image):
    assert resize_to_height(image, 90).size == (45, 90)
    assert resize_to_height(image, 20).size == (10, 20)


def test_resize_max_aspect():
    assert resize_to_height(WIDE, 50).size == (200, 50)
    assert resize_to_height(WIDE, 50, max_aspect=2).size == (100, 50)


def grey_pixels(page: Image.Image) -> int:
    return int((np.asarray(page) == 120).all(axis=2).sum())


def test_images_have_one_height():
    page = grid([Row([Cell(GREY), Cell(WIDE)], "images"), Row([Cell(GREY), Cell(WIDE)], "heat")], height=50)
    assert grey_pixels(page) == 2 * 50 * (25 + 200)
    assert page.width == 480
    assert grid([Row([Cell(WIDE)] * 5)], height=50).width == 8 + 5 * 208


def test_edge_is_inside_the_height():
    page = np.asarray(grid([Row([Cell(GREY, edge="#ff0000")])], height=58))
    red = (page == (255, 0, 0)).all(axis=2)
    assert np.ptp(np.nonzero(red)[0]) == 57
    assert red.sum() == 58 * 33 - 50 * 25


def test_columns_continue_a_row_on_the_next_line():
    rows = [Row([Cell(GREY, "caption")] * 5)]
    one, three = grid(rows, height=50, min_width=1), grid(rows, height=50, columns=2, min_width=1)
    assert grey_pixels(one) == grey_pixels(three)
    assert three.width == 8 + 2 * 33 < one.width
    assert three.height > 3 * 50


def test_columns_are_aligned():
    page = np.asarray(grid([Row([Cell(WIDE), Cell(GREY)]), Row([Cell(GREY), Cell(GREY)])], height=50))
    right = (page[:, 8 + 200 + 8 : 8 + 200 + 8 + 25] == 120).all(axis=2)
    assert right.sum() == 2 * 50 * 25


@pytest.mark.parametrize(
    "text", ["several words of a caption", "a-very-long-file-name.jpg", "two\nlines", ""]
)
def test_wrap_keeps_every_letter(text: str):
    lines = wrap(text, 40, FONT)
    assert "".join(lines).replace(" ", "") == "".join(text.split())
    assert all(FONT.getlength(line) <= 40 for line in lines)


def test_long_captions_make_the_sheet_higher():
    short, long = (grid([Row([Cell(GREY, text)], text)]) for text in ("id 7", "id 7, camera 2, " * 20))
    assert long.width == short.width
    assert long.height > short.height + 100
    assert (np.asarray(long)[:, -4:] == 255).all()
    assert (np.asarray(long)[-4:] == 255).all()


def test_grid_without_rows_or_cells():
    assert grid([]).width == 480
    assert grid([Row([], "no match")], title="query").height > grid([], title="query").height
