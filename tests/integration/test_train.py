"""Whole runs of the tiny network on a small street: what they leave, and that they go on bit by bit."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vkd.cli.main import main
from vkd.data import datasets
from vkd.jobs import runs
from vkd.models import checkpoint
from vkd.training import resume
from vkd.training import settings as asked
from vkd.training.loop import train
from vkd.training.settings import Settings, StudentSettings, TeacherSettings
from vkd.training.trainer import Trainer, subset

QUICK = {
    "image_size": (64, 32),
    "views": 2,
    "identities_per_batch": 4,
    "samples_per_identity": 2,
    "epochs": 2,
    "learning_rate": 1e-3,
    "evaluate_every": 0,
    "test_views": 2,
    "device": "cpu",
    "workers": 0,
}
"""Three groups of 4 × 2 × 2 pictures in an epoch of the small street's twelve people."""

FILES = {"best.safetensors", "config.json", "model.safetensors", "settings.json", "training.pt"}


def teacher_settings(street: Path, **values: Any) -> TeacherSettings:
    return TeacherSettings(**{**QUICK, "backbone": "tiny", "root": street, **values})


def student_settings(street: Path, teacher: Path, **values: Any) -> StudentSettings:
    return StudentSettings(**{**QUICK, "root": street, "teacher": teacher, "views": 4, **values})


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def after(steps: int) -> Callable[[], bool]:
    """A `stop` that says yes once it has been asked `steps` times."""
    asked_so_far = iter(range(1, 1_000_000))
    return lambda: next(asked_so_far) >= steps


@pytest.fixture(scope="module")
def teacher(small_street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    list(train(teacher_settings(small_street), folder))
    return folder


def kept(events: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in events if event["kind"] != "step"]


def test_a_teacher_s_run_tells_its_story_and_leaves_a_checkpoint(small_street: Path, tmp_path: Path):
    events = list(train(teacher_settings(small_street, evaluate_every=1), tmp_path))
    epoch = ["epoch", "scores", "saved"]
    assert kept(events) == ["started", "sanity_check", *epoch, *epoch, "finished"]
    assert {path.name for path in tmp_path.iterdir()} == FILES
    started = events[0]
    assert (started["epochs"], started["steps"], started["identities"]) == (2, 3, 12)
    assert (started["device"], started["processes"], started["resumed"]) == ("CPU", 1, False)
    last = [event for event in events if event["kind"] == "epoch"][-1]
    assert set(last["losses"]) == {"class", "triplet", "total"}
    assert last["losses"]["total"] == pytest.approx(last["losses"]["class"] + last["losses"]["triplet"])
    assert last["learning_rate"] == 1e-3
    assert last["images_per_second"] > 0
    assert last["memory_mb"] > 0
    loaded = checkpoint.load(tmp_path, weights="model")
    assert loaded.config.scores == events[-1]["scores"]
    assert set(loaded.config.scores) == {"i2v", "v2v"}
    assert (loaded.config.epoch, loaded.config.stage, loaded.config.dataset) == (2, "teacher", "street")
    assert len(loaded.config.labels or []) == 12
    assert asked.load(tmp_path / "settings.json") == teacher_settings(small_street, evaluate_every=1)


def test_training_learns(small_street: Path, tmp_path: Path):
    settings = teacher_settings(small_street, epochs=25, learning_rate=5e-3)
    losses = [event["losses"] for event in train(settings, tmp_path) if event["kind"] == "epoch"]
    assert losses[-1]["class"] < losses[0]["class"] - 0.3


def test_a_student_s_run_names_what_it_learns_from_its_teacher(
    small_street: Path, teacher: Path, tmp_path: Path
):
    events = list(train(student_settings(small_street, teacher), tmp_path))
    losses = next(event["losses"] for event in events if event["kind"] == "epoch")
    assert set(losses) == {"class", "triplet", "kd", "dp", "total"}
    expected = losses["class"] + losses["triplet"] + 0.1 * losses["kd"] + 1e-4 * losses["dp"]
    assert losses["total"] == pytest.approx(expected, rel=1e-5)
    config = checkpoint.read_config(tmp_path)
    assert (config.stage, config.parent, config.backbone) == ("student", "teacher", "tiny")


def test_the_teacher_stays_as_it_was(small_street: Path, teacher: Path, tmp_path: Path):
    settings = student_settings(small_street, teacher)
    trainer = Trainer(settings, tmp_path, datasets.read("street", small_street))
    assert trainer.teacher is not None
    before = {name: tensor.clone() for name, tensor in trainer.teacher.state_dict().items()}
    trainer.begin_epoch()
    trainer.step(*next(iter(trainer.loader)), 0)
    assert same(before, trainer.teacher.state_dict())


def test_a_control_without_distillation_needs_no_teacher_s_answer(
    small_street: Path, teacher: Path, tmp_path: Path
):
    settings = student_settings(small_street, teacher, kd_weight=0.0, dp_weight=0.0)
    events = list(train(settings, tmp_path))
    losses = next(event["losses"] for event in events if event["kind"] == "epoch")
    assert set(losses) == {"class", "triplet", "total"}


def test_cross_distillation_starts_from_another_network(small_street: Path, teacher: Path, tmp_path: Path):
    other = tmp_path / "other"
    list(train(teacher_settings(small_street, epochs=1, seed=9), other))
    splits = datasets.read("street", small_street)
    trainer = Trainer(student_settings(small_street, teacher, start=other), tmp_path / "s", splits)
    stem = "trunk.stages.stem.0.weight"
    assert torch.equal(trainer.net.state_dict()[stem], weights(other)[stem])
    assert not torch.equal(trainer.net.state_dict()[stem], weights(teacher)[stem])
    assert trainer.parent == "teacher"


def test_a_later_generation_learns_more_slowly(small_street: Path, teacher: Path, tmp_path: Path):
    settings = student_settings(small_street, teacher, generation=1, learning_rate=1e-4)
    rates = {e["learning_rate"] for e in train(settings, tmp_path) if e["kind"] == "epoch"}
    assert rates == {1e-5}


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"channels_last": True}, {"views_from": "camera"}])
def test_the_machine_s_options_train_too(small_street: Path, tmp_path: Path, change: dict[str, Any]):
    events = list(train(teacher_settings(small_street, epochs=1, **change), tmp_path))
    assert events[-1]["kind"] == "finished"
    assert all(weight.dtype in (torch.float32, torch.int64) for weight in weights(tmp_path).values())


