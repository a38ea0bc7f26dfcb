"""Folders where something is made: what a kill left is swept, what somebody works in is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vkd.io.unfinished import workplace

HOLD = """
import sys, time
from pathlib import Path
from vkd.io.unfinished import workplace
with workplace(Path(sys.argv[1]), ".thing.unfinished-") as work:
    (work / "half").write_text("half")
    print(work.name, flush=True)
    time.sleep(60)
"""


def held(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that works there, and its folder."""
    command = [sys.executable, "-c", HOLD, str(place)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, place / process.stdout.readline().strip()


def test_what_a_kill_left_goes_at_the_next_start_and_nobody_elses_work(tmp_path: Path):
    (other := tmp_path / ".other.unfinished-1").mkdir()
    process, left = held(tmp_path)
    try:
        with workplace(tmp_path, ".thing.unfinished-") as work:
            assert (left / "half").is_file(), "its owner lives"
            assert work != left
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert left.is_dir(), "a kill leaves it"
        with workplace(tmp_path, ".thing.unfinished-"):
            assert not left.exists()
    finally:
        process.kill()
        process.wait(10)
    assert other.is_dir(), "another kind of thing"
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name]


def test_a_forked_child_does_not_hold_its_parents_folder(tmp_path: Path):
    """A process that draws may outlive the one that was killed."""
    with workplace(tmp_path, ".thing.unfinished-") as work:
        (reading, writing), (ready, told) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.write(told, b"x")
            os.read(reading, 1)
            os._exit(0)
        os.read(ready, 1)
        work.rename(tmp_path / ".thing.unfinished-kept")
    try:
        with workplace(tmp_path, ".thing.unfinished-"):
            assert not (tmp_path / ".thing.unfinished-kept").exists()
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)


def test_it_is_renamed_or_gone(tmp_path: Path):
    with workplace(tmp_path, ".thing.") as work:
        (work / "whole").touch()
        work.replace(tmp_path / "thing")
    with pytest.raises(ValueError, match="broken"), workplace(tmp_path, ".thing.") as work:
        raise ValueError("broken")
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]
    assert (tmp_path / "thing").stat().st_mode & 0o777 == 0o755
