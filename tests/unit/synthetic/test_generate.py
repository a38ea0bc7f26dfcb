"""The synthetic street: the same bytes from the same seed, exact masks, and the benchmarks' own files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from vkd.data import datasets
from vkd.synthetic.appearance import Look, look_alikes
from vkd.synthetic.camera import Camera, camera_ring
from vkd.synthetic.generate import LAYOUTS, contact_sheet, render, write_street
from vkd.synthetic.motion import Moment, Occluder, walk

SMALL = {"train_identities": 3, "test_identities": 2, "group": 2, "cameras": 2, "frames": 2, "size": (32, 16)}


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def mars(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("street") / "mars"
    return write_street(root, **SMALL, tracklets_per_camera=2, distractors=3, junk=1, seed=5)


@pytest.fixture(scope="module")
def front() -> Camera:
    """A camera that sees walkers from the front, without sun (so no shadow gives a detail away)."""
    return replace(camera_ring(6, 0)[0], azimuth=0.0, elevation=0.1, sun=0.0)


def seen_from(camera: Camera, degrees: float) -> Camera:
    return replace(camera, azimuth=np.radians(degrees))


class TestBytes:
    def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(self, tmp_path):
        one = contents(write_street(tmp_path / "one", **SMALL, seed=3))
        assert contents(write_street(tmp_path / "two", **SMALL, seed=3, workers=2)) == one

    def test_another_seed_gives_other_people(self, tmp_path):
        one, two = (contents(write_street(tmp_path / str(seed), **SMALL, seed=seed)) for seed in (1, 2))
        assert one.keys() == two.keys()
        assert not any(one[name] == two[name] for name in one if name.endswith(".jpg"))

    def test_a_person_does_not_depend_on_who_else_walks(self, tmp_path):
        few = contents(write_street(tmp_path / "few", **SMALL))
        many = contents(write_street(tmp_path / "many", **{**SMALL, "train_identities": 4}))
        assert few["bbox_train/0001/0001C1T0001F001.jpg"] == many["bbox_train/0001/0001C1T0001F001.jpg"]

    def test_every_argument_is_recorded(self, mars):
        said = json.loads((mars / "street.json").read_text())
        assert said["layout"] == "mars"
        assert said["seed"] == 5
        assert said["size"] == [32, 16]
        assert said["distractors"] == 3
        assert [len(ring) for ring in said["views"]] == [2]
        assert {said["people"][who]["part"] for who in "123"} == {"train"}


class TestRings:
    def test_test_people_meet_cameras_that_no_training_picture_shows(self, tmp_path):
        wanted = {**SMALL, "train_identities": 12, "rings": 4, "frames": 1}
        root = write_street(tmp_path / "street", **wanted)
        said = json.loads((root / "street.json").read_text())
        assert [len(ring) for ring in said["views"]] == [2] * 5
        scenes = [camera["scene"] for ring in said["views"] for camera in ring]
        assert len(set(scenes)) == len(scenes)
        people = said["people"].values()
        assert {ring for one in people if one["part"] == "test" for ring in one["rings"]} == {4}
        assert {ring for one in people if one["part"] == "train" for ring in one["rings"]} == {0, 1, 2, 3}
        assert contents(write_street(tmp_path / "again", **wanted, workers=2)) == contents(root)


class TestPictures:
    @pytest.mark.parametrize("size", [(64, 32), (128, 64), (256, 128), (96, 96)])
    def test_sizes(self, front, size):
        picture, mask = render(Look(), front, Moment(), size)
        assert picture.shape == (*size, 3)
        assert picture.dtype == np.uint8
        assert mask.shape == size
        assert mask.dtype == bool
        assert 0.08 < mask.mean() < 0.5

    def test_without_the_person_only_the_mask_changes(self, front):
        sunny = replace(front, sun=0.6)
        picture, mask = render(Look(), sunny, Moment(), sensor=False)
        empty, _ = render(Look(), sunny, Moment(), sensor=False, subject=False)
        changed = (picture != empty).any(-1)
        near = np.array(Image.fromarray(mask).resize(mask.shape[::-1]))  # the mask and the pixels around it
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            near |= np.roll(mask, step, axis)
        assert not (changed & ~near).any(), "pixels beyond the person's edge changed"
        assert changed[mask].mean() > 0.97

    def test_what_stands_in_front_is_not_the_subject(self, front):
        pole = Moment(occluder=Occluder("pole", 0.5, 0.9, 1))
        _, whole = render(Look(), front, Moment())
        _, cut = render(Look(), front, pole)
        assert (whole & ~cut)[:, 32].sum() > 20
        assert not (cut & ~whole).any()

    @pytest.mark.parametrize(
        ("detail", "shown", "hidden"),
        [
            ({"logo": 2**25 - 1, "logo_colour": (0.9, 0.1, 0.1)}, 0, 180),
            ({"backpack": (0.9, 0.1, 0.1)}, 180, 0),
            ({"bag": 1, "bag_colour": (0.9, 0.1, 0.1)}, 90, 270),
            ({"bag": -1, "bag_colour": (0.9, 0.1, 0.1)}, 270, 90),
            ({"stripe": 1, "stripe_colour": (0.9, 0.1, 0.1)}, 90, 270),
        ],
    )
    def test_a_detail_shows_from_its_own_side_only(self, front, detail, shown, hidden):
        def changed(degrees: float) -> int:
            camera = seen_from(front, degrees)
            plain, with_detail = (render(look, camera, Moment(), sensor=False)[0].astype(int)
                                  for look in (Look(), replace(Look(), **detail)))  # fmt: skip
            return int((np.abs(plain - with_detail).max(-1) > 25).sum())

        assert changed(shown) > 25
        assert changed(hidden) <= 0.15 * changed(shown)

    def test_a_logo_leaves_no_trace_from_behind(self, front):
        behind = seen_from(front, 180)
        plain, printed = (render(replace(Look(), logo=logo), behind, Moment())[0] for logo in (0, 2**25 - 1))
        assert (plain == printed).all()

    def test_a_tracklet_is_a_walk(self, front):
        moments = walk(np.random.default_rng(0), front, 8)
        assert len({moment.gait.phase for moment in moments}) == 8
        assert np.ptp([moment.yaw for moment in moments]) < np.radians(60), "a camera sees about one side"

    def test_contact_sheet(self):
        sheet = contact_sheet(group=2, cameras=3, size=(64, 32))
        assert sheet.shape == (16 + 2 * 66, 16 + 3 * 34, 3)
        assert (sheet == contact_sheet(group=2, cameras=3, size=(64, 32))).all()


class TestLookAlikes:
    def test_a_group_shares_clothes_and_differs_in_details(self):
        people = look_alikes(np.random.default_rng(1), 5, difficulty=1.0)
        assert len({(look.top, look.bottom, look.top_pattern) for look in people}) == 1
        details = {(look.logo, look.backpack is None, look.bag, look.stripe) for look in people}
        assert len(details) == 5

    def test_difficulty_makes_them_more_alike(self):
        def colours(difficulty: float) -> float:
            groups = [look_alikes(np.random.default_rng(seed), 5, difficulty) for seed in range(20)]
            return float(
                np.mean([np.std([look.top_colours[0] for look in group], 0).mean() for group in groups])
            )

        assert colours(0.0) > 1.5 * colours(0.5)
        assert colours(0.5) > 1.5 * colours(1.0)

    def test_difficulty_sets_cameras_apart(self):
        apart = [np.std([camera.exposure for camera in camera_ring(9, 0, d)]) for d in (0.0, 0.5, 1.0)]
        assert apart == sorted(apart)


class TestLayouts:
    def test_mars_files(self, mars):
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
            who = "00-1" if identity < 0 else f"{identity:04d}"
            for name in names[start - 1 : end]:
                assert name.startswith(f"{who}C{camera}T")
                assert (mars / "bbox_test" / who / name).is_file()
        assert len((info / "train_name.txt").read_text().split()) == 3 * 2 * 2 * 2
        assert loadmat(info / "tracks_train_info.mat")["track_train_info"].shape == (12, 4)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_the_readers_read_it(self, tmp_path, layout):
        root = write_street(tmp_path / "street", **SMALL, layout=layout)
        splits = datasets.read_dataset(layout, root)
        assert {track.identity for track in splits.train} == {1, 2, 3}
        assert {track.identity for track in splits.query} == {4, 5}, (
            "training and test people are not the same"
        )
        assert {track.camera for track in splits.train} == {0, 1}
        assert len(splits.train) == 6
        assert len(splits.query) == (2 if layout == "duke" else 4)
        for track in (*splits.train, *splits.query, *splits.gallery):
            for frame in track.frames:
                with Image.open(frame) as picture:
                    assert picture.size == (16, 32)
                with Image.open(datasets.mask_path(root, frame)) as mask:
                    assert mask.mode == "L"
                    assert set(np.unique(mask)) == {0, 255}

    def test_veri_lists(self, tmp_path):
        root = write_street(tmp_path / "street", **SMALL, layout="veri")
        line, *_ = (root / "test_track.txt").read_text().splitlines()
        track, *names = line.split()
        assert line.endswith(" "), "the official list ends its lines with a space"
        assert track == "0004_c001_1.jpg"
        assert all((root / "image_test" / name).is_file() for name in names)
        for name in (root / "name_query.txt").read_text().split():
            assert (root / "image_query" / name).read_bytes() == (root / "image_test" / name).read_bytes()

    def test_masks_can_be_left_out(self, tmp_path):
        root = write_street(tmp_path / "street", **SMALL, masks=False)
        assert not (root / "masks").exists()


class TestRefusals:
    def test_a_folder_that_holds_something(self, tmp_path):
        (tmp_path / "mine.txt").write_text("precious")
        with pytest.raises(ValueError, match="not empty"):
            write_street(tmp_path, **SMALL)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_an_empty_folder_is_welcome(self, tmp_path):
        assert (write_street(tmp_path / "new" / "street", **SMALL) / "info").is_dir()
        (tmp_path / "empty").mkdir()
        assert (write_street(tmp_path / "empty", **SMALL) / "info").is_dir()

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"layout": "market"}, "layout must be one of mars, duke, veri"),
            ({"difficulty": 1.5}, "difficulty must be from 0 to 1"),
            ({"cameras": 1}, "cameras must be from 2 to 9"),
            ({"frames": 0}, "frames must be from 1"),
            ({"size": (8, 4)}, "size must be"),
            ({"workers": 0}, "workers must be at least 1"),
            ({"layout": "duke", "junk": 1}, "Only the mars layout"),
        ],
    )
    def test_arguments_out_of_range(self, tmp_path, wrong, sentence):
        with pytest.raises(ValueError, match=sentence):
            write_street(tmp_path / "street", **{**SMALL, **wrong})
        assert not list(tmp_path.iterdir())

    def test_work_cut_short_leaves_nothing_behind(self, tmp_path):
        def cut_short(people):
            assert len(people) == 5
            yield people[0]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_street(tmp_path / "street", **SMALL, progress=cut_short)
        assert not list(tmp_path.iterdir())
