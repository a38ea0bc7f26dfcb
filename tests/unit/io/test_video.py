"""A clip of a person counts as a tracklet: its frames, evenly spread; what is no clip is refused."""

from pathlib import Path

import pytest

from tests.support.images import write_clip
from vkd.io.video import is_video, read_video


@pytest.mark.parametrize("name", ["walk.avi", "walk.mp4"])
def test_frames_are_spread_over_the_clip(tmp_path: Path, name: str) -> None:
    pictures = read_video(write_clip(tmp_path / name, 40), 8)
    assert [tuple(picture.shape) for picture in pictures] == [(3, 96, 48)] * 8
    levels = [float(picture.float().mean()) for picture in pictures]
    wanted = [255 * ((2 * part + 1) * 40 // 16) / 39 for part in range(8)]
    assert levels == pytest.approx(wanted, abs=6)


def test_a_clip_with_fewer_frames_gives_all(tmp_path: Path) -> None:
    assert len(read_video(write_clip(tmp_path / "short.avi", 3), 8)) == 3


def test_a_name_tells_a_clip() -> None:
    assert is_video("walk.MP4")
    assert not is_video("walk.gif")


@pytest.mark.parametrize(
    "content", [b"", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", b"ffconcat version 1.0\nfile a.mp4\n"]
)
def test_playlists_never_reach_the_decoder(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.mp4").write_bytes(content)
    with pytest.raises(ValueError, match="is not a video"):
        read_video(tmp_path / "list.mp4")


def test_a_damaged_clip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(200))
    with pytest.raises(ValueError, match="cannot be decoded"):
        read_video(tmp_path / "cut.mp4")
    with pytest.raises(FileNotFoundError, match="is missing"):
        read_video(tmp_path / "none.mp4")


def test_a_clip_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vkd.io.video.MAX_FRAMES", 5)
    with pytest.raises(ValueError, match="more than 5 frames"):
        read_video(write_clip(tmp_path / "long.avi", 6))
