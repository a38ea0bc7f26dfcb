"""Gallery form of the Retrieve tab: builds a gallery from a dataset, a folder or a zip."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from markupsafe import Markup

from vkd.data.datasets import gallery_items
from vkd.io.archives import extract_images
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import check_name, slug
from vkd.jobs import background
from vkd.jobs.background import BackgroundJob
from vkd.models.checkpoint import Checkpoint
from vkd.retrieval.gallery import Gallery
from vkd.ui import components, limits, mode, state
from vkd.ui.components import QUIET
from vkd.ui.errors import message, show_errors
from vkd.ui.html import render
from vkd.ui.state import AppPaths

IN_DEMO = "building galleries is disabled"


def _key(paths: AppPaths) -> tuple[str, Path]:
    return "gallery", paths.checkpoints


@show_errors
def start(
    paths: AppPaths, folder: str, archive: str | None, name: str, teacher: str | None, student: str | None
) -> BackgroundJob:
    """Checks the request and starts the job. Raises VKDError for a bad or taken name, or while one runs."""
    limits.refuse(IN_DEMO)
    if bool(folder.strip()) == bool(archive):
        raise VKDError("Give either a folder on the server or a zip file.")
    source = Path(archive) if archive else Path(folder.strip()).expanduser()
    if not source.exists():
        raise MissingFileError(f"{source} does not exist: give the path of a folder on the server.")
    chosen = [one for one in dict.fromkeys((teacher, student)) if one]
    if not chosen:
        raise VKDError("No model is selected: choose a teacher or a student under 'Models and gallery'.")
    models = {one: state.load_model(state.checkpoint_folder(paths, one)) for one in chosen}
    name = check_name(name.strip() or f"{slug(source.stem, 56) or 'images'}-gallery", "gallery")
    target = paths.checkpoints / name
    running = background.current(_key(paths))
    if target.exists() and not (running is not None and running.state == "running"):
        raise VKDError(f"{name} exists already: choose another name.")
    return background.start(
        _key(paths), name, lambda job: _work(job, target, source, models, packed=bool(archive))
    )


def _work(
    job: BackgroundJob, target: Path, source: Path, models: Mapping[str, Checkpoint], *, packed: bool
) -> Gallery:
    with tempfile.TemporaryDirectory(prefix="vkd-gallery-") as work:
        root = source
        if packed:
            root = extract_images(source, Path(work), progress=job.progress, notes=job.notes)
        items, names = gallery_items(root, confined=packed, notes=job.notes)
        return Gallery.build(target, items, models, names=names, progress=job.progress)


def as_html(job: BackgroundJob) -> Markup:
    """Renders the state of the job, while it runs with a progress bar."""
    gallery: Gallery | None = job.result
    left = job.seconds_left()
    return render(
        "build.html.j2",
        job=job,
        items=len(gallery) if gallery else 0,
        skipped=[(Path(path).name, reason) for path, reason in gallery.skipped] if gallery else [],
        percent=round(100 * job.done / job.total) if job.total else 0,
        left=None if left is None else max(1, round(left)),
        error=Markup(message(VKDError(job.error))),
    )


def as_data(job: BackgroundJob) -> dict[str, Any]:
    """Returns the job as JSON."""
    gallery: Gallery | None = job.result
    return {
        "name": job.name,
        "state": job.state,
        "step": job.what,
        "done": job.done,
        "total": job.total,
        "items": len(gallery) if gallery else 0,
        "left_out": len(gallery.skipped) if gallery else 0,
        "error": job.error,
        "notes": list(job.notes),
    }


def build_gallery(
    paths: AppPaths, folder: str, archive: str | None, name: str, teacher: str | None, student: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Build a gallery that both models embed; it appears beside the checkpoints when it is complete.

    `folder` is the path of a dataset or of an image folder on the server (`<identity>/<camera>/*.jpg`,
    `<identity>/*.jpg`, or flat), or `archive` is a zip of such a folder. `name` may be empty. Answers again
    and again with the progress, at last with the state `done`, `cancelled` or `failed`; leaving does not end
    the work, `gallery_cancel` does.
    """
    yield from _watch(start(paths, folder or "", archive, name or "", teacher, student))


def _watch(job: BackgroundJob) -> Iterator[tuple[str, dict[str, Any]]]:
    for _ in job.ticks():
        yield as_html(job), as_data(job)
    yield as_html(job), as_data(job)


def watch_again(paths: AppPaths) -> Iterator[Any]:
    """Yields the progress to a page that is opened while a gallery is being built."""
    job = background.current(_key(paths))
    if job is None or job.state != "running":
        yield gr.skip(), gr.skip()
        return
    yield from _watch(job)


@show_errors
def cancel_gallery(paths: AppPaths, name: str = "") -> str:
    """Cancel building a gallery, by its name (empty: the one being built); nothing of it is saved."""
    limits.refuse(IN_DEMO)
    job, name = background.current(_key(paths)), (name or "").strip()
    if job is None or job.state != "running" or (name and job.name != name):
        raise VKDError(f"No gallery{f' named {name[:80]}' if name else ''} is being built.")
    job.cancel()
    return as_html(job)


def built_name(data: dict[str, Any] | None) -> Any:
    """Returns the update that selects the gallery that was just built."""
    return gr.update(value=data["name"]) if data and data.get("state") == "done" else gr.skip()


class Built(NamedTuple):
    """Outputs for the tab: the job as JSON, and the event of its end."""

    data: gr.JSON
    event: Any


def layout(paths_state: gr.State, teacher: gr.Dropdown, student: gr.Dropdown, opened: Sequence[Any]) -> Built:
    """Adds the form with its wiring."""
    with gr.Accordion("Build a gallery", open=False, elem_classes="vkd-maker", visible=not mode.DEMO):
        folder = gr.Textbox(
            value="",
            label="Dataset or image folder (server path)",
            info="Layouts: benchmark, id/camera/images, id/images, or flat",
            max_lines=1,
        )
        browser = components.folder_browser()
        archive = gr.File(label="…or a zip of such a folder", file_types=[".zip"], height=132)
        name = gr.Textbox(
            value="",
            label="Name (optional)",
            info="Visible to all users of this app",
            max_lines=1,
            placeholder="my-gallery",
        )
        with gr.Row():
            build = gr.Button("Build", variant="primary", size="sm")
            cancel = gr.Button("Cancel", size="sm", elem_classes="vkd-halt")
        status = gr.HTML(label="Progress")
        data = gr.JSON(visible=False, label="Job")
    components.wire_folder_browser(paths_state, browser, folder)
    event = build.click(
        build_gallery,
        [paths_state, folder, archive, name, teacher, student],
        [status, data],
        api_name="gallery_build",
        concurrency_limit=4,
        show_progress="hidden",
    )
    target = gr.Textbox(value="", visible=False, label="Name")
    cancel.click(
        cancel_gallery,
        [paths_state, target],
        status,
        api_name="gallery_cancel",
        queue=False,
        show_progress="hidden",
    )
    gr.on(opened, watch_again, paths_state, [status, data], concurrency_limit=8, **QUIET)
    return Built(data, event)
