"""Imports the folders of the authors' public code: their names for our weights, their files read safely.

Such a folder holds `params/params.json`, `params/hparams.json` (backbone_type, num_classes) and `chk/<name>`,
a pickled state dict.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vkd.data.datasets import DATASETS, UNKNOWN
from vkd.io.errors import MissingFileError, VKDError
from vkd.models import backbones
from vkd.models.checkpoint import Checkpoint, save
from vkd.models.config import Config, short_repr
from vkd.models.network import ReIDNet, build_on_meta, check_state_dict
from vkd.models.pickled import read_state_dict

MAX_PARAMS_BYTES = 2**20
MARGIN = 64 * 2**20
"""Bytes that a file of weights may hold besides its numbers, of at most 8 bytes each."""
PARAMS = ("params/hparams.json", "params/params.json")
_GATE = {
    "channel.squeeze": "channel_att.gate_c.gate_c_fc_0",
    "channel.norm": "channel_att.gate_c.gate_c_bn_1",
    "channel.expand": "channel_att.gate_c.gate_c_fc_final",
    "spatial.squeeze": "spatial_att.gate_s.gate_s_conv_reduce0",
    "spatial.norm": "spatial_att.gate_s.gate_s_bn_reduce0",
    "spatial.dilate1": "spatial_att.gate_s.gate_s_conv_di_0",
    "spatial.norm1": "spatial_att.gate_s.gate_s_bn_di_0",
    "spatial.dilate2": "spatial_att.gate_s.gate_s_conv_di_1",
    "spatial.norm2": "spatial_att.gate_s.gate_s_bn_di_1",
    "spatial.expand": "spatial_att.gate_s.gate_s_conv_final",
}


# Names and weights


def authors_names(net: ReIDNet) -> dict[str, str]:
    """Maps our name of each weight to the authors' name, in their order."""
    stages = [name for name, _ in net.backbone.stages.named_children()]
    out: dict[str, str] = {}
    for ours in net.state_dict():
        if not ours.startswith("trunk.stages."):
            out[ours] = f"classifier.{ours.replace('neck.', 'bottleneck.')}"
            continue
        stage, rest = ours.removeprefix("trunk.stages.").split(".", 1)
        if rest.startswith("gate."):
            part, weight = rest.removeprefix("gate.").rsplit(".", 1)
            rest = f"bam.{_GATE[part]}.{weight}"
        # The authors wrap each residual layer, so that a gate can follow it.
        inner = "0." if stage.startswith("layer") else ""
        out[ours] = f"backbone.features_layers.{stages.index(stage)}.{inner}{rest}"
    return out


@cache
def _names_of(backbone: str) -> dict[str, str]:
    return authors_names(build_on_meta(backbone, 1))  # the names do not depend on the identities


def to_authors(net: ReIDNet) -> dict[str, Tensor]:
    """Returns the weights of `net` under the authors' names, in their order (tensors are not copied)."""
    state = net.state_dict()
    return {theirs: state[ours] for ours, theirs in _names_of(net.backbone_name).items()}


