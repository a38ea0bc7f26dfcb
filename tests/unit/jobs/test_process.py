"""Which process works in a folder, and who is next on a device: starts, kills, looks, forks."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.jobs import until
from vkd.io.errors import MissingFileError, VKDError
from vkd.jobs import process

HOLD = """
import sys, time
from vkd.jobs import process
with process.lock(sys.argv[1]):
    process.wait_for_device(sys.argv[1], "cpu", bool, print)
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that works in the folder and has the device."""
    folder.mkdir(exist_ok=True)
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.communicate()


# --- the lock ---


def test_lock_is_exclusive(tmp_path: Path):
    assert not process.alive(tmp_path)
    assert process.pid(tmp_path) is None
    with process.lock(tmp_path):
        assert process.alive(tmp_path)
        with pytest.raises(VKDError, match=f"process {os.getpid()}"), process.lock(tmp_path):
            pass
    assert not process.alive(tmp_path)
    assert process.pid(tmp_path) == os.getpid()
    with pytest.raises(KeyError), process.lock(tmp_path):
        raise KeyError
    assert not process.alive(tmp_path)
    with process.lock(tmp_path):
        pass
    with pytest.raises(MissingFileError), process.lock(tmp_path / "none"):
        pass


HOST = process.process_token()[:6]


@pytest.mark.parametrize(
    "text",
    [
        *("1234\n", "", "nonsense", "\udcff", "000000-1-1", "1" * 30),
        *(f"{HOST}-{'9' * 5000}-1", f"{HOST}-1-{'9' * 5000}", f"{HOST}-٣-1"),
    ],
)
def test_lock_of_nobody(tmp_path: Path, text: str):
    """Of 0.1.0 (a bare id), damaged, or of another machine."""
    (tmp_path / "lock").write_text(text, errors="surrogateescape")
    assert not process.alive(tmp_path)
    assert process.pid(tmp_path) in (None, 1, 1234)
    with process.lock(tmp_path):
        assert process.alive(tmp_path)


def test_killed_process_frees_the_lock(tmp_path: Path):
    with holder(tmp_path) as child:
        assert process.alive(tmp_path)
        with pytest.raises(VKDError, match=str(child.pid)), process.lock(tmp_path):
            pass
        child.kill()  # not waited for: a zombie still has its id
        until(lambda: not process.alive(tmp_path))
        assert process.pid(tmp_path) == child.pid


def test_looking_never_costs_a_start_its_lock(tmp_path: Path):
    look = "import sys; from vkd.jobs import process\nprint('looking', flush=True)\n"
    look += "while True: process.alive(sys.argv[1])"
    child = subprocess.Popen([sys.executable, "-c", look, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "looking\n"
        for _ in range(100):
            with process.lock(tmp_path):
                pass
        assert child.poll() is None, "nothing looked"
    finally:
        child.kill()
        child.communicate()


def test_forked_worker_does_not_keep_the_lock(tmp_path: Path):
    """A trainer is killed while a data-loader worker of it lives on."""
    script = HOLD.replace(
        '    print("held"', "    if not __import__('os').fork(): time.sleep(600)\n    print(\"held\""
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        os.kill(child.pid, signal.SIGKILL)
        until(lambda: not process.alive(tmp_path), seconds=10)
        with process.lock(tmp_path):
            os.killpg(child.pid, 0)  # the worker lives
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def test_launched_by_a_python_that_starts_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in a virtual environment of Windows: the process noted down is the parent of the one at work."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n{sys.executable} -c "$SCRIPT"\n')
    python.chmod(0o755)
    folder = tmp_path / "run"
    folder.mkdir()
    script = f"""
import os, time
from vkd.jobs import process
with process.lock({str(folder)!r}) as launched:
    print("held", launched, process.pid({str(folder)!r}) == os.getpid(), flush=True)
    while not process.stop_requested({str(folder)!r}):
        time.sleep(0.02)
