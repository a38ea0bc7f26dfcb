"""What a run survives: its trainer killed, its disk full, its record damaged. The page says what happened,
nothing that was saved is lost, and Resume is offered.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from safetensors.torch import load_file

from tests.support.jobs import interrupted, until
from vkd.cli.main import main
from vkd.jobs import events, runs
from vkd.models import checkpoint
from vkd.training import resume
from vkd.training.settings import TeacherSettings
from vkd.ui.state import AppPaths
from vkd.ui.train import curves, tab, views
from vkd.ui.train import runs as train_runs


def asked(street: Path, **changes: Any) -> TeacherSettings:
    """A run of which an epoch takes an instant."""
    quick = {
        "backbone": "tiny", "root": street, "image_size": (64, 32), "views": 2, "test_views": 2,
        "identities_per_batch": 4, "samples_per_identity": 2, "evaluate_every": 0,
        "device": "cpu", "workers": 0,
    }  # fmt: skip
    return TeacherSettings(**{**quick, **changes})


def page_of(folder: Path) -> tuple[str, bool]:
    """What the page says of a run, and whether it offers to resume it."""
    answer = tab.refresh(AppPaths.of(folder.parent), [folder.name], {})
    return answer[2], answer[7]["interactive"]


# --- the trainer is killed ----------------------------------------------------------------------------------


def test_killed_trainer_resumes(small_street: Path, tmp_path: Path, request: pytest.FixtureRequest):
    folder = runs.start(asked(small_street, epochs=5000), tmp_path, name="killed")
    request.addfinalizer(lambda: runs.stop(folder, patience=0))
    until(lambda: (folder / "config.json").is_file(), "no save")
    number = runs.pid(folder)
    assert number is not None
    os.kill(number, signal.SIGKILL)
    until(lambda: not runs.alive(folder), "it lives")

    told, offered = page_of(folder)
    saved = checkpoint.read_config(folder).epoch
    assert "Process was killed" in told
    assert f"after epoch {saved}" in told
    assert offered
    assert checkpoint.load(folder).config.epoch == saved >= 1

    before = len(runs.read(folder)[0])
    runs.start(folder=folder)
    until(lambda: any(event["kind"] == "started" for event in runs.read(folder)[0][before:]), "no start")
    again = next(event for event in runs.read(folder)[0][before:] if event["kind"] == "started")
    assert again["resumed"]
    assert again["epoch"] >= saved


# --- the disk is full ---------------------------------------------------------------------------------------


class Disk:
    """A disk of 8 MiB that can be filled; where none may be mounted, writes fail as on a full one."""

    def __init__(self, place: Path, real: bool, patch: pytest.MonkeyPatch) -> None:
        self.place, self.real, self.patch = place, real, patch

    def fill(self) -> None:
        if self.real:
            with suppress(OSError), (self.place / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            return

        def full(*args: Any, **values: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch.setattr("torch.save", full)
        self.patch.setattr("vkd.models.checkpoint.save_file", full)
        self.patch.setattr("vkd.jobs.events._append", full)
        self.patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(8, 8, 0))

    def empty(self) -> None:
        (self.place / "filler").unlink(missing_ok=True)
        self.patch.undo()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    real = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        yield Disk(place, real, patch)
    if real:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_ends_the_run_with_a_sentence_and_keeps_the_last_save(
    small_street: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = runs.create(disk.place, asked(small_street, epochs=3), "full")
    words = ["train", "teacher", "--folder", str(folder)]
    save, saves = resume.save, []

    def fill_before_the_second(*values: Any) -> Path:
        saves.append(1)
        if len(saves) == 2:
            disk.fill()
        return save(*values)

    monkeypatch.setattr(resume, "save", fill_before_the_second)
    assert main(words) == 1
    assert "training.pt could not be written" in capsys.readouterr().err

    told, offered = page_of(folder)
    assert "MiB left" in told
    assert "after epoch 1" in told
    assert offered
    assert checkpoint.load(folder).config.epoch == 1
    assert (resume.load(folder) or {})["progress"]["epoch"] == 1
    assert not list(folder.glob(".*.tmp")), "no half-written file stays"

    assert main(words) == 1, "there is still no room"
    assert checkpoint.load(folder).config.epoch == 1
    disk.empty()
    assert main(words) == 0
    told, offered = page_of(folder)
    assert "finished" in told
    assert "MiB left" not in told
    assert not offered
    epochs = [event["epoch"] for event in runs.read(folder)[0] if event["kind"] == "epoch"]
    assert sorted(set(epochs)) == [1, 2, 3]


def test_full_disk_record(disk: Disk):
    def record() -> None:
        with events.recording(disk.place) as write:
            write({"kind": "started", "time": 1.0})
            disk.fill()
            for number in range(1000):
                write({"kind": "epoch", "epoch": number, "time": 1.0, "losses": {"a long name " * 9: 1.0}})

    with pytest.raises(OSError, match="No space left"):
        record()
    text = (disk.place / "events.jsonl").read_bytes()
    assert text.endswith(b"\n")
    assert all(json.loads(line)["kind"] in ("started", "epoch") for line in text.splitlines())
    disk.empty()
    with events.recording(disk.place) as write:
        write({"kind": "started", "time": 2.0})
    assert runs.read(disk.place)[0][-1] == {"kind": "started", "time": 2.0}


def test_full_disk_checkpoint(disk: Disk, tiny_pair: tuple[Path, Path]):
    loaded = checkpoint.load(tiny_pair[0])
    checkpoint.save(disk.place / "net", loaded.net, loaded.config)
    before = load_file(disk.place / "net" / "model.safetensors")
    disk.fill()
    with pytest.raises(OSError, match=r"model\.safetensors could not be written .*: make room on the disk"):
        checkpoint.save(disk.place / "net", loaded.net, loaded.config)
    after = load_file(disk.place / "net" / "model.safetensors")
    assert all(before[name].equal(after[name]) for name in before)
    assert not list((disk.place / "net").glob(".*"))


# --- the record is damaged ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halted(small_street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended without a last word after two of three epochs."""
    settings = asked(small_street, epochs=3)
    return interrupted(settings, runs.create(tmp_path_factory.mktemp("halted"), settings, "run"), epoch=2)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def scramble(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def scramble_without_a_line(path: Path) -> None:
    path.write_bytes(b"\xff\x00" * 4000)


def scramble_the_middle(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\x00\xff\n", *lines[2:]]))


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (cut, "ends within a line"),
        (scramble, "invalid lines ignored"),
        (scramble_without_a_line, "ends within a line"),
        (scramble_the_middle, "invalid lines ignored: 1"),
        (Path.unlink, "events.jsonl is missing"),
        (make_a_folder, "events.jsonl is missing"),
    ],
)
def test_damaged_record_keeps_the_save(
    halted: Path, tmp_path: Path, harm: Callable[[Path], None], words: str
):
    folder = Path(shutil.copytree(halted, tmp_path / "run"))
    harm(folder / "events.jsonl")
    told, offered = page_of(folder)
    assert words in told
    assert "after epoch 2" in told
    assert offered
    assert checkpoint.load(folder).config.epoch == 2