def test_frozen_batch_norm_keeps_its_statistics(small_street: Path, tmp_path: Path):
    list(train(teacher_settings(small_street, freeze_batch_norm=True), tmp_path))
    found = weights(tmp_path)
    for name in (name for name in found if name.endswith("running_mean")):
        assert not found[name].any(), name


def test_accumulated_groups_make_one_step_with_their_mean_gradient(small_street: Path, tmp_path: Path):
    """Three groups with windows of two: the first two share an update, the third has one of its own."""
    splits = datasets.read("street", small_street)
    settings = teacher_settings(small_street, freeze_batch_norm=True)

    def gradients(accumulate: int, groups: list[int]) -> dict[str, Tensor]:
        trainer = Trainer(settings.changed(accumulate=accumulate), tmp_path, splits)
        trainer.begin_epoch()
        batches = list(trainer.loader)
        trainer.optimizer.step = lambda *args, **kwargs: None  # keep the weights, look at the gradients
        trainer.optimizer.zero_grad = lambda *args, **kwargs: None
        for group in groups:
            trainer.step(*batches[group], group)
        return {name: w.grad.clone() for name, w in trainer.net.named_parameters() if w.grad is not None}

    first, second = gradients(1, [0]), gradients(1, [1])
    together, alone = gradients(2, [0, 1]), gradients(2, [2])
    assert all(torch.allclose(together[n], (first[n] + second[n]) / 2, atol=1e-7) for n in first)
    assert same(alone, gradients(1, [2]))


def test_windows_of_updates(small_street: Path, tmp_path: Path):
    settings = teacher_settings(small_street, accumulate=2)
    trainer = Trainer(settings, tmp_path, datasets.read("street", small_street))
    assert [trainer.is_update_step(step) for step in range(3)] == [False, True, True]


