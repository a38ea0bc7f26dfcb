"""Embedding a split and scoring it by protocol, on a small street and an untrained network; tables."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from vkd.data import datasets
from vkd.data.tracklets import Splits, Tracklet
from vkd.evaluation import protocols
from vkd.metrics import scores
from vkd.models.inference import EmbedConfig, embed
from vkd.models.network import ReIDNet

CONFIG = EmbedConfig((32, 16))


@pytest.fixture(scope="module")
def net() -> ReIDNet:
    return ReIDNet("tiny", 12, generator=torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def splits(small_street: Path) -> Splits:
    return datasets.read_dataset("street", small_street)


@pytest.fixture
def results() -> dict[str, scores.Scores]:
    def found(protocol: str, distance: float) -> scores.Scores:
        return scores.score(
            [[distance, 0.5, 0.7]], [1], [1, 2, 1], [0], [1, 1, 2], protocol=protocol, dataset="street"
        )

    return {"i2v": found("i2v", 0.6), "v2v": found("v2v", 0.4)}


def test_protocols_are_those_that_every_data_set_is_told_to_allow(splits):
    assert set(protocols.PROTOCOLS) == set(datasets.DATASETS["mars"].protocols)
    for key, protocol in protocols.PROTOCOLS.items():
        query, gallery = splits.query_gallery(key)
        assert {len(tracklet.frames) == 1 for tracklet in query} == {protocol.query == "image"}
        assert {len(tracklet.frames) == 1 for tracklet in gallery} == {protocol.gallery == "image"}


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_a_protocol_ranks_its_own_sides(net, splits, protocol):
    found = protocols.evaluate(net, splits, CONFIG, protocols=[protocol])[protocol]
    query, gallery = splits.query_gallery(protocol)
    distmat = protocols.distances(embed(net, query, CONFIG), embed(net, gallery, CONFIG))
    expected = protocols.score(
        distmat,
        [t.identity for t in query],
        [t.identity for t in gallery],
        [t.camera for t in query],
        [t.camera for t in gallery],
    )
    assert found["map_trapezoid"] == pytest.approx(expected["map_trapezoid"], abs=2e-3)
    assert (found.queries, found.gallery) == (len(query), len(gallery))
    assert found.valid_queries == datasets.valid_queries(query, gallery)
    place = "in" if splits.queries_in_gallery else "not in"
    assert found.label == f"street {protocol.upper()}, trapezoid AP, queries {place} the gallery"


def test_every_tracklet_is_embedded_once_for_all_protocols(net, splits, monkeypatch):
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


def test_no_valid_query_is_said_before_anything_is_read(net, tmp_path):
    one = Tracklet((str(tmp_path / "nowhere.jpg"),), 1, 0)
    alone = Splits("folder", tmp_path, (), (one,), (one,), (one,), (one,))
    with pytest.raises(ValueError, match="no valid query for I2V: every match shares"):
        protocols.evaluate(net, alone, CONFIG, protocols=["i2v"])
    with pytest.raises(ValueError, match="Unknown protocol 'a2b'"):
        protocols.evaluate(net, alone, CONFIG, protocols=["a2b"])


def test_a_perfect_network_scores_one(tmp_path):
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


def test_json_holds_numbers_and_the_curve(results, tmp_path):
    path = protocols.export({"teacher": results}, tmp_path / "new" / "scores.json")
    first, second = json.loads(path.read_text())
    assert (first["network"], first["protocol"], first["dataset"]) == ("teacher", "i2v", "street")
    assert (first["top1"], second["top1"]) == (0, 1)
    assert first["cmc"] == [0, 1, 1]
    assert [entry.name for entry in path.parent.iterdir()] == ["scores.json"]


def test_csv_has_one_line_for_each_result(results, tmp_path):
    path = protocols.export(results, tmp_path / "scores.csv")
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["protocol"] for line in lines] == ["i2v", "v2v"]
    assert float(lines[1]["map"]) == results["v2v"].map
    assert lines[0]["queries_in_gallery"] == "False"


def test_markdown_sets_ours_beside_the_published(results, tmp_path):
    table = {
        "ours | new": results,
        "published": {"i2v": {"dataset": "street", "top1": 0.8081, "map": 0.7074}},
    }
    lines = protocols.export(table, tmp_path / "scores.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 + 3
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert lines[2].startswith("| ours \\| new | street | I2V | no | 1 | 1 | 3 | trapezoid | ")
    assert lines[3].endswith("| 100.00 | 100.00 | 100.00 |")
    assert "| published | street | I2V | – | – | – | – | – | 70.74 | – | – | – | 80.81 | – | – |" in lines


def test_another_suffix_is_refused(results, tmp_path):
    with pytest.raises(ValueError, match=r"scores.xlsx: choose a name in .json, .csv, .md"):
        protocols.export(results, tmp_path / "scores.xlsx")


def test_latex_compiles_in_the_head(results):
    """Every special sign is escaped, every line has as many cells as the head; gains carry intervals."""
    gain = {"i2v": {"map": 0.05, "map_low": -0.01, "map_high": 0.11}}
    text = protocols.latex({"tiny_a & 50%": results, "student − teacher": gain})
    assert r"tiny\_a \& 50\%" in text
    assert r"+5.00 (-1.00 \ldots{} +11.00)" in text
    assert text.startswith("\\begin{tabular}{")
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in lines}) == 1
