"""Readers against the reference's lists, detection and registration, and the errors of damaged datasets."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from vkd.data.benchmarks import read_mars
from vkd.data.datasets import (
    DATASETS,
    Dataset,
    Splits,
    check_listed,
    detect_dataset,
    gallery_items,
    read_dataset,
    summary,
    summary_table,
    valid_queries,
)
from vkd.io.errors import MissingFileError, VKDError
from vkd.models.reference import find_name

REFERENCE = {"mars": "mars", "veri": "veri", "duke": "duke-video-reid"}
PARTS = {
    "train": "train",
    "query": "query",
    "gallery_only": "gallery",
    "query_images": "query_img",
    "gallery_only_images": "gallery_img",
}


@pytest.fixture
def trees(golden: Path, tmp_path: Path) -> Path:
    """The reference's small trees, unpacked side by side as the official archives would be."""
    with tarfile.open(golden / "readers.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict:
    return json.loads((golden / "readers.json").read_text())


def listed(splits: Splits, part: str) -> list:
    """A split as the reference writes it down: relative paths, identity (training: its class), camera."""
    labels = splits.labels()
    return [
        [
            [Path(frame).relative_to(splits.root).as_posix() for frame in t.frames],
            labels[t.identity] if part == "train" else t.identity,
            t.camera,
        ]
        for t in getattr(splits, part)
    ]


@pytest.mark.parametrize("inside", [False, True], ids=["parent folder", "own folder"])
@pytest.mark.parametrize("name", REFERENCE)
def test_readers_equal_reference(name: str, inside: bool, trees: Path, expected: dict):
    reference = expected[REFERENCE[name]]
    splits = read_dataset(name, trees / reference["folder"] if inside else trees)
    for part, key in PARTS.items():
        assert listed(splits, part) == reference[key], part
    assert splits.queries_in_gallery == bool(DATASETS[name].queries_in_gallery)
    labels = {str(identity): label for identity, label in splits.labels().items()}
    assert labels == reference["train_label_of_raw_pid"]


@pytest.mark.parametrize("name", REFERENCE)
def test_detect_dataset(name: str, trees: Path, expected: dict):
    root = trees / expected[REFERENCE[name]]["folder"]
    assert detect_dataset(root) == name
    assert read_dataset("auto", root) == read_dataset(name, root)


def test_detect_duke_by_uppercase_suffix(trees: Path):
    root = trees / "DukeMTMC-VideoReID"
    for frame in list(root.rglob("*.jpg")):
        frame.rename(frame.with_suffix(".JPG"))
    assert detect_dataset(root) == "duke"


def test_mars_junk_distractors_and_queries(trees: Path):
    splits = read_dataset("mars", trees)
    assert {t.identity for t in splits.gallery_only} >= {0}
    assert not any(t.identity == -1 for t in splits.gallery_only)
    queries, gallery = splits.query_gallery("v2v")
    assert gallery == splits.query + splits.gallery_only
    assert splits.query_gallery("i2v") == (splits.query_images, gallery)
    assert splits.query_gallery("v2i") == (splits.query, splits.query_images + splits.gallery_only_images)
    apart = read_dataset("mars", trees, queries_in_gallery=False)
    assert apart.query_gallery("v2v") == (queries, apart.gallery_only)


@pytest.mark.parametrize("ending", ["", " "], ids=["bare", "trailing space"])
@pytest.mark.parametrize("spelling", ["0002_c003_2.jpg", "0002_c003_00009000_0.jpg"])
def test_veri_track_lines(ending: str, spelling: str, trees: Path):
    lines = (trees / "VeRi" / "test_track.txt").read_text().splitlines()
    words = [line.split() for line in lines]
    words[2][0] = spelling
    (trees / "VeRi" / "test_track.txt").write_text("\r\n".join(" ".join(row) + ending for row in words))
    track = read_dataset("veri", trees).gallery_only[2]
    assert (track.identity, track.camera) == (2, 2)
    assert [Path(frame).name for frame in track.frames] == words[2][1:]


def test_duke_grouping(trees: Path):
    joined, apart = read_dataset("duke", trees), read_dataset("duke", trees, grouping="folder")
    assert len(joined.train) == 7
    assert len(apart.train) == 8
    assert sorted(f for t in joined.train for f in t.frames) == sorted(
        f for t in apart.train for f in t.frames
    )
    with pytest.raises(VKDError, match="camera"):
        read_dataset("duke", trees, grouping="camera")


def write_mars(root: Path, train: list, test: list, query: list) -> Path:
    """The `info` folder of a MARS tree for rows of (frames, identity, camera); no images."""
    (root / "info").mkdir(parents=True)
    for part, rows in (("train", train), ("test", test)):
        names, table = [], []
        for number, (frames, identity, camera) in enumerate(rows):
            folder = "00-1" if identity == -1 else f"{identity:04d}"
            table.append((len(names) + 1, len(names) + frames, identity, camera))
            names += [f"{folder}C{camera}T{number:05d}F{frame:03d}.jpg" for frame in range(1, frames + 1)]
        (root / "info" / f"{part}_name.txt").write_text("\n".join(names) + "\n")
        savemat(root / "info" / f"tracks_{part}_info.mat", {f"track_{part}_info": np.array(table, np.int32)})
    savemat(root / "info" / "query_IDX.mat", {"query_IDX": np.array([query], np.uint16)})
    return root


def test_mars_at_full_size(tmp_path: Path):
    """8298 training and 12180 test rows, half a million names, built to MARS's published counts."""
    train = [(25, 2 * (row % 625) + 1, row % 6 + 1) for row in range(8298)]
    test: list = [(25, -1, 1)] * 870 + [(25, 0, row % 6 + 1) for row in range(3248)]
    query = []
    for identity in range(626):  # 102 of them seen by four cameras, 35 of those only in their queries
        for camera in range(1, 5 if identity < 102 else 4):
            test.append((25, 2 * identity + 2, camera))
            query.append(len(test))
    test += [(25, 2 * (35 + row % 591) + 2, row // 591 % 6 + 1) for row in range(6082)]
    root = write_mars(tmp_path / "MARS", train, test, query)

    splits = read_dataset("mars", tmp_path, check=False)

    assert (
        sum(len(t.frames) for part in (splits.train, splits.query, splits.gallery_only) for t in part)
        > 480_000
    )
    assert len(splits.labels()) == 625
    assert len(splits.train) == 8298
    assert len(splits.query) == 1980
    assert len(splits.gallery_only) == 9330
    assert sum(t.identity == 0 for t in splits.gallery_only) == 3248
    assert valid_queries(*splits.query_gallery("v2v")) == 1980
    assert valid_queries(splits.query, splits.gallery_only) == 1840
    assert splits.root == root


def row(tracklets: int, cameras: int | None, identities: int, images: int, valid: int | None = None) -> dict:
    return {
        "identities": identities,
        "tracklets": tracklets,
        "images": images,
        "cameras": cameras,
        "valid_queries": valid,
    }


def test_summary(trees: Path):
    rows = {entry.pop("split"): entry for entry in summary(read_dataset("mars", trees))}
    assert rows["train"] == row(10, 6, 4, 33)
    # One of the four queries has no match from another camera.
    assert rows["query"] == row(4, 4, 4, 14, 3)
    assert rows["query images"] == row(4, 4, 4, 4, 3)
    assert rows["gallery"]["tracklets"] == rows["gallery images"]["images"] == 8
    table = summary_table(read_dataset("mars", trees))
    assert "| query | 4 | 4 | 14 | 4 | 3 |" in table
    assert "gallery items too" in table


# Registration


def test_registered_dataset(trees: Path, monkeypatch: pytest.MonkeyPatch):
    def read_mine(root: Path, *, odd: bool = False) -> Splits:
        return replace(read_mars(root), name="mine")

    row = Dataset(
        "Mine", read_mine, "as MARS", detect=lambda folder: (folder / "mine").is_file(), name_pattern="mine"
    )
    monkeypatch.setitem(DATASETS, "mine", row)
    (trees / "mars" / "mine").touch()
    assert detect_dataset(trees / "mars") == "mine"
    assert read_dataset("auto", trees / "mars", odd=True).name == "mine"
    assert find_name("a/run-of-MINE-on-mars") == "mine"
    tracklets, names = gallery_items(trees / "mars")
    assert tracklets == read_dataset("mars", trees).gallery
    assert not names


@pytest.mark.parametrize(
    ("text", "name"), [("resnet50-VeRi-mars", "veri"), ("DukeMTMC", "duke"), ("market", ""), ("", "")]
)
def test_find_name(text: str, name: str):
    assert find_name(text) == name


# Errors, which name the path


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "garbage":
        path.write_bytes(b"\xff\x00 not what it says")
    elif how == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5318864\n")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("how", ["missing", "empty", "garbage", "pointer"])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mars", "mars/info/train_name.txt"),
        ("mars", "mars/info/tracks_test_info.mat"),
        ("mars", "mars/info/query_IDX.mat"),
        ("veri", "VeRi/name_query.txt"),
        ("veri", "VeRi/test_track.txt"),
    ],
)
def test_damaged_list(name: str, file: str, how: str, trees: Path):
    damage(trees / file, how)
    with pytest.raises(VKDError, match=Path(file).name.replace(".", r"\.")):
        read_dataset(name, trees)