@pytest.fixture(scope="module")
def uninterrupted(small_street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    list(train(teacher_settings(small_street, epochs=4), folder))
    return folder


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8])
def test_a_stopped_run_goes_on_to_the_very_same_weights(
    small_street: Path, uninterrupted: Path, tmp_path: Path, steps: int
):
    settings = teacher_settings(small_street, epochs=4)
    first = list(train(settings, tmp_path, after(steps)))
    assert kept(first)[-2:] == ["saved", "stopped"]
    second = list(train(settings, tmp_path))
    assert kept(second)[0] == "started"
    assert second[0]["resumed"]
    assert "sanity_check" not in kept(second)
    epochs = [event["epoch"] for event in first + second if event["kind"] == "epoch"]
    assert epochs == [1, 2, 3, 4]
    assert same(weights(tmp_path), weights(uninterrupted))


def test_a_student_goes_on_to_the_very_same_weights(small_street: Path, teacher: Path, tmp_path: Path):
    settings = student_settings(small_street, teacher, workers=1)
    list(train(settings, tmp_path / "whole"))
    list(train(settings, tmp_path / "parts", after(2)))
    list(train(settings, tmp_path / "parts"))
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_the_mean_losses_of_an_epoch_survive_a_stop_in_its_middle(small_street: Path, tmp_path: Path):
    settings = teacher_settings(small_street, epochs=1)
    whole = [e["losses"] for e in train(settings, tmp_path / "whole") if e["kind"] == "epoch"]
    list(train(settings, tmp_path / "parts", after(1)))
    parts = [e["losses"] for e in train(settings, tmp_path / "parts") if e["kind"] == "epoch"]
    assert parts[0] == pytest.approx(whole[0], rel=1e-12)


def test_a_finished_run_is_only_told_so(small_street: Path, uninterrupted: Path):
    before = weights(uninterrupted)
    events = list(train(teacher_settings(small_street, epochs=4), uninterrupted))
    assert kept(events) == ["started", "finished"]
    assert same(before, weights(uninterrupted))


def test_more_epochs_may_be_asked_of_a_finished_run(small_street: Path, tmp_path: Path, uninterrupted: Path):
    list(train(teacher_settings(small_street, epochs=2), tmp_path))
    list(train(teacher_settings(small_street, epochs=4), tmp_path))
    assert same(weights(tmp_path), weights(uninterrupted))


def test_a_kill_between_the_two_files_of_a_save_is_mended(
    small_street: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """training.pt is already of the second epoch and model.safetensors still of the first."""
    settings = teacher_settings(small_street, epochs=4)
    export = Trainer.export

    def killed(trainer: Trainer, name: str) -> None:
        if trainer.progress.epoch == 2:
            raise KeyboardInterrupt
        export(trainer, name)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "export", killed)
        with pytest.raises(KeyboardInterrupt):
            list(train(settings, tmp_path))
    assert checkpoint.read_config(tmp_path).epoch == 1
    events: Iterator[dict[str, Any]] = train(settings, tmp_path)
    assert next(events)["epoch"] == 2
    next(events)
    assert checkpoint.read_config(tmp_path).epoch >= 2
    list(events)
    assert same(weights(tmp_path), weights(uninterrupted))


def command(folder: Path, street: Path, *more: str) -> list[str]:
    """`vkd train teacher` with the quick settings, as arguments of an interpreter."""
    values = {**QUICK, "image_size": "64 32", "backbone": "tiny", "root": street, "folder": folder}
    flags = [f"--{name.replace('_', '-')} {value}" for name, value in values.items()]
    return ["-m", "vkd", "train", "teacher", *" ".join(flags).split(), *more]


