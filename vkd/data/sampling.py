"""Sampling: frame rules, view rules and the P×K sampler of training batches.

A frame rule selects S positions of a tracklet of F frames; a view rule selects S frames from the tracklets of
one identity. Settings and flags offer the keys of FRAMES and VIEWS, so torch is imported only where it draws.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from vkd.data.tracklets import Tracklet
from vkd.io.errors import VKDError

if TYPE_CHECKING:
    import torch

FrameRule = Callable[[int, int, "torch.Generator | None"], list[int]]
ViewRule = Callable[[Sequence[Tracklet], int, int, FrameRule, "torch.Generator"], list[tuple[int, int]]]


def _chunk_length(frames: int, count: int) -> int:
    if frames < 1 or count < 1:
        raise VKDError(f"Cannot choose {count} frames out of {frames}: both must be at least 1.")
    return -(-frames // count)


def chunk(frames: int, count: int, generator: "torch.Generator | None" = None) -> list[int]:
    """Selects the first frame of each of `count` chunks of ceil(frames / count); past the end the last frame.

    The published rule for evaluation: 9 frames and 8 chunks give 0 2 4 6 8 8 8 8.
    """
    length = _chunk_length(frames, count)
    return [min(index * length, frames - 1) for index in range(count)]


def random_chunk(frames: int, count: int, generator: "torch.Generator | None" = None) -> list[int]:
    """Draws one frame of each of the same chunks, whose last one is padded with the last frame.

    The published rule for training the teacher.
    """
    length = _chunk_length(frames, count)
    import torch

    draws = torch.randint(length, (count,), generator=generator).tolist()
    return [min(index * length + draw, frames - 1) for index, draw in enumerate(draws)]


def even(frames: int, count: int, generator: "torch.Generator | None" = None) -> list[int]:
    """Selects the middle frame of each of `count` equal parts; repeats are spread evenly."""
    _chunk_length(frames, count)
    return [(2 * index + 1) * frames // (2 * count) for index in range(count)]


FRAMES: dict[str, FrameRule] = {"chunk": chunk, "random_chunk": random_chunk, "even": even}


def tracklet(
    tracklets: Sequence[Tracklet], own: int, views: int, frames: FrameRule, generator: "torch.Generator"
) -> list[tuple[int, int]]:
    """Selects all views from the sampled tracklet, by the frame rule (stage 1)."""
    return [(own, frame) for frame in frames(len(tracklets[own].frames), views, generator)]


def multiview(
    tracklets: Sequence[Tracklet], own: int, views: int, frames: FrameRule, generator: "torch.Generator"
) -> list[tuple[int, int]]:
    """Selects views from different tracklets of the identity (stage 2), in a random cyclic order.

    The sampled tracklet is not preferred; each view is a uniformly drawn frame whatever the frame rule.
    """
    order = _shuffled(range(len(tracklets)), generator)
    return [_any_frame(tracklets, order[view % len(order)], generator) for view in range(views)]


def camera(
    tracklets: Sequence[Tracklet], own: int, views: int, frames: FrameRule, generator: "torch.Generator"
) -> list[tuple[int, int]]:
    """Selects camera-balanced views: cameras in a random cyclic order, and so the tracklets of each camera.

    No camera gives two views more than another. Without camera labels this is `multiview`.
    """
    queues: dict[int, list[int]] = {}
    for index in _shuffled(range(len(tracklets)), generator):
        queues.setdefault(tracklets[index].camera, []).append(index)
    cameras = _shuffled(sorted(queues), generator)
    chosen = []
    for view in range(views):
        rounds, index = divmod(view, len(cameras))
        queue = queues[cameras[index]]
        chosen.append(_any_frame(tracklets, queue[rounds % len(queue)], generator))
    return chosen


VIEWS: dict[str, ViewRule] = {"tracklet": tracklet, "multiview": multiview, "camera": camera}
"""Rules return (position of the tracklet, position of the frame) for each view."""


def _shuffled(values: Sequence[int], generator: "torch.Generator") -> list[int]:
    import torch

    return [values[index] for index in torch.randperm(len(values), generator=generator).tolist()]


def _any_frame(tracklets: Sequence[Tracklet], index: int, generator: "torch.Generator") -> tuple[int, int]:
    import torch

    return index, int(torch.randint(len(tracklets[index].frames), (), generator=generator))


class PKSampler:
    """Samples batches of P identities × K items; an epoch is one pass over the identities.

    `identities[i]` is the identity of item i. The order of identities is drawn anew for each epoch and those
    that do not fill a last batch are left out of it. An identity with at least K items gives K different
    ones, one with fewer gives K draws with replacement. With `world` processes, process `rank` gets its
    contiguous part of each batch: whole identities where P is a multiple of `world`.
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
                f"A batch of {identities_per_batch} × {samples_per_identity} samples cannot be divided among "
                f"{world} processes (rank {rank}): make it a multiple of the world size."
            )
        self.identities_per_batch = identities_per_batch
        self.samples_per_identity = samples_per_identity
        self.seed = seed
        self.epoch = 0
        self.part = slice(rank * size // world, (rank + 1) * size // world)
        items: dict[int, list[int]] = {}
        for index, identity in enumerate(identities):
            items.setdefault(identity, []).append(index)
        self.items = [items[identity] for identity in sorted(items)]

    def __len__(self) -> int:
        return len(self.items) // self.identities_per_batch

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch (from 0) of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return ([index for index, _ in batch] for batch in self.draws())

    def draws(self) -> Iterator[list[tuple[int, int]]]:
        """Yields this rank's part of each batch as (index, seed of the sample's own randomness)."""
        P, K = self.identities_per_batch, self.samples_per_identity
        import numpy as np

        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.items))[: len(self) * P]
        # Drawn for the whole epoch before anything depends on the rank.
        indices = [generator.choice(self.items[row], K, len(self.items[row]) < K) for row in order]
        seeds = generator.integers(2**63, size=(len(self), P * K)).tolist()
        for batch, row in enumerate(seeds):
            group = np.concatenate(indices[batch * P : (batch + 1) * P]).tolist()
            yield list(zip(group, row, strict=True))[self.part]
