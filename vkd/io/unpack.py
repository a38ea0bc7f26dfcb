"""Archives from strangers: a zip of pictures is unpacked within limits, or refused. No torch here."""

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from vkd.io import archives
from vkd.io.archives import MOST_RATIO
from vkd.io.errors import VKDError

KEPT = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".csv", ".tsv")
MOST_FILES = 50_000
MOST_BYTES = 4 * 2**30


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
    name = archives.label(Path(archive).name)
    try:
        with Path(archive).open("rb") as file:
            content = archives.directory(file, MOST_FILES)
            total = 0
            for entry, parts in progress(_check(content, name)):
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as picture:
                    total += archives.copy(content, entry, picture, MOST_BYTES - total)
    except zipfile.BadZipFile as error:
        raise VKDError(f"{name} is not a zip file that can be read ({error}).") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise VKDError(f"{name} has two files or folders of one name: pack it again.") from None
    return _top(folder)


def _check(content: zipfile.ZipFile, name: str) -> list[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    """Every entry is looked at before the first is written."""
    kept = []
    for entry in content.infolist():
        parts = archives.parts(entry.filename)
        if parts is None:
            raise VKDError(f"{name} holds a file name that leads out of its folder: pack it again.")
        kind = PurePosixPath(parts[-1]).suffix.lower()
        if entry.is_dir() or archives.hidden(parts) or kind not in KEPT:
            continue
        if flaw := archives.flaw(entry):
            raise VKDError(
                f"{name}: {archives.label(parts[-1])} {flaw}; pack plain files, without a password."
            )
        kept.append((entry, parts))
    unpacked = sum(entry.file_size for entry, _ in kept)
    packed = sum(entry.compress_size for entry, _ in kept)
    if unpacked > MOST_BYTES:
        raise VKDError(f"{name} unpacks to more than {MOST_BYTES >> 30} GB.")
    if unpacked > archives.SMALL and unpacked > MOST_RATIO * packed:
        raise VKDError(
            f"{name} unpacks to more than {MOST_RATIO} times its size: that is no set of pictures."
        )
    if not kept:
        raise VKDError(f"{name} holds no pictures (jpg, png, webp, bmp, tif, gif).")
    return kept


def _top(folder: Path) -> Path:
    """Programs that pack a folder put the folder itself into the zip."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
