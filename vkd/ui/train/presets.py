"""The settings form of the Train tab: stage, presets, fields, command line, settings as a file."""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vkd.io.errors import VKDError
from vkd.models import checkpoint
from vkd.training.fields import GROUPS
from vkd.training.presets import PRESETS
from vkd.training.settings import STAGES, Settings, load
from vkd.ui import components, limits, state
from vkd.ui.components import QUIET, FolderBrowser
from vkd.ui.errors import show_errors
from vkd.ui.html import render
from vkd.ui.state import AppPaths
from vkd.ui.train import form, runs

DEFAULT = {"teacher": "street-tiny-teacher", "student": "street-tiny-student"}
_OPEN_GROUPS = ("data", "network")
_GROUP_TITLES = {"network": "Model", "machine": "Runtime"}
# The form is kept in this browser, so that a refresh loses nothing. Not a gr.BrowserState: that one is read
# only when its tab is drawn, which is after the page has loaded.
_STORE = "(text) => { localStorage.setItem('vkd-train-form', text); }"
_STORED = "(paths, saved) => [paths, localStorage.getItem('vkd-train-form') ?? '']"


def preset_names(stage: str) -> list[str]:
    """Returns the names of a stage's presets, those that finish in minutes first."""
    names = [name for name, row in PRESETS.items() if row.stage == stage]
    return sorted(names, key=lambda name: (not name.startswith("street-tiny"), not name.startswith("street")))


def expected_html(name: str) -> str:
    """Renders what a preset is for, and the scores it was published with."""
    return render("train/preset.html.j2", name=name, preset=PRESETS.get(name))


def with_teacher(paths: AppPaths, settings: Settings) -> Settings:
    """Returns the settings; a student's teacher that is missing becomes the best fit of its dataset."""
    teacher = getattr(settings, "teacher", None)
    if settings.stage != "student" or (
        teacher is not None and limits.may_read(paths, teacher) and (teacher / "config.json").is_file()
    ):
        return settings
    backbone = PRESETS[settings.preset_name].backbone if settings.preset_name in PRESETS else ""
    configs = {name: checkpoint.read_config(paths.checkpoints / name) for name in state.checkpoints(paths)}
    fitting = [name for name, config in configs.items() if config.dataset == settings.dataset]
    fitting.sort(key=lambda name: (configs[name].backbone != backbone, configs[name].stage != "teacher"))
    return settings.changed(teacher=paths.checkpoints / fitting[0]) if fitting else settings


def _fill(paths: AppPaths, settings: Settings) -> list[Any]:
    """Returns the updates of `SettingsForm.filled`."""
    values = form.values(settings)
    folders = [(name, str(paths.checkpoints / name)) for name in state.checkpoints(paths)]
    updates = []
    for field in form.fields():
        update = form.value_update(field, settings.stage, values[field.name])
        if form.is_checkpoint(field, settings.stage):
            update["choices"] = folders
        updates.append(update)
    return [
        settings.stage,
        gr.update(choices=preset_names(settings.stage), value=settings.preset_name or None),
        expected_html(settings.preset_name),
        *updates,
        form.command(settings, paths.checkpoints),
        form.to_json(settings),
        {},
    ]


@show_errors
def choose_stage(paths: AppPaths, stage: str) -> list[Any]:
    """Puts a stage's default preset into the form."""
    if stage not in STAGES:
        raise VKDError(f"'{stage}' is not a stage: choose {' or '.join(STAGES)}.")
    return _fill(paths, with_teacher(paths, PRESETS[DEFAULT[stage]].settings()))


@show_errors
def choose_preset(paths: AppPaths, preset: str) -> list[Any]:
    """Puts a preset into the form."""
    if preset not in PRESETS:
        raise VKDError(f"There is no preset '{preset}': choose one from the list.")
    return _fill(paths, with_teacher(paths, PRESETS[preset].settings()))


def preset_settings(paths: AppPaths, preset: str) -> str:
    """Return the settings of a preset, by its name, as the JSON text that `train_start` takes."""
    return choose_preset(paths, preset)[-2]


@show_errors
def load_file(paths: AppPaths, file: str) -> list[Any]:
    """Puts a settings file into the form."""
    return _fill(paths, form.parse_json(Path(file).read_text(encoding="utf-8", errors="replace")))


@show_errors
def load_run(paths: AppPaths, selected: list[str]) -> list[Any]:
    """Puts a run's settings into the form."""
    if not selected:
        raise VKDError("No run is selected: click one in the list.")
    return _fill(paths, load(runs.folder_of(paths.checkpoints, selected[0]) / "settings.json"))


def restore(paths: AppPaths, stored: Any) -> list[Any]:
    """Puts back what this browser had in the form; without valid settings the default preset."""
    try:
        settings = form.parse_json(stored)
    except (ValueError, TypeError):
        return choose_stage(paths, "teacher")
    return _fill(paths, settings)


