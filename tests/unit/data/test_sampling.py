"""Frame and view rules against the reference's tables and against their definitions."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vkd.data.datasets import Tracklet
from vkd.data.sampling import FRAMES, VIEWS

LENGTHS = st.integers(1, 60)
COUNTS = st.integers(1, 12)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def row(*lengths: int, cameras: list[int] | None = None) -> list[Tracklet]:
    """Tracklets of one identity with so many frames each."""
    cameras = cameras or [0] * len(lengths)
    return [
        Tracklet(tuple(f"{index}/{frame}.jpg" for frame in range(length)), 1, camera)
        for index, (length, camera) in enumerate(zip(lengths, cameras, strict=True))
    ]


@pytest.fixture(scope="module")
def temporal(golden: Path) -> dict:
    return json.loads((golden / "temporal.json").read_text())


def test_chunk_takes_the_reference_frames(temporal: dict):
    for count, table in temporal["chunk_crop"].items():
        for frames, expected in table.items():
            assert FRAMES["chunk"](int(frames), int(count), None) == expected
    assert FRAMES["chunk"](9, 8, None) == [0, 2, 4, 6, 8, 8, 8, 8]


def test_random_chunk_stays_in_the_reference_strips_and_reaches_all_of_them(temporal: dict):
    generator = seeded()
    for count, table in temporal["random_chunk_crop_strips"].items():
        for frames, strips in table.items():
            drawn = [FRAMES["random_chunk"](int(frames), int(count), generator) for _ in range(60)]
            for place, strip in enumerate(strips):
                seen = {draw[place] for draw in drawn}
                assert seen <= set(strip)
                if len(set(strip)) <= 5:
                    assert seen == set(strip)


def test_random_chunk_counts_the_padding_as_draws():
    """Three chunks of ten frames are four long: the last one is 8 9 9 9."""
    generator = seeded()
    draws = Counter(FRAMES["random_chunk"](10, 3, generator)[2] for _ in range(4000))
    assert draws[9] / draws[8] == pytest.approx(3, rel=0.15)


@given(LENGTHS, COUNTS)
def test_even_is_in_order_in_range_and_spread(frames: int, count: int):
    chosen = FRAMES["even"](frames, count, None)
    assert chosen == sorted(chosen)
    assert all(0 <= frame < frames for frame in chosen)
    assert chosen == [int((place + 0.5) * frames / count + 1e-9) for place in range(count)]
    if frames >= count:
        assert len(set(chosen)) == count
    uses = Counter(chosen).values()
    assert frames >= count or max(uses) - min(uses) <= 1


@given(st.sampled_from(sorted(FRAMES)), LENGTHS, COUNTS)
def test_every_rule_gives_as_many_frames_as_asked(rule: str, frames: int, count: int):
    chosen = FRAMES[rule](frames, count, seeded())
    assert len(chosen) == count
    assert all(0 <= frame < frames for frame in chosen)


@pytest.mark.parametrize("rule", FRAMES)
def test_no_frame_and_no_count_are_refused(rule: str):
    for frames, count in ((0, 8), (8, 0)):
        with pytest.raises(ValueError, match=f"Cannot choose {count} frames out of {frames}"):
            FRAMES[rule](frames, count, seeded())


def test_a_tracklets_views_follow_the_frame_rule():
    chosen = VIEWS["tracklet"](row(9, 20, 5), 1, 8, FRAMES["chunk"], seeded())
    assert chosen == [(1, frame) for frame in FRAMES["chunk"](20, 8, None)]


def test_multiview_uses_tracklets_as_often_as_the_reference(golden: Path):
    for case in json.loads((golden / "sampler.json").read_text())["multiview"]:
        tracklets, views = row(*[7] * case["tracklets"]), case["views"]
        for seed in range(40):
            chosen = [
                which for which, _ in VIEWS["multiview"](tracklets, 0, views, FRAMES["chunk"], seeded(seed))
            ]
            uses = sorted((chosen.count(which) for which in range(len(tracklets))), reverse=True)
            assert uses == case["uses_per_tracklet_sorted"]
            assert case["periodic_with_period_T"]
            assert chosen[len(tracklets) :] == chosen[: -len(tracklets)]


def test_multiview_prefers_neither_the_sampled_tracklet_nor_any_frame():
    generator, tracklets = seeded(), row(4, 4, 4, 4)
    drawn = Counter(VIEWS["multiview"](tracklets, 2, 1, FRAMES["chunk"], generator)[0] for _ in range(8000))
    assert len(drawn) == 16
    assert all(count == pytest.approx(500, rel=0.25) for count in drawn.values())


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), COUNTS, st.integers(0, 99))
def test_camera_balance(cameras: list[int], views: int, seed: int):
    """No camera and, within a camera, no tracklet is used two times more than another."""
    tracklets = row(*[3] * len(cameras), cameras=cameras)
    chosen = [which for which, _ in VIEWS["camera"](tracklets, 0, views, FRAMES["chunk"], seeded(seed))]
    assert len(chosen) == views
    by_camera = Counter(cameras[which] for which in chosen)
    uses = [by_camera[camera] for camera in set(cameras)]
    assert max(uses) - min(uses) <= 1
    for camera in set(cameras):
        own = [chosen.count(which) for which, other in enumerate(cameras) if other == camera]
        assert max(own) - min(own) <= 1


def test_without_cameras_camera_balance_is_multiview():
    tracklets = row(5, 5, 5, cameras=[-1, -1, -1])
    chosen = [which for which, _ in VIEWS["camera"](tracklets, 0, 6, FRAMES["chunk"], seeded())]
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]
    assert chosen[3:] == chosen[:3]


@pytest.mark.parametrize("rule", VIEWS)
def test_views_repeat_with_the_generator(rule: str):
    tracklets = row(9, 4, 30, cameras=[0, 1, 1])

    def draw(seed: int) -> list:
        return VIEWS[rule](tracklets, 0, 8, FRAMES["random_chunk"], seeded(seed))

    assert draw(3) == draw(3)
    assert len({tuple(draw(seed)) for seed in range(20)}) > 1
