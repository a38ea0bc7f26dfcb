"""Frames of video clips, and clips that are refused."""

from pathlib import Path

import pytest

from tests.support.images import write_clip
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.video import MAX_FRAME_PIXELS, is_video, read_video


@pytest.mark.parametrize("name", ["walk.avi", "walk.mp4"])
def test_evenly_spaced_frames(tmp_path: Path, name: str) -> None:
    images = read_video(write_clip(tmp_path / name, 40), 8)
    assert [tuple(image.shape) for image in images] == [(3, 96, 48)] * 8
    levels = [float(image.float().mean()) for image in images]
    expected = [255 * ((2 * part + 1) * 40 // 16) / 39 for part in range(8)]
    assert levels == pytest.approx(expected, abs=6)


def test_short_clip(tmp_path: Path) -> None:
    assert len(read_video(write_clip(tmp_path / "short.avi", 3), 8)) == 3


def test_is_video() -> None:
    assert is_video("walk.MP4")
    assert not is_video("walk.gif")


@pytest.mark.parametrize(
    "content", [b"", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", b"ffconcat version 1.0\nfile a.mp4\n"]
)
def test_playlists(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.mp4").write_bytes(content)
    with pytest.raises(VKDError, match=r"list\.mp4"):
        read_video(tmp_path / "list.mp4")


def test_damaged_and_missing_clips(tmp_path: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(200))
    with pytest.raises(VKDError, match=r"cut\.mp4"):
        read_video(tmp_path / "cut.mp4")
    with pytest.raises(MissingFileError, match=r"none\.mp4"):
        read_video(tmp_path / "none.mp4")


def test_long_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vkd.io.video.MAX_FRAMES", 5)
    with pytest.raises(VKDError, match=r"\b5\b"):
        read_video(write_clip(tmp_path / "long.avi", 6))


def test_frames_shrink(tmp_path: Path) -> None:
    images = read_video(write_clip(tmp_path / "large.avi", 3, (1600, 1200)), 2)
    assert [image.shape[1] * image.shape[2] <= MAX_FRAME_PIXELS for image in images] == [True, True]
    assert images[0].shape[2] / images[0].shape[1] == pytest.approx(4 / 3, rel=0.01)


def test_extreme_frames(tmp_path: Path) -> None:
    with pytest.raises(VKDError, match=r"4000 × 16 "):
        read_video(write_clip(tmp_path / "wide.avi", 2, (4000, 16)))
