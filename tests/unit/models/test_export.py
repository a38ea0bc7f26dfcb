"""Networks written for other programs: each is read again by that program and gives the same embeddings."""

import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from vkd.cli.main import main
from vkd.models import checkpoint
from vkd.models import export as exports
from vkd.models.backbones import BACKBONES
from vkd.models.checkpoint import Checkpoint, Config
from vkd.models.export import FORMATS, export
from vkd.models.network import ReIDNet


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
def test_onnx_takes_any_number_of_tracklets_and_views(
    onnx_file: tuple[Checkpoint, Path], batch: int, views: int
):
    import onnxruntime

    found, path = onnx_file
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images, expected = embedding(found, batch, views)
    (given,) = session.run(["embedding"], {"images": images.numpy()})
    assert np.abs(given - expected).max() < 1e-4 * np.abs(expected).max()
    assert session.get_inputs()[0].shape == ["batch", "views", 3, 64, 32]
    assert session.get_outputs()[0].shape == ["batch", 32]


def test_onnx_says_what_pictures_it_wants_and_nothing_of_this_machine(onnx_file: tuple[Checkpoint, Path]):
    import onnx

    model = onnx.load(onnx_file[1])
    onnx.checker.check_model(model, full_check=True)
    told = {item.key: item.value for item in model.metadata_props}
    assert json.loads(told["image_size"]) == [64, 32]
    assert (json.loads(told["mean"]), json.loads(told["std"])) == ([0.5, 0.4, 0.3], [0.3, 0.2, 0.1])
    assert (told["backbone"], told["dataset"], told["width"]) == ("tiny", "veri", "32")
    data = onnx_file[1].read_bytes()
    assert b".py" not in data
    assert str(Path(exports.__file__).parent).encode() not in data


def test_mobilenet_as_onnx(tmp_path: Path):
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
def test_torch_export_takes_any_number_of_tracklets_and_views(
    program: tuple[Checkpoint, Path], batch: int, views: int
):
    found, path = program
    images, expected = embedding(found, batch, views)
    given = torch.export.load(path).module()(images).numpy()
    assert np.abs(given - expected).max() < 1e-4 * np.abs(expected).max()


def test_torch_export_carries_its_facts_and_nothing_of_this_machine(program: tuple[Checkpoint, Path]):
    extra = {"vkd.json": ""}
    torch.export.load(program[1], extra_files=extra)
    assert json.loads(extra["vkd.json"])["image_size"] == "[64, 32]"
    with zipfile.ZipFile(program[1]) as archive:
        assert not [name for name in archive.namelist() if b"model.py" in archive.read(name)]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_becomes_a_graph_with_open_sides(backbone: str):
    """Without memory for its weights: only the shapes are followed. What the formats above start from.

    All of them take 20 s on two idle cores: VKD_EVERY_TRUNK=1 asks for that.
    """
    if backbone not in ("resnet18", "resnet50bam") and not os.environ.get("VKD_EVERY_TRUNK"):
        pytest.skip("VKD_EVERY_TRUNK is not set")
    with torch.device("meta"):
        embed = exports._Embed(ReIDNet(backbone, 2).eval()).requires_grad_(False)
        images = torch.empty(2, 2, 3, 64, 32)
    sides = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("views")},)
    graph = torch.export.export(embed, (images,), dynamic_shapes=sides)
    with torch.device("meta"):
        assert graph.module()(torch.empty(1, 3, 3, 64, 32)).shape == (1, BACKBONES[backbone].width)


# The authors' layout


def test_the_authors_layout_reads_back_bit_equal(tmp_path: Path):
    found = network("mobilenet")
    again = checkpoint.load_authors(export(found, tmp_path / "base_veri", "authors"))
    assert (again.config.backbone, again.config.identities, again.config.dataset) == ("mobilenet", 5, "veri")
    state = found.net.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.net.state_dict().items())


def test_the_authors_file_is_a_plain_state_dict_for_any_pytorch(tmp_path: Path):
    out = export(network(), tmp_path / "run", "authors")
    assert (out / "chk" / "chk_end").read_bytes()[:2] == b"\x80\x02"  # the stream that PyTorch 1.3 reads
    state = torch.load(out / "chk" / "chk_end", weights_only=True)
    assert type(state) is dict
    assert state["classifier.classifier.weight"].shape == (5, 32)
    assert json.loads((out / "params" / "hparams.json").read_text())["backbone_type"] == "tiny"


# What goes wrong


def below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("to", ["torch.export", "authors"])
def test_what_does_not_give_the_same_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str):
    """A network is altered while it is written: the check finds out, and nothing is left."""
    found = network()
    form = FORMATS[to]

    def write(mine: Checkpoint, path: Path) -> None:
        with torch.no_grad():
            mine.net.backbone.get_parameter("stages.layer2.0.weight").mul_(1.01)
            form.write(mine, path)
            mine.net.backbone.get_parameter("stages.layer2.0.weight").div_(1.01)

    monkeypatch.setitem(FORMATS, to, exports.Format(write, form.check, form.ending))
    with pytest.raises(ValueError, match=r"was not kept: (its embeddings|'trunk.stages.layer2.0.weight')"):
        export(found, tmp_path / f"net{form.ending}", to)
    assert below(tmp_path) == []


def test_a_program_that_does_not_run_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def crash(images: torch.Tensor) -> np.ndarray:
        raise RuntimeError("no kernel\nfor this")

    form = FORMATS["torch.export"]

    def check(found: Checkpoint, path: Path) -> None:
        exports._compare(found, path, crash)

    monkeypatch.setitem(FORMATS, "torch.export", exports.Format(form.write, check, ".pt2"))
    with pytest.raises(ValueError, match=r"net.pt2 does not run with 1 tracklets of 1 views: no kernel for"):
        export(network(), tmp_path / "net.pt2", "torch.export")
    assert below(tmp_path) == []


def test_what_is_there_stays(tmp_path: Path):
    (tmp_path / "net.pt2").write_text("mine")
    with pytest.raises(FileExistsError, match=r"net.pt2 is there already: remove it"):
        export(network(), tmp_path / "net.pt2", "torch.export")
    assert (tmp_path / "net.pt2").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "to", "sentence"),
    [
        ("net.bin", "onnx", "net.bin must end in .onnx"),
        ("net", "torch.export", "net must end in .pt2"),
        ("net.pt", "torchscript", "no format 'torchscript'; choose one of onnx, torch.export, authors"),
    ],
)
def test_wrong_requests(tmp_path: Path, name: str, to: str, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        export(network(), tmp_path / name, to)
    assert below(tmp_path) == []


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"needs onnxscript: pip install onnx onnxruntime onnxscript"):
        export(network(), tmp_path / "net.onnx", "onnx")
    assert below(tmp_path) == []


def test_the_command(tiny_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["export", str(tiny_pair[0]), str(tmp_path / "run"), "--to", "authors"]) == 0
    assert f"{tmp_path / 'run'}: tiny, compared with tiny-teacher" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "run"), str(tmp_path / "back"), "--image-size", "64", "32"]) == 0
    there, back = (checkpoint.load(path).net.state_dict() for path in (tiny_pair[0], tmp_path / "back"))
    assert all(torch.equal(tensor, back[name]) for name, tensor in there.items())
    assert main(["export", str(tiny_pair[0]), str(tmp_path / "run"), "--to", "authors"]) == 1
    assert "is there already" in capsys.readouterr().err
