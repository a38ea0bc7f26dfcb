"""Ranked lists as files: a table that a spreadsheet opens safely, and one image."""

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from vkd.retrieval import results
from vkd.retrieval.gallery import Hit, Verdict


def hit(place: int, verdict: Verdict, name: str = "0003", thumbnail: Path = Path("none.jpg")) -> Hit:
    return Hit(place, 10 + place, 0.5, 3, 2, name, ("/server/secret/a.jpg",), thumbnail, verdict)


def test_ranks() -> None:
    assert results.ranks([hit(1, "correct"), hit(2, "junk"), hit(3, "incorrect")]) == [1, None, 2]


def test_table() -> None:
    rows = list(csv.DictReader(io.StringIO(results.table({"net": [hit(1, "correct"), hit(2, "junk")]}))))
    assert [row["rank"] for row in rows] == ["1", ""]
    assert rows[0] == {
        "network": "net", "rank": "1", "item": "11", "similarity": "0.500000", "identity": "3",
        "camera": "2", "name": "0003", "verdict": "correct", "first_frame": "a.jpg",
    }  # fmt: skip


def test_no_formulas() -> None:
    assert ",'=HYPERLINK" in results.table({"net": [hit(1, "incorrect", "=HYPERLINK(0)")]})


def test_edges_of_the_image(tmp_path: Path) -> None:
    thumbnail = tmp_path / "0.jpg"
    Image.new("RGB", (64, 128), "white").save(thumbnail)
    hits = [hit(1, "correct", thumbnail=thumbnail), hit(2, "incorrect", thumbnail=thumbnail)]
    page = results.image("Image query", [np.zeros((20, 10, 3), np.uint8)], {"net": hits})
    colours = {colour for _, colour in page.getcolors(1 << 20) or []}
    assert {(0x1A, 0x7F, 0x37), (0xC2, 0x2F, 0x3D)} <= colours
    assert results.image("nothing found", [], {"net": []}).size[0] > 0
