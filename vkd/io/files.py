"""Atomic writing of files and folders, names of folders, and evenly spaced choices.

A file or a folder is made under a temporary name beside its target and renamed: it appears whole or not at
all. Temporary names contain their process, so that the leftovers of a killed one can be removed.
"""

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil

from vkd.io.errors import VKDError

T = TypeVar("T")

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_TEMPORARY = re.compile(r"\.(.+)\.([0-9a-f]{6})-(\d+)-(\d+)-[0-9a-f]{8}\.(tmp|old)")
_CLOCK_STEP = 500  # hundredths of a second by which a process's start time may seem to move with the clock


def process_token(pid: int | None = None) -> str:
    """Identifies a process (default: this one): host, id and start time, since an id alone is used again."""
    try:
        process = psutil.Process(pid)
        return f"{_HOST}-{process.pid}-{_started(process)}"
    except psutil.NoSuchProcess:
        return f"{_HOST}-{pid}-0"


def _started(process: psutil.Process) -> int:
    # Linux counts from the start of the machine, so that setting its clock ends no process in our eyes.
    since = psutil.boot_time() if psutil.LINUX else 0.0
    return round((process.create_time() - since) * 100)


def is_running(pid: int, started: int) -> bool:
    """True while the process with this id and start time (hundredths of a second) runs on this machine."""
    try:
        process = psutil.Process(pid)
        return abs(_started(process) - started) <= _CLOCK_STEP and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _temporary_path(path: Path, kind: str = "tmp") -> Path:
    return path.with_name(f".{path.name}.{process_token()}-{secrets.token_hex(4)}.{kind}")


def _replace(source: Path, target: Path) -> None:
    """Renames a file over another; on Windows it waits a little for processes that read the other."""
    for wait in (0.01, 0.05, 0.2, 0.5, 0.0):
        try:
            source.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or not wait:
                raise
            time.sleep(wait)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renamed to `path` at the end, removed if the body raises."""
    path = Path(path)
    temporary = _temporary_path(path)
    try:
        yield temporary
        _replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Writes a UTF-8 text file, line ends as given; returns `path`."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Writes a file; returns `path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


@contextmanager
def staging_dir(target: str | Path) -> Iterator[Path]:
    """Yields an empty folder beside `target`, to be filled and then renamed or handed to `replace_dir`.

    Removed at the end unless it was renamed. What killed processes left beside `target` is removed first.
    """
    target = Path(target)
    remove_leftovers(target.parent)
    folder = _temporary_path(target)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_dir(folder: Path, target: Path) -> None:
    """Renames `folder` to `target`; an older `target` is removed last, and stays if the renaming fails."""
    if not target.exists():
        folder.rename(target)
        return
    old = _temporary_path(target, "old")
    target.rename(old)
    try:
        folder.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(folder: str | Path) -> None:
    """Removes temporary files and folders of processes that no longer run on this machine.

    A folder that was moved aside by a process killed before it put the new one in place comes back.
    """
    with suppress(FileNotFoundError):
        for path in Path(folder).iterdir():
            match = _TEMPORARY.fullmatch(path.name)
            if match is None or match[2] != _HOST or is_running(int(match[3]), int(match[4])):
                continue
            with suppress(OSError):
                if match[5] == "old" and not os.path.lexists(path.with_name(match[1])):
                    path.rename(path.with_name(match[1]))
                elif path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def check_name(name: str, kind: str) -> str:
    """Returns `name` if it is a valid name of a folder (`NAME`). Raises VKDError otherwise."""
    if not NAME.fullmatch(name or ""):
        raise VKDError(
            f"'{name[:80]}' is not a valid name of a {kind}: use 1 to 64 lowercase letters, digits, '-' and "
            "'_', starting with a letter or digit."
        )
    return name


def slug(text: str, most: int = 64) -> str:
    """Turns free text into a valid name (`NAME`); '' where no letter or digit is left."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")[:most].rstrip("-_")


def is_lfs_pointer(data: bytes) -> bool:
    """True if a file begins as the small text that Git LFS leaves in place of a large file."""
    return data.startswith(b"version https://git-lfs.github.com/spec/")


def refuse_lfs_pointer(path: str | Path) -> None:
    """Raises VKDError for a file that is there by name only, after a clone without Git LFS."""
    if not Path(path).is_file():
        return
    with suppress(OSError), Path(path).open("rb") as file:
        if is_lfs_pointer(file.read(64)):
            raise VKDError(
                f"{path} is a Git LFS pointer, a small text in place of the file itself: install Git LFS and "
                "run 'git lfs pull' in its repository, or download the file by itself."
            )


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """Chooses at most `count` items, evenly spread from the first on."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]
