"""A form from the settings models: one input for each field, its help beside it, its bounds checked beside
it.

The form shows the fields of both stages at once and hides those that the chosen stage does not have. Values
of the form are plain (text, numbers, flags, lists of text), so a program may send them too; `read` makes
settings of them and `values` makes them of settings. Nothing here names a field: a new field of the models
appears by itself.
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
from vkd.training.presets import PRESETS
from vkd.training.settings import GROUPS, STAGES, Choice, Settings
from vkd.ui import limits

HIDDEN = ("preset",)  # chosen above the form, not in it
_WORDS = {"kd": "KD", "dp": "DP", "root": "folder"}
_LOW, _HIGH = (annotated_types.Ge, annotated_types.Gt), (annotated_types.Le, annotated_types.Lt)

Plain = str | int | float | bool | list[str] | None
Kind = Literal["flag", "choice", "several", "number", "numbers", "folder", "text"]


class Field(NamedTuple):
    """One input. `info` holds the field of each stage that has it: defaults and help may differ between
    them.
    """

    name: str
    group: str
    kind: Kind
    choices: tuple[str, ...]
    info: dict[str, FieldInfo]

    @property
    def label(self) -> str:
        words = " ".join(_WORDS.get(word, word) for word in self.name.split("_"))
        return words[:1].upper() + words[1:]

    def help(self, stage: str) -> str:
        """The field's sentence and, where it has bounds, which values it takes."""
        info = self.info.get(stage) or next(iter(self.info.values()))
        return " ".join(filter(None, [info.description or "", _bounds(info)]))

    def default(self, stage: str) -> Plain:
        info = self.info.get(stage) or next(iter(self.info.values()))
        return _plain(info.default)


def fields() -> list[Field]:
    """Every field of both stages in the order shown: by group, a stage's own choice of network before the
    rest.
    """
    found: dict[str, dict[str, FieldInfo]] = {}
    for stage, model in STAGES.items():
        for name, info in model.model_fields.items():
            if name not in HIDDEN:
                found.setdefault(name, {})[stage] = info
    made = [_field(name, info) for name, info in found.items()]
    shared = {name for name, info in found.items() if len(info) == len(STAGES)}
    return sorted(
        made, key=lambda field: (GROUPS.index(field.group), field.group == "network" and field.name in shared)
    )


def _field(name: str, infos: dict[str, FieldInfo]) -> Field:
    info = next(iter(infos.values()))
    extra = info.json_schema_extra
    group = str(extra["group"]) if isinstance(extra, dict) else GROUPS[-1]
    kind, choices = _kind(info)
    return Field(name, group, kind, tuple(choices), infos)


def _kind(info: FieldInfo) -> tuple[Kind, Sequence[str]]:
    """How a field is asked for, told by its type."""
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
    """'(1 to 64)', '(above 0, at most 1)' or ''."""
    low = next((mark for mark in info.metadata if isinstance(mark, _LOW)), None)
    high = next((mark for mark in info.metadata if isinstance(mark, _HIGH)), None)
    least = getattr(low, "ge", None)
    most = getattr(high, "le", None)
    if least is not None and most is not None:
        return f"({least:g} to {most:g})" if most < 1e5 else f"({least:g} or more)"
    words = []
    if low is not None:
        words.append(f"{least:g} or more" if least is not None else f"above {getattr(low, 'gt', 0):g}")
    if most is not None:
        words.append(f"at most {most:g}")
    return f"({', '.join(words)})" if words else ""


# --- values -------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Plain:
    if isinstance(value, tuple):
        return list(value) if value and isinstance(value[0], str) else ", ".join(str(item) for item in value)
    return str(value) if isinstance(value, Path) else value


def values(settings: Settings) -> dict[str, Plain]:
    """What the form shows for these settings; a field that their stage lacks keeps its default."""
    return {
        field.name: _plain(getattr(settings, field.name))
        if settings.stage in field.info
        else field.default("")
        for field in fields()
    }


def read(stage: str, given: dict[str, Any], preset: str = "") -> tuple[Settings | None, dict[str, str]]:
    """Settings from the form's values, or None and a sentence for each field that is wrong ('' : several
    together).
    """
    if stage not in STAGES:
        return None, {"": f"'{stage}' is not a stage: choose {' or '.join(STAGES)}."}
    raw: dict[str, Any] = {"preset": preset if preset in PRESETS and PRESETS[preset].stage == stage else ""}
    wrong: dict[str, str] = {}
    for field in fields():
        if stage not in field.info or field.name not in given:
            continue
        try:
            raw[field.name] = _parse(field, given[field.name])
        except ValueError as error:
            wrong[field.name] = str(error)
    try:
        settings = STAGES[stage].model_validate(raw)
    except pydantic.ValidationError as error:
        return None, {**_beside(error), **wrong}
    return (None, wrong) if wrong else (settings, {})


