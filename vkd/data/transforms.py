"""Transforms of training and evaluation: resizing, normalisation, augmentation.

Images are uint8 (3, H, W), clips uint8 (V, 3, H, W) until they are normalised to float32.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vkd.data.datasets import ERASING_ASPECT, IMAGE_SIZE, IMAGENET_MEAN, IMAGENET_STD
from vkd.io.errors import VKDError
from vkd.io.images import ImageLike, as_image

Range = tuple[float, float]


def resize(images: Sequence[Tensor] | Tensor, size: tuple[int, int], fit: str = "stretch") -> Tensor:
    """Resizes images uint8 (3, h, w) to a clip uint8 (V, 3, H, W), bicubic with antialiasing.

    fit "stretch" ignores the aspect ratio, as the published numbers were made; "pad" keeps it and fills with
    black, the odd pixel at the top or left.
    """
    if fit not in ("stretch", "pad"):
        raise VKDError(f"Unknown fit {fit!r}: choose 'stretch' or 'pad'.")
    if len({image.shape for image in images}) == 1:
        return _resize(images if isinstance(images, Tensor) else torch.stack(list(images)), size, fit)
    return torch.stack([_resize(image, size, fit) for image in images])


def _resize(images: Tensor, size: tuple[int, int], fit: str) -> Tensor:
    height, width = size
    if fit == "pad":
        ratio = min(height / images.shape[-2], width / images.shape[-1])
        height, width = (max(int(side * ratio), 1) for side in images.shape[-2:])
    # Imported here: torchvision takes 1.8 s, and the first page of the app resizes nothing.
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    if images.shape[-2:] != (height, width):
        images = F.resize(images, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True)
    down, right = size[0] - height, size[1] - width
    if down or right:
        images = F.pad(images, [right - right // 2, down - down // 2, right // 2, down // 2])
    return images


def normalise(
    clip: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Normalises a clip uint8 (…, 3, H, W) to float32: (value / 255 - mean) / std of each channel."""
    centre = torch.tensor(mean, dtype=torch.float32).view(3, 1, 1) * 255
    spread = torch.tensor(std, dtype=torch.float32).view(3, 1, 1) * 255
    # In one pass over the pixels; v2.functional.normalize after to_dtype takes thirty times as long.
    return clip.to(torch.float32, memory_format=torch.contiguous_format).sub_(centre).div_(spread)


def prepare(
    images: Sequence[ImageLike],
    size: tuple[int, int] = IMAGE_SIZE,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    fit: str = "stretch",
) -> Tensor:
    """Applies the evaluation transform: V images → float32 (V, 3, H, W), resized to `size`, normalised."""
    if not len(images):
        raise VKDError("No image was given.")
    return normalise(resize([as_image(image) for image in images], size, fit), mean, std)


class TrainTransform:
    """Training transform of the published numbers, for a whole clip at once, each frame with its own draws.

    Bicubic resize, zero padding and random crop, horizontal flip (0.5), normalisation, random erasing to the
    mean colour (`erase`: probability, `area`: share of the image, `aspect`: height / width). The distribution
    is that of torchvision's RandomCrop, RandomHorizontalFlip and RandomErasing applied frame by frame.
    """

    def __init__(
        self,
        size: tuple[int, int] = IMAGE_SIZE,
        aspect: Range = ERASING_ASPECT,
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
        """Transforms images uint8 (3, h, w) to float32 (V, 3, H, W), with draws of `generator` only."""
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
        pairs = zip(padded, corners.tolist(), strict=True)
        return torch.stack([one[:, top : top + height, left : left + width] for one, (top, left) in pairs])

    def _boxes(self, count: int, generator: torch.Generator) -> list[list[int]]:
        """Draws top, left, height and width of the erased part of each frame; zeros for none."""
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
