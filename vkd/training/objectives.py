"""The two objectives of arXiv 2007.04174: each returns its losses by name, unweighted.

Shapes: B tracklets (of all processes), V views, M of them the student's, K training identities.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vkd import losses
from vkd.models.network import Output
from vkd.training.distributed import gather_rows


def teacher_losses(output: Output, labels: Tensor, *, margin: float | None = None) -> dict[str, Tensor]:
    """Stage 1: cross-entropy and batch-hard triplet of one network's output for labels (B,)."""
    return {
        "class": losses.cross_entropy(output.logits, labels),
        "triplet": losses.triplet(output.embedding, labels, margin),
    }


def student_losses(
    student: Output,
    teacher: Output | None,
    labels: Tensor,
    *,
    margin: float | None = None,
    logits: str | None = "kd",
    temperature: float = 10.0,
) -> dict[str, Tensor]:
    """Stage 2: the losses of stage 1 on the student, and what it learns from the teacher's output.

    `logits`: 'kd' (softened divergence), 'mse', or None where the classes differ. Without a teacher's
    output (both weights 0) only stage 1 is left.
    """
    found = teacher_losses(student, labels, margin=margin)
    if teacher is None:
        return found
    if logits == "kd":
        found["kd"] = losses.kd_loss(student.logits, teacher.logits, temperature)
    elif logits == "mse":
        found["mse"] = losses.logit_mse(student.logits, teacher.logits)
    found["dp"] = losses.distance_preservation(student.embedding, teacher.embedding)
    return found


def total(named: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum that is minimised."""
    return torch.stack([weights[name] * loss for name, loss in named.items()]).sum()


def gather_output(output: Output) -> Output:
    """The output for the tracklets of all processes; the views, which no loss uses, stay our own."""
    return Output(gather_rows(output.embedding), gather_rows(output.logits), output.views)


def choose_views(samples: int, views: int, chosen: int, seed: tuple[int, int, int]) -> Tensor:
    """Which `chosen` of `views` the student sees: (samples, chosen), drawn from the seed alone.

    The seed is (run's seed, epoch, step): nothing needs to be remembered for a resume, and every process
    can draw for the whole group and take its own rows.
    """
    mixed = 0
    for part in seed:
        mixed = (mixed * 1_000_003 + part + 1) % 2**63
    generator = torch.Generator().manual_seed(mixed)
    return torch.rand(samples, views, generator=generator).argsort(1)[:, :chosen]


def pick_views(images: Tensor, chosen: Tensor) -> Tensor:
    """Images (B, V, 3, H, W) and chosen (B, M) → images (B, M, 3, H, W)."""
    rows = torch.arange(len(images), device=images.device)[:, None]
    return images[rows, chosen.to(images.device)]
