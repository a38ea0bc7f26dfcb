"""A gallery answers as brute force does, survives moving and rebuilding, and says what is wrong with it."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vkd.data.datasets import Tracklet, folder_tracklets
from vkd.io.errors import MissingFileError, VKDError
from vkd.models import checkpoint
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import EmbedConfig, embed
from vkd.retrieval import storage
from vkd.retrieval.gallery import Gallery
from vkd.retrieval.index import normalise
from vkd.retrieval.indexing import fingerprint
from vkd.retrieval.rerank import rerank


def picture(path: Path, seed: int, size: tuple[int, int] = (32, 64)) -> str:
    """A picture of coarse coloured patches, so that a network sees differences."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(seed).integers(0, 256, (4, 2, 3), dtype=np.uint8)
    Image.fromarray(patches).resize(size, Image.Resampling.NEAREST).save(path)
    return str(path)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> list[Tracklet]:
    """Six identities under three cameras, three pictures each; then two single pictures of nobody known."""
    root = tmp_path_factory.mktemp("people")
    items = []
    for identity in range(6):
        for camera in range(3):
            names = [root / f"{identity}/{camera}/{frame}.png" for frame in range(3)]
            frames = tuple(
                picture(name, 100 * identity + 10 * camera + place) for place, name in enumerate(names)
            )
            items.append(Tracklet(frames, identity, camera))
    return [*items, *(Tracklet((picture(root / f"x{seed}.jpg", seed, (50, 40)),), -1, -1) for seed in (7, 8))]


@pytest.fixture(scope="module")
def pair(tiny_pair) -> dict[str, Checkpoint]:
    return {folder.name: checkpoint.load(folder) for folder in tiny_pair}


@pytest.fixture(scope="module")
def gallery(people, pair, tmp_path_factory) -> Gallery:
    return Gallery.build(tmp_path_factory.mktemp("made") / "gallery", people, pair, names={3: "Ada"})


@pytest.fixture
def copy(gallery, tmp_path) -> Path:
    """The same gallery elsewhere, to be damaged."""
    return shutil.copytree(gallery.folder, tmp_path / "copy")


def embedded(people, net: Checkpoint) -> np.ndarray:
    return embed(net.net, people, EmbedConfig.of(net.config))


@pytest.mark.parametrize("network", ["tiny-teacher", "tiny-student"])
def test_search(gallery, people, pair, network):
    features = normalise(embedded(people, pair[network]))
    np.testing.assert_allclose(gallery.embeddings(network), features, atol=1e-6)
    query = np.random.default_rng(0).standard_normal(32)
    cosines = features @ normalise(query[None])[0]
    hits = gallery.search(network, query, k=20)
    assert [hit.item for hit in hits] == list(np.argsort(-cosines))
    assert [hit.rank for hit in hits] == list(range(1, 21))
    np.testing.assert_allclose([hit.similarity for hit in hits], np.sort(cosines)[::-1], atol=1e-5)


def test_hit(gallery, people):
    hit = gallery.search("tiny-teacher", gallery.embeddings("tiny-teacher")[10], k=1)[0]
    assert (hit.item, hit.identity, hit.camera, hit.name) == (10, 3, 1, "Ada")
    assert hit.frames == people[10].frames
    assert [path.name for path in hit.thumbnails] == ["10-0.jpg", "10-1.jpg", "10-2.jpg"]
    assert hit.thumbnail == hit.thumbnails[0]
    assert hit.similarity == pytest.approx(1, abs=1e-5)
    with Image.open(hit.thumbnail) as image:
        assert (image.format, image.size) == ("JPEG", (64, 128))
    unknown = gallery.search("tiny-teacher", gallery.embeddings("tiny-teacher")[19], k=1)[0]
    assert (unknown.identity, unknown.camera, unknown.name) == (-1, -1, "")
    assert [path.name for path in unknown.thumbnails] == ["19.jpg"]


def test_views_are_averaged(gallery):
    views = np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)
    expected = gallery.search("tiny-teacher", views.mean(axis=0))
    assert gallery.search("tiny-teacher", views) == expected
    assert gallery.search("tiny-teacher", torch.from_numpy(views)) == expected
    assert gallery.search("tiny-teacher", torch.from_numpy(views).requires_grad_()) == expected


