"""Build a gallery in the app: from a data set, a folder or a zip, with progress and a way to stop."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vkd.io.errors import MissingFileError, VKDError
from vkd.ui import limits, mode
from vkd.ui import state as ui_state
from vkd.ui.errors import show_errors
from vkd.ui.html import escape
from vkd.ui.retrieve import gallery_jobs
from vkd.ui.retrieve.gallery_jobs import Job
from vkd.ui.state import AppPaths

TICK = 0.3  # seconds between two looks at a job


def as_html(job: Job | None) -> str:
    """How far the job is, in words and as a bar."""
    if job is None:
        return ""
    name = escape(job.name)
    if job.state == "done":
        left_out = ""
        if job.skipped:
            path, reason = job.skipped[0]
            left_out = f" {len(job.skipped)} left out, such as {escape(Path(path).name)}: {escape(reason)}"
        return f'<p class="vkd-built" role="status"><b>{name}</b> is ready: {job.items} items.{left_out}</p>'
    if job.state != "building":
        return f'<p class="vkd-why" role="status">{job.wrong}</p>'
    place = min(max(job.step, 0), len(job.steps) - 1)
    share = 100 * job.done / job.total if job.total else 0
    left = job.left()
    when = "" if left is None else f" · about {max(1, round(left))} s left in this step"
    stopping = "Stopping… " if job.stop.is_set() else ""
    return (
        f'<div class="vkd-build"><p>{stopping}<b>{name}</b>: {escape(job.steps[place])} '
        f"(step {place + 1} of {len(job.steps)}){when}</p>"
        f'<span class="vkd-bar" role="progressbar" aria-label="Building {name}" aria-valuenow="{share:.0f}">'
        f'<i style="width:{share:.0f}%"></i></span></div>'
    )


def as_data(job: Job) -> dict[str, Any]:
    """The job as JSON."""
    return {
        "name": job.name,
        "state": job.state,
        "step": job.steps[min(max(job.step, 0), len(job.steps) - 1)],
        "done": job.done,
        "total": job.total,
        "items": job.items,
        "left_out": len(job.skipped),
        "wrong": job.wrong,
    }


def _name_of(source: Path) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", source.stem.lower()).strip("-_")[:56] or "pictures"


@show_errors
def begin(
    paths: AppPaths, folder: str, archive: str | None, name: str, teacher: str | None, student: str | None
) -> Job:
    """Check what was asked for and start the job."""
    limits.refuse("it builds no galleries")
    if bool(folder.strip()) == bool(archive):
        raise VKDError("Give either a folder on the server's machine or a zip file.")
    source = Path(archive) if archive else Path(folder.strip()).expanduser()
    if not source.exists():
        raise MissingFileError(f"{source} does not exist: give the path of a folder on the server's machine.")
    chosen = [one for one in dict.fromkeys((teacher, student)) if one]
    if not chosen:
        raise VKDError("No network is chosen: pick a teacher or a student under 'Networks and gallery'.")
    networks = {one: ui_state.load_model(ui_state.checkpoint_folder(paths, one)) for one in chosen}
    return gallery_jobs.start(
        paths, name.strip() or f"{_name_of(source)}-gallery", source, networks, packed=bool(archive)
    )


def build_gallery(
    paths: AppPaths, folder: str, archive: str | None, name: str, teacher: str | None, student: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Build a gallery that both networks embed; it appears beside the checkpoints when it is complete.

    `folder` is the path of a data set or of a folder of pictures on the server's machine
    (`<identity>/<camera>/…`, `<identity>/…`, or pictures without any order), or `archive` is a zip of such a
    folder. `name` may be empty. Answers again and again with how far it is, at last with the state `done`,
    `cancelled` or `failed`; leaving does not end the work, `gallery_cancel` does.
    """
    job = begin(paths, folder or "", archive, name or "", teacher, student)
    yield from _watch(job)


def _watch(job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
    while job.state == "building":
        yield as_html(job), as_data(job)
        time.sleep(TICK)
    yield as_html(job), as_data(job)


def watch_again(paths: AppPaths) -> Iterator[Any]:
    """A page that is opened while a gallery is being built shows how far it is."""
    job = gallery_jobs.current(paths)
    if job is None or job.state != "building":
        yield gr.skip(), gr.skip()
        return
    yield from _watch(job)


@show_errors
def cancel_gallery(paths: AppPaths, name: str = "") -> str:
    """Stop building a gallery, by its name (empty: the one being built); nothing of it is kept."""
    limits.refuse("it builds no galleries")
    return as_html(gallery_jobs.cancel(paths, (name or "").strip()))


def built_name(data: dict[str, Any] | None) -> Any:
    """The gallery that was just built becomes the one that is searched."""
    if not data or data.get("state") != "done":
        return gr.skip()
    return gr.update(value=data["name"])


class Maker(NamedTuple):
    """What the Retrieve tab wires further: the JSON of the job."""

    data: gr.JSON
    built: Any


def layout(state: gr.State, first: gr.Dropdown, second: gr.Dropdown, opened: list[Any]) -> Maker:
    """The form, its buttons and their wiring."""
    shown = not mode.DEMO
    with gr.Accordion("Build a gallery", open=False, elem_classes="vkd-maker", visible=shown):
        folder = gr.Textbox(
            value="",
            label="Data set or folder of pictures",
            info="Path on the server's machine: a benchmark, <identity>/<camera>/…, <identity>/…, or flat",
            max_lines=1,
        )
        archive = gr.File(label="…or a zip of such a folder", file_types=[".zip"], height=132)
        name = gr.Textbox(
            value="",
            label="Name (optional)",
            info="Everybody who opens this app can search it",
            max_lines=1,
            placeholder="my-gallery",
        )
        with gr.Row():
            go = gr.Button("Build", variant="primary", size="sm")
            halt = gr.Button("Cancel", size="sm", elem_classes="vkd-halt")
        status = gr.HTML(label="Building")
        data = gr.JSON(visible=False, label="Job")
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    started = go.click(
        build_gallery, [state, folder, archive, name, first, second], [status, data],
        api_name="gallery_build", concurrency_limit=4, **quiet,
    )  # fmt: skip
    target = gr.Textbox(value="", visible=False, label="Name")
    halt.click(cancel_gallery, [state, target], status, api_name="gallery_cancel", queue=False, **quiet)
    gr.on(
        opened, watch_again, state, [status, data],
        api_visibility="private", concurrency_limit=8, **quiet,
    )  # fmt: skip
    return Maker(data, started)
