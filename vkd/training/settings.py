"""Settings of a training run: one field each for flag, form, settings.json and model card. No torch.

A field has its default, bounds, title and one sentence of help. A choice is a key of the library's own table
(`Choice`), so a new row of that table is offered everywhere. Presets are in `vkd.training.presets`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic.fields import FieldInfo

from vkd.data.datasets import DATASETS
from vkd.data.sampling import FRAMES, VIEWS
from vkd.data.tracklets import PROTOCOLS
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import write_text
from vkd.models.backbones import BACKBONES
from vkd.training.fields import Choice, sentences, setting
from vkd.training.objectives import LOSSES, Loss, loss_weights, weight_field

if TYPE_CHECKING:
    from vkd.data.tracklets import Splits


def _weight(name: str) -> Any:
    """Builds the setting of a loss's weight."""
    loss = LOSSES[name]
    title = loss.title.partition(" (")[0]
    return setting(loss.weight, "losses", f"{title} weight", loss.help, ge=0)


PRESET_VALUES: dict[str, dict[str, dict[str, Any]]] = {"teacher": {}, "student": {}}
"""Stage → preset → values that differ from the defaults; `vkd.training.presets` fills it."""

_P = ("schedule", "Identities per batch (P)", "Identities in a batch; an epoch is one pass over all of them.")
_EPOCHS = ("schedule", "Epochs", "Passes over the training identities.")
_VIEW_SAMPLING = (
    "views",
    "View sampling",
    "Where the views of a sample come from: one tracklet, several tracklets, or cameras in turn.",
)


