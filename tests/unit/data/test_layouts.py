"""Trees as other toolkits and systems leave them: parts, benchmarks, and what is passed over."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from vkd.data.datasets import (
    UNKNOWN_CAMERA,
    Splits,
    Tracklet,
    detect_dataset,
    folder_items,
    folder_tracklets,
    gallery_items,
    read_dataset,
)
from vkd.data.layouts import duke_labels, labels_in_name, part_of
from vkd.data.scan import OWN_OUTPUT
from vkd.io.errors import VKDError


def plant(root: Path, *names: str) -> Path:
    """Writes small images below `root`, each of its own colour."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), (number % 256, number // 256, len(name))).save(path)
    return root


def people(*names: str) -> list[str]:
    return [f"{name}/c{camera}/{n}.jpg" for name in names for camera in (1, 2) for n in (1, 2)]


def identities(splits: Splits, part: str) -> set[str]:
    return {splits.names.get(t.identity, str(t.identity)) for t in getattr(splits, part)}


def counts(items: tuple[Iterable[Tracklet], dict[int, str]]) -> tuple[set[str], int, int]:
    """Identities, tracklets and images."""
    tracklets = list(items[0])
    return set(items[1].values()), len(tracklets), sum(len(t.frames) for t in tracklets)


# Parts

SPELLINGS = {
    "train": [
        "train",
        "Train",
        "TRAINING",
        "bounding_box_train",
        "bbox_train",
        "train_all",
        "train-set",
        "trainval",
    ],
    "query": ["query", "Query", "probe", "PROBES", "image_query"],
    "gallery": ["gallery", "Gallery", "gallery_images"],
    "test": ["test", "Testing", "bounding_box_test", "testset", "Test_Images"],
    "val": ["val", "VALID", "validation", "Dev"],
}


@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part, names in SPELLINGS.items() for name in names]
)
def test_names_of_parts(part: str, name: str):
    assert part_of(name) == part


@pytest.mark.parametrize("name", ["", "ann", "0002", "trainer", "tester", "valerie", "deva", "set", "images"])
def test_other_names(name: str):
    assert not part_of(name)


PARTED = {"train": ("2", "7", "10", "11"), "test": ("3", "5", "8"), "val": ("21", "22")}


def parted(root: Path, train: str, val: str, *tests: str) -> Path:
    plant(root, *(f"{train}/{who}/{n}.jpg" for who in PARTED["train"] for n in (1, 2)))
    plant(root, *(f"{val}/{who}/{n}.jpg" for who in PARTED["val"] for n in (1, 2)))
    return plant(
        root, *(f"{test}/{who}/{test}{n}.jpg" for test in tests for who in PARTED["test"] for n in (1, 2))
    )


@pytest.mark.parametrize("name", ["auto", "folder"])
@pytest.mark.parametrize("train", ["Train", "training", "bounding_box_train"])
@pytest.mark.parametrize("val", ["val", "Valid", "validation", "dev"])
@pytest.mark.parametrize(
    "tests",
    [("test",), ("TESTING",), ("query", "gallery"), ("Probe", "Gallery"), ("query", "bounding_box_test")],
)
def test_parts_in_any_spelling(name: str, train: str, val: str, tests: tuple[str, ...], tmp_path: Path):
    splits = read_dataset(name, parted(tmp_path, train, val, *tests))
    assert identities(splits, "train") == set(PARTED["train"])
    assert identities(splits, "query") == identities(splits, "gallery") == set(PARTED["test"])
    assert identities(splits, "val") == set(PARTED["val"])
    assert any(val in note for note in splits.notes)


