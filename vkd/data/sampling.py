"""Which frames of which tracklets make a sample: the frame rules and the view rules.

A frame rule picks S positions of a tracklet of F frames; a view rule picks S frames from the tracklets of one
identity. Rules are functions in a table, so that settings, flags and tests know them by the same name.
"""

from collections.abc import Callable, Sequence

import torch

from vkd.data.tracklets import Tracklet
from vkd.io.errors import VKDError

FrameRule = Callable[[int, int, torch.Generator | None], list[int]]
ViewRule = Callable[[Sequence[Tracklet], int, int, FrameRule, torch.Generator], list[tuple[int, int]]]


def _strip(frames: int, count: int) -> int:
    if frames < 1 or count < 1:
        raise VKDError(f"Cannot choose {count} frames out of {frames}: both must be at least 1.")
    return -(-frames // count)


def chunk(frames: int, count: int, generator: torch.Generator | None = None) -> list[int]:
    """The first frame of each of `count` chunks of ceil(frames / count); past the end the last frame.

    The published rule for testing: 9 frames and 8 chunks give 0 2 4 6 8 8 8 8.
    """
    length = _strip(frames, count)
    return [min(index * length, frames - 1) for index in range(count)]


def random_chunk(frames: int, count: int, generator: torch.Generator | None = None) -> list[int]:
    """One uniformly drawn frame of each of the same chunks, whose last one is padded with the last frame.

    The published rule for training the teacher.
    """
    length = _strip(frames, count)
    draws = torch.randint(length, (count,), generator=generator).tolist()
    return [min(index * length + draw, frames - 1) for index, draw in enumerate(draws)]


def even(frames: int, count: int, generator: torch.Generator | None = None) -> list[int]:
    """Evenly spread: the middle frame of each of `count` equal parts; repeats are spread as evenly."""
    _strip(frames, count)
    return [(2 * index + 1) * frames // (2 * count) for index in range(count)]


FRAMES: dict[str, FrameRule] = {"chunk": chunk, "random_chunk": random_chunk, "even": even}


def tracklet(
    tracklets: Sequence[Tracklet], own: int, views: int, frames: FrameRule, generator: torch.Generator
) -> list[tuple[int, int]]:
    """All views from the sampled tracklet, by the frame rule (stage 1). → (tracklet, frame) for each view."""
    return [(own, frame) for frame in frames(len(tracklets[own].frames), views, generator)]


def multiview(
    tracklets: Sequence[Tracklet], own: int, views: int, frames: FrameRule, generator: torch.Generator
) -> list[tuple[int, int]]:
    """Views from different tracklets of the identity (stage 2): a random order of all of them, walked in a
    circle.

    The sampled tracklet is not preferred; each view is a uniformly drawn frame whatever the frame rule.
    """
    order = _shuffled(range(len(tracklets)), generator)
    return [_any_frame(tracklets, order[view % len(order)], generator) for view in range(views)]


def camera(
    tracklets: Sequence[Tracklet], own: int, views: int, frames: FrameRule, generator: torch.Generator
) -> list[tuple[int, int]]:
    """Camera-balanced views: cameras in random order walked in a circle, and so the tracklets of each camera.

    No camera gives two views more than another. Without camera labels this is `multiview`.
    """
    queues: dict[int, list[int]] = {}
    for index in _shuffled(range(len(tracklets)), generator):
        queues.setdefault(tracklets[index].camera, []).append(index)
    cameras = _shuffled(sorted(queues), generator)
    chosen = []
    for view in range(views):
        rounds, place = divmod(view, len(cameras))
        queue = queues[cameras[place]]
        chosen.append(_any_frame(tracklets, queue[rounds % len(queue)], generator))
    return chosen


VIEWS: dict[str, ViewRule] = {"tracklet": tracklet, "multiview": multiview, "camera": camera}


def _shuffled(values: Sequence[int], generator: torch.Generator) -> list[int]:
    return [values[place] for place in torch.randperm(len(values), generator=generator).tolist()]


def _any_frame(tracklets: Sequence[Tracklet], index: int, generator: torch.Generator) -> tuple[int, int]:
    return index, int(torch.randint(len(tracklets[index].frames), (), generator=generator))
