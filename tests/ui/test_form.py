"""The form from the settings models: round trips, errors by field, inputs."""

import json
import shlex
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from vkd.cli.train import _settings
from vkd.training.fields import GROUPS
from vkd.training.presets import PRESETS
from vkd.training.settings import STAGES, Settings
from vkd.ui.train import form

FIELDS = {field.name: field for field in form.fields()}
CASES = [(stage, name) for stage, model in STAGES.items() for name in model.model_fields if name in FIELDS]


def another(field: form.Field, value: Any) -> Any:
    """A value of the form, other than `value`, that the field takes."""
    if field.kind == "flag":
        return not value
    if field.kind == "choice":
        return next(choice for choice in field.choices if choice != value)
    if field.kind == "several":
        return [choice for choice in reversed(field.choices) if choice not in value][:2] or [field.choices[0]]
    if field.kind == "numbers":
        return "64, 32" if field.name == "image_size" else "3, 4, 11"
    if field.kind == "folder":
        return "other/folder"
    whole = next(iter(field.info.values())).annotation is int
    return value + 1 if whole else 0.25


def changed(stage: str, name: str) -> tuple[dict[str, Any], Settings]:
    """The form's values with one of them changed, and the settings that they make."""
    values = form.values(STAGES[stage].model_validate({"views": 8}))
    values[name] = another(FIELDS[name], values[name])
    settings, errors = form.read(stage, values)
    assert errors == {}
    assert settings is not None
    return values, settings


def test_every_setting_has_a_field():
    for model in STAGES.values():
        assert set(model.model_fields) - set(FIELDS) == {"preset_name"}
    assert {field.group for field in FIELDS.values()} == set(GROUPS)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_round_trip(preset: str):
    expected = PRESETS[preset].settings()
    assert form.read(expected.stage, form.values(expected), preset) == (expected, {})


@pytest.mark.parametrize(("stage", "name"), CASES)
def test_field_round_trip(stage: str, name: str):
    values, settings = changed(stage, name)
    assert getattr(settings, name) != getattr(STAGES[stage].model_validate({}), name)
    assert form.values(settings) == values
    assert form.parse_json(form.to_json(settings)) == settings
    words = shlex.split(form.command(settings, Path("elsewhere")))
    assert words[:3] == ["vkd", "train", stage]
    again, run, _ = _settings("vkd train", stage, words[3:])
    assert again == settings
    assert run.checkpoints == Path("elsewhere")


@pytest.mark.parametrize("preset", ["mars-resnet50-student", "street-tiny-teacher"])
def test_command_line_of_preset(preset: str):
    expected = PRESETS[preset].settings()
    assert form.command(expected) == f"vkd train {expected.stage} --preset {preset}"
    assert form.command(expected.changed(epochs=3)).endswith(f"--preset {preset} --epochs 3")
    words = shlex.split(form.command(expected.changed(milestones=(), pretrained=False)))
    again, _, _ = _settings("vkd train", expected.stage, words[3:])
    assert again == expected.changed(milestones=(), pretrained=False)


@pytest.mark.parametrize(
    ("stage", "name", "value", "sentence"),
    [
        ("teacher", "identities_per_batch", 1, "greater than or equal to 2"),
        ("teacher", "epochs", None, "number"),
        ("teacher", "epochs", 2.5, "integer"),
        ("teacher", "learning_rate", 0, "greater than 0"),
        ("teacher", "milestones", "5, x", "'x'"),
        ("teacher", "milestones", "9, 5", "ascending"),
        ("teacher", "image_size", "8, 8", "from 16 to 2048"),
        ("teacher", "image_size", "128", "required"),
        ("teacher", "backbone", "resnet1000", "not one of"),
        ("teacher", "protocols", [], "at least 1"),
        ("teacher", "root", "  ", "required"),
        ("student", "logits", "l1", "kd"),
        ("student", "temperature", 0, "greater than 0"),
    ],
)
def test_error_of_field(stage: str, name: str, value: Any, sentence: str):
    values = {**form.values(STAGES[stage].model_validate({})), name: value}
    settings, errors = form.read(stage, values)
    assert settings is None
    assert list(errors) == [name]
    assert sentence in errors[name]
    assert "Traceback" not in errors[name]
    assert errors[name].endswith(".")


@pytest.mark.parametrize("text", ["64, 32", "64x32", "64 × 32", "64;32", " 64  32 "])
def test_spellings_of_numbers(text: str):
    settings, errors = form.read("teacher", {"image_size": text})
    assert errors == {}
    assert settings is not None
    assert settings.image_size == (64, 32)


def test_errors_of_several_fields():
    values = form.values(PRESETS["street-tiny-student"].settings())
    _, errors = form.read("student", {**values, "views": 0, "seed": -1, "milestones": "a"})
    assert set(errors) == {"views", "seed", "milestones"}


def test_more_student_views_than_views():
    values = form.values(PRESETS["street-tiny-student"].settings())
    settings, errors = form.read("student", {**values, "student_views": 7, "views": 6})
    assert settings is None
    assert len(errors) == 1
    assert "7" in next(iter(errors.values()))


def test_unknown_stage():
    assert "teacher or student" in form.read("mentor", {})[1][""]


def test_preset_of_other_stage_is_dropped():
    values = form.values(PRESETS["street-tiny-teacher"].settings())
    settings, _ = form.read("teacher", values, "street-tiny-student")
    assert settings is not None
    assert settings.preset_name == ""


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "3", '{"stage": "mentor"}', json.dumps({"epochs": 3}), "\x00", "[" * 100_000],
    ids=["empty", "list", "torn", "number", "stage", "no-stage", "binary", "deep"],
)
def test_invalid_settings_file(text: str):
    with pytest.raises(ValueError, match="stage"):
        form.parse_json(text)


@pytest.mark.parametrize(
    ("values", "name"), [({"epochs": 0}, "epochs"), ({"colour": "red"}, "colour"), ({"root": 3}, "root")]
)
def test_invalid_value_in_settings_file(values: dict[str, Any], name: str):
    with pytest.raises(ValueError, match=name):
        form.parse_json(json.dumps({"stage": "teacher", **values}))


def test_help_has_bounds():
    assert FIELDS["views"].help("teacher").endswith("(1 to 64)")
    assert FIELDS["learning_rate"].help("teacher").endswith("(above 0, at most 1)")
    assert FIELDS["seed"].help("teacher").endswith("(0 or more)")
    assert "(" not in FIELDS["erase"].label


def test_input_of_other_stage_is_hidden():
    with gr.Blocks():
        made = {stage: form.component(FIELDS["temperature"], stage, 10.0) for stage in STAGES}
    assert not made["teacher"].visible
    assert made["student"].visible


def test_error_replaces_help():
    update = form.error_update(FIELDS["views"], "teacher", "Too many.")
    assert update["info"] == "Too many."
    assert "vkd-wrong-field" in update["elem_classes"]
    assert form.error_update(FIELDS["views"], "teacher", "")["info"] == FIELDS["views"].help("teacher")
