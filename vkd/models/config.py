"""What a checkpoint's network is: the Config that `config.json` holds, every value checked."""

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vkd.data.datasets import IMAGENET_MEAN as MEAN
from vkd.data.datasets import IMAGENET_STD as STD
from vkd.io.errors import MissingFileError, VKDError
from vkd.models import backbones

VERSION = 1
STAGES = ("teacher", "student", "imported")
_MOST_BYTES = 32 * 2**20
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80
_MOST_IDENTITIES = 10_000_000


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
            raise VKDError(f"identities is {shown(self.identities)}; it must be 1 to {_MOST_IDENTITIES}.")
        if self.stage not in STAGES:
            raise VKDError(f"stage is {shown(self.stage)}; it must be one of {', '.join(STAGES)}.")
        if len(self.image_size) != 2 or not all(_is_int(side, 8, 4096) for side in self.image_size):
            raise VKDError(
                f"image_size is {shown(self.image_size)}; it must be [height, width], 8 to 4096 each."
            )
        for name, values, low in (("mean", self.mean, -math.inf), ("std", self.std, 0.0)):
            if len(values) != 3 or not all(_is_number(v) and low < v < math.inf for v in values):
                raise VKDError(
                    f"{name} is {shown(values)}; it must be three numbers{' above 0' * (low == 0)}."
                )
        if not _is_int(self.epoch, 0, 2**53):
            raise VKDError(f"epoch is {shown(self.epoch)}; it must be a whole number from 0.")
        if self.labels is not None and len(self.labels) != self.identities:
            raise VKDError(f"labels has {len(self.labels)} entries for {self.identities} identities.")


def shown(value: object) -> str:
    """A value from a file, for a sentence: quoted, and short however long or deep it is."""
    return _SHORT.repr(value)


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_json(config: Config) -> str:
    """The text of `config.json`. Numbers that are not finite become null."""
    return json.dumps(_no_nan(asdict(config)), indent=2, allow_nan=False) + "\n"


def weights_metadata(config: Config) -> str:
    """Epoch and scores as JSON: what a weights file carries of its own."""
    return json.dumps(_no_nan({"epoch": config.epoch, "scores": config.scores}), allow_nan=False)


def apply_weights_metadata(config: Config, text: str) -> Config:
    """`config` with the epoch and scores of `text`, or as it was if `text` is not from `weights_metadata`."""
    try:
        raw = json.loads(text)
        return replace(config, epoch=raw["epoch"], scores=_scores(raw["scores"]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return config  # weights written elsewhere: config.json speaks for them


def _no_nan(value: Any) -> Any:
    """The same with null for a number that is not finite: a score without one valid query is nan."""
    if isinstance(value, Mapping):
        return {str(key): _no_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(item) for item in value]
    if hasattr(value, "item"):  # a NumPy or torch number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_config(folder: str | Path) -> Config:
    """Read and check `config.json`. Raises FileNotFoundError without one, ValueError for a wrong one."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise MissingFileError(f"{folder} is not a checkpoint: it has no config.json.")
    if path.stat().st_size > _MOST_BYTES:
        raise VKDError(f"{path} is too large to be a checkpoint's config.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise VKDError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise VKDError(f"{path} must hold a JSON object, not a {type(raw).__name__}.")
    version = raw.get("version")
    if not _is_int(version, 1, VERSION):
        raise VKDError(
            f"{path} has format version {shown(version)}, and this vkd reads versions up to {VERSION}: "
            "update vkd."
        )
    known = {item.name for item in fields(Config)}
    try:
        return _from_json({key: value for key, value in raw.items() if key in known})
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise VKDError(f"{path} does not describe a network: {error}") from None


def _from_json(raw: dict[str, Any]) -> Config:
    for name in {"backbone", "identities", "image_size"} - raw.keys():
        raise VKDError(f"'{name}' is missing.")
    for name, kind in {
        "backbone": str,
        "stage": str,
        "dataset": str,
        "image_size": list,
        "scores": dict,
    }.items():
        if name in raw and not isinstance(raw[name], kind):
            raise VKDError(f"'{name}' must be a {kind.__name__}, not {shown(raw[name])}.")
    for name in {"image_size", "mean", "std"} & raw.keys():
        raw[name] = tuple(raw[name])
    labels = raw.get("labels")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(i, int) for i in labels)):
        raise VKDError("'labels' must be a list of whole numbers.")
    if not isinstance(raw.get("parent"), str | None):
        raise VKDError("'parent' must be a name.")
    return Config(**{**raw, "scores": _scores(raw.get("scores", {}))})


def _scores(raw: Any) -> dict[str, dict[str, float]]:
    """Scores as read from JSON: null is nan again, what is not protocol → metric → number goes."""
    return {
        str(protocol): {
            str(metric): math.nan if value is None else float(value)
            for metric, value in metrics.items()
            if value is None or _is_number(value)
        }
        for protocol, metrics in raw.items()
        if isinstance(metrics, dict)
    }
