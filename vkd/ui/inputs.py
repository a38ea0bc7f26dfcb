"""Query pictures: read from uploads, prepared for a network, or taken from the examples that ship."""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import torch

from vkd.data.transforms import prepare
from vkd.io.errors import VKDError
from vkd.io.images import read_image
from vkd.io.video import is_video, read_video
from vkd.models.checkpoint import Checkpoint
from vkd.ui import html, limits, mode
from vkd.ui.errors import show_errors
from vkd.ui.state import AppPaths, checkpoint_folder, default_pair, load_model

MAX_VIEWS = 64
VIDEO_VIEWS = 8
"""Frames that stand for a video clip."""
MAX_MEGABYTES = {"picture": 20, "video": 200}


class Example(NamedTuple):
    """A query that ships with the app and whose truth is known."""

    name: str
    files: tuple[Path, ...]
    identity: int
    camera: int


class Query(NamedTuple):
    """Uploaded pictures as read: uint8 (3, H, W) each, and their truth where they are known pictures."""

    pictures: list[torch.Tensor]
    identity: int | None
    camera: int | None
    masks: tuple[Path | None, ...] = ()
    """The subject's mask of each picture, where one lies beside the known pictures (`masks/<name>.png`)."""


def question(pictures: Sequence[Any] | None, *choices: Any) -> str:
    """What is asked, as text to compare: a page tells of one change more than once."""
    files = [str(entry[0] if isinstance(entry, list | tuple) else entry) for entry in pictures or []]
    return repr((files, choices))


def picture_files(value: Sequence[Any] | None, *, what: str = "picture") -> list[str]:
    """Paths out of a `gr.Gallery` value; refuses none and too many with a sentence."""
    files = [str(entry[0] if isinstance(entry, list | tuple) else entry) for entry in value or []]
    if not files:
        raise VKDError(f"There is no {what} yet: upload one or click an example.")
    most = limits.MAX_IMAGES if mode.DEMO else MAX_VIEWS
    if len(files) > most:
        raise VKDError(f"{len(files)} pictures are more than the {most} a query may have: remove some.")
    return files


def read_query(paths: AppPaths, files: Sequence[str]) -> Query:
    """Read the uploaded pictures and clips; look up their truth among the shipped examples by content."""
    truths = _truths(paths.queries)
    known, pictures = [], []
    for file in files:
        kind = "video" if is_video(file) else "picture"
        if Path(file).is_file() and Path(file).stat().st_size > MAX_MEGABYTES[kind] * 2**20:
            raise VKDError(f"The {kind} {file} has more than {MAX_MEGABYTES[kind]} MB: make it smaller.")
        if kind == "video":
            pictures += read_video(file, VIDEO_VIEWS)
            known.append(None)
        else:
            pictures.append(read_image(file))
            known.append(truths.get(hashlib.sha256(Path(file).read_bytes()).hexdigest()))
    identities = {truth[0] if truth else None for truth in known}
    cameras = {truth[1] if truth else None for truth in known}
    return Query(
        pictures,
        identities.pop() if len(identities) == 1 else None,
        cameras.pop() if len(cameras) == 1 else None,
        tuple(_mask(paths.queries, truth) for truth in known) if len(known) == len(pictures) else (),
    )


def _mask(folder: Path, truth: tuple[int, int, str] | None) -> Path | None:
    path = folder / "masks" / f"{Path(truth[2]).stem}.png" if truth else None
    return path if path is not None and path.is_file() else None


