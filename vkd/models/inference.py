"""Every frame embedded once: tracklets are means of their frames, so any number of them costs no more."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vkd.data.sampling import FRAMES
from vkd.data.tracklets import Tracklet
from vkd.evaluation.protocols import embed
from vkd.models.checkpoint import Checkpoint

BLOCK = 1024  # items whose frames are in memory at a time


def shown(frames: Sequence[str], count: int, rule: str) -> tuple[str, ...]:
    """The frames that stand for a tracklet; a picture stands for itself."""
    if len(frames) == 1:
        return tuple(frames)
    generator = torch.Generator().manual_seed(0)
    return tuple(frames[place] for place in FRAMES[rule](len(frames), count, generator))


def blocks_of(items: Sequence[Tracklet], counts: Sequence[int], rule: str) -> Iterator[tuple[int, list[str]]]:
    """Start and distinct frames of each block of items."""
    for start in range(0, len(items), BLOCK):
        part = items[start : start + BLOCK]
        yield (
            start,
            list(
                dict.fromkeys(frame for item in part for n in counts for frame in shown(item.frames, n, rule))
            ),
        )


def embed_counts(
    network: Checkpoint,
    items: Sequence[Tracklet],
    blocks: Sequence[tuple[int, list[str]]],
    counts: Sequence[int],
    rule: str,
    batch: int,
    workers: int,
    told: Callable[[int], None],
) -> dict[int, NDArray[np.float32]]:
    """Number of frames → embeddings (n, D) of the items: means over that many of their frames."""
    config, done = network.config, 0
    out = {count: np.empty((len(items), network.net.width), np.float32) for count in counts}

    def watched(batches: Iterable[Any]) -> Iterator[Any]:
        nonlocal done
        told(done)
        for clips, places in batches:
            yield clips, places
            done += len(places)
            told(done)

    for start, frames in blocks:
        rows = embed(
            network.net,
            [Tracklet((frame,), 0, 0) for frame in frames],
            image_size=config.image_size,
            views=8,  # a batch is as many pictures as `batch` tracklets have elsewhere
            batch=batch,
            workers=workers,
            mean=config.mean,
            std=config.std,
            progress=watched,
        )
        place = {frame: row for row, frame in enumerate(frames)}
        for number, item in enumerate(items[start : start + BLOCK], start):
            for count in counts:
                out[count][number] = rows[[place[f] for f in shown(item.frames, count, rule)]].mean(0)
    return out