def test_verdicts(gallery):
    query = gallery.embeddings("tiny-teacher")[4]  # identity 1, camera 1
    hits = gallery.search("tiny-teacher", query, k=20, identity=1, camera=1)
    for hit in hits:
        expected = {-1: "unknown", 1: "junk" if hit.camera == 1 else "correct"}.get(hit.identity, "incorrect")
        assert hit.verdict == expected
    assert hits[0].verdict == "junk"  # the query's own tracklet
    for unlabelled in ({}, {"identity": -1, "camera": 1}, {"camera": 1}):
        verdicts = {hit.verdict for hit in gallery.search("tiny-teacher", query, **unlabelled)}
        assert verdicts == {"unknown"}
    for camera in (None, -1):
        hits = gallery.search("tiny-teacher", query, k=20, identity=1, camera=camera)
        assert "junk" not in {hit.verdict for hit in hits}


def test_junk_and_k(gallery):
    query = gallery.embeddings("tiny-teacher")[4]
    hits = gallery.search("tiny-teacher", query, k=3, identity=1, camera=1)
    assert [hit.verdict == "junk" for hit in hits].count(False) == 3
    assert hits[-1].verdict != "junk"
    assert len(gallery.search("tiny-teacher", query, k=3)) == 3


@pytest.mark.parametrize("cameras", [{0}, {1, 2}, {0, 1, 2}, {5}, set()])
def test_cameras(gallery, cameras):
    query = np.random.default_rng(2).standard_normal(32)
    hits = gallery.search("tiny-student", query, k=100, cameras=cameras)
    everything = gallery.search("tiny-student", query, k=100)
    assert [hit.item for hit in hits] == [hit.item for hit in everything if hit.camera in cameras]


@pytest.mark.parametrize("index", ["exact", "ivf", "hnsw"])
def test_rerank(people, pair, index, tmp_path):
    gallery = Gallery.build(tmp_path / "g", people, pair, index=index)
    query = np.random.default_rng(3).standard_normal(32)
    distances = rerank(query[None], gallery.embeddings("tiny-teacher"))[0]
    hits = gallery.search("tiny-teacher", query, k=20, rerank=True)
    np.testing.assert_allclose([distances[hit.item] for hit in hits], np.sort(distances), atol=1e-6)
    first = gallery.search("tiny-teacher", query, k=5, rerank=True)
    assert [hit.item for hit in first] == [hit.item for hit in hits[:5]]


def test_rerank_top(gallery):
    query = np.random.default_rng(4).standard_normal(32)
    best = {hit.item for hit in gallery.search("tiny-teacher", query, k=8)}
    assert {hit.item for hit in gallery.search("tiny-teacher", query, k=8, rerank=8)} == best


def test_load(copy, gallery, people):
    table = json.loads((copy / "gallery.json").read_text())
    assert (
        "thumbnail" not in (copy / "gallery.json").read_text()
    )  # nothing in it points into or out of the folder
    assert table["frames"][0][0] == "0/0/0.png"  # stored below their common folder
    again = Gallery.load(copy)
    query = np.random.default_rng(5).standard_normal(32)
    there, here = (g.search("tiny-student", query, k=20) for g in (gallery, again))
    assert [hit._replace(thumbnail=Path(), thumbnails=()) for hit in there] == [
        hit._replace(thumbnail=Path(), thumbnails=()) for hit in here
    ]
    assert all(hit.thumbnail.is_relative_to(copy) for hit in here)
    assert (len(again), again.networks, again.cameras) == (20, ["tiny-teacher", "tiny-student"], [0, 1, 2])
    assert again.item(4).frames[0] == people[4].frames[0]


def test_threads(gallery):
    queries = np.random.default_rng(6).standard_normal((40, 32))

    def search(query):
        return gallery.search("tiny-teacher", query, k=5, cameras={0, 2}, identity=1, camera=0, rerank=True)

    alone = [search(query) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(search, queries)) == alone


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"network": "resnet"}, "tiny-teacher, tiny-student"),
        ({"query": np.ones(31)}, "32"),
        ({"query": np.ones((0, 32))}, "32"),
        ({"query": np.zeros(32)}, "not finite"),
        ({"query": np.full(32, np.nan)}, "not finite"),
        ({"k": 0}, "not 0"),
    ],
)
def test_invalid_search(gallery, wrong, sentence):
    with pytest.raises(VKDError, match=sentence):
        gallery.search(**{"network": "tiny-teacher", "query": np.ones(32), **wrong})


