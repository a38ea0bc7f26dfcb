"""Query images: read from uploads, or taken from the bundled examples."""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from vkd.io.errors import VKDError
from vkd.io.images import read_image
from vkd.io.video import is_video, read_video
from vkd.models.checkpoint import Checkpoint
from vkd.ui import limits, mode
from vkd.ui.errors import show_errors
from vkd.ui.html import STRIP_VIEWS, file_uri, identity_label, render
from vkd.ui.state import AppPaths, checkpoint_folder, default_pair, load_model

MAX_VIEWS = 64
VIDEO_VIEWS = 8
"""Frames that represent a video."""
MAX_MEGABYTES = {"image": 20, "video": 200}


class Example(NamedTuple):
    """A bundled query, whose identity is known."""

    name: str
    files: tuple[Path, ...]
    identity: int
    camera: int


class Query(NamedTuple):
    """Images of one subject, uint8 (3, H, W) each; identity and camera where they are bundled examples."""

    images: list[Tensor]
    identity: int | None
    camera: int | None
    masks: tuple[Path | None, ...] = ()
    """The person mask of each image, where one lies beside the examples (`masks/<name>.png`)."""

    @property
    def arrays(self) -> list[np.ndarray]:
        """The images as uint8 (H, W, 3)."""
        return [image.permute(1, 2, 0).contiguous().numpy() for image in self.images]


def image_files(value: Sequence[Any] | None, *, what: str = "image") -> list[str]:
    """Returns the paths of a `gr.Gallery` value. Raises VKDError for none and for too many."""
    files = [str(entry[0] if isinstance(entry, list | tuple) else entry) for entry in value or []]
    if not files:
        raise VKDError(f"There is no {what} yet: upload one or click an example.")
    most = limits.MAX_IMAGES if mode.DEMO else MAX_VIEWS
    if len(files) > most:
        raise VKDError(f"A query has at most {most} images, not {len(files)}: remove some.")
    return files


def read_query(paths: AppPaths, files: Sequence[str]) -> Query:
    """Reads uploaded images and videos; an image of an example has its identity, looked up by content."""
    rows = _example_rows(paths.queries)
    images: list[Tensor] = []
    matches: list[dict[str, Any] | None] = []
    for file in files:
        kind = "video" if is_video(file) else "image"
        if Path(file).is_file() and Path(file).stat().st_size > MAX_MEGABYTES[kind] * 2**20:
            raise VKDError(f"The {kind} {file} has more than {MAX_MEGABYTES[kind]} MB: make it smaller.")
        if kind == "video":
            frames = read_video(file, VIDEO_VIEWS)
            images += frames
            matches += [None] * len(frames)
        else:
            images.append(read_image(file))
            matches.append(rows.get(_sha256(file)))
    identities = {row["identity"] if row else None for row in matches}
    cameras = {row["camera"] if row else None for row in matches}
    return Query(
        images,
        identities.pop() if len(identities) == 1 else None,
        cameras.pop() if len(cameras) == 1 else None,
        tuple(_mask(paths.queries, row) for row in matches),
    )


def _mask(folder: Path, row: dict[str, Any] | None) -> Path | None:
    path = folder / "masks" / f"{Path(row['file']).stem}.png" if row else None
    return path if path is not None and path.is_file() else None


# ---- examples


@functools.lru_cache(maxsize=8)
def _read_table(table: Path, changed: int) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(table.read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=8)
def _by_digest(table: Path, changed: int) -> dict[str, dict[str, Any]]:
    files = [(table.parent / row["file"], row) for row in _read_table(table, changed)]
    return {_sha256(path): row for path, row in files if path.is_file()}


