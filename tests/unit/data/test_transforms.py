"""The evaluation transform against the reference, and the distribution of the training transform."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from vkd.data.transforms import IMAGENET_MEAN, IMAGENET_STD, TrainTransform, normalise, prepare, resize
from vkd.io.errors import VKDError
from vkd.io.images import as_image

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
def test_prepare_equals_reference(number: int, pipeline: str, reference: dict):
    """Within one level of Pillow's bytes (0.018 after normalisation)."""
    size, fit = PIPELINES[pipeline]
    assert [number, pipeline, [3, *size]] in json.loads(str(reference["meta"]))["outputs"]
    image, name = reference[f"img{number}"], f"img{number}__{pipeline}__"
    resized = resize([as_image(image)], size, fit)[0].permute(1, 2, 0).numpy()
    levels = np.abs(resized.astype(int) - reference[f"{name}resized_u8"])
    assert levels.max() <= 1
    assert (levels > 0).mean() < 0.01

    prepared = prepare([image], size, fit=fit)[0].numpy()
    np.testing.assert_allclose(prepared[:, ::8, ::8], reference[f"{name}sub8"], atol=0.018)
    np.testing.assert_allclose(prepared.mean((1, 2), np.float64), reference[f"{name}mean"], atol=1e-3)
    np.testing.assert_allclose(prepared.std((1, 2), np.float64), reference[f"{name}std"], atol=1e-3)


def test_normalise_equals_reference(reference: dict):
    resized = torch.from_numpy(reference["img1__mars__resized_u8"]).permute(2, 0, 1)
    np.testing.assert_allclose(normalise(resized)[:, ::8, ::8], reference["img1__mars__sub8"], atol=2e-6)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_prepare_single_pixel(fit: str):
    prepared = prepare([np.full((1, 1, 3), 128, np.uint8)], (16, 8), fit=fit)
    assert prepared.shape == (1, 3, 16, 8)
    assert prepared.isfinite().all()
    assert prepared[:, :, 4:12].std((2, 3)).max() < 1e-5


def test_resize_pad():
    white = torch.full((3, 10, 5), 255, dtype=torch.uint8)
    tall = resize([white], (10, 10), "pad")[0, 0]
    assert tall[0].tolist() == [0] * 3 + [255] * 5 + [0] * 2
    wide = resize([white.transpose(1, 2)], (10, 10), "pad")[0, 0]
    assert wide[:, 0].tolist() == [0] * 3 + [255] * 5 + [0] * 2
    with pytest.raises(VKDError, match="crop"):
        resize([white], (10, 10), "crop")


def test_prepare_needs_an_image():
    with pytest.raises(VKDError):
        prepare([])


# The training transform


def clip_of(count: int, height: int = 20, width: int = 12) -> torch.Tensor:
    """A clip whose every pixel differs from its neighbours, none of them black."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8).expand(
        count, -1, -1, -1
    )


def test_crop_and_flip_per_frame():
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
        matches = [match for match, crop in crops.items() if torch.equal(crop, frame)]
        assert len(matches) == 1
        seen += matches
    assert {top for top, _, _ in seen} == set(range(9))
    assert 15 < sum(mirrored for _, _, mirrored in seen) < 45
    assert len(set(seen)) > 40, "each frame has its own draws"


@pytest.mark.parametrize("aspect", [(0.3, 3.3), (0.7, 1.4)])
def test_erasing_distribution_equals_torchvision(aspect: tuple[float, float]):
    count = 4000
    transform = TrainTransform((64, 32), aspect)
    boxes = transform._boxes(count, torch.Generator().manual_seed(0))
    ours = np.array([box for box in boxes if box[2]])
    assert len(ours) / count == pytest.approx(0.5, abs=0.03)

    eraser = v2.RandomErasing(p=1, scale=(0.02, 0.4), ratio=aspect)
    image = torch.ones(3, 64, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        params = [eraser.make_params([image]) for _ in range(count)]
    theirs = np.array([[p["i"], p["j"], p["h"], p["w"]] for p in params if p["v"] is not None])
    for column in range(4):
        spread = math.sqrt(theirs[:, column].var() * (1 / len(ours) + 1 / len(theirs)))
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 4 * spread
        assert ours[:, column].std() == pytest.approx(theirs[:, column].std(), rel=0.1)
        assert ours[:, column].min() >= 0
    assert (ours[:, 0] + ours[:, 2]).max() <= 64
    assert (ours[:, 1] + ours[:, 3]).max() <= 32


def test_erased_pixels_have_mean_colour():
    frames = TrainTransform((64, 32), pad=0, flip=0, erase=1)(
        clip_of(16, 64, 32), torch.Generator().manual_seed(0)
    )
    plain = normalise(clip_of(16, 64, 32))
    changed = (frames != plain).any(1)
    assert changed.flatten(1).any(1).all()
    assert (frames.movedim(1, -1)[changed] == 0).all()


def test_randomness_from_generator_only():
    transform = TrainTransform((32, 16))
    before = torch.random.get_rng_state()
    first = transform(clip_of(4), torch.Generator().manual_seed(5))
    assert torch.equal(first, transform(clip_of(4), torch.Generator().manual_seed(5)))
    assert not torch.equal(first, transform(clip_of(4), torch.Generator().manual_seed(6)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.dtype == torch.float32
    assert first.is_contiguous()


def test_frames_of_different_sizes():
    images = [torch.zeros(3, 10, 5, dtype=torch.uint8), torch.zeros(3, 30, 40, dtype=torch.uint8)]
    assert TrainTransform((32, 16))(images, torch.Generator()).shape == (2, 3, 32, 16)


def test_normalise_equals_torchvision():
    clip = clip_of(2)
    expected = v2.functional.normalize(
        v2.functional.to_dtype(clip, torch.float32, scale=True), list(IMAGENET_MEAN), list(IMAGENET_STD)
    )
    torch.testing.assert_close(normalise(clip), expected, atol=2e-6, rtol=1e-5)
