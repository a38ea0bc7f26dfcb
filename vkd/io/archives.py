"""A stranger's zip: its directory and its files read within limits. No torch here.

Whatever such a zip provokes in the library that reads it comes out as one ``zipfile.BadZipFile``, whose words
complete a sentence of the caller's.
"""

import io
import os
import re
import stat
import zipfile
from pathlib import Path
from typing import IO

MOST_RATIO = 100
"""Unpacked over packed size; pictures and weights are packed already and reach 1 to 3."""
SMALL = 10 * 2**20  # below this the ratio does not matter: a plain grey PNG packs very well
BLOCK = 1 << 20
_BYTES_OF_A_NAME = 1024  # in the directory: an entry has 46 bytes, its name and what programs add
_ENTRY, _END = b"PK\x01\x02", b"PK\x05\x06"
_END64, _END64_BYTES, _LOCATOR, _LOCATOR_BYTES = b"PK\x06\x06", 56, b"PK\x06\x07", 20


def directory(file: IO[bytes], most: int) -> zipfile.ZipFile:
    """Open a zip of at most `most` entries, its directory weighed before it becomes objects in memory.

    Raises zipfile.BadZipFile for too many entries, files that overlap (one block of data that poses as
    many), and everything that is not a zip.
    """
    watched = _Watched(file, most)
    try:
        archive = zipfile.ZipFile(watched)  # pyright: ignore[reportArgumentType] (all that it uses is there)
    except zipfile.BadZipFile:
        raise
    except Exception as error:  # a wrong name, extra field or offset can trip it anywhere
        raise zipfile.BadZipFile(f"its directory is damaged, {type(error).__name__}") from None
    watched.opening = False
    if len(archive.infolist()) > most:
        raise zipfile.BadZipFile(_too_many(most))
    end = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise zipfile.BadZipFile("files in it overlap")
        end = entry.header_offset + 30 + entry.compress_size
    if end > archive.start_dir:
        raise zipfile.BadZipFile("files in it overlap its directory")
    return archive


def _too_many(most: int) -> str:
    return f"it lists more than {most:,} files; at most {most:,} can be taken"


class _Watched(io.RawIOBase):
    """The file under a ZipFile. While that opens, the directory's size is known before it is read."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.file = file
        self.most = most
        self.opening = True

    def read(self, size: int = -1) -> bytes:
        if self.opening and size > 2**16 + self.most * _BYTES_OF_A_NAME:
            raise zipfile.BadZipFile(_too_many(self.most))
        data = self.file.read(size)
        if self.opening and len(data) > 46 * self.most and data.count(_ENTRY) > self.most:
            raise zipfile.BadZipFile(_too_many(self.most))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def one_reading(file: IO[bytes], archive: zipfile.ZipFile) -> bool:
    """Whether every reader finds the same directory in this zip.

    Python takes the one that lies just before the end record, others (that of PyTorch) the one at the place
    which the record names. A file made for it shows each of them another content.
    """
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - 2**16 - 22))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        return False
    named = _number(tail, at + 16, 4)
    locator = at - _LOCATOR_BYTES
    if locator >= 0 and tail.startswith(_LOCATOR, locator):
        end64 = locator - _END64_BYTES
        if end64 < 0 or not tail.startswith(_END64, end64) or _number(tail, locator + 8, 8) != start + end64:
            return False
        named = _number(tail, end64 + 48, 8)
    return named == archive.start_dir


def _number(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little")


def parts(name: str) -> tuple[str, ...] | None:
    """Folders and file name of an entry, or None for a name that leads out of the archive's folder."""
    found = tuple(part for part in name.rstrip("/").split("/") if part not in ("", "."))
    wrong = name.startswith("/") or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    too_long = len(name) > _BYTES_OF_A_NAME or any(len(part.encode()) > 255 for part in found)
    return None if wrong or too_long or not found or ".." in found else found


def hidden(found: tuple[str, ...]) -> bool:
    """What a file manager leaves behind: never part of the content."""
    return any(part.startswith(".") or part == "__MACOSX" for part in found)


def flaw(entry: zipfile.ZipInfo) -> str | None:
    """Why an entry cannot be read, as the end of a sentence that begins with its name; or None."""
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & 1:
        return "is protected by a password"
    # Others unpack a block at a time, however much that gives, or ask for memory as they please.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that is not read here"
    if entry.file_size > SMALL and entry.file_size > MOST_RATIO * entry.compress_size:
        return f"unpacks to more than {MOST_RATIO} times its size"
    return None


def copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: IO[bytes], most: int) -> int:
    """Unpack one entry into an open file, counting: a zip may lie about its sizes. → bytes written.

    Raises zipfile.BadZipFile for damage and for more than `most` bytes; OSError if `target` cannot take them.
    """
    size = 0
    try:
        source = archive.open(entry)
    except Exception as error:
        raise zipfile.BadZipFile(_damage(error)) from None
    with source:
        while True:
            try:
                block = source.read(BLOCK)
            except Exception as error:
                raise zipfile.BadZipFile(_damage(error)) from None
            if not block:
                break
            size += len(block)
            if size > most or (size > SMALL and size > MOST_RATIO * entry.compress_size):
                raise zipfile.BadZipFile("it unpacks to far more than it says")
            target.write(block)
    if size != entry.file_size:
        raise zipfile.BadZipFile("it ends too early")
    return size


def _damage(error: Exception) -> str:
    words = str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
    return f"it is damaged, {''.join(letter if letter.isprintable() else '?' for letter in words)[:200]}"


def read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """The content of a small entry. Raises zipfile.BadZipFile as `copy` does."""
    target = io.BytesIO()
    copy(archive, entry, target, most)
    return target.getvalue()


def label(path: str | Path) -> str:
    """A name from outside for a sentence: nothing that moves the cursor or hides what follows."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(path))
