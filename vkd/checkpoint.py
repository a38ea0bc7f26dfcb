"""A checkpoint is a folder: `config.json` says what the network is, `*.safetensors` are its weights.

Reading is safe whatever the folder holds: nothing is unpickled, names and shapes are compared with what the
config promises before any memory is taken, and what does not fit is refused in one sentence.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vkd import backbones
from vkd.model import Net

VERSION = 1
STAGES = ("teacher", "student", "imported")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
_CONFIG_BYTES = 32 * 2**20
_MOST_IDENTITIES = 10_000_000
_HALF_MAX = 65504.0
_DTYPES = {"F16", "BF16", "F32", "F64", "I64"}


@dataclass(frozen=True)
class Config:
    """Everything needed to use a network: what `config.json` holds.

    `labels`: the raw identity of each of the K classes, or None. `scores`: protocol → metric → fraction 0..1.
    `parent`: name of the checkpoint it was distilled from. `image_size`: (height, width).
    Raises ValueError for a value out of range.
    """

    backbone: str
    identities: int
    image_size: tuple[int, int]
    stage: str = "teacher"
    dataset: str = ""
    epoch: int = 0
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    parent: str | None = None
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    labels: list[int] | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        backbones.row(self.backbone)
        if not _is_int(self.identities, 1, _MOST_IDENTITIES):
            raise ValueError(f"identities is {self.identities!r}; it must be 1 to {_MOST_IDENTITIES}.")
        if self.stage not in STAGES:
            raise ValueError(f"stage is {self.stage!r}; it must be one of {', '.join(STAGES)}.")
        if len(self.image_size) != 2 or not all(_is_int(side, 8, 4096) for side in self.image_size):
            raise ValueError(
                f"image_size is {self.image_size!r}; it must be [height, width], 8 to 4096 each."
            )
        for name, values, low in (("mean", self.mean, -math.inf), ("std", self.std, 0.0)):
            if len(values) != 3 or not all(_is_number(v) and low < v < math.inf for v in values):
                raise ValueError(f"{name} is {values!r}; it must be three numbers{' above 0' * (low == 0)}.")
        if not _is_int(self.epoch, 0, 2**53):
            raise ValueError(f"epoch is {self.epoch!r}; it must be a whole number from 0.")
        if self.labels is not None and len(self.labels) != self.identities:
            raise ValueError(f"labels has {len(self.labels)} entries for {self.identities} identities.")


class Checkpoint(NamedTuple):
    """A network in evaluation mode, what it is, and where it came from."""

    net: Net
    config: Config
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def save(folder: str | Path, net: Net, config: Config, weights: str = "model", half: bool = False) -> None:
    """Write `<weights>.safetensors` and `config.json` into `folder`, each under a temporary name and renamed.

    With `half` the convolution and linear weights are stored as float16 (normalisation layers and values beyond
    float16 stay float32): half the size, and float32 again when loaded. The epoch and scores are also kept inside
    the weights file, so that `best.safetensors` keeps its own when `config.json` moves on with the last epoch.
    Raises ValueError if `config` does not describe `net`.
    """
    if (config.backbone, config.identities) != (net.backbone_name, net.identities):
        raise ValueError(
            f"The config says {config.backbone} with {config.identities} identities, the network is "
            f"{net.backbone_name} with {net.identities}."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: _stored(tensor, half) for name, tensor in net.state_dict().items()}
    text = _to_json(config)
    own = _to_json({"epoch": config.epoch, "scores": config.scores})
    _write(
        folder / f"{weights}.safetensors", lambda path: save_file(state, path, {"format": "pt", "vkd": own})
    )
    _write(folder / "config.json", lambda path: path.write_text(text, encoding="utf-8"))


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_floating_point():
        fits = half and tensor.ndim > 1 and bool((tensor.abs() <= _HALF_MAX).all())
        tensor = tensor.to(torch.float16 if fits else torch.float32)
    return tensor


def _to_json(value: Any) -> str:
    plain = asdict(value) if isinstance(value, Config) else value
    return json.dumps(_no_nan(plain), indent=2, allow_nan=False) + "\n"


def _no_nan(value: Any) -> Any:
    """The same with null for a number that is not finite: a score without one valid query is nan."""
    if isinstance(value, Mapping):
        return {str(key): _no_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(item) for item in value]
    if hasattr(value, "item"):  # a NumPy or torch number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, how: Any) -> None:
    """Write through a temporary file beside `path`: a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        how(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_config(folder: str | Path) -> Config:
    """Read and check `config.json`. Raises FileNotFoundError without one, ValueError for anything wrong in it."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a checkpoint: it has no config.json.")
    if path.stat().st_size > _CONFIG_BYTES:
        raise ValueError(f"{path} is too large to be a checkpoint's config.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(raw).__name__}.")
    version = raw.get("version")
    if not _is_int(version, 1, VERSION):
        raise ValueError(
            f"{path} has format version {version!r} and this program reads 1 to {VERSION}: update vkd to use it."
        )
    known = {item.name for item in fields(Config)}
    try:
        return _from_json({key: value for key, value in raw.items() if key in known})
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not describe a network: {error}") from None


def _from_json(raw: dict[str, Any]) -> Config:
    for name in {"backbone", "identities", "image_size"} - raw.keys():
        raise ValueError(f"'{name}' is missing.")
    for name, kind in {
        "backbone": str,
        "stage": str,
        "dataset": str,
        "image_size": list,
        "scores": dict,
    }.items():
        if name in raw and not isinstance(raw[name], kind):
            raise ValueError(f"'{name}' must be a {kind.__name__}, not {raw[name]!r}.")
    for name in {"image_size", "mean", "std"} & raw.keys():
        raw[name] = tuple(raw[name])
    labels = raw.get("labels")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(i, int) for i in labels)):
        raise ValueError("'labels' must be a list of whole numbers.")
    if not isinstance(raw.get("parent"), str | None):
        raise ValueError("'parent' must be a name.")
    return Config(**{**raw, "scores": _scores(raw.get("scores", {}))})


def _scores(raw: Any) -> dict[str, dict[str, float]]:
    """Scores as read from JSON: null is nan again, and anything that is not protocol → metric → number goes."""
    return {
        str(protocol): {
            str(metric): math.nan if value is None else float(value)
            for metric, value in metrics.items()
            if value is None or _is_number(value)
        }
        for protocol, metrics in raw.items()
        if isinstance(metrics, dict)
    }


def load(
    folder: str | Path,
    *,
    weights: Literal["auto", "model", "best"] = "auto",
    device: str | torch.device = "cpu",
) -> Checkpoint:
    """Load a checkpoint in evaluation mode, weights in float32 on `device`.

    `weights`: 'model' is the last epoch, 'best' the best by validation, 'auto' the best where there is one.
    The config's epoch and scores are those of the weights loaded. Raises FileNotFoundError if a file is missing,
    ValueError if one is damaged or does not fit the config.
    """
    folder = Path(folder)
    config = read_config(folder)
    path = weights_file(folder, weights)
    net = empty(config.backbone, config.identities)
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            fit(
                {name: tuple(part.get_shape()) for name, part in slices.items()},
                expected,
                path,
                config.backbone,
            )
            for name, part in slices.items():
                if part.get_dtype() not in _DTYPES:
                    raise ValueError(
                        f"{path}: '{name}' holds {part.get_dtype()} numbers, which no network here has."
                    )
            own = (file.metadata() or {}).get("vkd", "{}")
            state = {name: _loaded(file.get_tensor(name)) for name in slices}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}.") from None
    net.load_state_dict(state, assign=True)
    return Checkpoint(net.to(device).eval(), _with_own(config, own), folder)


def weights_file(folder: str | Path, weights: str = "auto") -> Path:
    """The file that `load` would read. Raises FileNotFoundError if it is not there."""
    names = ("best", "model") if weights == "auto" else (weights,)
    for name in names:
        path = Path(folder) / f"{name}.safetensors"
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} has no {' or '.join(f'{name}.safetensors' for name in names)}.")


def empty(backbone: str, identities: int) -> Net:
    """A network without memory for its weights (on the meta device): to be filled, or to read names and shapes."""
    with torch.device("meta"):
        return Net(backbone, identities)


def fit(
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    path: Path,
    what: str,
) -> None:
    """Raise ValueError unless the names and shapes `found` in the file `path` are those `expected` of `what`."""
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        parts = [
            f"{len(names)} {word} (such as '{names[0]}')"
            for names, word in ((missing, "missing"), (extra, "unknown"))
            if names
        ]
        raise ValueError(f"{path} does not hold the weights of {what}: {' and '.join(parts)}.")
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"{path}: '{name}' has shape {list(found[name])}, {what} needs {list(shape)}.")


def _loaded(tensor: Tensor) -> Tensor:
    # A copy, because safetensors maps the file into memory and training may replace or a user shorten it.
    return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)


def _with_own(config: Config, own: str) -> Config:
    try:
        raw = json.loads(own)
        return replace(config, epoch=raw["epoch"], scores=_scores(raw["scores"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return config  # weights written elsewhere: config.json speaks for them


def find(root: str | Path = "checkpoints") -> list[Path]:
    """The checkpoints directly inside `root`, newest weights first; folders that are not one are left out."""
    found: list[tuple[float, str, Path]] = []
    for folder in Path(root).iterdir() if Path(root).is_dir() else ():
        try:
            read_config(folder)
            found.append((weights_file(folder).stat().st_mtime, folder.name, folder))
        except (OSError, ValueError):
            continue
    return [folder for _, _, folder in sorted(found, reverse=True)]