def test_copy_of_market(tmp_path: Path):
    """`pytorch/` as a widely used script prepares it: training part twice, labels in the file names."""
    parts = {"train": ("0002", "0007"), "train_all": ("0002", "0007")}
    parts |= dict.fromkeys(("query", "gallery", "multi-query"), ("0003", "0005"))
    names = [
        f"{part}/{who}/{who}_c{c}s1_000{number}{c}_01.jpg"
        for number, (part, people) in enumerate(parts.items())
        for who in people
        for c in (1, 2)
    ]
    plant(
        tmp_path / "pytorch",
        *names,
        "val/0002/0002_c1s1_000076_01.jpg",
        "gallery/-1/-1_c1s1_000401_03.jpg",
    )
    for root in (tmp_path / "pytorch", tmp_path):
        splits = read_dataset("auto", root)
        assert identities(splits, "train") == {"0002", "0007"}
        assert identities(splits, "query") == identities(splits, "gallery") == {"0003", "0005"}
        assert (len(splits.train), len(splits.query), len(splits.gallery), len(splits.val)) == (4, 4, 4, 1)
        assert {t.camera for t in splits.gallery} == {1, 2}
        assert any("train_all" in note and "multi-query" in note for note in splits.notes)


def test_market_as_downloaded(tmp_path: Path):
    names = [
        f"{who}_c{c}s1_00045{n}_03.jpg" for who in ("0005", "-1", "0000") for c in (1, 2) for n in range(2)
    ]
    plant(tmp_path / "bounding_box_test", *names)
    plant(
        tmp_path / "bounding_box_train", *(f"0002_c{c}s1_00045{n}_03.jpg" for c in (1, 2) for n in range(2))
    )
    plant(tmp_path / "query", "0005_c1s1_000151_00.jpg", "0005_c2s1_000151_00.jpg")
    plant(tmp_path / "gt_bbox", "0005_c1s1_000151_00.jpg")
    splits = read_dataset("auto", tmp_path)
    assert identities(splits, "gallery") == {"0005", "0000"}
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (4, 2, 8)
    assert labels_in_name("0002_c1s1_000451_03.jpg") == ("0002", "1")
    assert labels_in_name("holiday_c1_x.jpg") is None


@pytest.mark.parametrize(
    "names",
    [
        ["train/a/1.jpg", "query/b/1.jpg", "gallery/b/2.jpg", "extra/c/1.jpg"],
        ["market_train/a/1.jpg", "market_test/b/1.jpg", "extra/c/1.jpg"],
        ["train/a/1.jpg", "Training/b/1.jpg", "test/extra/1.jpg", "test/extra/2.jpg"],
        ["train/a/1.jpg", "query/b/1.jpg", "gallery/b/2.jpg", "test/c/1.jpg"],
        ["extra/train/a/1.jpg", "extra/test/b/1.jpg", "more/train/a/1.jpg"],
    ],
)
def test_unclear_parts_are_named(names: list[str], tmp_path: Path):
    with pytest.raises(VKDError) as error:
        read_dataset("auto", plant(tmp_path, *names))
    assert any(word in str(error.value) for word in ("extra", "market_train", "Training", "test"))


def test_identity_called_val(tmp_path: Path):
    splits = read_dataset("auto", plant(tmp_path, *people("ann", "val", "bob")))
    assert identities(splits, "train") | identities(splits, "query") == {"ann", "val", "bob"}


def test_training_and_validation_alone(tmp_path: Path):
    names = [f"{part}/{part}{i}/{n}.jpg" for part in ("train", "val") for i in "ab" for n in (1, 2)]
    splits = read_dataset("auto", plant(tmp_path, *names))
    assert identities(splits, "query") == {"vala", "valb"}
    assert any("val" in note for note in splits.notes)


# Benchmarks


def duke(root: Path, style: str, *parts: str) -> Path:
    for part in parts:
        people, tracks = (
            (range(1, 5), {1: 1, 2: 1, 3: 2}) if part == "train" else (range(11, 14), {2: 1, 3: 2, 4: 3})
        )
        tracks = {1: 1} if part == "query" else tracks
        names = [f"{who:04d}/{track:04d}/" + style.format(who=who, camera=camera, n=n)
                 for who in people for track, camera in tracks.items() for n in (1, 2)]  # fmt: skip
        plant(root / part, *names)
    return root


