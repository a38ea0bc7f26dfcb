"""The form of the Train tab: presets, fields, what is wrong beside a field, the command line, settings as a
file.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vkd.io.errors import VKDError
from vkd.models import checkpoint
from vkd.training.presets import PRESETS
from vkd.training.settings import GROUPS, STAGES, Settings, load
from vkd.ui import components, limits, state
from vkd.ui.components import FolderBrowser
from vkd.ui.errors import show_errors
from vkd.ui.state import AppPaths
from vkd.ui.train import board, form, runs

FIRST = {"teacher": "street-tiny-teacher", "student": "street-tiny-student"}
_OPEN = ("data", "network")
# What is in the form stays in this browser: a refresh forgets nothing. Not a gr.BrowserState: that one is
# read only when its tab is drawn, which is after the page has loaded.
_KEEP = "(text) => { localStorage.setItem('vkd-train-form', text); }"
_KEPT = "(paths, saved) => [paths, localStorage.getItem('vkd-train-form') ?? '']"


def preset_names(stage: str) -> list[str]:
    """Names of a stage's presets, those that finish in minutes first."""
    names = [name for name, row in PRESETS.items() if row.stage == stage]
    return sorted(names, key=lambda name: (not name.startswith("street-tiny"), not name.startswith("street")))


def expected_html(name: str) -> str:
    """What a preset is for, and the scores it is published with."""
    row = PRESETS.get(name)
    if row is None:
        return '<p class="vkd-expected">Own settings.</p>'
    if row.expected:
        scores = [
            f"{protocol.upper()} top-1 {board.percent(found['top1'])}, mAP {board.percent(found['map'])}"
            for protocol, found in row.expected.items()
        ]
        return (
            f'<p class="vkd-expected"><b>Published</b> {"; ".join(scores)} (trapezoid AP, full data set)</p>'
        )
    if name.startswith("street-"):
        pace = "a minute or two" if row.backbone == "tiny" else "some twenty minutes"
        return f'<p class="vkd-expected"><b>Demo</b> on the synthetic street: {pace} on a CPU.</p>'
    return '<p class="vkd-expected">The paper publishes no score for this one.</p>'


def fitting_teacher(paths: AppPaths, settings: Settings) -> Settings:
    """The settings, with a teacher that is there: the latest of the same data set where the asked one is
    missing.
    """
    asked = getattr(settings, "teacher", None)
    if settings.stage != "student" or (
        asked is not None and limits.may_read(paths, asked) and (asked / "config.json").is_file()
    ):
        return settings
    trunk = PRESETS[settings.preset].backbone if settings.preset in PRESETS else ""
    known = [(name, checkpoint.read_config(paths.checkpoints / name)) for name in state.checkpoints(paths)]
    known = [(name, config) for name, config in known if config.dataset == settings.dataset]
    known.sort(key=lambda item: (item[1].backbone != trunk, item[1].stage != "teacher"))
    return settings.changed(teacher=paths.checkpoints / known[0][0]) if known else settings


def _fill(paths: AppPaths, settings: Settings) -> list[Any]:
    """Updates of preset, its line, every field, command line and settings text."""
    values = form.values(settings)
    folders = [(name, str(paths.checkpoints / name)) for name in state.checkpoints(paths)]
    updates = []
    for field in form.fields():
        update = form.shown(field, settings.stage, values[field.name])
        if field.kind == "folder" and field.default(settings.stage) is None:
            update["choices"] = folders
        updates.append(update)
    return [
        settings.stage,
        gr.update(choices=preset_names(settings.stage), value=settings.preset or None),
        expected_html(settings.preset),
        *updates,
        form.command(settings, paths.checkpoints),
        form.as_text(settings),
        {},
    ]


@show_errors
def choose_stage(paths: AppPaths, stage: str) -> list[Any]:
    """Put a stage's first preset into the form."""
    if stage not in STAGES:
        raise VKDError(f"'{stage}' is not a stage: choose {' or '.join(STAGES)}.")
    return _fill(paths, fitting_teacher(paths, PRESETS[FIRST[stage]].settings()))


@show_errors
def choose_preset(paths: AppPaths, preset: str) -> list[Any]:
    """Put a preset into the form."""
    if preset not in PRESETS:
        raise VKDError(f"There is no preset '{preset}': choose one from the list.")
    return _fill(paths, fitting_teacher(paths, PRESETS[preset].settings()))


def preset_settings(paths: AppPaths, preset: str) -> str:
    """The settings of a preset, by its name, as the JSON text that `train_start` takes."""
    return choose_preset(paths, preset)[-2]


@show_errors
def load_settings(paths: AppPaths, file: str) -> list[Any]:
    """Put a settings file into the form."""
    return _fill(paths, form.parse_text(Path(file).read_text(encoding="utf-8", errors="replace")))


@show_errors
def load_run(paths: AppPaths, shown: list[str]) -> list[Any]:
    """Put a run's settings into the form."""
    if not shown:
        raise VKDError("No run is chosen: click one in the list.")
    return _fill(paths, load(runs.folder_of(paths.checkpoints, shown[0]) / "settings.json"))


def restore(paths: AppPaths, saved: Any) -> list[Any]:
    """Put back what this browser had in the form when the page was left; anything else leaves the form
    alone.
    """
    try:
        settings = form.parse_text(saved)
    except (ValueError, TypeError):
        return choose_stage(paths, "teacher")
    return _fill(paths, settings)


