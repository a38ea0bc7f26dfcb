"""Zip archives for tests: packed by the library, or byte by byte with headers that lie."""

import io
import struct
import zipfile
from pathlib import Path

from PIL import Image


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 16), "teal").save(file, "JPEG")
    return file.getvalue()


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def pack(path: Path, entries: dict[str, bytes]) -> Path:
    path.write_bytes(zipped(*entries.items()))
    return path


def local(name: bytes, data: bytes) -> bytes:
    """One stored file as it stands in a zip."""
    sizes = (0, len(data), len(data), len(name), 0)
    return b"PK\x03\x04" + struct.pack("<HHHIIIIHH", 20, 0, 0, 0, *sizes) + name + data


def central(name: bytes, size: int, at: int, flags: int = 0, crc: int = 0) -> bytes:
    """Its line in the directory."""
    fields = struct.pack(
        "<HHHHIIIIHHHHHII", 20, 20, flags, 0, 0, crc, size, size, len(name), 0, 0, 0, 0, 0, at
    )
    return b"PK\x01\x02" + fields + name


def end(count: int, size: int, at: int) -> bytes:
    return b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count % 65536, count % 65536, size, at, 0)


def by_hand(files: bytes, lines: list[bytes]) -> bytes:
    directory = b"".join(lines)
    return files + directory + end(len(lines), len(directory), len(files))


def overlapping() -> bytes:
    """A thousand names for one file of a megabyte: a gigabyte from one."""
    data = bytes(2**20)
    return by_hand(local(b"a.jpg", data), [central(b"%d.jpg" % n, len(data), 0) for n in range(1000)])


def forged_size(path: Path, true: int, forged: int) -> Path:
    """Changes a size wherever it stands in a zip."""
    data = path.read_bytes()
    path.write_bytes(data.replace(true.to_bytes(4, "little"), forged.to_bytes(4, "little")))
    return path


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
