"""Backbones: one BACKBONES row each, built by torchvision and modified as published.

A backbone maps images (n, 3, H, W) to feature maps (n, D, h, w) through named stages; their positions are
those of the authors' feature list, so a stage has a name and a number. No torch at import: settings and the
command line's help list BACKBONES; builders import it.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from vkd.io.errors import VKDError

if TYPE_CHECKING:
    from torch import nn
    from torchvision.models import ResNet, WeightsEnum

    Stages = OrderedDict[str, nn.Module]


@dataclass(frozen=True)
class Backbone:
    """A row of `BACKBONES`.

    `build`: torchvision's ImageNet weights or None → stages. `width`: channels D of the last map. `weights`:
    torchvision's name of the ImageNet weights, None where there are none. `restart`: the stages that go back
    to these in a new student.
    """

    label: str
    width: int
    build: "Callable[[WeightsEnum | None], Stages]"
    weights: str | None = None
    restart: tuple[str, ...] = ()


def _unstride(module: "nn.Module", name: str) -> None:
    convolution = cast("nn.Conv2d", module.get_submodule(name))
    convolution.stride = (1, 1)


def _resnet(weights: "WeightsEnum | None", *, name: str, gated: bool = False) -> "Stages":
    from torch import nn
    from torchvision import models

    from vkd.models.bam import add_gates

    net = cast("ResNet", models.get_model(name, weights=weights))
    first, last = net.layer4[0], net.layer4[-1]
    # The last stage keeps the resolution. torchvision strides the first 3×3 convolution of a block.
    _unstride(first, "conv2" if hasattr(first, "conv3") else "conv1")
    _unstride(first, "downsample.0")
    # One ReLU module serves the whole block, so this silences all of them; the published weights want that.
    last.relu = nn.Identity()
    if gated:
        add_gates([net.layer1, net.layer2, net.layer3], [256, 512, 1024])
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    layers = {f"layer{i}": getattr(net, f"layer{i}") for i in range(1, 5)}
    return OrderedDict(stem=stem, **layers)


def _densenet(weights: "WeightsEnum | None") -> "Stages":
    from torchvision import models

    return OrderedDict(models.densenet121(weights=weights).features.named_children())


def _mobilenet(weights: "WeightsEnum | None") -> "Stages":
    from torch import nn
    from torchvision import models

    features = models.mobilenet_v2(weights=weights).features
    _unstride(features, "14.conv.1.0")
    blocks = OrderedDict(features.named_children())
    blocks["18"] = nn.Sequential(*list(features.get_submodule("18").children())[:2])  # without its ReLU6
    return blocks


def _tiny(weights: "WeightsEnum | None") -> "Stages":
    from torch import nn

    def stage(before: int, after: int, stride: int) -> nn.Sequential:
        conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())

    return OrderedDict(stem=stage(3, 16, 2), layer1=stage(16, 24, 2), layer2=stage(24, 32, 1))


def _resnet_row(depth: int, width: int, gated: bool = False) -> Backbone:
    build = partial(_resnet, name=f"resnet{depth}", gated=gated)
    label = f"ResNet-{depth}{'-BAM' * gated}"
    return Backbone(label, width, build, f"ResNet{depth}_Weights.IMAGENET1K_V1", ("layer4",))


BACKBONES: dict[str, Backbone] = {
    "resnet18": _resnet_row(18, 512),
    "resnet34": _resnet_row(34, 512),
    "resnet50": _resnet_row(50, 2048),
    "resnet101": _resnet_row(101, 2048),
    "resnet50bam": _resnet_row(50, 2048, gated=True),
    "resnet101bam": _resnet_row(101, 2048, gated=True),
    "densenet121": Backbone(
        "DenseNet-121", 1024, _densenet, "DenseNet121_Weights.IMAGENET1K_V1", ("denseblock4",)
    ),
    "mobilenet": Backbone("MobileNet-V2", 1280, _mobilenet, "MobileNet_V2_Weights.IMAGENET1K_V1"),
    # For tests: a few thousand weights, works from 32×16 images, no ImageNet weights exist for it.
    "tiny": Backbone("tiny", 32, _tiny, restart=("layer2",)),
}


def row(backbone: str) -> Backbone:
    """Returns the BACKBONES row of a name. Raises VKDError that lists the names."""
    if backbone not in BACKBONES:
        raise VKDError(f"There is no backbone {backbone[:80]!r}; choose one of {', '.join(BACKBONES)}.")
    return BACKBONES[backbone]
