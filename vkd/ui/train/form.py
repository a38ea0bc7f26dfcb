"""A form from the settings models: one input for each field, with its help or its error.

The form holds the fields of both stages and hides those that the chosen stage lacks. Values of the form are
plain (text, numbers, flags, lists of text), so that programs may send them too. Nothing here names a field:
a new field of the models appears by itself.
"""

import json
import re
import shlex
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import annotated_types
import gradio as gr
import pydantic
from gradio.components import Component
from pydantic.fields import FieldInfo

from vkd.io.errors import VKDError
from vkd.training.fields import GROUPS, Choice
from vkd.training.presets import PRESETS
from vkd.training.settings import STAGES, Settings
from vkd.ui import limits

HIDDEN = ("preset_name",)  # chosen above the form
_LOW, _HIGH = (annotated_types.Ge, annotated_types.Gt), (annotated_types.Le, annotated_types.Lt)

Plain = str | int | float | bool | list[str] | None
Kind = Literal["flag", "choice", "several", "number", "numbers", "folder", "text"]


class Field(NamedTuple):
    """One input. `info` has the model field of each stage: defaults and help may differ between stages."""

    name: str
    group: str
    kind: Kind
    choices: tuple[str, ...]
    info: dict[str, FieldInfo]

    @property
    def label(self) -> str:
        return self.of("").title or self.name.replace("_", " ").capitalize()

    def of(self, stage: str) -> FieldInfo:
        return self.info.get(stage) or next(iter(self.info.values()))

    def help(self, stage: str) -> str:
        """Returns the field's description and its bounds."""
        return " ".join(filter(None, [self.of(stage).description or "", _bounds(self.of(stage))]))

    def default(self, stage: str) -> Plain:
        return _plain(self.of(stage).default)

    @property
    def css(self) -> list[str]:
        return ["vkd-field", f"vkd-{self.kind}"]


def fields() -> list[Field]:
    """Returns every field of both stages by group, in a group of models a stage's own fields first."""
    infos: dict[str, dict[str, FieldInfo]] = {}
    for stage, model in STAGES.items():
        for name, info in model.model_fields.items():
            if name not in HIDDEN:
                infos.setdefault(name, {})[stage] = info
    shared = {name for name, each in infos.items() if len(each) == len(STAGES)}
    return sorted(
        (_field(name, each) for name, each in infos.items()),
        key=lambda field: (GROUPS.index(field.group), field.group == "network" and field.name in shared),
    )


def _field(name: str, infos: dict[str, FieldInfo]) -> Field:
    info = next(iter(infos.values()))
    extra = info.json_schema_extra
    group = str(extra["group"]) if isinstance(extra, dict) else GROUPS[-1]
    kind, choices = _kind(info)
    return Field(name, group, kind, tuple(choices), infos)


def _kind(info: FieldInfo) -> tuple[Kind, Sequence[str]]:
    """Returns the kind of input for a field's type, and its choices."""
    kind = info.annotation
    for mark in info.metadata:
        if isinstance(mark, Choice):
            return "choice", mark.keys()
    inside = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return "choice", [str(value) for value in inside]
    if typing.get_origin(kind) is tuple:
        marks = getattr(inside[0], "__metadata__", ())
        several = next((mark.keys() for mark in marks if isinstance(mark, Choice)), None)
        return ("numbers", ()) if several is None else ("several", several)
    if kind is bool:
        return "flag", ()
    if kind in (int, float) or set(inside) & {int, float}:
        return "number", ()
    return ("folder", ()) if kind is Path or Path in inside else ("text", ())


def _bounds(info: FieldInfo) -> str:
    """Returns '(1 to 64)', '(above 0, at most 1)' or ''."""
    low = next((mark for mark in info.metadata if isinstance(mark, _LOW)), None)
    high = next((mark for mark in info.metadata if isinstance(mark, _HIGH)), None)
    least, most = getattr(low, "ge", None), getattr(high, "le", None)
    if least is not None and most is not None:
        return f"({least:g} to {most:g})" if most < 1e5 else f"({least:g} or more)"
    words = []
    if low is not None:
        words.append(f"{least:g} or more" if least is not None else f"above {getattr(low, 'gt', 0):g}")
    if most is not None:
        words.append(f"at most {most:g}")
    return f"({', '.join(words)})" if words else ""


# ---- values


def _plain(value: Any) -> Plain:
    if isinstance(value, tuple):
        return list(value) if value and isinstance(value[0], str) else ", ".join(str(item) for item in value)
    return str(value) if isinstance(value, Path) else value


def values(settings: Settings) -> dict[str, Plain]:
    """Returns the form's values for settings; a field that their stage lacks keeps its default."""
    return {
        field.name: _plain(getattr(settings, field.name))
        if settings.stage in field.info
        else field.default("")
        for field in fields()
    }


