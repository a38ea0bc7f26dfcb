"""Small pictures of gallery items, made while every picture to be indexed is read and checked."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vkd.data.sampling import FRAMES
from vkd.data.tracklets import Tracklet
from vkd.io.grids import resize_to_height
from vkd.io.images import read_image

HEIGHT = 128  # pixels
MOST_VIEWS = 8
QUALITY = 85  # of the JPEG: about 2 KB for a person


def files(folder: Path, item: int, views: int) -> tuple[Path, ...]:
    """Where an item's thumbnails are: `<item>.jpg` of a single picture, `<item>-<view>.jpg` of a tracklet."""
    if views == 1:
        return (folder / f"{item}.jpg",)
    return tuple(folder / f"{item}-{view}.jpg" for view in range(views))


def write_all(
    folder: Path,
    tracklets: Sequence[Tracklet],
    views: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]],
) -> tuple[list[Tracklet], list[int], list[tuple[str, str]]]:
    """Read the views of every tracklet, write its thumbnails, leave out what cannot be read.

    → the tracklets that remain, cut down to the views chosen (the chunk rule, repeats included), their
    numbers of thumbnails, and (path, reason) of each picture that was left out. A tracklet loses only its bad
    frames and is dropped when none is left.
    """
    kept: list[Tracklet] = []
    counts: list[int] = []
    skipped: list[tuple[str, str]] = []
    for tracklet in progress(tracklets):
        frames, pictures = _readable(tracklet.frames, views, skipped)
        if not frames:
            continue
        shown = list(dict.fromkeys(frames))[:MOST_VIEWS]
        for path, frame in zip(files(folder, len(kept), len(shown)), shown, strict=True):
            pictures[frame].save(path, quality=QUALITY)
        kept.append(tracklet._replace(frames=frames))
        counts.append(len(shown))
    return kept, counts, skipped


def _readable(
    frames: tuple[str, ...], views: int, skipped: list[tuple[str, str]]
) -> tuple[tuple[str, ...], dict[str, Image.Image]]:
    """The views chosen among the frames that can be read, and a small picture of each."""
    pictures: dict[str, Image.Image] = {}
    while frames:
        chosen = choose(frames, views)
        bad = set()
        for frame in dict.fromkeys(chosen):
            if frame in pictures:
                continue
            try:
                pictures[frame] = small(frame)
            except (OSError, ValueError) as error:
                bad.add(frame)
                skipped.append((frame, str(error)))
        if not bad:
            return chosen, pictures
        frames = tuple(frame for frame in frames if frame not in bad)
    return (), {}


def choose(frames: tuple[str, ...], views: int) -> tuple[str, ...]:
    """The frames that stand for a tracklet: evaluation's chunk rule; a single picture stands for itself."""
    if len(frames) == 1:
        return frames
    return tuple(frames[place] for place in FRAMES["chunk"](len(frames), views, None))


def small(frame: str) -> Image.Image:
    return resize_to_height(read_image(frame).permute(1, 2, 0).contiguous().numpy(), HEIGHT, max_aspect=4)
