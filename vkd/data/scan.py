"""Walks through folders of images: what is read, and what is passed over and why. No torch here."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vkd.io.errors import VKDError
from vkd.io.formats import IMAGE_SUFFIXES, TABLE_SUFFIXES, is_ignored

OWN_OUTPUT = {
    "gallery.json": "thumbnails",
    "heatmaps.csv": "sheets",
    "heatmaps.json": "sheets",
    "events.jsonl": "probes",
    "training.pt": "probes",
    "probes.json": "",
    "look.json": "",
    "comparison.json": "",
    "asked.json": "",
    "street.json": "",
}
"""File that marks a folder written by this program → its sub-folder of images."""


@dataclass
class Omitted:
    """What a walk passed over: counts by kind, and paths."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Lowercase suffix → files of a kind that is not read."""
    example: str = ""
    own: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Returns a sentence for each reason."""
        out = []
        if self.kinds:
            kinds = ", ".join(
                f"{count} {kind or 'without suffix'}" for kind, count in self.kinds.most_common(8)
            )
            total = self.kinds.total()
            out.append(
                f"{_count(total, 'file')} of kinds that are not read: {kinds}; such as {self.example}."
            )
        for paths, reason in (
            (self.own, "written by vkd itself"),
            (self.special, "no regular file: a pipe, a device, a broken link or a link to a folder above"),
            (self.closed, "cannot be opened: check the permissions"),
        ):
            if paths:
                out.append(
                    f"{_count(len(paths), 'entry', 'entries')} passed over, {reason}; such as {paths[0]}."
                )
        return out


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def walk(folder: Path, omitted: Omitted | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yields each directory below `folder` with images, and their names, without a stat per file.

    Hidden and system entries, output of this program, and whatever is neither a file nor a folder are passed
    over. Raises VKDError for a name that is not UTF-8 and for a `folder` that cannot be opened.
    """
    omitted = omitted or Omitted()
    check_utf8(folder.as_posix())
    # Beside each directory the real paths through which links led to it: none of them may come again.
    directories: list[tuple[str, tuple[str, ...]]] = [(folder.as_posix(), ())]
    while directories:
        directory, chain = directories.pop()
        try:
            with os.scandir(directory) as entries:
                listed = [entry for entry in entries if not is_ignored(entry.name)]
        except OSError as error:
            if directory == folder.as_posix():
                raise VKDError(f"{directory} cannot be opened ({error.strerror}).") from None
            omitted.closed.append(directory)
            continue
        own = OWN_OUTPUT.keys() & {entry.name for entry in listed}
        if own and directory != folder.as_posix():
            omitted.own.append(directory)
            continue
        files: list[str] = []
        for entry in listed:
            path = f"{directory}/{entry.name}"
            if _is_folder(entry):
                if any(OWN_OUTPUT[mark] == entry.name for mark in own):
                    omitted.own.append(path)
                elif not entry.is_symlink():
                    check_utf8(path)
                    directories.append((path, chain))
                elif links := _follow(path, directory, chain):
                    directories.append((path, links))
                else:
                    omitted.special.append(path)
            elif not entry.name.lower().endswith(IMAGE_SUFFIXES):
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (a Path for each file is slow)
                table = suffix in TABLE_SUFFIXES and directory == folder.as_posix()  # its reader speaks of it
                if entry.name not in own and not table:
                    omitted.kinds[suffix] += 1
                    omitted.example = omitted.example or path.encode("utf-8", "replace").decode()
            elif _is_file(entry):
                check_utf8(path)
                files.append(entry.name)
            else:
                omitted.special.append(path)
        if files:
            yield directory, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into a loop
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _follow(link: str, directory: str, chain: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the chain of real paths with a link's target, () if the link leads back above itself."""
    target, here = os.path.realpath(link), os.path.realpath(directory)
    passed = (*chain, here)
    return () if any(f"{path}/".startswith(f"{target}/") for path in passed) else (*passed, target)


def check_utf8(path: str) -> None:
    """Raises VKDError for a path that is not UTF-8, as disks of older systems have them."""
    try:
        path if path.isascii() else path.encode()
    except UnicodeEncodeError:
        readable = path.encode("utf-8", "replace").decode()
        raise VKDError(
            f"The name of {readable} is not UTF-8: rename it ('convmv -r -f latin1 -t utf8' renames all "
            "below a folder)."
        ) from None


def child(folder: Path, name: str) -> Path:
    """Returns the entry of a folder with that name in any letter case, else its path as named."""
    if not (folder / name).exists() and folder.is_dir():
        return next((path for path in sorted(folder.iterdir()) if path.name.lower() == name), folder / name)
    return folder / name


def visible(folder: Path, suffixes: tuple[str, ...] = ()) -> list[Path]:
    """Returns the entries of a folder that are not hidden; with `suffixes` only the files that have one."""
    try:
        paths = sorted(path for path in folder.iterdir() if not is_ignored(path.name))
    except OSError as error:
        raise VKDError(f"{folder} cannot be opened ({error.strerror}).") from None
    return (
        [path for path in paths if path.suffix.lower() in suffixes and path.is_file()] if suffixes else paths
    )
