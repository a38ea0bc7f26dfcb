"""The two objectives of arXiv 2007.04174 as a table of losses, their weighted sum, and the student's views.

A row of `LOSSES` is all that a loss needs: its weight becomes a setting (flag, form, settings.json), its
value a curve and a term of the sum. `vkd.training.settings.register_loss` adds one from outside.

Shapes: B tracklets (of all processes), V views, M of them the student's, K training identities.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from vkd.models.network import Output


@dataclass(frozen=True)
class LossInputs:
    """Inputs of a loss: labels (B,), the trained network's output, the teacher's, the run's settings."""

    labels: "Tensor"
    output: "Output"
    teacher: "Output | None"
    settings: Any


@dataclass(frozen=True)
class Loss:
    """A row of `LOSSES`.

    Attributes:
        title: name for curves and forms.
        help: one sentence on its weight.
        compute: `LossInputs` → scalar tensor.
        weight: default of its weight in the sum.
        field: name of the setting that holds the weight; default: the loss's name and `_weight`.
        stages: stages whose objective it belongs to.
        needs_teacher: True if it compares with the teacher's output; left out where its weight is 0.
        same_classes: True if it compares logits, so that both networks must know the same identities.
        active: returns whether these settings use it.
    """

    title: str
    help: str
    compute: "Callable[[LossInputs], Tensor]"
    weight: float = 1.0
    field: str = ""
    stages: tuple[str, ...] = ("teacher", "student")
    needs_teacher: bool = False
    same_classes: bool = False
    active: Callable[[Any], bool] = lambda settings: True


def _cross_entropy(given: LossInputs) -> "Tensor":
    from vkd import losses

    return losses.cross_entropy(given.output.logits, given.labels)


def _triplet(given: LossInputs) -> "Tensor":
    from vkd import losses

    return losses.triplet(given.output.embedding, given.labels, given.settings.margin)


def _kd(given: LossInputs) -> "Tensor":
    from vkd import losses

    assert given.teacher is not None
    return losses.kd_loss(given.output.logits, given.teacher.logits, given.settings.temperature)


def _logit_mse(given: LossInputs) -> "Tensor":
    from vkd import losses

    assert given.teacher is not None
    return losses.logit_mse(given.output.logits, given.teacher.logits)


def _distance_preservation(given: LossInputs) -> "Tensor":
    from vkd import losses

    assert given.teacher is not None
    return losses.distance_preservation(given.output.embedding, given.teacher.embedding)


LOSSES: dict[str, Loss] = {
    "class": Loss("CE", "Weight of the cross-entropy.", _cross_entropy),
    "triplet": Loss("Triplet", "Weight of the batch-hard triplet loss.", _triplet),
    "kd": Loss(
        "KD (KL)",
        "Weight of the knowledge distillation loss on logits.",
        _kd,
        weight=0.1,
        stages=("student",),
        needs_teacher=True,
        same_classes=True,
        active=lambda settings: settings.logits == "kd",
    ),
    "mse": Loss(
        "KD (MSE)",
        "Weight of the knowledge distillation loss on logits.",
        _logit_mse,
        weight=0.1,
        field="kd_weight",
        stages=("student",),
        needs_teacher=True,
        same_classes=True,
        active=lambda settings: settings.logits == "mse",
    ),
    "dp": Loss(
        "DP",
        "Weight of the distance preservation loss.",
        _distance_preservation,
        weight=1e-4,
        stages=("student",),
        needs_teacher=True,
    ),
}


def weight_field(name: str) -> str:
    """Returns the name of the setting that holds the weight of a loss."""
    return LOSSES[name].field or f"{name}_weight"


def loss_weights(settings: Any) -> dict[str, float]:
    """Returns the weight of each loss that the settings use, by name."""
    return {
        name: getattr(settings, weight_field(name))
        for name, loss in LOSSES.items()
        if settings.stage in loss.stages and loss.active(settings)
    }


def named_losses(given: LossInputs) -> dict[str, "Tensor"]:
    """Returns the unweighted losses of a batch by name; those of a teacher only where they have a weight."""
    return {
        name: LOSSES[name].compute(given)
        for name, weight in loss_weights(given.settings).items()
        if not LOSSES[name].needs_teacher or (weight and given.teacher is not None)
    }


def total(named: "Mapping[str, Tensor]", weights: Mapping[str, float]) -> "Tensor":
    """Returns the weighted sum, which is minimised."""
    import torch

    return torch.stack([weights[name] * loss for name, loss in named.items()]).sum()


def choose_views(samples: int, views: int, chosen: int, seed: tuple[int, int, int]) -> "Tensor":
    """Draws `chosen` of `views` for the student; returns (samples, chosen).

    The seed is (run's seed, epoch, step): nothing needs to be saved for a resume, and every process can draw
    for the whole group and take its own rows.
    """
    import torch

    mixed = 0
    for part in seed:
        mixed = (mixed * 1_000_003 + part + 1) % 2**63
    generator = torch.Generator().manual_seed(mixed)
    return torch.rand(samples, views, generator=generator).argsort(1)[:, :chosen]


def pick_views(images: "Tensor", chosen: "Tensor") -> "Tensor":
    """Selects the chosen (B, M) views of images (B, V, 3, H, W); returns (B, M, 3, H, W)."""
    import torch

    rows = torch.arange(len(images), device=images.device)[:, None]
    return images[rows, chosen.to(images.device)]
