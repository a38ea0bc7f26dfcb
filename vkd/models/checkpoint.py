"""Checkpoints: folders with `config.json`, which describes the network, and weights (safetensors).

Reading is safe whatever the folder holds: nothing is unpickled, and names and shapes are compared with the
config before memory is taken.
"""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vkd.data.transforms import prepare
from vkd.io import archives
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import atomic_path, refuse_lfs_pointer, write_text
from vkd.io.images import ImageLike
from vkd.models.config import Config, apply_weights_metadata, read_config, to_json, weights_metadata
from vkd.models.network import (
    Features,
    ReIDNet,
    build_on_meta,
    check_state_dict,
    embed_clips,
    evaluation_mode,
)

_HALF_MAX = torch.finfo(torch.float16).max
_DTYPES = {"F16", "BF16", "F32", "F64", "I64"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network in evaluation mode, what it is, and the folder it came from."""

    net: ReIDNet
    config: Config
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def prepare(self, images: Sequence[ImageLike]) -> Tensor:
        """Prepares V images by the config: float32 (V, 3, H, W), resized and normalised."""
        return prepare(images, self.config.image_size, self.config.mean, self.config.std)

    def embed(self, images: Iterable[ImageLike | Sequence[ImageLike]], *, batch: int = 32) -> Features:
        """Embeds images: float32 (n, D), one row an image, before the neck.

        Each is a path, a Pillow image, an array (H, W, 3) uint8 or a tensor (3, H, W). A nested list of
        images is one tracklet: one row, the mean over its images. `batch` is the number of images that are
        embedded at a time. Raises VKDError or MissingFileError for what is not an image.
        """
        if isinstance(images, str | Path | Image.Image):
            raise VKDError("Give a list of images, also for a single one.")
        tracklets: list[Sequence[ImageLike]] = [
            item if isinstance(item, list | tuple) else [cast(ImageLike, item)] for item in images
        ]
        out = np.empty((len(tracklets), self.net.width), np.float32)
        device = next(self.net.parameters()).device
        by_length: dict[int, list[int]] = {}
        for row, tracklet in enumerate(tracklets):
            by_length.setdefault(len(tracklet), []).append(row)
        with evaluation_mode(self.net):
            for length, rows in by_length.items():
                size = max(1, batch // max(1, length))
                for part in (rows[start : start + size] for start in range(0, len(rows), size)):
                    clips = torch.stack([self.prepare(tracklets[row]) for row in part])
                    out[part] = embed_clips(self.net, clips.to(device))
        return out


def save(
    folder: str | Path, net: ReIDNet, config: Config, weights: str = "model", half: bool = False
) -> None:
    """Writes `<weights>.safetensors` and `config.json` into `folder`, each atomically.

    With `half` the convolution and linear weights are stored as float16 (normalisation layers, and values
    that float16 cannot hold, stay float32): half the size, and float32 again when loaded. The weights file
    carries its epoch and scores too: `best.safetensors` keeps its own when `config.json` moves on to the
    last epoch. Raises VKDError if `config` does not describe
    `net`, OSError if the files cannot be written.
    """
    if (config.backbone, config.identities) != (net.backbone_name, net.identities):
        raise VKDError(
            f"The config describes {config.backbone} with {config.identities} identities, the model is "
            f"{net.backbone_name} with {net.identities}."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: _stored(tensor, half) for name, tensor in net.state_dict().items()}
    path = folder / f"{weights}.safetensors"
    try:
        with atomic_path(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(state, temporary, {"format": "pt", "vkd": weights_metadata(config)})
            temporary.chmod(mode)  # safetensors lets only the owner read, whatever the umask says
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        path = write_text(folder / "config.json", to_json(config))
    except (OSError, SafetensorError) as error:
        raise OSError(f"{path} could not be written ({error}): make room on the disk.") from error


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_floating_point():
        fits = half and tensor.ndim > 1 and bool((tensor.abs() <= _HALF_MAX).all())
        tensor = tensor.to(torch.float16 if fits else torch.float32)
    return tensor


def load(
    folder: str | Path,
    *,
    weights: Literal["auto", "model", "best"] = "auto",
    strict: bool = True,
    device: str | torch.device = "cpu",
) -> Checkpoint:
    """Loads a checkpoint in evaluation mode, weights in float32 on `device`.

    `weights`: 'model' is the last epoch, 'best' the best by validation, 'auto' the best where there is one.
    The config's epoch and scores are those of the weights loaded. Not `strict`: what the file lacks, or has
    in another shape, is initialised randomly and a warning names it. Raises MissingFileError for a missing
    file, VKDError for one that is damaged or does not fit the config.
    """
    folder = Path(folder)
    config = read_config(folder)
    path = weights_file(folder, weights)
    refuse_lfs_pointer(path)
    net = (
        build_on_meta(config.backbone, config.identities)
        if strict
        else ReIDNet(config.backbone, config.identities)
    )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            shapes = {name: part.get_shape() for name, part in parts.items()}
            if strict:
                check_state_dict(shapes, net, path)
            else:
                parts = {name: parts[name] for name in _fitting(shapes, net, path)}
            for name, part in parts.items():
                if part.get_dtype() not in _DTYPES:
                    raise VKDError(f"{path}: '{name}' holds {part.get_dtype()} numbers; no model here does.")
            metadata = (file.metadata() or {}).get("vkd", "")
            state = {name: _loaded(file.get_tensor(name)) for name in parts}
    except SafetensorError as error:
        words = archives.printable(" ".join(str(error).split())[:200])
        raise VKDError(f"{path} is damaged or not a safetensors file ({words}): copy it again.") from None
    net.load_state_dict(state, strict=strict, assign=True)
    return Checkpoint(net.to(device).eval(), apply_weights_metadata(config, metadata), folder)


def _fitting(shapes: Mapping[str, Sequence[int]], net: ReIDNet, path: Path) -> list[str]:
    """Returns the names that fit `net`; a warning names the others. Raises VKDError if nothing fits."""
    expected = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    fitting = [name for name, shape in shapes.items() if list(shape) == expected.get(name)]
    if not fitting:
        raise VKDError(f"{path} holds no weights of {net.backbone_name}.")
    if lacking := sorted(expected.keys() - {*fitting}):
        text = f"{path} lacks {len(lacking)} weights, such as '{lacking[0]}': they are random."
        warnings.warn(text, stacklevel=3)
    return fitting


def weights_file(folder: str | Path, weights: str = "auto") -> Path:
    """Returns the file that `load` would read. Raises MissingFileError if it is not there."""
    names = ("best", "model") if weights == "auto" else (weights,)
    for name in names:
        path = Path(folder) / f"{name}.safetensors"
        if path.is_file():
            return path
    raise MissingFileError(f"{folder} has no {' or '.join(f'{name}.safetensors' for name in names)}.")


def _loaded(tensor: Tensor) -> Tensor:
    # A copy, because safetensors maps the file into memory and training may replace or a user shorten it.
    return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)


def find(root: str | Path = "checkpoints") -> list[Path]:
    """Finds the checkpoints directly inside `root`, newest weights first; other folders are left out."""
    checkpoints: list[tuple[float, str, Path]] = []
    for folder in Path(root).iterdir() if Path(root).is_dir() else ():
        try:
            read_config(folder)
            checkpoints.append((weights_file(folder).stat().st_mtime, folder.name, folder))
        except (OSError, ValueError):
            continue
    return [folder for _, _, folder in sorted(checkpoints, reverse=True)]
