"""Frames of a short video clip, spread evenly over its length: a tracklet query from a phone or a camera."""

from pathlib import Path

import cv2
import torch
from torch import Tensor

from vkd.io.errors import MissingFileError, VKDError
from vkd.io.images import MAX_PIXELS

SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ogv")
MOST_FRAMES = 3600
"""Two minutes at 30 frames a second; a longer clip is refused, it would keep the others waiting."""


def is_video(path: str | Path) -> bool:
    """Whether the name is that of a video clip."""
    return Path(path).suffix.lower() in SUFFIXES


def read_video(path: str | Path, frames: int = 8) -> list[Tensor]:
    """Video file → `frames` pictures (or all, where there are fewer), uint8 (3, H, W), upright, RGB.

    The frames stand at the middles of equal parts of the clip.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a video of a known container, nothing in it can be decoded, too long, too large.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"The video {path} is missing.")
    # FFmpeg also opens playlists, which name other files: only real containers reach it.
    with Path(path).open("rb") as file:
        if not _is_container(file.read(12)):
            raise VKDError(f"{path} is not a video (mp4, mov, webm, mkv, avi or mpeg).")
    total = _count(path)
    wanted = {(2 * part + 1) * total // (2 * min(frames, total)) for part in range(min(frames, total))}
    found: list[Tensor] = []
    clip = _open(path)
    try:
        for place in range(total):
            if not clip.grab():
                break
            if place in wanted:
                good, pixels = clip.retrieve()
                if good:
                    rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
                    found.append(torch.from_numpy(rgb).permute(2, 0, 1).contiguous())
    finally:
        clip.release()
    if not found:
        raise VKDError(f"The video {path} has no frame that can be decoded.")
    return found


def _is_container(head: bytes) -> bool:
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")  # MP4 and QuickTime
        or head[:4] in (b"\x1aE\xdf\xa3", b"OggS", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
    )


def _open(path: str | Path) -> cv2.VideoCapture:
    clip = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not clip.isOpened():
        raise VKDError(f"The video {path} cannot be decoded: save it once more as MP4 or WebM.")
    width, height = clip.get(cv2.CAP_PROP_FRAME_WIDTH), clip.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width * height > MAX_PIXELS:
        clip.release()
        raise VKDError(
            f"The frames of {path} have more than {MAX_PIXELS // 10**6} million pixels: make them smaller."
        )
    return clip


def _count(path: str | Path) -> int:
    """Frames of the clip, counted: what a browser records does not say its length."""
    clip, total = _open(path), 0
    try:
        while total <= MOST_FRAMES and clip.grab():
            total += 1
    finally:
        clip.release()
    if total > MOST_FRAMES:
        raise VKDError(f"{path} has more than {MOST_FRAMES} frames: cut out the seconds that matter.")
    return total
