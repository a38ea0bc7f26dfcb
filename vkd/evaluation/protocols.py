"""From a network and a split to scores: embed every tracklet once, rank by each protocol, tell the results.

Source of the protocols: arXiv 2007.04174, section 4. Embeddings are pre-neck, compared by cosine.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Required, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from vkd.data.loaders import eval_loader
from vkd.data.tracklets import PROTOCOLS, Splits, Tracklet, remedy, why_no_query
from vkd.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from vkd.io.errors import VKDError
from vkd.metrics.bootstrap import Interval, bootstrap
from vkd.metrics.scores import CHUNK_BYTES, Scores, distances, score, score_features
from vkd.metrics.tables import Results, export, latex, markdown, rows
from vkd.models.network import ReIDNet

__all__ = [
    "PROTOCOLS",
    "Interval",
    "Results",
    "Scores",
    "bootstrap",
    "distances",
    "embed",
    "evaluate",
    "export",
    "latex",
    "markdown",
    "rows",
    "score",
    "score_features",
]


class Embedding(TypedDict, total=False):
    """How tracklets become embeddings; see `embed`."""

    image_size: Required[tuple[int, int]]
    views: int
    frames: str
    batch: int
    workers: int
    device: torch.device | str | None
    mean: Sequence[float]
    std: Sequence[float]
    progress: Callable[[Iterable[Any]], Iterable[Any]]


def embed(
    net: ReIDNet,
    tracklets: Sequence[Tracklet],
    *,
    image_size: tuple[int, int],
    views: int = 8,
    frames: str = "chunk",
    batch: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> NDArray[np.float32]:
    """Embeddings (n, D) of tracklets, in their order: the mean over `views` frames, before the neck.

    `batch` counts tracklets of `views` frames; one-frame tracklets are embedded apart from the others, as
    single views. The network stays on its device, or moves to `device`, and is afterwards in the modes it was
    in. `progress` sees batches, once for pictures and once for longer tracklets.

    Raises ValueError or FileNotFoundError with the path for a picture that cannot be read.
    """
    out = np.empty((len(tracklets), net.width), dtype=np.float32)
    device = torch.device(device) if device is not None else next(net.parameters()).device
    pictures = [item for item, tracklet in enumerate(tracklets) if len(tracklet.frames) == 1]
    longer = [item for item, tracklet in enumerate(tracklets) if len(tracklet.frames) != 1]
    modes = [(module, module.training) for module in net.modules()]
    net.eval().to(device)
    try:
        for items, size in ((pictures, batch * views), (longer, batch)):
            if not items:
                continue
            loader = eval_loader(
                [tracklets[item] for item in items],
                image_size=image_size,
                views=views,
                frames=frames,
                batch=size,
                workers=workers,
                mean=mean,
                std=std,
                pin_memory=device.type == "cuda",
            )
            for clips, places in progress(loader):
                out[np.asarray(items)[places.numpy()]] = _embed(net, clips.to(device, non_blocking=True))
    finally:
        for module, training in modes:
            module.training = training
    return out


@torch.inference_mode()
def _embed(net: ReIDNet, clips: torch.Tensor) -> NDArray[np.float32]:
    """Clips (B, V, 3, H, W) → (B, D), with the pictures in the network's precision and in the layout that
    convolutions are fastest in.
    """
    flat = clips.flatten(0, 1).to(net.neck.weight.dtype, memory_format=torch.channels_last)
    return net.embed(flat.unflatten(0, clips.shape[:2])).float().cpu().numpy()


def evaluate(
    net: ReIDNet,
    splits: Splits,
    *,
    protocols: Iterable[str] = ("i2v", "v2v"),
    convention: str = "trapezoid",
    chunk_bytes: int = CHUNK_BYTES,
    **how: Unpack[Embedding],
) -> dict[str, Scores]:
    """Protocol → Scores of a network on the test side of a data set.

    Each tracklet is embedded once, however many protocols and sides it takes part in. The other arguments are
    those of `embed` (how) and of `scores.score_features`.

    Raises ValueError before anything is embedded if a protocol is unknown or has no valid query.
    """
    sides = {protocol: splits.query_gallery(protocol) for protocol in protocols}
    require_queries(splits, sides)
    distinct = {tracklet.frames: tracklet for both in sides.values() for side in both for tracklet in side}
    place = {key: row for row, key in enumerate(distinct)}
    features = embed(net, list(distinct.values()), **how)
    return {
        protocol: score_features(
            features[[place[tracklet.frames] for tracklet in query]],
            features[[place[tracklet.frames] for tracklet in gallery]],
            [tracklet.identity for tracklet in query],
            [tracklet.identity for tracklet in gallery],
            [tracklet.camera for tracklet in query],
            [tracklet.camera for tracklet in gallery],
            protocol=protocol,
            dataset=splits.name,
            convention=convention,
            queries_in_gallery=splits.queries_in_gallery,
            chunk_bytes=chunk_bytes,
        )
        for protocol, (query, gallery) in sides.items()
    }


def require_queries(splits: Splits, protocols: Iterable[str]) -> None:
    """Raise ValueError, saying what to do, if a protocol has no valid query."""
    for protocol in protocols:
        if reason := why_no_query(splits, protocol):
            told = f"no valid query for {protocol.upper()}: {reason}; {remedy(splits, reason)}"
            raise VKDError(f"{splits.root} has {told}.")
