"""Training state of one run: networks, optimizer, loader and progress.

Shapes: B tracklets of this process, V views, P × K samples in the group of all processes.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from vkd.data.datasets import DATASETS, Splits, Tracklet, valid_queries
from vkd.data.loaders import TrainLoader, train_loader
from vkd.evaluation import protocols as evaluation_protocols
from vkd.io.errors import VKDError
from vkd.models import checkpoint
from vkd.models.inference import EmbedConfig
from vkd.models.network import batch_statistics
from vkd.training import resume
from vkd.training.distributed import (
    accelerator,
    explain_oom,
    forget_device,
    gather_output,
    gather_rows,
    rank,
    world_size,
)
from vkd.training.networks import build_networks
from vkd.training.objectives import LossInputs, choose_views, named_losses, pick_views, total
from vkd.training.settings import Settings, StudentSettings

_SANITY_IDENTITIES = 4  # enough to run every part of an evaluation once


@dataclass
class Progress:
    """Progress of a run: `epoch` whole epochs, and `step` P×K groups of the next one."""

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # each loss over the steps of this epoch
    seconds: float = 0.0  # training time of this epoch
    best: float | None = None  # highest mAP of the first protocol
    scores: dict[str, dict[str, float]] = field(default_factory=dict)  # of the last evaluation


class Trainer:
    """Everything that changes in a run. Raises VKDError for settings that do not fit."""

    def __init__(self, settings: Settings, folder: Path, splits: Splits) -> None:
        self.settings, self.folder, self.splits = settings, folder, splits
        labels = splits.labels()
        self.labels = sorted(labels, key=labels.__getitem__)
        self._peak = 0.0
        self.accelerator = accelerator(settings.device, settings.precision, settings.samples)
        self.device = self.accelerator.device
        self.loader = _loader(settings, splits, self.device.type == "cuda")
        with explain_oom(
            self.device,
            "while the models were loaded",
            "choose a smaller backbone, or let other programs end",
        ):
            built = build_networks(settings, self.labels, self.device)
        self.net, self.teacher, self.parent, self.notes = built.net, built.teacher, built.parent, built.notes
        if settings.channels_last:
            self.net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        model = torch.compile(self.net) if settings.compile else self.net
        trained = [weight for weight in self.net.parameters() if weight.requires_grad]
        adam = torch.optim.Adam(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.model, self.optimizer = self.accelerator.prepare(model, adam)
        self.progress = Progress()
        self.resumed = self._restore()

    def _restore(self) -> bool:
        """Restores the state of training.pt, if there is one."""
        state = resume.load(self.folder)
        if state is None:
            resume.check(self.folder)
            return False
        old = (
            type(self.settings).model_validate(state["settings"])
            if state["stage"] == self.settings.stage
            else None
        )
        differing = conflicts(old, self.settings) if old else ["stage"]
        if differing:
            raise VKDError(
                f"{self.folder} was begun with other settings ({', '.join(differing)}): give those again, or "
                "train in another folder."
            )
        if state["identities"] != self.labels:
            raise VKDError(
                f"{self.folder} was begun with other identities than those of {self.splits.root}: give that "
                "dataset, or train in another folder."
            )
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        resume.restore_random_state(state["random"])
        self.progress = Progress(**state["progress"])
        return True

    # --- steps ---

    @property
    def steps(self) -> int:
        """Number of P×K groups in an epoch."""
        return len(self.loader)

    @property
    def images_per_step(self) -> int:
        """Images read for a group, in all processes."""
        settings = self.settings
        return settings.samples * settings.views

    def rate(self) -> float:
        """Returns the learning rate of the next epoch."""
        base = self.settings.learning_rate
        if isinstance(self.settings, StudentSettings):
            base = generation_rate(self.settings.generation, base)
        return learning_rate(self.progress.epoch, base, self.settings.milestones, self.settings.gamma)

    def begin_epoch(self) -> None:
        """Sets the networks' modes and the learning rate."""
        self.model.train()
        if self.settings.freeze_batch_norm:
            for module in self.net.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        if self.teacher is not None:
            self.teacher.eval()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()

    def losses(self, images: Tensor, labels: Tensor, step: int) -> dict[str, Tensor]:
        """Computes the losses of the whole group from this process's images (B, V, 3, H, W), labels (B,)."""
        settings, teacher = self.settings, None
        images, labels = self._moved(images), labels.to(self.device, non_blocking=True)
        if isinstance(settings, StudentSettings):
            if self.teacher is not None:
                rule = torch.no_grad() if settings.freeze_batch_norm else batch_statistics(self.teacher)
                with rule, self.accelerator.autocast():
                    teacher = gather_output(self.teacher(images))
            seed = (settings.seed, self.progress.epoch, step)
            chosen = choose_views(len(images) * world_size(), images.shape[1], settings.student_views, seed)
            images = pick_views(images, chosen[rank() * len(images) : (rank() + 1) * len(images)])
        output = gather_output(self.model(images))
        return named_losses(LossInputs(gather_rows(labels), output, teacher, settings))

    def _moved(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        if self.settings.channels_last:
            flat = images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            images = flat.unflatten(0, images.shape[:2])
        return images

    def is_update_step(self, step: int) -> bool:
        """True if the optimizer steps after this group (gradient accumulation)."""
        return (step + 1) % self.settings.accumulate == 0 or step + 1 == self.steps

    def step(self, images: Tensor, labels: Tensor, step: int) -> dict[str, Tensor]:
        """Computes the gradients of one group, and updates the weights where a window of groups ends.

        Returns the losses and their weighted sum ('total'), detached, still on the device.
        """
        start = step - step % self.settings.accumulate
        window = min(self.settings.accumulate, self.steps - start)
        last = self.is_update_step(step)
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            losses = self.losses(images, labels, step)
            loss = total(losses, self.settings.weights)
            self.accelerator.backward(loss * (world_size() / window))
        if last:
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return {name: value.detach() for name, value in {**losses, "total": loss}.items()}

    # --- scores ---

    def evaluate(self, splits: Splits | None = None) -> dict[str, dict[str, float]]:
        """Returns the scores of every protocol as numbers. Leaves the network in evaluation mode."""
        settings = self.settings
        self.net.eval()
        results = evaluation_protocols.evaluate(
            self.net,
            splits or self.splits,
            EmbedConfig(
                settings.image_size, settings.test_views, workers=settings.workers, device=self.device
            ),
            protocols=settings.protocols,
        )
        return {protocol: scores.numbers() for protocol, scores in results.items()}

    def sanity_check(self) -> dict[str, dict[str, float]]:
        """Evaluates very few queries: what would fail after the first epochs fails now."""
        return self.evaluate(subset(self.splits, self.settings.protocols))

    # --- saving ---

    def state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "stage": self.settings.stage,
            "settings": self.settings.model_dump(mode="json"),
            "identities": self.labels,
            "progress": dataclasses.asdict(self.progress),
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "random": resume.random_state(),
        }

    def save(self) -> None:
        """Writes training.pt, which alone determines a resume, then the checkpoint made from it."""
        if rank() == 0:
            resume.save(self.folder, self.state())
            self.export("model")
        self.accelerator.wait_for_everyone()

    def export(self, weights: str) -> None:
        """Writes the checkpoint: `weights` is 'model' (the last) or 'best'."""
        config = checkpoint.Config(
            backbone=self.net.backbone_name,
            identities=len(self.labels),
            image_size=self.settings.image_size,
            stage=self.settings.stage,
            dataset=self.settings.dataset,
            epoch=self.progress.epoch,
            scores=self.progress.scores,
            parent=self.parent,
            labels=self.labels,
        )
        checkpoint.save(self.folder, self.net, config, weights)

    def memory_mb(self) -> float:
        """Returns the peak memory in MiB: of the GPU, or of the process at the ends of its epochs."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        self._peak = max(self._peak, psutil.Process().memory_info().rss / 2**20)
        return self._peak

    def close(self) -> None:
        """Frees the memory; a later run in this process may use another precision or device."""
        self.accelerator.free_memory()
        forget_device()


def subset(splits: Splits, protocols: Sequence[str], count: int = _SANITY_IDENTITIES) -> Splits:
    """Reduces query and gallery to `count` identities that have a match in each protocol."""
    identities: set[int] = set()
    for protocol in protocols:
        queries, gallery = splits.query_gallery(protocol)
        items: dict[int, list[Tracklet]] = {}
        for item in gallery:
            items.setdefault(item.identity, []).append(item)
        valid = (q.identity for q in queries if valid_queries([q], items.get(q.identity, [])))
        identities |= set(itertools.islice(dict.fromkeys(valid), count))
    parts = ("query", "gallery_only", "query_images", "gallery_only_images")
    return dataclasses.replace(
        splits,
        **{part: tuple(t for t in getattr(splits, part) if t.identity in identities) for part in parts},
    )


def _loader(settings: Settings, splits: Splits, cuda: bool) -> TrainLoader:
    """Returns the loader of this process's share of the P×K groups."""
    return train_loader(
        splits,
        image_size=settings.image_size,
        views=settings.views,
        rule=settings.views_from,
        frames=settings.frames,
        identities_per_batch=settings.identities_per_batch,
        samples_per_identity=settings.samples_per_identity,
        seed=settings.seed,
        workers=settings.workers,
        rank=rank(),
        world=world_size(),
        aspect=DATASETS[settings.dataset].erasing_aspect,
        pad=settings.pad,
        erase=settings.erase,
        pin_memory=cuda,
    )


def learning_rate(epoch: int, base: float, milestones: tuple[int, ...], gamma: float = 0.1) -> float:
    """Returns the rate of an epoch (from 0): `base` times gamma for each milestone reached."""
    return base * gamma ** sum(epoch >= milestone for milestone in milestones)


def generation_rate(generation: int, base: float = 1e-4) -> float:
    """Returns the initial rate of generation g (from 0): max(base · 0.1^g, 1e-5), never above `base`."""
    return min(base, max(base * 0.1**generation, 1e-5))


def conflicts(old: Settings, new: Settings) -> list[str]:
    """Returns the fields that differ and may not when a run that began with `old` is resumed with `new`."""
    if old.stage != new.stage:
        return ["stage"]
    return [
        name
        for name, info in type(old).model_fields.items()
        if getattr(old, name) != getattr(new, name)
        and not (isinstance(info.json_schema_extra, dict) and info.json_schema_extra["resumable"])
    ]