class TestBuilding:
    def test_unreadable_images(self, pair, tmp_path):
        root = tmp_path / "folder"
        for frame in range(4):
            picture(root / f"ann/0/{frame}.png", frame)
        picture(root / "bob/1/0.png", 9)
        (root / "ann/0/2.png").write_bytes(b"not a picture")
        (root / "bob/1/0.png").write_bytes(b"")
        gallery = Gallery.build(tmp_path / "g", folder_tracklets(root)[0], pair)
        assert len(gallery) == 1
        assert [Path(frame).name for frame in dict.fromkeys(gallery.item(0).frames)] == [
            "0.png",
            "1.png",
            "3.png",
        ]
        assert {Path(path).parts[-3]: reason for path, reason in gallery.skipped}.keys() == {"ann", "bob"}
        assert all(path in reason for path, reason in gallery.skipped)
        assert Gallery.load(gallery.folder).skipped == gallery.skipped

    def test_gallery_beside_its_images_is_no_input(self, pair, tmp_path):
        for frame in range(4):
            picture(tmp_path / f"{'ann' if frame < 2 else 'bob'}/0/{frame}.png", frame)
        for target in ("gallery", "gallery", "deep/er/gallery"):
            gallery = Gallery.build(tmp_path / target, folder_tracklets(tmp_path)[0], pair)
            assert [len({*gallery.item(row).frames}) for row in range(len(gallery))] == [2, 2]

    def test_strange_files_end_no_index(self, pair, tmp_path):
        picture(tmp_path / "ann/0/0.png", 0)
        (tmp_path / "ann/0/1.jpg").write_bytes(b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\xff" * 8 + b"\0\10\0\3")
        (tmp_path / "ann/0/2.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
        (tmp_path / "ann/0/3.jpg").symlink_to("/dev/zero")
        gallery = Gallery.build(tmp_path / "g", [Tracklet(tuple(f"{tmp_path}/ann/0/{n}" for n in
            ("0.png", "1.jpg", "2.jpg", "3.jpg")), 1, 0)], pair)  # fmt: skip
        assert len(gallery.skipped) == 3

    def test_long_tracklet(self, pair, tmp_path):
        frames = tuple(picture(tmp_path / f"{frame:02}.png", frame) for frame in range(17))
        gallery = Gallery.build(tmp_path / "g", [Tracklet(frames, 1, 0)], pair)
        expected = normalise(embedded([Tracklet(frames, 1, 0)], pair["tiny-teacher"]))
        np.testing.assert_allclose(gallery.embeddings("tiny-teacher"), expected, atol=1e-6)
        assert len(gallery.thumbnails(0)) == 7  # 0 3 6 9 12 15 16 16: seven views

    def test_nothing_readable(self, pair, tmp_path):
        (tmp_path / "bad.jpg").write_bytes(b"no")
        with pytest.raises(VKDError, match=r"bad\.jpg"):
            Gallery.build(tmp_path / "g", [Tracklet((str(tmp_path / "bad.jpg"),), 1, 0)], pair)
        assert [path.name for path in tmp_path.iterdir()] == ["bad.jpg"]

    def test_rebuild(self, copy, people, pair):
        Gallery.build(copy, people[:3], pair)
        assert len(Gallery.load(copy)) == 3

        def broken(done: int, total: int, what: str) -> None:
            if done:
                raise OSError("the disk is full")

        with pytest.raises(OSError, match="disk is full"):
            Gallery.build(copy, people, pair, progress=broken)
        assert len(Gallery.load(copy)) == 3
        assert [path.name for path in copy.parent.iterdir()] == ["copy"]

    def test_folder_of_something_else(self, people, pair, tmp_path):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(VKDError, match=re.escape(str(tmp_path))):
            Gallery.build(tmp_path, people, pair)
        with pytest.raises(VKDError, match=r"thesis\.tex"):
            Gallery.build(tmp_path / "thesis.tex", people, pair)
        assert (tmp_path / "thesis.tex").read_text() == "years of work"

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"tracklets": []}, "empty"),
            ({"networks": {}}, "at least one model"),
            ({"index": "tree"}, "exact, ivf, hnsw"),
            ({"views": 0}, "not 0"),
        ],
    )
    def test_invalid_request(self, people, pair, tmp_path, wrong, sentence):
        request = {"tracklets": people, "networks": pair, **wrong}
        with pytest.raises(VKDError, match=sentence):
            Gallery.build(tmp_path / "g", **request)

    @pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 129])
    def test_network_names(self, people, pair, tmp_path, name):
        with pytest.raises(VKDError, match=re.escape(f"'{name}'")):
            Gallery.build(tmp_path / "g", people, {name: pair["tiny-teacher"]})

    def test_progress(self, people, pair, tmp_path):
        calls: list[tuple[int, int, str]] = []
        Gallery.build(tmp_path / "g", people, pair, progress=lambda *each: calls.append(each))
        steps = {what: (done, total) for done, total, what in calls}
        assert list(steps) == ["reading images", *(f"embedding with {name}" for name in pair)]
        assert set(steps.values()) == {(20, 20)}


