"""What every test may use: no telemetry, one small street, one untrained pair of tiny checkpoints."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tiny networks gain nothing from more threads, and trainers, servers and pages share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

if TYPE_CHECKING:
    from tests.support.hub_server import Hub

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference numbers (see its README.md)."""
    return GOLDEN


@pytest.fixture(scope="session")
def small_street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MARS-layout street of 12 training and 8 test identities seen by 3 cameras, pictures of 64 × 32."""
    from vkd.synthetic.generate import generate_street

    root = tmp_path_factory.mktemp("data") / "street"
    return generate_street(
        root, train_identities=12, test_identities=8, group=4, cameras=3, frames=8, size=(64, 32), seed=7
    )


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of an untrained `tiny` teacher and student with different weights: not for scores."""
    from vkd.models import checkpoint
    from vkd.models.network import ReIDNet

    root = tmp_path_factory.mktemp("checkpoints")
    folders = []
    for seed, stage in enumerate(("teacher", "student")):
        net = ReIDNet("tiny", 12, generator=torch.Generator().manual_seed(seed))
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


@pytest.fixture(scope="session")
def hub_server() -> "Iterator[Hub]":
    from tests.support.hub_server import Hub

    server = Hub().start()
    yield server
    server.stop()


@pytest.fixture
def hub(hub_server: "Hub", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Hub":
    """An empty Hub on this machine: `.endpoint`, `.token`, `.fault(...)` (see tests/support/hub_server.py).

    The client's cache is empty, nobody is logged in, and its waits between retries are none.
    """
    import time

    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _cache_assets, _http

    hub_server.clear()
    home = tmp_path / "hugging-face"
    for name, value in (
        ("HF_HUB_OFFLINE", False),
        ("HF_HUB_DISABLE_XET", True),
        ("HF_HUB_CACHE", str(home / "hub")),
        ("HF_TOKEN_PATH", str(home / "token")),
    ):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(_cache_assets, "HF_ASSETS_CACHE", str(home / "assets"))
    monkeypatch.setattr("vkd.hub.client.WAITS", (0.01, 0.01))
    for name, value in {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}.items():
        monkeypatch.setenv(name, value)  # for a command in a process of its own
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    clock = SimpleNamespace(sleep=lambda seconds: time.sleep(0.01), time=time.time, monotonic=time.monotonic)
    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", clock)
    return hub_server


@pytest.fixture
def served(hub: "Hub", tiny_pair: tuple[Path, Path]) -> "Hub":
    """The Hub with user/tiny-teacher and user/tiny-student, whose card names its teacher."""
    front = ("library_name: vkd", "library_name: vkd\nbase_model: user/tiny-teacher")
    for folder, lines in zip(tiny_pair, front, strict=True):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        hub.put(f"user/{folder.name}", files | {"README.md": f"---\n{lines}\n---\n# Card\n".encode()})
    return hub
