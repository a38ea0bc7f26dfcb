"""Components that tabs share: header, model pickers, save buttons, and a browser of the server's folders."""

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from vkd.data.datasets import DATASETS, detect
from vkd.io.errors import VKDError
from vkd.io.progress import Progress
from vkd.ui import limits, mode
from vkd.ui.errors import show_errors
from vkd.ui.html import render
from vkd.ui.state import AppPaths, checkpoints, default_pair

HIDDEN: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = {**HIDDEN, "show_progress": "hidden"}
"""Options of events that only the page fires, and that show no progress."""

SHARED: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}
"""Options of events that run models: one at a time in the whole app."""


def header() -> None:
    """Adds the page's header; on a Space with a button that duplicates it."""
    page = render("header.html.j2")
    if not (mode.DEMO and os.environ.get("SPACE_ID")):
        gr.HTML(page)
        return
    with gr.Row(elem_classes="vkd-top"):
        gr.HTML(page)
        gr.DuplicateButton("Duplicate this Space", elem_classes="vkd-duplicate")


def demo_note(sentence: str) -> None:
    """Adds a note in a public demo, in place of what a tab does not do there; nothing elsewhere."""
    if mode.DEMO:
        gr.HTML(render("note.html.j2", text=sentence))


def endpoint(answer: Callable[..., Any], inputs: list[Any], outputs: list[Any], **options: Any) -> None:
    """Offers a function to programs only; the page has its own way to the same answer."""
    gr.Button(visible=False).click(answer, inputs, outputs, **options)


_TICK = """
const timer = setInterval(() => {
  if (!element.isConnected) clearInterval(timer);
  else if (element.offsetParent && !document.hidden) trigger('click');
}, 2000);
"""


def ticker() -> gr.HTML:
    """Adds an invisible component that clicks every 2 s, only while its tab and the window are in view.

    A `gr.Timer` would continue after its tab was left.
    """
    return gr.HTML(value=" ", html_template="<span></span>", js_on_load=_TICK, elem_classes="vkd-ticker")


def gradio_progress(bar: gr.Progress) -> Progress:
    """Returns the progress callback of the library that moves Gradio's progress bar."""

    def progress(done: int, total: int, what: str) -> None:
        bar((done, total), desc=what)

    return progress


# ---- models


def model_dropdown(paths: AppPaths, stage: str, value: str | None) -> gr.Dropdown:
    """Builds a picker of checkpoints. Its value is a folder name: programs may send one that came later."""
    return gr.Dropdown(checkpoints(paths), value=value, label=stage.capitalize(), allow_custom_value=True)


def refresh_models(paths: AppPaths, *chosen: str | None) -> list[Any]:
    """Returns updates of the pickers of teacher and student with the checkpoints that are there now.

    A choice that is gone becomes the default pair's.
    """
    names = checkpoints(paths)
    return [
        gr.update(choices=names)
        if one in names
        else gr.update(choices=names, value=other if other in names else None)
        for one, other in zip(chosen, default_pair(paths), strict=True)
    ]


# ---- downloads, written where Gradio keeps a visitor's files and cleans up


def download_path(content: bytes, name: str) -> str:
    """Writes bytes to where the browser can download them as `name`; returns the path."""
    return save_bytes_to_cache(content, name, get_upload_folder())


def save_button(label: str, write: Callable[..., str], inputs: Sequence[Any], *, api_name: str) -> gr.Button:
    """Adds a button that has `write` make a file and then hands it to the browser."""
    button = gr.Button(label, size="sm", variant="secondary")
    element = f"vkd-save-{api_name}"
    file = gr.DownloadButton(visible="hidden", elem_id=element)
    click = (
        f"() => setTimeout(() => {{ const button = document.getElementById('{element}');"
        " (button?.querySelector('a, button') ?? button)?.click(); }, 200)"
    )
    written = button.click(write, list(inputs), file, api_name=api_name, **SHARED)
    written.success(None, None, None, js=click, api_visibility="private")
    return button


def downloads(like: Callable[..., Any]) -> Callable[[Callable[..., tuple[bytes, str]]], Callable[..., str]]:
    """Turns a function that returns bytes and a file name into a callback that returns a path.

    It takes the arguments of `like`, under the same names.
    """

    def decorate(write: Callable[..., tuple[bytes, str]]) -> Callable[..., str]:
        @show_errors
        @functools.wraps(write)
        def wrapper(*args: Any) -> str:
            return download_path(*write(*args))

        callback, signature = limits.rate_limited(mode.on_gpu(wrapper)), inspect.signature(like)
        callback.__dict__["__signature__"] = signature.replace(return_annotation=str)
        callback.__annotations__ = {**like.__annotations__, "return": str}
        return callback

    return decorate


