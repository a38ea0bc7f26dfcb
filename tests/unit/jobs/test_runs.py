"""A run is a folder: who holds it, what happened in it, and how any process learns so."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vkd.jobs import runs
from vkd.training import settings as asked
from vkd.training.settings import StudentSettings, TeacherSettings


def wait(condition: Any, seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


def event(kind: str, epoch: int = 0, **values: Any) -> dict[str, Any]:
    return {"kind": kind, "epoch": epoch, "time": 100.0 + epoch, **values}


def test_a_run_is_named_after_the_time_the_data_and_the_network(tmp_path: Path):
    folder = runs.create(tmp_path, TeacherSettings(backbone="tiny"))
    assert folder.name[8] == "-"
    assert folder.name[15:] == "-street-tiny-teacher"
    assert runs.NAME.match(folder.name)
    assert asked.load(folder / "settings.json") == TeacherSettings(backbone="tiny")


@pytest.mark.parametrize(
    ("teacher", "name"),
    [
        ("checkpoints/20261123-194644-mars-resnet50-teacher", "mars-resnet50-student"),
        ("mars-resnet50-student-g1", "mars-resnet50-student"),
        ("My Net (2)", "mars-my-net-2-student"),
    ],
)
def test_a_student_is_named_after_its_teacher(teacher: str, name: str):
    assert runs.label(StudentSettings(dataset="mars", teacher=Path(teacher))) == name


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path):
    folders = {runs.create(tmp_path, TeacherSettings()) for _ in range(3)}
    assert len(folders) == 3


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a/b", "-first", "x" * 65, "dot.ted", "new\n"])
def test_names_that_could_leave_the_folder_are_refused(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="no name for a run"):
        runs.check_name(name)


def test_a_name_is_given_once(tmp_path: Path):
    runs.create(tmp_path, TeacherSettings(), "mine")
    with pytest.raises(ValueError, match="is taken"):
        runs.create(tmp_path, TeacherSettings(), "mine")


def test_one_trainer_at_a_time(tmp_path: Path):
    assert not runs.alive(tmp_path)
    with runs.lock(tmp_path):
        assert runs.alive(tmp_path)
        assert runs.pid(tmp_path) == os.getpid()
        with (
            pytest.raises(ValueError, match=rf"being trained by another process \({os.getpid()}\)"),
            runs.lock(tmp_path),
        ):
            pass
    assert not runs.alive(tmp_path)
    with runs.lock(tmp_path):
        pass


def test_a_lock_needs_its_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no such run"), runs.lock(tmp_path / "none"):
        pass


def test_a_look_never_costs_a_trainer_its_lock(tmp_path: Path):
    looker = "import sys; from vkd.jobs import runs\nprint('looking', flush=True)\n"
    looker += "while True: runs.alive(sys.argv[1])"
    (tmp_path / "lock").touch()
    child = subprocess.Popen([sys.executable, "-c", looker, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "looking\n"
        for _ in range(200):
            with runs.lock(tmp_path):
                pass
        assert child.poll() is None, "the looker died, so nothing was tried"
    finally:
        child.kill()
        child.wait()


def test_a_forked_reader_does_not_keep_the_lock(tmp_path: Path):
    with runs.lock(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        wait(lambda: not runs.alive(tmp_path), seconds=10)
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the reader ended, so it could not have kept the lock"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_dead_trainer_holds_nothing(tmp_path: Path):
    hold = "import sys, time; from vkd.jobs import runs\n"
    hold += "with runs.lock(sys.argv[1]):\n print('held', flush=True)\n time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    assert runs.alive(tmp_path)
    assert runs.status(tmp_path).state == "running"
    child.kill()  # not waited for: a zombie still has a pid, but no lock
    wait(lambda: not runs.alive(tmp_path))
    assert runs.pid(tmp_path) == child.pid
    assert runs.status(tmp_path).state == "died"
    child.communicate()


def test_events_are_written_before_they_are_passed_on(tmp_path: Path):
    seen = runs.record(tmp_path, iter([event("started"), event("step"), event("finished", 1)]))
    assert next(seen)["kind"] == "started"
    assert [e["kind"] for e in runs.read(tmp_path)[0]] == ["started"]
    assert [e["kind"] for e in seen] == ["step", "finished"]
    assert [e["kind"] for e in runs.read(tmp_path)[0]] == ["started", "finished"]


def test_the_last_word_of_a_broken_run_is_why(tmp_path: Path):
    def broken() -> Iterator[dict[str, Any]]:
        yield event("started", epochs=3)
        raise ValueError("the picture /x.jpg is missing")

    with pytest.raises(ValueError, match="x"):
        list(runs.record(tmp_path, broken()))
    status = runs.status(tmp_path)
    assert (status.state, status.why) == ("failed", "the picture /x.jpg is missing")


def test_a_reader_goes_on_where_it_stopped_and_waits_for_whole_lines(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    assert runs.read(tmp_path) == ([], 0)
    path.write_bytes(b'{"kind":"started"}\n{"kind":"ep')
    events, offset = runs.read(tmp_path)
    assert (events, offset) == ([{"kind": "started"}], 19)
    assert runs.read(tmp_path, offset) == ([], 19)
    with path.open("ab") as file:
        file.write(b'och"}\n')
    assert runs.read(tmp_path, offset) == ([{"kind": "epoch"}], 36)


def test_damaged_lines_cost_themselves_only(tmp_path: Path):
    lines = [b'{"kind":"a"}', b"\xff\xfe", b"[1]", b'{"no":1}', b'{"kind":3}', b"[" * 5000, b'{"kind":"b"}']
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert [e["kind"] for e in runs.read(tmp_path)[0]] == ["a", "b"]


def test_a_line_torn_by_a_death_is_closed_by_the_next_trainer(tmp_path: Path):
    (tmp_path / "events.jsonl").write_bytes(b'{"kind":"started"}\n{"kind":"epo')
    list(runs.record(tmp_path, iter([event("started")])))
    assert [e["kind"] for e in runs.read(tmp_path)[0]] == ["started", "started"]


def test_numbers_that_are_not_finite_stay_readable_json(tmp_path: Path):
    list(
        runs.record(
            tmp_path, iter([event("scores", scores={"i2v": {"map": float("nan"), "top": [float("inf")]}})])
        )
    )
    line = (tmp_path / "events.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail)["scores"] == {"i2v": {"map": None, "top": [None]}}


def test_every_number_of_an_event_has_a_name():
    epoch = event("epoch", 3, losses={"class": 2.0, "total": 3}, learning_rate=1e-4)
    assert runs.numbers(epoch) == {"losses/class": 2.0, "losses/total": 3.0, "learning_rate": 1e-4}
    scores = event("scores", 3, scores={"i2v": {"map": 0.5, "label": "x"}})
    assert runs.numbers(scores) == {"i2v/map": 0.5}


def test_status_of_a_run_in_its_middle(tmp_path: Path):
    told = [event("started", epochs=10), *(event("epoch", n, losses={"total": 1 / n}) for n in range(1, 5))]
    told.append(event("scores", 4, scores={"i2v": {"map": 0.4}}))
    assert runs.status(tmp_path).state == "new"
    list(runs.record(tmp_path, iter(told)))
    with runs.lock(tmp_path):
        status = runs.status(tmp_path)
    assert (status.state, status.epoch, status.epochs) == ("running", 4, 10)
    assert status.seconds_left == pytest.approx(6.0)
    assert status.losses == {"total": 0.25}
    assert status.scores == {"i2v": {"map": 0.4}}
    assert runs.status(tmp_path).state == "died"


@pytest.mark.parametrize("word", ["finished", "stopped", "failed"])
def test_status_after_the_last_word(tmp_path: Path, word: str):
    with runs.lock(tmp_path):
        list(runs.record(tmp_path, iter([event("started", epochs=1), event(word, 1, why="so")])))
    assert runs.status(tmp_path).state == word
    assert runs.status(tmp_path).why == "so"


def test_a_detached_run_lives_from_the_first_moment_stops_on_request_and_goes_on(
    small_street: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    settings = TeacherSettings(
        backbone="tiny",
        root=small_street,
        image_size=(64, 32),
        views=2,
        samples_per_identity=2,
        epochs=2000,
        evaluate_every=0,
        test_views=2,
        device="cpu",
        workers=1,
    )
    folder = runs.start(settings, tmp_path, name="long")
    request.addfinalizer(lambda: runs.stop(folder, patience=0))
    assert runs.alive(folder)  # before the child has even imported anything
    with pytest.raises(ValueError, match=rf"at work already in process {runs.pid(folder)}: .* stop it first"):
        runs.start(folder=folder)
    number = runs.pid(folder)
    assert number is not None
    assert os.getsid(number) != os.getsid(0)
    wait(lambda: runs.status(folder).epoch >= 2)
    assert runs.stop(folder)
    stopped = runs.status(folder)
    assert stopped.state == "stopped"
    assert "Stopped after epoch" in (folder / "log.txt").read_text()
    assert runs.start(folder=folder) == folder
    wait(lambda: runs.status(folder).epoch > stopped.epoch)
    runs.stop(folder, patience=0)  # SIGTERM follows at once, and it still saves
    wait(lambda: not runs.alive(folder))
    assert runs.status(folder).state == "stopped"
    resumed = [e for e in runs.read(folder)[0] if e["kind"] == "started"]
    assert [e["resumed"] for e in resumed] == [False, True]


def test_starting_says_what_is_missing(tmp_path: Path):
    with pytest.raises(ValueError, match="Say what to train"):
        runs.start()
    with pytest.raises(FileNotFoundError, match="not a training run"):
        runs.start(folder=tmp_path)
