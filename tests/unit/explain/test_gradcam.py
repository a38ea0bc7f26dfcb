"""Heatmaps equal the golden ones and the package's own; nothing is left behind on the network."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from tests.support.filled import filled_net, relative
from vkd.explain.gradcam import heatmaps
from vkd.explain.methods import METHODS
from vkd.models.network import ReIDNet


@pytest.fixture(scope="module")
def net() -> ReIDNet:
    net = ReIDNet("tiny", 5, generator=torch.Generator().manual_seed(0)).eval()
    nn.init.normal_(net.classifier.weight, generator=torch.Generator().manual_seed(1))
    return net


def clips(count=2, views=3, size=(64, 32), seed=0) -> torch.Tensor:
    return torch.randn(count, views, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet", "densenet121"])
def test_golden_maps(golden, backbone):
    reference = np.load(golden / "gradcam.npz")
    images = torch.from_numpy(reference["input"]).double()
    heat = heatmaps(filled_net(backbone), images, layer=4)
    # The golden map has L2 norm 1 in each picture, before any resizing.
    ours = heat.coarse / np.sqrt((heat.coarse**2).sum(axis=(2, 3), keepdims=True))
    assert relative(ours, reference[f"{backbone}__attn"]) < 1e-8
    assert list(heat.classes) == list(reference[f"{backbone}__top1"])
    np.testing.assert_allclose(heat.values, reference[f"{backbone}__logits"].max(axis=1), rtol=1e-8)


class Flat(nn.Module):
    """The network as the package wants it: pictures (n, 3, H, W) → logits (n, K)."""

    def __init__(self, net: ReIDNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, pictures):
        return self.net(pictures[:, None]).logits


PACKAGE = {"gradcam": GradCAM, "gradcam++": GradCAMPlusPlus, "layercam": LayerCAM, "hirescam": HiResCAM}


@pytest.mark.parametrize("method", PACKAGE)
def test_single_pictures_look_as_in_the_package(net, method):
    images = clips(4, 1)
    with PACKAGE[method](Flat(net), [net.backbone.stages[-1]]) as cam:
        theirs = cam(images[:, 0], [ClassifierOutputTarget(2)] * 4)
    ours = heatmaps(net, images, target=2, method=method).maps[:, 0]
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    net.zero_grad(set_to_none=True)  # the package leaves gradients behind


def test_a_clip_is_one_tracklet_with_one_target():
    """By hand: gradients of the clip's logit, which is a mean over views, weigh the maps of every view."""
    net = ReIDNet("tiny", 5, generator=torch.Generator().manual_seed(0)).double().eval()
    images = clips(2, 3).double()
    maps = net.maps(images).detach().requires_grad_()
    views = net.neck(maps.mean((-2, -1)).flatten(0, 1))
    logits = net.classifier(views).unflatten(0, (2, 3)).mean(1)
    (slopes,) = torch.autograd.grad(logits[0, 4] + logits[1, 1], maps)
    by_hand = (slopes.mean((-2, -1), keepdim=True) * maps).sum(2).relu().detach().numpy()
    heat = heatmaps(net, images, target=[4, 1])
    np.testing.assert_allclose(heat.coarse, by_hand, atol=1e-12)
    np.testing.assert_allclose(heat.values, [logits[0, 4].item(), logits[1, 1].item()])


def test_similarity_to_another_picture():
    """By hand: the cosine between the clip's embedding (a mean over views and places) and a reference."""
    net = ReIDNet("tiny", 5, generator=torch.Generator().manual_seed(0)).double().eval()
    images, other = clips(2, 3).double(), clips(1, 1, seed=9).double()
    with torch.no_grad():
        reference = net.embed(other)[0]
    maps = net.maps(images).detach().requires_grad_()
    cosine = torch.cosine_similarity(maps.mean((1, 3, 4)), reference[None])
    (slopes,) = torch.autograd.grad(cosine.sum(), maps)
    by_hand = (slopes * maps).sum(2).relu().detach().numpy()
    heat = heatmaps(net, images, target=reference, method="hirescam")
    np.testing.assert_allclose(heat.coarse, by_hand, atol=1e-12)
    np.testing.assert_allclose(heat.values, cosine.detach().numpy(), atol=1e-12)
    assert list(heat.classes) == [-1, -1]
    one_each = heatmaps(net, images, target=reference.expand(2, -1).numpy(), method="hirescam")
    np.testing.assert_array_equal(one_each.maps, heat.maps)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("views", [1, 3])
def test_shapes_and_range(net, method, views):
    heat = heatmaps(net, clips(2, views), method=method)
    assert heat.maps.shape == (2, views, 64, 32)
    assert heat.maps.dtype == np.float32
    assert heat.maps.min() >= 0
    assert heat.maps.max() <= 1
    assert np.isfinite(heat.maps).all()


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50bam", "densenet121", "mobilenet", "tiny"])
def test_every_kind_of_trunk(backbone):
    net = ReIDNet(backbone, 3, generator=torch.Generator().manual_seed(0)).eval()
    heat = heatmaps(net, clips(1, 2))
    with torch.no_grad():
        maps = net.maps(clips(1, 2))
    assert heat.coarse.shape == (1, 2, *maps.shape[-2:])  # the last map, whatever the backbone


def test_views_are_scaled_each_or_together(net):
    each, together = (heatmaps(net, clips(4), scale=scale) for scale in ("view", "clip"))
    assert set(each.maps.max(axis=(2, 3)).ravel()) <= {0.0, 1.0}
    assert set(together.maps.max(axis=(1, 2, 3))) == {1.0}
    assert (together.maps.max(axis=(2, 3)) < 1).any()


