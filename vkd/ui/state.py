"""State of the running app: its folders, and cached checkpoints and galleries."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vkd.io.errors import VKDError
from vkd.models import checkpoint
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import resolve_device
from vkd.retrieval import storage
from vkd.retrieval.gallery import Gallery
from vkd.retrieval.storage import GalleryRecord


@dataclass(frozen=True)
class AppPaths:
    """Folders of the running app. They stay on the server (in a `gr.State`), never taken from a visitor."""

    checkpoints: Path
    gallery: Path
    queries: Path

    @property
    def data(self) -> Path:
        """Folder of the datasets: `data`, beside the checkpoints."""
        return self.checkpoints.absolute().parent / "data"

    @classmethod
    def of(cls, checkpoints: Path, gallery: Path | None = None) -> "AppPaths":
        """Builds the paths from the checkpoints folder and, optionally, a gallery to open with."""
        return cls(checkpoints, gallery or checkpoints / "street-gallery", checkpoints / "street-queries")


class LRUCache:
    """The `size` most recently used values; loading is serialised, so that nothing is loaded twice."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: OrderedDict[Hashable, Any] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """Returns the value of `key`, from `load()` where it is not cached."""
        with self.lock:
            if key not in self.items:
                self.items[key] = load()
                while len(self.items) > self.size:
                    self.items.popitem(last=False)
            self.items.move_to_end(key)
            return self.items[key]


_MODELS, _GALLERIES, _TABLES, _CHECKED = LRUCache(4), LRUCache(4), LRUCache(16), LRUCache(64)


def _stamp(folder: Path) -> tuple[Hashable, ...]:
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors", ".faiss"))
    return (folder.resolve(), *((path.name, path.stat().st_mtime_ns) for path in files))


def load_model(folder: Path) -> Checkpoint:
    """Loads the checkpoint in `folder`; cached until its files change."""
    return _MODELS.get(_stamp(folder), lambda: checkpoint.load(folder, device=resolve_device("auto")))


def load_gallery(folder: Path) -> Gallery:
    """Loads the gallery in `folder`; cached until its files change."""
    return _GALLERIES.get(_stamp(folder), lambda: Gallery.load(folder))


def gallery_table(folder: Path) -> GalleryRecord:
    """Loads the items of a gallery without its indexes, which is enough to list it."""
    return _TABLES.get(_stamp(folder), lambda: storage.read(folder / "gallery.json"))


def gallery_model(paths: AppPaths, name: str, gallery: Gallery) -> Checkpoint:
    """Loads a checkpoint by name and verifies (once) that it embedded the gallery.

    Raises VKDError where the gallery was embedded by other weights: such similarities would mean nothing.
    """
    folder = checkpoint_folder(paths, name)
    model = load_model(folder)
    _CHECKED.get((_stamp(folder), _stamp(gallery.folder)), lambda: gallery.check(name, model.net))
    return model


def checkpoint_folder(paths: AppPaths, name: str) -> Path:
    """Returns the folder of a checkpoint by its plain name. Raises VKDError where there is none."""
    # What looks like a path is refused before the disk is touched.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", str(name or "")):
        raise VKDError(f"'{str(name)[:80]}' is not the name of a checkpoint: choose one from the list.")
    folder = paths.checkpoints / name
    if not (folder / "config.json").is_file():
        available = ", ".join(checkpoints(paths)) or "none"
        raise VKDError(f"There is no checkpoint named '{name}'. Available: {available}.")
    return folder


def gallery_folder(paths: AppPaths, name: str) -> Path:
    """Returns the folder of a gallery by its plain name. Raises VKDError where there is none."""
    folders = {folder.name: folder for folder in gallery_folders(paths)}
    if not folders:
        raise VKDError("There is no gallery yet: build one under 'Build a gallery', or with `vkd index`.")
    if name not in folders:
        raise VKDError(f"There is no gallery named '{str(name)[:80]}'. Available: {', '.join(folders)}.")
    return folders[name]


def checkpoints(paths: AppPaths, stage: str | None = None) -> list[str]:
    """Returns the names of the checkpoints, newest first; of one stage where given."""
    folders = checkpoint.find(paths.checkpoints) if paths.checkpoints.is_dir() else []
    return [
        folder.name for folder in folders if stage is None or checkpoint.read_config(folder).stage == stage
    ]


def gallery_folders(paths: AppPaths) -> list[Path]:
    """Returns the gallery the app was opened with first, then the others beside the checkpoints."""
    folders = sorted(path.parent for path in paths.checkpoints.glob("[!.]*/gallery.json"))
    first = [paths.gallery] if (paths.gallery / "gallery.json").is_file() else []
    return first + [folder for folder in folders if folder not in first]


def default_pair(paths: AppPaths) -> tuple[str | None, str | None]:
    """Returns the teacher and student to start with: the gallery's own where it has them, else the newest."""
    folders = gallery_folders(paths)
    indexed = gallery_table(folders[0]).networks if folders else {}
    pair = []
    for stage in ("teacher", "student"):
        names = checkpoints(paths, stage)
        pair.append(next((name for name in names if name in indexed), names[0] if names else None))
    return pair[0], pair[1]


def gallery_cameras(paths: AppPaths, name: str) -> list[str]:
    """Returns the cameras of a gallery as text, for a picker; none where there is no such gallery."""
    folders = {folder.name: folder for folder in gallery_folders(paths)}
    return [str(camera) for camera in gallery_table(folders[name]).cameras_present] if name in folders else []
