"""Zip archives: images come out below one folder; what is damaged or made to harm is refused."""

import io
import stat
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.support.zips import by_hand, central, files_below, forged_size, jpeg, local, pack, zipped
from vkd.io import archives
from vkd.io.archives import extract, extract_images, printable
from vkd.io.errors import CancelledError, VKDError
from vkd.io.formats import IMAGE_SUFFIXES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path / "new"


def test_extract_images(tmp_path: Path, folder: Path):
    entries = {
        "mine/anna/0/1.jpg": jpeg(), "mine/anna/0/2.JPG": jpeg(), "mine/bert/1/3.jpg": jpeg(),
        "mine/list.csv": b"path,identity", "mine/run.py": b"import os", "mine/.hidden/4.jpg": jpeg(),
        "__MACOSX/mine/._1.jpg": b"x",
    }  # fmt: skip
    calls = []
    root = extract_images(
        pack(tmp_path / "a.zip", entries), folder, progress=lambda *call: calls.append(call[:2])
    )
    assert root == folder / "mine"
    assert files_below(root) == ["anna/0/1.jpg", "anna/0/2.JPG", "bert/1/3.jpg", "list.csv"]
    assert (root / "anna/0/1.jpg").read_bytes() == jpeg()
    assert calls == [(done, 4) for done in range(5)]


KINDS = ("1.jpg", "2.JFIF", "3.avif", "4.ppm", "5.pgm", "6.tiff", "7.Webp")


def test_suffixes_are_those_of_folders(tmp_path: Path, folder: Path):
    notes: list[str] = []
    entries = {f"{who}/{name}": jpeg() for who in ("ann", "bob") for name in KINDS}
    extract_images(pack(tmp_path / "a.zip", {**entries, "ann/7.HEIC": b"x"}), folder, notes=notes)
    assert files_below(folder) == sorted(entries)
    assert {Path(name).suffix.lower() for name in KINDS} < {*IMAGE_SUFFIXES}
    assert len(notes) == 1
    assert "1 .heic" in notes[0]


def test_backslashes_divide_folders(tmp_path: Path, folder: Path):
    entries = {f"{who}\\c{c}\\1.jpg": jpeg() for who in ("ann", "bob") for c in (1, 2)}
    (tmp_path / "a.zip").write_bytes(by_names(entries))
    assert extract_images(tmp_path / "a.zip", folder) == folder
    assert files_below(folder) == ["ann/c1/1.jpg", "ann/c2/1.jpg", "bob/c1/1.jpg", "bob/c2/1.jpg"]


def by_names(entries: dict[str, bytes]) -> bytes:
    """A zip whose names stay as they are; the library would write slashes on Windows."""
    files, lines = b"", []
    for name, data in entries.items():
        lines.append(central(name.encode(), len(data), len(files), crc=zlib.crc32(data)))
        files += local(name.encode(), data)
    return by_hand(files, lines)


@pytest.mark.parametrize(
    ("name", "entries", "root"),
    [
        ("a.zip", ["ann/c1/1.jpg", "ann/c2/1.jpg"], "."),
        ("a.zip", ["ann/1/1.jpg", "ann/2/1.jpg"], "."),
        ("a.zip", ["ann/door/1.jpg", "ann/yard/1.jpg"], "."),
        ("a.zip", ["ann/1.jpg", "ann/2.jpg"], "."),
        ("Mine.zip", ["mine/ann/1.jpg", "mine/ann/2.jpg"], "mine"),
        ("ann.zip", ["ann/c1/1.jpg", "ann/c2/1.jpg"], "ann"),
        ("a.zip", ["mine/ann/1.jpg", "mine/bob/2.jpg"], "mine"),
        ("a.zip", ["mine/ann/c1/1.jpg", "mine/bob/c1/2.jpg", "__MACOSX/mine/._1.jpg"], "mine"),
        ("a.zip", ["@eaDir/x/1.jpg", "ann/c1/1.jpg", "lost+found/1.jpg"], "."),
    ],
)
def test_folder_around_the_images(name: str, entries: list[str], root: str, tmp_path: Path, folder: Path):
    assert extract_images(pack(tmp_path / name, dict.fromkeys(entries, jpeg())), folder) == folder / root


def test_several_folders_stay(tmp_path: Path, folder: Path):
    assert extract_images(pack(tmp_path / "a.zip", {"a/1.jpg": b"", "b/1.jpg": b""}), folder) == folder


