"""What the network eats: the P×K sampler and the loaders of training and of testing.

All randomness of a training sample comes from its own seed, drawn from (seed, epoch, position in the
epoch), so a batch is the same for any number of worker processes and, put together, for any number of
training processes.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vkd.data.sampling import FRAMES, VIEWS
from vkd.data.tracklets import Splits, Tracklet
from vkd.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Range,
    TrainTransform,
    normalise,
    prepare,
    resize,
)
from vkd.io.errors import VKDError
from vkd.io.images import read_image

__all__ = [
    "FRAMES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VIEWS",
    "Loader",
    "PKSampler",
    "TestSet",
    "TrainLoader",
    "TrainSet",
    "TrainTransform",
    "eval_loader",
    "prepare",
    "train_loader",
]


Rule = TypeVar("Rule")


class PKSampler(Sampler[list[int]]):
    """Batches of P·K indices: P identities, K consecutive indices of each; an epoch is one pass over
    identities.

    `identities[i]` is the identity of item i. The order of identities is drawn anew for each epoch and
    those that do not fill a last batch are left out of it. An identity with at least K items gives K
    different ones, one with fewer gives K draws with replacement. With `world` processes, process `rank`
    gets its contiguous part of each batch: whole identities where P is a multiple of `world`.
    """

    def __init__(
        self,
        identities: Sequence[int],
        identities_per_batch: int,
        samples_per_identity: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        size = identities_per_batch * samples_per_identity
        if size < 1 or size % world or not 0 <= rank < world:
            raise VKDError(
                f"A batch of {identities_per_batch} × {samples_per_identity} samples cannot be shared by "
                f"{world} processes (this one is number {rank}): make it a multiple of the processes."
            )
        self.identities_per_batch = identities_per_batch
        self.samples_per_identity = samples_per_identity
        self.seed = seed
        self.epoch = 0
        self.part = slice(rank * size // world, (rank + 1) * size // world)
        items: dict[int, list[int]] = {}
        for index, identity in enumerate(identities):
            items.setdefault(identity, []).append(index)
        self.items = [np.array(items[identity]) for identity in sorted(items)]

    def __len__(self) -> int:
        return len(self.items) // self.identities_per_batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) whose batches the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return ([index for index, _ in batch] for batch in self.draws())

    def draws(self) -> Iterator[list[tuple[int, int]]]:
        """This process's part of each batch as (index, seed of the sample's own randomness)."""
        P, K = self.identities_per_batch, self.samples_per_identity
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.items))[: len(self) * P]
        # Drawn for the whole epoch before anything depends on the process.
        indices = [generator.choice(self.items[place], K, len(self.items[place]) < K) for place in order]
        seeds = generator.integers(2**63, size=(len(self), P * K)).tolist()
        for batch, row in enumerate(seeds):
            group = np.concatenate(indices[batch * P : (batch + 1) * P]).tolist()
            yield list(zip(group, row, strict=True))[self.part]


class _Draws(Sampler[list[tuple[int, int]]]):
    """The sampler as a loader wants it: keys that carry their seed into the worker."""

    def __init__(self, sampler: PKSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.sampler.draws()


class TrainSet(Dataset[tuple[Tensor, int]]):
    """Training samples by key (index of the tracklet, seed) → clip (V, 3, H, W) and class 0..K-1.

    With a rule that draws from several tracklets the views come in random order, so that the first M of
    them are a random choice of M: the student's.
    """

    def __init__(
        self, splits: Splits, transform: TrainTransform, *, views: int, rule: str, frames: str
    ) -> None:
        labels = splits.labels()
        self.tracklets = splits.train
        self.labels = [labels[tracklet.identity] for tracklet in splits.train]
        self.transform, self.views = transform, views
        self.rule, self.frames, self.shuffled = _row(VIEWS, rule), _row(FRAMES, frames), rule != "tracklet"
        members: dict[int, list[int]] = {}
        self.place: list[int] = []
        for index, label in enumerate(self.labels):
            self.place.append(len(members.setdefault(label, [])))
            members[label].append(index)
        self.members = [members[label] for label in range(len(labels))]

    def __len__(self) -> int:
        return len(self.tracklets)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = key
        generator = torch.Generator().manual_seed(seed)
        return self.transform(_pictures(self.paths(index, generator)), generator), self.labels[index]

    def paths(self, index: int, generator: torch.Generator) -> list[str]:
        """The picture files of one sample, view by view."""
        tracklets = [self.tracklets[member] for member in self.members[self.labels[index]]]
        chosen = self.rule(tracklets, self.place[index], self.views, self.frames, generator)
        if self.shuffled:
            chosen = [chosen[place] for place in torch.randperm(self.views, generator=generator).tolist()]
        return [tracklets[which].frames[frame] for which, frame in chosen]


class TestSet(Dataset[tuple[Tensor, int]]):
    """Tracklets for testing: index → clip (V, 3, H, W) by the frame rule, and the index."""

    __test__ = False  # not a test case, whatever its name suggests to pytest

    def __init__(
        self,
        tracklets: Sequence[Tracklet],
        image_size: tuple[int, int],
        *,
        views: int,
        frames: str,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.tracklets, self.image_size = tracklets, image_size
        self.frames, self.mean, self.std = _row(FRAMES, frames), mean, std
        # The mean over equal views is the view itself: pictures need one forward pass, not eight.
        self.views = views if any(len(tracklet.frames) > 1 for tracklet in tracklets) else 1

    def __len__(self) -> int:
        return len(self.tracklets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        frames = self.tracklets[index].frames
        chosen = self.frames(len(frames), self.views, torch.Generator().manual_seed(index))
        distinct = {frame: place for place, frame in enumerate(dict.fromkeys(chosen))}
        clip = resize([read_image(frames[frame]) for frame in distinct], self.image_size)
        return normalise(clip, self.mean, self.std)[[distinct[frame] for frame in chosen]], index


def _pictures(paths: Sequence[str]) -> list[Tensor]:
    """Decoded pictures, each file read once however often it occurs."""
    decoded = {path: read_image(path) for path in dict.fromkeys(paths)}
    return [decoded[path] for path in paths]


def _row(table: dict[str, Rule], name: str) -> Rule:
    if name not in table:
        raise VKDError(f"Unknown rule {name!r}: choose from {', '.join(table)}.")
    return table[name]


class Loader(DataLoader[tuple[Tensor, int]]):
    """A loader whose complaints stay one sentence when a worker process makes them, or dies."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            yield from super().__iter__()
        except (ValueError, FileNotFoundError) as error:
            *traceback, last = str(error).strip().splitlines() or [""]
            if not traceback:
                raise
            raise type(error)(last.split(": ", 1)[-1]) from None
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise OSError(
                "A process that reads pictures died, most likely for want of memory: ask for fewer workers."
            ) from error


