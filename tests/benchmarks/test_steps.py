"""One step of each stage on the demo network: `pytest tests/benchmarks/test_steps.py --benchmark-enable`."""

from pathlib import Path

import pytest
import torch

from vkd.data.datasets import Splits, Tracklet, first_frames
from vkd.models import checkpoint
from vkd.models.network import ReIDNet
from vkd.training.settings import Settings, StudentSettings, TeacherSettings
from vkd.training.trainer import Trainer

GROUP = {"image_size": (128, 64), "identities_per_batch": 8, "samples_per_identity": 3, "device": "cpu"}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """Eight identities; their pictures are never read, the steps get ready-made clips."""
    root = tmp_path_factory.mktemp("data")
    train = tuple(Tracklet((f"{root}/{i}.jpg",), i, 0) for i in range(8))
    return Splits("street", root, train, train, train, first_frames(train), first_frames(train))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    net = ReIDNet("mobilenet", 8, generator=torch.Generator().manual_seed(0))
    checkpoint.save(folder, net, checkpoint.Config("mobilenet", 8, (128, 64)))
    return folder


def step(settings: Settings, splits: Splits, folder: Path, benchmark) -> None:
    trainer = Trainer(settings, folder, splits)
    trainer.begin_epoch()
    images = torch.randn(24, settings.views, 3, 128, 64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(8).repeat_interleave(3)
    losses = benchmark.pedantic(trainer.step, args=(images, labels, 0), rounds=5, warmup_rounds=1)
    assert losses["total"].isfinite()


def test_one_teacher_step(splits: Splits, tmp_path: Path, benchmark):
    """8 × 3 tracklets of 3 views, MobileNet-V2 at 128 × 64: 72 pictures forward and back."""
    step(
        TeacherSettings(**GROUP, backbone="mobilenet", pretrained=False, views=3), splits, tmp_path, benchmark
    )


def test_one_student_step(splits: Splits, teacher: Path, tmp_path: Path, benchmark):
    """8 × 3 samples: the teacher sees 6 views (144 pictures forward), the student 2 (48 forward and back)."""
    step(StudentSettings(**GROUP, teacher=teacher, pretrained=False, views=6), splits, tmp_path, benchmark)