def from_authors(state: Mapping[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """Renames a state dict from the authors' names to ours. Raises VKDError for missing or unknown names."""
    ours = {theirs: mine for mine, theirs in _names_of(backbone).items()}
    if wrong := sorted(ours.keys() ^ state.keys()):
        raise VKDError(
            f"These are not the weights of {backbone}: {len(wrong)} names differ, as '{wrong[0]}'."
        )
    return {ours[theirs]: tensor for theirs, tensor in state.items()}


def read_weights(path: Path, net: ReIDNet) -> dict[str, Tensor]:
    """Reads the pickled weights of `net` (which may be on the meta device) in float32, under our names.

    Raises VKDError if the file is damaged, too large, holds anything but tensors, or does not fit `net`.
    """
    if path.stat().st_size > max_bytes(net):
        raise VKDError(f"{path} has more bytes than the weights of {net.backbone_name} can have.")
    ours = {theirs: mine for mine, theirs in _names_of(net.backbone_name).items()}

    def check(shapes: Mapping[str, torch.Size]) -> None:
        check_state_dict({ours.get(name, name): shape for name, shape in shapes.items()}, net, path)

    state = {ours[name]: tensor for name, tensor in read_state_dict(path, check).items()}
    floats = {name: tensor.is_floating_point() for name, tensor in net.state_dict().items()}
    return {
        name: tensor.detach().to(torch.float32 if floats[name] else torch.int64).contiguous()
        for name, tensor in state.items()
    }


def max_bytes(net: ReIDNet) -> int:
    """Returns the bytes that a file with the weights of `net` may have at most."""
    return 8 * sum(tensor.numel() for tensor in net.state_dict().values()) + MARGIN


# Folders of one network


def load_authors(
    folder: str | Path,
    name: str | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    device: str | torch.device = "cpu",
) -> Checkpoint:
    """Loads a folder of the authors' public code (params/, chk/), teacher or student, in evaluation mode.

    `name` picks a file of `chk/`; without it the last one is taken. The dataset comes from `params.json` or
    the folder's name, the image size from the dataset unless `image_size` gives it. Raises MissingFileError
    for a missing file, VKDError for one that is damaged, unsafe or does not fit.
    """
    folder = Path(folder)
    chk = folder / "chk"
    files = sorted(path.name for path in chk.iterdir() if path.is_file()) if chk.is_dir() else []
    backbone, identities, dataset = read_params(folder, [folder.resolve().name])
    weights = chk / choose_weights(files, name, str(chk))
    config = authors_config(backbone, identities, dataset, image_size)
    net = build_on_meta(backbone, identities)
    net.load_state_dict(read_weights(weights, net), assign=True)
    return Checkpoint(net.to(device).eval(), config, folder)


def convert_authors(
    folder: str | Path,
    out: str | Path,
    name: str | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    half: bool = False,
) -> Path:
    """Converts a folder of the authors' code to a checkpoint at `out`. Raises as `load_authors`."""
    loaded = load_authors(folder, name, image_size=image_size)
    save(out, loaded.net, loaded.config, half=half)
    return Path(out)


def authors_config(
    backbone: str, identities: int, dataset: str, image_size: tuple[int, int] | None = None
) -> Config:
    """Returns the config of a network of the authors. Raises VKDError for values that no network has."""
    size = image_size or DATASETS.get(dataset, UNKNOWN).image_size
    return Config(backbone, identities, size, stage="imported", dataset=dataset)


def read_params(folder: Path, names: Iterable[str], label: str | None = None) -> tuple[str, int, str]:
    """Reads `params/`: backbone, identities and dataset ('' if unknown) of a network.

    The backbone comes from hparams.json, because a student's params.json can name its teacher's. `names` may
    contain the dataset, the most telling first; `label` stands for the folder in errors. Raises VKDError or
    MissingFileError for texts that do not describe a network.
    """
    label = f"{folder}/" if label is None else label
    hparams, params = (_read_json(folder / file, f"{label}{file}") for file in PARAMS)
    path = f"{label}{PARAMS[0]}"
    if hparams is None:
        raise MissingFileError(f"{path} is missing: this is not a checkpoint folder of the authors' code.")
    backbone, identities = hparams.get("backbone_type"), hparams.get("num_classes")
    if not isinstance(backbone, str) or backbone not in backbones.BACKBONES:
        options = ", ".join(backbones.BACKBONES)
        raise VKDError(f"{path}: backbone_type is {short_repr(backbone)}; it must be one of {options}.")
    if not isinstance(identities, int) or isinstance(identities, bool) or identities < 1:
        raise VKDError(f"{path}: num_classes must be a whole number from 1, not {short_repr(identities)}.")
    stated = [v for key, v in (params or {}).items() if "dataset" in key.lower() and isinstance(v, str)]
    return backbone, identities, find_name(" ".join([*stated, *names]))


def _read_json(path: Path, label: str) -> dict[str, Any] | None:
    """Reads the object in a JSON file, nested objects flattened; None where there is no file."""
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_PARAMS_BYTES:
        raise VKDError(f"{label} is too large to be a list of parameters.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise VKDError(f"{label} is not valid JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise VKDError(f"{label} must hold a JSON object.")
    inner = [item for value in raw.values() if isinstance(value, dict) for item in value.items()]
    return {**dict(inner), **{key: value for key, value in raw.items() if not isinstance(value, dict)}}


def choose_weights(files: Sequence[str], name: str | None, folder: str) -> str:
    """Chooses the file `name` of a chk/ `folder`, or the last: chk_end, else the highest number."""
    if not files:
        raise MissingFileError(f"{folder} is missing or empty: the authors' weights are expected there.")
    if name is not None and name not in files:
        raise MissingFileError(f"{folder} has no '{name}'; it has {', '.join(sorted(files)[:8])}.")

    def age(file: str) -> tuple[bool, int, str]:
        numbers = re.findall(r"\d{1,9}", file)
        return "end" in file, int(numbers[-1]) if numbers else -1, file

    return name or max(files, key=age)


def find_name(text: str) -> str:
    """Returns the key of the dataset that a name or path mentions first, "" if there is none."""
    starts = {
        match.start(): key
        for key, row in DATASETS.items()
        if row.name_pattern and (match := re.search(row.name_pattern, text.lower()))
    }
    return starts[min(starts)] if starts else ""
