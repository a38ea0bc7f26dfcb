"""How fast clips reach the network, for one process: `pytest tests/benchmarks --benchmark-enable`."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from vkd.data.datasets import Splits, Tracklet, first_frames
from vkd.data.loaders import eval_loader, train_loader
from vkd.data.transforms import TrainTransform, resize
from vkd.io.images import read_image


@pytest.fixture(scope="module", params=["128x64", "256x128"])
def splits(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """JPEG pictures of the street's or of MARS's size: 8 identities, 4 tracklets each of 16 frames."""
    height, width = map(int, request.param.split("x"))
    root = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(0)
    tracklets = []
    for number in range(32):
        frames = []
        for frame in range(16):
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            path = root / f"{number:02d}-{frame:02d}.jpg"
            Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2)).save(path, quality=90)
            frames.append(str(path))
        tracklets.append(Tracklet(tuple(frames), number // 4, number % 4))
    train = tuple(tracklets)
    return Splits("folder", root, train, train, train, first_frames(train), first_frames(train))


def with_pillow(path: str) -> torch.Tensor:
    """The plain way to decode, for comparison."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("decode", [read_image, with_pillow], ids=["ours", "pillow"])
def test_decode_eight_frames(decode, splits: Splits, benchmark):
    paths = splits.train[0].frames[:8]
    pictures = benchmark(lambda: [decode(path) for path in paths])
    assert len(pictures) == 8


def test_train_transform_of_eight_frames(splits: Splits, benchmark):
    clip = [read_image(path) for path in splits.train[0].frames[:8]]
    transform, generator = TrainTransform((256, 128)), torch.Generator()
    assert benchmark(lambda: transform(clip, generator)).shape == (8, 3, 256, 128)


def test_resize_eight_frames(splits: Splits, benchmark):
    clip = [read_image(path) for path in splits.train[0].frames[:8]]
    assert benchmark(lambda: resize(clip, (256, 128))).shape == (8, 3, 256, 128)


def test_one_training_batch(splits: Splits, benchmark):
    """8 × 4 clips of 8 views at 256 × 128: the teacher's batch of the published numbers, 256 pictures."""
    loader = train_loader(splits, image_size=(256, 128), views=8)
    clips, _ = benchmark.pedantic(lambda: next(iter(loader)), rounds=5, warmup_rounds=1)
    assert clips.shape == (32, 8, 3, 256, 128)


def test_one_test_batch(splits: Splits, benchmark):
    """32 clips of 8 views at 256 × 128."""
    loader = eval_loader(splits.query, image_size=(256, 128), views=8, batch=32)
    clips, _ = benchmark.pedantic(lambda: next(iter(loader)), rounds=5, warmup_rounds=1)
    assert clips.shape == (32, 8, 3, 256, 128)
