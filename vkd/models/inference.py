"""Embeds tracklets by one number of views (`embed`), or by several in one pass (`embed_counts`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vkd.data.datasets import IMAGENET_MEAN, IMAGENET_STD
from vkd.data.loaders import eval_loader
from vkd.data.sampling import FRAMES
from vkd.data.tracklets import Tracklet
from vkd.io.errors import VKDError
from vkd.io.progress import Progress, silent
from vkd.models.config import Config
from vkd.models.network import Features, ReIDNet, embed_clips, evaluation_mode

BLOCK = 1024  # tracklets whose frames' embeddings are in memory at a time


def resolve_device(name: str) -> str:
    """Resolves auto, cpu or cuda to an available device. Raises VKDError for cuda where there is none.

    The only rule for devices. It never gives MPS, which lacks some of our operations.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise VKDError("There is no CUDA device: choose device auto or cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class EmbedConfig:
    """Options of the embedding of tracklets.

    `image_size`: (height, width). `views`: frames that represent a tracklet, chosen by `frames` (a key of
    FRAMES). `batch`: tracklets of `views` frames embedded at a time. `workers`: processes that read images.
    `device`: None leaves the network where it is. `mean`, `std`: of the pixels, 0..1, per channel.
    """

    image_size: tuple[int, int]
    views: int = 8
    frames: str = "chunk"
    batch: int = 32
    workers: int = 0
    device: torch.device | str | None = None
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    @classmethod
    def of(cls, config: Config, **changes: Any) -> "EmbedConfig":
        """Returns the config for a checkpoint's network: its image size, mean and std."""
        return cls(**{"image_size": config.image_size, "mean": config.mean, "std": config.std, **changes})


def embed(
    net: ReIDNet, tracklets: Sequence[Tracklet], config: EmbedConfig, progress: Progress = silent
) -> Features:
    """Embeds tracklets, in their order: (n, D), the mean over `config.views` frames, before the neck.

    One-frame tracklets are embedded apart from the others, as single views, `batch` × `views` at a time. The
    network moves to `config.device`, and is afterwards in the modes it was in. `progress` counts tracklets.

    Raises VKDError or MissingFileError with the path for an image that cannot be read.
    """
    out = np.empty((len(tracklets), net.width), dtype=np.float32)
    device = next(net.parameters()).device if config.device is None else torch.device(config.device)
    images = [index for index, tracklet in enumerate(tracklets) if len(tracklet.frames) == 1]
    longer = [index for index, tracklet in enumerate(tracklets) if len(tracklet.frames) != 1]
    done = 0
    net.to(device)
    progress(0, len(tracklets), "embedding")
    with evaluation_mode(net):
        for indices, batch in ((images, config.batch * config.views), (longer, config.batch)):
            if not indices:
                continue
            loader = eval_loader(
                [tracklets[index] for index in indices],
                image_size=config.image_size,
                views=config.views,
                frames=config.frames,
                batch=batch,
                workers=config.workers,
                mean=config.mean,
                std=config.std,
                pin_memory=device.type == "cuda",
            )
            for clips, rows in loader:
                out[np.asarray(indices)[rows.numpy()]] = embed_clips(net, clips.to(device, non_blocking=True))
                done += len(rows)
                progress(done, len(tracklets), "embedding")
    return out


def select_frames(frames: Sequence[str], count: int, rule: str) -> tuple[str, ...]:
    """Selects the `count` frames that represent a tracklet; of a single image, that image."""
    if len(frames) == 1:
        return tuple(frames)
    generator = torch.Generator().manual_seed(0)
    return tuple(frames[index] for index in FRAMES[rule](len(frames), count, generator))


def embed_counts(
    net: ReIDNet,
    tracklets: Sequence[Tracklet],
    counts: Sequence[int],
    config: EmbedConfig,
    progress: Progress = silent,
) -> dict[int, Features]:
    """Embeds tracklets by several numbers of frames: number → (n, D), means over that many frames.

    Every frame is embedded once, so more numbers cost no more. `progress` counts frames.
    """
    blocks = list(_blocks(tracklets, counts, config.frames))
    total, done = sum(len(frames) for _, frames in blocks), 0
    out = {count: np.empty((len(tracklets), net.width), np.float32) for count in counts}
    for start, frames in blocks:
        before = done

        def report(count: int, _total: int, what: str, before: int = before) -> None:
            progress(before + count, total, what)

        rows = embed(net, [Tracklet((frame,), 0, 0) for frame in frames], config, report)
        done += len(frames)
        row_of = {frame: row for row, frame in enumerate(frames)}
        for index, tracklet in enumerate(tracklets[start : start + BLOCK], start):
            for count in counts:
                chosen = select_frames(tracklet.frames, count, config.frames)
                out[count][index] = rows[[row_of[frame] for frame in chosen]].mean(0)
    return out


def _blocks(
    tracklets: Sequence[Tracklet], counts: Sequence[int], rule: str
) -> Iterator[tuple[int, list[str]]]:
    """Yields start and distinct frames of each block of tracklets."""
    for start in range(0, len(tracklets), BLOCK):
        block = tracklets[start : start + BLOCK]
        frames = (frame for t in block for count in counts for frame in select_frames(t.frames, count, rule))
        yield start, list(dict.fromkeys(frames))
