"""The command line: help everywhere, 2 for wrong arguments, 1 with one sentence for work that failed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vkd.cli.main import VERBS, main
from vkd.cli.train import STOPPED
from vkd.data import datasets
from vkd.jobs import runs


def made(folder: Path) -> list[Path]:
    """What a command left in a folder, besides hidden files."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def vkd(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run a command in this process; → exit code, stdout, stderr."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as done:
        code = int(done.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


QUICK = [
    *("--backbone", "tiny", "--image-size", "64", "32", "--views", "2", "--test-views", "2", "--epochs", "1"),
    *("--identities-per-batch", "4", "--samples-per-identity", "2", "--evaluate-every", "0"),
    *("--device", "cpu", "--workers", "0"),
]


def test_help_needs_nothing_heavy():
    code = "import sys; from vkd.cli.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert time.monotonic() - began < 5  # 0.15 s on an idle machine
    for verb in VERBS:
        assert f"  {verb}" in done.stdout


@pytest.mark.parametrize("words", [[verb] for verb in VERBS] + [["train", "teacher"], ["train", "student"]])
def test_every_verb_explains_itself(capsys: pytest.CaptureFixture[str], words: list[str]):
    code, out, _ = vkd(capsys, *words, "--help")
    assert code == 0
    assert f"usage: vkd {' '.join(words)}" in out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "a verb is missing"),
        ("fly", "there is no verb 'fly'"),
        ("train", "a stage is missing"),
        ("train pupil", "'pupil' is not a stage"),
        ("train teacher --views 0", "--views: input should be greater than or equal to 1, not 0"),
        ("train teacher --views many", "--views"),
        ("train teacher --backbone vgg", "--backbone"),
        ("train teacher --unheard-of 3", "unheard-of"),
        (
            "train teacher --preset mars-resnet50-student",
            "not a preset of a teacher; choose one of mars-resnet18-teacher",
        ),
        ("train teacher --milestones 9 3", "--milestones: milestones (9, 3) must be ascending"),
        ("train student", "give --teacher FOLDER"),
        ("evaluate", "checkpoints: give at least 1"),
        ("evaluate a b c d e f g h i", "checkpoints: give at most 8"),
        ("evaluate a --json out.txt", "--json: out.txt must end in .json"),
        ("index street", "--checkpoints"),
        ("search", "GALLERY"),
        ("street out --difficulty 3", "--difficulty: input should be less than or equal to 1, not 3.0"),
        ("street out --size 0 0", "--size: height and width must be from 16 to 1024 pixels"),
        ("street out --layout duke --junk 1", "--layout: only mars has distractors and junk"),
        ("import", "FOLDER"),
        ("import a b --image-size 0 0", "--image-size: height and width must be from 8 to 4096 pixels"),
    ],
)
def test_wrong_arguments_are_answered_with_2_and_a_sentence(
    capsys: pytest.CaptureFixture[str], line: str, words: str
):
    code, _, err = vkd(capsys, *line.split())
    assert code == 2
    assert words in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train teacher --root {tmp}/none --folder {tmp}/run", "{tmp}/none does not exist"),
        ("evaluate {tmp}/none", "{tmp}/none is not a checkpoint"),
        ("evaluate {pair} --root {tmp}/none", "{tmp}/none does not exist"),
        ("evaluate {pair} {pair}", "need different names"),
        ("index {tmp}/none --checkpoints {pair} --out {tmp}/gallery", "{tmp}/none does not exist"),
        ("search {tmp} {tmp}/x.jpg", "gallery.json"),
        ("explain {tmp}/none --out {tmp}/heat", "{tmp}/none is not a checkpoint"),
        ("explain {pair} --root {street} --out /dev/null", "/dev/null cannot be used: file exists."),
        ("import {tmp} {tmp}/out", "params/hparams.json"),
    ],
)
def test_work_that_fails_is_answered_with_1_and_one_sentence(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    small_street: Path,
    tiny_pair: tuple[Path, Path],
    line: str,
    words: str,
):
    where = {"tmp": tmp_path, "pair": tiny_pair[0], "street": small_street}
    code, _, err = vkd(capsys, *line.format(**where).split())
    assert code == 1
    assert words.format(**where) in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1
    assert made(tmp_path) == []  # nothing half-written


def test_a_street_is_written_and_summed_up(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    people = ["--train-identities", 2, "--test-identities", 2, "--group", 2]
    pictures = ["--cameras", 2, "--frames", 2, "--size", 32, 16]
    code, out, _ = vkd(capsys, "street", tmp_path / "street", *people, *pictures)
    assert code == 0
    assert "| train | 2 | 4 | 8 | 2 |" in out
    assert len(datasets.read_dataset("street", tmp_path / "street").train) == 4


def test_train_prints_its_epochs_and_keeps_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_street: Path
):
    folder = tmp_path / "run"
    words = ["train", "teacher", *QUICK, "--root", small_street, "--folder", folder, "--tensorboard"]
    code, out, _ = vkd(capsys, *words)
    assert code == 0
    assert "epoch 1/1: class " in out
    assert "I2V mAP " in out
    assert (folder / "log.txt").read_text() == out
    kinds = [e["kind"] for e in runs.read(folder)[0] if e["kind"] != "probes"]
    assert kinds == ["started", "sanity_check", "epoch", "scores", "saved", "finished"]
    assert list((folder / "tensorboard").iterdir())
    again, out, _ = vkd(capsys, "train", "teacher", "--folder", folder)  # its own settings, already done
    assert again == 0
    assert "Resuming" in out


