"""What can be asked of a training run, said once: for flags, form, settings.json and model card. No torch.

`TeacherSettings` and `StudentSettings` hold every field with its default, its bounds and one sentence of
help. A choice is the key of the library's own table (`Choice`), so a new row of that table is offered
everywhere at once. Recipes of settings are in `vkd.training.presets`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic_core import core_schema

from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import write_text

if TYPE_CHECKING:
    from vkd.data.datasets import Splits

GROUPS = ("data", "network", "views", "schedule", "losses", "machine")


@dataclass(frozen=True)
class Choice:
    """A key of a table of this package, looked up only when a value is checked or choices are shown."""

    table: Callable[[], Iterable[str]]
    besides: tuple[str, ...] = ()

    def keys(self) -> list[str]:
        return [*self.besides, *self.table()]

    def check(self, value: str) -> str:
        if value not in (keys := self.keys()):
            raise VKDError(f"'{value}' is not one of {', '.join(keys)}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


def _datasets() -> Iterable[str]:
    from vkd.data.datasets import DATASETS

    return DATASETS


def _frames() -> Iterable[str]:
    from vkd.data.sampling import FRAMES

    return FRAMES


def _views() -> Iterable[str]:
    from vkd.data.sampling import VIEWS

    return VIEWS


def _protocols() -> Iterable[str]:
    from vkd.data.tracklets import PROTOCOLS

    return PROTOCOLS


def _backbones() -> Iterable[str]:
    from vkd.models.backbones import BACKBONES

    return BACKBONES


def _ask(default: Any, group: str, sentence: str, *, resumable: bool = False, **bounds: Any) -> Any:
    """A field. `resumable`: may differ when a run is taken up again (everything else must stay as it was)."""
    extra = {"group": group, "resumable": resumable}
    return pydantic.Field(default, description=sentence, json_schema_extra=extra, **bounds)


class Settings(pydantic.BaseModel):
    """What both stages share. Pixels are (height, width); weights of losses multiply them before the sum."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    stage: ClassVar[str] = ""

    preset: str = _ask("", "data", "The row of the table of presets that these settings began with, if any.")
    dataset: Annotated[str, Choice(_datasets)] = _ask(
        "street", "data", "Data set, which names the layout on disk and the evaluation conventions."
    )
    root: Path = _ask(Path("data/street"), "data", "Folder of the data set.", resumable=True)
    image_size: tuple[int, int] = _ask(
        (256, 128), "data", "Height and width, in pixels, that each picture is resized to."
    )
    cameras: Literal["auto", "none"] = _ask(
        "auto", "data", "Use the camera labels of a plain folder, or none: then nothing is junk."
    )
    pad: int = _ask(
        10, "data", "Pixels of padding around a picture before a random crop of its own size.", ge=0, le=256
    )
    erase: float = _ask(0.5, "data", "Probability of erasing a random rectangle of a picture.", ge=0, le=1)

    freeze_batch_norm: bool = _ask(
        False,
        "network",
        "Normalise by the statistics that the networks start with, in trunk and neck, teacher too.",
    )

    frames: Annotated[str, Choice(_frames)] = _ask(
        "random_chunk", "views", "How frames are chosen from a tracklet when views come from one tracklet."
    )
    views_from: Annotated[str, Choice(_views)] = _ask(
        "tracklet",
        "views",
        "Where the views of a sample come from: one tracklet, several, or cameras in turn.",
    )
    views: int = _ask(8, "views", "Views in a sample: N, what the teacher sees.", ge=1, le=64)
    test_views: int = _ask(8, "views", "Frames that represent a tracklet in evaluation.", ge=1, le=64)

    identities_per_batch: int = _ask(
        8, "schedule", "P: identities in a batch; an epoch is one pass.", ge=2, le=1024
    )
    samples_per_identity: int = _ask(4, "schedule", "K: samples of each identity in a batch.", ge=2, le=64)
    epochs: int = _ask(
        300, "schedule", "Passes over the training identities.", ge=1, le=100_000, resumable=True
    )
    learning_rate: float = _ask(1e-4, "schedule", "Learning rate of Adam at the start.", gt=0, le=1)
    weight_decay: float = _ask(1e-5, "schedule", "Weight decay of Adam, added to the gradient.", ge=0, le=1)
    milestones: tuple[int, ...] = _ask(
        (), "schedule", "Epochs at which the learning rate is multiplied by gamma, ascending."
    )
    gamma: float = _ask(0.1, "schedule", "Factor of the learning rate at each milestone.", gt=0, le=1)
    accumulate: int = _ask(
        1,
        "schedule",
        "P×K groups whose gradients are averaged for one step; mining stays within a group.",
        ge=1,
        le=256,
    )
    evaluate_every: int = _ask(
        10,
        "schedule",
        "Epochs between evaluations on the test split (0: only the last epoch).",
        ge=0,
        resumable=True,
    )
    save_every: int = _ask(
        1, "schedule", "Epochs between saves of everything needed to go on.", ge=1, le=1000, resumable=True
    )
    protocols: tuple[Annotated[str, Choice(_protocols)], ...] = _ask(
        ("i2v", "v2v"),
        "schedule",
        "Protocols to evaluate; the mAP of the first decides which weights are the best.",
        min_length=1,
    )
    seed: int = _ask(
        0, "schedule", "Seed of the new weights, the batches and the augmentation.", ge=0, lt=2**31
    )

    class_weight: float = _ask(1.0, "losses", "Weight of the cross-entropy.", ge=0)
    triplet_weight: float = _ask(1.0, "losses", "Weight of the batch-hard triplet loss.", ge=0)
    margin: float | None = _ask(None, "losses", "Margin of the triplet loss; none: the soft margin.", ge=0)

    device: Literal["auto", "cpu", "cuda"] = _ask("auto", "machine", "Where to compute.", resumable=True)
    precision: Literal["fp32", "bf16", "fp16"] = _ask(
        "fp32", "machine", "Arithmetic of the trunk; fp16 scales its losses and needs a GPU."
    )
    channels_last: bool = _ask(
        False, "machine", "Keep pictures and maps channels-last, faster on recent GPUs."
    )
    compile: bool = _ask(
        False, "machine", "Compile the network with torch.compile before training.", resumable=True
    )
    workers: int = _ask(
        2,
        "machine",
        "Processes that read pictures, per trainer (0: the trainer itself).",
        ge=0,
        le=64,
        resumable=True,
    )
    tensorboard: bool = _ask(False, "machine", "Write every number for TensorBoard too.", resumable=True)

    @pydantic.field_validator("image_size")
    @classmethod
    def _picture(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(16 <= side <= 2048 for side in size):
            raise VKDError(f"A picture of {size[0]} × {size[1]} pixels: each side must be from 16 to 2048")
        return size

    @pydantic.field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        if list(milestones) != sorted(set(milestones)) or any(epoch < 1 for epoch in milestones):
            raise VKDError(f"Milestones {milestones} must be ascending epochs from 1")
        return milestones

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each named loss in the sum."""
        return {"class": self.class_weight, "triplet": self.triplet_weight}

    @property
    def samples(self) -> int:
        """P · K: samples in a group."""
        return self.identities_per_batch * self.samples_per_identity

    @property
    def reader_options(self) -> dict[str, Any]:
        """What the data set's reader is told beyond the folder."""
        return {} if self.cameras == "auto" else {"cameras": self.cameras}

    def read_dataset(self) -> "Splits":
        """Reads the dataset. Raises VKDError where it is missing or damaged."""
        from vkd.data import datasets

        return datasets.read_dataset(self.dataset, self.root, **self.reader_options)

    def changed(self, **values: Any) -> Self:
        """A copy with some values replaced; raises pydantic's ValidationError, a ValueError."""
        return type(self).model_validate({**self.model_dump(), **values})


class TeacherSettings(Settings):
    """Stage 1: a network learns from the views of one tracklet (cross-entropy + triplet)."""

    stage: ClassVar[str] = "teacher"

    backbone: Annotated[str, Choice(_backbones)] = _ask("resnet50", "network", "Trunk of the network.")
    pretrained: bool = _ask(True, "network", "Start from ImageNet weights where they can be had.")


class StudentSettings(Settings):
    """Stage 2: a student that sees M of the N views learns from a frozen teacher that sees all of them."""

    stage: ClassVar[str] = "student"

    teacher: Path | None = _ask(None, "network", "Checkpoint folder of the teacher.")
    start: Path | None = _ask(
        None,
        "network",
        "Checkpoint folder of another network that the student starts from (cross-distillation); "
        "none: the teacher itself (self-distillation).",
    )
    pretrained: bool = _ask(True, "network", "Set the student's last stage back to ImageNet weights.")
    generation: int = _ask(
        0,
        "schedule",
        "Generation g of the student: the learning rate starts at a tenth for each, 1e-5 at least.",
        ge=0,
    )
    views_from: Annotated[str, Choice(_views)] = _ask(
        "multiview",
        "views",
        "Where the views of a sample come from: one tracklet, several, or cameras in turn.",
    )
    student_views: int = _ask(
        2, "views", "M: views that the student sees, chosen anew for each sample.", ge=1, le=64
    )
    identities_per_batch: int = _ask(
        12, "schedule", "P: identities in a batch; an epoch is one pass.", ge=2, le=1024
    )
    epochs: int = _ask(
        500, "schedule", "Passes over the training identities.", ge=1, le=100_000, resumable=True
    )

    kd_weight: float = _ask(0.1, "losses", "Weight of the distillation of logits.", ge=0)
    dp_weight: float = _ask(1e-4, "losses", "Weight of the preservation of distances.", ge=0)
    logits: Literal["kd", "mse"] = _ask(
        "kd",
        "losses",
        "Distil logits by the divergence of softened classes (kd) or by squared differences (mse).",
    )
    temperature: float = _ask(10.0, "losses", "Temperature that softens the classes in kd.", gt=0, le=1000)

    @pydantic.model_validator(mode="after")
    def _fewer(self) -> Self:
        if self.student_views > self.views:
            raise VKDError(f"The student cannot see {self.student_views} of {self.views} views")
        return self

    @property
    def weights(self) -> dict[str, float]:
        return {**super().weights, self.logits: self.kd_weight, "dp": self.dp_weight}


STAGES: dict[str, type[Settings]] = {"teacher": TeacherSettings, "student": StudentSettings}


def learning_rate(epoch: int, base: float, milestones: tuple[int, ...], gamma: float = 0.1) -> float:
    """Rate of an epoch (from 0): `base` times gamma for each milestone reached."""
    return base * gamma ** sum(epoch >= milestone for milestone in milestones)


def generation_rate(generation: int, base: float = 1e-4) -> float:
    """Rate that generation g (from 0) starts with: max(base · 0.1^g, 1e-5), never above `base`."""
    return min(base, max(base * 0.1**generation, 1e-5))


def sentences(error: pydantic.ValidationError, names: Mapping[str, str] | None = None) -> str:
    """What pydantic found wrong, as one line: field (by its name in `names`), what, what was given."""
    lines = []
    for item in error.errors():
        field = "".join(str(part) for part in item["loc"][:1])
        context = item.get("ctx", {})
        what = {
            "too_short": f"give at least {context.get('min_length')}",
            "too_long": f"give at most {context.get('max_length')}",
        }.get(item["type"], item["msg"].removeprefix("Value error, "))
        what = what[:1].lower() + what[1:] if field else what
        if item["type"] not in ("value_error", "too_short", "too_long", "extra_forbidden"):
            what += f", not {item['input']!r}"
        lines.append(f"{(names or {}).get(field, field)}: {what}" if field else what)
    return "; ".join(lines)


def conflicts(old: Settings, new: Settings) -> list[str]:
    """Fields that differ and may not, when a run that began with `old` is asked to go on with `new`."""
    if old.stage != new.stage:
        return ["stage"]
    return [
        name
        for name, info in type(old).model_fields.items()
        if getattr(old, name) != getattr(new, name)
        and not (isinstance(info.json_schema_extra, dict) and info.json_schema_extra["resumable"])
    ]


def save(settings: Settings, path: Path) -> Path:
    """Write settings.json: every field and the stage."""
    values = {"stage": settings.stage, **settings.model_dump(mode="json")}
    return write_text(path, json.dumps(values, indent=2) + "\n")


def load(path: Path) -> Settings:
    """Read settings.json; raises FileNotFoundError or ValueError with a sentence that names the file."""
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: the folder is not a training run.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind = STAGES[values.pop("stage")]
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        raise VKDError(f"{path}: {sentences(error)}") from error
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise VKDError(
            f"{path} is not a file of settings ({error}): repair it or choose another folder."
        ) from error
