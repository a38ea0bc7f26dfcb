"""Readers against the reference's lists, and every complaint that a data set can earn."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from vkd.data.datasets import (
    DATASETS,
    UNKNOWN_CAMERA,
    Splits,
    Tracklet,
    check_images,
    check_listed,
    detect_dataset,
    mask_path,
    read_dataset,
    summary,
    summary_table,
    valid_queries,
)

REFERENCE = {"mars": "mars", "veri": "veri", "duke": "duke-video-reid"}
PARTS = {
    "train": "train",
    "query": "query",
    "gallery": "gallery",
    "query_images": "query_img",
    "gallery_images": "gallery_img",
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
def test_readers_agree_with_the_reference(name: str, inside: bool, trees: Path, expected: dict):
    reference = expected[REFERENCE[name]]
    splits = read_dataset(name, trees / reference["folder"] if inside else trees)
    for part, key in PARTS.items():
        assert listed(splits, part) == reference[key], part
    labels = {str(identity): label for identity, label in splits.labels().items()}
    assert labels == reference["train_label_of_raw_pid"]


@pytest.mark.parametrize("name", REFERENCE)
def test_auto_tells_the_layout_by_its_files(name: str, trees: Path, expected: dict):
    root = trees / expected[REFERENCE[name]]["folder"]
    assert detect_dataset(root) == name
    assert read_dataset("auto", root) == read_dataset(name, root)


def test_auto_knows_duke_by_frames_with_capital_endings(trees: Path):
    root = trees / "DukeMTMC-VideoReID"
    for frame in list(root.rglob("*.jpg")):
        frame.rename(frame.with_suffix(".JPG"))
    assert detect_dataset(root) == "duke"


def test_mars_drops_junk_keeps_distractors_and_returns_queries_to_the_gallery(trees: Path):
    splits = read_dataset("mars", trees)
    assert {t.identity for t in splits.gallery} >= {0}
    assert not any(t.identity == -1 for t in splits.gallery)
    queries, gallery = splits.query_gallery("v2v")
    assert gallery == splits.query + splits.gallery
    assert splits.query_gallery("i2v") == (splits.query_images, gallery)
    assert splits.query_gallery("v2i") == (splits.query, splits.query_images + splits.gallery_images)
    apart = read_dataset("mars", trees, queries_in_gallery=False)
    assert apart.query_gallery("v2v") == (queries, apart.gallery)


def test_an_unknown_protocol_is_refused(trees: Path):
    with pytest.raises(ValueError, match="choose from i2v, v2v, i2i, v2i"):
        read_dataset("mars", trees).query_gallery("x2v")


@pytest.mark.parametrize("ending", ["", " "], ids=["bare", "trailing space"])
@pytest.mark.parametrize("spelling", ["0002_c003_2.jpg", "0002_c003_00009000_0.jpg"])
def test_a_veri_track_line_is_read_whole_however_it_is_written(ending: str, spelling: str, trees: Path):
    lines = (trees / "VeRi" / "test_track.txt").read_text().splitlines()
    words = [line.split() for line in lines]
    words[2][0] = spelling
    (trees / "VeRi" / "test_track.txt").write_text("\r\n".join(" ".join(row) + ending for row in words))
    track = read_dataset("veri", trees).gallery[2]
    assert (track.identity, track.camera) == (2, 2)
    assert [Path(frame).name for frame in track.frames] == words[2][1:]


def test_duke_folders_can_stay_apart(trees: Path):
    joined, apart = read_dataset("duke", trees), read_dataset("duke", trees, grouping="folder")
    assert len(joined.train) == 7
    assert len(apart.train) == 8
    assert sorted(f for t in joined.train for f in t.frames) == sorted(
        f for t in apart.train for f in t.frames
    )
    with pytest.raises(ValueError, match="'adjacent' or 'folder'"):
        read_dataset("duke", trees, grouping="camera")


def write_mars(root: Path, train: list, test: list, query: list) -> Path:
    """The `info` folder of a MARS tree for rows of (frames, identity, camera); no pictures."""
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


def test_mars_at_full_size_gives_the_published_counts(tmp_path: Path):
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

    assert sum(len(t.frames) for part in (splits.train, splits.query, splits.gallery) for t in part) > 480_000
    assert len(splits.labels()) == 625
    assert len(splits.train) == 8298
    assert len(splits.query) == 1980
    assert len(splits.gallery) == 9330
    assert sum(t.identity == 0 for t in splits.gallery) == 3248
    assert valid_queries(*splits.query_gallery("v2v")) == 1980
    assert valid_queries(splits.query, splits.gallery) == 1840
    assert splits.root == root


def row(tracklets: int, cameras: int | None, identities: int, images: int, valid: int | None = None) -> dict:
    return {
        "identities": identities,
        "tracklets": tracklets,
        "images": images,
        "cameras": cameras,
        "valid_queries": valid,
    }


def test_the_summary_counts_every_split(trees: Path):
    rows = {entry.pop("split"): entry for entry in summary(read_dataset("mars", trees))}
    assert rows["train"] == row(10, 6, 4, 33)
    # One of the four queries has no match from another camera.
    assert rows["query"] == row(4, 4, 4, 14, 3)
    assert rows["query images"] == row(4, 4, 4, 4, 3)
    assert rows["gallery"]["tracklets"] == rows["gallery images"]["images"] == 8
    table = summary_table(read_dataset("mars", trees))
    assert "| query | 4 | 4 | 14 | 4 | 3 |" in table
    assert "gallery items too" in table


cameras = st.integers(UNKNOWN_CAMERA, 2)
items = st.lists(st.builds(Tracklet, st.just(("x.jpg",)), st.integers(0, 3), cameras), max_size=8)


@given(items, items)
def test_a_query_is_valid_when_something_can_match_it(queries: list[Tracklet], gallery: list[Tracklet]):
    def junk(query: Tracklet, item: Tracklet) -> bool:
        return query.camera == item.camera != UNKNOWN_CAMERA

    brute = sum(any(q.identity == g.identity and not junk(q, g) for g in gallery) for q in queries)
    assert valid_queries(queries, gallery) == brute


# What can be wrong with a data set. Each complaint names the path.


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "garbage":
        path.write_bytes(b"\xff\x00 not what it says")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("how", ["missing", "empty", "garbage"])
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
def test_a_damaged_list_is_named(name: str, file: str, how: str, trees: Path):
    damage(trees / file, how)
    with pytest.raises((FileNotFoundError, ValueError), match=Path(file).name.replace(".", r"\.")):
        read_dataset(name, trees)


@pytest.mark.parametrize("how", ["missing", "empty", "garbage", "cut"])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mars", "mars/bbox_train/0001/0001C1T0001F002.jpg"),
        ("veri", "VeRi/image_query/0003_c007_00000011_0.jpg"),
        ("duke", "DukeMTMC-VideoReID/query/0002/0001/0002_C1_F0002_X00062.jpg"),
    ],
)
def test_a_damaged_picture_is_named(name: str, file: str, how: str, trees: Path):
    damage(trees / file, how)
    if name == "duke" and how == "missing":
        assert len(read_dataset(name, trees).query[0].frames) == 1
        return
    with pytest.raises((FileNotFoundError, ValueError), match=Path(file).name):
        read_dataset(name, trees)
    read_dataset(name, trees, check=False)


def test_missing_pictures_are_counted(trees: Path):
    for picture in (trees / "mars" / "bbox_train" / "0007").iterdir():
        picture.unlink()
    with pytest.raises(FileNotFoundError, match=r"0007C2T0001F001\.jpg is listed but missing \(13 of 64 "):
        check_listed(read_dataset("mars", trees, check=False))


def test_decoding_finds_what_the_header_hides(tmp_path: Path):
    path = tmp_path / "scratched.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + bytes(200) + data[half + 200 :])
    assert check_images([str(path)]) == 1
    with pytest.raises(ValueError, match=r"scratched\.png"):
        check_images([str(path)], decode=True)


def test_a_film_behind_the_end_of_a_picture_is_no_damage(tmp_path: Path):
    picture = tmp_path / "telephone.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture)
    whole = picture.read_bytes()
    picture.write_bytes(whole + b"\0film" * 10_000)
    assert check_images([str(picture)]) == 1
    picture.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is cut off"):
        check_images([str(picture)])


def test_people_without_a_name_match_nobody():
    alone = [Tracklet(("a.jpg",), -1, 0)]
    assert valid_queries(alone, [Tracklet(("b.jpg",), -1, 1)]) == 0


def test_a_limit_spreads_over_the_whole_list(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("not a picture")
    good, bad = str(tmp_path / "good.png"), str(tmp_path / "bad.png")
    assert check_images([good] * 95 + [bad] * 5, limit=1) == 1
    with pytest.raises(ValueError, match=r"bad\.png"):
        check_images([good] * 90 + [bad] * 10, limit=10)


@pytest.mark.parametrize("name", ["mars", "duke", "veri", "street"])
def test_a_wrong_layout_says_what_was_expected(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match="does not look like") as complaint:
        read_dataset(name, tmp_path)
    assert str(tmp_path) in str(complaint.value)
    assert DATASETS[name].layout in str(complaint.value)


def test_a_root_that_is_not_there_and_a_name_nobody_knows(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_dataset("mars", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="choose from auto, mars, duke, veri, folder, street"):
        read_dataset("market", tmp_path)


def test_an_option_of_another_data_set_is_refused(trees: Path):
    with pytest.raises(ValueError, match=r"'seed' .* queries_in_gallery"):
        read_dataset("mars", trees, seed=1)
    with pytest.raises(ValueError, match="'cameras' is an option of plain folders only"):
        read_dataset("mars", trees, cameras="none")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([(1, 40, 1, 1)], "row 1 has the frames 1 to 40, but .*train_name.txt has 33 names"),
        ([(0, 3, 1, 1)], "row 1 has the frames 0 to 3"),
        ([(1, 3, 5, 1)], "row 1 is identity 5, but .* has 0001C1T0001F001.jpg there"),
        ([(1, 3, 1)], "shape"),
        ([(1.0, np.inf, 1, 1)], "tracks_train_info.mat"),
    ],
)
def test_a_track_table_that_does_not_fit_its_names(rows: list, reason: str, trees: Path):
    savemat(trees / "mars/info/tracks_train_info.mat", {"track_train_info": np.array(rows)})
    with pytest.raises(ValueError, match=reason):
        read_dataset("mars", trees)


def test_a_query_that_is_junk_is_refused(trees: Path):
    savemat(trees / "mars/info/query_IDX.mat", {"query_IDX": np.array([[1]])})
    with pytest.raises(ValueError, match="names track 1, which"):
        read_dataset("mars", trees)


def test_no_valid_query_says_why(tmp_path: Path):
    rows = [(2, 1, 1), (2, 2, 1), (2, 1, 1), (2, 2, 1)]
    root = write_mars(tmp_path / "mars", rows, rows, query=[1, 2])
    with pytest.raises(ValueError, match="0 valid queries because every match shares the query's camera"):
        read_dataset("mars", root, check=False)
    root = write_mars(tmp_path / "other", rows, [(2, 1, 1), (2, 2, 2), (2, 3, 3)], query=[1, 2])
    with pytest.raises(ValueError, match="no query identity appears in the gallery"):
        read_dataset("mars", root, check=False, queries_in_gallery=False)


def test_foreign_names_are_refused(trees: Path):
    (trees / "DukeMTMC-VideoReID/query/0002/0001/holiday.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holiday\.jpg does not look like a Duke-Video-ReID frame"):
        read_dataset("duke", trees)
    (trees / "VeRi/name_query.txt").write_text("holiday.jpg\n")
    with pytest.raises(ValueError, match=r"name_query\.txt has the entry 'holiday\.jpg'"):
        read_dataset("veri", trees)


def test_the_street_is_read_in_the_layout_it_was_written(trees: Path):
    for layout, folder in (("mars", "mars"), ("duke", "DukeMTMC-VideoReID"), ("veri", "VeRi")):
        root = trees / folder
        (root / "street.json").write_text(json.dumps({"layout": layout, "seed": 0}))
        assert detect_dataset(root) == "street"
        street, benchmark = read_dataset("street", root), read_dataset(layout, root)
        assert street.name == "street"
        assert street.query_gallery("v2v") == benchmark.query_gallery("v2v")
    (root / "street.json").write_text('{"layout": "city"}')
    with pytest.raises(ValueError, match="the layout 'city'; expected mars, duke or veri"):
        read_dataset("street", root)
    (root / "street.json").write_text("[]")
    with pytest.raises(ValueError, match=r"street\.json is damaged"):
        read_dataset("street", root)


def test_masks_mirror_the_frames(tmp_path: Path):
    frame = f"{tmp_path}/bbox_test/0002/0002C1T0001F001.jpg"
    assert mask_path(tmp_path, frame) == tmp_path / "masks/bbox_test/0002/0002C1T0001F001.png"
