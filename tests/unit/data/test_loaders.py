"""The P×K sampler against the reference's invariants; batches that do not depend on who makes them."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vkd.data.datasets import Splits, Tracklet, first_frames
from vkd.data.loaders import EvalSet, Loader, eval_loader, train_loader
from vkd.data.sampling import FRAMES, VIEWS, PKSampler
from vkd.data.transforms import prepare
from vkd.io.errors import VKDError

identities = st.lists(st.integers(0, 9), min_size=1, max_size=60)


def epochs(sampler: PKSampler, count: int) -> list[list[list[int]]]:
    out = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        out.append(list(sampler))
    return out


def check_invariants(pids: list[int], batches: list[list[int]], p: int, k: int) -> None:
    """What the reference promises of one epoch."""
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


def test_sampler_keeps_the_reference_invariants(golden: Path):
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
def test_sampler_invariants_hold_for_any_list(pids: list[int], p: int, k: int, seed: int):
    check_invariants(pids, list(PKSampler(pids, p, k, seed=seed)), p, k)


def test_an_identity_with_few_tracklets_draws_with_replacement():
    picks = [batch for epoch in epochs(PKSampler([0, 0, 1, 1], 2, 3), 200) for batch in epoch]
    uses = Counter(len(set(group)) for batch in picks for group in (batch[:3], batch[3:]))
    assert set(uses) == {1, 2}
    assert uses[1] / sum(uses.values()) == pytest.approx(0.25, abs=0.08)


def test_epochs_differ_and_come_back():
    sampler = PKSampler(list(range(20)) * 3, 4, 2, seed=3)
    first = epochs(sampler, 4)
    assert first == epochs(PKSampler(list(range(20)) * 3, 4, 2, seed=3), 4)
    assert len({str(epoch) for epoch in first}) == 4
    assert first != epochs(PKSampler(list(range(20)) * 3, 4, 2, seed=4), 4)
    seeds = [seed for batch in sampler.draws() for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(("p", "k", "world"), [(4, 2, 2), (4, 2, 4), (3, 4, 2), (2, 3, 6)])
def test_processes_share_each_batch(p: int, k: int, world: int):
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
def test_a_batch_that_cannot_be_shared_is_refused(rank: int, world: int):
    with pytest.raises(ValueError, match="divided among"):
        PKSampler([0, 1, 2, 3], 2, 3, rank=rank, world=world)


# Loaders, on a small set of pictures of which each tells by its colour which one it is.

SIZE = (16, 8)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    root = tmp_path_factory.mktemp("pictures")
    tracklets, number = [], 0
    for identity in (3, 5, 8, 11, 20):
        for camera in range(3):
            frames = []
            for frame in range(1 + (identity + camera) % 4):
                number += 1
                path = root / f"{identity}-{camera}-{frame}.png"
                Image.new("RGB", (SIZE[1], SIZE[0]), (number * 3, 0, 0)).save(path)
                frames.append(str(path))
            tracklets.append(Tracklet(tuple(frames), identity, camera))
    train = tuple(tracklets)
    return Splits("folder", root, train, train, train, first_frames(train), first_frames(train))


def load(splits: Splits, epoch: int = 0, **options) -> tuple[torch.Tensor, torch.Tensor]:
    settings = {
        "image_size": SIZE,
        "views": 4,
        "identities_per_batch": 2,
        "samples_per_identity": 2,
        "pad": 2,
    }
    loader = train_loader(splits, **{**settings, **options})
    loader.set_epoch(epoch)
    clips, labels = zip(*loader, strict=True)
    assert len(clips) == len(loader)
    return torch.cat(clips), torch.cat(labels)


@pytest.mark.parametrize("rule", VIEWS)
def test_training_batches_have_the_promised_shape(rule: str, splits: Splits):
    clips, labels = load(splits, rule=rule)
    assert clips.shape == (8, 4, 3, *SIZE)
    assert clips.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) <= set(range(5))
    assert labels.view(4, 2).eq(labels.view(4, 2)[:, :1]).all()


@pytest.mark.parametrize("rule", VIEWS)
def test_batches_do_not_depend_on_the_number_of_workers_or_processes(rule: str, splits: Splits):
    clips, labels = load(splits, rule=rule, epoch=2)
    by_workers, labels_by_workers = load(splits, rule=rule, epoch=2, workers=2)
    assert torch.equal(clips, by_workers)
    assert torch.equal(labels, labels_by_workers)
    shares = [load(splits, rule=rule, epoch=2, rank=rank, world=2) for rank in range(2)]
    together = torch.stack([share.unflatten(0, (2, 2)) for share, _ in shares], 1).flatten(0, 2)
    assert torch.equal(clips, together)


def test_epochs_bring_new_frames_even_with_lasting_workers(splits: Splits):
    loader = train_loader(
        splits,
        image_size=SIZE,
        views=2,
        identities_per_batch=5,
        samples_per_identity=2,
        workers=1,
        rule="multiview",
    )
    seen = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        seen.append(torch.cat([clips for clips, _ in loader]))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_loading_leaves_the_global_generator_alone(splits: Splits):
    before = torch.random.get_rng_state()
    load(splits)
    list(eval_loader(splits.query, image_size=SIZE))
    assert torch.equal(before, torch.random.get_rng_state())


def test_views_come_from_the_identity_and_the_first_are_a_random_choice(splits: Splits):
    """A student that takes the first 2 of 8 views gets any pair, not always two different tracklets."""
    data = train_loader(splits, image_size=SIZE, views=8, rule="multiview", identities_per_batch=2).dataset
    index = next(i for i, t in enumerate(splits.train) if t.identity == 8)
    same, total = 0, 600
    for seed in range(total):
        paths = data.paths(index, torch.Generator().manual_seed(seed))  # pyright: ignore[reportAttributeAccessIssue]
        names = [Path(path).stem.rsplit("-", 1)[0] for path in paths]
        assert {name.split("-")[0] for name in names} == {"8"}
        assert sorted(Counter(names).values()) == [2, 3, 3]
        same += names[0] == names[1]
    # Of the 28 pairs of 8 views drawn 3 3 2 from three tracklets, 7 share a tracklet.
    assert same / total == pytest.approx(7 / 28, abs=0.06)


def test_too_few_identities_to_train_on(splits: Splits):
    with pytest.raises(ValueError, match="has 5 training identities, but a batch needs 8"):
        train_loader(splits, image_size=SIZE)


def test_unknown_rules_are_refused(splits: Splits):
    with pytest.raises(ValueError, match="choose from tracklet, multiview, camera"):
        load(splits, rule="all")
    with pytest.raises(ValueError, match="choose from chunk, random_chunk, even"):
        eval_loader(splits.query, image_size=SIZE, frames="last")


@pytest.mark.parametrize("frames", ["chunk", "even"])
def test_test_clips_are_the_rules_frames_prepared(frames: str, splits: Splits):
    seen = []
    for clips, indices in eval_loader(splits.query, image_size=SIZE, views=3, frames=frames, batch=4):
        for clip, index in zip(clips, indices.tolist(), strict=True):
            paths = splits.query[index].frames
            chosen = [paths[frame] for frame in FRAMES[frames](len(paths), 3, None)]
            assert torch.equal(clip, prepare(chosen, SIZE))
            seen.append(index)
    assert seen == list(range(len(splits.query)))


def test_pictures_alone_are_passed_once(splits: Splits):
    clips, _ = next(iter(eval_loader(splits.query_images, image_size=SIZE, views=8)))
    assert clips.shape[1] == 1
    clips, _ = next(iter(eval_loader(splits.query, image_size=SIZE, views=8)))
    assert clips.shape[1] == 8


def test_the_same_frame_is_read_once(splits: Splits, monkeypatch: pytest.MonkeyPatch):
    from vkd.data import loaders

    reads: list[str] = []
    monkeypatch.setattr(
        loaders, "read_image", lambda path: reads.append(path) or torch.zeros(3, *SIZE, dtype=torch.uint8)
    )
    short = next(t for t in splits.query if len(t.frames) == 2)
    settings = {"views": 8, "frames": "chunk", "mean": (0, 0, 0), "std": (1, 1, 1)}
    EvalSet([short], SIZE, **settings)[0]
    assert reads == list(short.frames)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_bad_picture_stops_the_batch_with_one_sentence(
    damage: str, workers: int, splits: Splits, tmp_path: Path
):
    path = tmp_path / "frame.jpg"
    if damage == "cut":
        Image.fromarray(np.zeros((16, 8, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-30])
    item = Tracklet((splits.train[0].frames[0], str(path)), 1, 0)
    for loader in (
        eval_loader([item], image_size=SIZE, workers=workers),
        train_loader(
            Splits("folder", tmp_path, (item, item._replace(identity=2)), (), (), (), ()),
            image_size=SIZE,
            identities_per_batch=2,
            samples_per_identity=1,
            workers=workers,
        ),
    ):
        with pytest.raises((FileNotFoundError, ValueError)) as complaint:
            list(loader)
        assert str(path) in str(complaint.value)
        assert "\n" not in str(complaint.value)


class Deadly(Dataset):
    """Whoever reads from it is killed, as by a system that is short of memory."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_reader_that_is_killed_is_told_in_a_sentence():
    with pytest.raises(VKDError, match="worker"):
        list(Loader(Deadly(), num_workers=1))
