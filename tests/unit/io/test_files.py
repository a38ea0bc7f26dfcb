"""Atomic files and folders: whole or absent, whatever process is killed on the way."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkd.io import files
from vkd.io.archives import file_sizes
from vkd.io.errors import VKDError
from vkd.io.files import (
    NAME,
    atomic_path,
    check_name,
    evenly_spaced,
    refuse_lfs_pointer,
    remove_leftovers,
    replace_dir,
    slug,
    staging_dir,
    write_bytes,
    write_text,
)
from vkd.io.images import read_image
from vkd.io.video import read_video

STAGE = """
with staging_dir(target) as folder:
    (folder / "half").write_text("half")
    print(folder.name, flush=True)
    sys.stdin.read()
"""
FILE = """
with atomic_path(target / "file") as path:
    path.write_text("half")
    print(path.name, flush=True)
    sys.stdin.read()
"""
REPLACE = """
rename = Path.rename
def renamed(path, new):
    rename(path, new)
    if new.suffix == ".old":
        print(new.name, flush=True)
        sys.stdin.read()
Path.rename = renamed
with staging_dir(target) as folder:
    replace_dir(folder, target)
"""


@contextmanager
def process(body: str, target: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A process that waits inside `body`, and what it printed; killed at the end."""
    start = "import sys\nfrom pathlib import Path\nfrom vkd.io.files import *\ntarget = Path(sys.argv[1])\n"
    command = [sys.executable, "-c", start + body, str(target)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child, child.stdout.readline().strip()
    finally:
        child.kill()
        child.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_staging_dir_is_renamed_or_removed(tmp_path: Path):
    target = tmp_path / "thing"
    with staging_dir(target) as folder:
        (folder / "file").touch()
        folder.rename(target)
    with pytest.raises(RuntimeError), staging_dir(target):
        raise RuntimeError
    assert names(tmp_path) == ["thing"]
    assert names(target) == ["file"]
    (tmp_path / "other").mkdir()
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode, "others may read it as any folder"


def test_staging_dir_makes_parents(tmp_path: Path):
    with staging_dir(tmp_path / "a" / "b") as folder:
        assert folder.parent == tmp_path / "a"


@pytest.mark.parametrize("body", [STAGE, FILE])
def test_leftovers_of_killed_processes(tmp_path: Path, body: str):
    target = tmp_path / "thing" if body == STAGE else tmp_path
    (tmp_path / ".other.tmp").mkdir()
    with process(body, target) as (child, name):
        with staging_dir(target if body == STAGE else tmp_path / "thing"):
            assert (tmp_path / name).exists(), "its process lives"
        child.kill()
        child.wait(10)
        assert (tmp_path / name).exists()
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [".other.tmp"]


def test_leftovers_of_other_machines_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with process(STAGE, tmp_path / "thing") as (_, name):
        pass
    monkeypatch.setattr(files, "_HOST", "000000")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [name]
    remove_leftovers(tmp_path / "missing")


def test_replace_dir(tmp_path: Path):
    target = tmp_path / "thing"
    for content in ("old", "new"):
        with staging_dir(target) as folder:
            (folder / content).touch()
            replace_dir(folder, target)
    assert names(tmp_path) == ["thing"]
    assert names(target) == ["new"]


def test_failed_replacement_keeps_the_old(tmp_path: Path):
    target = tmp_path / "thing"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(FileNotFoundError):
        replace_dir(tmp_path / "missing", target)
    assert names(tmp_path) == ["thing"]
    assert names(target) == ["old"]


def test_replacement_killed_between_its_renames(tmp_path: Path):
    target = tmp_path / "thing"
    target.mkdir()
    (target / "old").touch()
    with process(REPLACE, target) as (_, name):
        assert not target.exists()
        remove_leftovers(tmp_path)
        assert name in names(tmp_path), "its process lives"
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["thing"]
    assert names(target) == ["old"]


def test_write_replaces_whole_files(tmp_path: Path):
    path = write_text(tmp_path / "a.txt", "one\r\n")
    assert path.read_bytes() == b"one\r\n"
    assert write_bytes(path, b"two").read_bytes() == b"two"
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.open("x").write(b"half")  # type: ignore[arg-type]
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["", "-a", "a b", "A", "a/b", "..", "a" * 65, "a\n", "ü"])
def test_check_name_refuses(name: str):
    with pytest.raises(VKDError):
        check_name(name, "run")


@given(st.text())
def test_slug_is_a_name_or_empty(text: str):
    assert not slug(text) or NAME.fullmatch(slug(text))


def test_slug():
    assert slug("My tiny student!!") == check_name("my-tiny-student", "run")


@given(st.integers(0, 50), st.integers(0, 60))
def test_evenly_spaced(length: int, count: int):
    chosen = evenly_spaced(range(length), count)
    assert len(chosen) == min(length, count)
    assert chosen[:1] == [0][: len(chosen)]
    steps = {b - a for a, b in pairwise(chosen)}
    assert not steps or (min(steps) > 0 and max(steps) - min(steps) <= 1)


@pytest.mark.parametrize(
    "read", [refuse_lfs_pointer, read_image, read_video, file_sizes], ids=lambda f: f.__name__
)
def test_git_lfs_pointers(read: Callable[[Path], object], tmp_path: Path):
    path = tmp_path / "large.bin"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5318864\n")
    with pytest.raises(VKDError, match=r"large.bin is a Git LFS pointer.*git lfs pull"):
        read(path)
    path.write_text("version 1")
    refuse_lfs_pointer(path)
    refuse_lfs_pointer(tmp_path / "nowhere")
