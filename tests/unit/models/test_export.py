"""Networks written for other programs: each is read again by that program and gives the same embeddings."""

import json
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vkd.cli.main import main
from vkd.io.errors import VKDError
from vkd.models import export as exports
from vkd.models.backbones import BACKBONES
from vkd.models.checkpoint import Checkpoint, Config
from vkd.models.export import FORMATS, export
from vkd.models.network import ReIDNet, build_on_meta


def network(backbone: str = "tiny", dataset: str = "veri") -> Checkpoint:
    """Untrained, but every layer does something: running statistics as after some batches."""
    generator = torch.Generator().manual_seed(4)
    net = ReIDNet(backbone, 5, generator=generator)
    for name, tensor in net.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator))
    config = Config(backbone, 5, (64, 32), dataset=dataset, mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1))
    return Checkpoint(net.eval(), config, Path("checkpoints/mine"))


def embedding(found: Checkpoint, batch: int, views: int) -> tuple[torch.Tensor, np.ndarray]:
    images = torch.randn(batch, views, 3, 64, 32, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return images, found.net.embed(images).numpy()


SIZES = pytest.mark.parametrize(("batch", "views"), [(1, 1), (1, 5), (4, 1), (3, 4)])


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    found = network("tiny")
    return found, export(found, tmp_path_factory.mktemp("onnx") / "net.onnx", "onnx")


@SIZES
def test_onnx_sizes(onnx_file: tuple[Checkpoint, Path], batch: int, views: int):
    import onnxruntime

    found, path = onnx_file
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images, expected = embedding(found, batch, views)
    (given,) = session.run(["embedding"], {"images": images.numpy()})
    assert np.abs(given - expected).max() < 1e-4 * np.abs(expected).max()
    assert session.get_inputs()[0].shape == ["batch", "views", 3, 64, 32]
    assert session.get_outputs()[0].shape == ["batch", 32]


def test_onnx_metadata(onnx_file: tuple[Checkpoint, Path]):
    import onnx

    model = onnx.load(onnx_file[1])
    onnx.checker.check_model(model, full_check=True)
    facts = {item.key: item.value for item in model.metadata_props}
    assert json.loads(facts["image_size"]) == [64, 32]
    assert (json.loads(facts["mean"]), json.loads(facts["std"])) == ([0.5, 0.4, 0.3], [0.3, 0.2, 0.1])
    assert (facts["backbone"], facts["dataset"], facts["width"]) == ("tiny", "veri", "32")
    data = onnx_file[1].read_bytes()
    assert b".py" not in data
    assert str(Path(exports.__file__).parent).encode() not in data


def test_onnx_mobilenet(tmp_path: Path):
    """The network that ships; `export` compares it itself."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    found = network("mobilenet")
    size = export(found, tmp_path / "net.onnx", "onnx").stat().st_size
    weights = sum(tensor.numel() * 4 for tensor in found.net.backbone.parameters())
    assert weights * 0.98 < size < weights * 1.1  # one file, without the classifier


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    found = network("tiny")
    return found, export(found, tmp_path_factory.mktemp("program") / "net.pt2", "torch.export")


@SIZES
def test_program_sizes(program: tuple[Checkpoint, Path], batch: int, views: int):
    found, path = program
    images, expected = embedding(found, batch, views)
    given = torch.export.load(path).module()(images).numpy()
    assert np.abs(given - expected).max() < 1e-4 * np.abs(expected).max()


def test_program_metadata(program: tuple[Checkpoint, Path]):
    extra = {"vkd.json": ""}
    torch.export.load(program[1], extra_files=extra)
    assert json.loads(extra["vkd.json"])["image_size"] == "[64, 32]"
    with zipfile.ZipFile(program[1]) as archive:
        assert not [name for name in archive.namelist() if b"model.py" in archive.read(name)]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone(backbone: str, monkeypatch: pytest.MonkeyPatch):
    """Without memory for its weights: only the shapes are followed. What the formats above start from.

    All of them take 20 s on two idle cores: VKD_EVERY_TRUNK=1 asks for that.
    """
    if backbone not in ("resnet18", "resnet50bam") and not os.environ.get("VKD_EVERY_TRUNK"):
        pytest.skip("VKD_EVERY_TRUNK is not set")
    net = build_on_meta(backbone, 2).eval().requires_grad_(False)
    monkeypatch.setattr(exports, "_images", lambda *sizes: torch.empty(2, 2, 3, 64, 32, device="meta"))
    graph = exports._program(Checkpoint(net, Config(backbone, 2, (64, 32)), Path("meta")))
    with torch.device("meta"):
        assert graph.module()(torch.empty(1, 3, 3, 64, 32)).shape == (1, BACKBONES[backbone].width)


# What goes wrong


def below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_wrong_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A network is altered while it is written: the comparison finds out, and nothing is left."""
    row = FORMATS["torch.export"]

    def write(checkpoint: Checkpoint, path: Path) -> None:
        weight = checkpoint.net.backbone.get_parameter("stages.layer2.0.weight")
        with torch.no_grad():
            weight.mul_(1.01)
            row.write(checkpoint, path)
            weight.div_(1.01)

    monkeypatch.setitem(FORMATS, "torch.export", replace(row, write=write))
    with pytest.raises(VKDError, match="embeddings differ"):
        export(network(), tmp_path / "net.pt2", "torch.export")
    assert below(tmp_path) == []


def test_program_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def load(path: Path) -> Any:
        def crash(images: torch.Tensor) -> np.ndarray:
            raise RuntimeError("no kernel\nfor this")

        return crash

    monkeypatch.setitem(FORMATS, "torch.export", replace(FORMATS["torch.export"], load=load))
    with pytest.raises(VKDError, match="no kernel for this"):
        export(network(), tmp_path / "net.pt2", "torch.export")
    assert below(tmp_path) == []


def test_existing_file(tmp_path: Path):
    (tmp_path / "net.pt2").write_text("mine")
    with pytest.raises(VKDError, match=r"net\.pt2"):
        export(network(), tmp_path / "net.pt2", "torch.export")
    assert (tmp_path / "net.pt2").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "to", "sentence"),
    [
        ("net.bin", "onnx", "net.bin must end in .onnx"),
        ("net", "torch.export", "net must end in .pt2"),
        ("net.pt", "torchscript", "torchscript.*onnx, torch.export"),
    ],
)
def test_wrong_requests(tmp_path: Path, name: str, to: str, sentence: str):
    with pytest.raises(VKDError, match=sentence):
        export(network(), tmp_path / name, to)
    assert below(tmp_path) == []


def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(VKDError, match=r"needs onnxscript: pip install onnx onnxruntime onnxscript"):
        export(network(), tmp_path / "net.onnx", "onnx")
    assert below(tmp_path) == []


def test_command(tiny_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["export", str(tiny_pair[0]), str(tmp_path / "net.pt2"), "--to", "torch.export"]
    assert main(words) == 0
    assert f"{tmp_path / 'net.pt2'}: tiny" in capsys.readouterr().out
    assert main(words) == 1
    assert "net.pt2 exists already" in capsys.readouterr().err
