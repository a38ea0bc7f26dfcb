"""The two objectives, step by step as the reference took them, and the choice of the student's views."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.filled import filled_net
from vkd.models.network import Output, ReIDNet, batch_statistics
from vkd.training.objectives import choose_views, pick_views, student_losses, teacher_losses, total
from vkd.training.settings import StudentSettings, TeacherSettings, learning_rate


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


def test_three_teacher_steps_are_those_of_the_reference(steps: dict):
    net, images, labels = filled_net("resnet18").train(), images_of(steps), torch.tensor(steps["labels"])
    before = [weight.detach().clone() for weight in net.parameters()]
    optimizer = adam(net, steps)
    expected = steps["baseline"]["float64"]
    for step in range(steps["steps"]):
        losses = teacher_losses(net(images), labels)
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


def test_three_student_steps_are_those_of_the_reference(steps: dict):
    """The teacher sees both views, by batch statistics; the student, a copy here, sees the first."""
    teacher, student = filled_net("resnet18"), filled_net("resnet18").train()
    images, labels = images_of(steps), torch.tensor(steps["labels"])
    optimizer = adam(student, steps)
    expected = steps["distill"]["float64"]
    names = {"kd": "kl", "dp": "similarity", "total": "loss"}
    for step in range(steps["steps"]):
        with batch_statistics(teacher):
            taught = teacher(images)
        losses = student_losses(student(images[:, :1]), taught, labels)
        loss = total(losses, StudentSettings().weights)
        for name, value in {**losses, "total": loss}.items():
            assert value.item() == pytest.approx(expected[names.get(name, name)][step], rel=1e-7)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("case", range(4))
def test_the_learning_rate_falls_where_the_reference_lets_it_fall(steps: dict, case: int):
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


def test_logits_can_be_matched_instead_of_distilled():
    labels = torch.tensor([0, 0, 1, 1])
    student, teacher = output(4, 3, 0), output(4, 3, 1)
    found = student_losses(student, teacher, labels, logits="mse")
    assert set(found) == {"class", "triplet", "mse", "dp"} == set(StudentSettings(logits="mse").weights)
    assert found["mse"].item() == pytest.approx(
        ((student.logits - teacher.logits) ** 2).mean().item(), rel=1e-6
    )


def test_a_teacher_of_other_classes_still_teaches_distances():
    found = student_losses(output(4, 3, 0), output(4, 5, 1), torch.tensor([0, 0, 1, 1]), logits=None)
    assert set(found) == {"class", "triplet", "dp"}


def test_without_a_teacher_the_student_has_the_losses_of_stage_one():
    labels = torch.tensor([0, 0, 1, 1])
    assert student_losses(output(4, 3, 0), None, labels) == teacher_losses(output(4, 3, 0), labels)


def test_each_sample_has_its_own_views_and_the_same_ones_for_the_same_seed():
    chosen = choose_views(200, 8, 2, (3, 4, 5))
    assert torch.equal(chosen, choose_views(200, 8, 2, (3, 4, 5)))
    assert all(len(set(row)) == 2 for row in chosen.tolist())
    counts = torch.bincount(chosen.flatten(), minlength=8)
    assert counts.min() > 25  # 50 expected of each
    for other in [(2, 4, 5), (3, 5, 5), (3, 4, 6)]:
        assert not torch.equal(chosen, choose_views(200, 8, 2, other))


def test_picked_views_are_those_chosen():
    images = torch.arange(2 * 4).view(2, 4, 1, 1, 1).expand(2, 4, 3, 2, 2)
    picked = pick_views(images, torch.tensor([[3, 0], [1, 2]]))
    assert picked[:, :, 0, 0, 0].tolist() == [[3, 0], [5, 6]]
