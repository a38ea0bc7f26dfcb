"""Decoding of whatever people upload: formats, orientation, transparency, damaged and oversized files."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vkd.io.errors import MissingFileError, VKDError
from vkd.io.images import MAX_PIXELS, as_image, read_image


def noise(height: int = 40, width: int = 24, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)


def pixels_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": 30, "subsampling": 2},
        {"quality": 75, "progressive": True},
        {"quality": 95, "subsampling": 0, "optimize": True},
        {"quality": 80, "dpi": (300, 300), "comment": "a comment"},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_equals_pillow(mode: str, options: dict, tmp_path: Path):
    path = tmp_path / "a.jpg"
    noise(67, 35).convert(mode).save(path, **options)
    with Image.open(path) as image:
        assert torch.equal(read_image(path), pixels_of(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path):
    upright = Image.new("RGB", (32, 48), "white")
    upright.paste((255, 0, 0), (0, 0, 16, 16))
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    seen = read_image(tmp_path / "a.jpg")
    assert seen.shape == (3, 48, 32)
    assert seen[1, 4, 4] < 40, "the red corner is back at the top left"
    assert seen[1, 40, 28] > 215


def test_transparency_is_white(tmp_path: Path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (200, 10, 10, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    seen = read_image(tmp_path / "a.png")
    assert seen[:, 0, 0].tolist() == [200, 10, 10]
    assert seen[:, 7, 7].tolist() == [255, 255, 255]
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 50, 60, 70])
    palette.paste(0, (0, 0, 8, 4))
    palette.save(tmp_path / "p.png", transparency=0)
    seen = read_image(tmp_path / "p.png")
    assert seen[:, 0, 0].tolist() == [255, 255, 255]
    assert seen[:, 7, 7].tolist() == [50, 60, 70]


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [
        (np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16), ".png"),
        (np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16), ".tif"),
        (np.linspace(0, 1, 64).reshape(8, 8).astype(np.float32), ".tif"),
        (np.linspace(0, 255, 64).reshape(8, 8).astype(np.float32), ".tif"),
    ],
)
def test_deep_images_are_scaled(pixels: np.ndarray, suffix: str, tmp_path: Path):
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    seen = read_image(tmp_path / f"a{suffix}").float()
    expected = torch.linspace(0, 255, 64).view(8, 8).expand(3, 8, 8)
    assert (seen - expected).abs().max() <= 1


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_first_frame_of_animation(suffix: str, tmp_path: Path):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second])
    assert read_image(tmp_path / f"a{suffix}")[:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "YCbCr", "CMYK", "I", "HSV", "LAB"])
def test_single_pixel_of_any_mode(mode: str):
    pixel = Image.new("LAB", (1, 1)) if mode == "LAB" else Image.new("RGB", (1, 1), "gray").convert(mode)
    assert as_image(pixel).shape == (3, 1, 1)
    assert as_image(pixel).dtype == torch.uint8


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs(tmp_path: Path):
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png", optimize=True)
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(VKDError, match=r"bomb\.png .*12000 × 12000"):
        read_image(tmp_path / "bomb.png")
    header = bytearray(b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(9))
    (tmp_path / "bomb.jpg").write_bytes(header + bytes(100))
    with pytest.raises(VKDError, match=r"bomb\.jpg"):
        read_image(tmp_path / "bomb.jpg")
    with pytest.raises(VKDError, match="640000 × 101"):
        as_image(Image.new("1", (MAX_PIXELS // 100, 101)))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".bmp", ".webp", ".tif"])
def test_truncated_file(suffix: str, tmp_path: Path):
    path = tmp_path / f"holiday{suffix}"
    noise().save(path)
    data = path.read_bytes()
    for length in (0, 1, 3, 12, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(VKDError, match=f"holiday\\{suffix}"):
            read_image(path)


def test_missing_file_folder_and_text(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"gone\.jpg"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(VKDError, match=str(tmp_path)):
        read_image(tmp_path)
    (tmp_path / "a.jpg").write_text("Dear Sir or Madam")
    with pytest.raises(VKDError, match=r"a\.jpg"):
        read_image(tmp_path / "a.jpg")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_jpeg_never_crashes(data: st.DataObject):
    """A few bytes changed anywhere: either an image or one VKDError."""
    stream = io.BytesIO()
    noise().save(stream, "JPEG")
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        path.write_bytes(content)
        message = "a.jpg"
        try:
            assert read_image(path).shape[0] == 3
        except VKDError as error:
            message = str(error)
    assert "a.jpg" in message
    assert "\n" not in message


def test_same_tensor_from_every_type(tmp_path: Path):
    image = noise()
    image.save(tmp_path / "a.png")
    array = np.asarray(image)
    kinds = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        image,
        array,
        array / np.float32(255),
        pixels_of(image),
        pixels_of(image) / 255,
        np.dstack([array, np.full((40, 24), 255, np.uint8)]),
    ]
    assert all(torch.equal(as_image(kind), pixels_of(image)) for kind in kinds)
    assert torch.equal(as_image(array[:, :, 0]), as_image(array[:, :, :1]))


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4), np.int64), torch.zeros(1, 4, 4), torch.zeros(4, 4)],
)
def test_wrong_shapes(image: np.ndarray | torch.Tensor):
    with pytest.raises(VKDError, match="4, 4"):
        as_image(image)
