"""Archives from strangers: a zip of pictures is unpacked within limits, or refused. No torch here."""

import re
import stat
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

KEPT = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".csv", ".tsv")
MOST_FILES = 50_000
MOST_BYTES = 4 * 2**30
MOST_RATIO = 100
"""Unpacked over packed size; pictures are packed already and reach 1 to 3."""
_SMALL = 10 * 2**20  # below this the ratio does not matter: a plain grey PNG packs very well
_BLOCK = 1 << 20


def unpack(
    archive: str | Path, folder: Path, *, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> Path:
    """Write the pictures (and CSV tables) of a zip below the empty `folder`; what else is in it stays out.

    → the folder to read: where everything lies in one folder of the zip, that one. Sizes are counted while
    they are unpacked, because a zip may lie about them. The caller removes `folder`, also after a refusal.

    Raises:
        ValueError: not a zip, encrypted, a name that leaves the folder, a link, too many files, too much
            data, or data that is suspiciously well packed.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            kept = _check(content, Path(archive).name)
            total = 0
            for entry, parts in progress(kept):
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                total = _copy(content, entry, target, total)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zipfile.LargeZipFile) as error:
        raise ValueError(f"{Path(archive).name} is not a zip file that can be read ({error}).") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise ValueError(
            f"{Path(archive).name} has a file and a folder of one name: pack it again."
        ) from None
    return _top(folder)


def _check(content: zipfile.ZipFile, name: str) -> list[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    """Every entry is looked at before the first is written."""
    entries = content.infolist()
    if len(entries) > MOST_FILES:
        raise ValueError(f"{name} has {len(entries):,} files; at most {MOST_FILES:,} can be taken.")
    kept = []
    for entry in entries:
        parts = _parts(entry.filename, name)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{name} holds a link or a device ({parts[-1]}): pack plain files only.")
        if entry.flag_bits & 1:
            raise ValueError(f"{name} is protected by a password: pack it without one.")
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if not entry.is_dir() and not hidden and PurePosixPath(parts[-1]).suffix.lower() in KEPT:
            kept.append((entry, parts))
    unpacked = sum(entry.file_size for entry, _ in kept)
    packed = sum(entry.compress_size for entry, _ in kept)
    if unpacked > MOST_BYTES:
        raise ValueError(f"{name} unpacks to more than {MOST_BYTES >> 30} GB.")
    if unpacked > _SMALL and unpacked > MOST_RATIO * packed:
        raise ValueError(
            f"{name} unpacks to more than {MOST_RATIO} times its size: that is no set of pictures."
        )
    if not kept:
        raise ValueError(f"{name} holds no pictures (jpg, png, webp, bmp, tif, gif).")
    return kept


def _parts(path: str, name: str) -> tuple[str, ...]:
    """Folders and file name of an entry. A name that leaves the folder condemns the whole archive."""
    parts = tuple(part for part in path.rstrip("/").split("/") if part not in ("", "."))
    wrong = path.startswith("/") or "\\" in path or "\0" in path or re.match(r"[A-Za-z]:", path)
    if wrong or not parts or ".." in parts or any(len(part.encode()) > 255 for part in parts):
        raise ValueError(f"{name} holds a file name that leads out of its folder: pack it again.")
    return parts


def _copy(content: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, total: int) -> int:
    """→ bytes written so far, this file included."""
    size = 0
    with content.open(entry) as source, target.open("xb") as file:
        while block := source.read(_BLOCK):
            size += len(block)
            if total + size > MOST_BYTES or (size > _SMALL and size > MOST_RATIO * entry.compress_size):
                raise ValueError(f"{target.name} in the zip unpacks to far more than it says: refused.")
            file.write(block)
    return total + size


def _top(folder: Path) -> Path:
    """Programs that pack a folder put the folder itself into the zip."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