class Settings(pydantic.BaseModel):
    """Settings that both stages share. Sizes are (height, width) in pixels."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )
    stage: ClassVar[str] = ""

    # Files and flags call it "preset"; in Python that is the classmethod below.
    preset_name: str = setting(
        "", "data", "Preset", "Preset that these settings started from, if any.", alias="preset"
    )
    dataset: Annotated[str, Choice(DATASETS)] = setting(
        "street", "data", "Dataset", "Dataset: its layout on disk and its evaluation conventions."
    )
    root: Path = setting(Path("data/street"), "data", "Dataset folder", "Dataset folder.", resumable=True)
    image_size: tuple[int, int] = setting(
        (256, 128), "data", "Image size (height, width)", "Height and width of the input images, in pixels."
    )
    cameras: Literal["auto", "none"] = setting(
        "auto", "data", "Cameras", "Camera labels of an image folder; with none, nothing is junk."
    )
    pad: int = setting(
        10, "data", "Crop padding (px)", "Padding before a random crop of the image's own size.", ge=0, le=256
    )
    erase: float = setting(0.5, "data", "Random erasing p", "Probability of random erasing.", ge=0, le=1)

    freeze_batch_norm: bool = setting(
        False,
        "network",
        "Freeze BatchNorm statistics",
        "Keep the initial BatchNorm statistics, in backbone and BNNeck, of teacher and student.",
    )

    frames: Annotated[str, Choice(FRAMES)] = setting(
        "random_chunk", "views", "Frame sampling", "How frames are drawn from a tracklet."
    )
    views_from: Annotated[str, Choice(VIEWS)] = setting("tracklet", *_VIEW_SAMPLING)
    views: int = setting(
        8, "views", "Views N", "Views N of a sample, all of them for the teacher.", ge=1, le=64
    )
    test_views: int = setting(
        8, "views", "Frames at test time", "Frames that represent a tracklet in evaluation.", ge=1, le=64
    )

    identities_per_batch: int = setting(8, *_P, ge=2, le=1024)
    samples_per_identity: int = setting(
        4, "schedule", "Instances per identity (K)", "Samples of each identity in a batch.", ge=2, le=64
    )
    epochs: int = setting(300, *_EPOCHS, ge=1, le=100_000, resumable=True)
    learning_rate: float = setting(
        1e-4, "schedule", "Learning rate", "Initial learning rate of Adam.", gt=0, le=1
    )
    weight_decay: float = setting(
        1e-5, "schedule", "Weight decay", "Weight decay of Adam, added to the gradient.", ge=0, le=1
    )
    milestones: tuple[int, ...] = setting(
        (), "schedule", "LR milestones", "Epochs at which the learning rate decays."
    )
    gamma: float = setting(
        0.1, "schedule", "LR decay factor", "Factor of the learning rate at each milestone.", gt=0, le=1
    )
    accumulate: int = setting(
        1,
        "schedule",
        "Gradient accumulation steps",
        "P×K batches whose gradients are averaged for one step; triplets are mined within a batch.",
        ge=1,
        le=256,
    )
    evaluate_every: int = setting(
        10,
        "schedule",
        "Eval interval (epochs)",
        "Epochs between evaluations on the test split (0: only after the last epoch).",
        ge=0,
        resumable=True,
    )
    save_every: int = setting(
        1,
        "schedule",
        "Checkpoint interval (epochs)",
        "Epochs between checkpoints that training can resume from.",
        ge=1,
        le=1000,
        resumable=True,
    )
    protocols: tuple[Annotated[str, Choice(PROTOCOLS)], ...] = setting(
        ("i2v", "v2v"),
        "schedule",
        "Protocols",
        "Protocols to evaluate; the mAP of the first decides which weights are the best.",
        min_length=1,
    )
    seed: int = setting(
        0, "schedule", "Seed", "Seed of initial weights, batches and augmentation.", ge=0, lt=2**31
    )

    class_weight: float = _weight("class")
    triplet_weight: float = _weight("triplet")
    margin: float | None = setting(
        None, "losses", "Triplet margin", "Margin of the triplet loss (empty: soft margin).", ge=0
    )

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "machine", "Device", "Device; auto is CUDA if there is any, else the CPU.", resumable=True
    )
    precision: Literal["fp32", "bf16", "fp16"] = setting(
        "fp32", "machine", "Precision (autocast)", "Precision of the backbone; fp16 needs a CUDA device."
    )
    channels_last: bool = setting(
        False, "machine", "Channels last", "Channels-last memory format, faster on recent GPUs."
    )
    compile: bool = setting(
        False,
        "machine",
        "torch.compile",
        "Compile the model with torch.compile before training.",
        resumable=True,
    )
    workers: int = setting(
        2,
        "machine",
        "DataLoader workers per process",
        "Worker processes that load images, per trainer process (0: none).",
        ge=0,
        le=64,
        resumable=True,
    )
    tensorboard: bool = setting(
        False, "machine", "TensorBoard", "Also write every number for TensorBoard.", resumable=True
    )

    @pydantic.field_validator("image_size")
    @classmethod
    def _sides(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(16 <= side <= 2048 for side in size):
            raise VKDError(f"{size[0]} × {size[1]} pixels: each side must be from 16 to 2048")
        return size

    @pydantic.field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        if list(milestones) != sorted(set(milestones)) or any(epoch < 1 for epoch in milestones):
            raise VKDError(f"Milestones {milestones} must be ascending epochs from 1")
        return milestones

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each loss in the sum, by name."""
        return loss_weights(self)

    @property
    def samples(self) -> int:
        """P · K: samples in a batch of all processes."""
        return self.identities_per_batch * self.samples_per_identity

    @property
    def reader_options(self) -> dict[str, Any]:
        """Options of the dataset's reader."""
        return {} if self.cameras == "auto" else {"cameras": self.cameras}

    def read_dataset(self) -> "Splits":
        """Reads the dataset. Raises VKDError where it is missing or damaged."""
        from vkd.data import datasets

        return datasets.read_dataset(self.dataset, self.root, **self.reader_options)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Returns the settings of a preset of this stage, some of them changed. Raises VKDError."""
        if name not in (presets := PRESET_VALUES[cls.stage]):
            raise VKDError(f"'{name}' is not a preset of a {cls.stage}; choose one of {', '.join(presets)}.")
        return cls.model_validate({**presets[name], "preset": name, **changes})

    def changed(self, **values: Any) -> Self:
        """Returns a copy with some values replaced. Raises pydantic's ValidationError, a ValueError."""
        return type(self).model_validate({**self.model_dump(), **values})


