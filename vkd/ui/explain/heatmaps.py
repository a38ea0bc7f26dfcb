"""Heatmaps of one network as the page shows them: computed, laid over the pictures, named."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from vkd.explain.dataset import heatmaps, overlay
from vkd.models.checkpoint import Checkpoint
from vkd.ui import html, inputs

HEIGHT = 320  # pixels, of a picture in the page


class Maps(NamedTuple):
    """Maps (V, H, W) in 0..1, the number they explain, and the class whose logit it is (−1: a cosine)."""

    maps: np.ndarray
    value: float
    index: int


def compute(
    net: Checkpoint,
    pictures: Sequence[torch.Tensor],
    target: torch.Tensor | np.ndarray | int | None,
    method: str,
    layer: str | int | None = None,
) -> Maps:
    """Heatmaps of one subject's pictures; `target` as `vkd.explain.gradcam.heatmaps` takes it."""
    heat = heatmaps(net.net, inputs.clip(net, pictures), target=target, method=method, layer=layer)
    return Maps(heat.maps[0], float(heat.values[0]), int(heat.classes[0]))


def shown(picture: torch.Tensor) -> np.ndarray:
    """uint8 (3, H, W) → (h, w, 3) at the height at which it is shown."""
    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    width = max(1, min(4 * HEIGHT, round(image.width * HEIGHT / image.height)))
    return np.asarray(image.resize((width, HEIGHT), Image.Resampling.BICUBIC))


def views(pictures: Sequence[torch.Tensor], maps: np.ndarray, name: str) -> list[html.View]:
    """Each picture beside the same with its heat laid over it."""
    alone = len(pictures) == 1 and name != "view"
    named = [name] if alone else [f"{name} {n + 1}" for n in range(len(pictures))]
    return [
        html.View(caption, html.array_uri(picture), html.array_uri(overlay(picture, heat)))
        for caption, picture, heat in zip(named, map(shown, pictures), maps, strict=True)
    ]