# ---- folders of the server


MAX_FOLDERS = 400  # a folder of half a million identities is no dataset's parent
_CLICKS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-path]');
  if (button) trigger('click', { folder: button.dataset.path }); // `path` would be taken for an upload
});
"""


def nearest_folder(text: str) -> Path:
    """Returns the folder that is written in the field, or its nearest ancestor that exists."""
    folder = Path((text or "").strip() or ".").expanduser().absolute()
    return next(each for each in (folder, *folder.parents) if each == each.parent or _is_folder(each))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name, or no permission
        return False


@show_errors
def list_folders(paths: AppPaths, path: str) -> tuple[str, str, dict[str, Any]]:
    """List the folders inside a folder of the server's machine; hidden ones are left out.

    An empty path, or one that does not exist, begins at the nearest folder that does. Answers with the page's
    HTML, the folder, and as data `folder`, `parent`, `folders` (names) and `kind` (the benchmark whose files
    lie in it, or '').
    """
    limits.refuse("browsing folders is disabled")
    folder = nearest_folder(path)
    try:
        names = sorted(
            (each.name for each in folder.iterdir() if not each.name.startswith(".") and each.is_dir()),
            key=str.lower,
        )
    except OSError as error:
        raise VKDError(f"{folder} cannot be opened: {(error.strerror or str(error)).lower()}.") from None
    listed, dataset = names[:MAX_FOLDERS], dataset_title(folder)
    page = render(
        "folders.html.j2",
        folder=folder,
        dataset=dataset,
        parent="" if folder == folder.parent else folder.parent,
        folders=[(folder / name, name, dataset_title(folder / name)) for name in listed],
        omitted=len(names) - len(listed),
    )
    data = {"folder": str(folder), "parent": str(folder.parent), "folders": listed, "kind": dataset}
    return page, str(folder), data


def dataset_title(folder: Path) -> str:
    """Returns the title of the dataset whose own files lie in a folder; '' for any other."""
    with suppress(OSError):
        if key := detect(folder):
            return DATASETS[key].title
    return ""


def relative_path(path: str) -> str:
    """Returns a path as a person would type it here."""
    folder = Path(path)
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)


def _clicked(event: gr.EventData) -> str:
    return str(event.folder)


class FolderBrowser(NamedTuple):
    """Components of the folder browser; `folder` holds the folder that is listed."""

    opened: gr.Button
    panel: gr.Column
    listing: gr.HTML
    folder: gr.Textbox
    use: gr.Button
    close: gr.Button


def folder_browser() -> FolderBrowser:
    """Adds a button and the list of folders that it opens."""
    opened = gr.Button("Choose a folder…", size="sm", elem_classes="vkd-browse-open", visible=not mode.DEMO)
    with gr.Column(visible=False, elem_classes="vkd-browse-panel") as panel:
        listing = gr.HTML(js_on_load=_CLICKS)
        with gr.Row():
            use = gr.Button("Use this folder", size="sm", variant="primary")
            close = gr.Button("Close", size="sm")
    return FolderBrowser(opened, panel, listing, gr.Textbox(visible=False), use, close)


def wire_folder_browser(
    paths: gr.State, browser: FolderBrowser, field: gr.Textbox, *, api_name: str | None = None
) -> Any:
    """Wires the browser to `field`; returns the event after which the field holds the chosen folder."""
    data, clicked = gr.JSON(visible=False), gr.Textbox(visible=False)
    listed = [browser.listing, browser.folder, data]
    opens: dict[str, Any] = {"api_name": api_name, "show_progress": "hidden"} if api_name else QUIET
    browser.opened.click(list_folders, [paths, field], listed, **opens).success(
        lambda: gr.update(visible=True), None, browser.panel, **QUIET
    )
    browser.listing.click(_clicked, None, clicked, **QUIET).success(
        list_folders, [paths, clicked], listed, **QUIET
    )
    browser.close.click(lambda: gr.update(visible=False), None, browser.panel, **QUIET)
    return browser.use.click(
        lambda path: (relative_path(path), gr.update(visible=False)),
        browser.folder,
        [field, browser.panel],
        **QUIET,
    )
