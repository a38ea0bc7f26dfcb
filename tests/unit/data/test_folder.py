"""Own images: layouts, splits and errors."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vkd.data.datasets import (
    UNKNOWN_CAMERA,
    UNKNOWN_IDENTITY,
    Tracklet,
    folder_tracklets,
    read_dataset,
    valid_queries,
)
from vkd.data.folder import choose_queries, natural, numbered
from vkd.io.errors import MissingFileError, VKDError


def plant(root: Path, *names: str) -> Path:
    """Writes small images below `root`."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), "navy").save(path)
    return root


def people(identities: int, cameras: int, frames: int = 2) -> list[str]:
    return [
        f"person{i}/cam{c}/frame{f}.jpg"
        for i in range(1, identities + 1)
        for c in range(1, cameras + 1)
        for f in range(frames)
    ]


def test_identity_and_camera_folders(tmp_path: Path):
    splits = read_dataset("folder", plant(tmp_path, *people(identities=6, cameras=3)))
    assert len(splits.labels()) == 3
    assert len({t.identity for t in splits.query}) == 3
    assert {t.camera for t in splits.train} == {0, 1, 2}
    assert all(len(t.frames) == 2 for t in splits.train)
    assert valid_queries(*splits.query_gallery("v2v")) == len(splits.query) == 9
    assert set(splits.names.values()) == {f"person{i}" for i in range(1, 7)}
    assert splits.queries_in_gallery


def test_split_depends_on_names_and_seed(tmp_path: Path):
    first = plant(tmp_path / "a", *people(9, 2))
    second = plant(tmp_path / "b", *reversed(people(9, 2)))

    def trained(root: Path, **options) -> set[str]:
        splits = read_dataset("folder", root, **options)
        return {splits.names[identity] for identity in splits.labels()}

    assert trained(first) == trained(second)
    assert len({frozenset(trained(first, seed=seed)) for seed in range(5)}) > 1
    assert len(trained(first, held_out=0.2)) == 7
    assert trained(first, held_out=1.0) == set()
    with pytest.raises(VKDError, match="held_out"):
        read_dataset("folder", first, held_out=0)


def test_identity_folders_without_cameras(tmp_path: Path):
    splits = read_dataset(
        "folder", plant(tmp_path, *(f"{i}/{f}.jpg" for i in (3, 5, 8, 9) for f in range(3)))
    )
    assert {t.camera for t in splits.train} == {UNKNOWN_CAMERA}
    assert {*splits.labels(), *(t.identity for t in splits.query)} == {3, 5, 8, 9}
    assert all(len(t.frames) == 1 for t in splits.train + splits.gallery_only)
    assert not splits.queries_in_gallery
    assert not set(splits.query) & set(splits.gallery_only)
    assert valid_queries(*splits.query_gallery("i2i")) == 2


def test_one_camera(tmp_path: Path):
    root = plant(
        tmp_path, *(f"{split}/{i}/cam1/{split}{i}.jpg" for split in ("query", "gallery") for i in (1, 2))
    )
    with pytest.raises(VKDError, match="cameras='none'"):
        read_dataset("folder", root)
    assert valid_queries(*read_dataset("folder", root, cameras="none").query_gallery("v2v")) == 2
    several = plant(tmp_path / "several", *(f"{i}/cam1/walk{n}/a.jpg" for i in (1, 2) for n in (1, 2)))
    with pytest.raises(VKDError, match="cameras='none'"):
        read_dataset("folder", several)
    assert valid_queries(*read_dataset("folder", several, cameras="none").query_gallery("v2v")) == 1
    with pytest.raises(VKDError, match="some"):
        read_dataset("folder", root, cameras="some")


def test_single_tracklets(tmp_path: Path):
    root = plant(tmp_path, "ann/1/a.jpg", "bob/1/a.jpg")
    with pytest.raises(VKDError, match="0 valid queries"):
        read_dataset("folder", root)


def test_split_folders(tmp_path: Path):
    root = plant(
        tmp_path,
        "train/ann/1/a.jpg",
        "train/bob/2/a.jpg",
        "query/cid/1/a.jpg",
        "gallery/cid/2/a.jpg",
        "gallery/cid/2/b.jpg",
        "gallery/dan/1/a.jpg",
    )
    splits = read_dataset("folder", root)
    assert [splits.names[t.identity] for t in splits.train] == ["ann", "bob"]
    assert [splits.names[t.identity] for t in splits.query] == ["cid"]
    assert [(splits.names[t.identity], t.camera, len(t.frames)) for t in splits.gallery_only] == [
        ("cid", 2, 2),
        ("dan", 1, 1),
    ]
    assert len(splits.gallery_only_images) == 3
    assert not splits.queries_in_gallery


def test_test_folder(tmp_path: Path):
    root = plant(tmp_path, "train/ann/1/a.jpg", *(f"test/{name}/{c}/a.jpg" for name in "xy" for c in (1, 2)))
    splits = read_dataset("folder", root)
    assert [splits.names[i] for i in splits.labels()] == ["ann"]
    assert valid_queries(*splits.query_gallery("v2v")) == 4


def test_query_without_gallery(tmp_path: Path):
    with pytest.raises(VKDError, match="gallery"):
        read_dataset("folder", plant(tmp_path, "query/cid/1/a.jpg", "train/ann/1/a.jpg"))


