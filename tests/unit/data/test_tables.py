"""Lists of images as spreadsheets and scripts write them."""

from pathlib import Path

import pytest
from PIL import Image

from vkd.data.datasets import UNKNOWN_CAMERA, folder_tracklets, gallery_items, read_dataset
from vkd.data.folder import folder_items
from vkd.io.errors import VKDError

ROWS = [(f"img/{who}_{camera}_{n}.jpg", who, camera) for who in "abcd" for camera in (1, 2) for n in (1, 2)]


def images(root: Path) -> Path:
    (root / "img").mkdir(parents=True, exist_ok=True)
    for path, _, _ in ROWS:
        Image.new("RGB", (4, 8)).save(root / path)
    return root


def table(root: Path, rows: list[tuple], header: str = "path,identity,camera") -> Path:
    images(root)
    (root / "list.csv").write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return root / "list.csv"


def test_backslashes(tmp_path: Path):
    backslashes = [(path.replace("/", "\\"), who, camera) for path, who, camera in ROWS]
    expected = folder_tracklets(table(tmp_path, ROWS))
    assert folder_tracklets(table(tmp_path, backslashes)) == expected
    assert len(read_dataset("auto", tmp_path).query) == 4


@pytest.mark.parametrize("none", ["-1", "", "unknown", "Unknown", "nan", "NaN", "-1.0", " -1 "])
def test_no_identity(none: str, tmp_path: Path):
    rows = [(path, none if who == "a" else "bcd".index(who) + 2, camera) for path, who, camera in ROWS]
    splits = read_dataset("folder", table(tmp_path, rows))
    assert {*splits.labels(), *(t.identity for t in splits.query)} == {2, 3, 4}
    assert any("4 images" in note for note in splits.notes)
    tracklets, names = folder_tracklets(tmp_path)
    assert sum(t.identity < 0 for t in tracklets) > 0
    assert set(names.values()) == {"2", "3", "4"}


def test_numbers_of_spreadsheets_and_unknown_cameras(tmp_path: Path):
    rows = [
        (path, f"{'abcd'.index(who) + 1}.0", "nan" if who == "a" else camera) for path, who, camera in ROWS
    ]
    tracklets, names = folder_tracklets(table(tmp_path, rows))
    assert set(names.values()) == {"1", "2", "3", "4"}
    assert {t.camera for t in tracklets if t.identity == 1} == {UNKNOWN_CAMERA}


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (["img/a_1_1.jpg,a,1", "img/a_1_2.jpg,a,1", "", "", "", ",a,1"], 7),
        (['"img/a_1_1.jpg","a\nb",1', ",a,1"], 4),
        (["", ",,", " , ,", ",a,1"], 5),
        (["img/a\u2028b\x0b.jpg,a,1", ",a,1"], 3),
    ],
)
def test_true_line_numbers(lines: list[str], number: int, tmp_path: Path):
    path = tmp_path / "list.csv"
    path.write_text("\n".join(["path,identity,camera", *lines]) + "\n")
    with pytest.raises(VKDError, match=f"line {number} "):
        folder_tracklets(path)


def test_rows_without_values(tmp_path: Path):
    rows = [("", "", ""), *ROWS[:8], (" ", " ", " "), *ROWS[8:]]
    assert (
        folder_tracklets(table(tmp_path / "a", rows))[1] == folder_tracklets(table(tmp_path / "b", ROWS))[1]
    )


@pytest.mark.parametrize("row", ['"' + "x" * 200_000 + '",a,1', "x" * 5000 + ".jpg,a,1", "img/\0.jpg,a,1"])
def test_damaged_rows(row: str, tmp_path: Path):
    (tmp_path / "list.csv").write_text(f"path,identity,camera\n{row}\n")
    with pytest.raises(VKDError, match=r"list\.csv line 2|missing") as error:
        read_dataset("folder", tmp_path / "list.csv")
    assert len(str(error.value)) < 600


def test_other_encoding_and_pointer(tmp_path: Path):
    table(tmp_path, ROWS)
    text = (tmp_path / "list.csv").read_text()
    expected = folder_tracklets(tmp_path)
    (tmp_path / "list.csv").write_bytes(text.encode("utf-16"))
    assert folder_tracklets(tmp_path) == expected
    (tmp_path / "list.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(VKDError, match="git lfs pull"):
        folder_tracklets(tmp_path / "list.csv")


@pytest.mark.parametrize(
    "path", ["{outside}/private.jpg", "../private.jpg", "..\\private.jpg", "img/../../private.jpg"]
)
def test_confined_tables(path: str, tmp_path: Path):
    Image.new("RGB", (4, 8)).save(tmp_path / "private.jpg")
    root = images(tmp_path / "new")
    (root / "list.csv").write_text(f"path,identity\nimg/a_1_1.jpg,1\n{path.format(outside=tmp_path)},2\n")
    for read in (folder_items, gallery_items):
        with pytest.raises(VKDError, match=r"line 3 "):
            read(root, confined=True)
    assert len(folder_items(root).tracklets) == 2, "a user's own table may name any file"


def test_image_listed_twice(tmp_path: Path):
    tracklets, _ = folder_tracklets(table(tmp_path, [*ROWS, *ROWS]))
    assert sum(len(t.frames) for t in tracklets) == 16
