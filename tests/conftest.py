"""What every test may use: no telemetry, one small street, one untrained pair of tiny checkpoints."""

import os
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference numbers (see its README.md)."""
    return GOLDEN


@pytest.fixture(scope="session")
def small_street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MARS-layout street of 12 training and 8 test identities seen by 3 cameras, pictures of 64 × 32."""
    from vkd.street import write_street

    root = tmp_path_factory.mktemp("data") / "street"
    return write_street(
        root, train_identities=12, test_identities=8, group=4, cameras=3, frames=8, size=(64, 32), seed=7
    )


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of an untrained `tiny` teacher and student with different weights: not for scores."""
    from vkd import checkpoint
    from vkd.model import Net

    root = tmp_path_factory.mktemp("checkpoints")
    folders = []
    for seed, stage in enumerate(("teacher", "student")):
        net = Net("tiny", 12, generator=torch.Generator().manual_seed(seed))
        config = checkpoint.Config(
            backbone="tiny",
            identities=12,
            image_size=(64, 32),
            stage=stage,
            dataset="street",
            epoch=0,
            scores={},
            parent=None if stage == "teacher" else "tiny-teacher",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            labels=None,
        )
        folder = root / f"tiny-{stage}"
        checkpoint.save(folder, net, config)
        folders.append(folder)
    return folders[0], folders[1]
