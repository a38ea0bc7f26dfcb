"""Several networks on one data set: the same scores as `evaluate`, and everything that is drawn from them."""

from pathlib import Path

import numpy as np
import pytest

from vkd.data.datasets import Splits, read_dataset
from vkd.evaluation.comparison import Comparison, NetworkInfo, compare, published
from vkd.evaluation.protocols import evaluate
from vkd.io.errors import CancelledError
from vkd.jobs import evaluations
from vkd.metrics.tables import markdown
from vkd.models import checkpoint
from vkd.models.inference import EmbedConfig


@pytest.fixture(scope="module")
def splits(small_street: Path) -> Splits:
    return read_dataset("street", small_street)


@pytest.fixture(scope="module")
def networks(tiny_pair: tuple[Path, Path]) -> dict[str, checkpoint.Checkpoint]:
    return {folder.name: checkpoint.load(folder) for folder in tiny_pair}


@pytest.fixture(scope="module")
def told() -> list[tuple[int, int, str]]:
    return []


@pytest.fixture(scope="module")
def found(networks, splits, told) -> Comparison:
    return compare(networks, splits, resamples=200, batch=4, progress=lambda *each: told.append(each))


def test_scores_are_those_of_evaluate(found, networks, splits):
    for name, network in networks.items():
        expected = evaluate(network.net, splits, EmbedConfig.of(network.config))
        for protocol in ("i2v", "v2v"):
            np.testing.assert_allclose(found.ap(name, protocol), expected[protocol].ap, atol=1e-6)
            assert found.scores[name][protocol].as_dict() == pytest.approx(expected[protocol].as_dict())


def test_progress_counts_frames_over_all_networks(found, told, networks):
    done = [each[0] for each in told]
    assert done == sorted(done)
    assert done[-1] == told[-1][1]
    assert list(dict.fromkeys(each[2] for each in told)) == list(networks)


def test_what_progress_raises_ends_the_work(networks, splits):
    def refuse(done: int, total: int, name: str) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        compare(networks, splits, progress=refuse)


def test_curves_end_where_the_scores_are(found):
    """Eight gallery frames are the protocol itself; eight views of the query tracklets are V2V."""
    for name in found.networks:
        for protocol in ("i2v", "v2v"):
            curves = found.curves[name][protocol]
            assert list(curves["gallery frames"]) == [1, 2, 4, 8]
            assert curves["gallery frames"][8]["map"] == pytest.approx(found.scores[name][protocol].map)
            assert curves["query views"][8]["map"] == pytest.approx(found.scores[name]["v2v"].map)


def test_one_gallery_frame_is_an_evaluation_with_a_gallery_of_first_frames(found, networks, splits):
    name, network = next(iter(networks.items()))
    expected = evaluate(network.net, splits, EmbedConfig.of(network.config), protocols=["i2i"])["i2i"]
    curve = found.curves[name]["i2v"]["gallery frames"]
    assert curve[1]["map"] == pytest.approx(expected.map, abs=1e-6)  # the chunk rule takes the first frame


def test_differences_are_means_over_queries(found):
    teacher, student = found.scores.values()
    for protocol in ("i2v", "v2v"):
        for metric, interval in found.differences["tiny-student"][protocol].items():
            both = teacher[protocol].numbers(), student[protocol].numbers()
            assert interval.mean == pytest.approx(both[1][metric] - both[0][metric])
            assert interval.low <= interval.mean <= interval.high
    metrics = teacher["i2v"].per_query
    assert {name: np.nanmean(each) for name, each in metrics.items()} == pytest.approx(
        {name: teacher["i2v"].numbers()[name] for name in metrics}
    )


