"""Zips that are made to harm: both readers, of images and of the authors' networks, refuse them."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.zips import by_hand, central, end, files_below, jpeg, local, overlapping, zipped
from vkd.io.archives import extract_images
from vkd.io.errors import MissingFileError, VKDError
from vkd.models.reference_archive import convert

NETWORK = {
    "run/params/hparams.json": json.dumps({"backbone_type": "tiny", "num_classes": 3}).encode(),
    "run/chk/chk_end": b"",
}


def read_images(path: Path) -> None:
    folder = path.parent / "new"
    folder.mkdir()
    extract_images(path, folder)


def read_networks(path: Path) -> None:
    for line in convert(path, path.parent / "out"):
        if line.reason:
            raise VKDError(line.reason)


READERS = pytest.mark.parametrize("read", [read_images, read_networks])


def nested() -> bytes:
    """Zips in zips, each also where weights would lie."""
    inner = zipped(*((f"inner/{name}", data) for name, data in NETWORK.items()), ("x.jpg", b""))
    for _ in range(20):
        inner = zipped(("again.zip", inner), ("run/chk/chk_end", inner), ("run/params/params.json", b"{}"))
        if len(inner) > 2**20:
            break
    return inner


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "overlapping": overlapping,
    "over directory": lambda: by_hand(local(b"a.jpg", b"x"), [central(b"a.jpg", 2**20, 0)]),
    "no utf-8": lambda: by_hand(local(b"\xff\xfe.jpg", b""), [central(b"\xff\xfe.jpg", 0, 0, flags=0x800)]),
    "nested": nested,
    "parent": lambda: zipped(("good.jpg", jpeg()), ("../../etc/x.jpg", jpeg())),
    "inner parent": lambda: zipped(("good.jpg", jpeg()), ("a/../../x.jpg", jpeg())),
    "absolute": lambda: zipped(("/etc/x.jpg", jpeg())),
    "drive": lambda: zipped(("C:\\Windows\\x.jpg", jpeg())),
    "backslash": lambda: zipped(("a\\..\\x.jpg", jpeg())),
    "share": lambda: zipped(("\\\\host\\share\\x.jpg", jpeg())),
    "deep": lambda: zipped(("d/" * 600 + "x.jpg", jpeg())),
    "long": lambda: zipped(("x" * 300 + ".jpg", jpeg())),
    "cut": lambda: zipped(("a.jpg", jpeg()))[:-30],
    "empty": lambda: end(0, 0, 0),
    "forged end": lambda: end(65535, 2**32 - 2, 2**32 - 2),
    "zeros": lambda: bytes(2**20),
    "nothing": lambda: b"",
}


@READERS
@pytest.mark.parametrize("name", ARCHIVES)
def test_refused(tmp_path: Path, read: Callable[[Path], None], name: str):
    (tmp_path / "a.zip").write_bytes(ARCHIVES[name]())
    with pytest.raises((VKDError, MissingFileError)):
        read(tmp_path / "a.zip")
    assert files_below(tmp_path) == ["a.zip"]


@READERS
def test_huge_directory_takes_no_memory(tmp_path: Path, read: Callable[[Path], None]):
    """Three hundred thousand lines of 50 bytes: as objects they would be 200 MB."""
    lines = [central(b"%d.jpg" % n, 0, 0) for n in range(300_000)]
    (tmp_path / "a.zip").write_bytes(by_hand(b"", lines))
    size = sum(map(len, lines))
    del lines
    tracemalloc.start()
    try:
        with pytest.raises(VKDError):
            read(tmp_path / "a.zip")
        assert tracemalloc.get_traced_memory()[1] < size + 2**21
    finally:
        tracemalloc.stop()


@READERS
def test_directory_of_two_gigabytes_is_not_read(tmp_path: Path, read: Callable[[Path], None]):
    with (tmp_path / "a.zip").open("wb") as file:
        file.truncate(2**31)  # a hole: it takes no room on the disk
        file.seek(2**31)
        file.write(end(1, 2**31, 0))
    tracemalloc.start()
    try:
        with pytest.raises(VKDError):
            read(tmp_path / "a.zip")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
