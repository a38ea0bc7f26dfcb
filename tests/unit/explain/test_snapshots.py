"""Snapshots of a run: which images, which files, and what the page gets of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vkd.data import datasets
from vkd.data.datasets import Splits, Tracklet
from vkd.explain import snapshots
from vkd.explain.snapshots import Snapshots, choose
from vkd.io.errors import VKDError
from vkd.models import checkpoint
from vkd.ui.train import attention


@pytest.fixture
def run(tmp_path: Path, tiny_pair: tuple[Path, Path], small_street: Path) -> Snapshots:
    """The probes of a student's run with a saved network."""
    folder = tmp_path / "run"
    saved = checkpoint.load(tiny_pair[1])
    checkpoint.save(folder, saved.net, saved.config)
    return Snapshots(folder, datasets.read_dataset("street", small_street), teacher=tiny_pair[0])


def test_choose(small_street: Path):
    splits = datasets.read_dataset("street", small_street)
    chosen = choose(splits)
    assert chosen == choose(splits)
    found, mates, gallery = chosen
    assert len(found) == 4
    assert len({probe.identity for probe in found}) == 4
    assert len(gallery) == len(set(gallery)) <= snapshots.ITEMS
    for probe, place in zip(found, mates, strict=True):
        assert gallery[place].identity == probe.identity
        assert gallery[place].camera != probe.camera


def test_no_match(tmp_path: Path):
    one = Tracklet(("a.jpg",), 1, 0)
    empty: dict[str, Any] = {"train": (one,), "query_images": (one,), "gallery_only_images": ()}
    splits = Splits(
        name="folder", root=tmp_path, query=(one,), gallery_only=(Tracklet(("b.jpg",), 1, 0),), **empty
    )
    with pytest.raises(VKDError):
        choose(splits)


def test_files(run: Snapshots):
    run.write(3)
    place = run.folder / "probes"
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == ["00003", "teacher"]
    look = json.loads((place / "00003" / "look.json").read_text())
    table = json.loads((place / "probes.json").read_text())
    assert len(look["looks"]) == len(table["probes"]) == 4
    for probe, seen in zip(table["probes"], look["looks"], strict=True):
        assert Image.open(place / "00003" / seen["heat"]).size == Image.open(place / probe["picture"]).size
        assert len(seen["top"]) == 5
        similar = [hit["similarity"] for hit in seen["top"]]
        assert similar == sorted(similar, reverse=True)
        items = [table["gallery"][hit["item"]] for hit in seen["top"]]
        same = [item for item in items if item["identity"] == probe["identity"]]
        assert all(item["camera"] != probe["camera"] for item in same), "junk is left out"


def test_random_state(run: Snapshots):
    before = torch.get_rng_state()
    run.write(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_refresh_of_the_page(run: Snapshots):
    folder = run.folder
    run.write(2)
    first = attention.refresh(folder, {})
    assert first is not None
    assert first["epochs"] == [2]
    assert len(first["probes"]) == len(first["teacher"]) == 4
    assert first["snapshots"]["2"][0]["heat"].startswith("data:image/jpeg;base64,")
    have = {"run": folder.name, "epochs": [2]}
    assert attention.refresh(folder, have) is None
    run.write(4)
    second = attention.refresh(folder, have)
    assert second is not None
    assert list(second["snapshots"]) == ["4"]
    assert "probes" not in second
    other = attention.refresh(folder, {"run": "another", "epochs": [2, 4]})
    assert other is not None
    assert list(other["snapshots"]) == ["2", "4"]


def test_damaged_snapshot(run: Snapshots):
    folder = run.folder
    run.write(2)
    (folder / "probes" / "00002" / "look.json").write_text("{")
    (folder / "probes" / "probes.json").unlink()
    message = attention.refresh(folder, {})
    assert message is not None
    assert message["snapshots"] == {}
    assert message["probes"] == []


def test_long_run(tmp_path: Path):
    for epoch in range(1, 401):
        place = tmp_path / "probes" / f"{epoch:05d}"
        place.mkdir(parents=True)
        (place / "look.json").touch()
    played = attention.epochs(tmp_path)
    assert len(played) == attention.MAX_EPOCHS
    assert played[0] == 1
    assert played[-1] == 400
