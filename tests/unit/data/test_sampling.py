"""Frame rules, view rules and the P×K sampler against the reference and their definitions."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vkd.data.datasets import Tracklet
from vkd.data.sampling import FRAMES, VIEWS, PKSampler
from vkd.io.errors import VKDError

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


def test_chunk_equals_reference(temporal: dict):
    for count, table in temporal["chunk_crop"].items():
        for frames, expected in table.items():
            assert FRAMES["chunk"](int(frames), int(count), None) == expected
    assert FRAMES["chunk"](9, 8, None) == [0, 2, 4, 6, 8, 8, 8, 8]


def test_random_chunk_equals_reference(temporal: dict):
    generator = seeded()
    for count, table in temporal["random_chunk_crop_strips"].items():
        for frames, strips in table.items():
            drawn = [FRAMES["random_chunk"](int(frames), int(count), generator) for _ in range(60)]
            for index, strip in enumerate(strips):
                seen = {draw[index] for draw in drawn}
                assert seen <= set(strip)
                if len(set(strip)) <= 5:
                    assert seen == set(strip)


def test_random_chunk_draws_the_padding():
    """Three chunks of ten frames are four long: the last one is 8 9 9 9."""
    generator = seeded()
    draws = Counter(FRAMES["random_chunk"](10, 3, generator)[2] for _ in range(4000))
    assert draws[9] / draws[8] == pytest.approx(3, rel=0.15)


@given(LENGTHS, COUNTS)
def test_even(frames: int, count: int):
    chosen = FRAMES["even"](frames, count, None)
    assert chosen == sorted(chosen)
    assert all(0 <= frame < frames for frame in chosen)
    assert chosen == [int((index + 0.5) * frames / count + 1e-9) for index in range(count)]
    if frames >= count:
        assert len(set(chosen)) == count
    uses = Counter(chosen).values()
    assert frames >= count or max(uses) - min(uses) <= 1


@given(st.sampled_from(sorted(FRAMES)), LENGTHS, COUNTS)
def test_number_of_frames(rule: str, frames: int, count: int):
    chosen = FRAMES[rule](frames, count, seeded())
    assert len(chosen) == count
    assert all(0 <= frame < frames for frame in chosen)


@pytest.mark.parametrize("rule", FRAMES)
def test_no_frames_and_no_count(rule: str):
    for frames, count in ((0, 8), (8, 0)):
        with pytest.raises(VKDError, match=f"{count} .* {frames}"):
            FRAMES[rule](frames, count, seeded())


def test_tracklet_views():
    chosen = VIEWS["tracklet"](row(9, 20, 5), 1, 8, FRAMES["chunk"], seeded())
    assert chosen == [(1, frame) for frame in FRAMES["chunk"](20, 8, None)]


def test_multiview_equals_reference(golden: Path):
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


def test_multiview_is_uniform():
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


def test_camera_balance_without_cameras():
    tracklets = row(5, 5, 5, cameras=[-1, -1, -1])
    chosen = [which for which, _ in VIEWS["camera"](tracklets, 0, 6, FRAMES["chunk"], seeded())]
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]
    assert chosen[3:] == chosen[:3]


@pytest.mark.parametrize("rule", VIEWS)
def test_views_depend_on_the_generator(rule: str):
    tracklets = row(9, 4, 30, cameras=[0, 1, 1])

    def draw(seed: int) -> list:
        return VIEWS[rule](tracklets, 0, 8, FRAMES["random_chunk"], seeded(seed))

    assert draw(3) == draw(3)
    assert len({tuple(draw(seed)) for seed in range(20)}) > 1


# P×K sampler

identities = st.lists(st.integers(0, 9), min_size=1, max_size=60)


def epochs(sampler: PKSampler, count: int) -> list[list[list[int]]]:
    out = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        out.append(list(sampler))
    return out


def check_invariants(pids: list[int], batches: list[list[int]], p: int, k: int) -> None:
    """Checks the reference's invariants of one epoch."""
    assert len(batches) == len(set(pids)) // p
    seen: list[int] = []
    for batch in batches:
        assert len(batch) == p * k
        for start in range(0, p * k, k):
            group = batch[start : start + k]
            (identity,) = {pids[index] for index in group}
            seen.append(identity)
            if pids.count(identity) >= k:
                assert len(set(group)) == k
    assert len(seen) == len(set(seen)), "no identity twice in an epoch"


def test_sampler_equals_reference(golden: Path):
    for case in json.loads((golden / "sampler.json").read_text())["cases"]:
        pids, p, k = case["pids"], case["p"], case["k"]
        sampler = PKSampler(pids, p, k)
        assert len(sampler) == case["expected_len"]
        left_out = []
        for batches in epochs(sampler, 30):
            check_invariants(pids, batches, p, k)
            used = {pids[index] for batch in batches for index in batch}
            left_out.append(frozenset(set(pids) - used))
            assert len(left_out[-1]) == case["ids_left_out_per_epoch"]
        if case["ids_left_out_per_epoch"] and case["expected_len"]:
            assert len(set(left_out)) > 1, "which identities are left out changes"
        few = [pid for pid in set(pids) if pids.count(pid) < k]
        assert sorted(few) == case["ids_with_fewer_than_k"]


@given(identities, st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_sampler_invariants(pids: list[int], p: int, k: int, seed: int):
    check_invariants(pids, list(PKSampler(pids, p, k, seed=seed)), p, k)


def test_sampler_with_replacement():
    picks = [batch for epoch in epochs(PKSampler([0, 0, 1, 1], 2, 3), 200) for batch in epoch]
    uses = Counter(len(set(group)) for batch in picks for group in (batch[:3], batch[3:]))
    assert set(uses) == {1, 2}
    assert uses[1] / sum(uses.values()) == pytest.approx(0.25, abs=0.08)


def test_sampler_epochs():
    sampler = PKSampler(list(range(20)) * 3, 4, 2, seed=3)
    first = epochs(sampler, 4)
    assert first == epochs(PKSampler(list(range(20)) * 3, 4, 2, seed=3), 4)
    assert len({str(epoch) for epoch in first}) == 4
    assert first != epochs(PKSampler(list(range(20)) * 3, 4, 2, seed=4), 4)
    seeds = [seed for batch in sampler.draws() for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(("p", "k", "world"), [(4, 2, 2), (4, 2, 4), (3, 4, 2), (2, 3, 6)])
def test_sampler_ranks(p: int, k: int, world: int):
    pids = list(range(10)) * 4
    whole = list(PKSampler(pids, p, k).draws())
    parts = [list(PKSampler(pids, p, k, rank=rank, world=world).draws()) for rank in range(world)]
    for batch, shares in zip(whole, zip(*parts, strict=True), strict=True):
        assert [draw for share in shares for draw in share] == batch
        assert len({len(share) for share in shares}) == 1
        if p % world == 0:
            owners = [{pids[index] for index, _ in share} for share in shares]
            assert sum(map(len, owners)) == p, "whole identities"


@pytest.mark.parametrize(("rank", "world"), [(0, 5), (2, 2), (-1, 2)])
def test_sampler_batch_and_world_size(rank: int, world: int):
    with pytest.raises(VKDError, match=str(world)):
        PKSampler([0, 1, 2, 3], 2, 3, rank=rank, world=world)
