"""Decoding of whatever people upload, the reference's transforms, and the training transform's
distribution."""

import io
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from vkd.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAX_PIXELS,
    TrainTransform,
    as_picture,
    normalise,
    prepare,
    read_picture,
    resize,
)

PIPELINES = {
    "mars": ((256, 128), "stretch"),
    "veri": ((224, 224), "stretch"),
    "adaptive": ((224, 224), "pad"),
}


@pytest.fixture(scope="module")
def reference(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "transforms.npz") as file:
        return dict(file)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("number", range(3))
def test_test_transform_equals_the_reference(number: int, pipeline: str, reference: dict):
    """Within one level of Pillow's bytes (0.018 after normalisation)."""
    size, fit = PIPELINES[pipeline]
    assert [number, pipeline, [3, *size]] in json.loads(str(reference["meta"]))["outputs"]
    picture, name = reference[f"img{number}"], f"img{number}__{pipeline}__"
    resized = resize([as_picture(picture)], size, fit)[0].permute(1, 2, 0).numpy()
    levels = np.abs(resized.astype(int) - reference[f"{name}resized_u8"])
    assert levels.max() <= 1
    assert (levels > 0).mean() < 0.01

    prepared = prepare([picture], size, fit=fit)[0].numpy()
    np.testing.assert_allclose(prepared[:, ::8, ::8], reference[f"{name}sub8"], atol=0.018)
    np.testing.assert_allclose(prepared.mean((1, 2), np.float64), reference[f"{name}mean"], atol=1e-3)
    np.testing.assert_allclose(prepared.std((1, 2), np.float64), reference[f"{name}std"], atol=1e-3)


def test_normalisation_of_the_reference_bytes(reference: dict):
    resized = torch.from_numpy(reference["img1__mars__resized_u8"]).permute(2, 0, 1)
    np.testing.assert_allclose(normalise(resized)[:, ::8, ::8], reference["img1__mars__sub8"], atol=2e-6)


def test_odd_padding_goes_to_the_top_and_left():
    white = torch.full((3, 10, 5), 255, dtype=torch.uint8)
    tall = resize([white], (10, 10), "pad")[0, 0]
    assert tall[0].tolist() == [0] * 3 + [255] * 5 + [0] * 2
    wide = resize([white.transpose(1, 2)], (10, 10), "pad")[0, 0]
    assert wide[:, 0].tolist() == [0] * 3 + [255] * 5 + [0] * 2
    with pytest.raises(ValueError, match="choose 'stretch' or 'pad'"):
        resize([white], (10, 10), "crop")


# Decoding


def noise(height: int = 40, width: int = 24, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)


def pixels_of(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


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
def test_jpeg_gives_pillows_bytes(mode: str, options: dict, tmp_path: Path):
    path = tmp_path / "a.jpg"
    noise(67, 35).convert(mode).save(path, **options)
    with Image.open(path) as picture:
        assert torch.equal(read_picture(path), pixels_of(picture))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(orientation: int, tmp_path: Path):
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
    seen = read_picture(tmp_path / "a.jpg")
    assert seen.shape == (3, 48, 32)
    assert seen[1, 4, 4] < 40, "the red corner is back at the top left"
    assert seen[1, 40, 28] > 215


def test_transparency_becomes_white(tmp_path: Path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (200, 10, 10, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    seen = read_picture(tmp_path / "a.png")
    assert seen[:, 0, 0].tolist() == [200, 10, 10]
    assert seen[:, 7, 7].tolist() == [255, 255, 255]
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 50, 60, 70])
    palette.paste(0, (0, 0, 8, 4))
    palette.save(tmp_path / "p.png", transparency=0)
    seen = read_picture(tmp_path / "p.png")
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
def test_deep_pictures_are_scaled_not_clipped(pixels: np.ndarray, suffix: str, tmp_path: Path):
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    seen = read_picture(tmp_path / f"a{suffix}").float()
    expected = torch.linspace(0, 255, 64).view(8, 8).expand(3, 8, 8)
    assert (seen - expected).abs().max() <= 1


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_shows_its_first_frame(suffix: str, tmp_path: Path):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second])
    assert read_picture(tmp_path / f"a{suffix}")[:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "YCbCr", "CMYK", "I", "HSV", "LAB"])
