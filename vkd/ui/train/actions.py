"""What the Train tab does: read a data set; start, resume, stop, delete a run. A public demo does nothing."""

import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from vkd.io.errors import VKDError
from vkd.jobs import runs
from vkd.models import checkpoint
from vkd.synthetic import generate
from vkd.ui import dataset, limits
from vkd.ui.errors import show_errors
from vkd.ui.state import AppPaths
from vkd.ui.train import form
from vkd.ui.train import runs as train_runs

_PROGRESS = gr.Progress()


def show_data(paths: AppPaths, name: str, root: str, cameras: str) -> tuple[str, dict[str, Any], Any]:
    """Read a data set and show its summary: a row for each split, and what to mind.

    `name` is a key of the data sets or `auto`, `root` its folder on the server's machine, `cameras` is `auto`
    or `none` (a plain folder without camera labels). As data: `rows`, `notes`, and `wrong` with the reader's
    sentence.
    """
    limits.refuse_training()
    try:
        limits.require_readable(paths, root)
        rows, notes = dataset.check(name, root, cameras)
    except (ValueError, OSError) as error:
        offered = gr.update(visible=name == "street" and not Path(root).expanduser().exists())
        return dataset.wrong_html(str(error)), {"rows": [], "notes": [], "wrong": str(error)}, offered
    return dataset.as_html(rows, notes), {"rows": rows, "notes": notes, "wrong": ""}, gr.update(visible=False)


@show_errors
def render_street(paths: AppPaths, root: str, progress: gr.Progress = _PROGRESS) -> str:
    """Write the synthetic street into a folder that does not exist yet; answers with the folder."""
    limits.refuse_training()
    limits.require_readable(paths, root)
    folder = Path(root).expanduser()
    if not root.strip() or folder.exists():
        raise VKDError(f"'{root}' exists already, or is no folder: name one that does not exist yet.")
    return str(
        generate.generate_street(
            folder, progress=lambda done, total, what: progress((done, total), desc=what)
        )
    )


@show_errors
def start(paths: AppPaths, settings: str, name: str) -> str:
    """Start a run and answer with its name; it goes on without this page, and waits while the device is
    taken.

    `settings` is the JSON of a settings.json (see `train_preset`); `name` may be empty (then it is made of
    date, data set, network and stage).
    """
    limits.refuse_training()
    asked = form.parse_text(settings)
    teacher = getattr(asked, "teacher", None)
    limits.require_readable(paths, asked.root, teacher, getattr(asked, "start", None))
    rows, _ = dataset.check(asked.dataset, str(asked.root), asked.cameras)
    if sentence := dataset.against(rows, asked.identities_per_batch):
        raise VKDError(sentence)
    if asked.stage == "student":
        if teacher is None:
            raise VKDError(
                "A student needs a teacher: train one first, or choose a checkpoint under Network."
            )
        checkpoint.read_config(teacher)
    return runs.start(asked, paths.checkpoints, name=(name or "").strip() or None).name


@show_errors
def resume(paths: AppPaths, name: str) -> str:
    """Go on with a run where it was saved last; answers with its name."""
    limits.refuse_training()
    return runs.start(folder=train_runs.folder_of(paths.checkpoints, name)).name


@show_errors
def stop(paths: AppPaths, name: str) -> str:
    """Ask a run to save and stop; answers at once with its name, the run follows after its current step."""
    limits.refuse_training()
    folder = train_runs.folder_of(paths.checkpoints, name)
    if not runs.alive(folder):
        raise VKDError(f"{name} is not training: there is nothing to stop.")
    runs.ask_to_stop(folder)
    return name


@show_errors
def delete(paths: AppPaths, name: str, again: str) -> str:
    """Delete a run's folder with its weights, for good; `again` must repeat the name."""
    limits.refuse_training()
    folder = train_runs.folder_of(paths.checkpoints, name)
    if again != name:
        raise VKDError(f"Nothing was deleted: repeat the name {name} to delete it with its weights.")
    if runs.alive(folder):
        raise VKDError(f"{name} is training: stop it first.")
    if runs.is_record(folder):
        raise VKDError(
            f"{name} came with the app, and so did galleries that were embedded by it: nothing was deleted. "
            f"Remove the folder {name} by hand if you mean it."
        )
    shutil.rmtree(folder)
    return name
