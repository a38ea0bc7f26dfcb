"""The two objectives, step by step as the reference took them; the table of losses; the student's views."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.filled import filled_net
from tests.support.plugins import registrations
from vkd.cli.main import main
from vkd.models.network import Output, ReIDNet, batch_statistics
from vkd.training import settings as settings_io
from vkd.training.objectives import Loss, LossInputs, choose_views, named_losses, pick_views, total
from vkd.training.settings import (
    Settings,
    StudentSettings,
    TeacherSettings,
    register_loss,
)
from vkd.training.trainer import learning_rate


@pytest.fixture(scope="module")
def steps(golden: Path) -> dict:
    return json.loads((golden / "steps.json").read_text())


def images_of(steps: dict) -> Tensor:
    rng = np.random.default_rng(steps["input"]["seed"])
    shape = steps["input"]["shape"]
    noise = rng.standard_normal(shape, dtype=np.float32)
    offset = rng.standard_normal([*shape[:-2], 1, 1], dtype=np.float32)
    return torch.from_numpy(noise + np.float32(1.5) * offset).double()


def adam(net: ReIDNet, steps: dict) -> torch.optim.Adam:
    trained = [weight for weight in net.parameters() if weight.requires_grad]
    return torch.optim.Adam(
        trained, lr=steps["optimiser"]["lr"], weight_decay=steps["optimiser"]["weight_decay"]
    )


def test_teacher_steps_of_the_reference(steps: dict):
    net, images, labels = filled_net("resnet18").train(), images_of(steps), torch.tensor(steps["labels"])
    before = [weight.detach().clone() for weight in net.parameters()]
    optimizer = adam(net, steps)
    expected = steps["baseline"]["float64"]
    for step in range(steps["steps"]):
        losses = named_losses(LossInputs(labels, net(images), None, TeacherSettings()))
        loss = total(losses, TeacherSettings().weights)
        for name, value in {**losses, "total": loss}.items():
            assert value.item() == pytest.approx(expected[name][step], rel=1e-7)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = steps["baseline"]["after_float64"]
    moved = sum(((new - old) ** 2).sum() for new, old in zip(net.parameters(), before, strict=True))
    assert moved.sqrt().item() == pytest.approx(after["param_delta_l2"], rel=1e-7)
    size = sum((weight**2).sum() for weight in net.parameters()).sqrt().item()
    assert size == pytest.approx(after["param_l2"], rel=1e-7)
    stem = net.backbone.stages.get_submodule("stem.1")
    assert stem.running_mean[:4].tolist() == pytest.approx(after["stem_bn_running_mean_first4"], rel=1e-7)
    assert net.neck.running_var[:4].tolist() == pytest.approx(
        after["bottleneck_running_var_first4"], rel=1e-7
    )
    assert stem.num_batches_tracked.item() == after["num_batches_tracked"]
    assert torch.equal(net.neck.bias, dict(filled_net("resnet18").named_parameters())["neck.bias"])


def test_student_steps_of_the_reference(steps: dict):
    """The teacher sees both views, by batch statistics; the student, a copy here, sees the first."""
    teacher, student = filled_net("resnet18"), filled_net("resnet18").train()
    images, labels = images_of(steps), torch.tensor(steps["labels"])
    optimizer = adam(student, steps)
    expected = steps["distill"]["float64"]
    names = {"kd": "kl", "dp": "similarity", "total": "loss"}
    for step in range(steps["steps"]):
        with batch_statistics(teacher):
            output = teacher(images)
        losses = named_losses(LossInputs(labels, student(images[:, :1]), output, StudentSettings()))
        loss = total(losses, StudentSettings().weights)
        for name, value in {**losses, "total": loss}.items():
            assert value.item() == pytest.approx(expected[names.get(name, name)][step], rel=1e-7)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("case", range(4))
def test_learning_rates_of_the_reference(steps: dict, case: int):
    row = steps["lr_schedules"][case]
    first, every, count = row["first_milestone"], row["step_milestone"], row["num_epochs"]
    milestones = tuple(range(first, count, every))
    changes = dict(map(tuple, row["lr_from_epoch"]))
    rate = None
    for epoch in range(count):
        rate = changes.get(epoch, rate)
        assert learning_rate(epoch, 1e-4, milestones, row["gamma"]) == pytest.approx(rate, rel=1e-12)


def output(rows: int, classes: int, seed: int) -> Output:
    draw = torch.Generator().manual_seed(seed)
    embedding = torch.randn(rows, 8, generator=draw)
    return Output(embedding, torch.randn(rows, classes, generator=draw), embedding[:, None])


def losses_of(settings: Settings, teacher: Output | None = None) -> dict[str, Tensor]:
    return named_losses(LossInputs(torch.tensor([0, 0, 1, 1]), output(4, 3, 0), teacher, settings))


def test_logit_mse():
    teacher = output(4, 3, 1)
    losses = losses_of(StudentSettings(logits="mse"), teacher)
    assert set(losses) == {"class", "triplet", "mse", "dp"} == set(StudentSettings(logits="mse").weights)
    expected = ((output(4, 3, 0).logits - teacher.logits) ** 2).mean().item()
    assert losses["mse"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"kd_weight": 0}, {"class", "triplet", "dp"}),  # so the teacher may know other identities
        ({"dp_weight": 0}, {"class", "triplet", "kd"}),
        ({"class_weight": 0}, {"class", "triplet", "kd", "dp"}),
    ],
)
def test_weights_of_zero(values: dict[str, float], names: set[str]):
    classes = 5 if "kd_weight" in values else 3
    assert set(losses_of(StudentSettings(**values), output(4, classes, 1))) == names


def test_without_a_teacher():
    assert losses_of(StudentSettings()) == losses_of(TeacherSettings())


@pytest.fixture
def center_loss() -> Iterator[str]:
    """A loss of a plugin: one registration."""
    with registrations():
        register_loss(
            "center",
            Loss("Center", "Weight of the center loss.", lambda given: given.output.embedding.var(), 0.25),
        )
        yield "center"


def test_registered_loss(center_loss: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for settings in (TeacherSettings(), StudentSettings()):
        assert settings.weights[center_loss] == 0.25
    changed = TeacherSettings.model_validate({"center_weight": 2})
    assert settings_io.load(settings_io.save(changed, tmp_path / "settings.json")) == changed
    assert total(losses_of(changed), changed.weights).item() == pytest.approx(
        sum(losses_of(TeacherSettings())[n].item() * w for n, w in changed.weights.items())
    )
    with pytest.raises(ValueError, match="greater than"):
        StudentSettings.model_validate({"center_weight": -1})
    with pytest.raises(SystemExit):
        main(["train", "student", "--help"])
    assert "--center-weight" in capsys.readouterr().out


def test_views_are_drawn_for_each_sample_from_the_seed():
    chosen = choose_views(200, 8, 2, (3, 4, 5))
    assert torch.equal(chosen, choose_views(200, 8, 2, (3, 4, 5)))
    assert all(len(set(row)) == 2 for row in chosen.tolist())
    counts = torch.bincount(chosen.flatten(), minlength=8)
    assert counts.min() > 25  # 50 expected of each
    for other in [(2, 4, 5), (3, 5, 5), (3, 4, 6)]:
        assert not torch.equal(chosen, choose_views(200, 8, 2, other))


def test_pick_views():
    images = torch.arange(2 * 4).view(2, 4, 1, 1, 1).expand(2, 4, 3, 2, 2)
    picked = pick_views(images, torch.tensor([[3, 0], [1, 2]]))
    assert picked[:, :, 0, 0, 0].tolist() == [[3, 0], [5, 6]]
