"""Whole runs of the tiny network on the small street: what they emit, leave behind and refuse."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.training import (
    events_of,
    kinds,
    losses_of,
    same,
    student_settings,
    teacher_settings,
    weights,
)
from vkd.cli.main import main
from vkd.data import datasets
from vkd.io.errors import VKDError
from vkd.jobs import runs
from vkd.models import checkpoint
from vkd.training import loop
from vkd.training import settings as settings_io
from vkd.training.trainer import Trainer, subset


def test_teacher_run(small_street: Path, tmp_path: Path):
    events = events_of(teacher_settings(small_street, evaluate_every=1), tmp_path)
    epoch = ["epoch", "scores", "saved"]
    assert kinds(events) == ["started", "sanity_check", *epoch, *epoch, "finished"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors", "config.json", "model.safetensors", "settings.json", "training.pt",
    ]  # fmt: skip

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
    assert settings_io.load(tmp_path / "settings.json") == teacher_settings(small_street, evaluate_every=1)


def test_training_learns(small_street: Path, tmp_path: Path):
    settings = teacher_settings(small_street, epochs=25, learning_rate=5e-3)
    losses = losses_of(events_of(settings, tmp_path))
    assert losses[-1]["class"] < losses[0]["class"] - 0.3


def test_student_run(small_street: Path, teacher: Path, tmp_path: Path):
    events = events_of(student_settings(small_street, teacher), tmp_path)
    losses = losses_of(events)[0]
    assert set(losses) == {"class", "triplet", "kd", "dp", "total"}
    expected = losses["class"] + losses["triplet"] + 0.1 * losses["kd"] + 1e-4 * losses["dp"]
    assert losses["total"] == pytest.approx(expected, rel=1e-5)
    config = checkpoint.read_config(tmp_path)
    assert (config.stage, config.parent, config.backbone) == ("student", "teacher", "tiny")


def test_teacher_is_frozen(small_street: Path, teacher: Path, tmp_path: Path):
    settings = student_settings(small_street, teacher)
    trainer = Trainer(settings, tmp_path, datasets.read_dataset("street", small_street))
    assert trainer.teacher is not None
    before = {name: tensor.clone() for name, tensor in trainer.teacher.state_dict().items()}
    trainer.begin_epoch()
    trainer.step(*next(iter(trainer.loader)), 0)
    assert same(before, trainer.teacher.state_dict())


def test_control_without_distillation(small_street: Path, teacher: Path, tmp_path: Path):
    settings = student_settings(small_street, teacher, kd_weight=0.0, dp_weight=0.0)
    events = events_of(settings, tmp_path)
    losses = losses_of(events)[0]
    assert set(losses) == {"class", "triplet", "total"}


def test_cross_distillation(small_street: Path, teacher: Path, tmp_path: Path):
    other = tmp_path / "other"
    events_of(teacher_settings(small_street, epochs=1, seed=9), other)
    splits = datasets.read_dataset("street", small_street)
    trainer = Trainer(student_settings(small_street, teacher, start=other), tmp_path / "s", splits)
    stem = "trunk.stages.stem.0.weight"
    assert torch.equal(trainer.net.state_dict()[stem], weights(other)[stem])
    assert not torch.equal(trainer.net.state_dict()[stem], weights(teacher)[stem])
    assert trainer.parent == "teacher"


def test_generation_learning_rate(small_street: Path, teacher: Path, tmp_path: Path):
    settings = student_settings(small_street, teacher, generation=1, learning_rate=1e-4)
    rates = {e["learning_rate"] for e in events_of(settings, tmp_path) if e["kind"] == "epoch"}
    assert rates == {1e-5}


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"channels_last": True}, {"views_from": "camera"}])
def test_runtime_options(small_street: Path, tmp_path: Path, change: dict[str, Any]):
    events = events_of(teacher_settings(small_street, epochs=1, **change), tmp_path)
    assert events[-1]["kind"] == "finished"
    assert all(weight.dtype in (torch.float32, torch.int64) for weight in weights(tmp_path).values())


def test_frozen_batch_norm(small_street: Path, tmp_path: Path):
    events_of(teacher_settings(small_street, freeze_batch_norm=True), tmp_path)
    found = weights(tmp_path)
    for name in (name for name in found if name.endswith("running_mean")):
        assert not found[name].any(), name


def test_gradient_accumulation(small_street: Path, tmp_path: Path):
    """Three groups with windows of two: the first two share an update, the third has one of its own."""
    splits = datasets.read_dataset("street", small_street)
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


def test_update_steps(small_street: Path, tmp_path: Path):
    settings = teacher_settings(small_street, accumulate=2)
    trainer = Trainer(settings, tmp_path, datasets.read_dataset("street", small_street))
    assert [trainer.is_update_step(step) for step in range(3)] == [False, True, True]


def test_unfit_settings_are_refused(small_street: Path, teacher: Path, tmp_path: Path):
    quick = teacher_settings(small_street)
    student = student_settings(small_street, teacher)
    unfit = {
        "needs 13": quick.changed(identities_per_batch=13),
        "nowhere": quick.changed(root=tmp_path / "nowhere"),
        "fp16": quick.changed(precision="fp16"),
        r"none.*config\.json": student.changed(teacher=tmp_path / "none"),
        "teacher": student.changed(teacher=None),
    }
    if not torch.cuda.is_available():
        unfit["CUDA"] = quick.changed(device="cuda")
    for pattern, settings in unfit.items():
        with pytest.raises(VKDError, match=pattern):
            loop.train(settings, tmp_path / "run")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_teacher_of_other_identities(small_street: Path, tiny_pair: Any, tmp_path: Path):
    from vkd.models.network import ReIDNet

    folder = tmp_path / "five"
    checkpoint.save(folder, ReIDNet("tiny", 5), checkpoint.Config("tiny", 5, (64, 32), dataset="street"))
    settings = student_settings(small_street, folder)
    with pytest.raises(VKDError, match="5 other"):
        loop.train(settings, tmp_path / "run")
    events = events_of(settings.changed(kd_weight=0, epochs=1), tmp_path / "run")
    losses = losses_of(events)[0]
    assert "kd" not in losses
    assert "dp" in losses


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
def test_out_of_memory(
    small_street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
):
    def step(*args: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "step", step)
    settings_io.save(teacher_settings(small_street), tmp_path / "settings.json")
    assert main(["train", "teacher", "--folder", str(tmp_path)]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith(
        "vkd train: The machine ran out of memory in epoch 1, step 1: lower the views, "
    )
    last = runs.status(tmp_path)
    assert last.state == "failed"
    assert told[0].endswith(last.why)


def test_other_errors_keep_their_type(small_street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def step(*args: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        events_of(teacher_settings(small_street), tmp_path)


def test_infinite_losses_end_the_run(small_street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vkd.losses.cross_entropy", lambda logits, labels: logits.sum() * float("nan"))
    with pytest.raises(VKDError, match="epoch 1, step 3"):
        loop.train(teacher_settings(small_street), tmp_path)


def test_sanity_check_fails_first(small_street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ValueError("evaluation is broken")

    monkeypatch.setattr("vkd.evaluation.protocols.evaluate", broken)
    events: list[dict[str, Any]] = []
    with pytest.raises(ValueError, match="evaluation is broken"):
        loop.train(teacher_settings(small_street), tmp_path, [events.append])
    assert kinds(events) == ["started"]


def test_subset_has_matches(small_street: Path):
    splits = datasets.read_dataset("street", small_street)
    few = subset(splits, ("i2v", "v2v"), count=2)
    assert len({tracklet.identity for tracklet in few.query}) == 2
    for protocol in ("i2v", "v2v"):
        assert datasets.valid_queries(*few.query_gallery(protocol)) == len(few.query_gallery(protocol)[0])
    assert few.train == splits.train
    none = dataclasses.replace(splits, query=(), query_images=())
    assert subset(none, ("i2v",)).query == ()