def test_a_single_pixel_of_any_kind_can_be_prepared(mode: str):
    prepared = prepare(
        [Image.new("RGB", (1, 1), "gray").convert(mode) if mode != "LAB" else Image.new("LAB", (1, 1))]
    )
    assert prepared.shape == (1, 3, 256, 128)
    assert prepared.isfinite().all()
    assert prepared.std((2, 3)).max() < 1e-5


def picture_bomb(path: Path, side: int = 12_000) -> None:
    Image.new("1", (side, side)).save(path, optimize=True)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_picture_bombs_are_refused(tmp_path: Path):
    picture_bomb(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(
        ValueError, match=r"bomb\.png cannot be decoded \(12000 × 12000 pixels are more than 64"
    ):
        read_picture(tmp_path / "bomb.png")
    header = bytearray(b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(9))
    (tmp_path / "bomb.jpg").write_bytes(header + bytes(100))
    with pytest.raises(ValueError, match=r"bomb\.jpg"):
        read_picture(tmp_path / "bomb.jpg")
    with pytest.raises(ValueError, match="pixels are more than"):
        as_picture(Image.new("1", (MAX_PIXELS // 100, 101)))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".bmp", ".webp", ".tif"])
def test_a_cut_picture_is_named(suffix: str, tmp_path: Path):
    path = tmp_path / f"holiday{suffix}"
    noise().save(path)
    data = path.read_bytes()
    for kept in (0, 1, 3, 12, len(data) // 2):
        path.write_bytes(data[:kept])
        with pytest.raises(ValueError, match=f"holiday\\{suffix}"):
            read_picture(path)


def test_a_missing_picture_a_folder_and_a_text_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg is missing"):
        read_picture(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match="cannot be read"):
        read_picture(tmp_path)
    (tmp_path / "a.jpg").write_text("Dear Sir or Madam")
    with pytest.raises(ValueError, match=r"a\.jpg is not a picture"):
        read_picture(tmp_path / "a.jpg")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_jpeg_never_crashes(data: st.DataObject):
    """A few bytes changed anywhere: either a picture or one of our sentences."""
    stream = io.BytesIO()
    noise().save(stream, "JPEG")
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        path.write_bytes(content)
        complaint = ""
        try:
            assert read_picture(path).shape[0] == 3
        except ValueError as error:
            complaint = str(error)
    assert not complaint or ("a.jpg" in complaint and "\n" not in complaint)


def test_every_kind_of_picture_gives_the_same_tensor(tmp_path: Path):
    picture = noise()
    picture.save(tmp_path / "a.png")
    array = np.asarray(picture)
    kinds = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        picture,
        array,
        array / np.float32(255),
        pixels_of(picture),
        pixels_of(picture) / 255,
        np.dstack([array, np.full((40, 24), 255, np.uint8)]),
    ]
    clip = prepare(kinds, (64, 32))
    assert clip.shape == (len(kinds), 3, 64, 32)
    assert all(torch.equal(view, clip[0]) for view in clip)
    assert prepare([array[:, :, 0]], (64, 32)).shape == prepare([array[:, :, :1]], (64, 32)).shape


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4), np.int64), torch.zeros(1, 4, 4), torch.zeros(4, 4)],
)
def test_what_is_no_picture_is_refused(picture: np.ndarray | torch.Tensor):
    with pytest.raises(ValueError, match="is not a picture"):
        prepare([picture])


def test_no_picture_at_all_is_refused():
    with pytest.raises(ValueError, match="No picture was given"):
        prepare([])


# The training transform


