"""Heatmaps made visible and measured: laid over pictures, on sheets, against the subject's mask."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
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


class Strip(NamedTuple):
    """One row of a sheet: a sentence and pictures (H, W, 3) below it."""

    caption: str
    pictures: Sequence[NDArray[np.uint8]]


CAPTION, GAP, LEAST_WIDTH = 22, 4, 480  # pixels


def sheet(strips: Sequence[Strip], *, height: int = 192) -> Image.Image:
    """Strips one below the other, their pictures at one height, for a file that is looked at."""
    rows = [[_at_height(picture, height) for picture in strip.pictures] for strip in strips]
    width = max(LEAST_WIDTH, *(sum(picture.width + GAP for picture in row) + GAP for row in rows))
    page = Image.new("RGB", (width, len(rows) * (CAPTION + height + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    for place, (strip, row) in enumerate(zip(strips, rows, strict=True)):
        top = GAP + place * (CAPTION + height + GAP)
        draw.text((GAP, top), strip.caption, fill="black", font=font)
        left = GAP
        for picture in row:
            page.paste(picture, (left, top + CAPTION))
            left += picture.width + GAP
    return page


def _at_height(picture: NDArray[np.uint8], height: int) -> Image.Image:
    image = Image.fromarray(picture)
    return image.resize(
        (max(1, round(image.width * height / image.height)), height), Image.Resampling.BICUBIC
    )