def test_extract_returns_accepted_files(tmp_path: Path, folder: Path):
    path = pack(tmp_path / "a.zip", {"run/chk/one": b"1", "run/notes": b"2"})
    assert extract(path, folder, lambda file: file.parent.name == "chk") == [folder / "run/chk/one"]
    assert files_below(folder) == ["run/chk/one"]


def test_extract_can_be_cancelled(tmp_path: Path, folder: Path):
    def cancel(done: int, total: int, what: str) -> None:
        if done:
            raise CancelledError(what)

    with pytest.raises(CancelledError):
        extract_images(pack(tmp_path / "a.zip", {f"{n}.jpg": b"" for n in range(3)}), folder, progress=cancel)
    assert files_below(folder) == ["0.jpg"]


def test_no_images(tmp_path: Path, folder: Path):
    with pytest.raises(VKDError, match=r"a\.zip"):
        extract_images(pack(tmp_path / "a.zip", {"notes.txt": b"hello"}), folder)


def special(mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("special.jpg")
    entry.external_attr = (mode | 0o777) << 16
    return entry


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices(tmp_path: Path, folder: Path, mode: int):
    (tmp_path / "a.zip").write_bytes(zipped(("good.jpg", jpeg()), (special(mode), b"/etc/passwd")))
    with pytest.raises(VKDError, match=r"special\.jpg"):
        extract_images(tmp_path / "a.zip", folder)
    assert files_below(tmp_path) == ["a.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a/1.jpg", "a//1.jpg", "./a/1.jpg", "a/1.jpg/2.jpg"])
def test_duplicates(tmp_path: Path, folder: Path, second: str):
    (tmp_path / "a.zip").write_bytes(zipped(("a/1.jpg", b"1"), (second, b"2")))
    with pytest.raises(VKDError):
        extract_images(tmp_path / "a.zip", folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unsupported_compression(tmp_path: Path, folder: Path, method: int):
    (tmp_path / "a.zip").write_bytes(zipped(("a.jpg", jpeg()), method=method))
    with pytest.raises(VKDError, match=r"a\.jpg"):
        extract_images(tmp_path / "a.zip", folder)


@pytest.mark.parametrize("limits", [{"max_files": 1}, {"max_bytes": 1000}])
def test_limits_hold_before_anything_is_written(tmp_path: Path, folder: Path, limits: dict[str, int]):
    path = pack(tmp_path / "a.zip", {f"{n}.jpg": bytes(600) for n in range(2)})
    with pytest.raises(VKDError, match=r"\b1\b" if "max_files" in limits else "1,000"):
        extract(path, folder, lambda file: True, **limits)
    assert files_below(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("count", [1, 3])
def test_compression_ratio(tmp_path: Path, folder: Path, count: int):
    path = pack(tmp_path / "a.zip", {f"{n}.bmp": bytes((12 << 20) // count) for n in range(count)})
    with pytest.raises(VKDError, match="100 times"):
        extract_images(path, folder)
    assert files_below(tmp_path) == ["a.zip"]


@pytest.mark.parametrize(("forged", "written"), [(900, 900), (2**32 - 2, 0), ((1 << 20) + 1, 1 << 20)])
def test_forged_sizes(tmp_path: Path, folder: Path, forged: int, written: int):
    path = forged_size(pack(tmp_path / "a.zip", {"zeros.bmp": bytes(1 << 20)}), 1 << 20, forged)
    with pytest.raises(VKDError):
        extract_images(path, folder)
    assert sum(file.stat().st_size for file in folder.rglob("*")) <= written


def test_copy_counts_bytes():
    archive = archives.open_zip(io.BytesIO(zipped(("a", bytes(2**20)))))
    assert archives.copy(archive, archive.infolist()[0], io.BytesIO(), 2**20) == 2**20
    with pytest.raises(zipfile.BadZipFile):
        archives.copy(archive, archive.infolist()[0], io.BytesIO(), 2**20 - 1)


def test_full_disk_is_an_os_error():
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    archive = archives.open_zip(io.BytesIO(zipped(("a", b"1"))))
    with pytest.raises(OSError, match="No space"):
        archives.copy(archive, archive.infolist()[0], Full(), 10)


@pytest.mark.parametrize("name", ["a\x1b[2J.jpg", "a\u202egpj.exe", "a\nb"])
def test_printable(name: str):
    assert printable(name).isprintable()
    assert printable("ü b/c.jpg") == "ü b/c.jpg"
