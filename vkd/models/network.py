"""The network: trunk → map → embedding → neck → classifier, and how a teacher and a student are made from it.

Source: arXiv 2007.04174, sections 3 and 4.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vkd.io.errors import VKDError
from vkd.models import backbones


class Output(NamedTuple):
    """What a forward pass gives for B tracklets of V views."""

    embedding: Tensor  # (B, D): mean over views, before the neck
    logits: Tensor  # (B, K): mean over the logits of the views
    views: Tensor  # (B, V, D): one embedding for each view


class ReIDNet(nn.Module):
    """A re-identification network for any number of views.

    `backbone` is a key of BACKBONES, `identities` the number K of training identities. With `pretrained` the
    trunk takes ImageNet weights where they can be had (else a `NoImageNetWeights` warning). New layers draw
    from `generator`, or from torch's global source without one. Raises ValueError for a wrong name or number.
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
        self.config: Any = None  # what `config.json` says, of a network that was loaded
        if identities < 1:
            raise VKDError(f"A network needs at least one training identity, not {identities}.")
        self.backbone_name = backbone
        self.identities = identities
        self.width = backbones.row(backbone).width
        self.trunk = backbones.trunk(backbone, pretrained=pretrained, generator=generator)
        self.neck = nn.BatchNorm1d(self.width)
        self.neck.bias.requires_grad_(False)  # stays 0: the classifier's boundaries pass through the origin
        with backbones.drawing(generator):
            self.classifier = nn.Linear(self.width, identities, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.001)

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | Path,
        *,
        revision: str | None = None,
        strict: bool = True,
        token: str | bool | None = None,
        endpoint: str | None = None,
        device: str = "cpu",
    ) -> "ReIDNet":
        """The network of a folder, or of a repository ("user/name") on the Hub, in evaluation mode.

        Its `config` says what it is. Not `strict`: what the weights lack is drawn anew, with a warning.
        Raises as `hub.pull`.
        """
        from vkd.hub import pull  # the one door upwards: two lines of Python reach the Hub

        found = pull.load(
            repo_or_folder, revision=revision, strict=strict, token=token, endpoint=endpoint, device=device
        )
        return found.net

    def push_to_hub(
        self,
        repo: str,
        *,
        config: Any = None,
        private: bool = True,
        revision: str | None = None,
        pull_request: bool = False,
        teacher: str | None = None,
        message: str | None = None,
        token: str | bool | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Send weights, config and card to `repo`; → the address of the commit.

        `config` (a `Config`) says what the network is, if it was not loaded. Raises as `hub.push`.
        """
        from vkd.hub import pull  # as above

        return pull.push_net(
            self,
            repo,
            config=config,
            private=private,
            revision=revision,
            pull_request=pull_request,
            teacher=teacher,
            message=message,
            token=token,
            endpoint=endpoint,
        )

    def maps(self, images: Tensor) -> Tensor:
        """Images (B, V, 3, H, W) → maps (B, V, D, h, w)."""
        if images.ndim != 5 or images.shape[2] != 3:
            raise VKDError(f"Images must be (tracklets, views, 3, height, width), not {tuple(images.shape)}.")
        return self.trunk(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    def views(self, images: Tensor) -> Tensor:
        """Images (B, V, 3, H, W) → the embedding of each view (B, V, D), in the precision of the neck.

        Pooling in half precision would cost the distances between embeddings most of their digits.
        """
        return self.maps(images).mean((-2, -1), dtype=self.neck.weight.dtype)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, V, 3, H, W) → embeddings (B, D): the mean over views, before the neck."""
        return self.views(images).mean(1)

    def forward(self, images: Tensor) -> Output:
        """Images (B, V, 3, H, W) → Output.

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


@contextmanager
def batch_statistics(net: nn.Module) -> Iterator[None]:
    """The teacher's rule: inside, `net` computes no gradients and its normalisation layers use the batch's
    statistics; running statistics are neither used nor updated. Afterwards `net` is as it was."""
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
    """A student that starts as a copy of `net` (its teacher, or another trained network), on the same device.

    Neck and classifier are fresh, for `identities`. The last stage (`Backbone.restart`) goes back to ImageNet
    weights, or is drawn afresh where there are none or `pretrained` is False; `restart=False` keeps it.
    """
    again = backbones.row(net.backbone_name).restart if restart else ()
    # The weights are only needed for the stages that restart: MobileNet has none.
    student = ReIDNet(
        net.backbone_name, identities, pretrained=pretrained and bool(again), generator=generator
    )
    for name, stage in net.trunk.stages.named_children():
        if name not in again:
            student.trunk.stages.get_submodule(name).load_state_dict(stage.state_dict())
    weight = net.neck.weight
    return student.to(device=weight.device, dtype=weight.dtype)


def empty(backbone: str, identities: int) -> ReIDNet:
    """A network without memory for its weights (on the meta device): to be filled, or to read its shapes."""
    with torch.device("meta"):
        return ReIDNet(backbone, identities)


def fit(found: Mapping[str, Sequence[int]], net: ReIDNet, path: Path) -> None:
    """Raise ValueError unless the names and shapes `found` in the file `path` are those of `net`."""
    expected = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    kinds = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
    }
    wrong = [f"{len(names)} {kind} (such as {names[0][:80]!r})" for kind, names in kinds.items() if names]
    if wrong:
        raise VKDError(f"{path} does not hold the weights of {net.backbone_name}: {' and '.join(wrong)}.")
    for name, shape in expected.items():
        if list(found[name]) != shape:
            raise VKDError(
                f"{path}: '{name}' has shape {list(found[name])}, but {net.backbone_name} with "
                f"{net.identities} identities needs {shape}."
            )