@pytest.mark.parametrize("how", ["missing", "empty", "garbage", "cut", "pointer"])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mars", "mars/bbox_train/0001/0001C1T0001F002.jpg"),
        ("veri", "VeRi/image_query/0003_c007_00000011_0.jpg"),
        ("duke", "DukeMTMC-VideoReID/query/0002/0001/0002_C1_F0002_X00062.jpg"),
    ],
)
def test_damaged_image(name: str, file: str, how: str, trees: Path):
    damage(trees / file, how)
    if name == "duke" and how == "missing":
        assert len(read_dataset(name, trees).query[0].frames) == 1
        return
    with pytest.raises(VKDError, match=Path(file).name):
        read_dataset(name, trees)
    read_dataset(name, trees, check=False)


def test_missing_images_are_counted(trees: Path):
    for image in (trees / "mars" / "bbox_train" / "0007").iterdir():
        image.unlink()
    with pytest.raises(MissingFileError, match=r"0007C2T0001F001\.jpg .*13 of 64 "):
        check_listed(read_dataset("mars", trees, check=False))


@pytest.mark.parametrize("name", ["mars", "duke", "veri", "street"])
def test_wrong_layout(name: str, tmp_path: Path):
    with pytest.raises(VKDError, match=str(tmp_path)) as error:
        read_dataset(name, tmp_path)
    assert DATASETS[name].layout in str(error.value)


