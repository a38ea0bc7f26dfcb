"""Histograms of pair scores against a brute-force count, thresholds that keep their promise."""

import numpy as np
import pytest

from vkd.io.errors import VKDError
from vkd.metrics.verification import BINS, PairScores, pair_scores


@pytest.fixture(scope="module")
def crowd():
    """30 queries and 200 gallery items of 8 known identities, with junk, distractors and unknown ones."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(9, 16))

    def side(count: int, low: int):
        ids = rng.integers(low, 9, count)
        return centres[ids] + rng.normal(size=(count, 16)), ids, rng.integers(-1, 3, count)

    return side(30, 1), side(200, -1)


def brute_force(crowd) -> tuple[list[float], list[float]]:
    (q, q_ids, q_cams), (g, g_ids, g_cams) = crowd
    true, false = [], []
    for a in range(len(q)):
        for b in range(len(g)):
            cosine = float(q[a] @ g[b] / np.linalg.norm(q[a]) / np.linalg.norm(g[b]))
            if -1 in (q_ids[a], g_ids[b]):
                continue
            if q_ids[a] != g_ids[b]:
                false.append(cosine)
            elif q_cams[a] != g_cams[b] or q_cams[a] == -1:
                true.append(cosine)
    return true, false


@pytest.fixture(scope="module")
def found(crowd) -> PairScores:
    (q, q_ids, q_cams), (g, g_ids, g_cams) = crowd
    return pair_scores(q, g, q_ids, g_ids, q_cams, g_cams)


def test_pair_counts(crowd, found):
    true, false = brute_force(crowd)
    assert (found.genuine.sum(), found.impostor.sum()) == (len(true), len(false))
    for counts, cosines in ((found.genuine, true), (found.impostor, false)):
        expected, _ = np.histogram(cosines, bins=BINS, range=(-1, 1))
        assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 2  # rounding at an edge


@pytest.mark.parametrize("chunk", [1, 1000])
def test_chunks(crowd, found, chunk, monkeypatch):
    monkeypatch.setattr("vkd.metrics.verification._CHUNK_PAIRS", chunk)
    (q, q_ids, q_cams), (g, g_ids, g_cams) = crowd
    again = pair_scores(q, g, q_ids, g_ids, q_cams, g_cams)
    assert np.abs(np.cumsum(again.impostor) - np.cumsum(found.impostor)).max() <= 2


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.5])
def test_threshold(crowd, found, rate):
    true, false = map(np.array, brute_force(crowd))
    threshold = found.threshold(rate)
    assert threshold.fpr <= rate
    assert (false >= threshold.similarity).mean() == pytest.approx(threshold.fpr, abs=1e-3)
    assert (true >= threshold.similarity).mean() == pytest.approx(threshold.tpr, abs=5e-3)
    # One bin lower would be too high a rate.
    assert (false >= threshold.similarity - 2 / BINS).mean() > rate - 1e-3


def test_threshold_at_0_and_1(found):
    assert found.threshold(0).fpr == 0
    everybody = found.threshold(1)
    assert (everybody.similarity, everybody.fpr, everybody.tpr) == (-1, 1, 1)
    with pytest.raises(VKDError, match=r"1\.5"):
        found.threshold(1.5)


def test_shares(found):
    middles, true, false = found.shares()
    assert len(middles) == len(true) == 80
    assert true.sum() == pytest.approx(1)
    assert false.sum() == pytest.approx(1)