class TestAnotherNetwork:
    def test_add_network(self, people, pair, copy, tmp_path):
        gallery = Gallery.build(tmp_path / "g", people, {"one": pair["tiny-teacher"]})
        gallery.add_network("two", pair["tiny-student"])
        for each in (gallery, Gallery.load(gallery.folder)):
            assert each.networks == ["one", "two"]
            np.testing.assert_allclose(
                each.embeddings("two"), Gallery.load(copy).embeddings("tiny-student"), atol=1e-6
            )

    def test_thumbnails_stand_in(self, pair, tmp_path):
        frames = [(picture(tmp_path / f"pictures/{seed}.png", seed),) for seed in range(5)]
        items = [Tracklet(frame, seed, 0) for seed, frame in enumerate(frames)]
        gallery = Gallery.build(tmp_path / "g", items, {"one": pair["tiny-teacher"]})
        shutil.rmtree(tmp_path / "pictures")
        gallery.add_network("two", pair["tiny-teacher"])
        cosine = (gallery.embeddings("one") * gallery.embeddings("two")).sum(axis=1)
        assert (cosine > 0.99).all()
        assert (
            json.loads((gallery.folder / "gallery.json").read_text())["networks"]["two"]["source"]
            == "thumbnails"
        )

    def test_other_weights(self, gallery, pair):
        gallery.check("tiny-teacher", pair["tiny-teacher"].net)
        with pytest.raises(VKDError, match="tiny-teacher"):
            gallery.check("tiny-teacher", pair["tiny-student"].net)
        assert fingerprint(pair["tiny-teacher"].net) != fingerprint(pair["tiny-student"].net)


class TestDamage:
    """Every kind of damage is one sentence that names the file."""

    def test_no_gallery(self, tmp_path):
        with pytest.raises(MissingFileError, match=r"gallery\.json"):
            Gallery.load(tmp_path)

    @pytest.mark.parametrize("name", ["tiny-teacher.faiss", "thumbnails/10-1.jpg", "thumbnails/19.jpg"])
    def test_missing_file(self, copy, name):
        (copy / name).unlink()
        with pytest.raises(MissingFileError, match=name.split("/")[-1]):
            Gallery.load(copy)

    def test_damaged_index(self, copy):
        path = copy / "tiny-teacher.faiss"
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        with pytest.raises(VKDError, match=r"tiny-teacher\.faiss"):
            Gallery.load(copy)
        shutil.copy(copy / "tiny-student.faiss", path)
        with pytest.raises(VKDError, match=r"tiny-teacher\.faiss"):
            Gallery.load(copy)

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "null", '{"version": 99}', '{"version": "1"}', "[" * 100_000]
    )
    def test_no_record(self, copy, text):
        (copy / "gallery.json").write_text(text)
        with pytest.raises(VKDError, match=r"gallery\.json"):
            Gallery.load(copy)

    @pytest.mark.parametrize(
        "change",
        [
            {"identities": [1]},
            {"identities": None},
            {"identities": ["a"] * 20},
            {"cameras": [0.5] * 20},
            {"frames": [[1]] * 20},
            {"frames": 3},
            {"views": [0] * 20},
            {"views": [True] * 20},
            {"networks": {}},
            {"networks": []},
            {"networks": {"../x": {}}},
            {"networks": {"x": {"index": "exact"}}},
            {"skipped": [1]},
            {"root": 5},
        ],
    )
    def test_invalid_record(self, copy, change):
        path = copy / "gallery.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(VKDError, match=r"gallery\.json"):
            Gallery.load(copy)

    def test_other_width(self, copy):
        path = copy / "gallery.json"
        table = json.loads(path.read_text())
        table["networks"]["tiny-teacher"]["width"] = 64
        path.write_text(json.dumps(table))
        with pytest.raises(VKDError, match="20 rows of 32"):
            Gallery.load(copy)


def test_gallery_of_0_1_0():
    """The one that ships."""
    gallery = Gallery.load(Path(__file__).parents[3] / "checkpoints" / "street-gallery")
    assert (len(gallery), len(gallery.networks)) == (180, 2)
    name = gallery.networks[0]
    hits = gallery.search(name, gallery.embedding(name, 5), 3)
    assert (hits[0].item, len(hits)) == (5, 3)


def test_file_names_that_are_not_utf8(gallery, tmp_path):
    record = storage.read(gallery.folder / "gallery.json")
    frames = (("/data/\udcff.jpg",), *record.frames[1:])
    storage.write(tmp_path / "gallery.json", record.model_copy(update={"frames": frames}))
    assert storage.read(tmp_path / "gallery.json").frames == frames
