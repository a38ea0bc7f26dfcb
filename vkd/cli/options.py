"""Command-line flags from pydantic models: one per field, with help, bounds and choices."""

import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin

import annotated_types
import pydantic
import tyro
from pydantic.fields import FieldInfo

from vkd.io.errors import VKDError
from vkd.io.progress import Progress, silent
from vkd.training.fields import Choice, sentences

if TYPE_CHECKING:
    from vkd.data.tracklets import Splits
    from vkd.models.checkpoint import Checkpoint

Model = TypeVar("Model", bound=pydantic.BaseModel)

_BOUNDS = {
    annotated_types.Ge: "from",
    annotated_types.Gt: "above",
    annotated_types.Le: "to",
    annotated_types.Lt: "below",
}


def flag(default: Any, sentence: str, *, name: str | None = None, **bounds: Any) -> Any:
    """Defines a flag: default, help, bounds. `name`: the flag's, if not the field's."""
    return pydantic.Field(default, description=sentence, json_schema_extra={"name": name}, **bounds)


def argument(sentence: str, default: Any = ..., **bounds: Any) -> Any:
    """Defines a positional argument."""
    return pydantic.Field(default, description=sentence, json_schema_extra={"positional": True}, **bounds)


def _datasets() -> Iterable[str]:
    from vkd.data.datasets import DATASETS

    return DATASETS


def _frames() -> Iterable[str]:
    from vkd.data.sampling import FRAMES

    return FRAMES


Frames = Annotated[str, Choice(_frames)]


class ModelOptions(pydantic.BaseModel):
    """Which weights of a checkpoint, and where they compute."""

    weights: Literal["auto", "model", "best"] = flag(
        "auto", "Weights of a checkpoint: last epoch (model), best, or auto: best where there are some."
    )
    device: Literal["auto", "cpu", "cuda"] = flag("auto", "Device to compute on; auto: CUDA if available.")

    def load(self, folders: Sequence[Path]) -> "dict[str, Checkpoint]":
        """Loads checkpoints; returns name → checkpoint. Raises VKDError for two folders of one name."""
        from vkd.models import checkpoint
        from vkd.models.inference import resolve_device

        device = resolve_device(self.device)
        loaded = [checkpoint.load(folder, weights=self.weights, device=device) for folder in folders]
        named = {each.name: each for each in loaded}
        if len(named) < len(loaded):
            raise VKDError("The checkpoint folders need different names, which name the models.")
        return named


class DatasetOptions(pydantic.BaseModel):
    """Which dataset."""

    root: Path | None = flag(None, "Folder of the dataset; none: data/ and the dataset of the checkpoint.")
    dataset: Annotated[str, Choice(_datasets, ("auto",))] = flag("auto", "Dataset; auto detects its layout.")
    cameras: Literal["auto", "none"] = flag(
        "auto", "Use the camera labels of an image folder, or none: then nothing is junk."
    )

    def read(self, trained_on: str = "") -> "Splits":
        """Reads the dataset; without --root the one that a model was trained on, in the folder data/."""
        from vkd.data import datasets

        root, name = self.root, trained_on if self.dataset == "auto" else self.dataset
        if root is None and not name:
            raise VKDError("The checkpoint does not name its dataset: give --root.")
        options: dict[str, Any] = {} if self.cameras == "auto" else {"cameras": self.cameras}
        splits = datasets.read_dataset(self.dataset, root or Path("data") / name, **options)
        print(*splits.notes, sep="\n", end="\n" if splits.notes else "", file=sys.stderr)
        return splits


def refuse(prog: str, sentence: str) -> NoReturn:
    """Prints what is wrong with the arguments and exits with code 2."""
    print(f"{prog}: {sentence}\nSee {prog} --help.", file=sys.stderr)
    raise SystemExit(2)


def parse(
    prog: str,
    about: str,
    argv: Sequence[str],
    models: Sequence[type[Model]],
    defaults: Mapping[str, Any] | None = None,
) -> list[Model]:
    """Parses the flags of all fields of all models; returns one validated instance of each model.

    `defaults` replaces the models' own. Exits with code 2 and a sentence if an argument is invalid, with 0
    after --help.
    """
    if any(re.fullmatch(r"hf_[A-Za-z0-9]{16,}", word.rpartition("=")[2]) for word in argv):
        # Every user of this machine can read the arguments of a process.
        refuse(prog, "tokens are not accepted as arguments: log in with `hf auth login`, or set HF_TOKEN")
    fields = {name: info for model in models for name, info in model.model_fields.items()}
    values = {name: info.default for name, info in fields.items() if not info.is_required()}
    values |= {name: value for name, value in (defaults or {}).items() if name in fields}
    shapes: list[Any] = [(name, _kind_of(name, fields[name])) for name in fields if name not in values]
    shapes += [
        (name, _kind_of(name, fields[name]), dataclasses.field(default=values[name]))
        for name in fields
        if name in values
    ]
    flags = dataclasses.make_dataclass("Flags", shapes)
    given = tyro.cli(flags, prog=prog, description=about, args=list(argv))
    try:
        return [model(**{name: getattr(given, name) for name in model.model_fields}) for model in models]
    except pydantic.ValidationError as error:
        refuse(prog, sentences(error, {name: _typed(name, info) for name, info in fields.items()}))


def _extra(info: FieldInfo) -> dict[str, Any]:
    return dict(info.json_schema_extra) if isinstance(info.json_schema_extra, dict) else {}


def _typed(name: str, info: FieldInfo) -> str:
    """Returns the flag of a field as it is typed."""
    extra = _extra(info)
    return (
        name
        if extra.get("positional")
        else "--" + (extra.get("name") or info.alias or name).replace("_", "-")
    )


def _kind_of(name: str, info: FieldInfo) -> Any:
    """Builds the annotation of a field for tyro: choices, help with bounds, name, positional or not."""
    positional = bool(_extra(info).get("positional"))
    arg = tyro.conf.arg(
        help=_help(info),
        name=_extra(info).get("name") or info.alias,
        metavar=name.upper() if positional else None,
    )
    kind = Annotated[_literal(info.annotation, info.metadata), arg]
    return tyro.conf.Positional[kind] if positional else kind


def _literal(annotation: Any, metadata: Sequence[Any] = ()) -> Any:
    """Replaces every `Choice` by a Literal of the keys of its table."""
    for extra in metadata:
        if isinstance(extra, Choice):
            return Literal[tuple(extra.keys())]  # pyright: ignore[reportInvalidTypeForm]
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        return _literal(inner, extras)
    if get_origin(annotation) is tuple:
        return tuple[tuple(_literal(part) if part is not ... else part for part in get_args(annotation))]
    return annotation


def _help(info: FieldInfo) -> str:
    """Returns the description of a field with its bounds."""
    bounds = [
        f"{_BOUNDS[type(extra)]} {next(iter(dataclasses.asdict(extra).values()))}"
        for extra in sorted(info.metadata, key=lambda extra: type(extra).__name__)
        if type(extra) in _BOUNDS
    ]
    sentence = (info.description or "").rstrip(".")
    return f"{sentence} ({' '.join(bounds)})." if bounds else f"{sentence}."


def progress_bar(unit: str = "it") -> Progress:
    """Returns a progress callback that draws a bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        return silent
    from tqdm import tqdm

    bar = tqdm(leave=False, dynamic_ncols=True, unit=unit, unit_scale=unit == "B")

    def show(done: int, total: int, what: str) -> None:
        bar.total = total or None
        bar.set_description(what, refresh=False)
        bar.update(done - bar.n)
        if done == total:
            bar.clear()

    return show