@pytest.mark.parametrize("harm", [scramble_without_a_line, Path.unlink])
def test_damaged_record_resumes(halted: Path, tmp_path: Path, harm: Callable[[Path], None]):
    folder = Path(shutil.copytree(halted, tmp_path / "run"))
    harm(folder / "events.jsonl")
    assert main(["train", "teacher", "--folder", str(folder)]) == 0
    run = train_runs.read_run(tmp_path, "run")
    assert run.state == "finished"
    assert run.status.epoch == 3


def test_nothing_saved(tmp_path: Path):
    assert "from the beginning" in train_runs.saved_state(tmp_path)


ANYTHING = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(),
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = (
    "time",
    "epoch",
    "epochs",
    "losses",
    "scores",
    "notes",
    "ahead",
    "why",
    "device",
    "images_per_second",
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=strategies.sampled_from(["started", "epoch", "scores", "waiting", "failed", "finished"]),
    values=strategies.dictionaries(strategies.sampled_from(FIELDS), ANYTHING),
)
def test_any_line_of_a_record(halted: Path, kind: str, values: dict[str, Any]):
    folder = halted.with_name("any")
    if not folder.exists():
        shutil.copytree(halted, folder)
    line = json.dumps({"kind": kind, "time": 1.0, **values}) + "\n"
    (folder / "events.jsonl").write_bytes((halted / "events.jsonl").read_bytes() + line.encode())
    train_runs._EVENTS.clear()
    with runs.lock(folder):
        run = train_runs.read_run(folder.parent, "any")
        views.list_html([run], ["any"], train_runs.colour_indexes([run]))
        views.headline_html(run)
    drawn = curves.refresh(folder.parent, ["any"], {}, "")
    json.dumps([drawn, train_runs.as_json(train_runs.read_run(folder.parent, "any"))])
