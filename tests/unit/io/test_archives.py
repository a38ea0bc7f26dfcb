"""A stranger's zip: what is made to harm is refused by both readers, of pictures and of networks."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.unit.io.test_unpack import jpeg
from tests.unit.models.test_zoo import below, run
from vkd.io import archives
from vkd.io.unpack import unpack
from vkd.models.pickled import claims
from vkd.models.zoo import convert


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def local(name: bytes, data: bytes) -> bytes:
    """One stored file as it stands in a zip."""
    sizes = (0, len(data), len(data), len(name), 0)
    return b"PK\x03\x04" + struct.pack("<HHHIIIIHH", 20, 0, 0, 0, *sizes) + name + data


def central(name: bytes, size: int, at: int, flags: int = 0) -> bytes:
    """Its line in the directory."""
    fields = struct.pack("<HHHHIIIIHHHHHII", 20, 20, flags, 0, 0, 0, size, size, len(name), 0, 0, 0, 0, 0, at)
    return b"PK\x01\x02" + fields + name


def end(count: int, size: int, at: int) -> bytes:
    return b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count % 65536, count % 65536, size, at, 0)


def by_hand(files: bytes, lines: list[bytes]) -> bytes:
    directory = b"".join(lines)
    return files + directory + end(len(lines), len(directory), len(files))


def overlapping() -> bytes:
    """A thousand names for one file of a megabyte: a gigabyte from one."""
    data = bytes(2**20)
    files = local(b"a.jpg", data)
    return by_hand(files, [central(b"%d.jpg" % n, len(data), 0) for n in range(1000)])


def nested() -> bytes:
    """Zips in zips, each also where weights would lie."""
    inner = zipped(*run("inner/").items(), ("x.jpg", b""))
    for _ in range(20):
        inner = zipped(("again.zip", inner), ("run/chk/chk_end", inner), ("run/params/params.json", b"{}"))
        if len(inner) > 2**20:
            break
    return inner


def utf8_name() -> bytes:
    """Said to be UTF-8, and is not."""
    return by_hand(local(b"\xff\xfe.jpg", b""), [central(b"\xff\xfe.jpg", 0, 0, flags=0x800)])


def read_pictures(path: Path) -> None:
    folder = path.parent / "new"
    folder.mkdir()
    unpack(path, folder)


def read_networks(path: Path) -> None:
    for line in convert(path, path.parent / "out"):
        if line.reason:
            raise ValueError(line.reason)


READERS = pytest.mark.parametrize("read", [read_pictures, read_networks])


@READERS
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (overlapping, "files in it overlap"),
        (lambda: by_hand(local(b"a.jpg", b"x"), [central(b"a.jpg", 2**20, 0)]), "overlap its directory"),
        (utf8_name, "its directory is damaged"),
        (nested, "holds no pictures|hparams.json is missing"),
        (lambda: zipped(("../../etc/x.jpg", jpeg())), "leads out"),
        (lambda: zipped(("/etc/x.jpg", jpeg())), "leads out"),
        (lambda: zipped(("C:\\Windows\\x.jpg", jpeg())), "leads out"),
        (lambda: zipped(("\\\\host\\share\\x.jpg", jpeg())), "leads out"),
        (lambda: zipped(("d/" * 600 + "x.jpg", jpeg())), "leads out"),
        (lambda: zipped(("a.jpg", jpeg()))[:-30], "not a zip"),
        (lambda: end(0, 0, 0), "holds no pictures|holds no network"),
        (lambda: end(65535, 2**32 - 2, 2**32 - 2), "not a zip"),
        (lambda: bytes(2**20), "not a zip"),
    ],
)
def test_both_readers_refuse(
    tmp_path: Path, read: Callable[[Path], None], content: Callable[[], bytes], sentence: str
):
    (tmp_path / "a.zip").write_bytes(content())
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        read(tmp_path / "a.zip")
    assert below(tmp_path) == ["a.zip"]


@READERS
def test_a_huge_directory_takes_no_memory(tmp_path: Path, read: Callable[[Path], None]):
    """Three hundred thousand lines of 50 bytes: as objects they would be 200 MB."""
    lines = [central(b"%d.jpg" % n, 0, 0) for n in range(300_000)]
    (tmp_path / "a.zip").write_bytes(by_hand(b"", lines))
    size = sum(map(len, lines))
    del lines
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"lists more than (50|100),000 files"):
            read(tmp_path / "a.zip")
        assert tracemalloc.get_traced_memory()[1] < size + 2**21
    finally:
        tracemalloc.stop()


@READERS
def test_a_directory_that_says_it_is_large_is_not_read(tmp_path: Path, read: Callable[[Path], None]):
    with (tmp_path / "a.zip").open("wb") as file:
        file.truncate(2**31)  # a hole: it takes no room on the disk
        file.seek(2**31)
        file.write(end(1, 2**31, 0))
    with pytest.raises(ValueError, match="lists more than"):
        read(tmp_path / "a.zip")


# Limits while unpacking


def test_an_entry_is_counted_while_it_is_unpacked():
    data = zipped(("a", bytes(2**20)))
    with archives.directory(io.BytesIO(data), 5) as archive:
        assert archives.read(archive, archive.infolist()[0], 2**20) == bytes(2**20)
        with pytest.raises(zipfile.BadZipFile, match="far more than it says"):
            archives.read(archive, archive.infolist()[0], 2**20 - 1)


def test_a_full_disk_is_not_called_damage():
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with (
        archives.directory(io.BytesIO(zipped(("a", b"1"))), 5) as archive,
        pytest.raises(OSError, match="No space"),
    ):
        archives.copy(archive, archive.infolist()[0], Full(), 10)


# Archives of PyTorch that another reader would read otherwise


def saved() -> bytes:
    file = io.BytesIO()
    torch.save({"w": torch.arange(6.0)}, file)
    return file.getvalue()


def rebuilt(change: Callable[[str], list[str]]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved())) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    return zipped(*((new, data) for name, data in entries for new in change(name)), method=zipfile.ZIP_STORED)


def two_directories() -> bytes:
    """Python reads the last one, PyTorch the one that the end record names."""
    data = zipped(("archive/data.pkl", b"N."), method=zipfile.ZIP_STORED)
    at = data.index(b"PK\x01\x02")
    size = data.index(b"PK\x05\x06") - at
    directory = data[at : at + size]
    return data[:at] + directory + bytes(100) + directory + end(1, size, at)


@pytest.mark.parametrize(
    "data",
    [
        lambda: rebuilt(lambda name: [name, name.upper()] if name.endswith("data.pkl") else [name]),
        lambda: rebuilt(lambda name: [name, f"other/{name.partition('/')[2]}"]),
        two_directories,
    ],
    ids=["capitals", "two folders", "two directories"],
)
def test_a_state_dict_that_can_be_read_in_two_ways(data: Callable[[], bytes]):
    with pytest.raises(ValueError, match=r"can be read in more than one way"):
        claims(io.BytesIO(data()), Path("chk_end"))


def test_what_pytorch_writes_can_be_read_in_one_way():
    file = io.BytesIO(saved())
    assert archives.one_reading(file, archives.directory(file, 100))
    assert claims(file, Path("chk_end"))["w"].shape == (6,)
    again = io.BytesIO(rebuilt(lambda name: [name]))  # without the fields for large files
    assert claims(again, Path("chk_end"))["w"].shape == (6,)


@pytest.mark.parametrize("name", ["a\x1b[2J.jpg", "a\u202egpj.exe", "a\nb"])
def test_names_in_sentences_do_not_move_the_cursor(name: str):
    assert archives.label(name).isprintable()
    assert archives.label("ü b/c.jpg") == "ü b/c.jpg"
