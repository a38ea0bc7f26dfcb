"""Data loaders of training and evaluation.

All randomness of a training sample comes from its own seed, drawn from (seed, epoch, position in the epoch),
so a batch is the same for any number of worker processes and, put together, for any number of ranks.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vkd.data.datasets import ERASING_ASPECT
from vkd.data.sampling import FRAMES, VIEWS, PKSampler
from vkd.data.tracklets import Splits, Tracklet
from vkd.data.transforms import IMAGENET_MEAN, IMAGENET_STD, Range, TrainTransform, normalise, resize
from vkd.io.errors import VKDError
from vkd.io.images import read_image

Rule = TypeVar("Rule")


class _Draws(Sampler[list[tuple[int, int]]]):
    """Batch sampler of a PKSampler whose keys carry their seed into the worker."""

    def __init__(self, sampler: PKSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.sampler.draws()


class TrainSet(Dataset[tuple[Tensor, int]]):
    """Training samples: key (index of the tracklet, seed) → clip (V, 3, H, W) and class 0..K-1.

    With a rule that draws from several tracklets the views come in random order, so that the first M of them
    are a random choice of M: the student's.
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
        self.positions: list[int] = []
        for index, label in enumerate(self.labels):
            self.positions.append(len(members.setdefault(label, [])))
            members[label].append(index)
        self.members = [members[label] for label in range(len(labels))]

    def __len__(self) -> int:
        return len(self.tracklets)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = key
        generator = torch.Generator().manual_seed(seed)
        return self.transform(_read_images(self.paths(index, generator)), generator), self.labels[index]

    def paths(self, index: int, generator: torch.Generator) -> list[str]:
        """Returns the image files of one sample, view by view."""
        tracklets = [self.tracklets[member] for member in self.members[self.labels[index]]]
        views = self.rule(tracklets, self.positions[index], self.views, self.frames, generator)
        if self.shuffled:
            views = [views[view] for view in torch.randperm(self.views, generator=generator).tolist()]
        return [tracklets[tracklet].frames[frame] for tracklet, frame in views]


class EvalSet(Dataset[tuple[Tensor, int]]):
    """Evaluation samples: index → clip (V, 3, H, W) by the frame rule, and the index."""

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
        # The mean over equal views is the view itself: images need one forward pass, not eight.
        self.views = views if any(len(tracklet.frames) > 1 for tracklet in tracklets) else 1

    def __len__(self) -> int:
        return len(self.tracklets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        frames = self.tracklets[index].frames
        views = self.frames(len(frames), self.views, torch.Generator().manual_seed(index))
        rows = {frame: row for row, frame in enumerate(dict.fromkeys(views))}
        clip = resize([read_image(frames[frame]) for frame in rows], self.image_size)
        return normalise(clip, self.mean, self.std)[[rows[frame] for frame in views]], index


def _read_images(paths: Sequence[str]) -> list[Tensor]:
    """Reads images, each file once however often it occurs."""
    images = {path: read_image(path) for path in dict.fromkeys(paths)}
    return [images[path] for path in paths]


def _row(table: dict[str, Rule], name: str) -> Rule:
    if name not in table:
        raise VKDError(f"Unknown rule {name!r}: choose from {', '.join(table)}.")
    return table[name]


class Loader(DataLoader[tuple[Tensor, int]]):
    """Loader that raises the errors of worker processes as they were raised, without their traceback."""

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
            raise VKDError(
                "A data loader worker was killed, probably out of memory: use fewer workers."
            ) from error


class TrainLoader(Loader):
    """Batches of clips (B, V, 3, H, W) and classes (B,) of the epoch that `set_epoch` selects."""

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch (from 0) of the next iteration."""
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
    aspect: Range = ERASING_ASPECT,
    pad: int = 10,
    erase: float = 0.5,
    pin_memory: bool = False,
) -> TrainLoader:
    """Builds the loader of P×K training batches.

    `rule` is a key of VIEWS, `frames` of FRAMES (for the rule "tracklet"), `aspect` the range of height /
    width of random erasing. Raises VKDError for fewer training identities than a batch needs.
    """
    identities = len(splits.labels())
    if identities < max(identities_per_batch, 2):
        raise VKDError(
            f"{splits.root} has {identities} training identities, but a batch needs {identities_per_batch} "
            "and training at least 2: lower identities_per_batch or add identities."
        )
    sampler = PKSampler(
        [tracklet.identity for tracklet in splits.train],
        identities_per_batch,
        samples_per_identity,
        seed=seed,
        rank=rank,
        world=world,
    )
    transform = TrainTransform(image_size, aspect, pad=pad, erase=erase)
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
    """Builds the loader of evaluation clips (B, V, 3, H, W) and their indices (B,), in order.

    A tracklet shorter than V repeats frames by the rule; if every tracklet is one image, V is 1.
    """
    return Loader(
        EvalSet(tracklets, image_size, views=views, frames=frames, mean=mean, std=std),
        batch_size=batch,
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
