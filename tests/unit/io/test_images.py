"""Decoding of whatever people upload: formats, orientation, transparency, damaged and oversized files."""

import io
import os
import struct
import subprocess
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.mutations import scribble
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.formats import FORMATS, SHRINK_PIXELS, exif_orientation
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


# Metadata: of all of it only the orientation is read


def exif_block(extra: bytes = b"", orientation: int = 6, order: str = "<") -> bytes:
    """TIFF block of an orientation among tags of every type; `extra` are entries of 12 bytes."""
    kinds = [(0x0100 + kind, kind, 1 + kind % 3, 8 * kind) for kind in range(1, 13)]
    entries = [struct.pack(f"{order}HHII", *entry) for entry in kinds]
    entries.append(struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0))
    entries += [struct.pack(f"{order}HHII", *entry) for entry in ((0x8769, 4, 1, 60), (0x8825, 4, 1, 8))]
    count = len(entries) + len(extra) // 12
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, count)
    return head + b"".join(entries) + extra + bytes(40)


RESOLUTION_AS_TEXT = struct.pack("<HHI4s", 0x011A, 2, 4, b"abc\0")
OVER_ZERO = struct.pack("<HHII", 0x011A, 10, 1, 8)


def lying() -> Image.Image:
    """96 × 48, which orientation 6 turns upright: red above, blue below."""
    image = Image.new("RGB", (96, 48), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 48, 48))
    return image