def _parse(field: Field, value: Any) -> Any:
    """What pydantic is given for one value of the form."""
    if field.kind == "numbers" and isinstance(value, str):
        words = [word for word in re.split(r"\s*[,;]\s*|(?<=\d)\s*[x×]\s*(?=\d)|\s+", value.strip()) if word]
        if strange := [word for word in words if not word.lstrip("+-").isdecimal()]:
            raise VKDError(f"'{strange[0]}' is not a whole number: write numbers with commas between them.")
        return [int(word) for word in words]
    if field.kind == "folder" and isinstance(value, str):
        optional = type(None) in typing.get_args(next(iter(field.info.values())).annotation)
        if not value.strip() and not optional:
            raise VKDError("No folder is given: write its path.")
        return value.strip() or None
    return value


def _beside(error: pydantic.ValidationError) -> dict[str, str]:
    """One sentence for each field that pydantic complains of."""
    found: dict[str, str] = {}
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        what = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if item["type"] in ("missing", "int_type", "float_type"):
            what = "a number is missing here"
        sentence = what[:1].upper() + what[1:]
        given = (
            ""
            if item["type"] in ("value_error", "missing") or item["input"] is None
            else f", not {item['input']}"
        )
        found.setdefault(name, f"{sentence}{given}.")
    return found


def parse_text(text: str) -> Settings:
    """Settings from the JSON that `settings.json` holds. Raises ValueError with a sentence that names the
    field.
    """
    try:
        raw = json.loads(text)
        stage = raw.pop("stage")
        model = STAGES[stage]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise VKDError(
            'That is not a file of settings: it must hold a JSON object with "stage": "teacher" or "student".'
        ) from None
    try:
        return model.model_validate(raw)
    except pydantic.ValidationError as error:
        name, sentence = next(iter(_beside(error).items()))
        raise VKDError(f"{name}: {sentence}" if name else sentence) from None


def as_text(settings: Settings) -> str:
    """The JSON that `settings.json` would hold."""
    return json.dumps({"stage": settings.stage, **settings.model_dump(mode="json")}, indent=2)


def command(settings: Settings, checkpoints: Path = Path("checkpoints")) -> str:
    """The command line that asks for just these settings: what differs from the preset, or from the
    defaults.
    """
    row = PRESETS.get(settings.preset)
    usual = row.settings() if row is not None else type(settings).model_construct()
    words = ["vkd", "train", settings.stage, *(["--preset", settings.preset] if row is not None else [])]
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


# --- inputs -------------------------------------------------------------------------------------------------


def component(field: Field, stage: str, value: Plain, checkpoints: Sequence[str] = ()) -> Component:
    """The input of one field; a folder that may be left out is a checkpoint's and offers those there are."""
    common: dict[str, Any] = {
        "label": field.label,
        "info": field.help(stage),
        "visible": visible(field, stage),
        "elem_classes": _classes(field),
        "interactive": True,
    }
    if field.kind == "flag":
        return gr.Checkbox(value=bool(value), **common)
    if field.kind == "choice":
        return gr.Dropdown(list(field.choices), value=value, **common)
    if field.kind == "several":
        return gr.Dropdown(list(field.choices), value=value, multiselect=True, **common)
    if field.kind == "number":
        return gr.Number(value=value, **common)  # type: ignore[arg-type]
    if field.kind == "folder" and field.default(stage) is None:
        return gr.Dropdown(list(checkpoints), value=value, allow_custom_value=True, **common)
    return gr.Textbox(value="" if value is None else str(value), max_lines=1, **common)


def visible(field: Field, stage: str) -> bool:
    """Whether a stage has this field; a public demo that trains nothing asks for no folders."""
    return stage in field.info and (field.kind != "folder" or limits.training_allowed())


def shown(field: Field, stage: str, value: Plain) -> dict[str, Any]:
    """The update of an input when another stage or other settings are put into the form."""
    if field.kind in ("text", "folder", "numbers") and value is None and field.default(stage) is not None:
        value = ""
    return gr.update(
        value=value, info=field.help(stage), visible=visible(field, stage), elem_classes=_classes(field)
    )


def told(field: Field, stage: str, wrong: str) -> dict[str, Any]:
    """The update that shows what is wrong with an input in the place of its help; '': the help again."""
    return gr.update(
        info=wrong or field.help(stage),
        elem_classes=[*_classes(field), *(["vkd-wrong-field"] if wrong else [])],
    )


def _classes(field: Field) -> list[str]:
    return ["vkd-field", f"vkd-{field.kind}"]


def listen(made: Any) -> list[Any]:
    """The events that tell that a person has finished with an input: letters are not judged one by one."""
    typed = isinstance(made, gr.Number | gr.Textbox)
    return [made.blur, made.submit] if typed else [made.input]
