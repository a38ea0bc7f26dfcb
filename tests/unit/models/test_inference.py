"""Embedding tracklets and images: values, order, precision, modes, progress, and one pass for many counts."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vkd.data import datasets
from vkd.data.tracklets import Splits, Tracklet
from vkd.data.transforms import prepare
from vkd.io.errors import MissingFileError, VKDError
from vkd.metrics.scores import distances
from vkd.models import checkpoint
from vkd.models.checkpoint import Checkpoint
from vkd.models.config import Config
from vkd.models.inference import EmbedConfig, embed, embed_counts
from vkd.models.network import ReIDNet

SIZE = (32, 16)
CONFIG = EmbedConfig(SIZE)


@pytest.fixture(scope="module")
def net() -> ReIDNet:
    return ReIDNet("tiny", 12, generator=torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def splits(small_street: Path) -> Splits:
    return datasets.read_dataset("street", small_street)


def test_config_of_a_checkpoint():
    config = Config("tiny", 3, SIZE, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    made = EmbedConfig.of(config, views=4, image_size=(64, 32))
    assert made == EmbedConfig((64, 32), views=4, mean=config.mean, std=config.std)


def test_embed_is_each_tracklet_alone(net, splits):
    tracklets = [*splits.query[:3], *splits.query_images[:4], *splits.query[3:6]]
    ours = embed(net, tracklets, EmbedConfig(SIZE, batch=2))
    assert (ours.shape, ours.dtype) == ((10, net.width), np.float32)
    for row, tracklet in zip(ours, tracklets, strict=True):
        clip = prepare(tracklet.frames, SIZE)  # eight frames each here: every frame is taken
        with torch.no_grad():
            np.testing.assert_allclose(row, net.embed(clip[None])[0].numpy(), rtol=1e-4, atol=1e-5)


def test_embed_order(net, splits):
    tracklets = [*splits.query_images[:3], *splits.query[:3]]
    once = embed(net, tracklets, CONFIG)
    np.testing.assert_array_equal(once, embed(net, tracklets, CONFIG))
    np.testing.assert_allclose(once, embed(net, tracklets[::-1], CONFIG)[::-1], rtol=1e-4, atol=1e-5)
    assert embed(net, [], CONFIG).shape == (0, net.width)


@pytest.mark.parametrize(("precision", "digits"), [("float64", 1e-5), ("bfloat16", 2e-2), ("float16", 3e-3)])
def test_embed_precision(net, splits, precision, digits):
    expected = embed(net, splits.query[:3], CONFIG)
    other = copy.deepcopy(net).to(getattr(torch, precision))
    ours = embed(other, splits.query[:3], CONFIG)
    assert ours.dtype == np.float32
    assert distances(ours, expected).diagonal().max() < digits
    assert next(other.parameters()).dtype == getattr(torch, precision)


def test_embed_restores_modes(net, splits):
    net.train()
    net.neck.eval()  # a layer frozen on purpose
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    embed(net, splits.query[:2], CONFIG)
    assert (net.training, net.neck.training, net.classifier.training) == (True, False, True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(MissingFileError, match=r"missing\.jpg"):
        embed(net, [Tracklet(("missing.jpg",), 0, 0)], CONFIG)
    assert net.training
    net.eval()


def test_embed_progress(net, splits):
    reports: list[tuple[int, int]] = []
    tracklets = [*splits.query[:5], *splits.query_images[:5]]
    embed(net, tracklets, EmbedConfig(SIZE, batch=2), lambda done, total, what: reports.append((done, total)))
    # Images 16 at a time, then tracklets of eight views 2 at a time.
    assert reports == [(0, 10), (5, 10), (7, 10), (9, 10), (10, 10)]


def test_embed_counts(net, splits, monkeypatch):
    monkeypatch.setattr("vkd.models.inference.BLOCK", 3)
    tracklets = [*splits.query[:4], *splits.query_images[:3]]
    reports: list[tuple[int, int]] = []
    ours = embed_counts(net, tracklets, (1, 8), CONFIG, lambda done, total, _: reports.append((done, total)))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1] == (35, 35)
    np.testing.assert_allclose(ours[8], embed(net, tracklets, CONFIG), rtol=1e-4, atol=1e-5)
    firsts = [item._replace(frames=item.frames[:1]) for item in tracklets]
    np.testing.assert_allclose(ours[1], embed(net, firsts, CONFIG), rtol=1e-4, atol=1e-5)


@pytest.fixture
def loaded(net) -> Checkpoint:
    return Checkpoint(net, Config("tiny", 12, SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)), Path("mine"))


def test_checkpoint_embed_kinds(loaded, splits):
    """Paths, Pillow images, arrays and tensors of the same images give the same rows, as one tracklet too."""
    paths = list(splits.query[0].frames[:3])
    pillow = [Image.open(path) for path in paths]
    arrays = [np.asarray(image.convert("RGB")) for image in pillow]
    tensors = [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays]
    expected = embed(loaded.net, [Tracklet((path,), 0, 0) for path in paths], EmbedConfig.of(loaded.config))
    for images in (paths, [Path(path) for path in paths], pillow, arrays, tensors, np.stack(arrays)):
        ours = loaded.embed(images, batch=2)
        assert (ours.dtype, ours.shape) == (np.float32, (3, 32))
        np.testing.assert_allclose(ours, expected, atol=1e-2)  # JPEG decoders differ in the last bit
    mixed = loaded.embed([pillow, tensors[0], arrays[:2]])
    np.testing.assert_allclose(mixed[0], loaded.embed(tensors).mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mixed[1], loaded.embed(tensors)[0], rtol=1e-4, atol=1e-5)
    assert loaded.embed([]).shape == (0, 32)


@pytest.mark.parametrize("images", ["one.jpg", [[]], ["missing.jpg"], [np.zeros((4, 4, 7), np.uint8)]])
def test_checkpoint_embed_refuses(loaded, images):
    with pytest.raises(VKDError):
        loaded.embed(images)


def test_checkpoint_subclass(tiny_pair):
    class Named(Checkpoint):
        pass

    loaded = checkpoint.load(tiny_pair[0])
    assert Named(loaded.net, loaded.config, loaded.folder).name == "tiny-teacher"
