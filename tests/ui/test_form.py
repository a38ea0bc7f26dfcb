"""The form is made of the settings: what goes in comes out, and what is wrong is said beside its field."""

import json
import shlex
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from vkd.cli.train import _asked
from vkd.training.presets import PRESETS
from vkd.training.settings import GROUPS, STAGES, Settings
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
    settings, wrong = form.read(stage, values)
    assert wrong == {}
    assert settings is not None
    return values, settings


def test_every_field_of_the_settings_is_asked_for_in_a_known_group():
    for model in STAGES.values():
        assert set(model.model_fields) - set(FIELDS) == {"preset"}
    assert {field.group for field in FIELDS.values()} == set(GROUPS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_survives_the_form(preset: str):
    asked = PRESETS[preset].settings()
    assert form.read(asked.stage, form.values(asked), preset) == (asked, {})


@pytest.mark.parametrize(("stage", "name"), CASES)
def test_a_changed_field_survives_the_form_the_file_and_the_command_line(stage: str, name: str):
    values, settings = changed(stage, name)
    assert getattr(settings, name) != getattr(STAGES[stage].model_validate({}), name)
    assert form.values(settings) == values
    assert form.parse_text(form.as_text(settings)) == settings
    words = shlex.split(form.command(settings, Path("elsewhere")))
    assert words[:3] == ["vkd", "train", stage]
    again, run, _ = _asked("vkd train", stage, words[3:])
    assert again == settings
    assert run.checkpoints == Path("elsewhere")


@pytest.mark.parametrize("preset", ["mars-resnet50-student", "street-tiny-teacher"])
def test_the_command_line_of_a_preset_is_its_name_and_what_differs(preset: str):
    asked = PRESETS[preset].settings()
    assert form.command(asked) == f"vkd train {asked.stage} --preset {preset}"
    assert form.command(asked.changed(epochs=3)).endswith(f"--preset {preset} --epochs 3")
    words = shlex.split(form.command(asked.changed(milestones=(), pretrained=False)))
    again, _, _ = _asked("vkd train", asked.stage, words[3:])
    assert again == asked.changed(milestones=(), pretrained=False)


@pytest.mark.parametrize(
    ("stage", "name", "value", "sentence"),
    [
        ("teacher", "identities_per_batch", 1, "greater than or equal to 2"),
        ("teacher", "epochs", None, "number is missing"),
        ("teacher", "epochs", 2.5, "integer"),
        ("teacher", "learning_rate", 0, "greater than 0"),
        ("teacher", "milestones", "5, x", "'x' is not a whole number"),
        ("teacher", "milestones", "9, 5", "ascending"),
        ("teacher", "image_size", "8, 8", "from 16 to 2048"),
        ("teacher", "image_size", "128", "missing"),
        ("teacher", "backbone", "resnet1000", "not one of"),
        ("teacher", "protocols", [], "at least 1"),
        ("teacher", "root", "  ", "No folder"),
        ("student", "logits", "l1", "kd"),
        ("student", "temperature", 0, "greater than 0"),
    ],
)
def test_what_is_wrong_is_said_beside_the_field(stage: str, name: str, value: Any, sentence: str):
    values = {**form.values(STAGES[stage].model_validate({})), name: value}
    settings, wrong = form.read(stage, values)
    assert settings is None
    assert list(wrong) == [name]
    assert sentence in wrong[name]
    assert "Traceback" not in wrong[name]
    assert wrong[name].endswith(".")


@pytest.mark.parametrize("text", ["64, 32", "64x32", "64 × 32", "64;32", " 64  32 "])
def test_numbers_may_be_written_as_people_write_them(text: str):
    settings, wrong = form.read("teacher", {"image_size": text})
    assert wrong == {}
    assert settings is not None
    assert settings.image_size == (64, 32)


def test_several_wrong_fields_are_all_told():
    values = form.values(PRESETS["street-tiny-student"].settings())
    _, wrong = form.read("student", {**values, "views": 0, "seed": -1, "milestones": "a"})
    assert set(wrong) == {"views", "seed", "milestones"}


def test_more_views_for_the_student_than_there_are_is_told_once():
    values = form.values(PRESETS["street-tiny-student"].settings())
    settings, wrong = form.read("student", {**values, "student_views": 7, "views": 6})
    assert settings is None
    assert len(wrong) == 1
    assert "7" in next(iter(wrong.values()))


def test_an_unknown_stage_is_told():
    assert "teacher or student" in form.read("mentor", {})[1][""]


def test_a_preset_of_the_other_stage_is_not_kept():
    values = form.values(PRESETS["street-tiny-teacher"].settings())
    settings, _ = form.read("teacher", values, "street-tiny-student")
    assert settings is not None
    assert settings.preset == ""


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "3", '{"stage": "mentor"}', json.dumps({"epochs": 3}), "\x00", "[" * 100_000],
    ids=["empty", "list", "torn", "number", "stage", "no-stage", "binary", "deep"],
)
def test_what_is_no_settings_file_is_refused_with_a_sentence(text: str):
    with pytest.raises(ValueError, match="not a file of settings"):
        form.parse_text(text)


@pytest.mark.parametrize(
    ("values", "told"), [({"epochs": 0}, "epochs"), ({"colour": "red"}, "colour"), ({"root": 3}, "root")]
)
def test_a_settings_file_with_a_wrong_value_names_the_field(values: dict[str, Any], told: str):
    with pytest.raises(ValueError, match=told):
        form.parse_text(json.dumps({"stage": "teacher", **values}))


def test_help_tells_the_bounds_of_the_field():
    assert FIELDS["views"].help("teacher").endswith("(1 to 64)")
    assert FIELDS["learning_rate"].help("teacher").endswith("(above 0, at most 1)")
    assert FIELDS["seed"].help("teacher").endswith("(0 or more)")
    assert "(" not in FIELDS["erase"].label


def test_an_input_is_hidden_where_the_stage_has_no_such_field():
    with gr.Blocks():
        made = {stage: form.component(FIELDS["temperature"], stage, 10.0) for stage in STAGES}
    assert not made["teacher"].visible
    assert made["student"].visible


def test_a_wrong_field_shows_its_sentence_instead_of_its_help():
    told = form.told(FIELDS["views"], "teacher", "Too many.")
    assert told["info"] == "Too many."
    assert "vkd-wrong-field" in told["elem_classes"]
    assert form.told(FIELDS["views"], "teacher", "")["info"] == FIELDS["views"].help("teacher")