class TeacherSettings(Settings):
    """Stage 1: trains a network on the views of one tracklet (cross-entropy and triplet loss)."""

    stage: ClassVar[str] = "teacher"

    backbone: Annotated[str, Choice(BACKBONES)] = setting("resnet50", "network", "Backbone", "Backbone.")
    pretrained: bool = setting(
        True, "network", "ImageNet weights", "Start from ImageNet weights where they are available."
    )


class StudentSettings(Settings):
    """Stage 2: trains a student on M of the N views with a frozen teacher on all of them."""

    stage: ClassVar[str] = "student"

    teacher: Path | None = setting(None, "network", "Teacher", "Checkpoint folder of the teacher.")
    start: Path | None = setting(
        None,
        "network",
        "Initialise from",
        "Checkpoint folder of the student's initial weights (empty: the teacher's, self-distillation).",
    )
    pretrained: bool = setting(
        True, "network", "Reset last stage to ImageNet", "Reset the student's last stage to ImageNet weights."
    )
    generation: int = setting(
        0,
        "schedule",
        "Born-again generation",
        "Generation of the student: each starts at a tenth of the learning rate, but not below 1e-5.",
        ge=0,
    )
    views_from: Annotated[str, Choice(VIEWS)] = setting("multiview", *_VIEW_SAMPLING)
    student_views: int = setting(
        2, "views", "Student views M", "Views for the student, drawn anew for each sample.", ge=1, le=64
    )
    identities_per_batch: int = setting(12, *_P, ge=2, le=1024)
    epochs: int = setting(500, *_EPOCHS, ge=1, le=100_000, resumable=True)

    kd_weight: float = _weight("kd")
    dp_weight: float = _weight("dp")
    logits: Literal["kd", "mse"] = setting(
        "kd", "losses", "KD loss (KL, MSE)", "KL divergence of softened probabilities (kd), or MSE of logits."
    )
    temperature: float = setting(
        10.0, "losses", "KD temperature", "Temperature of the softened class probabilities.", gt=0, le=1000
    )

    @pydantic.model_validator(mode="after")
    def _fewer(self) -> Self:
        if self.student_views > self.views:
            raise VKDError(f"The student cannot have {self.student_views} of {self.views} views")
        return self


STAGES: dict[str, type[Settings]] = {"teacher": TeacherSettings, "student": StudentSettings}


def add_setting(name: str, kind: Any, info: Any, stages: Iterable[str] = tuple(STAGES)) -> None:
    """Adds a field from outside: flag, form, settings.json and card follow, as for the fields above.

    `kind` is its type, such as `float` or `Annotated[str, Choice(TABLE)]`, `info` what `fields.setting`
    returns. A stage that has such a field keeps its own.
    """
    for model in (STAGES[stage] for stage in stages):
        if name not in model.model_fields:
            model.__annotations__[name] = kind
            model.model_fields[name] = FieldInfo.from_annotated_attribute(kind, info)
            model.model_rebuild(force=True)


def register_loss(name: str, loss: Loss) -> None:
    """Adds a row to LOSSES and its weight to the settings of its stages."""
    LOSSES[name] = loss
    add_setting(weight_field(name), float, _weight(name), loss.stages)


for _name, _loss in LOSSES.items():  # rows of the table that have no typed field above
    register_loss(_name, _loss)


def save(settings: Settings, path: Path) -> Path:
    """Writes settings.json: every field and the stage."""
    values = {"stage": settings.stage, **settings.model_dump(mode="json")}
    return write_text(path, json.dumps(values, indent=2) + "\n")


def load(path: Path) -> Settings:
    """Reads settings.json. Raises MissingFileError or VKDError."""
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