def clip_of(count: int, height: int = 20, width: int = 12) -> torch.Tensor:
    """A clip whose every pixel differs from its neighbours, none of them black."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8).expand(
        count, -1, -1, -1
    )


def test_each_frame_is_a_crop_of_the_padded_picture_maybe_mirrored():
    transform = TrainTransform((20, 12), pad=4, erase=0)
    clip = clip_of(60)
    padded = torch.nn.functional.pad(clip[0], [4] * 4)
    crops = {
        (top, left, mirrored): normalise(
            padded[:, top : top + 20, left : left + 12].flip([-1] if mirrored else [])
        )
        for top in range(9)
        for left in range(9)
        for mirrored in (False, True)
    }
    seen = []
    for frame in transform(clip, torch.Generator().manual_seed(0)):
        places = [place for place, crop in crops.items() if torch.equal(crop, frame)]
        assert len(places) == 1
        seen += places
    assert {top for top, _, _ in seen} == set(range(9))
    assert 15 < sum(mirrored for _, _, mirrored in seen) < 45
    assert len(set(seen)) > 40, "each frame has its own draws"


@pytest.mark.parametrize("aspect", [(0.3, 3.3), (0.7, 1.4)])
def test_erasing_has_torchvisions_distribution(aspect: tuple[float, float]):
    count = 4000
    transform = TrainTransform((64, 32), aspect)
    boxes = transform._boxes(count, torch.Generator().manual_seed(0))
    ours = np.array([box for box in boxes if box[2]])
    assert len(ours) / count == pytest.approx(0.5, abs=0.03)

    eraser = v2.RandomErasing(p=1, scale=(0.02, 0.4), ratio=aspect)
    picture = torch.ones(3, 64, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        params = [eraser.make_params([picture]) for _ in range(count)]
    theirs = np.array([[p["i"], p["j"], p["h"], p["w"]] for p in params if p["v"] is not None])
    for column in range(4):
        spread = math.sqrt(theirs[:, column].var() * (1 / len(ours) + 1 / len(theirs)))
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 4 * spread
        assert ours[:, column].std() == pytest.approx(theirs[:, column].std(), rel=0.1)
        assert ours[:, column].min() >= 0
    assert (ours[:, 0] + ours[:, 2]).max() <= 64
    assert (ours[:, 1] + ours[:, 3]).max() <= 32


def test_erased_parts_have_the_mean_colour():
    frames = TrainTransform((64, 32), pad=0, flip=0, erase=1)(
        clip_of(16, 64, 32), torch.Generator().manual_seed(0)
    )
    plain = normalise(clip_of(16, 64, 32))
    changed = (frames != plain).any(1)
    assert changed.flatten(1).any(1).all()
    assert (frames.movedim(1, -1)[changed] == 0).all()


def test_the_same_generator_gives_the_same_clip_and_the_global_one_is_left_alone():
    transform = TrainTransform((32, 16))
    before = torch.random.get_rng_state()
    first = transform(clip_of(4), torch.Generator().manual_seed(5))
    assert torch.equal(first, transform(clip_of(4), torch.Generator().manual_seed(5)))
    assert not torch.equal(first, transform(clip_of(4), torch.Generator().manual_seed(6)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.dtype == torch.float32
    assert first.is_contiguous()


def test_frames_of_different_sizes_make_one_clip():
    pictures = [torch.zeros(3, 10, 5, dtype=torch.uint8), torch.zeros(3, 30, 40, dtype=torch.uint8)]
    assert TrainTransform((32, 16))(pictures, torch.Generator()).shape == (2, 3, 32, 16)


def test_normalisation_is_imagenets():
    clip = clip_of(2)
    expected = v2.functional.normalize(
        v2.functional.to_dtype(clip, torch.float32, scale=True), list(IMAGENET_MEAN), list(IMAGENET_STD)
    )
    torch.testing.assert_close(normalise(clip), expected, atol=2e-6, rtol=1e-5)
