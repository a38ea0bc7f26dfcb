"""Batches that do not depend on workers or ranks, evaluation clips, errors of workers."""

import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vkd.data.datasets import Splits, Tracklet, first_frames
from vkd.data.loaders import EvalSet, Loader, eval_loader, train_loader
from vkd.data.sampling import FRAMES, VIEWS
from vkd.data.transforms import prepare
from vkd.io.errors import VKDError

SIZE = (16, 8)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    root = tmp_path_factory.mktemp("images")
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
def test_training_batches(rule: str, splits: Splits):
    clips, labels = load(splits, rule=rule)
    assert clips.shape == (8, 4, 3, *SIZE)
    assert clips.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) <= set(range(5))
    assert labels.view(4, 2).eq(labels.view(4, 2)[:, :1]).all()


@pytest.mark.parametrize("rule", VIEWS)
def test_batches_do_not_depend_on_workers_or_ranks(rule: str, splits: Splits):
    clips, labels = load(splits, rule=rule, epoch=2)
    by_workers, labels_by_workers = load(splits, rule=rule, epoch=2, workers=2)
    assert torch.equal(clips, by_workers)
    assert torch.equal(labels, labels_by_workers)
    shares = [load(splits, rule=rule, epoch=2, rank=rank, world=2) for rank in range(2)]
    together = torch.stack([share.unflatten(0, (2, 2)) for share, _ in shares], 1).flatten(0, 2)
    assert torch.equal(clips, together)


def test_epochs_with_persistent_workers(splits: Splits):
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


def test_global_generator_is_unused(splits: Splits):
    before = torch.random.get_rng_state()
    load(splits)
    list(eval_loader(splits.query, image_size=SIZE))
    assert torch.equal(before, torch.random.get_rng_state())


def test_student_views_are_a_random_choice(splits: Splits):
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


def test_too_few_identities(splits: Splits):
    with pytest.raises(VKDError, match=r"5 .* 8"):
        train_loader(splits, image_size=SIZE)


def test_unknown_rules(splits: Splits):
    with pytest.raises(VKDError, match=r"all.*tracklet, multiview, camera"):
        load(splits, rule="all")
    with pytest.raises(VKDError, match=r"last.*chunk, random_chunk, even"):
        eval_loader(splits.query, image_size=SIZE, frames="last")


@pytest.mark.parametrize("frames", ["chunk", "even"])
def test_eval_clips(frames: str, splits: Splits):
    seen = []
    for clips, indices in eval_loader(splits.query, image_size=SIZE, views=3, frames=frames, batch=4):
        for clip, index in zip(clips, indices.tolist(), strict=True):
            paths = splits.query[index].frames
            chosen = [paths[frame] for frame in FRAMES[frames](len(paths), 3, None)]
            assert torch.equal(clip, prepare(chosen, SIZE))
            seen.append(index)
    assert seen == list(range(len(splits.query)))


def test_single_images_are_one_view(splits: Splits):
    clips, _ = next(iter(eval_loader(splits.query_images, image_size=SIZE, views=8)))
    assert clips.shape[1] == 1
    clips, _ = next(iter(eval_loader(splits.query, image_size=SIZE, views=8)))
    assert clips.shape[1] == 8


def test_repeated_frames_are_read_once(splits: Splits, monkeypatch: pytest.MonkeyPatch):
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
def test_errors_of_workers(damage: str, workers: int, splits: Splits, tmp_path: Path):
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
        with pytest.raises(VKDError) as error:
            list(loader)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


class Deadly(Dataset):
    """Kills its reader, as a system does that is out of memory."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_killed_worker():
    with pytest.raises(VKDError, match="worker"):
        list(Loader(Deadly(), num_workers=1))