def read_form(
    paths: AppPaths, stage: str, preset: str, before: dict[str, str] | None, *values: Any
) -> list[Any]:
    """Returns the updates of `SettingsForm.checked`: command line, settings text, errors by field, fields.

    A field with an error shows it in place of its help; `before` has the errors until now.
    """
    names = [field.name for field in form.fields()]
    settings, errors = form.read(stage, dict(zip(names, values, strict=True)), preset or "")
    updates = [
        form.error_update(field, stage, errors.get(field.name, ""))
        if errors.get(field.name) != (before or {}).get(field.name)
        else gr.skip()
        for field in form.fields()
    ]
    if settings is None:
        return [gr.skip(), gr.skip(), errors, *updates]
    return [form.command(settings, paths.checkpoints), form.to_json(settings), {}, *updates]


@show_errors
def require_valid(errors: dict[str, str] | None) -> None:
    """Raises VKDError while a field has an error, naming all such fields: a group may be closed."""
    labels = {field.name: field.label for field in form.fields()}
    messages = [
        f"{labels.get(name, name)}: {error}" if name else error for name, error in (errors or {}).items()
    ]
    if messages:
        raise VKDError(" ".join(messages))


@show_errors
def save_file(text: str) -> str:
    """Writes the settings to a file to download."""
    limits.refuse_training()
    settings = form.parse_json(text)
    name = f"{settings.preset_name or settings.stage}.json"
    return components.download_path(f"{form.to_json(settings)}\n".encode(), name)


# ---- layout


class SettingsForm(NamedTuple):
    """The components of the form."""

    stage: gr.Radio
    preset: gr.Dropdown
    expected: gr.HTML
    begin: gr.Column
    """Room for the start button, above the fields."""
    inputs: dict[str, Any]
    browser: FolderBrowser
    command: gr.Code
    text: gr.Code
    upload: gr.UploadButton
    save: gr.DownloadButton
    errors: gr.JSON

    @property
    def filled(self) -> list[Any]:
        """Components that `_fill` updates."""
        chosen = [self.stage, self.preset, self.expected]
        return [*chosen, *self.inputs.values(), self.command, self.text, self.errors]

    @property
    def read(self) -> list[Any]:
        """Components that `read_form` reads."""
        return [self.stage, self.preset, self.errors, *self.inputs.values()]

    @property
    def checked(self) -> list[Any]:
        """Components that `read_form` updates."""
        return [self.command, self.text, self.errors, *self.inputs.values()]


def layout(paths: AppPaths) -> SettingsForm:
    """Builds stage, preset and an accordion for each group of fields, filled with the first preset."""
    settings = with_teacher(paths, PRESETS[DEFAULT["teacher"]].settings())
    values, inputs = form.values(settings), {}
    stage = gr.Radio(list(STAGES), value=settings.stage, label="Train", elem_classes="vkd-stage")
    preset = gr.Dropdown(preset_names(settings.stage), value=settings.preset_name, label="Preset")
    expected = gr.HTML(expected_html(settings.preset_name))
    begin = gr.Column(elem_classes="vkd-begin")
    folders = [str(paths.checkpoints / name) for name in state.checkpoints(paths)]
    for group in GROUPS:
        title, name = _GROUP_TITLES.get(group, group.capitalize()), f"vkd-train-{group}-group"
        with gr.Accordion(title, open=group in _OPEN_GROUPS, elem_id=name, elem_classes="vkd-group"):
            for field in (field for field in form.fields() if field.group == group):
                inputs[field.name] = form.component(field, settings.stage, values[field.name], folders)
                if field.name == "root":
                    browser = components.folder_browser()
    with gr.Accordion("Command line and settings file", open=False, elem_classes="vkd-group"):
        fixed: dict[str, Any] = {"interactive": False, "wrap_lines": True}
        line = form.command(settings, paths.checkpoints)
        command = gr.Code(line, language="shell", label="Command line", lines=2, **fixed)
        text = gr.Code(form.to_json(settings), language="json", label="settings.json", max_lines=12, **fixed)
        with gr.Row():
            save = gr.DownloadButton("Save settings", size="sm", visible=limits.training_allowed())
            upload = gr.UploadButton("Load settings", size="sm", file_types=[".json"])
    errors = gr.JSON({}, visible=False)
    return SettingsForm(stage, preset, expected, begin, inputs, browser, command, text, upload, save, errors)


def wire(page: gr.Blocks, paths: gr.State, made: SettingsForm, selected: Any, reuse: gr.Button) -> None:
    """Wires the events of the form."""
    filled = [
        made.stage.input(choose_stage, [paths, made.stage], made.filled, **QUIET),
        made.preset.input(choose_preset, [paths, made.preset], made.filled, **QUIET),
        made.upload.upload(load_file, [paths, made.upload], made.filled, **QUIET),
        reuse.click(load_run, [paths, selected], made.filled, **QUIET),
        gr.on(
            [event for each in made.inputs.values() for event in form.committed(each)],
            read_form, [paths, *made.read], made.checked, trigger_mode="always_last", **QUIET,
        ),
    ]  # fmt: skip
    for event in filled:
        event.success(None, made.text, None, js=_STORE, api_visibility="private")
    stored = gr.Textbox(visible=False)
    page.load(restore, [paths, stored], made.filled, js=_STORED, **QUIET)
    made.save.click(save_file, made.text, made.save, **QUIET)
    name, answer = gr.Textbox(visible=False), gr.Textbox(visible=False)
    name.submit(preset_settings, [paths, name], answer, api_name="train_preset", show_progress="hidden")
