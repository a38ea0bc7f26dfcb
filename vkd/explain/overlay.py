"""Overlays of heatmaps on images, and the share of a heatmap on the subject."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vkd.io.errors import VKDError

COLOURS: dict[str, int] = {
    "turbo": cv2.COLORMAP_TURBO,
    "inferno": cv2.COLORMAP_INFERNO,
    "viridis": cv2.COLORMAP_VIRIDIS,
}


def overlay(
    image: NDArray[np.uint8], heat: NDArray | Tensor, *, colours: str = "turbo", strength: float = 0.6
) -> NDArray[np.uint8]:
    """Blends a heatmap (h, w) in 0..1 into an image, RGB uint8 (H, W, 3); returns a new image.

    Where the heat is low the image stays unchanged; the maximum covers it to `strength`. Raises VKDError for
    an image that is not uint8 RGB, a heatmap that is not a matrix or an unknown colour map.
    """
    image, heat = np.asarray(image), np.asarray(heat, np.float32)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise VKDError(f"The image must be uint8 (H, W, 3), not {image.dtype} {image.shape}.")
    if heat.ndim != 2:
        raise VKDError(f"The heatmap must be a matrix, not of shape {heat.shape}.")
    if colours not in COLOURS:
        raise VKDError(f"There is no colour map '{colours}'; choose one of {', '.join(COLOURS)}.")
    height, width = image.shape[:2]
    heat = np.clip(cv2.resize(np.nan_to_num(heat), (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    coloured = cv2.applyColorMap((255 * heat).astype(np.uint8), COLOURS[colours])[
        ..., ::-1
    ]  # OpenCV thinks in BGR
    # Rises quickly and levels off: half the heat is already clearly tinted, cold parts stay a photograph.
    cover = strength * (heat * (2 - heat))[..., None]
    return np.rint((1 - cover) * image + cover * coloured).astype(np.uint8)


def on_subject(heat: NDArray | Tensor, mask: NDArray | Tensor) -> float:
    """Computes the share (0..1) of the heat (…, h, w) on the subject's mask (…, H, W), nonzero inside.

    nan where there is no heat at all. Raises VKDError for shapes that do not fit.
    """
    heat, mask = np.asarray(heat, np.float64), np.asarray(mask)
    if heat.ndim < 2 or heat.shape[:-2] != mask.shape[:-2]:
        raise VKDError(f"Heat {heat.shape} and mask {mask.shape} do not belong together.")
    subject = (mask > 0).astype(np.float64)
    if heat.shape != mask.shape:
        # The mask follows the heat's size, by area: a cell half covered counts half.
        flat = torch.from_numpy(subject).reshape(-1, 1, *mask.shape[-2:])
        subject = F.interpolate(flat, size=heat.shape[-2:], mode="area").numpy().reshape(heat.shape)
    total = heat.sum()
    return float((heat * subject).sum() / total) if total > 0 else float("nan")