def embed(net: Checkpoint, pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """V pictures uint8 (3, H, W) of one subject → its embedding (D,), on the CPU."""
    with torch.inference_mode():
        return net.net.embed(clip(net, pictures))[0].cpu()


def clip(net: Checkpoint, pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """V pictures uint8 (3, H, W) → what this network eats (1, V, 3, H, W), on its device."""
    config = net.config
    images = prepare(pictures, size=config.image_size, mean=config.mean, std=config.std)
    return images[None].to(next(net.net.parameters()).device)


@functools.lru_cache(maxsize=8)
def _query_table(table: Path, changed: int) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(table.read_text(encoding="utf-8")))


def _rows(folder: Path) -> tuple[dict[str, Any], ...]:
    table = folder / "queries.json"
    return _query_table(table, table.stat().st_mtime_ns) if table.is_file() else ()


def examples(paths: AppPaths) -> dict[str, Example]:
    """Shipped queries by plain-text id: pictures of one identity by one camera form one example."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(paths.queries):
        grouped.setdefault(f"identity-{row['identity']}-camera-{row['camera']}", []).append(row)
    return {
        name: Example(
            name, tuple(paths.queries / row["file"] for row in rows), rows[0]["identity"], rows[0]["camera"]
        )
        for name, rows in grouped.items()
    }


def _truths(folder: Path) -> dict[str, tuple[int, int, str]]:
    table = folder / "queries.json"
    return _digests(table, table.stat().st_mtime_ns) if table.is_file() else {}


@functools.lru_cache(maxsize=8)
def _digests(table: Path, changed: int) -> dict[str, tuple[int, int, str]]:
    rows = _query_table(table, changed)
    files = [(table.parent / row["file"], row) for row in rows]
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): (row["identity"], row["camera"], path.name)
        for path, row in files
        if path.is_file()
    }


@show_errors
def example_pictures(paths: AppPaths, example: str) -> list[str]:
    """Pictures of a shipped example query, by its plain-text id (for instance `identity-12-camera-3`)."""
    known = examples(paths)
    if example not in known:
        raise VKDError(f"There is no example called '{example}'. Known: {', '.join(known) or 'none'}.")
    return [str(file) for file in known[example].files]


_CHOOSE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-example]');
  if (!button) return;
  element.querySelectorAll('button[data-example]').forEach((other) =>
    other.setAttribute('aria-pressed', String(other === button)));
  props.value = button.dataset.example;
  trigger('submit');
});
"""


def example_buttons(paths: AppPaths, *, limit: int = 8) -> gr.HTML:
    """Example queries as buttons; its value is the id of the one clicked, and a click triggers `submit`."""
    buttons = []
    for example in list(examples(paths).values())[:limit]:
        files = [file for file in example.files if file.is_file()]
        views = "".join(f'<img src="{html.file_uri(file)}" alt="">' for file in files[: html.STRIP_VIEWS])
        count = "1 picture" if len(files) == 1 else f"{len(files)} views"
        label = f"Example: {html.identity_label(example.identity, example.camera)}, {count}"
        buttons.append(
            f'<button type="button" data-example="{html.escape(example.name)}" aria-pressed="false" '
            f'aria-label="{html.escape(label)}"><span class="vkd-strip">{views}</span>'
            f"id {example.identity}<small>{count}</small></button>"
        )
    inside = "".join(buttons)
    template = (
        f'<p class="vkd-examples-title">…or click an example</p><div class="vkd-examples">{inside}</div>'
        if inside
        else ""
    )
    return gr.HTML(
        value="", html_template=template, js_on_load=_CHOOSE, label="Example", visible=bool(inside)
    )


def picture_input(label: str, *, height: int = 160) -> gr.Gallery:
    """Where one or more pictures are dropped, chosen, pasted or taken."""
    return gr.Gallery(
        label=label,
        type="filepath",
        file_types=["image", "video"],
        sources=["upload", "clipboard", "webcam"],
        columns=4,
        elem_classes="vkd-pictures",
        height=height,
        object_fit="contain",
        buttons=[],
        interactive=True,
        format="png",
    )


def warm(paths: AppPaths) -> None:
    """Load the first gallery and pair and embed a blank picture, so that the first visitor does not wait."""
    for name in default_pair(paths):
        if name is not None:
            net = load_model(checkpoint_folder(paths, name))
            if not mode.ZERO_GPU:  # there no GPU is lent to this process itself
                embed(net, [torch.zeros(3, *net.config.image_size, dtype=torch.uint8)])
