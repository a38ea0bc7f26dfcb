"""Folders of this machine to choose from: a data set's folder is found without typing its path."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vkd.data.datasets import DATASETS
from vkd.io.errors import VKDError
from vkd.ui import limits, state
from vkd.ui.html import escape
from vkd.ui.state import Places

MOST = 400  # folders shown; a folder of half a million people is no place to look for a data set
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_CLICKS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-path]');
  if (button) trigger('click', { folder: button.dataset.path }); // `path` would be taken for an upload
});
"""


def beginning(text: str) -> Path:
    """The folder to begin with: the one that is written in the field, or the nearest that is there."""
    folder = Path((text or "").strip() or ".").expanduser().absolute()
    return next(each for each in (folder, *folder.parents) if each == each.parent or _is_folder(each))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name, no right to look
        return False


@state.kindly
def list_folders(places: Places, path: str) -> tuple[str, str, dict[str, Any]]:
    """Folders inside a folder of the server's machine; hidden ones are left out.

    An empty path, or one that is not there, begins at the nearest folder that is. Answers with the page's
    HTML, the folder, and as data `folder`, `parent`, `folders` (names) and `kind` (the benchmark whose files
    lie in it, or '').
    """
    limits.refuse("it shows no folders")
    folder = beginning(path)
    try:
        names = sorted(
            (each.name for each in folder.iterdir() if not each.name.startswith(".") and each.is_dir()),
            key=str.lower,
        )
    except OSError as error:
        raise VKDError(f"{folder} cannot be opened: {(error.strerror or str(error)).lower()}.") from None
    data = {
        "folder": str(folder),
        "parent": str(folder.parent),
        "folders": names[:MOST],
        "kind": kind(folder),
    }
    return as_html(folder, names), str(folder), data


def kind(folder: Path) -> str:
    """The benchmark whose own files lie in a folder; '' for any other (`train`, `query` and `gallery` alone
    say nothing).
    """
    for key in ("street", "mars", "veri"):
        row = DATASETS[key]
        with suppress(OSError):
            if all((folder / mark).exists() for mark in row.marks):
                return row.title
    return ""


def as_html(folder: Path, names: list[str]) -> str:
    """Where one is, the way up, and a button for each folder; what looks like a data set says so."""
    up = "" if folder == folder.parent else _row(folder.parent, "↑ up", "")
    rows = [_row(folder / name, name, kind(folder / name)) for name in names[:MOST]]
    more = f"<li>{len(names) - MOST} more are not shown: write the path.</li>" if len(names) > MOST else ""
    none = "" if names else "<li>No folder in here.</li>"
    found = kind(folder)
    told = f" <b>{escape(found)}</b>" if found else ""
    return (
        f'<p class="vkd-browse-here" role="status">{escape(folder)}{told}</p>'
        f'<ul class="vkd-browse" aria-label="Folders">{up}{"".join(rows)}{more}{none}</ul>'
    )


def _row(folder: Path, name: str, what: str) -> str:
    chip = f"<b>{escape(what)}</b>" if what else ""
    return f'<li><button type="button" data-path="{escape(folder)}">{escape(name)}</button>{chip}</li>'


def _near(path: str) -> str:
    """A path as a person would type it here."""
    folder = Path(path)
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)


def clicked(event: gr.EventData) -> str:
    return str(event.folder)


class Browser(NamedTuple):
    """The components; `here` holds the folder that is shown."""

    opened: gr.Button
    panel: gr.Column
    listed: gr.HTML
    here: gr.Textbox
    use: gr.Button
    close: gr.Button


def layout() -> Browser:
    """A button, and the list that it opens."""
    opened = gr.Button("Choose a folder…", size="sm", elem_classes="vkd-browse-open", visible=not state.DEMO)
    with gr.Column(visible=False, elem_classes="vkd-browse-panel") as panel:
        listed = gr.HTML(js_on_load=_CLICKS)
        with gr.Row():
            use, close = (
                gr.Button("Use this folder", size="sm", variant="primary"),
                gr.Button("Close", size="sm"),
            )
    return Browser(opened, panel, listed, gr.Textbox(visible=False), use, close)


def wire(places: gr.State, browser: Browser, field: gr.Textbox) -> Any:
    """Events of the list; → the one after which `field` holds the folder that was chosen."""
    data, wanted = gr.JSON(visible=False), gr.Textbox(visible=False)
    shown = [browser.listed, browser.here, data]
    browser.opened.click(
        list_folders, [places, field], shown, api_name="train_folders", show_progress="hidden"
    ).success(lambda: gr.update(visible=True), None, browser.panel, **_QUIET)
    browser.listed.click(clicked, None, wanted, **_QUIET).success(
        list_folders, [places, wanted], shown, **_QUIET
    )
    browser.close.click(lambda: gr.update(visible=False), None, browser.panel, **_QUIET)
    return browser.use.click(
        lambda path: (_near(path), gr.update(visible=False)), browser.here, [field, browser.panel], **_QUIET
    )
