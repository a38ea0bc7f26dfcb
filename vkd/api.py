"""The public API: names of several layers, and the functions that join layers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from vkd.cli.train import run
from vkd.data.datasets import read_dataset
from vkd.data.tracklets import Splits, Tracklet
from vkd.evaluation.comparison import Comparison, evaluate_models
from vkd.explain import gradcam
from vkd.hub.model import ReIDModel
from vkd.io.errors import CancelledError, VKDError
from vkd.io.images import ImageLike
from vkd.io.progress import Progress, silent
from vkd.models.checkpoint import Checkpoint
from vkd.retrieval.gallery import Gallery, Hit
from vkd.synthetic.generate import generate_street
from vkd.training.presets import PRESETS  # noqa: F401 (Settings.preset finds them)
from vkd.training.settings import Settings, StudentSettings, TeacherSettings

__all__ = [
    "Checkpoint",
    "Comparison",
    "Gallery",
    "Hit",
    "ReIDModel",
    "StudentSettings",
    "TeacherSettings",
    "Tracklet",
    "VKDError",
    "evaluate",
    "generate_street",
    "heatmaps",
    "load",
    "read_dataset",
    "train",
]


def train(settings: Settings, folder: str | Path) -> ReIDModel:
    """Trains in this process, as `vkd train` does, and returns the model of the last epoch.

    A folder that holds an interrupted run with the same settings is resumed. Raises VKDError for invalid
    settings, CancelledError if another process asked the run to stop, KeyboardInterrupt after Ctrl-C; both
    after saving.
    """
    last, signals = run(settings, Path(folder))
    if last["kind"] == "finished":
        return load(folder)
    if signals:
        raise KeyboardInterrupt
    raise CancelledError(f"{folder} was stopped and saved: the same call resumes it.")


def evaluate(
    models: Checkpoint | Mapping[str, Checkpoint],
    data: Splits,
    *,
    protocols: Sequence[str] = ("i2v", "v2v"),
    progress: Progress = silent,
    **options: Any,
) -> Comparison:
    """Scores models on a dataset, and compares each with the first by a paired bootstrap.

    `options` are those of `vkd.evaluation.comparison.evaluate_models`. Raises VKDError for a protocol that is
    unknown or has no valid query.
    """
    networks = {models.name: models} if isinstance(models, Checkpoint) else models
    return evaluate_models(networks, data, protocols=protocols, progress=progress, **options)


def load(source: str | Path, **options: Any) -> ReIDModel:
    """Loads a model from a checkpoint folder, or from a repository (user/name) on the Hugging Face Hub.

    `options` are those of `ReIDModel.from_pretrained`.
    """
    return ReIDModel.from_pretrained(source, **options)


def heatmaps(
    model: Checkpoint,
    images: Sequence[ImageLike],
    *,
    target: Hit | ImageLike | int | None = None,
    method: str = "gradcam",
    layer: str | int | None = None,
) -> NDArray:
    """Computes one class activation map for each image: float32 (n, H, W), 0..1 in each.

    `target`: None for the top-1 class logit, a number for the logit of that class, a match of a gallery or
    another image for the cosine similarity to it. `method` is a key of `vkd.explain.gradcam.METHODS`.
    """
    reference: Any = target
    if isinstance(target, Hit):
        frames = [path for path in target.frames if Path(path).is_file()] or list(target.thumbnails)
        reference = model.embed([frames])[0]
    elif target is not None and not isinstance(target, int):
        reference = model.embed([target])[0]
    device = next(model.net.parameters()).device
    clips = torch.stack([model.prepare([image]) for image in images]).to(device)
    heat = gradcam.heatmaps(model.net, clips, target=reference, method=method, layer=layer)
    return heat.maps[:, 0]