def read(stage: str, plain: dict[str, Any], preset: str = "") -> tuple[Settings | None, dict[str, str]]:
    """Returns settings from the form's values, or None and a message by field ('': of several together)."""
    if stage not in STAGES:
        return None, {"": f"'{stage}' is not a stage: choose {' or '.join(STAGES)}."}
    raw: dict[str, Any] = {"preset": preset if preset in PRESETS and PRESETS[preset].stage == stage else ""}
    errors: dict[str, str] = {}
    for field in fields():
        if stage not in field.info or field.name not in plain:
            continue
        try:
            raw[field.name] = _parse(field, plain[field.name])
        except ValueError as error:
            errors[field.name] = str(error)
    try:
        settings = STAGES[stage].model_validate(raw)
    except pydantic.ValidationError as error:
        return None, {**_errors_by_field(error), **errors}
    return (None, errors) if errors else (settings, {})


def _parse(field: Field, value: Any) -> Any:
    """Returns what pydantic is given for one value of the form."""
    if field.kind == "numbers" and isinstance(value, str):
        words = [word for word in re.split(r"\s*[,;]\s*|(?<=\d)\s*[x×]\s*(?=\d)|\s+", value.strip()) if word]
        if invalid := [word for word in words if not word.lstrip("+-").isdecimal()]:
            raise VKDError(f"'{invalid[0]}' is not an integer: write integers separated by commas.")
        return [int(word) for word in words]
    if field.kind == "folder" and isinstance(value, str):
        optional = type(None) in typing.get_args(field.of("").annotation)
        if not value.strip() and not optional:
            raise VKDError("A folder is required.")
        return value.strip() or None
    return value


def _errors_by_field(error: pydantic.ValidationError) -> dict[str, str]:
    messages: dict[str, str] = {}
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        what = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if item["type"] in ("missing", "int_type", "float_type"):
            what = "a number is required"
        plain = item["type"] in ("value_error", "missing") or item["input"] is None
        given = "" if plain else f", not {item['input']}"
        messages.setdefault(name, f"{what[:1].upper()}{what[1:]}{given}.")
    return messages


def parse_json(text: str) -> Settings:
    """Reads settings from the JSON of a settings.json. Raises VKDError that names the field."""
    try:
        raw = json.loads(text)
        model = STAGES[raw.pop("stage")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise VKDError(
            'Not a settings file: it must hold a JSON object with "stage": "teacher" or "student".'
        ) from None
    try:
        return model.model_validate(raw)
    except pydantic.ValidationError as error:
        name, message = next(iter(_errors_by_field(error).items()))
        raise VKDError(f"{name}: {message}" if name else message) from None


def to_json(settings: Settings) -> str:
    """Returns the JSON of a settings.json."""
    return json.dumps({"stage": settings.stage, **settings.model_dump(mode="json")}, indent=2)


def command(settings: Settings, checkpoints: Path = Path("checkpoints")) -> str:
    """Returns the command line for settings: what differs from the preset, or from the defaults."""
    row = PRESETS.get(settings.preset_name)
    usual = row.settings() if row is not None else type(settings).model_construct()
    words = ["vkd", "train", settings.stage, *(["--preset", settings.preset_name] if row is not None else [])]
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if name not in HIDDEN and value != getattr(usual, name):
            words += _flag(name, value)
    if checkpoints != Path("checkpoints"):
        words += ["--checkpoints", str(checkpoints)]
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    items = value if isinstance(value, tuple) else (value,)
    return [f"--{flag}", *(str(item) for item in items)]


# ---- inputs


def component(field: Field, stage: str, value: Plain, checkpoints: Sequence[str] = ()) -> Component:
    """Builds the input of one field; an optional folder is a checkpoint's and offers `checkpoints`."""
    common: dict[str, Any] = {
        "label": field.label,
        "info": field.help(stage),
        "visible": visible(field, stage),
        "elem_classes": field.css,
        "interactive": True,
    }
    if field.kind == "flag":
        return gr.Checkbox(value=bool(value), **common)
    if field.kind in ("choice", "several"):
        several = field.kind == "several"
        return gr.Dropdown(list(field.choices), value=value, multiselect=several, **common)
    if field.kind == "number":
        return gr.Number(value=value, **common)  # type: ignore[arg-type]
    if is_checkpoint(field, stage):
        return gr.Dropdown(list(checkpoints), value=value, allow_custom_value=True, **common)
    return gr.Textbox(value="" if value is None else str(value), max_lines=1, **common)


def is_checkpoint(field: Field, stage: str) -> bool:
    """True for a folder that may be left empty."""
    return field.kind == "folder" and field.default(stage) is None


def visible(field: Field, stage: str) -> bool:
    """True if a stage has this field; a public demo that trains nothing has no folders."""
    return stage in field.info and (field.kind != "folder" or limits.training_allowed())


def value_update(field: Field, stage: str, value: Plain) -> dict[str, Any]:
    """Returns the update of an input for another stage or other settings."""
    if field.kind in ("text", "folder", "numbers") and value is None and field.default(stage) is not None:
        value = ""
    return gr.update(
        value=value, info=field.help(stage), visible=visible(field, stage), elem_classes=field.css
    )


def error_update(field: Field, stage: str, error: str) -> dict[str, Any]:
    """Returns the update that shows an error in place of the help; '': the help again."""
    css = [*field.css, *(["vkd-wrong-field"] if error else [])]
    return gr.update(info=error or field.help(stage), elem_classes=css)


def committed(made: Any) -> list[Any]:
    """Returns the events after which a value is complete: text is not judged letter by letter."""
    return [made.blur, made.submit] if isinstance(made, gr.Number | gr.Textbox) else [made.input]
