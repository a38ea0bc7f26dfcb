"""Safe reading of untrusted zip archives (entry count, size and compression-ratio limits)."""

import io
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from vkd.io.errors import VKDError
from vkd.io.files import refuse_lfs_pointer
from vkd.io.formats import IMAGE_SUFFIXES, TABLE_SUFFIXES, is_ignored
from vkd.io.progress import Progress, silent, track

MAX_FILES = 50_000
MAX_BYTES = 4 * 2**30
MAX_RATIO = 100
"""Unpacked over packed size; images and weights are packed already and reach 1 to 3."""
RATIO_FREE = 10 * 2**20  # bytes below which the ratio does not matter: a plain grey PNG packs very well
_ENTRY, _ENTRY_BYTES = b"PK\x01\x02", 1024  # in the directory: 46 bytes, the name and what programs add


class _Directory(io.RawIOBase):
    """File under a ZipFile while that reads its directory: checked before it becomes objects in memory."""

    def __init__(self, file: IO[bytes], max_files: int) -> None:
        self.file, self.max_files = file, max_files
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        fits = size <= 2**16 + self.max_files * _ENTRY_BYTES
        data = self.file.read(size) if fits else b""
        if not fits or (len(data) > 46 * self.max_files and data.count(_ENTRY) > self.max_files):
            raise zipfile.BadZipFile(f"it has more than {self.max_files:,} files")
        return data

    def seekable(self) -> bool:
        return True


def open_zip(file: IO[bytes], max_files: int = MAX_FILES) -> zipfile.ZipFile:
    """Opens a zip. Raises zipfile.BadZipFile for damage, too many entries and entries that overlap."""
    try:
        archive = zipfile.ZipFile(_Directory(file, max_files))  # pyright: ignore[reportArgumentType]
    except zipfile.BadZipFile:
        raise
    except Exception as error:  # a wrong name, extra field or offset can trip the parser anywhere
        raise zipfile.BadZipFile(f"its directory is damaged, {type(error).__name__}") from None
    archive.fp = file
    end = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < end:  # one block of data under many names
            raise zipfile.BadZipFile("files in it overlap")
        end = entry.header_offset + 30 + entry.compress_size
    if end > archive.start_dir:
        raise zipfile.BadZipFile("files in it overlap its directory")
    return archive


def split_name(name: str) -> tuple[str, ...] | None:
    """Returns folders and file name of an entry, None for a name that leads out of the archive's folder."""
    name = name.replace("\\", "/")  # as some programs on Windows write it
    parts = tuple(part for part in name.rstrip("/").split("/") if part not in ("", "."))
    unsafe = name.startswith("/") or "\0" in name or re.match(r"[A-Za-z]:", name)
    too_long = len(name) > _ENTRY_BYTES or any(len(part.encode()) > 255 for part in parts)
    return None if unsafe or too_long or not parts or ".." in parts else parts


def is_hidden(parts: tuple[str, ...]) -> bool:
    """True for what file managers leave in archives, which is never part of the content."""
    return any(map(is_ignored, parts))


def fault(entry: zipfile.ZipInfo) -> str | None:
    """Returns why an entry is not read, as the end of a sentence that begins with its name, or None."""
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & 1:
        return "is protected by a password"
    # Other methods unpack a block at a time, however much that gives, or ask for memory as they please.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "has an unsupported compression method"
    if entry.file_size > RATIO_FREE and entry.file_size > MAX_RATIO * entry.compress_size:
        return f"unpacks to more than {MAX_RATIO} times its size"
    return None


def copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: IO[bytes], max_bytes: int) -> int:
    """Unpacks an entry into an open file, counting, since sizes may be forged; returns the bytes written.

    Raises zipfile.BadZipFile for damage and for more than `max_bytes`, OSError if `target` cannot take them.
    """
    size = 0
    for block in _blocks(archive, entry):
        size += len(block)
        if size > max_bytes or (size > RATIO_FREE and size > MAX_RATIO * entry.compress_size):
            raise zipfile.BadZipFile("it unpacks to more than it declares")
        target.write(block)
    if size != entry.file_size:
        raise zipfile.BadZipFile("it ends too early")
    return size


def _blocks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(entry) as source:
            while block := source.read(2**20):
                yield block
    except Exception as error:
        reason = str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        raise zipfile.BadZipFile(f"it is damaged, {printable(reason)[:200]}") from None


def file_sizes(path: str | Path, max_files: int = MAX_FILES) -> dict[str, int]:
    """Lists the files of a zip except hidden ones: path → unpacked bytes. Raises VKDError as `extract`."""
    refuse_lfs_pointer(path)
    sizes: dict[str, int] = {}
    try:
        with Path(path).open("rb") as file:
            for entry in open_zip(file, max_files).infolist():
                parts = split_name(entry.filename)
                if parts is None:
                    raise zipfile.BadZipFile("a file name leads out of its folder")
                if not entry.is_dir() and not is_hidden(parts):
                    sizes["/".join(parts)] = entry.file_size
    except zipfile.BadZipFile as error:
        raise VKDError(f"{printable(Path(path).name)} is not a zip file that can be used: {error}.") from None
    return sizes