def read_form(
    paths: AppPaths, stage: str, preset: str, before: dict[str, str] | None, *values: Any
) -> list[Any]:
    """Command line, settings text, what is wrong by field, updates of the fields.

    A wrong field shows its sentence in the place of its help; `before` is what was wrong until now.
    """
    names = [field.name for field in form.fields()]
    settings, wrong = form.read(stage, dict(zip(names, values, strict=True)), preset or "")
    updates = [
        form.told(field, stage, wrong.get(field.name, ""))
        if wrong.get(field.name) != (before or {}).get(field.name)
        else gr.skip()
        for field in form.fields()
    ]
    if settings is None:
        return [gr.skip(), gr.skip(), wrong, *updates]
    return [form.command(settings, paths.checkpoints), form.as_text(settings), {}, *updates]


@show_errors
def require_right(wrong: dict[str, str] | None) -> None:
    """Stop here while a field is wrong, naming all that are: some may be in a group that is closed."""
    labels = {field.name: field.label for field in form.fields()}
    told = [
        f"{labels.get(name, name)}: {sentence}" if name else sentence
        for name, sentence in (wrong or {}).items()
    ]
    if told:
        raise VKDError(" ".join(told))


@show_errors
def save_settings(text: str) -> str:
    """The settings as a file to download."""
    limits.refuse_training()
    settings = form.parse_text(text)
    file = Path(tempfile.mkdtemp(prefix="vkd-")) / f"{settings.preset or settings.stage}.json"
    file.write_text(form.as_text(settings) + "\n", encoding="utf-8")
    return str(file)


# --- layout -------------------------------------------------------------------------------------------------


class Recipe(NamedTuple):
    """The components of the form. `text` holds the settings as JSON: what is started, saved and loaded."""

    stage: gr.Radio
    preset: gr.Dropdown
    expected: gr.HTML
    begin: gr.Column
    inputs: dict[str, Any]
    browser: FolderBrowser
    command: gr.Code
    text: gr.Code
    upload: gr.UploadButton
    save: gr.DownloadButton
    wrong: gr.JSON

    @property
    def filled(self) -> list[Any]:
        """What `_fill` updates."""
        chosen = [self.stage, self.preset, self.expected]
        return [*chosen, *self.inputs.values(), self.command, self.text, self.wrong]

    @property
    def asked(self) -> list[Any]:
        """What `read_form` reads."""
        return [self.stage, self.preset, self.wrong, *self.inputs.values()]

    @property
    def told(self) -> list[Any]:
        """What `read_form` updates."""
        return [self.command, self.text, self.wrong, *self.inputs.values()]


def layout(paths: AppPaths) -> Recipe:
    """Stage, preset and an accordion for each group of fields, with the first preset in them."""
    settings = fitting_teacher(paths, PRESETS[FIRST["teacher"]].settings())
    values, inputs = form.values(settings), {}
    stage = gr.Radio(list(STAGES), value=settings.stage, label="Stage", elem_classes="vkd-stage")
    preset = gr.Dropdown(preset_names(settings.stage), value=settings.preset, label="Preset")
    expected = gr.HTML(expected_html(settings.preset))
    begin = gr.Column(elem_classes="vkd-begin")
    folders = [str(paths.checkpoints / name) for name in state.checkpoints(paths)]
    for group in GROUPS:
        name = f"vkd-train-{group}-group"
        with gr.Accordion(group.capitalize(), open=group in _OPEN, elem_id=name, elem_classes="vkd-group"):
            for field in form.fields():
                if field.group == group:
                    inputs[field.name] = form.component(field, settings.stage, values[field.name], folders)
                if field.group == group and field.name == "root":
                    browser = components.folder_browser()
    with gr.Accordion("Command line and settings file", open=False, elem_classes="vkd-group"):
        shown: dict[str, Any] = {"interactive": False, "wrap_lines": True}
        command = gr.Code(
            form.command(settings, paths.checkpoints),
            language="shell",
            label="On the command line",
            lines=2,
            **shown,
        )
        text = gr.Code(
            form.as_text(settings), language="json", label="settings.json", interactive=False, max_lines=12
        )
        with gr.Row():
            save = gr.DownloadButton("Save settings", size="sm", visible=limits.training_allowed())
            upload = gr.UploadButton("Load settings", size="sm", file_types=[".json"])
    wrong = gr.JSON({}, visible=False)
    return Recipe(stage, preset, expected, begin, inputs, browser, command, text, upload, save, wrong)


def wire(page: gr.Blocks, paths: gr.State, recipe: Recipe, shown: Any, reuse: gr.Button) -> None:
    """Events of the form."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    filled = [
        recipe.stage.input(choose_stage, [paths, recipe.stage], recipe.filled, **quiet),
        recipe.preset.input(choose_preset, [paths, recipe.preset], recipe.filled, **quiet),
        recipe.upload.upload(load_settings, [paths, recipe.upload], recipe.filled, **quiet),
        reuse.click(load_run, [paths, shown], recipe.filled, **quiet),
        gr.on(
            [event for made in recipe.inputs.values() for event in form.listen(made)],
            read_form, [paths, *recipe.asked], recipe.told, trigger_mode="always_last", **quiet,
        ),
    ]  # fmt: skip
    for event in filled:
        event.success(None, recipe.text, None, js=_KEEP, api_visibility="private")
    saved = gr.Textbox(visible=False)
    page.load(restore, [paths, saved], recipe.filled, js=_KEPT, **quiet)
    recipe.save.click(save_settings, recipe.text, recipe.save, **quiet)
    name, answer = gr.Textbox(visible=False), gr.Textbox(visible=False)
    gr.on(
        [name.submit],
        preset_settings,
        [paths, name],
        answer,
        api_name="train_preset",
        show_progress="hidden",
    )
