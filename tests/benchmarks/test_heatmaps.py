"""How long a heatmap takes, and how much of that is not the forward pass; searching and re-ranking too.

Run with: pytest tests/benchmarks/test_heatmaps.py --benchmark-enable --benchmark-only
"""

import numpy as np
import pytest
import torch

from vkd.explain.gradcam import heatmaps
from vkd.explain.methods import METHODS
from vkd.models.network import ReIDNet
from vkd.retrieval import index
from vkd.retrieval.gallery import index_rows, nearest
from vkd.retrieval.rerank import rerank

SIZES = {"mobilenet": (128, 64), "resnet50": (256, 128)}


def network(backbone: str) -> tuple[ReIDNet, torch.Tensor]:
    """An untrained network and one tracklet of eight views at the size it is used with."""
    net = ReIDNet(backbone, 625, generator=torch.Generator().manual_seed(0)).eval()
    return net, torch.randn(1, 8, 3, *SIZES[backbone], generator=torch.Generator().manual_seed(1))


@pytest.mark.benchmark(group="one tracklet of 8 views")
@pytest.mark.parametrize("backbone", SIZES)
def test_forward_pass_alone(benchmark, backbone):
    net, clip = network(backbone)
    with torch.inference_mode():
        benchmark(net, clip)


@pytest.mark.benchmark(group="one tracklet of 8 views")
@pytest.mark.parametrize("backbone", SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_heatmaps(benchmark, backbone, method):
    net, clip = network(backbone)
    heat = benchmark(heatmaps, net, clip, method=method)
    assert heat.maps.shape == (1, 8, *SIZES[backbone])


@pytest.fixture(scope="module")
def mars() -> np.ndarray:
    """As many embeddings as MARS has gallery tracklets with the queries among them, 2048 wide."""
    return np.random.default_rng(0).standard_normal((11310, 2048), dtype=np.float32)


@pytest.mark.benchmark(group="one query among 11,310 tracklets")
def test_search(benchmark, mars):
    found = index.make(mars)
    items, _ = benchmark(nearest, found, mars[5], 10)
    assert items[0] == 5


@pytest.mark.benchmark(group="one query among 11,310 tracklets")
def test_search_and_rerank_200(benchmark, mars):
    found = index.make(mars)

    def search() -> np.ndarray:
        items, _ = nearest(found, mars[5], 200)
        return rerank(mars[5:6], index_rows(found, items))[0]

    assert len(benchmark(search)) == 200
