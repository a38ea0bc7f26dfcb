"""An evaluation is a folder: started in a process of its own, watched, cancelled, found again."""

import json
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from vkd.jobs import evaluations, runs, turns
from vkd.jobs.evaluations import EvaluationRequest


@pytest.fixture(scope="module")
def checkpoints(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluated")
    for folder in tiny_pair:
        shutil.copytree(folder, root / folder.name)
    return root


def asked(street: Path, **changes) -> EvaluationRequest:
    values = {"checkpoints": ("tiny-teacher", "tiny-student"), "dataset": "street", "root": str(street)}
    return EvaluationRequest(**{**values, "protocols": ("i2v",), **changes})


def wait(folder: Path, seconds: float = 90) -> evaluations.EvaluationStatus:
    until = time.monotonic() + seconds
    while (status := evaluations.status(folder)).state in ("waiting", "running", "stopping"):
        assert time.monotonic() < until, (folder / "log.txt").read_text()
        time.sleep(0.1)
    return status


def test_an_evaluation_runs_by_itself_and_is_found_again(checkpoints, small_street):
    wanted = asked(small_street, curves=False)
    folder = evaluations.start(checkpoints, wanted)
    assert wait(folder).state == "finished"
    assert evaluations.names(checkpoints)[0] == folder.name
    assert evaluations.asked_of(evaluations.folder_of(checkpoints, folder.name)) == wanted
    found = evaluations.load(folder)
    assert list(found.networks) == ["tiny-teacher", "tiny-student"]
    assert found.curves["tiny-teacher"]["i2v"] == {}
    while runs.alive(folder):  # the table is printed once all is kept
        time.sleep(0.1)
    assert "student − teacher" in (folder / "log.txt").read_text()


def test_a_cancelled_evaluation_says_so(checkpoints, small_street):
    folder = evaluations.start(checkpoints, asked(small_street))
    evaluations.cancel(folder)
    status = wait(folder)
    assert (status.state, status.why) == ("stopped", "cancelled")
    with pytest.raises(ValueError, match="nothing to cancel"):
        evaluations.cancel(folder)
    with pytest.raises(ValueError, match="has no results"):
        evaluations.load(folder)


def test_an_evaluation_waits_for_the_device_as_runs_do(checkpoints, small_street):
    """Behind a run that trains and an evaluation that asked before; a waiting one can be cancelled."""

    def waits_for(folder: Path, *ahead: str) -> None:
        until = time.monotonic() + 60
        while (status := evaluations.status(folder)).ahead != ahead:
            assert time.monotonic() < until, (status, (folder / "log.txt").read_text())
            time.sleep(0.1)
        assert status.state == "waiting"

    with turns.turn(checkpoints, "a-run", turns.device_name("auto"), print):
        first = evaluations.start(checkpoints, asked(small_street, curves=False))
        waits_for(first, "a-run")
        second = evaluations.start(checkpoints, asked(small_street))
        waits_for(second, "a-run", f"evaluation-{first.name}")
        evaluations.cancel(second)
        assert wait(second).why == "cancelled"
        assert evaluations.status(first).state == "waiting"
    assert wait(first).state == "finished"
    assert turns.waiting(checkpoints) == {}


def test_a_failed_evaluation_keeps_the_sentence(checkpoints, tmp_path):
    status = wait(evaluations.start(checkpoints, asked(tmp_path / "nowhere")))
    assert status.state == "failed"
    assert "does not exist" in status.why


def made(root: Path, name: str, progress: str | None) -> Path:
    folder = root / evaluations.PLACE / name
    folder.mkdir(parents=True)
    (folder / "asked.json").write_text("{}")
    if progress is not None:
        (folder / "progress.json").write_text(progress)
    return folder


def test_a_killed_evaluation_is_told_from_one_at_work(tmp_path):
    at = {"state": "running", "done": 30, "total": 90, "network": "a", "begun": 10.0, "now": 20.0, "why": ""}
    folder = made(tmp_path, "20260101-000000", json.dumps(at))
    (folder / "log.txt").write_text("reading\nout of memory\n")
    dead = evaluations.status(folder)
    assert (dead.state, dead.why) == ("died", "out of memory")
    with runs.lock(folder):
        working = evaluations.status(folder)
        assert (working.state, working.done, working.seconds_left) == ("running", 30, 20.0)
        runs.ask_to_stop(folder)
        assert evaluations.status(folder).state == "stopping"


@pytest.mark.parametrize("progress", [None, "{", "[]", '{"state": "running"}'])
def test_a_damaged_progress_stops_nobody(tmp_path, progress):
    assert evaluations.status(made(tmp_path, "20260101-000000", progress)).state == "died"


def test_names_are_names_and_never_paths(tmp_path):
    for name in ("20260101-000000", "20260101-000000-2", "20260101-000000-10"):
        made(tmp_path, name, None)
    assert evaluations.names(tmp_path) == ["20260101-000000-10", "20260101-000000-2", "20260101-000000"]
    for name in ("../secrets", "", "20991231-000000"):
        with pytest.raises(ValueError, match="There is no evaluation called"):
            evaluations.folder_of(tmp_path, name)
    with pytest.raises(ValueError, match="is damaged"):
        evaluations.asked_of(made(tmp_path, "20260102-000000", None))


def test_progress_is_written_down_and_errors_go_on(tmp_path):
    with evaluations.recording(tmp_path, seconds=0) as told:
        told(5, 10, "tiny-teacher")
        status = evaluations.status(tmp_path)
        assert (status.state, status.done, status.total, status.network) == ("running", 5, 10, "tiny-teacher")
    assert evaluations.status(tmp_path).state == "finished"
    with pytest.raises(OSError, match="disk is full"), evaluations.recording(tmp_path):
        raise OSError("disk is full")
    assert evaluations.status(tmp_path).why == "disk is full"

    def stopped() -> None:
        with evaluations.recording(tmp_path) as told:
            runs.ask_to_stop(tmp_path)
            told(1, 2, "x")

    with pytest.raises(evaluations.Stopped):
        stopped()
    assert evaluations.status(tmp_path).state == "stopped"


def test_thumbnails_are_small_and_made_once(tmp_path):
    Image.new("RGB", (400, 800), "red").save(tmp_path / "big.png")
    small = evaluations.thumbnail(tmp_path, str(tmp_path / "big.png"))
    assert Image.open(small).size == (64, 128)
    changed = small.stat().st_mtime_ns
    assert evaluations.thumbnail(tmp_path, str(tmp_path / "big.png")).stat().st_mtime_ns == changed
    assert not evaluations.thumbnail(tmp_path, str(tmp_path / "gone.png")).exists()