def _sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _example_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the rows of `queries.json` (file, identity, camera) by the sha256 of the file."""
    table = folder / "queries.json"
    return _by_digest(table, table.stat().st_mtime_ns) if table.is_file() else {}


def _example_name(row: dict[str, Any]) -> str:
    return f"identity-{row['identity']}-camera-{row['camera']}"


def examples(paths: AppPaths) -> dict[str, Example]:
    """Returns the bundled queries by name: images of one identity by one camera form one example."""
    table = paths.queries / "queries.json"
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in _read_table(table, table.stat().st_mtime_ns) if table.is_file() else ():
        grouped.setdefault(_example_name(row), []).append(row)
    return {
        name: Example(
            name, tuple(paths.queries / row["file"] for row in rows), rows[0]["identity"], rows[0]["camera"]
        )
        for name, rows in grouped.items()
    }


@show_errors
def example_images(paths: AppPaths, example: str) -> list[str]:
    """Images of a bundled query, by its name (for instance `identity-12-camera-3`)."""
    bundled = examples(paths)
    if example not in bundled:
        available = ", ".join(bundled) or "none"
        raise VKDError(f"There is no example named '{str(example)[:80]}'. Available: {available}.")
    return [str(file) for file in bundled[example].files]


def example_of(paths: AppPaths, value: Sequence[Any] | None) -> str:
    """Returns the example whose images are in the form; "" for other images and for none."""
    files = [Path(str(entry[0] if isinstance(entry, list | tuple) else entry)) for entry in value or []]
    if not files or not all(file.is_file() for file in files):
        return ""
    rows = _example_rows(paths.queries)
    # A large upload is no example: it need not be read to know that.
    rows_of_files = [rows.get(_sha256(file)) if file.stat().st_size < 2**20 else None for file in files]
    names = {_example_name(row) if row else "" for row in rows_of_files}
    name = names.pop() if len(names) == 1 else ""
    return name if name and len(files) == len(examples(paths)[name].files) else ""


# The button of the example whose images are in the form is pressed; `watch` follows uploads and Clear.
# An enlarged image of the query before is closed: Gradio's gallery would enlarge the new one.
_EXAMPLES_SCRIPT = """
const press = (name) => element.querySelectorAll('button[data-example]').forEach((button) =>
  button.setAttribute('aria-pressed', String(button.dataset.example === name)));
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-example]');
  if (!button) return;
  element.closest('.vkd-form')?.querySelectorAll('.vkd-images .preview button[aria-label="Close"]')
    .forEach((close) => close.click());
  props.value = button.dataset.example;
  press(props.value);
  trigger('submit');
});
watch('value', () => requestAnimationFrame(() => press(props.value)));
"""


def example_buttons(paths: AppPaths, images: gr.Gallery, *, limit: int = 8) -> gr.HTML:
    """Adds the bundled queries as buttons; the value is the name of the one clicked, which fires `submit`.

    The button whose images are no longer in `images` is released.
    """
    buttons = []
    for example in list(examples(paths).values())[:limit]:
        files = [file for file in example.files if file.is_file()]
        buttons.append(
            {
                "name": example.name,
                "identity": example.identity,
                "label": identity_label(example.identity, example.camera),
                "images": [file_uri(file) for file in files[:STRIP_VIEWS]],
                "kind": "image" if len(files) == 1 else f"tracklet ({len(files)} frames)",
            }
        )
    template = render("examples.html.j2", examples=buttons)
    chosen = gr.HTML(
        value="", html_template=template, js_on_load=_EXAMPLES_SCRIPT, label="Example", visible=bool(buttons)
    )
    images.change(
        functools.partial(example_of, paths), images, chosen, api_visibility="private", show_progress="hidden"
    )
    return chosen


def image_input(label: str, *, height: int = 160) -> gr.Gallery:
    """Adds the field where images are dropped, chosen, pasted or taken."""
    return gr.Gallery(
        label=label,
        type="filepath",
        file_types=["image", "video"],
        sources=["upload", "clipboard", "webcam"],
        columns=4,
        elem_classes="vkd-images",
        height=height,
        object_fit="contain",
        buttons=[],
        interactive=True,
        format="png",
    )


def warm(paths: AppPaths) -> None:
    """Loads the default pair and embeds a blank image, so that the first visitor does not wait."""
    for name in default_pair(paths):
        if name is not None:
            model = load_model(checkpoint_folder(paths, name))
            if not mode.ZERO_GPU:  # there no GPU is lent to this process itself
                model.embed([blank(model)])


def blank(model: Checkpoint) -> Tensor:
    """Returns a black image of the model's size, uint8 (3, H, W)."""
    return torch.zeros(3, *model.config.image_size, dtype=torch.uint8)
