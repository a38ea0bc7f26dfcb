"""Image decoding: files, PIL images and arrays to RGB tensors, within a limit of pixels."""

import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vkd.io.errors import MissingFileError, VKDError

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded: a file of 17 KB can declare 144 million pixels."""

# Pillow warns of, or above twice its limit refuses, what is anyhow above ours.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

ImageLike = str | Path | Image.Image | np.ndarray | Tensor


def read_image(path: str | Path) -> Tensor:
    """Reads an image file as uint8 (3, H, W), RGB, upright, on white; of an animation the first frame.

    Plain JPEG goes through torchvision's decoder (the same bytes as Pillow's in half the time), all else
    through Pillow. Raises MissingFileError or VKDError (not an image, cut off, too large) naming the path.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"The image {path} is missing.") from None
    except OSError as error:
        raise VKDError(f"The image {path} cannot be read ({error.strerror}).") from error
    if not data:
        raise VKDError(f"The image {path} is an empty file: choose another one.")
    try:
        if _is_plain_jpeg(data) and (decode := _jpeg_decoder()) is not None:
            return decode(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        with Image.open(io.BytesIO(data)) as image:
            return _from_pillow(image)
    except Image.UnidentifiedImageError:
        raise VKDError(f"{path} is not an image: choose a JPEG, PNG, WebP, GIF, BMP or TIFF file.") from None
    except (OSError, RuntimeError, SyntaxError, ValueError, EOFError, *_BOMBS) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise VKDError(f"The image {path} cannot be decoded ({reason}).") from error


@cache
def _jpeg_decoder() -> Callable[[Tensor], Tensor] | None:
    """Returns torchvision's decoder, None where it is gone, as 0.29 announces: then Pillow decodes."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:  # pragma: no cover
        return None
    decode: Any = decode_jpeg
    return partial(decode, mode=ImageReadMode.RGB)


def _is_plain_jpeg(data: bytes) -> bool:
    """True for an 8-bit JPEG of 1 or 3 channels within MAX_PIXELS, without EXIF (orientation)."""
    if data[:3] != b"\xff\xd8\xff":
        return False
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in (0xC0, 0xC1, 0xC2):  # the frame header of baseline, extended and progressive JPEG
            bits, height, width, channels = (
                data[at + 4],
                data[at + 5 : at + 7],
                data[at + 7 : at + 9],
                data[at + 9],
            )
            pixels = int.from_bytes(height) * int.from_bytes(width)
            return bits == 8 and 0 < pixels <= MAX_PIXELS and channels in (1, 3)
        if marker == 0xE1 and data[at + 4 : at + 8] == b"Exif":
            return False
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _from_pillow(image: Image.Image) -> Tensor:
    if image.width * image.height > MAX_PIXELS:
        raise VKDError(
            f"{image.width} × {image.height} pixels are more than {MAX_PIXELS // 10**6} million: "
            "make it smaller"
        )
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        pixels = np.nan_to_num(np.asarray(image, dtype=np.float64))
        # The range of 32-bit and of float images shows only in their values.
        if image.mode.startswith("I;16") or pixels.max() > 255:
            pixels = pixels / 257
        elif image.mode == "F" and pixels.max() <= 1:
            pixels = pixels * 255
        image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def as_image(image: ImageLike) -> Tensor:
    """Converts a path, PIL image, array (H, W[, 1 | 3 | 4]) or tensor (3, H, W) to uint8 (3, H, W).

    Floating-point values are taken to be in 0..1. Raises VKDError for other shapes.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if isinstance(image, np.ndarray):
        if image.dtype.kind == "f":
            image = (image * 255).round().clip(0, 255).astype(np.uint8)
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[:, :, 0]
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise VKDError(
                f"An array of shape {image.shape} and type {image.dtype} is not an image (H, W, 3)."
            )
        return _from_pillow(Image.fromarray(image))
    if image.ndim != 3 or image.shape[0] != 3:
        raise VKDError(f"A tensor of shape {tuple(image.shape)} is not an image (3, H, W).")
    return (image * 255).round().clamp(0, 255).to(torch.uint8) if image.is_floating_point() else image
