"""An evaluation is a folder: started in a process of its own, watched, cancelled, found again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.jobs import busy_device, until
from vkd.io.errors import CancelledError, VKDError
from vkd.jobs import evaluations, process
from vkd.jobs.evaluations import EvaluationRequest, EvaluationStatus


@pytest.fixture(scope="module")
def checkpoints(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluated")
    for folder in tiny_pair:
        shutil.copytree(folder, root / folder.name)
    return root


def asked(street: Path, **changes: Any) -> EvaluationRequest:
    values = {"checkpoints": ("tiny-teacher", "tiny-student"), "dataset": "street", "root": str(street)}
    return EvaluationRequest(**{**values, "protocols": ("i2v",), **changes})


def wait(folder: Path) -> EvaluationStatus:
    until(
        lambda: evaluations.status(folder).state not in ("waiting", "running", "stopping"),
        lambda: (folder / "log.txt").read_text(),
    )
    return evaluations.status(folder)


def test_evaluation_is_found_again(checkpoints: Path, small_street: Path):
    request = asked(small_street, curves=False)
    folder = evaluations.start(checkpoints, request)
    assert wait(folder).state == "finished"
    assert evaluations.names(checkpoints)[0] == folder.name
    assert evaluations.read_request(evaluations.folder_of(checkpoints, folder.name)) == request
    results = evaluations.load(folder)
    assert list(results.networks) == ["tiny-teacher", "tiny-student"]
    assert results.curves["tiny-teacher"]["i2v"] == {}
    # The table is printed after the results are written and the folder is released.
    until(lambda: "tiny-student − tiny-teacher" in (folder / "log.txt").read_text())


def test_cancelled(checkpoints: Path, small_street: Path):
    folder = evaluations.start(checkpoints, asked(small_street))
    evaluations.cancel(folder)
    status = wait(folder)
    assert (status.state, status.why) == ("stopped", "cancelled")
    until(lambda: not process.alive(folder))
    with pytest.raises(VKDError):
        evaluations.cancel(folder)
    with pytest.raises(VKDError):
        evaluations.load(folder)


def test_evaluation_queues_behind_runs(checkpoints: Path, small_street: Path):
    """Behind a run that trains and an evaluation that asked before; a waiting one can be cancelled."""

    def waits_for(folder: Path, *ahead: str) -> None:
        until(lambda: evaluations.status(folder).ahead == ahead, lambda: (folder / "log.txt").read_text())
        assert evaluations.status(folder).state == "waiting"

    with busy_device(checkpoints, "a-run"):
        first = evaluations.start(checkpoints, asked(small_street, curves=False))
        waits_for(first, "a-run")
        second = evaluations.start(checkpoints, asked(small_street))
        waits_for(second, "a-run", f"evaluation-{first.name}")
        evaluations.cancel(second)
        assert wait(second).why == "cancelled"
        assert evaluations.status(first).state == "waiting"
    assert wait(first).state == "finished"


def test_failed_evaluation_keeps_the_sentence(checkpoints: Path, tmp_path: Path):
    status = wait(evaluations.start(checkpoints, asked(tmp_path / "nowhere")))
    assert status.state == "failed"
    assert str(tmp_path / "nowhere") in status.why


def made(root: Path, name: str, progress: str | None = None, request: str = "{}") -> Path:
    folder = root / evaluations.FOLDER / name
    folder.mkdir(parents=True)
    (folder / "asked.json").write_text(request)
    if progress is not None:
        (folder / "progress.json").write_text(progress)
    return folder


def test_killed_evaluation(tmp_path: Path):
    at = {"state": "running", "done": 30, "total": 90, "network": "a", "begun": 10.0, "now": 20.0, "why": ""}
    folder = made(tmp_path, "20260101-000000", json.dumps(at))
    (folder / "log.txt").write_text("reading\nout of memory\n")
    killed = evaluations.status(folder)
    assert (killed.state, killed.why) == ("died", "out of memory")
    with process.lock(folder):
        working = evaluations.status(folder)
        assert (working.state, working.done, working.seconds_left) == ("running", 30, 20.0)
        process.ask_to_stop(folder)
        assert evaluations.status(folder).state == "stopping"


DEEP = "[" * 100_000


HUGE = f'{{"state":"running","done":{10**400},"total":1,"begun":1,"now":2}}'


@pytest.mark.parametrize(
    "text", [None, "{", "[]", DEEP, '{"state": "gone"}', '{"state":"new","now":1e999}', HUGE]
)
def test_damaged_progress(tmp_path: Path, text: str | None):
    folder = made(tmp_path, "20260101-000000", text)
    assert evaluations.status(folder).state == "damaged"
    with process.lock(folder):
        assert evaluations.status(folder).state == "running"


@pytest.mark.parametrize("text", ["{}", "[]", DEEP, '{"checkpoints": 5}', '{"more": 1}'])
def test_damaged_request(tmp_path: Path, text: str):
    made(tmp_path, "20260101-000000", request=text)
    folder = evaluations.folder_of(tmp_path, *evaluations.names(tmp_path))
    with pytest.raises(VKDError, match="damaged"):
        evaluations.read_request(folder)


def test_names_are_never_paths(tmp_path: Path):
    for name in ("20260101-000000", "20260101-000000-2", "20260101-000000-10"):
        made(tmp_path, name)
    assert evaluations.names(tmp_path) == ["20260101-000000-10", "20260101-000000-2", "20260101-000000"]
    for name in ("../secrets", "", "20991231-000000"):
        with pytest.raises(VKDError):
            evaluations.folder_of(tmp_path, name)


def test_progress_and_errors_are_written(tmp_path: Path):
    with evaluations.recording(tmp_path, seconds=0) as progress:
        progress(5, 10, "tiny-teacher")
        status = evaluations.status(tmp_path)
        assert (status.state, status.done, status.total, status.network) == ("running", 5, 10, "tiny-teacher")
    assert evaluations.status(tmp_path).state == "finished"
    with pytest.raises(OSError, match="disk is full"), evaluations.recording(tmp_path):
        raise OSError("disk is full")
    assert (evaluations.status(tmp_path).state, evaluations.status(tmp_path).why) == (
        "failed",
        "disk is full",
    )

    def cancelled() -> None:
        with evaluations.recording(tmp_path) as progress:
            process.ask_to_stop(tmp_path)
            progress(1, 2, "x")

    with pytest.raises(CancelledError):
        cancelled()
    assert evaluations.status(tmp_path).state == "stopped"


def test_thumbnails_are_small_and_made_once(tmp_path):
    Image.new("RGB", (400, 800), "red").save(tmp_path / "big.png")
    small = evaluations.thumbnail(tmp_path, str(tmp_path / "big.png"))
    assert Image.open(small).size == (64, 128)
    changed = small.stat().st_mtime_ns
    assert evaluations.thumbnail(tmp_path, str(tmp_path / "big.png")).stat().st_mtime_ns == changed
    assert not evaluations.thumbnail(tmp_path, str(tmp_path / "gone.png")).exists()