def extract(
    path: str | Path,
    folder: Path,
    accept: Callable[[PurePosixPath], bool],
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
    progress: Progress = silent,
) -> list[Path]:
    """Unpacks the files of a zip whose path `accept` takes below the empty `folder`; returns their paths.

    Every entry is checked before the first is written. The caller removes `folder`, also after an error.
    Raises VKDError for a file that is not a zip, is encrypted, holds links, devices, duplicates or paths
    that lead out of `folder`, and for more files, bytes or compression than the limits allow.
    """
    refuse_lfs_pointer(path)
    name = printable(Path(path).name)
    try:
        with Path(path).open("rb") as file:
            archive = open_zip(file, max_files)
            entries = _accepted(archive, accept, max_bytes)
            total = 0
            for inside, entry in track(list(entries.items()), progress, "Unpacking"):
                target = folder / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as output:
                    total += copy(archive, entry, output, max_bytes - total)
    except zipfile.BadZipFile as error:
        raise VKDError(f"{name} is not a zip file that can be used: {error}.") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise VKDError(f"{name} has two files or folders of one name: pack it again.") from None
    return [folder / inside for inside in entries]


def _accepted(
    archive: zipfile.ZipFile, accept: Callable[[PurePosixPath], bool], max_bytes: int
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    entries: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        parts = split_name(entry.filename)
        if parts is None:
            raise zipfile.BadZipFile("a file name leads out of its folder")
        inside = PurePosixPath(*parts)
        if entry.is_dir() or is_hidden(parts) or not accept(inside):
            continue
        if inside in entries:
            raise zipfile.BadZipFile(f"{printable(inside)} is there twice")
        if reason := fault(entry):
            raise zipfile.BadZipFile(f"{printable(inside)} {reason}")
        entries[inside] = entry
    unpacked = sum(entry.file_size for entry in entries.values())
    if unpacked > max_bytes:
        raise zipfile.BadZipFile(f"it unpacks to more than {max_bytes:,} bytes")
    if unpacked > max(RATIO_FREE, MAX_RATIO * sum(entry.compress_size for entry in entries.values())):
        raise zipfile.BadZipFile(f"it unpacks to more than {MAX_RATIO} times its size")
    return entries


_CAMERA = re.compile(
    r"(c|cam|camera|kamera|ch|channel|view|site)?[-_ .]*[0-9]+|(cam|camera)[-_ .]*[a-z]{1,2}"
    r"|left|right|front|back|rear|top|door|gate|yard|hall|lobby|entrance|exit|north|south|east|west|indoor|outdoor"
)


def extract_images(
    path: str | Path, folder: Path, *, progress: Progress = silent, notes: list[str] | None = None
) -> Path:
    """Unpacks the images and CSV tables of a zip (see `extract`); returns the folder that holds them.

    `notes` takes sentences on what was left out.
    """
    omitted: Counter[str] = Counter()

    def accept(file: PurePosixPath) -> bool:
        suffix = file.suffix.lower()
        omitted[suffix] += suffix not in IMAGE_SUFFIXES + TABLE_SUFFIXES
        return suffix in IMAGE_SUFFIXES + TABLE_SUFFIXES

    files = extract(path, folder, accept, progress=progress)
    rows = [
        f"{count} {printable(kind)[:20] or 'without suffix'}" for kind, count in (+omitted).most_common(8)
    ]
    others = f"{omitted.total():,} files of kinds that are not read: {', '.join(rows)}." if rows else ""
    if not files:
        sentence = f"{printable(Path(path).name)} has no images (jpg, png, webp, bmp, tif, gif). {others}"
        raise VKDError(sentence.strip())
    if others and notes is not None:
        notes.append(others)
    return _content(folder, Path(path).stem)


def _content(folder: Path, stem: str) -> Path:
    """Returns the folder below which identities lie: programs that pack a folder put itself into the zip.

    A single folder is the packed one if it has the zip's name, or sub-folders that are not named as cameras;
    otherwise it is an identity, as where the folder is read without having been packed.
    """
    inside = list(folder.iterdir())
    if len(inside) != 1 or not inside[0].is_dir():
        return folder
    below = [path.name.lower() for path in inside[0].iterdir() if path.is_dir()]
    packed = len(below) > 1 and not all(map(_CAMERA.fullmatch, below))
    return inside[0] if packed or inside[0].name.lower() == stem.lower() else folder


def printable(text: object) -> str:
    """Replaces what would move the cursor or hide what follows in a name from outside by '?'."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))
