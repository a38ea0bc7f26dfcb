"""From picture files to the tensors that the network eats: decoding, resizing, the training and test
transforms.

Pictures are uint8 (3, H, W), clips uint8 (V, 3, H, W) until they are normalised to float32.
"""

import io
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vkd.io.errors import MissingFileError, VKDError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded: a file of 17 KB can declare 144 million pixels."""

# Pillow warns of, or above twice its limit refuses, what is anyhow above ours.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

Picture = str | Path | Image.Image | np.ndarray | Tensor
Range = tuple[float, float]


def read_picture(path: str | Path) -> Tensor:
    """Picture file → uint8 (3, H, W) in RGB, upright, transparent parts white; the first frame of an
    animation.

    Plain JPEG goes through torchvision's decoder (the same bytes as Pillow's in half the time), all else
    through Pillow. Raises FileNotFoundError or ValueError (not a picture, cut off, too large) naming the
    path.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"The picture {path} is missing.") from None
    except OSError as error:
        raise VKDError(f"The picture {path} cannot be read ({error.strerror}).") from error
    if not data:
        raise VKDError(f"The picture {path} is an empty file: choose another one.")
    try:
        if _is_plain_jpeg(data) and (decode := _jpeg_decoder()) is not None:
            return decode(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        with Image.open(io.BytesIO(data)) as picture:
            return _from_pillow(picture)
    except Image.UnidentifiedImageError:
        raise VKDError(f"{path} is not a picture: choose a JPEG, PNG, WebP, GIF, BMP or TIFF file.") from None
    except (OSError, RuntimeError, SyntaxError, ValueError, EOFError, *_BOMBS) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise VKDError(f"The picture {path} cannot be decoded ({reason}).") from error


@cache
def _jpeg_decoder() -> Callable[[Tensor], Tensor] | None:
    """torchvision's, which announces since 0.29 that it will go: then Pillow does the same, more slowly."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:  # pragma: no cover
        return None
    decode: Any = decode_jpeg
    return partial(decode, mode=ImageReadMode.RGB)


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether a JPEG is 8-bit gray or three-channel, of bearable size and without EXIF (which may turn
    it)."""
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


def _from_pillow(picture: Image.Image) -> Tensor:
    if picture.width * picture.height > MAX_PIXELS:
        raise VKDError(
            f"{picture.width} × {picture.height} pixels are more than {MAX_PIXELS // 10**6} million: "
            "make it smaller"
        )
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        pixels = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        # Pictures of 32 bits and of floats tell their range only by their values.
        if picture.mode.startswith("I;16") or pixels.max() > 255:
            pixels = pixels / 257
        elif picture.mode == "F" and pixels.max() <= 1:
            pixels = pixels * 255
        picture = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


def as_picture(picture: Picture) -> Tensor:
    """A path, Pillow picture, array (H, W[, 1 | 3 | 4]) or tensor (3, H, W) → uint8 (3, H, W).

    Floating-point arrays and tensors are taken to hold 0..1. Raises ValueError for other shapes.
    """
    if isinstance(picture, str | Path):
        return read_picture(picture)
    if isinstance(picture, Image.Image):
        return _from_pillow(picture)
    if isinstance(picture, np.ndarray):
        if picture.dtype.kind == "f":
            picture = (picture * 255).round().clip(0, 255).astype(np.uint8)
        if picture.ndim == 3 and picture.shape[2] == 1:
            picture = picture[:, :, 0]
        if picture.dtype != np.uint8 or not (
            picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4))
        ):
            raise VKDError(
                f"An array of shape {picture.shape} and type {picture.dtype} is not a picture (H, W, 3)."
            )
        return _from_pillow(Image.fromarray(picture))
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise VKDError(f"A tensor of shape {tuple(picture.shape)} is not a picture (3, H, W).")
    return (picture * 255).round().clamp(0, 255).to(torch.uint8) if picture.is_floating_point() else picture


def resize(pictures: Sequence[Tensor] | Tensor, size: tuple[int, int], fit: str = "stretch") -> Tensor:
    """Pictures uint8 (3, h, w) of any sizes → clip uint8 (V, 3, H, W), bicubic with antialiasing.

    fit "stretch" ignores the aspect ratio, as the published numbers were made; "pad" keeps it and fills
    with black, the odd pixel at the top or left.
    """
    if fit not in ("stretch", "pad"):
        raise VKDError(f"Unknown fit {fit!r}: choose 'stretch' or 'pad'.")
    if len({picture.shape for picture in pictures}) == 1:
        return _resize(pictures if isinstance(pictures, Tensor) else torch.stack(list(pictures)), size, fit)
    return torch.stack([_resize(picture, size, fit) for picture in pictures])


