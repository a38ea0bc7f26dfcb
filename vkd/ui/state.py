"""What the tabs share: where things lie, cached networks and galleries, pickers, errors told kindly."""

import functools
import html
import logging
import os
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr
import torch
from gradio.context import Context

from vkd.io.errors import VKDError
from vkd.models import checkpoint
from vkd.models.checkpoint import Checkpoint
from vkd.retrieval import storage
from vkd.retrieval.gallery import Gallery
from vkd.retrieval.storage import Table
from vkd.ui.mode import ZERO_GPU, mode

LOG = logging.getLogger("vkd.app")
PACKAGE = Path(__file__).resolve().parents[1]

P = ParamSpec("P")
R = TypeVar("R")

DEMO, TRAINING, NOTES = mode(os.environ, torch.cuda.is_available)
"""DEMO, a public demo: handlers that would train or write refuse. TRAINING: its owner lets it train."""


def on_gpu(callback: Callable[P, R]) -> Callable[P, R]:
    """Let a callback that runs networks have the GPU of ZeroGPU while it runs; elsewhere the same callback.

    The package `spaces` is imported on ZeroGPU only. What may come under its name is our own folder of Space
    files, which has no `GPU`.
    """
    if not ZERO_GPU:
        return callback
    try:
        import spaces
    except ImportError:
        return callback
    lend = getattr(spaces, "GPU", None)
    return callback if lend is None else lend(callback)


@dataclass(frozen=True)
class Places:
    """Folders of the running app. They stay on the server (in a `gr.State`), never taken from a visitor."""

    checkpoints: Path
    gallery: Path
    queries: Path

    @property
    def data(self) -> Path:
        """Where data sets lie: `data`, beside the checkpoints."""
        return self.checkpoints.absolute().parent / "data"

    @classmethod
    def of(cls, checkpoints: Path, gallery: Path | None = None) -> "Places":
        """The shipped names inside `checkpoints`, or the gallery that was asked for."""
        return cls(checkpoints, gallery or checkpoints / "street-gallery", checkpoints / "street-queries")


# ---- errors


def _is_ours(error: BaseException) -> bool:
    """Whether the sentence was written by this package: then it is meant for a person."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and PACKAGE in Path(trace.tb_frame.f_code.co_filename).resolve().parents


def sentence(error: BaseException) -> str:
    """The error's text without the server's temporary folders, safe to show as HTML."""
    text = re.sub(re.escape(tempfile.gettempdir()) + r"[/\\]\S*[/\\]", "", str(error))
    return html.escape(text, quote=False)


def kindly(callback: Callable[P, R]) -> Callable[P, R]:
    """Show the library's ValueError or FileNotFoundError as its sentence, anything else as one calm sentence.

    A traceback never reaches the page; what is unknown is written to the server's log.
    """

    @functools.wraps(callback)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return callback(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            if isinstance(error, ValueError | FileNotFoundError) and _is_ours(error):
                raise gr.Error(sentence(error), title="That did not work", print_exception=False) from None
            LOG.exception("%s failed", getattr(callback, "__name__", "callback"))
            raise gr.Error(
                "Something went wrong on our side. The server's log has the details; please try again.",
                title="Sorry",
                print_exception=False,
            ) from None

    return wrapper


# ---- networks and galleries, kept in memory


class _Shelf:
    """The last few things loaded, keyed by folder and time of change; one loads, the others wait for it."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.items: OrderedDict[Hashable, Any] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        with self.lock:
            if key not in self.items:
                self.items[key] = load()
                while len(self.items) > self.places:
                    self.items.popitem(last=False)
            self.items.move_to_end(key)
            return self.items[key]


_NETWORKS, _GALLERIES, _CONTENTS, _CHECKED = _Shelf(4), _Shelf(4), _Shelf(16), _Shelf(64)


def _stamp(folder: Path) -> tuple[Hashable, ...]:
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors", ".faiss"))
    return (folder.resolve(), *((path.name, path.stat().st_mtime_ns) for path in files))


def device() -> str:
    """The accelerator where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def network(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, loaded once and kept until its files change."""
    return _NETWORKS.get(_stamp(folder), lambda: checkpoint.load(folder, device=device()))


def gallery(folder: Path) -> Gallery:
    """The gallery in `folder`, loaded once and kept until its files change."""
    return _GALLERIES.get(_stamp(folder), lambda: Gallery.load(folder))