def with_exif(block: bytes, image_format: str) -> bytes:
    """An image file with a block of EXIF, put in byte by byte: a library would refuse a damaged one."""
    file = io.BytesIO()
    lying().save(file, image_format, quality=95)
    data = file.getvalue()
    if image_format == "JPEG":
        body = b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
    if image_format == "PNG":
        chunk = len(block).to_bytes(4, "big") + b"eXIf" + block + bytes(4)
        return data[:33] + chunk + data[33:]
    flags = b"VP8X" + struct.pack("<IIHBHB", 10, 8, 95, 0, 47, 0)
    body = flags + data[12:] + b"EXIF" + len(block).to_bytes(4, "little") + block + b"\0" * (len(block) % 2)
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("extra", [b"", RESOLUTION_AS_TEXT, OVER_ZERO], ids=["sound", "text", "over zero"])
def test_orientation_among_damaged_tags(image_format: str, extra: bytes, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(with_exif(exif_block(extra), image_format))
    seen = read_image(tmp_path / "a.jpg")
    assert (seen.shape, seen.dtype) == ((3, 96, 48), torch.uint8)
    assert seen[0, :44].min() > 200, "red above"
    assert seen[2, 52:].min() > 200, "blue below"


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_never_costs_the_image(image_format: str, tmp_path: Path):
    draw, whole = np.random.default_rng(6), exif_block(RESOLUTION_AS_TEXT + OVER_ZERO)
    for _ in range(1000):
        (tmp_path / "a.jpg").write_bytes(with_exif(scribble(whole, draw), image_format))
        assert sorted(read_image(tmp_path / "a.jpg").shape) == [3, 48, 96]


def test_damaged_chunk_after_the_pixels(tmp_path: Path):
    data = with_exif(exif_block(), "WEBP")
    at = data.rindex(b"EXIF")
    for size in (0, 1, 5, 2**20, 2**32 - 1):
        (tmp_path / "a.webp").write_bytes(data[: at + 4] + size.to_bytes(4, "little") + data[at + 8 :])
        assert sorted(read_image(tmp_path / "a.webp").shape) == [3, 48, 96]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_any_damage_is_one_sentence(image_format: str, tmp_path: Path):
    noise().save(tmp_path / "whole", image_format)
    data, draw = (tmp_path / "whole").read_bytes(), np.random.default_rng(2)
    for _ in range(150):
        (tmp_path / "a.jpg").write_bytes(scribble(data, draw))
        try:
            assert read_image(tmp_path / "a.jpg").dtype == torch.uint8
        except VKDError as error:
            assert "a.jpg" in str(error)  # noqa: PT017 (either is right)
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(("tags", "repeat"), [("structure", 1), ("others", 300)])
def test_tags_of_tiff(tags: str, repeat: int, tmp_path: Path):
    """What a TIFF says beside its pixels may be anything; it is upright, or not, but never lost."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x0128], exif[0x010F], exif[0x0132] = 6, 72.0, 3, "maker", "now"
    exif.get_ifd(0x8769)[0x9003] = "then"
    lying().save(tmp_path / "a.tif", exif=exif)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    if tags == "structure":
        assert read_image(tmp_path / "a.tif").shape == (3, 96, 48)
        return
    at, draw = int.from_bytes(data[4:8], "little"), np.random.default_rng(1)
    entries = range(at + 2, at + 2 + 12 * int.from_bytes(data[at : at + 2], "little"), 12)
    spare = [e for e in entries if data[e : e + 2] in (b"\x1a\x01", b"\x28\x01", b"\x0f\x01", b"\x69\x87")]
    for _ in range(repeat):
        changed = bytearray(data)
        for entry in spare:
            changed[entry + 2 : entry + 12] = draw.bytes(10)
        (tmp_path / "b.tif").write_bytes(changed)
        assert read_image(tmp_path / "b.tif").shape == (3, 96, 48)


def test_damaged_chunks_of_png(tmp_path: Path):
    """Texts that unpack to more than Pillow takes, a profile that is none, sums that are wrong."""
    data = with_exif(b"", "PNG")
    bomb = b"zTXt" + b"a\0\0" + b"not packed"
    for chunk in (bomb, b"iCCPx\0\0zzz", b"pHYs1", b"iTXta\0\1\0\0\0zzz", b"tIME"):
        (tmp_path / "a.png").write_bytes(
            data[:33] + (len(chunk) - 4).to_bytes(4, "big") + chunk + b"sums" + data[33:]
        )
        assert read_image(tmp_path / "a.png").shape == (3, 48, 96)


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow reads no AVIF")
def test_damaged_exif_of_avif(tmp_path: Path):
    exif = Image.Exif()
    exif[0x010F] = "maker" * 20
    lying().save(tmp_path / "a.avif", exif=exif)
    data = (tmp_path / "a.avif").read_bytes()
    at, draw = data.rindex(b"maker" * 20) - 26, np.random.default_rng(3)
    for _ in range(60):
        (tmp_path / "b.avif").write_bytes(data[:at] + draw.bytes(120) + data[at + 120 :])
        assert read_image(tmp_path / "b.avif").shape == (3, 48, 96)


@given(st.binary(max_size=200))
def test_any_bytes_have_an_orientation(block: bytes):
    assert 1 <= exif_orientation(b"Exif\0\0" + block) <= 8
    assert 1 <= exif_orientation(b"Exif\0\0II*\0" + block) <= 8


# Doors: formats, sizes, special files


def test_no_decoder_starts_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: pytest.fail("a process was started"))
    for kind in ("EPS", "PDF", "PCX", "ICO", "TGA", "SGI"):
        noise().save(tmp_path / "a.jpg", kind)
        with pytest.raises(VKDError, match=r"a\.jpg"):
            read_image(tmp_path / "a.jpg")
    assert not {"EPS", "PSD", "FPX", "MIC"} & {*FORMATS}


@pytest.mark.parametrize("size", [(1, 250_000), (1_000_000, 1), (10, 2_000), (40_000, 401)])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_extreme_shapes_take_no_memory(size: tuple[int, int], suffix: str, tmp_path: Path):
    Image.new("L", size).save(tmp_path / f"a{suffix}")
    tracemalloc.start()
    try:
        with pytest.raises(VKDError, match=f"{size[0]} × {size[1]}"):
            read_image(tmp_path / f"a{suffix}")
        assert tracemalloc.get_traced_memory()[1] < (tmp_path / f"a{suffix}").stat().st_size * 3 + 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
def test_large_images_shrink(suffix: str, mode: str, tmp_path: Path):
    if (mode in ("RGBA", "P", "I;16") and suffix == ".jpg") or (mode in ("I;16", "P") and suffix == ".webp"):
        pytest.skip("the format has no such mode")
    ramp = Image.linear_gradient("L").resize((2400, 1800))
    image = (
        Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257) if mode == "I;16" else ramp.convert(mode)
    )
    image.save(tmp_path / f"a{suffix}")
    seen = read_image(tmp_path / f"a{suffix}")
    assert SHRINK_PIXELS / 8 < seen.shape[1] * seen.shape[2] <= SHRINK_PIXELS
    assert seen.shape[2] / seen.shape[1] == pytest.approx(2400 / 1800, rel=0.01)
    expected = torch.linspace(0, 255, seen.shape[1]).view(1, -1, 1)
    assert (seen.float() - expected).abs().mean() < 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_special_files(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(VKDError, match=name):
            read_image(tmp_path / name)
    with (tmp_path / "hole.jpg").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(VKDError, match="MB"):
        read_image(tmp_path / "hole.jpg")


def test_sentences_say_what_it_is(tmp_path: Path):
    noise(200, 100).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    with pytest.raises(VKDError, match="cut off") as error:
        read_image(tmp_path / "a.jpg")
    assert "torchvision" not in str(error.value)
    assert "/" not in str(error.value).replace(str(tmp_path / "a.jpg"), "")
    (tmp_path / "p.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(VKDError, match="git lfs pull"):
        read_image(tmp_path / "p.jpg")


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