def test_a_ranked_list_is_the_one_that_was_scored(found):
    for name in found.networks:
        scores = found.scores[name]["i2v"]
        for query in (0, scores.queries - 1):
            counted = [hit for hit in found.ranked(name, "i2v", query, k=500) if hit.verdict != "junk"]
            right = [place for place, hit in enumerate(counted, 1) if hit.verdict == "correct"]
            assert right[0] == scores.first_match[query]
            assert len(right) / right[-1] == pytest.approx(scores.per_query["minp"][query])
    short = found.ranked(name, "i2v", 0, k=3)
    assert sum(hit.verdict != "junk" for hit in short) == 3
    with pytest.raises(ValueError, match="is none of them"):
        found.ranked(name, "i2v", scores.queries)
    with pytest.raises(ValueError, match="was not evaluated here"):
        found.ranked(name, "v2i", 0)


def test_queries_are_ordered_by_how_bad_they_are(found):
    teacher, student = (found.ap(name, "i2v") for name in found.networks)
    worst = found.order("i2v")
    means = [teacher[query] + student[query] for query in worst]
    assert means == sorted(means)
    lost = found.order("i2v", "loses")
    assert student[lost[0]] - teacher[lost[0]] == np.nanmin(student - teacher)
    assert found.order("i2v", "gains")[0] == int(np.nanargmax(student - teacher))
    with pytest.raises(ValueError, match="is no order of queries"):
        found.order("i2v", "beauty")


def test_four_networks_are_compared_with_any_of_them(networks, splits):
    """Every difference is that of the pair alone, whichever network the others are compared with."""
    both = list(networks.values())
    several = {name: both[n % 2] for n, name in enumerate("abcd")}
    found = compare(several, splits, protocols=["i2v"], counts=(), resamples=100)
    assert list(found.differences) == ["b", "c", "d"]
    assert found.gains("a") is found.differences
    gains = found.gains("b")
    assert gains["a"]["i2v"]["map"].mean == -found.differences["b"]["i2v"]["map"].mean
    assert gains["d"]["i2v"]["map"] == (0, 0, 0), "the same network under two names"
    assert [row for row in found.results("b") if "−" in row] == ["a − b", "c − b", "d − b"]
    assert found.order("i2v", "loses", "b", "c") == found.order("i2v", "gains", "a", "b")
    assert found.pair() == ("a", "b")
    assert found.pair(other="a") == ("b", "a")
    with pytest.raises(ValueError, match="cannot be compared with itself"):
        found.pair("b", "b")
    with pytest.raises(ValueError, match="'e' was not evaluated here: choose from a, b, c, d"):
        found.gains("e")


def test_curves_carry_their_intervals(found):
    for each in found.curves["tiny-student"]["i2v"]["query views"].values():
        assert each["map_low"] < each["map"] < each["map_high"]


def test_published_numbers_stand_beside_ours():
    """Where the paper has them: the row of the same data set, backbone and stage."""
    student = {"a": NetworkInfo("student", "mobilenet")}
    rows = published(student, "mars", ["i2v"])
    assert rows == {
        "mobilenet student, published": {
            "i2v": {
                "dataset": "mars", "ap": "trapezoid", "queries_in_gallery": True,
                "top1": 0.8333, "map": 0.7395,
            }
        }
    }  # fmt: skip
    assert (
        len(published({"a": NetworkInfo("imported", "mobilenet")}, "mars", ["i2v"])) == 2
    )  # either stage's, then
    assert published(student, "street", ["i2v"]) == {}


def test_a_saved_comparison_is_the_same(found, tmp_path):
    evaluations.save(found, tmp_path)
    again = evaluations.load(tmp_path)
    assert markdown(again.results()) == markdown(found.results())
    assert again.curves == found.curves
    assert again.networks == found.networks
    for name in found.networks:
        assert again.ranked(name, "v2v", 3) == found.ranked(name, "v2v", 3)
        np.testing.assert_array_equal(again.pairs[name]["i2v"].impostor, found.pairs[name]["i2v"].impostor)
        np.testing.assert_array_equal(again.scores[name]["i2v"].cmc, found.scores[name]["i2v"].cmc)


def test_damaged_results_are_told(found, tmp_path):
    with pytest.raises(ValueError, match="has no results"):
        evaluations.load(tmp_path)
    evaluations.save(found, tmp_path)
    (tmp_path / "arrays.npz").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"are damaged .*evaluate again"):
        evaluations.load(tmp_path)
