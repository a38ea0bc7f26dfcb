"""Heatmaps of one model as the page shows them: computed, laid over the images, rendered."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from torch import Tensor

from vkd.explain import gradcam
from vkd.explain.overlay import overlay
from vkd.io.images import resize_to_height
from vkd.models.checkpoint import Checkpoint
from vkd.ui import html

HEIGHT = 320  # pixels, of an image in the page


class Maps(NamedTuple):
    """Maps (V, H, W) in 0..1, the number they explain, and the class whose logit it is (−1: a cosine)."""

    maps: np.ndarray
    value: float
    class_index: int


class View(NamedTuple):
    """An image and its heatmap, as data URIs, with a caption."""

    caption: str
    image: str
    overlay: str


class Panel(NamedTuple):
    """One model's heatmaps and the number that they explain; `others` are those of the second images."""

    part: str
    model: str
    value: float
    meaning: str
    views: Sequence[View]
    others: Sequence[View] = ()

    @property
    def height(self) -> int:
        """Height of the images in pixels: the fewer, the larger."""
        most = max(len(self.views), len(self.others))
        return 200 if self.others else {1: 380, 2: 220}.get(most, 200 if most < 5 else 140)


def compute(
    model: Checkpoint,
    images: Sequence[Tensor],
    target: Tensor | np.ndarray | int | None,
    method: str,
    layer: str | int | None = None,
) -> Maps:
    """Computes the heatmaps of one subject's images; `target` as in `vkd.explain.gradcam.heatmaps`."""
    clip = model.prepare(images)[None].to(next(model.net.parameters()).device)
    heat = gradcam.heatmaps(model.net, clip, target=target, method=method, layer=layer)
    return Maps(heat.maps[0], float(heat.values[0]), int(heat.classes[0]))


def displayed(image: Tensor) -> np.ndarray:
    """Converts uint8 (3, H, W) to (h, w, 3) at the height at which it is shown."""
    return np.asarray(resize_to_height(image.permute(1, 2, 0).contiguous().numpy(), HEIGHT, max_aspect=4))


def views(images: Sequence[Tensor], maps: np.ndarray, name: str) -> list[View]:
    """Returns each image and its overlay; captions are numbered where there are several."""
    captions = [name] if len(images) == 1 else [f"{name} {n + 1}" for n in range(len(images))]
    return [
        View(caption, html.array_uri(image), html.array_uri(overlay(image, heat)))
        for caption, image, heat in zip(captions, map(displayed, images), maps, strict=True)
    ]


def render(
    panels: Sequence[Panel], *, slider: bool = False, pending: Sequence[tuple[str, str]] = ()
) -> Markup:
    """Renders teacher and student side by side; with `slider` also one over the other.

    `pending` are parts and models whose heatmaps are still being computed.
    """
    return html.render("heatmaps.html.j2", panels=panels, slider=slider, pending=pending)
