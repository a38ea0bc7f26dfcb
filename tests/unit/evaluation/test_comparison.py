"""Several networks on one dataset: the same scores as `evaluate`, and everything that is drawn from them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vkd.data.datasets import Splits, read_dataset
from vkd.evaluation import comparison, results_io
from vkd.evaluation.comparison import Comparison, NetworkInfo, evaluate_models, published
from vkd.evaluation.protocols import evaluate
from vkd.io.errors import CancelledError, VKDError
from vkd.models import checkpoint
from vkd.models.inference import EmbedConfig

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"


@pytest.fixture(scope="module")
def splits(small_street: Path) -> Splits:
    return read_dataset("street", small_street)


@pytest.fixture(scope="module")
def networks(tiny_pair: tuple[Path, Path]) -> dict[str, checkpoint.Checkpoint]:
    return {folder.name: checkpoint.load(folder) for folder in tiny_pair}


@pytest.fixture(scope="module")
def reports() -> list[tuple[int, int, str]]:
    return []


@pytest.fixture(scope="module")
def pair(networks, splits, reports) -> Comparison:
    return evaluate_models(
        networks, splits, resamples=200, batch=4, progress=lambda *each: reports.append(each)
    )


def test_scores(pair, networks, splits):
    for name, network in networks.items():
        expected = evaluate(network.net, splits, EmbedConfig.of(network.config))
        for protocol in ("i2v", "v2v"):
            np.testing.assert_allclose(pair.ap(name, protocol), expected[protocol].ap, atol=1e-6)
            assert pair.scores[name][protocol].as_dict() == pytest.approx(expected[protocol].as_dict())


def test_progress_over_all_networks(pair, reports, networks):
    done = [each[0] for each in reports]
    assert done == sorted(done)
    assert done[-1] == reports[-1][1]
    assert list(dict.fromkeys(each[2] for each in reports)) == list(networks)


def test_progress_may_end_the_work(networks, splits):
    def cancel(done: int, total: int, name: str) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        evaluate_models(networks, splits, progress=cancel)


def test_curves(pair, networks, splits):
    """Eight gallery frames are the protocol itself; eight views of the query tracklets are V2V."""
    for name in pair.networks:
        for protocol in ("i2v", "v2v"):
            curves = pair.curves[name][protocol]
            assert list(curves["gallery frames"]) == [1, 2, 4, 8]
            assert curves["gallery frames"][8]["map"] == pytest.approx(pair.scores[name][protocol].map)
            assert curves["query views"][8]["map"] == pytest.approx(pair.scores[name]["v2v"].map)
            assert all(
                each["map_low"] < each["map"] < each["map_high"] for each in curves["query views"].values()
            )
    name, network = next(iter(networks.items()))
    expected = evaluate(network.net, splits, EmbedConfig.of(network.config), protocols=["i2i"])["i2i"]
    curve = pair.curves[name]["i2v"]["gallery frames"]
    assert curve[1]["map"] == pytest.approx(expected.map, abs=1e-6)  # the chunk rule takes the first frame


def test_differences(pair):
    teacher, student = pair.scores.values()
    for protocol in ("i2v", "v2v"):
        for metric, interval in pair.differences["tiny-student"][protocol].items():
            assert interval.mean == pytest.approx(student[protocol][metric] - teacher[protocol][metric])
            assert interval.low <= interval.mean <= interval.high
    assert "| tiny-student − tiny-teacher | " in pair.to_markdown()
    assert "| tiny-teacher − tiny-student | " in pair.to_markdown("tiny-student")


def test_ranked_list_is_the_one_that_was_scored(pair):
    for name in pair.networks:
        scores = pair.scores[name]["i2v"]
        for query in (0, scores.queries - 1):
            counted = [hit for hit in pair.ranked(name, "i2v", query, k=500) if hit.verdict != "junk"]
            correct = [rank for rank, hit in enumerate(counted, 1) if hit.verdict == "correct"]
            assert correct[0] == scores.first_match[query]
            assert len(correct) / correct[-1] == pytest.approx(scores.per_query["minp"][query])
    short = pair.ranked(name, "i2v", 0, k=3)
    assert sum(hit.verdict != "junk" for hit in short) == 3
    with pytest.raises(VKDError, match=str(scores.queries)):
        pair.ranked(name, "i2v", scores.queries)
    with pytest.raises(VKDError, match="v2i"):
        pair.ranked(name, "v2i", 0)


@pytest.mark.parametrize("depth", [1, 4])
def test_ranked_lists_are_cut_at_their_depth(pair, networks, splits, monkeypatch, depth):
    """Ties, which cosines of equal images are, in gallery order as in the scores; junk not counted."""
    monkeypatch.setattr(comparison, "DEPTH", depth)
    queries, gallery = pair.query_gallery["v2v"]
    features = np.random.default_rng(0).normal(size=(len(pair.items), 4)).astype(np.float32)
    features[gallery[::3]] = features[gallery[0]]
    lists = comparison.ranked_lists(features, pair.items, queries, gallery)
    monkeypatch.undo()
    whole = comparison.ranked_lists(features, pair.items, queries, gallery)
    both = (replace(pair, lists={"a": {"v2v": each}}) for each in (lists, whole))
    short, long = (each.ranked("a", "v2v", 2, depth) for each in both)
    assert short == long
    assert sum(hit.verdict != "junk" for hit in short) == depth


def test_order_of_queries(pair):
    teacher, student = (pair.ap(name, "i2v") for name in pair.networks)
    means = [teacher[query] + student[query] for query in pair.order("i2v")]
    assert means == sorted(means)
    lost = pair.order("i2v", "loses")
    assert student[lost[0]] - teacher[lost[0]] == np.nanmin(student - teacher)
    assert pair.order("i2v", "gains")[0] == int(np.nanargmax(student - teacher))
    with pytest.raises(VKDError, match="beauty"):
        pair.order("i2v", "beauty")


def test_four_networks(networks, splits):
    """Every difference is that of the pair alone, whichever network the others are compared with."""
    both = list(networks.values())
    four = evaluate_models(
        {name: both[n % 2] for n, name in enumerate("abcd")},
        splits,
        protocols=["i2v"],
        counts=(),
        resamples=100,
    )
    assert list(four.differences) == ["b", "c", "d"]
    assert four.gains("a") is four.differences
    gains = four.gains("b")
    assert gains["a"]["i2v"]["map"].mean == -four.differences["b"]["i2v"]["map"].mean
    assert gains["d"]["i2v"]["map"] == (0, 0, 0), "the same network under two names"
    assert [row for row in four.results("b") if "−" in row] == ["a − b", "c − b", "d − b"]
    assert four.order("i2v", "loses", "b", "c") == four.order("i2v", "gains", "a", "b")
    assert four.pair() == ("a", "b")
    assert four.pair(other="a") == ("b", "a")
    with pytest.raises(VKDError, match="b"):
        four.pair("b", "b")
    with pytest.raises(VKDError, match="a, b, c, d"):
        four.gains("e")


def test_published():
    """The row of the same dataset, backbone and stage; of an imported network those of both stages."""
    student = {"a": NetworkInfo("student", "mobilenet")}
    (name, row), *_ = published(student, "mars", ["i2v"]).items()
    assert name == "mobilenet student, published"
    assert row["i2v"] == {
        "dataset": "mars", "ap": "trapezoid", "queries_in_gallery": True, "top1": 0.8333, "map": 0.7395,
    }  # fmt: skip
    assert len(published({"a": NetworkInfo("imported", "mobilenet")}, "mars", ["i2v"])) == 2
    assert published(student, "street", ["i2v"]) == {}


def assert_same(ours: Comparison, theirs: Comparison) -> None:
    assert ours.to_markdown() == theirs.to_markdown()
    assert (ours.curves, ours.networks, ours.differences) == (
        theirs.curves,
        theirs.networks,
        theirs.differences,
    )
    for name in theirs.networks:
        hits = (each.ranked(name, "v2v", 3, 20) for each in (ours, theirs))
        for mine, other in zip(*hits, strict=True):
            assert mine[::2] == other[::2]
            assert mine.similarity == pytest.approx(other.similarity, abs=6e-5)
        np.testing.assert_array_equal(ours.pairs[name]["i2v"].impostor, theirs.pairs[name]["i2v"].impostor)
        np.testing.assert_array_equal(ours.scores[name]["i2v"].cmc, theirs.scores[name]["i2v"].cmc)


def test_save_and_load(pair, tmp_path):
    results_io.save(pair, tmp_path)
    results_io.save(pair, tmp_path)  # over the older one
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert_same(results_io.load(tmp_path), pair)


def test_failed_save_keeps_the_older_results(pair, tmp_path, monkeypatch):
    results_io.save(pair, tmp_path)
    monkeypatch.setattr(np, "savez_compressed", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        results_io.save(replace(pair, dataset="other"), tmp_path)
    assert results_io.load(tmp_path).dataset == "street"
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_damaged_results(pair, tmp_path):
    with pytest.raises(VKDError):
        results_io.load(tmp_path)
    results_io.save(pair, tmp_path)
    (tmp_path / "results" / "arrays.npz").write_bytes(b"cut")
    with pytest.raises(VKDError, match="damaged"):
        results_io.load(tmp_path)


def test_evaluation_of_0_1_0():
    """The one that ships: files in the folder itself, AP and INP under their old names, 24 items a list."""
    shipped = results_io.load(CHECKPOINTS / "street-evaluation")
    teacher, student = (shipped.scores[name]["i2v"] for name in shipped.networks)
    assert teacher["map_trapezoid"] == teacher.map == pytest.approx(0.6012310041426849)
    assert student["minp"] == pytest.approx(0.5053462641041553)
    assert list(teacher.numbers()) == [
        "map", "map_trapezoid", "map_standard", "minp", "top1", "top5", "top10", "top20",
    ]  # fmt: skip
    assert teacher["top5"] == teacher.top(5)
    hits = shipped.ranked("street-mobilenet-teacher", "i2v", 0, 24)
    assert sum(hit.verdict != "junk" for hit in hits) == 24
    assert next(n for n, hit in enumerate(hits, 1) if hit.verdict == "correct") >= teacher.first_match[0]


def test_evaluation_of_0_1_0_with_embeddings(pair, networks, splits, tmp_path):
    """A run of the app kept embeddings, from which the lists follow."""
    results_io.save(pair, tmp_path)
    for file in (tmp_path / "results").iterdir():
        shutil.move(file, tmp_path)
    (tmp_path / "results").rmdir()
    (tmp_path / "lists.npz").unlink()
    from vkd.models.inference import embed

    for number, network in enumerate(networks.values()):
        features = embed(network.net, pair.items, EmbedConfig.of(network.config))
        np.save(tmp_path / f"features-{number}.npy", features)
    assert_same(results_io.load(tmp_path), pair)
