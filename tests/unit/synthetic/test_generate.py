"""The street on disk: the same bytes from the same seed, masks, and the benchmarks' own files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from vkd.data.datasets import mask_path, read_dataset
from vkd.io.errors import CancelledError, VKDError
from vkd.synthetic.generate import contact_sheet, generate_street
from vkd.synthetic.layouts import LAYOUTS

SMALL = {"train_identities": 3, "test_identities": 2, "group": 2, "cameras": 2, "frames": 2, "size": (32, 16)}


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def mars(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("street") / "mars"
    return generate_street(root, **SMALL, tracklets_per_camera=2, distractors=3, junk=1, seed=5)


def test_same_bytes_for_any_number_of_workers(tmp_path):
    calls: list[tuple] = []
    options = {**SMALL, "seed": 3, "progress": lambda *call: calls.append(call)}
    one = contents(generate_street(tmp_path / "one", **options))
    assert contents(generate_street(tmp_path / "two", **options, workers=2)) == one
    assert [call[:2] for call in calls] == [(done, 5) for done in range(6)] * 2


def test_seeds_give_other_people(tmp_path):
    one, two = (contents(generate_street(tmp_path / str(seed), **SMALL, seed=seed)) for seed in (1, 2))
    assert one.keys() == two.keys()
    assert not any(one[name] == two[name] for name in one if name.endswith(".jpg"))


def test_people_are_independent(tmp_path):
    few = contents(generate_street(tmp_path / "few", **SMALL))
    many = contents(generate_street(tmp_path / "many", **{**SMALL, "train_identities": 4}))
    assert few["bbox_train/0001/0001C1T0001F001.jpg"] == many["bbox_train/0001/0001C1T0001F001.jpg"]


def test_description(mars):
    description = json.loads((mars / "street.json").read_text())
    expected = {"layout": "mars", "seed": 5, "size": [32, 16], "distractors": 3}
    assert expected.items() <= description.items()
    assert [len(ring) for ring in description["views"]] == [2]
    assert {description["people"][identity]["part"] for identity in "123"} == {"train"}


def test_rings_of_test_cameras(tmp_path):
    options = {**SMALL, "train_identities": 12, "rings": 4, "frames": 1}
    root = generate_street(tmp_path / "street", **options)
    description = json.loads((root / "street.json").read_text())
    assert [len(ring) for ring in description["views"]] == [2] * 5
    scenes = [camera["scene"] for ring in description["views"] for camera in ring]
    assert len(set(scenes)) == len(scenes)
    people = description["people"].values()
    assert {ring for one in people if one["part"] == "test" for ring in one["rings"]} == {4}
    assert {ring for one in people if one["part"] == "train" for ring in one["rings"]} == {0, 1, 2, 3}
    assert contents(generate_street(tmp_path / "again", **options, workers=2)) == contents(root)


def test_contact_sheet():
    sheet = contact_sheet(group=2, cameras=3, size=(64, 32))
    assert sheet.height > 2 * 64
    assert sheet.width > 3 * 32
    assert sheet.tobytes() == contact_sheet(group=2, cameras=3, size=(64, 32)).tobytes()


# Layouts


def test_mars_files(mars):
    info = mars / "info"
    names = (info / "test_name.txt").read_text().split()
    rows = loadmat(info / "tracks_test_info.mat")["track_test_info"]
    queries = loadmat(info / "query_IDX.mat")["query_IDX"]
    assert rows.shape == (1 + 3 + 2 * 2 * 2, 4)
    assert rows.dtype == np.int32
    assert rows[0].tolist() == [1, 2, -1, 1]  # counted from 1, last frame included
    assert (rows[1:, 0] == rows[:-1, 1] + 1).all()
    assert rows[-1, 1] == len(names)
    assert set(rows[:, 3]) == {1, 2}
    assert queries.shape == (1, 4), "one query tracklet of each test identity and camera"
    assert len({tuple(rows[index - 1, 2:]) for index in queries[0]}) == 4
    for start, end, identity, camera in rows:
        label = "00-1" if identity < 0 else f"{identity:04d}"
        for name in names[start - 1 : end]:
            assert name.startswith(f"{label}C{camera}T")
            assert (mars / "bbox_test" / label / name).is_file()
    assert len((info / "train_name.txt").read_text().split()) == 3 * 2 * 2 * 2
    assert loadmat(info / "tracks_train_info.mat")["track_train_info"].shape == (12, 4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_readers(tmp_path, layout):
    root = generate_street(tmp_path / "street", **SMALL, layout=layout)
    splits = read_dataset(layout, root)
    assert {track.identity for track in splits.train} == {1, 2, 3}
    assert {track.identity for track in splits.query} == {4, 5}
    assert {track.camera for track in splits.train} == {0, 1}
    assert len(splits.train) == 6
    assert len(splits.query) == (2 if layout == "duke" else 4)
    for frame in splits.frames():
        with Image.open(frame) as image, Image.open(mask_path(root, frame)) as mask:
            assert image.size == (16, 32)
            assert mask.mode == "L"
            assert set(np.unique(mask)) == {0, 255}


def test_veri_lists(tmp_path):
    root = generate_street(tmp_path / "street", **SMALL, layout="veri")
    line, *_ = (root / "test_track.txt").read_text().splitlines()
    track, *names = line.split()
    assert line.endswith(" "), "the official list ends its lines with a space"
    assert track == "0004_c001_1.jpg"
    assert all((root / "image_test" / name).is_file() for name in names)
    for name in (root / "name_query.txt").read_text().split():
        assert (root / "image_query" / name).read_bytes() == (root / "image_test" / name).read_bytes()


def test_masks_are_optional(tmp_path):
    root = generate_street(tmp_path / "street", **SMALL, masks=False)
    assert not (root / "masks").exists()


# Errors


def test_folder_that_is_not_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(VKDError, match=str(tmp_path)):
        generate_street(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ["new/street", "."])
def test_new_and_empty_folders(tmp_path, name):
    (tmp_path / "empty").mkdir()
    assert (generate_street(tmp_path / "empty" / name, **SMALL) / "info").is_dir()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"layout": "market"}, "mars, duke, veri"),
        ({"difficulty": 1.5}, "difficulty"),
        ({"cameras": 1}, "cameras .* 2 to 9"),
        ({"frames": 0}, "frames"),
        ({"size": (8, 4)}, "size"),
        ({"workers": 0}, "workers"),
        ({"layout": "duke", "junk": 1}, "mars"),
    ],
)
def test_arguments_out_of_range(tmp_path, wrong, words):
    with pytest.raises(VKDError, match=words):
        generate_street(tmp_path / "street", **{**SMALL, **wrong})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_cancelled_work_leaves_nothing(tmp_path, workers):
    def cancel(done: int, total: int, what: str) -> None:
        if done:
            raise CancelledError(what)

    with pytest.raises(CancelledError):
        generate_street(tmp_path / "street", **SMALL, progress=cancel, workers=workers)
    assert not list(tmp_path.iterdir())
