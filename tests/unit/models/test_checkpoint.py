"""A checkpoint is a folder: what is saved is loaded, whole or not at all, and nothing in it is trusted."""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vkd.models import checkpoint
from vkd.models.checkpoint import Config, find, load, save, weights_file
from vkd.models.network import ReIDNet

CONFIG = Config("tiny", 5, (32, 16), dataset="street", epoch=3, labels=[2, 4, 6, 8, 10])


def drawn(seed: int = 0, backbone: str = "tiny") -> ReIDNet:
    """A network whose running statistics are not those of a new one."""
    generator = torch.Generator().manual_seed(seed)
    net = ReIDNet(backbone, 5, generator=generator)
    net.train()(torch.randn(4, 2, 3, 64, 32, generator=generator))
    return net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "street-tiny-teacher", drawn(), CONFIG)
    return tmp_path / "street-tiny-teacher"


def test_what_is_saved_is_loaded(folder: Path):
    loaded = load(folder)
    assert (loaded.config, loaded.folder, loaded.name) == (CONFIG, folder, "street-tiny-teacher")
    assert not loaded.net.training
    for name, tensor in drawn().state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], tensor), name
    images = torch.randn(2, 3, 3, 32, 16)
    assert torch.equal(loaded.net(images).logits, drawn().eval()(images).logits)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_who_may_read_the_config_may_read_the_weights(folder: Path):
    modes = {path.suffix: path.stat().st_mode for path in folder.iterdir()}
    assert modes[".safetensors"] == modes[".json"]


def test_a_loaded_network_trains_on(folder: Path):
    net = load(folder).net.train()
    assert not net.neck.bias.requires_grad
    net(torch.randn(2, 2, 3, 32, 16)).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters() if parameter.requires_grad)


def test_half_precision_is_half_the_size_and_float32_in_memory(tmp_path: Path):
    net = drawn(backbone="mobilenet")
    config = Config("mobilenet", 5, (64, 32))
    save(tmp_path / "full", net, config)
    save(tmp_path / "half", net, config, half=True)
    full, half = (weights_file(tmp_path / name).stat().st_size for name in ("full", "half"))
    assert half < 0.55 * full
    loaded = load(tmp_path / "half").net
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    for name, tensor in net.state_dict().items():
        expected = tensor.half().float() if tensor.ndim > 1 else tensor  # normalisation stays as it was
        assert torch.equal(loaded.state_dict()[name], expected), name


def test_half_precision_keeps_what_it_cannot_hold(tmp_path: Path):
    net = drawn()
    with torch.no_grad():
        net.classifier.weight[0, 0] = 1e6
    save(tmp_path, net, CONFIG, half=True)
    assert torch.equal(load(tmp_path).net.classifier.weight, net.classifier.weight)


def test_any_memory_layout_and_precision_is_saved(tmp_path: Path):
    save(tmp_path, drawn().to(memory_format=torch.channels_last).double(), CONFIG)
    assert torch.equal(load(tmp_path).net.classifier.weight, drawn().classifier.weight)


def test_best_and_last_each_keep_their_epoch_and_scores(folder: Path):
    best = replace(CONFIG, epoch=7, scores={"v2v": {"map": 0.9}})
    last = replace(CONFIG, epoch=9, scores={"v2v": {"map": 0.8}})
    save(folder, drawn(1), best, weights="best")
    save(folder, drawn(2), last)
    assert checkpoint.read_config(folder) == last
    assert load(folder).config == load(folder, weights="best").config == best
    assert load(folder, weights="model").config == last
    assert torch.equal(load(folder).net.classifier.weight, drawn(1).classifier.weight)


def test_the_config_must_be_the_networks(tmp_path: Path):
    with pytest.raises(ValueError, match=r"tiny with 6 identities, .* tiny with 5"):
        save(tmp_path, drawn(), replace(CONFIG, identities=6, labels=None))


def test_a_save_that_fails_leaves_the_old_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full_disk(state: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(folder, drawn(1), replace(CONFIG, epoch=4))
    monkeypatch.undo()
    assert load(folder).config == CONFIG
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_weights_in_use_may_be_replaced(folder: Path):
    """Loaded weights are a copy: a trainer that saves, or shortens the file, does not change them."""
    net = load(folder).net
    weights_file(folder).write_bytes(b"")
    assert torch.equal(net.classifier.weight, drawn().classifier.weight)


# What is refused


def test_missing_files(folder: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="not a checkpoint"):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"no best\.safetensors"):
        load(folder, weights="best")
    weights_file(folder).unlink()
    with pytest.raises(FileNotFoundError, match=r"no best\.safetensors or model\.safetensors"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file(folder: Path, keep: int):
    data = weights_file(folder).read_bytes()
    weights_file(folder).write_bytes(data[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or not a safetensors file"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_git_lfs_pointer(folder: Path, name: str):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5318864\n"
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} is a Git LFS pointer.*git lfs pull"):
        load(folder)


def test_a_pickle_in_disguise_is_not_opened(folder: Path):
    torch.save(drawn().state_dict(), weights_file(folder))
    with pytest.raises(ValueError, match="not a safetensors file"):
        load(folder)


def test_a_header_that_declares_what_is_not_there(folder: Path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()
    weights_file(folder).write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match="damaged"):
        load(folder)


def test_weights_of_another_network_are_refused(folder: Path):
    save_file({"x": torch.zeros(5)}, weights_file(folder))
    with pytest.raises(
        ValueError, match=r"does not hold the weights of tiny.*missing.*unknown \(such as 'x'\)"
    ):
        load(folder)


def test_a_config_that_promises_other_shapes(folder: Path):
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**raw, "identities": 9_000_000, "labels": None}))
    with pytest.raises(ValueError, match=r"'classifier.weight' has shape \[5, 32\].*needs \[9000000, 32\]"):
        load(folder)


def test_numbers_of_a_kind_that_no_network_has(folder: Path):
    state = load_file(weights_file(folder))
    save_file({**state, "neck.bias": state["neck.bias"].bool()}, weights_file(folder))
    with pytest.raises(ValueError, match="holds BOOL numbers"):
        load(folder)


def test_weights_written_elsewhere_are_fine(folder: Path):
    """Without our metadata the config speaks for them; bfloat16 becomes float32."""
    state = {name: t.bfloat16() if t.ndim > 1 else t for name, t in load_file(weights_file(folder)).items()}
    save_file(state, weights_file(folder))
    assert load(folder).config == CONFIG
    assert load(folder).net.classifier.weight.dtype == torch.float32


def test_the_file_says_that_it_is_pytorchs(folder: Path):
    with safe_open(weights_file(folder), framework="pt") as file:
        assert file.metadata()["format"] == "pt"


# Finding


def test_find_lists_checkpoints_newest_first(tmp_path: Path):
    for age, name in enumerate(("new", "middle", "old")):
        save(tmp_path / name, drawn(), CONFIG)
        os.utime(weights_file(tmp_path / name), (10_000 - age, 10_000 - age))
    assert [path.name for path in find(tmp_path)] == ["new", "middle", "old"]


def test_find_leaves_out_what_is_not_a_checkpoint(tmp_path: Path):
    save(tmp_path / "good", drawn(), CONFIG)
    save(tmp_path / "without-weights", drawn(), CONFIG)
    weights_file(tmp_path / "without-weights").unlink()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").touch()
    assert find(tmp_path) == [tmp_path / "good"]
    assert find(tmp_path / "nowhere") == []
