"""Networks with the deterministic weights of golden/models.json (its `fill_rule`)."""

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vkd.models.network import ReIDNet, build_on_meta
from vkd.models.reference import from_authors

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def described() -> dict[str, dict]:
    """What models.json says of each backbone."""
    return json.loads((GOLDEN / "models.json").read_text())["backbones"]


def filled_state(backbone: str) -> dict[str, Tensor]:
    """The weights under the authors' names, in float32."""
    golden = described()[backbone]
    return {
        key: torch.from_numpy(_fill(key, tuple(shape), golden["gain"]))
        for key, shape, _ in golden["state_dict"]
    }


def filled_net(
    backbone: str, dtype: torch.dtype = torch.float64, state: dict[str, Tensor] | None = None
) -> ReIDNet:
    """A network with those weights (drawn unless `state` holds them) and ten identities, evaluating."""
    net = build_on_meta(backbone, 10)
    net.load_state_dict(from_authors(state or filled_state(backbone), backbone), assign=True)
    return net.to(dtype).eval()


def _fill(key: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    draw = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, dtype=np.float32)
    draw = np.asarray(draw, dtype=np.float32)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    if key.endswith("running_var"):
        return 1 + np.float32(0.1) * np.abs(draw)
    if key.endswith(("running_mean", "bias")):
        return np.float32(0.1) * draw
    if draw.ndim == 1:
        return 1 + np.float32(0.1) * draw
    return draw * np.float32(gain / np.sqrt(np.prod(shape[1:])))


def relative(ours: Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """The measure of golden/README.md: the largest difference over the largest value."""
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else ours
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