STYLES = ["{who:04d}_C{camera}_F{n:04d}_X{n}.jpg", "{who:04d}C{camera}F{n:04d}X{n}.jpg"]


@pytest.mark.parametrize("style", STYLES, ids=["new names", "old names"])
@pytest.mark.parametrize("capital", [False, True])
def test_duke_under_both_names(style: str, capital: bool, tmp_path: Path):
    parts = ["train", "query", "gallery"]
    root = duke(
        tmp_path, style, *(part.capitalize() if capital and part != "train" else part for part in parts)
    )
    if capital:
        root = duke(tmp_path / "again", style, *parts)
        for part in parts:
            (root / part).rename(root / part.upper())
    splits = read_dataset("auto", root)
    assert splits.name == "duke"
    assert [len(part) for part in (splits.train, splits.query, splits.gallery)] == [8, 3, 9]
    assert {t.camera for t in (*splits.train, *splits.query, *splits.gallery)} == {0, 1, 2}


@pytest.mark.parametrize("style", STYLES, ids=["new names", "old names"])
def test_duke_without_training_part(style: str, tmp_path: Path):
    splits = read_dataset("auto", duke(tmp_path, style, "query", "gallery"))
    assert (splits.name, len(splits.train), len(splits.query)) == ("duke", 0, 3)
    assert splits.notes
    with pytest.raises(VKDError, match="Duke"):
        detect_dataset(tmp_path / "gallery")
    with pytest.raises(VKDError, match="Duke"):
        read_dataset("auto", duke(tmp_path / "piece", style, "gallery"))


def mars_frames(root: Path) -> Path:
    return plant(root, *(f"{part}/{who}/{who}C{c}T0001F00{n}.jpg" for part, who in (("bbox_train", "0001"),
                 ("bbox_test", "0002")) for c in (1, 2) for n in (1, 2)))  # fmt: skip


def test_mars_without_info(tmp_path: Path):
    root = mars_frames(tmp_path / "mars")
    for given in (root, tmp_path, root / "bbox_test"):
        for read in (lambda path: read_dataset("auto", path), gallery_items):
            with pytest.raises(VKDError, match=r"MARS.*info/tracks_test_info\.mat"):
                read(given)
    assert duke_labels("0001C1T0001F001.jpg") is None
    assert read_dataset("folder", root).name == "folder"


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (["image_train/0001_c001_1_0.jpg", "image_test/0002_c001_1_0.jpg"], "VeRi-776.*test_track.txt"),
        (["cam_a/person_0001/1.jpg", "cam_b/person_0001/1.jpg"], "cam_a.*PRID-2011"),
        (["multi_shot/cam_a/person_0001/1.jpg"], "PRID-2011"),
        (["cam1/person001/1.jpg", "cam2/person001/1.jpg"], "iLIDS-VID"),
        (["rgb/test/A/001/1.jpg", "sketch/test/A/001/1.jpg"], "PRCC"),
    ],
)
def test_other_benchmarks_are_named(names: list[str], title: str, tmp_path: Path):
    with pytest.raises(VKDError, match=title):
        read_dataset("auto", plant(tmp_path, *names))


def test_msmt_is_named(tmp_path: Path):
    plant(
        tmp_path,
        "train/0000/0000_000_01_0303morning_0015_1.jpg",
        "test/0000/0000_000_01_0303morning_0015_1.jpg",
    )
    for part in ("train", "query", "gallery"):
        (tmp_path / f"list_{part}.txt").write_text("0000/0000_000_01_0303morning_0015_1.jpg 0\n")
    with pytest.raises(VKDError, match="MSMT17"):
        read_dataset("auto", tmp_path)


# What is passed over

SYSTEM = [
    "@eaDir",
    "__MACOSX",
    "lost+found",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    ".hidden",
]