def test_eigen_maps_do_not_depend_on_an_arbitrary_sign(net):
    coarse = heatmaps(net, clips(3), method="eigencam").coarse
    images = clips(3)
    with torch.no_grad():
        maps = net.maps(images).flatten(0, 1).numpy()
    for ours, one in zip(coarse.reshape(9, *coarse.shape[2:]), maps, strict=True):
        points = one.reshape(len(one), -1).T
        points = points - points.mean(axis=0)
        left, sizes, _ = np.linalg.svd(points)
        component = (left[:, 0] * sizes[0]).reshape(ours.shape)
        if -component.min() > component.max():
            component = -component
        np.testing.assert_allclose(ours, np.maximum(component, 0), atol=1e-4)


@pytest.mark.parametrize(
    "layer", [None, -1, 2, "layer2", "layer2.0", "trunk.stages.layer2", "backbone.stages.layer2"]
)
def test_layers_by_number_and_name(net, layer):
    assert heatmaps(net, clips(), layer=layer).maps.shape == (2, 3, 64, 32)


def test_an_earlier_layer_gives_a_finer_map(net):
    assert heatmaps(net, clips(), layer="stem").coarse.shape == (2, 3, 32, 16)


@pytest.mark.parametrize("layer", [3, -4, "layer9", "", "neck", "classifier"])
def test_layers_without_a_map_are_refused(net, layer):
    with pytest.raises(ValueError, match="stem, layer1, layer2"):
        heatmaps(net, clips(), layer=layer)
    assert hooks(net) == 0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"method": "scorecam"}, "gradcam, gradcam"),
        ({"scale": "batch"}, "'view' or 'clip'"),
        ({"target": 5}, "classes 0 to 4"),
        ({"target": -1}, "classes 0 to 4"),
        ({"target": [1, 2, 3]}, "one for each of the 2 clips"),
        ({"target": np.ones(31, np.float32)}, r"must be \(32,\)"),
        ({"target": torch.ones(3, 32)}, r"must be \(32,\)"),
    ],
)
def test_wrong_requests_are_refused(net, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        heatmaps(net, clips(), **wrong)
    assert hooks(net) == 0


@pytest.mark.parametrize("shape", [(3, 64, 32), (2, 3, 64, 32), (1, 0, 3, 64, 32), (1, 1, 1, 64, 32)])
def test_wrong_shapes_are_refused(net, shape):
    with pytest.raises(ValueError, match="Clips must be"):
        heatmaps(net, torch.zeros(shape))


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._backward_hooks) for module in net.modules())


def test_whatever_the_state_the_map_is_the_same_and_the_network_is_left_as_found():
    net = ReIDNet("tiny", 5, generator=torch.Generator().manual_seed(0)).eval()
    expected = heatmaps(net, clips()).maps
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        np.testing.assert_array_equal(heatmaps(net, clips()).maps, expected)
    with torch.inference_mode():
        np.testing.assert_array_equal(heatmaps(net, clips(), target=None).maps, expected)
        heatmaps(net, clips(), target=net.embed(clips())[0])
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(heatmaps(net, clips()).maps, expected)
    net.train()
    net.neck.eval()
    np.testing.assert_array_equal(heatmaps(net, clips()).maps, expected)
    assert net.training
    assert net.backbone.training
    assert not net.neck.training
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    np.testing.assert_array_equal(heatmaps(net, clips()).maps, expected)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


def test_half_precision(net):
    exact = heatmaps(net, clips()).maps
    rough = heatmaps(ReIDNet("tiny", 5).to(torch.bfloat16).eval(), clips())
    assert np.isfinite(rough.maps).all()
    halved = ReIDNet("tiny", 5)
    halved.load_state_dict(net.state_dict())
    near = heatmaps(halved.eval().to(torch.bfloat16), clips(), target=0).maps
    assert np.corrcoef(near.ravel(), heatmaps(net, clips(), target=0).maps.ravel())[0, 1] > 0.95
    assert exact.dtype == near.dtype == np.float32


def test_many_calls_leave_no_hooks_gradients_or_tensors(net):
    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    heatmaps(net, clips())
    before = tensors()
    for method in METHODS:
        for _ in range(10):
            heatmaps(net, clips(), method=method)
    assert tensors() <= before
    assert hooks(net) == 0
    assert all(parameter.grad is None for parameter in net.parameters())


def test_threads_get_their_own_maps_beside_other_forward_passes(net):
    inputs = [clips(1, 2, seed=seed) for seed in range(12)]
    alone = [heatmaps(net, images).maps for images in inputs]
    with torch.no_grad():
        embeddings = [net.embed(images) for images in inputs]

    def embed(images):
        with torch.inference_mode():
            return net.embed(images)

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            maps = [pool.submit(heatmaps, net, images) for images in inputs]
            others = [pool.submit(embed, images) for images in inputs]
        for expected, found in zip(alone, maps, strict=True):
            np.testing.assert_array_equal(found.result().maps, expected)
        assert all(torch.allclose(a, b.result(), atol=1e-6) for a, b in zip(embeddings, others, strict=True))


def test_a_map_without_differences_is_cold(net):
    blank = torch.zeros(1, 1, 3, 1, 1)  # one cell: nothing to tell apart
    assert heatmaps(net, blank).maps.max() == 0