def test_runs_without_a_folder_are_made_under_checkpoints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_street: Path
):
    code, _, _ = vkd(capsys, "train", "teacher", *QUICK, "--root", small_street, "--checkpoints", tmp_path)
    assert code == 0
    (folder,) = made(tmp_path)
    assert folder.name.endswith("-street-tiny-teacher")
    vkd(capsys, "train", "teacher", "--root", tmp_path / "none", "--checkpoints", tmp_path)
    assert made(tmp_path) == [folder]  # a run that never started leaves nothing


def test_a_second_trainer_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, small_street: Path):
    with runs.lock(tmp_path):
        code, _, err = vkd(capsys, "train", "teacher", *QUICK, "--root", small_street, "--folder", tmp_path)
    assert code == 1
    assert "already in use by process" in err


def test_a_request_to_stop_is_obeyed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_street: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "stop_requested", lambda folder: True)
    words = ["train", "teacher", *QUICK, "--root", small_street, "--folder", tmp_path, "--epochs", "3"]
    code, out, _ = vkd(capsys, *words)
    assert code == STOPPED
    assert "Stopped after epoch 0 and saved" in out


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_after_saving(tmp_path: Path, small_street: Path, sign: signal.Signals):
    """As from a terminal: the readers of pictures get the signal too."""
    words = ["-m", "vkd", "train", "teacher", *QUICK, "--root", str(small_street), "--folder", str(tmp_path)]
    words += ["--epochs", "5000", "--workers", "1"]
    child = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + 60
    while runs.status(tmp_path).epoch < 1:
        assert child.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.02)
    if sign == signal.SIGINT:
        os.killpg(child.pid, sign)
    else:
        child.send_signal(sign)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 128 + sign
    assert "Traceback" not in err
    assert runs.status(tmp_path).state == "stopped"
    assert (tmp_path / "training.pt").is_file()


def test_generations_follow_each_other(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_street: Path, tiny_pair: tuple[Path, Path]
):
    quick = [*QUICK[2:], "--root", small_street, "--teacher", tiny_pair[0], "--kd-weight", "0"]
    code, _, _ = vkd(capsys, "train", "student", *quick, "--folder", tmp_path / "s", "--generations", "2")
    assert code == 0
    events = {folder.name: runs.read(folder)[0] for folder in made(tmp_path)}
    rates = {
        name: [e["learning_rate"] for e in told if e["kind"] == "epoch"] for name, told in events.items()
    }
    assert rates == {"s": [1e-4], "s-g1": [1e-5]}
    assert json.loads((tmp_path / "s-g1" / "config.json").read_text())["parent"] == "s"


def test_evaluate_compares_two_networks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_street: Path, tiny_pair: tuple[Path, Path]
):
    files = [tmp_path / f"scores.{suffix}" for suffix in ("json", "csv", "md")]
    flags = [
        word
        for file in files
        for word in (f"--{'markdown' if file.suffix == '.md' else file.suffix[1:]}", file)
    ]
    code, out, _ = vkd(
        capsys, "evaluate", *tiny_pair, "--root", small_street, "--workers", 0, "--resamples", 200, *flags
    )
    assert code == 0
    assert "I2V mAP, tiny-student − tiny-teacher: " in out
    assert "95 % interval" in out
    rows = json.loads(files[0].read_text())
    assert [(row["network"], row["protocol"]) for row in rows] == [
        (name, protocol)
        for name in ("tiny-teacher", "tiny-student", "tiny-student − tiny-teacher")
        for protocol in ("i2v", "v2v")
    ]
    difference = next(row for row in rows if row["network"] == "tiny-student − tiny-teacher")
    assert difference["map_low"] <= difference["map"] <= difference["map_high"]
    assert all(file.is_file() for file in files)


def test_index_then_search_then_explain(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_street: Path, tiny_pair: tuple[Path, Path]
):
    gallery = tmp_path / "gallery"
    code, out, _ = vkd(
        capsys, "index", small_street, "--checkpoints", *tiny_pair, "--out", gallery, "--views", 2
    )
    assert code == 0
    assert "24 items, tiny-teacher, tiny-student" in out
    query = datasets.read_dataset("street", small_street).query[0]
    words = ["--checkpoints", tiny_pair[0].parent, "--identity", query.identity, "--camera", query.camera]
    code, out, _ = vkd(
        capsys, "search", gallery, *query.frames[:2], *words, "--top", 3, "--json", tmp_path / "hits.json"
    )
    assert code == 0
    found = json.loads((tmp_path / "hits.json").read_text())
    assert set(found) == {"tiny-teacher", "tiny-student"}
    assert sum(hit["verdict"] != "junk" for hit in found["tiny-teacher"]) == 3
    assert query.frames[0] in out
    code, _, err = vkd(capsys, "search", gallery, query.frames[0], *words, "--cameras", 99)
    assert code == 1
    assert "its cameras: 0, 1" in err
    line = ["--root", small_street, "--out", tmp_path / "heat", "--limit", 2, "--views", 1]
    code, out, _ = vkd(capsys, "explain", *tiny_pair, *line)
    assert code == 0
    assert "on the person" in out
    assert len(list((tmp_path / "heat" / "sheets").iterdir())) == 2


def test_a_plain_folder_is_indexed_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_street: Path, tiny_pair: tuple[Path, Path]
):
    frames = datasets.read_dataset("street", small_street).query[0].frames
    for person in ("ann", "bo"):
        (tmp_path / "people" / person).mkdir(parents=True)
        for frame in frames[:2]:
            (tmp_path / "people" / person / Path(frame).name).write_bytes(Path(frame).read_bytes())
    code, out, _ = vkd(
        capsys, "index", tmp_path / "people", "--checkpoints", tiny_pair[0], "--out", tmp_path / "gallery"
    )
    assert code == 0
    assert "items, tiny-teacher" in out