"""
    monkeypatch.setenv("SCRIPT", script)
    monkeypatch.setattr(process.sys, "executable", str(python))
    process.launch(folder, [])
    until(lambda: "held" in (folder / "log.txt").read_text())
    assert "held True True" in (folder / "log.txt").read_text()
    assert process.stop(folder)


def test_of_two_starts_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results: list[object] = []
    real = subprocess.Popen

    def popen(words: list[str], **options: object) -> subprocess.Popen:
        return real(["/bin/sleep", "60"], **options)  # pyright: ignore

    monkeypatch.setattr(process.subprocess, "Popen", popen)

    def start() -> None:
        try:
            process.launch(tmp_path, ["any"])
            results.append("started")
        except VKDError as error:
            results.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert results.count("started") == 1
        assert all(str(process.pid(tmp_path)) in str(other) for other in results if other != "started")
        assert process.alive(tmp_path)
    finally:
        assert not process.stop(tmp_path, patience=0), "sleep cannot stop by itself"
    assert not process.alive(tmp_path)


# --- the queue ---


def enter(stack: ExitStack, folder: Path, device: str = "cpu", wait: bool = False) -> Path:
    """Holds the folder and stands in the queue, without waiting there."""
    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(process.lock(folder))
    process.wait_for_device(folder, device, bool, print, root=folder.parents[0], wait=wait)
    return folder


def test_queue_in_the_order_of_asking(tmp_path: Path):
    with ExitStack() as first, ExitStack() as others:
        enter(first, tmp_path / "z", wait=True)
        second = others.enter_context(ExitStack())
        enter(second, tmp_path / "a")
        enter(others, tmp_path / "cuda", device="cuda", wait=True)  # has a queue of its own
        last = tmp_path / ".evaluations" / "20260101-000000"
        last.mkdir(parents=True)
        others.enter_context(process.lock(last))
        ahead: list[list[str]] = []

        def heard(names: list[str]) -> None:
            ahead.append(names)
            first.close()
            if names == ["a"]:
                second.close()

        assert process.wait_for_device(last, "cpu", bool, heard, root=tmp_path, seconds=0.01)
    assert ahead == [["z", "a"], ["a"]]
    assert process.queue(tmp_path, "cpu") == []


def test_waiting_can_be_stopped(tmp_path: Path):
    with ExitStack() as stack:
        enter(stack, tmp_path / "first")
        (tmp_path / "second").mkdir()
        stack.enter_context(process.lock(tmp_path / "second"))
        asked: list[object] = []
        assert not process.wait_for_device(tmp_path / "second", "cpu", lambda: bool(asked), asked.append)
        assert process.queue(tmp_path, "cpu") == ["first", "second"]
    assert process.queue(tmp_path, "cpu") == []


def test_killed_process_leaves_the_queue(tmp_path: Path):
    (tmp_path / "next").mkdir()
    ahead: list[list[str]] = []
    with holder(tmp_path / "killed") as child, process.lock(tmp_path / "next"):

        def heard(names: list[str]) -> None:
            ahead.append(names)
            child.kill()

        assert process.wait_for_device(tmp_path / "next", "cpu", bool, heard, seconds=0.01)
    assert ahead == [["killed"]]


def test_resumed_run_has_no_old_place(tmp_path: Path):
    with holder(tmp_path / "killed") as child:
        child.kill()
        child.wait()
    assert (tmp_path / "killed" / process.QUEUE).is_file()
    with process.lock(tmp_path / "killed"):
        assert process.queue(tmp_path, "cpu") == []


def test_damaged_entries_hold_nobody_up(tmp_path: Path):
    with ExitStack() as stack:
        for name, text in {"a": "[" * 100_000, "b": "{}", "c": '{"device": "cpu", "time": "x"}'}.items():
            (enter(stack, tmp_path / name) / process.QUEUE).write_text(text)
        enter(stack, tmp_path / "next")
        assert process.queue(tmp_path, "cpu") == ["next"]


def test_device_names_the_queue():
    assert process.device_queue("cpu") == "cpu"
    assert process.device_queue("auto").split("-")[0] in ("cpu", "cuda")
