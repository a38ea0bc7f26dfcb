"""Video decoding: evenly spaced frames of a short clip."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import refuse_lfs_pointer
from vkd.io.formats import SHRINK_PIXELS, check_size

SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ogv")
MAX_FRAME_PIXELS = SHRINK_PIXELS // 2
MAX_FRAMES = 3600
"""Two minutes at 30 frames per second; longer clips are refused, as they would block other requests."""


def is_video(path: str | Path) -> bool:
    """True if the name has the suffix of a video."""
    return Path(path).suffix.lower() in SUFFIXES


def read_video(path: str | Path, frames: int = 8) -> list[Tensor]:
    """Reads `frames` frames of a video (or all, if there are fewer), uint8 (3, H, W), upright, RGB.

    The frames are the middles of equal parts of the clip, shrunk to a megapixel each. Raises
    MissingFileError for a missing file, VKDError for an unknown container, damage, too many frames and too
    large frames.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"The video {path} is missing.")
    refuse_lfs_pointer(path)
    # FFmpeg also opens playlists, which name other files: only real containers reach it.
    with Path(path).open("rb") as file:
        if not _is_container(file.read(12)):
            raise VKDError(f"{path} is not a video (mp4, mov, webm, mkv, avi or mpeg).")
    total = _count(path)
    positions = {(2 * part + 1) * total // (2 * min(frames, total)) for part in range(min(frames, total))}
    images: list[Tensor] = []
    clip = _open(path)
    try:
        for position in range(total):
            if not clip.grab():
                break
            if position in positions:
                decoded, pixels = clip.retrieve()
                if decoded:
                    rgb = cv2.cvtColor(_shrunk(pixels), cv2.COLOR_BGR2RGB)
                    images.append(torch.from_numpy(rgb).permute(2, 0, 1).contiguous())
    finally:
        clip.release()
    if not images:
        raise VKDError(f"The video {path} has no frame that can be decoded.")
    return images


def _is_container(head: bytes) -> bool:
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")  # MP4 and QuickTime
        or head[:4] in (b"\x1aE\xdf\xa3", b"OggS", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
    )


def _open(path: str | Path) -> cv2.VideoCapture:
    clip = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not clip.isOpened():
        raise VKDError(f"The video {path} cannot be decoded: convert it to MP4 or WebM.")
    try:
        width, height = (
            int(clip.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        check_size(width, height, "video")
    except VKDError as error:
        clip.release()
        raise VKDError(f"The frames of {path} are too large: {error}.") from None
    return clip


def _shrunk(frame: np.ndarray) -> np.ndarray:
    """Shrinks a frame (H, W, 3) to MAX_FRAME_PIXELS."""
    scale = (MAX_FRAME_PIXELS / (frame.shape[0] * frame.shape[1])) ** 0.5
    size = [max(1, int(scale * side)) for side in (frame.shape[1], frame.shape[0])]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if scale < 1 else frame


def _count(path: str | Path) -> int:
    """Counts the frames of a clip, since recordings of browsers do not state their length."""
    clip, total = _open(path), 0
    try:
        while total <= MAX_FRAMES and clip.grab():
            total += 1
    finally:
        clip.release()
    if total > MAX_FRAMES:
        raise VKDError(f"{path} has more than {MAX_FRAMES} frames: shorten it.")
    return total
