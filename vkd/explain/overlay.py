"""Heatmaps made visible and measured: laid over images, against the subject's mask."""

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
    picture: NDArray[np.uint8], heat: NDArray | Tensor, *, colours: str = "turbo", strength: float = 0.6
) -> NDArray[np.uint8]:
    """Picture (H, W, 3) RGB and heat (h, w) in 0..1 → picture (H, W, 3) with the heat laid over it.

    Where the heat is low the picture shows through unchanged; the hottest place covers it to `strength`.

    Raises:
        ValueError: a picture that is not uint8 RGB, a heatmap that is not a matrix, an unknown colour map.
    """
    picture, heat = np.asarray(picture), np.asarray(heat, np.float32)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise VKDError(f"The picture must be uint8 (H, W, 3), not {picture.dtype} {picture.shape}.")
    if heat.ndim != 2:
        raise VKDError(f"The heatmap must be a matrix, not of shape {heat.shape}.")
    if colours not in COLOURS:
        raise VKDError(f"There is no colour map '{colours}'; choose one of {', '.join(COLOURS)}.")
    height, width = picture.shape[:2]
    heat = np.clip(cv2.resize(np.nan_to_num(heat), (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    coloured = cv2.applyColorMap((255 * heat).astype(np.uint8), COLOURS[colours])[
        ..., ::-1
    ]  # OpenCV thinks in BGR
    # Rises quickly and levels off: half the heat is already clearly tinted, cold parts stay a photograph.
    cover = strength * (heat * (2 - heat))[..., None]
    return np.rint((1 - cover) * picture + cover * coloured).astype(np.uint8)


def on_subject(heat: NDArray | Tensor, mask: NDArray | Tensor) -> float:
    """Which share (0..1) of the heat in (…, h, w) falls on the subject's mask (…, H, W); above 0 is subject.

    nan where there is no heat at all. Raises ValueError for shapes that do not fit.
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
