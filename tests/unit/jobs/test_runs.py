"""A run is a folder: its name, its status, its teacher; detached runs."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import event, until, write_events
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import NAME
from vkd.jobs import runs
from vkd.training import settings as settings_io
from vkd.training.settings import StudentSettings, TeacherSettings


def test_default_name(tmp_path: Path):
    folder = runs.create(tmp_path, TeacherSettings(backbone="tiny"))
    assert folder.name[8] == "-"
    assert folder.name[15:] == "-street-tiny-teacher"
    assert NAME.fullmatch(folder.name)
    assert settings_io.load(folder / "settings.json") == TeacherSettings(backbone="tiny")
    assert len({runs.create(tmp_path, TeacherSettings()) for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("teacher", "name"),
    [
        ("checkpoints/20261123-194644-mars-resnet50-teacher", "mars-resnet50-student"),
        ("mars-resnet50-student-g1", "mars-resnet50-student"),
        ("My Net (2)", "mars-my-net-2-student"),
    ],
)
def test_student_is_named_after_its_teacher(teacher: str, name: str):
    assert runs.label(StudentSettings(dataset="mars", teacher=Path(teacher))) == name


@pytest.mark.parametrize("name", ["Upper", "../up", "a/b", "-first", "x" * 65, "dot.ted", "new\n", "mine"])
def test_unusable_names(tmp_path: Path, name: str):
    runs.create(tmp_path, TeacherSettings(), "mine")
    with pytest.raises(VKDError):
        runs.create(tmp_path, TeacherSettings(), name)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_status_in_the_middle(tmp_path: Path):
    assert runs.status(tmp_path).state == "new"
    losses = [event("epoch", n, losses={"total": 1 / n}) for n in range(1, 5)]
    write_events(
        tmp_path, event("started", epochs=10), *losses, event("scores", 4, scores={"i2v": {"map": 0.4}})
    )
    with runs.lock(tmp_path):
        status = runs.status(tmp_path)
    assert (status.state, status.epoch, status.epochs) == ("running", 4, 10)
    assert status.seconds_left == pytest.approx(6.0)
    assert (status.losses, status.scores) == ({"total": 0.25}, {"i2v": {"map": 0.4}})
    assert runs.status(tmp_path).state == "died"


@pytest.mark.parametrize("kind", ["finished", "stopped", "failed"])
def test_status_at_the_end(tmp_path: Path, kind: str):
    with runs.lock(tmp_path):
        write_events(tmp_path, event("started", epochs=1), event(kind, 1, why="so"))
    assert (runs.status(tmp_path).state, runs.status(tmp_path).why) == (kind, "so")


def test_status_of_a_damaged_record(tmp_path: Path):
    (tmp_path / "events.jsonl").write_text(
        '{"kind":"started","time":1e999,"epochs":"x"}\n' + "[" * 100_000 + "\n"
    )
    assert runs.status(tmp_path).state == "new"
    (tmp_path / "events.jsonl").unlink()
    (tmp_path / "events.jsonl").mkdir()
    assert runs.status(tmp_path).state == "damaged"


def test_teacher_of_a_student(tmp_path: Path, tiny_pair: tuple[Path, Path]):
    teacher, student = tiny_pair
    assert runs.teacher_of(student) == teacher.resolve()  # the config names it, and it lies beside
    assert runs.teacher_of(teacher) is None
    moved = StudentSettings(teacher=Path("/gone/tiny-teacher"))
    assert runs.teacher_of(student, moved) == teacher.resolve()
    assert runs.teacher_of(tmp_path, moved) is None
    assert runs.teacher_of(tmp_path, StudentSettings(teacher=student)) == student


def test_detached_run_stop_and_resume(small_street: Path, tmp_path: Path, request: pytest.FixtureRequest):
    values: dict[str, Any] = {"image_size": (64, 32), "views": 2, "samples_per_identity": 2, "test_views": 2}
    values |= {"epochs": 2000, "evaluate_every": 0, "device": "cpu", "workers": 1}
    folder = runs.start(TeacherSettings(backbone="tiny", root=small_street, **values), tmp_path, name="long")
    request.addfinalizer(lambda: runs.stop(folder, patience=0))
    assert runs.alive(folder)  # before the child has even imported anything
    number = runs.pid(folder)
    assert number is not None
    with pytest.raises(VKDError, match=f"process {number}"):
        runs.start(folder=folder)
    assert os.getsid(number) != os.getsid(0)
    until(lambda: runs.status(folder).epoch >= 2)
    assert runs.stop(folder)
    stopped = runs.status(folder)
    assert stopped.state == "stopped"
    assert "Stopped after epoch" in (folder / "log.txt").read_text()
    assert runs.start(folder=folder) == folder
    until(lambda: runs.status(folder).epoch > stopped.epoch)
    runs.stop(folder, patience=0)  # SIGTERM follows at once, and it still saves
    until(lambda: not runs.alive(folder))
    assert runs.status(folder).state == "stopped"
    resumed = [each["resumed"] for each in runs.read(folder)[0] if each["kind"] == "started"]
    assert resumed == [False, True]


def test_detached_run_that_cannot_begin_says_why(tmp_path: Path):
    folder = runs.start(TeacherSettings(backbone="tiny", root=tmp_path / "none", device="cpu"), tmp_path)
    until(lambda: not runs.alive(folder))
    assert runs.status(folder).state == "failed"
    assert "none" in runs.status(folder).why
    assert "none" in (folder / "log.txt").read_text()


def test_start_needs_settings_or_a_run(tmp_path: Path):
    with pytest.raises(VKDError):
        runs.start()
    with pytest.raises(MissingFileError):
        runs.start(folder=tmp_path)
