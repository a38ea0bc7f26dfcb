"""Image decoding: files, PIL images and arrays to RGB tensors, within limits of size and memory."""

import math
import stat
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import refuse_lfs_pointer
from vkd.io.formats import MAX_PIXELS, SHRINK_PIXELS, check_size, exif_orientation, open_image, strip_metadata

__all__ = ["MAX_PIXELS", "ImageLike", "ImageOrArray", "as_image", "read_image", "resize_to_height"]

MAX_BYTES = 2**29
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation → what makes the image upright."""

ImageOrArray = Image.Image | np.ndarray
ImageLike = str | Path | Image.Image | np.ndarray | Tensor


def read_image(path: str | Path) -> Tensor:
    """Reads an image file as uint8 (3, H, W), RGB, upright, on white; of an animation the first frame.

    Images above SHRINK_PIXELS are shrunk by a whole number while they are decoded. Plain JPEG goes through
    torchvision's decoder (the same bytes as Pillow's in half the time), all else through Pillow. Raises
    MissingFileError or VKDError (not an image, cut off, too large) naming the path, and nothing else.
    """
    data = _read_file(path)
    try:
        if _is_plain_jpeg(data) and (decode := _jpeg_decoder()) is not None:
            pixels = decode(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            orientation, _ = strip_metadata(data)
            return pixels if orientation == 1 else _upright(pixels, orientation)
        image, orientation = open_image(data)
        with image:
            return _from_pillow(image, orientation)
    except VKDError as error:
        raise VKDError(f"The image {path} cannot be decoded ({error}).") from None
    except Image.UnidentifiedImageError:
        raise VKDError(f"{path} is not an image: choose a JPEG, PNG, WebP, GIF, BMP or TIFF file.") from None
    except Exception as error:  # decoders raise a different type for each way in which a file can be broken
        raise VKDError(f"The image {path} {_damage(data, error)}.") from error


def _read_file(path: str | Path) -> bytes:
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
            raise VKDError(f"The image {path} is {kind}, not a file: leave it out.")
        if status.st_size > MAX_BYTES:
            raise VKDError(f"The image {path} has more than {MAX_BYTES // 2**20} MB: make it smaller.")
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"The image {path} is missing.") from None
    except OSError as error:
        raise VKDError(f"The image {path} cannot be read ({error.strerror}).") from error
    if not data:
        raise VKDError(f"The image {path} is an empty file: choose another one.")
    refuse_lfs_pointer(path)
    return data


def _damage(data: bytes, error: Exception) -> str:
    """Returns what is wrong with a file that no decoder takes, as the end of a sentence."""
    if isinstance(error, MemoryError | Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "has too many pixels: make it smaller"
    tail = data[-4096:]
    complete = {b"\xff\xd8": b"\xff\xd9" in tail, b"\x89P": b"IEND" in tail}.get(data[:2])
    if complete is False or (complete is None and "truncated" in str(error)):
        return "is cut off: its end is missing. Copy it again from where it came from, or leave it out"
    return "is damaged: copy it again from where it came from, or leave it out"


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
    """True for an 8-bit JPEG of 1 or 3 channels that need not be shrunk. Raises VKDError as `check_size`."""
    if data[:3] != b"\xff\xd8\xff":
        return False
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in (0xC0, 0xC1, 0xC2):  # the frame header of baseline, extended and progressive JPEG
            height, width = (int.from_bytes(data[at + side : at + side + 2]) for side in (5, 7))
            check_size(width, height)
            return data[at + 4] == 8 and 0 < width * height <= SHRINK_PIXELS and data[at + 9] in (1, 3)
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turns uint8 (3, H, W) upright."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    return _tensor(np.array(image.transpose(_TURNS[orientation])))


def _tensor(pixels: np.ndarray) -> Tensor:
    """Converts uint8 (H, W, 3) to (3, H, W)."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _from_pillow(image: Image.Image, orientation: int) -> Tensor:
    check_size(*image.size)
    if image.width * image.height > SHRINK_PIXELS:  # of JPEG, Pillow decodes a half, quarter or eighth
        side = math.sqrt(SHRINK_PIXELS / (image.width * image.height))
        image.draft(None, (int(side * image.width), int(side * image.height)))
    factor = math.ceil(math.sqrt(image.width * image.height / SHRINK_PIXELS))
    rescale = _rescale(image) if image.mode.startswith("I") or image.mode == "F" else None
    if factor > 1:
        parts = [_rgb(strip, rescale).reduce(factor) for strip in _strips(image, factor)]
        image = Image.fromarray(np.concatenate([np.asarray(part) for part in parts]))
    else:
        image = _rgb(image, rescale)
    return _tensor(np.array(image.transpose(_TURNS[orientation]) if orientation in _TURNS else image))


def _strips(image: Image.Image, factor: int) -> Iterator[Image.Image]:
    """Yields the image in strips of a multiple of `factor` rows, since conversions take several copies."""
    rows = factor * max(1, SHRINK_PIXELS // (factor * image.width))
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _rescale(image: Image.Image) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what brings the values of a 16-bit, 32-bit or float image to 0..255."""
    # The range of 32-bit and of float images shows only in their values.
    most = max(np.nan_to_num(np.asarray(strip, np.float64)).max() for strip in _strips(image, 1))
    if image.mode.startswith("I;16") or most > 255:
        return lambda pixels: pixels / 257
    return (lambda pixels: pixels * 255) if image.mode == "F" and most <= 1 else lambda pixels: pixels


def _rgb(image: Image.Image, rescale: Callable[[np.ndarray], np.ndarray] | None) -> Image.Image:
    if rescale is not None:
        pixels = rescale(np.nan_to_num(np.asarray(image, dtype=np.float64)))
        image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_memory(image: Image.Image) -> Tensor:
    """Converts a PIL image that was opened or drawn elsewhere."""
    check_size(*image.size)
    try:
        image.load()  # a PNG may state its orientation after its pixels; a TIFF turns upright by itself
        return _from_pillow(image, exif_orientation(image.info.get("exif")))
    except VKDError:
        raise
    except Exception as error:
        raise VKDError(f"The image cannot be decoded: it {_damage(b'', error)}.") from error


def as_image(image: ImageLike) -> Tensor:
    """Converts a path, PIL image, array (H, W[, 1 | 3 | 4]) or tensor (3, H, W) to uint8 (3, H, W).

    Floating-point values are taken to be in 0..1. Raises VKDError for other shapes.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _from_memory(image)
    if isinstance(image, np.ndarray):
        if image.dtype.kind == "f":
            image = (image * 255).round().clip(0, 255).astype(np.uint8)
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[:, :, 0]
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise VKDError(
                f"An array of shape {image.shape} and type {image.dtype} is not an image (H, W, 3)."
            )
        return _from_memory(Image.fromarray(image))
    if image.ndim != 3 or image.shape[0] != 3:
        raise VKDError(f"A tensor of shape {tuple(image.shape)} is not an image (3, H, W).")
    return (image * 255).round().clamp(0, 255).to(torch.uint8) if image.is_floating_point() else image


def resize_to_height(image: ImageOrArray, height: int, *, max_aspect: float | None = None) -> Image.Image:
    """Resizes an image, uint8 (H, W, 3) or PIL, to `height` pixels, bicubic, its aspect ratio unchanged.

    An image wider than `max_aspect` × `height` is squeezed to that width.
    """
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    width = max(1, round(image.width * height / image.height))
    if max_aspect is not None:
        width = min(width, round(max_aspect * height))
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2)