def environment() -> dict[str, str]:
    """One thread count for this process and its children: sums in another order differ in their last bits."""
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def test_a_killed_run_goes_on_to_the_very_same_weights(small_street: Path, tmp_path: Path):
    epochs = 25
    list(train(teacher_settings(small_street, epochs=epochs), tmp_path / "whole"))
    folder = tmp_path / "killed"
    words = [sys.executable, *command(folder, small_street, "--epochs", str(epochs))]
    child = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    limit = time.monotonic() + 120
    while sum(event["kind"] == "epoch" for event in runs.read(folder)[0]) < 3:
        assert child.poll() is None, child.stderr and child.stderr.read().decode()
        assert time.monotonic() < limit
        time.sleep(0.005)
    assert runs.alive(folder)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert runs.status(folder).state == "died"
    done = runs.status(folder).epoch
    assert 3 <= done < epochs
    subprocess.run(words, env=environment(), check=True, stdout=subprocess.DEVNULL)
    assert runs.status(folder).state == "finished"
    assert same(weights(folder), weights(tmp_path / "whole"))
    one, two = resume.load(folder), resume.load(tmp_path / "whole")
    assert one is not None
    assert two is not None
    for number, state in one["optimizer"]["state"].items():
        assert same(state, two["optimizer"]["state"][number])


def test_two_processes_take_the_steps_of_one(small_street: Path, teacher: Path, tmp_path: Path):
    """The same losses on the same groups, and the same gradient: Adam's averages tell of its size.

    A student, because its losses are the teacher's and two more.
    """
    settings = student_settings(small_street, teacher, freeze_batch_norm=True, dp_weight=0.01, margin=0.5)
    alone = [e["losses"] for e in train(settings, tmp_path / "alone") if e["kind"] == "epoch"]
    shared = tmp_path / "shared"
    shared.mkdir()
    asked.save(settings, shared / "settings.json")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = ["-m", "vkd", "train", "student", "--folder", str(shared)]
    launcher = subprocess.Popen(
        [sys.executable, *launch, *words],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, complaints = launcher.communicate(timeout=300)
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)  # with its trainers, who would wait for ever
    assert launcher.returncode == 0, complaints
    events, _ = runs.read(shared)
    assert events[0]["processes"] == 2
    together = [event["losses"] for event in events if event["kind"] == "epoch"]
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    first, second = resume.load(tmp_path / "alone"), resume.load(shared)
    assert first is not None
    assert second is not None
    for number, state in first["optimizer"]["state"].items():
        other = second["optimizer"]["state"][number]
        assert torch.allclose(state["exp_avg"], other["exp_avg"], rtol=1e-3, atol=1e-8)
        assert torch.allclose(state["exp_avg_sq"], other["exp_avg_sq"], rtol=1e-3, atol=1e-12)


def refused(settings: Settings, folder: Path) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        list(train(settings, folder))
    return str(caught.value)


def test_what_does_not_fit_is_refused_before_the_first_step(
    small_street: Path, teacher: Path, tmp_path: Path
):
    quick = teacher_settings(small_street)
    assert "12 training identities, but a batch takes 13" in refused(
        quick.changed(identities_per_batch=13), tmp_path
    )
    assert "does not exist" in refused(quick.changed(root=tmp_path / "nowhere"), tmp_path)
    assert "fp16 needs a CUDA device" in refused(quick.changed(precision="fp16"), tmp_path)
    assert "no config.json" in refused(student_settings(small_street, tmp_path / "none"), tmp_path)
    assert "needs a teacher" in refused(
        student_settings(small_street, teacher).changed(teacher=None), tmp_path
    )
    if not torch.cuda.is_available():
        assert "no CUDA device" in refused(quick.changed(device="cuda"), tmp_path)
    assert list(tmp_path.glob("*.safetensors")) == []


def test_a_teacher_of_other_people_cannot_distil_logits(small_street: Path, tiny_pair: Any, tmp_path: Path):
    from vkd.models.network import ReIDNet

    folder = tmp_path / "five"
    checkpoint.save(folder, ReIDNet("tiny", 5), checkpoint.Config("tiny", 5, (64, 32), dataset="street"))
    settings = student_settings(small_street, folder)
    assert "knows 5 identities" in refused(settings, tmp_path / "run")
    events = list(train(settings.changed(kd_weight=0, epochs=1), tmp_path / "run"))
    losses = next(event["losses"] for event in events if event["kind"] == "epoch")
    assert "kd" not in losses
    assert "dp" in losses


def test_a_run_goes_on_with_its_own_settings_only(small_street: Path, teacher: Path):
    assert "other settings (views, seed)" in refused(teacher_settings(small_street, views=3, seed=4), teacher)
    assert "other settings (stage)" in refused(student_settings(small_street, teacher), teacher)


