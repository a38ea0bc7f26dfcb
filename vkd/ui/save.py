"""What was found, as files to keep. They are written where Gradio keeps a visitor's files and cleans up."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from vkd.ui import limits, state


def keep(content: bytes, name: str) -> str:
    """The path under which these bytes can be downloaded as `name`."""
    return save_bytes_to_cache(content, name, get_upload_folder())


def button(
    label: str,
    write: Callable[..., str],
    inputs: Sequence[Any],
    *,
    api_name: str,
) -> gr.Button:
    """A button that has `write` make a file and then hands it to the browser."""
    shown = gr.Button(label, size="sm", variant="secondary")
    place = f"vkd-save-{api_name}"
    file = gr.DownloadButton(visible="hidden", elem_id=place)
    click = (
        f"() => setTimeout(() => {{ const place = document.getElementById('{place}');"
        " (place?.querySelector('a, button') ?? place)?.click(); }, 200)"
    )
    made = shown.click(write, list(inputs), file, api_name=api_name, **SHARED)
    made.success(None, None, None, js=click, api_visibility="private")
    return shown


SHARED: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}


def kindly(like: Callable[..., Any]) -> Callable[[Callable[..., tuple[bytes, str]]], Callable[..., str]]:
    """A function that answers with bytes and a file name → a callback that answers with the path.

    Programs know its arguments by the names that they have in `like`, whose arguments it takes.
    """

    def of(write: Callable[..., tuple[bytes, str]]) -> Callable[..., str]:
        @state.kindly
        @functools.wraps(write)
        def wrapper(*args: Any) -> str:
            return keep(*write(*args))

        callback, known = limits.limited(state.on_gpu(wrapper)), inspect.signature(like)
        callback.__dict__["__signature__"] = known.replace(return_annotation=str)
        callback.__annotations__ = {**like.__annotations__, "return": str}
        return callback

    return of