class TrainLoader(Loader):
    """Batches of clips (B, V, 3, H, W) and classes (B,); `set_epoch` chooses which epoch's come next."""

    def set_epoch(self, epoch: int) -> None:
        cast(_Draws, self.batch_sampler).sampler.set_epoch(epoch)


def train_loader(
    splits: Splits,
    *,
    image_size: tuple[int, int],
    views: int = 8,
    rule: str = "tracklet",
    frames: str = "random_chunk",
    identities_per_batch: int = 8,
    samples_per_identity: int = 4,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    aspect: Range = (0.3, 3.3),
    pad: int = 10,
    erase: float = 0.5,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    pin_memory: bool = False,
) -> TrainLoader:
    """P×K batches of training clips. `rule` is a key of VIEWS, `frames` of FRAMES (used by the rule
    "tracklet").

    Raises ValueError when the data set has fewer training identities than a batch needs.
    """
    found = len(splits.labels())
    if found < max(identities_per_batch, 2):
        raise VKDError(
            f"{splits.root} has {found} training identities, but a batch takes {identities_per_batch} "
            "and training needs at least 2: lower identities_per_batch or add identities."
        )
    sampler = PKSampler(
        [tracklet.identity for tracklet in splits.train],
        identities_per_batch,
        samples_per_identity,
        seed=seed,
        rank=rank,
        world=world,
    )
    transform = TrainTransform(image_size, aspect, pad=pad, erase=erase, mean=mean, std=std)
    return TrainLoader(
        TrainSet(splits, transform, views=views, rule=rule, frames=frames),
        batch_sampler=_Draws(sampler),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else the loader would draw from the global generator
    )


def eval_loader(
    tracklets: Sequence[Tracklet],
    *,
    image_size: tuple[int, int],
    views: int = 8,
    frames: str = "chunk",
    batch: int = 32,
    workers: int = 0,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    pin_memory: bool = False,
) -> Loader:
    """Tracklets in order → clips (B, V, 3, H, W) and their indices (B,).

    A tracklet shorter than V repeats frames by the rule; where every tracklet is one picture, V is 1.
    """
    return Loader(
        TestSet(tracklets, image_size, views=views, frames=frames, mean=mean, std=std),
        batch_size=batch,
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
