"""Builds the network that a run trains and, for a student, its frozen teacher."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from vkd.io.errors import VKDError
from vkd.models import checkpoint
from vkd.models.checkpoint import Checkpoint
from vkd.models.network import NoImageNetWeights, ReIDNet, student_of
from vkd.training.objectives import LOSSES
from vkd.training.settings import Settings, StudentSettings, TeacherSettings


@dataclass
class Networks:
    """The trained network, the teacher (None if no loss needs it), its name, notes for a person."""

    net: ReIDNet
    teacher: ReIDNet | None = None
    parent: str | None = None
    notes: list[str] = field(default_factory=list)


def build_networks(settings: Settings, labels: list[int], device: torch.device) -> Networks:
    """Builds the networks of a run for these training identities, on the device.

    Raises VKDError for a teacher that is missing or was trained on other identities.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    notes: list[str] = []
    with _weights_noted(notes):
        if isinstance(settings, StudentSettings):
            teacher = _load_teacher(settings, labels)
            if teacher.config.image_size != settings.image_size:
                sizes = (*teacher.config.image_size, *settings.image_size)
                notes.append("The teacher was trained on {} × {} pixels and now sees {} × {}.".format(*sizes))
            origin = checkpoint.load(settings.start).net if settings.start else teacher.net
            net = student_of(origin, len(labels), pretrained=settings.pretrained, generator=generator)
            built = Networks(net, parent=teacher.name)
            if any(weight for _, weight in _distilled(settings)):
                built.teacher = teacher.net.to(device).requires_grad_(False)
        else:
            assert isinstance(settings, TeacherSettings)
            built = Networks(
                ReIDNet(settings.backbone, len(labels), pretrained=settings.pretrained, generator=generator)
            )
    built.net.to(device)
    built.notes = notes
    return built


def _distilled(settings: Settings) -> list[tuple[str, float]]:
    """Returns the losses that compare with the teacher, and their weights."""
    return [(name, weight) for name, weight in settings.weights.items() if LOSSES[name].needs_teacher]


def _load_teacher(settings: StudentSettings, labels: list[int]) -> Checkpoint:
    if settings.teacher is None:
        raise VKDError("A student needs a teacher: give the folder of its checkpoint.")
    teacher = checkpoint.load(settings.teacher)
    logits = [name for name, weight in _distilled(settings) if weight and LOSSES[name].same_classes]
    if logits and (teacher.net.identities != len(labels) or teacher.config.labels not in (None, labels)):
        raise VKDError(
            f"{settings.teacher} was trained on {teacher.net.identities} other identities than the "
            f"{len(labels)} of this dataset: logits cannot be compared; give the teacher's own dataset, or a "
            f"weight of 0 for {', '.join(logits)}."
        )
    return teacher


@contextmanager
def _weights_noted(notes: list[str]) -> Iterator[None]:
    """Turns warnings about missing ImageNet weights into notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NoImageNetWeights)
        yield
    for warning in caught:
        if issubclass(warning.category, NoImageNetWeights):
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