def contents(folder: Path) -> Table:
    """What the gallery in `folder` holds, without its indexes: a page that lists galleries waits for none."""
    return _CONTENTS.get(_stamp(folder), lambda: storage.read(folder / "gallery.json"))


def network_of(places: Places, name: str, shelf: Gallery) -> Checkpoint:
    """A checkpoint by its plain name, checked once to be the one that embedded the gallery.

    Raises ValueError where the gallery was embedded by other weights: such similarities would mean nothing.
    """
    folder = checkpoint_folder(places, name)
    net = network(folder)
    _CHECKED.get((_stamp(folder), _stamp(shelf.folder)), lambda: shelf.check(name, net.net))
    return net


def _child(root: Path, name: str, kind: str) -> Path:
    """`root/name` for a plain name; anything that looks like a path is refused before the disk is touched."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name or ""):
        raise VKDError(f"'{name}' is not the name of a {kind}: choose one from the list.")
    return root / name


def checkpoint_folder(places: Places, name: str) -> Path:
    """Folder of a checkpoint by its plain name. Raises ValueError where there is none."""
    folder = _child(places.checkpoints, name, "checkpoint")
    if not (folder / "config.json").is_file():
        raise VKDError(
            f"There is no checkpoint called '{name}'. Known: {', '.join(checkpoints(places)) or 'none'}."
        )
    return folder


def gallery_folder(places: Places, name: str) -> Path:
    """Folder of a gallery by its plain name. Raises ValueError where there is none."""
    for folder in gallery_folders(places):
        if folder.name == name:
            return folder
    known = ", ".join(folder.name for folder in gallery_folders(places))
    if not known:
        raise VKDError("There is no gallery yet: build one under 'Build a gallery', or with `vkd index`.")
    raise VKDError(f"There is no gallery called '{name}'. Known: {known}.")


def checkpoints(places: Places, stage: str | None = None) -> list[str]:
    """Names of the checkpoints in the folder, newest first; of one stage where asked."""
    folders = checkpoint.find(places.checkpoints) if places.checkpoints.is_dir() else []
    return [
        folder.name for folder in folders if stage is None or checkpoint.read_config(folder).stage == stage
    ]


def gallery_folders(places: Places) -> list[Path]:
    """The gallery the app was opened with first, then the others beside the checkpoints."""
    found = sorted(path.parent for path in places.checkpoints.glob("[!.]*/gallery.json"))
    first = [places.gallery] if (places.gallery / "gallery.json").is_file() else []
    return first + [folder for folder in found if folder not in first]


def pair(places: Places) -> tuple[str | None, str | None]:
    """Teacher and student to start with: the gallery's own networks where it has them, else the newest."""
    folders = gallery_folders(places)
    indexed = contents(folders[0]).networks if folders else {}
    chosen = []
    for stage in ("teacher", "student"):
        names = checkpoints(places, stage)
        chosen.append(next((name for name in names if name in indexed), names[0] if names else None))
    return chosen[0], chosen[1]


def network_choice(places: Places, stage: str, value: str | None) -> gr.Dropdown:
    """A picker of checkpoints. Its value is a plain folder name: programs may send one that came later."""
    return gr.Dropdown(
        checkpoints(places),
        value=value,
        label=stage.capitalize(),
        allow_custom_value=True,
        info="Checkpoint folder",
    )


def cameras_of(places: Places, name: str) -> list[str]:
    """Cameras of a gallery as text, for a picker; none where there is no such gallery."""
    known = {folder.name: folder for folder in gallery_folders(places)}
    return [str(camera) for camera in contents(known[name]).known_cameras] if name in known else []


def opened() -> list[Any]:
    """When the tab that is being built comes into view: the page is opened, or the tab is chosen."""
    page, tab = Context.root_block, Context.block
    while tab is not None and not isinstance(tab, gr.Tab):
        tab = tab.parent
    return [part for part in (page and page.load, tab and tab.select) if part is not None]


def networks_again(places: Places, *chosen: str | None) -> list[Any]:
    """The pickers of teacher and student with the checkpoints that are there now; a choice that is gone
    becomes the pair's."""
    names = checkpoints(places)
    return [
        gr.update(choices=names)
        if one in names
        else gr.update(choices=names, value=other if other in names else None)
        for one, other in zip(chosen, pair(places), strict=True)
    ]


def endpoint(answer: Callable[..., Any], inputs: list[Any], outputs: list[Any], **options: Any) -> None:
    """Offer a function to programs; the page has its own way to the same answer."""
    gr.Button(visible=False).click(answer, inputs, outputs, **options)
