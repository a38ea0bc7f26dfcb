"""The authors' folders: their names for our weights, and whole folders read, converted or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.filled import described, filled_net, filled_state, relative
from vkd.io.errors import MissingFileError, VKDError
from vkd.models.backbones import BACKBONES
from vkd.models.checkpoint import load
from vkd.models.network import ReIDNet, build_on_meta
from vkd.models.reference import (
    authors_names,
    convert_authors,
    from_authors,
    load_authors,
    read_params,
    read_weights,
    to_authors,
)


def authors_folder(
    root: Path,
    state: dict[str, Tensor],
    *,
    backbone: str = "resnet18",
    identities: int = 10,
    name: str = "chk_end",
    params: dict | None = None,
    old: bool = False,
) -> Path:
    """A folder as the authors' code leaves it; `old` in the file format of the PyTorch they used."""
    (root / "params").mkdir(parents=True, exist_ok=True)
    (root / "chk").mkdir(exist_ok=True)
    hparams = {"backbone_type": backbone, "num_classes": identities, "pretrained": True}
    (root / "params" / "hparams.json").write_text(json.dumps(hparams))
    if params is not None:
        (root / "params" / "params.json").write_text(json.dumps(params))
    torch.save(state, root / "chk" / name, _use_new_zipfile_serialization=not old)
    return root


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student on MARS whose params.json names another backbone, as those of the authors can."""
    return authors_folder(
        tmp_path_factory.mktemp("authors") / "distill_run",
        filled_state("resnet18"),
        params={"main_params": {"dataset_name": "mars", "backbone": "resnet101", "num_train_images": 8}},
        old=True,
    )


@pytest.fixture
def folder(shared_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shared_folder, tmp_path / "run")


# Names


@pytest.mark.parametrize("name", BACKBONES)
def test_names(name: str):
    net = build_on_meta(name, 3)
    theirs = to_authors(net)
    assert list(from_authors(theirs, name)) == list(net.state_dict())
    assert len(set(authors_names(net).values())) == len(theirs)
    if name in described():
        assert list(theirs) == [key for key, _, _ in described()[name]["state_dict"]]


def test_rename_round_trip():
    net = ReIDNet("tiny", 3)
    again = from_authors(to_authors(net), "tiny")
    assert all(torch.equal(again[name], tensor) for name, tensor in net.state_dict().items())


def test_foreign_names():
    state = to_authors(ReIDNet("tiny", 3))
    with pytest.raises(VKDError, match=r"1 names differ.*head\.weight"):
        from_authors({**state, "head.weight": torch.zeros(1)}, "tiny")
    with pytest.raises(VKDError, match="resnet18"):
        from_authors(state, "resnet18")


# Folders


@pytest.mark.parametrize("old", [True, False], ids=["stream of PyTorch 1.3", "archive"])
def test_golden_outputs(tmp_path: Path, golden: Path, old: bool):
    import numpy as np

    folder = authors_folder(
        tmp_path / "base_veri_mobilenet", filled_state("mobilenet"), backbone="mobilenet", old=old
    )
    loaded = load_authors(folder)
    assert loaded.name == "base_veri_mobilenet"
    config = loaded.config
    assert (config.backbone, config.identities, config.stage, config.dataset) == (
        "mobilenet",
        10,
        "imported",
        "veri",
    )
    assert config.image_size == (224, 224)
    assert not loaded.net.training
    assert not loaded.net.neck.bias.requires_grad
    with np.load(golden / "models.npz") as file, torch.no_grad():
        out = loaded.net(torch.from_numpy(file["input"]))
        assert relative(out.embedding, file["mobilenet__eval__emb_f32"]) < 1e-5
        assert relative(out.logits, file["mobilenet__eval__logits_f32"]) < 1e-5


def test_student_backbone(shared_folder: Path):
    assert read_params(shared_folder, []) == ("resnet18", 10, "mars")
    config = load_authors(shared_folder).config
    assert (config.backbone, config.image_size) == ("resnet18", (256, 128))


def test_convert_authors(shared_folder: Path, tmp_path: Path):
    out = convert_authors(shared_folder, tmp_path / "mars-resnet18", image_size=(128, 64))
    converted = load(out)
    assert (converted.config.stage, converted.config.image_size) == ("imported", (128, 64))
    expected = filled_net("resnet18", torch.float32).state_dict()
    assert all(torch.equal(converted.net.state_dict()[name], tensor) for name, tensor in expected.items())


def test_weights_from_gpu(tmp_path: Path):
    """The file says cuda:0 where the tensors lay; loading puts them on the CPU."""
    folder = authors_folder(tmp_path, to_authors(ReIDNet("tiny", 2)), backbone="tiny", identities=2, old=True)
    file = folder / "chk" / "chk_end"
    data = file.read_bytes()
    assert b"X\x03\x00\x00\x00cpu" in data
    file.write_bytes(data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    assert load_authors(folder).net.classifier.weight.device.type == "cpu"


def test_choose_weights(tmp_path: Path):
    for name, number in (("chk_9", 9), ("chk_100", 100), ("chk_20", 20)):
        net = ReIDNet("tiny", 2)
        torch.nn.init.constant_(net.classifier.weight, number)
        authors_folder(tmp_path, to_authors(net), backbone="tiny", identities=2, name=name)
    assert load_authors(tmp_path).net.classifier.weight[0, 0] == 100
    assert load_authors(tmp_path, "chk_9").net.classifier.weight[0, 0] == 9
    with pytest.raises(MissingFileError, match="no 'chk_8'; it has chk_100, chk_20, chk_9"):
        load_authors(tmp_path, "chk_8")
    authors_folder(tmp_path, to_authors(ReIDNet("tiny", 2)), backbone="tiny", identities=2, name="chk_end")
    assert load_authors(tmp_path).net.classifier.weight[0, 0] not in (9, 20, 100)


# What is refused


def test_missing_parts(folder: Path, tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"hparams\.json is missing: this is not a checkpoint folder"):
        load_authors(tmp_path / "nothing")
    (folder / "params" / "params.json").unlink()
    assert read_params(folder, []) == ("resnet18", 10, "")
    shutil.rmtree(folder / "chk")
    with pytest.raises(MissingFileError, match="chk is missing or empty"):
        load_authors(folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must hold a JSON object"),
        ("{}", "backbone_type is None"),
        ('{"backbone_type": "vgg", "num_classes": 3}', "backbone_type is 'vgg'; .* resnet18"),
        ('{"backbone_type": ["vgg"], "num_classes": 3}', "backbone_type"),
        ('{"backbone_type": "resnet18"}', "num_classes must be a whole number from 1, not None"),
        ('{"backbone_type": "resnet18", "num_classes": 1000000000000}', "identities is 1000000000000"),
        ('{"backbone_type": "resnet18", "num_classes": 11}', r"'classifier.weight' has shape \[10, 512\]"),
        (
            '{"backbone_type": "resnet34", "num_classes": 10}',
            r"does not hold the weights of resnet34: .* missing",
        ),
        ('{"backbone_type": "mobilenet", "num_classes": 10}', "does not hold the weights of mobilenet"),
    ],
)
def test_wrong_hparams(folder: Path, text: str, sentence: str):
    (folder / "params" / "hparams.json").write_text(text)
    with pytest.raises(VKDError, match=sentence):
        load_authors(folder)


def test_wrong_names(tmp_path: Path):
    state = to_authors(ReIDNet("tiny", 2))
    state["optimizer"] = state.pop("classifier.bottleneck.bias")
    folder = authors_folder(tmp_path, state, backbone="tiny", identities=2)
    with pytest.raises(
        VKDError, match=r"1 missing \(such as 'neck.bias'\) and 1 unknown \(such as 'optimizer'\)"
    ):
        load_authors(folder)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_file(tmp_path: Path, old: bool, share: float):
    folder = authors_folder(tmp_path, to_authors(ReIDNet("tiny", 2)), backbone="tiny", identities=2, old=old)
    file = folder / "chk" / "chk_end"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(VKDError, match="chk_end"):
        load_authors(folder)


def test_half_precision(tmp_path: Path):
    state = {
        key: tensor.half() if tensor.ndim else tensor
        for key, tensor in to_authors(ReIDNet("tiny", 2)).items()
    }
    folder = authors_folder(tmp_path, state, backbone="tiny", identities=2)
    kinds = {
        tensor.dtype for tensor in read_weights(folder / "chk" / "chk_end", build_on_meta("tiny", 2)).values()
    }
    assert kinds == {torch.float32, torch.int64}
