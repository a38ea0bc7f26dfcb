"""The folders of the authors' public code: their names for our weights, and their pickled files read safely.

Such a folder holds `params/params.json`, `params/hparams.json` (backbone_type, num_classes) and
`chk/<name>`, a pickled state dict. That file is read twice: first what it claims to hold (`pickled.py`),
then, if that fits the network and the file, the weights themselves with ``torch.load(weights_only=True)``.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vkd.data.datasets import find_name
from vkd.io import archives
from vkd.io.errors import MissingFileError, VKDError
from vkd.models import backbones, pickled
from vkd.models.config import shown
from vkd.models.network import ReIDNet, build_on_meta, check_state_dict

MOST_PARAMS_BYTES = 2**20
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


class Found(NamedTuple):
    """What a folder of the authors says about itself."""

    backbone: str
    identities: int
    dataset: str  # mars, duke, veri, or '' where nothing tells
    weights: Path


def names(net: ReIDNet) -> dict[str, str]:
    """Our name of each weight → the authors' name, in their order."""
    stages = [name for name, _ in net.backbone.stages.named_children()]
    out: dict[str, str] = {}
    for ours in net.state_dict():
        if not ours.startswith("trunk.stages."):
            theirs = ours.replace("neck.", "bottleneck.")
            out[ours] = f"classifier.{theirs}"
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
    return names(build_on_meta(backbone, 1))  # the names do not depend on the identities


def to_authors(net: ReIDNet) -> dict[str, Tensor]:
    """The weights of `net` under the authors' names, in their order (tensors are not copied)."""
    state = net.state_dict()
    return {theirs: state[ours] for ours, theirs in names(net).items()}


def from_authors(state: Mapping[str, Tensor], backbone: str | None = None) -> dict[str, Tensor]:
    """A state dict under the authors' names → the same under ours, for `backbone` (None: told by the names).

    Raises ValueError if names are missing or unknown.
    """
    backbone = backbone or guess(state)
    if backbone is None:
        raise VKDError("These weights are not those of any backbone here.")
    ours = {theirs: mine for mine, theirs in _names_of(backbone).items()}
    wrong = sorted(ours.keys() ^ state.keys())
    if wrong:
        raise VKDError(
            f"These are not the weights of {backbone}: {len(wrong)} names differ, as '{wrong[0]}'."
        )
    return {ours[theirs]: tensor for theirs, tensor in state.items()}


def guess(keys: Iterable[str]) -> str | None:
    """The backbone whose weights have these names (the authors'), or None."""
    found = set(keys)
    return next((name for name in backbones.BACKBONES if set(_names_of(name).values()) == found), None)


def describe(folder: str | Path, name: str | None = None) -> Found:
    """Read `params/` and choose the file in `chk/`: `name`, or the last (chk_end, else the highest number).

    The backbone comes from hparams.json, because a student's params.json can name its teacher's.
    Raises FileNotFoundError for a missing file, ValueError for a wrong one.
    """
    folder = Path(folder)
    path = folder / "params" / "hparams.json"
    hparams, params = _text(path), _text(folder / "params" / "params.json", needed=False)
    backbone, identities, dataset = understand(hparams, params, path.parent, [folder.resolve().name])
    chk = folder / "chk"
    files = sorted(path.name for path in chk.iterdir() if path.is_file()) if chk.is_dir() else []
    return Found(backbone, identities, dataset, chk / choose(files, name, chk))


def _text(path: Path, needed: bool = True) -> bytes:
    if not path.is_file():
        if needed:
            raise MissingFileError(
                f"{path} is missing: this is not a checkpoint folder of the authors' code."
            )
        return b""
    if path.stat().st_size > MOST_PARAMS_BYTES:
        raise VKDError(f"{path} is too large to be a list of parameters.")
    return path.read_bytes()


def understand(
    hparams: bytes, params: bytes, where: str | Path, places: Iterable[str]
) -> tuple[str, int, str]:
    """The texts of hparams.json and params.json (empty where there is none) → backbone, identities, data set.

    `where` is their folder, for the sentence; `places` are names that may tell the data set, the most telling
    first. Raises ValueError for texts that do not describe a network.
    """
    path = f"{where}/hparams.json"
    told, more = _flat(hparams, path), _flat(params, f"{where}/params.json") if params else {}
    backbone, identities = told.get("backbone_type"), told.get("num_classes")
    if not isinstance(backbone, str) or backbone not in backbones.BACKBONES:
        raise VKDError(
            f"{path}: backbone_type is {shown(backbone)}; known are {', '.join(backbones.BACKBONES)}."
        )
    if not isinstance(identities, int) or isinstance(identities, bool) or identities < 1:
        raise VKDError(f"{path}: num_classes must be a whole number from 1, not {shown(identities)}.")
    names = [value for key, value in more.items() if "dataset" in key.lower() and isinstance(value, str)]
    return backbone, identities, find_name(" ".join([*names, *places]))


def _flat(text: bytes, path: str) -> dict[str, Any]:
    """The object in a JSON text, nested objects laid out flat."""
    try:
        raw = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise VKDError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise VKDError(f"{path} must hold a JSON object.")
    inner = [item for value in raw.values() if isinstance(value, dict) for item in value.items()]
    return {**dict(inner), **{key: value for key, value in raw.items() if not isinstance(value, dict)}}


def choose(files: Sequence[str], name: str | None, folder: str | Path) -> str:
    """The file `name` of a chk/ `folder`, or the last. Raises FileNotFoundError if there is none."""
    if not files:
        raise MissingFileError(f"{folder} is missing or empty: the authors keep their weights there.")
    if name is not None and name not in files:
        raise MissingFileError(f"{folder} has no '{name}'; it has {', '.join(sorted(files)[:8])}.")

    def age(file: str) -> tuple[bool, int, str]:
        numbers = re.findall(r"\d{1,9}", file)
        return "end" in file, int(numbers[-1]) if numbers else -1, file

    return name or max(files, key=age)


def read_weights(path: Path, net: ReIDNet) -> dict[str, Tensor]:
    """The pickled state dict at `path` → the weights of `net` (which may be `empty`) in float32, our names.

    Raises ValueError if the file is damaged, holds anything but tensors, or does not fit `net`.
    """
    theirs = names(net)
    with path.open("rb") as file:
        claims = pickled.claims(file, path)
        ours = {their: mine for mine, their in theirs.items()}
        check_state_dict({ours.get(key, key): claim.shape for key, claim in claims.items()}, net, path)
        file.seek(0)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever the file provokes
            words = archives.printable(str(error).partition("\n")[0][:200])
            raise VKDError(f"{path} is damaged: {words}") from None
    state = {ours[key]: tensor for key, tensor in state.items() if key in ours}
    check_state_dict({key: tensor.shape for key, tensor in state.items()}, net, path)
    floats = {key: tensor.is_floating_point() for key, tensor in net.state_dict().items()}
    return {
        key: tensor.detach().to(torch.float32 if floats[key] else torch.int64).contiguous()
        for key, tensor in state.items()
    }
