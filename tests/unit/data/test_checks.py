"""Checks of image files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vkd.data.checks import check_images, mask_path
from vkd.io.errors import VKDError


def test_decoding_finds_hidden_damage(tmp_path: Path):
    path = tmp_path / "scratched.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + bytes(200) + data[half + 200 :])
    assert check_images([str(path)]) == 1
    with pytest.raises(VKDError, match=r"scratched\.png"):
        check_images([str(path)], decode=True)


def test_data_after_the_image_is_no_damage(tmp_path: Path):
    path = tmp_path / "telephone.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0film" * 10_000)
    assert check_images([str(path)]) == 1
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VKDError, match="telephone"):
        check_images([str(path)])


def test_limit_is_evenly_spaced(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("not an image")
    good, bad = str(tmp_path / "good.png"), str(tmp_path / "bad.png")
    assert check_images([good] * 95 + [bad] * 5, limit=1) == 1
    with pytest.raises(VKDError, match=r"bad\.png"):
        check_images([good] * 90 + [bad] * 10, limit=10)


def test_mask_path(tmp_path: Path):
    frame = f"{tmp_path}/bbox_test/0002/0002C1T0001F001.jpg"
    assert mask_path(tmp_path, frame) == tmp_path / "masks/bbox_test/0002/0002C1T0001F001.png"
