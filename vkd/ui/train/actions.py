"""Actions of the Train tab: inspect a dataset; start, resume, stop, delete a run."""

import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from vkd.io.errors import VKDError
from vkd.io.files import slug
from vkd.jobs import runs as run_jobs
from vkd.models import checkpoint
from vkd.synthetic import generate
from vkd.ui import dataset, limits
from vkd.ui.components import gradio_progress
from vkd.ui.errors import show_errors
from vkd.ui.state import AppPaths
from vkd.ui.train import form, runs

_PROGRESS = gr.Progress()


def show_data(paths: AppPaths, name: str, root: str, cameras: str) -> tuple[str, dict[str, Any], Any]:
    """Read a dataset and show its summary: a row for each split, and notes.

    `name` is a key of the datasets or `auto`, `root` its folder on the server, `cameras` is `auto` or `none`
    (a plain folder without camera labels). As data: `rows`, `notes`, and `wrong` with the reader's message.
    """
    limits.refuse_training()
    page, data = dataset.show(paths, name, root, cameras, training=True)
    missing = bool(data["wrong"]) and name == "street" and not Path(root).expanduser().exists()
    return page, data, gr.update(visible=missing)


@show_errors
def generate_street(paths: AppPaths, root: str, progress: gr.Progress = _PROGRESS) -> str:
    """Generate the synthetic dataset in a folder that does not exist yet; answers with the folder."""
    limits.refuse_training()
    limits.require_readable(paths, root)
    folder = Path(root).expanduser()
    if not root.strip() or folder.exists():
        raise VKDError(f"'{root}' exists already, or is not a folder: name one that does not exist yet.")
    return str(generate.generate_street(folder, progress=gradio_progress(progress)))


@show_errors
def start(paths: AppPaths, settings: str, name: str) -> str:
    """Start a run and answer with its name; it continues without this page, and queues for the device.

    `settings` is the JSON of a settings.json (see `train_preset`); `name` may be empty (then it is made of
    date, dataset, backbone and stage) and is changed into a valid name.
    """
    limits.refuse_training()
    values = form.parse_json(settings)
    teacher = getattr(values, "teacher", None)
    limits.require_readable(paths, values.root, teacher, getattr(values, "start", None))
    rows, _ = dataset.summarise(values.dataset, str(values.root), values.cameras)
    if error := dataset.batch_error(rows, values.identities_per_batch):
        raise VKDError(error)
    if values.stage == "student":
        if teacher is None:
            raise VKDError("A student needs a teacher: train one first, or choose a checkpoint under Model.")
        checkpoint.read_config(teacher)
    return run_jobs.start(values, paths.checkpoints, name=slug(name or "") or None).name


@show_errors
def resume(paths: AppPaths, name: str) -> str:
    """Resume a run from its last save; answers with its name."""
    limits.refuse_training()
    return run_jobs.start(folder=runs.folder_of(paths.checkpoints, name)).name


@show_errors
def stop(paths: AppPaths, name: str) -> str:
    """Ask a run to save and stop after its current step; answers at once with its name."""
    limits.refuse_training()
    folder = runs.folder_of(paths.checkpoints, name)
    if not run_jobs.alive(folder):
        raise VKDError(f"{name} is not training: there is nothing to stop.")
    run_jobs.ask_to_stop(folder)
    return name


@show_errors
def delete(paths: AppPaths, name: str, again: str) -> str:
    """Delete a run's folder with its weights, permanently; `again` must repeat the name."""
    limits.refuse_training()
    folder = runs.folder_of(paths.checkpoints, name)
    if again != name:
        raise VKDError(f"Nothing was deleted: repeat the name {name} to delete it with its weights.")
    if run_jobs.alive(folder):
        raise VKDError(f"{name} is training: stop it first.")
    if runs.read_run(paths.checkpoints, name).imported:
        raise VKDError(
            f"{name} came with the app, and galleries were embedded with it: nothing was deleted. Remove the "
            f"folder {name} by hand to delete it."
        )
    shutil.rmtree(folder)
    return name