def test_tracklet_folders(tmp_path: Path):
    root = plant(tmp_path, *(f"ann/c1/{track}/frame{f}.png" for track in "ab" for f in (10, 9, 100, 1)))
    (root / ".cache").mkdir()
    (root / "ann" / "notes.txt").write_text("not a picture")
    tracklets, names = folder_tracklets(root)
    assert [(t.identity, t.camera) for t in tracklets] == [(1, 0), (1, 0)]
    assert names == {1: "ann"}
    assert [Path(f).stem for f in tracklets[0].frames] == ["frame1", "frame9", "frame10", "frame100"]


def test_flat_folder(tmp_path: Path):
    root = plant(tmp_path, "b.jpg", "a.PNG", "c.webp")
    tracklets, _ = folder_tracklets(root)
    assert [Path(t.frames[0]).name for t in tracklets] == ["a.PNG", "b.jpg", "c.webp"]
    assert {(t.identity, t.camera) for t in tracklets} == {(UNKNOWN_IDENTITY, UNKNOWN_CAMERA)}
    with pytest.raises(VKDError, match="<identity>/<camera>/"):
        read_dataset("folder", root)


def test_no_images(tmp_path: Path):
    with pytest.raises(VKDError, match=str(tmp_path)):
        folder_tracklets(tmp_path)
    with pytest.raises(MissingFileError, match="nowhere"):
        folder_tracklets(tmp_path / "nowhere")
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(VKDError, match=r"a\.pdf"):
        folder_tracklets(tmp_path / "a.pdf")


CSV = """path,identity,camera,tracklet,split
p/1.jpg,ann,door,t1,train
p/2.jpg,ann,door,t1,train
p/3.jpg,bob,door,t2,train
p/4.jpg,cid,door,t3,query
p/5.jpg,cid,yard,t4,gallery
"""


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(delimiter: str, tmp_path: Path):
    plant(tmp_path, *(f"p/{n}.jpg" for n in range(1, 6)))
    table = tmp_path / "labels.csv"
    table.write_text("\ufeff" + CSV.replace(",", delimiter), encoding="utf-8")
    splits = read_dataset("folder", table)
    assert [(splits.names[t.identity], t.camera, len(t.frames)) for t in splits.train] == [
        ("ann", 0, 2),
        ("bob", 0, 1),
    ]
    assert valid_queries(*splits.query_gallery("v2v")) == 1
    assert read_dataset("folder", tmp_path).train == splits.train, (
        "the folder that holds the only CSV will do"
    )


def test_csv_with_paths_and_identities(tmp_path: Path):
    plant(tmp_path, *(f"{n}.jpg" for n in range(8)))
    (tmp_path / "labels.csv").write_text("Image,PID\n" + "".join(f"{n}.jpg,{n // 2}\n" for n in range(8)))
    splits = read_dataset("folder", tmp_path / "labels.csv")
    assert sorted({*splits.labels(), *(t.identity for t in splits.query)}) == [0, 1, 2, 3]
    assert all(len(t.frames) == 1 for t in splits.train)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,camera\nx.jpg,1\n", "file, camera"),
        ("", "path and identity"),
        ("path,identity,split\nx.jpg,1,later\n", "line 2 has the split 'later'"),
        ("path,identity\n,1\n", "line 2 has no path"),
        ("path,identity\n", "labels.csv"),
        ("path,identity\ngone.jpg,1\ngone2.jpg,1\n", r"gone\.jpg .*2 of 2"),
    ],
)
def test_csv_errors(text: str, reason: str, tmp_path: Path):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(VKDError, match=reason):
        read_dataset("folder", tmp_path / "labels.csv")


def test_two_csv_files(tmp_path: Path):
    (tmp_path / "a.csv").write_text("path,identity\n")
    (tmp_path / "b.csv").write_text("path,identity\n")
    with pytest.raises(VKDError, match="2 CSV"):
        folder_tracklets(tmp_path)


tracklets = st.lists(
    st.builds(
        lambda n, i, c: Tracklet((f"{n}.jpg",), i, c), st.integers(), st.integers(0, 3), st.integers(-1, 2)
    ),
    unique_by=lambda t: t.frames,
    max_size=12,
)


@given(tracklets)
def test_choose_queries(items: list[Tracklet]):
    queries, gallery, returning = choose_queries(items)
    assert sorted(queries + gallery) == sorted(items)
    assert valid_queries(queries, queries + gallery if returning else gallery) == len(queries)
    if valid_queries(items, items) and returning:
        assert queries
    if returning:
        assert all(t.camera != UNKNOWN_CAMERA for t in items)


def test_numbered():
    assert numbered(["10", "9", "0"], first=1) == {"0": 0, "9": 9, "10": 10}
    assert numbered(["b", "a", "a10", "a9"], first=1) == {"a": 1, "a9": 2, "a10": 3, "b": 4}
    assert set(numbered(["01", "1"], first=5).values()) == {5, 6}


@given(
    st.lists(st.integers(0, 10**6), min_size=1),
    st.text(max_size=3).filter(lambda s: not any(c.isdigit() for c in s)),
)
def test_natural_order(numbers: list[int], word: str):
    assert sorted((f"{word}{n}" for n in numbers), key=natural) == [f"{word}{n}" for n in sorted(numbers)]
