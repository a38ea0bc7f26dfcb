"""Config of a checkpoint's network, as `config.json` holds it, every value checked."""

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from vkd.data.datasets import IMAGENET_MEAN as MEAN
from vkd.data.datasets import IMAGENET_STD as STD
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import refuse_lfs_pointer
from vkd.models import backbones

VERSION = 1
STAGES = ("teacher", "student", "imported")
_MAX_BYTES = 32 * 2**20
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80


def short_repr(value: object) -> str:
    """Quotes a value from a file for a message, short however long or deep it is."""
    return _SHORT.repr(value)


def _scores(raw: Any) -> dict[str, dict[str, float]]:
    """Takes protocol → metric → number; JSON's null is nan, what is not a number is left out."""
    if not isinstance(raw, Mapping):
        raise ValueError("it must be an object")
    try:
        return {
            str(protocol): {
                str(metric): math.nan if value is None else float(value)
                for metric, value in metrics.items()
                if value is None or (isinstance(value, Real) and not isinstance(value, bool))
            }
            for protocol, metrics in raw.items()
            if isinstance(metrics, Mapping)
        }
    except OverflowError:
        raise ValueError("a score is too large") from None


def _check_backbone(backbone: str) -> str:
    backbones.row(backbone)
    return backbone


def _is_stage(stage: str) -> str:
    if stage not in STAGES:
        raise ValueError(f"it must be one of {', '.join(STAGES)}")
    return stage


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Side = Annotated[int, Field(strict=True, ge=8, le=4096)]
Label = Annotated[int, Field(strict=True)]


@dataclass(frozen=True)
class Config:
    """Everything needed to use a network: what `config.json` holds.

    `labels`: the raw identity of each of the K classes, or None. `scores`: protocol → metric → fraction 0..1.
    `parent`: name of the checkpoint it was distilled from. `image_size`: (height, width).
    Raises VKDError for a value out of range.
    """

    backbone: Annotated[str, Field(strict=True), AfterValidator(_check_backbone)]
    identities: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    image_size: tuple[Side, Side]
    stage: Annotated[str, Field(strict=True), AfterValidator(_is_stage)] = "teacher"
    dataset: Annotated[str, Field(strict=True)] = ""
    epoch: Annotated[int, Field(strict=True, ge=0, le=2**53)] = 0
    scores: Annotated[dict[str, dict[str, float]], BeforeValidator(_scores)] = field(default_factory=dict)
    parent: Annotated[str | None, Field(strict=True)] = None
    mean: tuple[Number, Number, Number] = MEAN
    std: tuple[Positive, Positive, Positive] = STD
    labels: list[Label] | None = None
    version: Annotated[int, Field(strict=True, ge=1, le=VERSION)] = VERSION

    def __post_init__(self) -> None:
        for name, adapter in _ADAPTERS.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, adapter.validate_python(value))
            except ValidationError as error:
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise VKDError(f"{name} is {short_repr(value)}: {reason}.") from None
        if self.labels is not None and len(self.labels) != self.identities:
            raise VKDError(f"labels has {len(self.labels)} entries for {self.identities} identities.")


_ADAPTERS = {name: TypeAdapter(kind) for name, kind in get_type_hints(Config, include_extras=True).items()}


def to_json(config: Config) -> str:
    """Returns the text of `config.json`. Numbers that are not finite become null."""
    return json.dumps(_jsonable(asdict(config)), indent=2, allow_nan=False) + "\n"


def weights_metadata(config: Config) -> str:
    """Serialises epoch and scores for the safetensors metadata."""
    return json.dumps(_jsonable({"epoch": config.epoch, "scores": config.scores}), allow_nan=False)


def apply_weights_metadata(config: Config, text: str) -> Config:
    """Returns `config` with the epoch and scores of a weights file, or unchanged if `text` holds none."""
    try:
        raw = json.loads(text)
        return replace(config, epoch=raw["epoch"], scores=raw["scores"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return config  # weights written elsewhere: config.json speaks for them


def _jsonable(value: Any) -> Any:
    """Replaces numbers that are not finite by None: a score without one valid query is nan."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_config(folder: str | Path) -> Config:
    """Reads and checks `config.json`. Raises MissingFileError without one, VKDError for a wrong one."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise MissingFileError(f"{folder} is not a checkpoint: it has no config.json.")
    if path.stat().st_size > _MAX_BYTES:
        raise VKDError(f"{path} is too large to be a checkpoint's config.")
    refuse_lfs_pointer(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise VKDError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise VKDError(f"{path} must hold a JSON object, not a {type(raw).__name__}.")
    version = raw.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise VKDError(
            f"{path} has format version {short_repr(version)}, and this vkd reads versions up to {VERSION}: "
            "update vkd."
        )
    if missing := sorted({"backbone", "identities", "image_size"} - raw.keys()):
        raise VKDError(f"{path} does not describe a model: '{missing[0]}' is missing.")
    try:
        return Config(**{item.name: raw[item.name] for item in fields(Config) if item.name in raw})
    except VKDError as error:
        raise VKDError(f"{path} does not describe a model: {error}") from None
