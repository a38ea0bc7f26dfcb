"""Command-line flags made from pydantic models: a flag for each field, with its help, bounds and choices."""

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin

import annotated_types
import pydantic
import tyro
from pydantic.fields import FieldInfo

from vkd.training.settings import Choice, sentences

Model = TypeVar("Model", bound=pydantic.BaseModel)


def refuse(prog: str, sentence: str) -> NoReturn:
    """Say what is wrong with the arguments and leave with exit code 2."""
    print(f"{prog}: {sentence}\nSee {prog} --help.", file=sys.stderr)
    raise SystemExit(2)


def parse(
    prog: str,
    about: str,
    argv: Sequence[str],
    models: Sequence[type[Model]],
    defaults: Mapping[str, Any] | None = None,
) -> list[Model]:
    """Read flags for the fields of all models together; → one checked instance of each.

    `defaults` replaces the models' own. Leaves with exit code 2 and a sentence if an argument is wrong,
    with 0 after --help.
    """
    if any(re.search(r"(^|=)hf_[A-Za-z0-9]{16,}$", word) for word in argv):
        refuse(
            prog,
            "a token is no argument, for everybody on this machine can read those: log in with "
            "`hf auth login`, or set HF_TOKEN",
        )
    fields = {name: info for model in models for name, info in model.model_fields.items()}
    shapes = []
    for name, info in sorted(fields.items(), key=lambda item: not item[1].is_required()):
        extra = _extra(info)
        shown = name.upper() if extra.get("positional") else None
        named = tyro.conf.arg(help=_help(info), name=extra.get("name") or None, metavar=shown)
        kind = Annotated[_kind(info.annotation, info.metadata), named]
        if extra.get("positional"):
            kind = tyro.conf.Positional[kind]
        if info.is_required() and name not in (defaults or {}):
            shapes.append((name, kind))
        else:
            value = (defaults or {}).get(name, info.default)
            shapes.append((name, kind, dataclasses.field(default=value)))
    flags = dataclasses.make_dataclass("Flags", shapes)
    given = tyro.cli(flags, prog=prog, description=about, args=list(argv))
    try:
        return [model(**{name: getattr(given, name) for name in model.model_fields}) for model in models]
    except pydantic.ValidationError as error:
        refuse(prog, sentences(error, {name: _shown(name, info) for name, info in fields.items()}))


def _extra(info: FieldInfo) -> dict[str, Any]:
    return dict(info.json_schema_extra) if isinstance(info.json_schema_extra, dict) else {}


def _shown(name: str, info: FieldInfo) -> str:
    """A field as a person types it."""
    extra = _extra(info)
    return name if extra.get("positional") else "--" + (extra.get("name") or name).replace("_", "-")


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> Any:
    """The annotation with every `Choice` written out as the keys of its table."""
    for extra in metadata:
        if isinstance(extra, Choice):
            return Literal[tuple(extra.keys())]  # pyright: ignore[reportInvalidTypeForm]
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        return _kind(inner, extras)
    if get_origin(annotation) is tuple:
        return tuple[tuple(_kind(part) if part is not ... else part for part in get_args(annotation))]
    return annotation


def _help(info: FieldInfo) -> str:
    """The field's sentence and its bounds."""
    words = {
        annotated_types.Ge: "from",
        annotated_types.Gt: "above",
        annotated_types.Le: "to",
        annotated_types.Lt: "below",
    }
    bounds = [
        f"{word} {next(iter(dataclasses.asdict(extra).values()))}"
        for kind, word in words.items()
        for extra in info.metadata
        if isinstance(extra, kind)
    ]
    sentence = (info.description or "").rstrip(".")
    return f"{sentence} ({' '.join(bounds)})." if bounds else f"{sentence}."


def flag(default: Any, sentence: str, *, name: str | None = None, **bounds: Any) -> Any:
    """A field of a verb's flags: default, help, bounds. `name`: the flag's, if not the field's."""
    return pydantic.Field(default, description=sentence, json_schema_extra={"name": name}, **bounds)


def argument(sentence: str, default: Any = ..., **bounds: Any) -> Any:
    """A field that is given by its place, without a flag."""
    return pydantic.Field(default, description=sentence, json_schema_extra={"positional": True}, **bounds)


def bar(what: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """A progress bar for the library's long loops, on a terminal only."""
    from tqdm import tqdm

    return partial(tqdm, desc=what, leave=False, disable=not sys.stderr.isatty(), dynamic_ncols=True)