@pytest.mark.parametrize("system", SYSTEM)
def test_system_folders(system: str, tmp_path: Path):
    root = plant(tmp_path, *people("ann", "bob", "cid", "dan"))
    before = folder_tracklets(root)
    for where in (root, root / "ann", root / "bob" / "c1"):
        plant(where / system / "1.jpg", "SYNOPHOTO_THUMB_M.jpg")
        plant(where / system, "x.jpg")
        (where / ".DS_Store").write_bytes(b"x")
        plant(where, "._1.jpg")
    assert folder_tracklets(root) == before
    assert counts(before) == ({"ann", "bob", "cid", "dan"}, 8, 16)
    assert read_dataset("auto", root).name == "folder"


def test_folder_named_as_an_image(tmp_path: Path):
    root = plant(tmp_path, *people("ann", "bob"))
    (root / "ann" / "c1" / "9.jpg").mkdir()
    plant(root / "ann" / "c1" / "8.jpg", "1.jpg")
    assert counts(folder_tracklets(root)) == ({"ann", "bob"}, 5, 9)


def test_unread_kinds_are_counted(tmp_path: Path):
    root = plant(tmp_path, *people("ann", "bob", "cid", "dan"))
    for name in ("ann/c1/7.HEIC", "eve/c1/1.HEIC", "eve/c2/2.heic", "bob/film.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    splits = read_dataset("auto", root)
    note = next(note for note in splits.notes if "3 .heic" in note)
    assert "1 .mp4" in note
    assert counts(folder_items(root)[:2]) == ({"ann", "bob", "cid", "dan"}, 8, 16)
    notes: list[str] = []
    assert gallery_items(root, notes=notes) == folder_tracklets(root)
    assert "3 .heic" in " ".join(notes)
    with pytest.raises(VKDError, match=r"2 \.heic"):
        folder_items(root / "eve")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_pipes_devices_and_circles(tmp_path: Path):
    root = plant(tmp_path / "mine", *people("ann", "bob"))
    os.mkfifo(root / "ann" / "c1" / "pipe.jpg")
    (root / "ann" / "c1" / "zero.jpg").symlink_to("/dev/zero")
    (root / "ann" / "c1" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "ann" / "up").symlink_to(root)
    (root / "bob" / "self").symlink_to(root / "bob" / "self")
    plant(tmp_path / "elsewhere", "back/1.jpg")
    (tmp_path / "elsewhere" / "round").symlink_to(root)
    (root / "cid").symlink_to(tmp_path / "elsewhere")
    items = folder_items(root)
    assert counts(items[:2]) == ({"ann", "bob", "cid"}, 5, 9)
    assert any("link" in note for note in items.notes)


def test_names_that_are_not_utf8(tmp_path: Path):
    root = plant(tmp_path, *people("ann", "bob"))
    bad = os.fsencode(root / "ann" / "c1") + b"/caf\xe9.jpg"
    try:
        Path(os.fsdecode(bad)).write_bytes((root / "ann" / "c1" / "1.jpg").read_bytes())
    except OSError:
        pytest.skip("this disk takes no such name")
    for read in (folder_items, lambda path: read_dataset("auto", path)):
        with pytest.raises(VKDError, match="UTF-8") as error:
            read(root)
        str(error.value).encode()
    Path(os.fsdecode(bad)).rename(os.fsdecode(os.fsencode(root) + b"/not-an-image\xe9.txt"))
    assert counts(folder_items(root)[:2])[2] == 8
    " ".join(folder_items(root).notes).encode()


@pytest.mark.parametrize("mark", OWN_OUTPUT)
def test_own_output_is_not_input(mark: str, tmp_path: Path):
    root = plant(tmp_path, *people("ann", "bob", "cid"))
    before = folder_items(root)
    (plant(root / "written", "thumbnails/00/1.jpg", "sheets/1.jpg", "2.jpg") / mark).write_text("{}")
    after = folder_items(root)
    assert after[:2] == before[:2]
    assert any("written" in note for note in after.notes)
    if inside := OWN_OUTPUT[mark]:  # into the folder of the images itself
        (plant(root, f"{inside}/1.jpg") / mark).write_text("a,b\n1,2\n")
        assert folder_items(root)[:2] == before[:2]


# Tables beside the images


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("._labels.csv", b"\0\5\26\7\0\2\0\0Mac OS X        "),
        ("notes.csv", b"date,weather\n2024-01-01,rain\n"),
        ("attributes.tsv", b"identity\tage\nann\t30\n"),
        ("broken.csv", b"\xff\xfe\xfa"),
        ("empty.csv", b""),
        ("matches.csv", b"network,rank,item,similarity,identity,camera,name,verdict,first_frame\n"),
    ],
)
def test_tables_that_list_no_images(name: str, content: bytes, tmp_path: Path):
    root = plant(tmp_path, *people("a", "b", "c", "d"))
    (root / name).write_bytes(content)
    items = folder_items(root)
    assert counts(items[:2]) == ({"a", "b", "c", "d"}, 8, 16)
    assert any(name in note for note in items.notes) == (not name.startswith("."))


