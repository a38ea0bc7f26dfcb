"""Runs that share a device take turns: the order of asking, whoever dies, and nobody watching over it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vkd.jobs import turns

FINISHED = {"kind": "finished", "epoch": 1, "time": 0.0}


def training() -> Iterator[dict[str, Any]]:
    yield {"kind": "started", "epoch": 0, "time": 0.0}
    yield dict(FINISHED)


def never() -> bool:
    return False


def test_alone_a_run_starts_at_once(tmp_path: Path):
    kinds = [event["kind"] for event in turns.in_turn(training(), tmp_path / "a", "cpu", never)]
    assert kinds == ["started", "finished"]
    assert turns.waiting(tmp_path) == {}, "its ticket is gone"


def test_a_run_waits_for_the_ones_before_it_and_says_for_whom(tmp_path: Path):
    first = turns.in_turn(training(), tmp_path / "first", "cpu", never)
    assert next(first)["kind"] == "started"
    second = turns.in_turn(training(), tmp_path / "second", "cpu", never, seconds=0.01)
    assert next(second) | {"time": 0} == {
        "kind": "waiting", "epoch": 0, "time": 0, "ahead": ["first"], "device": "cpu",
    }  # fmt: skip
    third = turns.in_turn(training(), tmp_path / "third", "cpu", never, seconds=0.01)
    assert next(third)["ahead"] == ["first", "second"]
    assert turns.waiting(tmp_path) == {"cpu": ["first", "second", "third"]}
    assert [event["kind"] for event in first] == ["finished"]
    assert next(third)["ahead"] == ["second"], "the third still waits: the second asked before it"
    assert [event["kind"] for event in second] == ["started", "finished"]
    assert [event["kind"] for event in third] == ["started", "finished"]


def test_another_device_has_its_own_queue(tmp_path: Path):
    first = turns.in_turn(training(), tmp_path / "first", "cpu", never)
    next(first)
    other = turns.in_turn(training(), tmp_path / "other", "cuda", never)
    assert next(other)["kind"] == "started"
    first.close()
    other.close()


def test_a_waiting_run_can_be_stopped(tmp_path: Path):
    first = turns.in_turn(training(), tmp_path / "first", "cpu", never)
    next(first)
    asked: list[bool] = []
    second = turns.in_turn(training(), tmp_path / "second", "cpu", lambda: bool(asked), seconds=0.01)
    assert next(second)["kind"] == "waiting"
    asked.append(True)
    assert [event["kind"] for event in second] == ["stopped"]
    assert turns.waiting(tmp_path) == {"cpu": ["first"]}
    first.close()


def test_who_does_not_wait_is_still_waited_for(tmp_path: Path):
    first = turns.in_turn(training(), tmp_path / "first", "cpu", never)
    next(first)
    foreground = turns.in_turn(training(), tmp_path / "foreground", "cpu", never, wait=False)
    assert next(foreground)["kind"] == "started"
    third = turns.in_turn(training(), tmp_path / "third", "cpu", never, seconds=0.01)
    assert next(third)["ahead"] == ["first", "foreground"]
    for events in (first, foreground, third):
        events.close()


def test_an_error_of_the_training_lets_go_of_the_device(tmp_path: Path):
    def failing() -> Iterator[dict[str, Any]]:
        raise ValueError("the disk is full")
        yield {}

    events = turns.in_turn(failing(), tmp_path / "a", "cpu", never)
    with pytest.raises(ValueError, match="the disk is full"):
        next(events)
    assert turns.waiting(tmp_path) == {}


def test_a_killed_trainer_lets_go_of_the_device(tmp_path: Path):
    script = (
        "import sys, time\nfrom vkd.jobs import turns\n"
        "def events():\n    yield {'kind': 'started'}\n    time.sleep(600)\n"
        "for event in turns.in_turn(events(), sys.argv[1], 'cpu', bool):\n    print('on', flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "on\n"
        waiting = turns.in_turn(training(), tmp_path / "next", "cpu", never, seconds=0.01)
        assert next(waiting)["ahead"] == ["killed"]
    finally:
        child.kill()
        child.wait()
    began = time.monotonic()
    assert [event["kind"] for event in waiting] == ["started", "finished"]
    assert time.monotonic() - began < 5


def test_the_device_asked_for_names_the_queue():
    assert turns.device_name("cpu") == "cpu"
    assert turns.device_name("auto") in ("cpu", "cuda") or turns.device_name("auto").startswith("cuda-")


def test_other_work_stands_in_the_same_queue(tmp_path: Path):
    """An evaluation waits for runs, and runs for it; what hears who is ahead may end the waiting."""
    heard: list[list[str]] = []

    def told(ahead: list[str]) -> None:
        heard.append(ahead)
        if len(heard) == 2:
            raise TimeoutError

    with turns.turn(tmp_path, "evaluation-a", "cpu", told):
        run = turns.in_turn(training(), tmp_path / "run", "cpu", never, seconds=0.01)
        assert next(run)["ahead"] == ["evaluation-a"]
        with pytest.raises(TimeoutError), turns.turn(tmp_path, "evaluation-b", "cpu", told, seconds=0.01):
            pytest.fail("the device is taken")
    assert heard == [["evaluation-a", "run"]] * 2
    assert [event["kind"] for event in run] == ["started", "finished"]
