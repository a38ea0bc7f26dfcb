"""Embedding a split and scoring it by protocol, on a small street and an untrained network."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from vkd.data import datasets
from vkd.data.tracklets import Splits, Tracklet
from vkd.evaluation import protocols
from vkd.io.errors import VKDError
from vkd.metrics.scores import distances, score
from vkd.models.inference import EmbedConfig, embed
from vkd.models.network import ReIDNet

CONFIG = EmbedConfig((32, 16))


@pytest.fixture(scope="module")
def net() -> ReIDNet:
    return ReIDNet("tiny", 12, generator=torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def splits(small_street: Path) -> Splits:
    return datasets.read_dataset("street", small_street)


def test_protocol_kinds(splits):
    assert set(protocols.PROTOCOLS) >= {key for row in datasets.DATASETS.values() for key in row.protocols}
    for key, protocol in protocols.PROTOCOLS.items():
        query, gallery = splits.query_gallery(key)
        assert {len(tracklet.frames) == 1 for tracklet in query} == {protocol.query == "image"}
        assert {len(tracklet.frames) == 1 for tracklet in gallery} == {protocol.gallery == "image"}


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_evaluate(net, splits, protocol):
    ours = protocols.evaluate(net, splits, CONFIG, protocols=[protocol])[protocol]
    query, gallery = splits.query_gallery(protocol)
    distmat = distances(embed(net, query, CONFIG), embed(net, gallery, CONFIG))
    expected = score(
        distmat,
        [t.identity for t in query],
        [t.identity for t in gallery],
        [t.camera for t in query],
        [t.camera for t in gallery],
    )
    assert ours["map_trapezoid"] == pytest.approx(expected["map_trapezoid"], abs=2e-3)
    assert (ours.queries, ours.gallery) == (len(query), len(gallery))
    assert ours.valid_queries == datasets.valid_queries(query, gallery)
    place = "in" if splits.queries_in_gallery else "not in"
    assert ours.label == f"street {protocol.upper()}, trapezoid AP, queries {place} the gallery"


def test_tracklets_are_embedded_once(net, splits, monkeypatch):
    embedded: list[Tracklet] = []

    def spied(net, tracklets, *options):
        embedded.extend(tracklets)
        return embed(net, tracklets, *options)

    monkeypatch.setattr(protocols, "embed", spied)
    found = protocols.evaluate(net, splits, CONFIG, protocols=protocols.PROTOCOLS)
    assert list(found) == list(protocols.PROTOCOLS)
    sides = [
        tracklet for key in protocols.PROTOCOLS for side in splits.query_gallery(key) for tracklet in side
    ]
    assert len(embedded) == len({tracklet.frames for tracklet in sides}) < len(sides)


def test_no_valid_query(net, tmp_path):
    one = Tracklet((str(tmp_path / "nowhere.jpg"),), 1, 0)
    alone = Splits("folder", tmp_path, (), (one,), (one,), (one,), (one,))
    with pytest.raises(VKDError, match="I2V"):
        protocols.evaluate(net, alone, CONFIG, protocols=["i2v"])
    with pytest.raises(VKDError, match="a2b"):
        protocols.evaluate(net, alone, CONFIG, protocols=["a2b"])


def test_perfect_network(tmp_path):
    """Pictures of one colour for each identity, and a network that answers with the mean colour."""

    class MeanColour(ReIDNet):
        def embed(self, images: torch.Tensor) -> torch.Tensor:
            colour = images.mean(dim=(1, 3, 4))
            return torch.nn.functional.pad(colour, (0, self.width - 3))

    def tracklet(identity: int, camera: int) -> Tracklet:
        frames = []
        for number in range(2):
            path = tmp_path / f"{identity}-{camera}-{number}.png"
            colour = [40 + 60 * (identity % 3), 40 + 60 * (identity // 3), 100]
            Image.new("RGB", (16, 32), tuple(colour)).save(path)
            frames.append(str(path))
        return Tracklet(tuple(frames), identity, camera)

    query = tuple(tracklet(identity, 0) for identity in range(1, 7))
    gallery = tuple(tracklet(identity, camera) for identity in range(1, 7) for camera in (1, 2))
    data = Splits(
        "folder", tmp_path, (), query, gallery, datasets.first_frames(query), datasets.first_frames(gallery)
    )
    net = MeanColour("tiny", 2, generator=torch.Generator().manual_seed(0))
    for found in protocols.evaluate(net, data, CONFIG, protocols=protocols.PROTOCOLS).values():
        assert found.map == found["map_standard"] == found["minp"] == found.top(1) == 1
        assert found.valid_queries == 6