def test_fork_beside_a_list(tmp_path: Path):
    plant(tmp_path, "img/1.jpg", "img/2.jpg")
    (tmp_path / "labels.csv").write_text("path,identity\nimg/1.jpg,a\nimg/2.jpg,b\n")
    (tmp_path / "._labels.csv").write_bytes(b"\0\5\26\7")
    (tmp_path / "notes.csv").write_text("date,weather\n")
    assert counts(folder_tracklets(tmp_path)) == ({"a", "b"}, 2, 2)


# Queries in the gallery


def listed(root: Path, gallery: str = "p", query: str = "p") -> Path:
    names = [f"{who}{n}.jpg" for who in "abcdef" for n in (1, 2, 3)]
    plant(root / gallery, *names)
    rows = [f"{gallery}/{name},{name[0]},gallery" for name in names]
    rows += [f"{query}/{who}1.jpg,{who},query" for who in "abcdef"]
    (root / "l.csv").write_text("\n".join(["path,identity,split", *rows]))
    return root / "l.csv"


@pytest.mark.parametrize("linked", ["same path", "link", "hard link", "other spelling"])
def test_query_does_not_find_itself(linked: str, tmp_path: Path):
    table = listed(tmp_path, query={"same path": "p", "other spelling": "p/../p"}.get(linked, "q"))
    if linked == "link":
        (tmp_path / "q").symlink_to(tmp_path / "p")
    elif linked == "hard link":
        (tmp_path / "q").mkdir()
        for who in "abcdef":
            os.link(tmp_path / "p" / f"{who}1.jpg", tmp_path / "q" / f"{who}1.jpg")
    splits = read_dataset("folder", table, check=linked != "other spelling")
    for protocol in ("i2v", "v2v", "i2i", "v2i"):
        queries, gallery = splits.query_gallery(protocol)
        for query in queries:
            matches = [t for t in gallery if t.identity == query.identity and t.camera != query.camera]
            assert len(matches) == 2, "the other two of three, which stay matches"
            assert {t.camera for t in matches} == {UNKNOWN_CAMERA}
    assert any("6 queries" in note for note in splits.notes)


def test_copies_under_another_name_get_a_note(tmp_path: Path):
    table = listed(tmp_path, query="q")
    (tmp_path / "q").mkdir()
    for who in "abcdef":
        (tmp_path / "q" / f"{who}1.jpg").write_bytes((tmp_path / "p" / f"{who}1.jpg").read_bytes())
    splits = read_dataset("folder", table)
    assert {t.camera for t in splits.query} == {UNKNOWN_CAMERA}
    assert any("6 queries" in note and "copy" in note for note in splits.notes)