def test_missing_root_and_unknown_name(tmp_path: Path):
    with pytest.raises(MissingFileError, match="nowhere"):
        read_dataset("mars", tmp_path / "nowhere")
    with pytest.raises(VKDError, match=r"market.*auto, mars, duke, veri, folder, street"):
        read_dataset("market", tmp_path)


def test_unknown_options(trees: Path):
    with pytest.raises(VKDError, match=r"'seed' .* queries_in_gallery"):
        read_dataset("mars", trees, seed=1)
    with pytest.raises(VKDError, match="cameras"):
        read_dataset("mars", trees, cameras="none")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([(1, 40, 1, 1)], "row 1 .*1 to 40.*train_name.txt has 33"),
        ([(0, 3, 1, 1)], "row 1 .*0 to 3"),
        ([(1, 3, 5, 1)], "row 1 is identity 5.*0001C1T0001F001.jpg"),
        ([(1, 3, 1)], "shape"),
        ([(1.0, np.inf, 1, 1)], "tracks_train_info.mat"),
    ],
)
def test_track_table_and_names_differ(rows: list, reason: str, trees: Path):
    savemat(trees / "mars/info/tracks_train_info.mat", {"track_train_info": np.array(rows)})
    with pytest.raises(VKDError, match=reason):
        read_dataset("mars", trees)


def test_junk_query(trees: Path):
    savemat(trees / "mars/info/query_IDX.mat", {"query_IDX": np.array([[1]])})
    with pytest.raises(VKDError, match="track 1,"):
        read_dataset("mars", trees)


def test_foreign_names(trees: Path):
    (trees / "DukeMTMC-VideoReID/query/0002/0001/holiday.jpg").write_bytes(b"x")
    with pytest.raises(VKDError, match=r"holiday\.jpg"):
        read_dataset("duke", trees)
    (trees / "VeRi/name_query.txt").write_text("holiday.jpg\n")
    with pytest.raises(VKDError, match=r"name_query\.txt.*holiday\.jpg"):
        read_dataset("veri", trees)


def test_street_layouts(trees: Path):
    for layout, folder in (("mars", "mars"), ("duke", "DukeMTMC-VideoReID"), ("veri", "VeRi")):
        root = trees / folder
        (root / "street.json").write_text(json.dumps({"layout": layout, "seed": 0}))
        assert detect_dataset(root) == "street"
        street, benchmark = read_dataset("street", root), read_dataset(layout, root)
        assert street.name == "street"
        assert street.query_gallery("v2v") == benchmark.query_gallery("v2v")
    (root / "street.json").write_text('{"layout": "city"}')
    with pytest.raises(VKDError, match="city"):
        read_dataset("street", root)
    (root / "street.json").write_text("[]")
    with pytest.raises(VKDError, match=r"street\.json"):
        read_dataset("street", root)


def test_no_valid_query(tmp_path: Path):
    rows = [(2, 1, 1), (2, 2, 1), (2, 1, 1), (2, 2, 1)]
    root = write_mars(tmp_path / "mars", rows, rows, query=[1, 2])
    with pytest.raises(VKDError, match="shares the query's camera"):
        read_dataset("mars", root, check=False)
    root = write_mars(tmp_path / "other", rows, [(2, 1, 1), (2, 2, 2), (2, 3, 3)], query=[1, 2])
    with pytest.raises(VKDError, match="no query identity appears in the gallery"):
        read_dataset("mars", root, check=False, queries_in_gallery=False)


def test_unknown_protocol(trees: Path):
    with pytest.raises(VKDError, match=r"x2v.*i2v, v2v, i2i, v2i"):
        read_dataset("mars", trees).query_gallery("x2v")