def test_a_checkpoint_that_is_no_run_is_not_trained_over(small_street: Path, tiny_pair: Any, tmp_path: Path):
    folder = shutil.copytree(tiny_pair[0], tmp_path / "shipped")
    before = weights(folder)
    assert "holds a checkpoint that is no run" in refused(teacher_settings(small_street), folder)
    assert same(weights(folder), before)


def test_a_finished_run_that_travelled_without_its_training_file_is_not_trained_over(
    small_street: Path, teacher: Path, tmp_path: Path
):
    """Neither here nor in a process of its own, and nothing is written into its folder."""
    folder = shutil.copytree(teacher, tmp_path / "record", ignore=shutil.ignore_patterns("training.pt"))
    (folder / "events.jsonl").write_text('{"kind":"finished","epoch":2,"time":1.0}\n')
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "is a finished run without its training.pt" in refused(teacher_settings(small_street), folder)
    with pytest.raises(ValueError, match="cannot go on"):
        runs.start(folder=folder)
    assert main(["train", "teacher", "--folder", str(folder), "--root", str(small_street)]) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_checkpoint_that_is_no_run_is_refused_before_anything_is_written(
    small_street: Path, tiny_pair: Any, tmp_path: Path, detach: list[str], capsys: pytest.CaptureFixture[str]
):
    folder = shutil.copytree(tiny_pair[0], tmp_path / "plain")
    before = sorted(path.name for path in folder.iterdir())
    assert main(["train", "teacher", "--folder", str(folder), "--root", str(small_street), *detach]) == 1
    assert "holds a checkpoint that is no run" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_a_sentence_in_the_record_and_on_the_command_line(
    small_street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
):
    def step(*args: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "step", step)
    asked.save(teacher_settings(small_street), tmp_path / "settings.json")
    assert main(["train", "teacher", "--folder", str(tmp_path)]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith(
        "vkd train: The machine ran out of memory in epoch 1, step 1: lower the views, "
    )
    last = runs.status(tmp_path)
    assert last.state == "failed"
    assert told[0].endswith(last.why)


def test_other_errors_of_a_step_keep_their_name(
    small_street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def step(*args: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(train(teacher_settings(small_street), tmp_path))


def test_a_damaged_training_file_is_named(small_street: Path, tmp_path: Path):
    (tmp_path / "training.pt").write_bytes(b"PK\x03\x04 torn")
    assert f"{tmp_path / 'training.pt'} is damaged" in refused(teacher_settings(small_street), tmp_path)


def test_a_save_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    resume.save(tmp_path, {"number": 1})

    def full(*args: Any) -> None:
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"could not be written .*No space left.*: make room"):
        resume.save(tmp_path, {"number": 2})
    monkeypatch.undo()
    assert (resume.load(tmp_path) or {})["number"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]


def test_losses_that_blow_up_end_the_run(small_street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "vkd.training.objectives.losses.cross_entropy", lambda logits, labels: logits.sum() * float("nan")
    )
    assert "are no longer finite in epoch 1, step 3: lower the learning rate" in refused(
        teacher_settings(small_street), tmp_path
    )


def test_a_small_evaluation_fails_before_the_first_epoch(
    small_street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ValueError("evaluation is broken")

    monkeypatch.setattr("vkd.evaluation.protocols.evaluate", broken)
    events = train(teacher_settings(small_street), tmp_path)
    assert next(events)["kind"] == "started"
    with pytest.raises(ValueError, match="evaluation is broken"):
        next(events)


def test_subset_keep_a_match_for_each(small_street: Path):
    splits = datasets.read("street", small_street)
    few = subset(splits, ("i2v", "v2v"), count=2)
    assert len({tracklet.identity for tracklet in few.query}) == 2
    for protocol in ("i2v", "v2v"):
        assert datasets.valid_queries(*few.query_gallery(protocol)) == len(few.query_gallery(protocol)[0])
    assert few.train == splits.train
    none = dataclasses.replace(splits, query=(), query_images=())
    assert subset(none, ("i2v",)).query == ()