def _resize(pictures: Tensor, size: tuple[int, int], fit: str) -> Tensor:
    height, width = size
    if fit == "pad":
        ratio = min(height / pictures.shape[-2], width / pictures.shape[-1])
        height, width = (max(int(side * ratio), 1) for side in pictures.shape[-2:])
    # Imported where it is needed: torchvision takes 1.8 s, and the app's first page needs no pixel of it.
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    if pictures.shape[-2:] != (height, width):
        pictures = F.resize(
            pictures, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True
        )
    down, right = size[0] - height, size[1] - width
    if down or right:
        pictures = F.pad(pictures, [right - right // 2, down - down // 2, right // 2, down // 2])
    return pictures


def normalise(
    clip: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Clip uint8 (…, 3, H, W) → float32, channel by channel (value / 255 - mean) / std."""
    centre = torch.tensor(mean, dtype=torch.float32).view(3, 1, 1) * 255
    spread = torch.tensor(std, dtype=torch.float32).view(3, 1, 1) * 255
    # In one pass over the pixels; v2.functional.normalize after to_dtype takes thirty times as long.
    return clip.to(torch.float32, memory_format=torch.contiguous_format).sub_(centre).div_(spread)


def prepare(
    pictures: Sequence[Picture],
    size: tuple[int, int] = (256, 128),
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    fit: str = "stretch",
) -> Tensor:
    """The test transform: V pictures → float32 (V, 3, H, W), resized to `size` (height, width) and
    normalised."""
    if not len(pictures):
        raise VKDError("No picture was given.")
    return normalise(resize([as_picture(picture) for picture in pictures], size, fit), mean, std)


class TrainTransform:
    """The training transform of the published numbers, for a whole clip at once, each frame with its own
    draws.

    Bicubic resize, zero padding and random crop, horizontal flip (0.5), normalisation, random erasing to
    the mean colour (`erase`: probability, `area`: share of the picture, `aspect`: height / width). The
    distribution is that of torchvision's RandomCrop, RandomHorizontalFlip and RandomErasing applied frame
    by frame.
    """

    def __init__(
        self,
        size: tuple[int, int] = (256, 128),
        aspect: Range = (0.3, 3.3),
        *,
        pad: int = 10,
        flip: float = 0.5,
        erase: float = 0.5,
        area: Range = (0.02, 0.4),
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        self.size, self.pad, self.flip, self.erase = size, pad, flip, erase
        self.area, self.aspect, self.mean, self.std = area, aspect, mean, std

    def __call__(self, clip: Sequence[Tensor] | Tensor, generator: torch.Generator) -> Tensor:
        """Pictures uint8 (3, h, w) → float32 (V, 3, H, W); all randomness comes from `generator`."""
        frames = resize(clip, self.size)
        draws = torch.rand((len(frames), 4), generator=generator)
        frames = self._crop(frames, (draws[:, :2] * (2 * self.pad + 1)).long())
        frames = torch.where((draws[:, 2] < self.flip).view(-1, 1, 1, 1), frames.flip(-1), frames)
        frames = normalise(frames, self.mean, self.std)
        boxes = self._boxes(len(frames), generator)
        for frame, (top, left, height, width) in zip(frames, boxes, strict=True):
            frame[:, top : top + height, left : left + width] = 0
        return frames

    def _crop(self, frames: Tensor, corners: Tensor) -> Tensor:
        if not self.pad:
            return frames
        from torchvision.transforms.v2 import functional as F

        height, width = self.size
        padded = F.pad(frames, [self.pad])
        places = zip(padded, corners.tolist(), strict=True)
        return torch.stack([one[:, top : top + height, left : left + width] for one, (top, left) in places])

    def _boxes(self, count: int, generator: torch.Generator) -> list[list[int]]:
        """Top, left, height and width of the erased part of each frame; zeros where nothing is erased."""
        height, width = self.size
        draws = torch.rand((count, 23), generator=generator, dtype=torch.float64)
        # Ten proposals a frame, of which the first that fits counts, as torchvision does.
        area = height * width * (self.area[0] + draws[:, :10] * (self.area[1] - self.area[0]))
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        aspect = (low + draws[:, 10:20] * (high - low)).exp()
        sizes = torch.stack([(area * aspect).sqrt().round(), (area / aspect).sqrt().round()], -1)
        fits = ((sizes < torch.tensor([height, width])).all(-1)).int()
        size = sizes[torch.arange(count), fits.argmax(1)]
        erased = fits.any(1) & (draws[:, 22] < self.erase)
        corner = (draws[:, 20:22] * (torch.tensor([height, width]) - size + 1)).floor()
        return (torch.cat([corner, size], 1) * erased.view(-1, 1)).long().tolist()
