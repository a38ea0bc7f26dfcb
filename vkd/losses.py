"""Losses of views knowledge distillation (arXiv 2007.04174, section 3), functions of tensors.

B tracklets in a batch, D embedding width, K training identities. Every function takes any floating precision
and works in float32 at least, whatever autocast says; half-precision input gives a float32 loss. Nothing here
is distributed: pass the embeddings, logits and labels gathered from all of them and batch-hard mining
and distance preservation see the global batch. What comes from the teacher is a target and gets no gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from vkd.io.errors import VKDError


def triplet(embedding: Tensor, labels: Tensor, margin: float | None = None) -> Tensor:
    """Computes the batch-hard triplet loss (L_TR) of embedding (B, D), labels (B,): mean over B anchors.

    `margin=None` is the soft margin, softplus(hardest positive − hardest negative); a number is the hinge
    max(0, margin + hardest positive − hardest negative). Distances are Euclidean, with 1e-12 under the root
    so that equal embeddings have a gradient. An anchor without another item of its identity counts a positive
    distance of 0; an anchor without a negative adds nothing.

    Raises VKDError if the shapes do not belong together.
    """
    _check_rows("embeddings", embedding, "labels", labels, dimensions=(2, 1))
    distance = (_squared_distances(embedding) + 1e-12).sqrt()
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = distance.masked_fill(~same | itself, 0.0).max(dim=1).values
    negative = distance.masked_fill(same, torch.inf).min(dim=1).values
    gap = positive - negative
    # The threshold is where softplus is taken as the identity: at the default of 20 that is wrong by 2e-9.
    loss = F.softplus(gap, threshold=50.0) if margin is None else F.relu(gap + margin)
    return loss.mean().to(_precision(embedding))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes the identity cross-entropy (L_CE) of logits (B, K), labels (B,) in 0..K−1: batch mean.

    Raises VKDError if the shapes do not belong together.
    """
    _check_rows("logits", logits, "labels", labels, dimensions=(2, 1))
    return F.cross_entropy(logits.to(_precision(logits)), labels)


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 10.0) -> Tensor:
    """Computes the distillation loss (L_KD) of logits (B, K): KL(teacher ‖ student) · temperature².

    The temperature softens both; the divergence is summed over identities and averaged over the batch.

    Raises VKDError if the shapes differ or the temperature is not positive.
    """
    if temperature <= 0:
        raise VKDError(f"The temperature of distillation must be positive; it is {temperature}.")
    student, teacher = _logits_of_both(student_logits, teacher_logits)
    student = F.log_softmax(student / temperature, dim=1)
    teacher = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def logit_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Computes the mean squared difference of logits (B, K), the alternative to `kd_loss`.

    Raises VKDError if the shapes differ.
    """
    student, teacher = _logits_of_both(student_logits, teacher_logits)
    return F.mse_loss(student, teacher)


def distance_preservation(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Computes the distance preservation loss (L_DP) of embeddings (B, D) and (B, D′).

    Half the mean, over all B·B pairs, of the squared difference between the squared distances of the student
    and those of the teacher. The widths may differ, as in cross-distillation.

    Raises VKDError if the batch sizes differ.
    """
    _check_rows(
        "student embeddings", student_embedding, "teacher embeddings", teacher_embedding, dimensions=(2, 2)
    )
    difference = _squared_distances(student_embedding) - _squared_distances(teacher_embedding.detach())
    return difference.square().mean().mul(0.5).to(_precision(student_embedding))


def _squared_distances(embedding: Tensor) -> Tensor:
    """Returns squared Euclidean distances (B, B) of embedding (B, D), float64, zeros on the diagonal.

    The product of Gram keeps memory at B·B where differences need B·B·D (1.2 GB for 384 gathered tracklets of
    width 2048). It cancels badly in float32, so it is done in float64, which autocast leaves alone, about the
    mean of the batch, which changes neither distances nor gradients.
    """
    embedding = embedding.double()
    embedding = embedding - embedding.detach().mean(dim=0)
    gram = embedding @ embedding.T
    square = gram.diagonal()
    return (square[:, None] + square[None, :] - 2 * gram).clamp_min(0.0)


def _logits_of_both(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the two logits (B, K) in one precision, the teacher's without gradient."""
    _check_rows("student logits", student, "teacher logits", teacher, dimensions=(2, 2))
    if student.shape != teacher.shape:
        raise VKDError(
            f"Student and teacher must classify the same identities to be compared: the logits have shapes "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}."
        )
    precision = _precision(student)
    return student.to(precision), teacher.detach().to(precision)


def _precision(tensor: Tensor) -> torch.dtype:
    """Returns float64 for float64, float32 for everything narrower."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _check_rows(
    name: str, tensor: Tensor, other_name: str, other: Tensor, dimensions: tuple[int, int]
) -> None:
    """Raises VKDError naming both shapes unless there is one row of each for every tracklet."""
    if (tensor.dim(), other.dim()) != dimensions or len(tensor) != len(other) or len(tensor) == 0:
        shapes = f"{tuple(tensor.shape)} and {tuple(other.shape)}"
        raise VKDError(
            f"The {name} and the {other_name} must have {dimensions[0]} and {dimensions[1]} dimensions "
            f"and one row for each tracklet of the batch; their shapes are {shapes}."
        )
