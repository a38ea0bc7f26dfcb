"""How fast scores are at MARS size, 1980 queries against 11310 gallery tracklets, and against other ways.

Run with: pytest tests/benchmarks/test_evaluate.py --benchmark-enable --benchmark-only
"""

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest

from vkd.metrics import bootstrap, scores

QUERIES, GALLERY, IDENTITIES, DISTRACTORS, CAMERAS, WIDTH = 1980, 11310, 626, 3248, 6, 2048


class Problem(NamedTuple):
    query: np.ndarray
    gallery: np.ndarray
    labels: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    distmat: np.ndarray


@pytest.fixture(scope="module")
def mars_sized() -> Problem:
    """Random embeddings with MARS's counts: identity 0 stands for the distractors."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((IDENTITIES, WIDTH), dtype=np.float32)
    q_ids = generator.integers(1, IDENTITIES, QUERIES)
    g_ids = np.append(np.zeros(DISTRACTORS, int), generator.integers(1, IDENTITIES, GALLERY - DISTRACTORS))
    query, gallery = (
        centres[ids] + 4 * generator.standard_normal((len(ids), WIDTH), dtype=np.float32)
        for ids in (q_ids, g_ids)
    )
    cameras = [generator.integers(0, CAMERAS, n) for n in (QUERIES, GALLERY)]
    return Problem(query, gallery, (q_ids, g_ids, *cameras), scores.distances(query, gallery))


def naive(distmat: np.ndarray, q_ids: Any, g_ids: Any, q_cams: Any, g_cams: Any) -> float:
    """Standard mAP as most scripts take it: sort every row in full."""
    order = np.argsort(distmat, axis=1)
    aps = []
    for query, ranked in enumerate(order):
        keep = (g_ids[ranked] != q_ids[query]) | (g_cams[ranked] != q_cams[query])
        hits = (g_ids[ranked] == q_ids[query])[keep]
        if hits.any():
            aps.append(((hits.cumsum() / (np.arange(len(hits)) + 1)) * hits).sum() / hits.sum())
    return float(np.mean(aps))


def test_scores_from_distances(benchmark, mars_sized):
    ours = benchmark(scores.score, mars_sized.distmat, *mars_sized.labels)
    assert 1900 < ours.valid_queries <= QUERIES


def test_scores_from_embeddings(benchmark, mars_sized):
    benchmark(scores.score_features, mars_sized.query, mars_sized.gallery, *mars_sized.labels)


def test_only_the_distances(benchmark, mars_sized):
    benchmark(scores.distances, mars_sized.query, mars_sized.gallery)


def test_naive_sorting(benchmark, mars_sized):
    found = benchmark.pedantic(naive, (mars_sized.distmat, *mars_sized.labels), rounds=2)
    assert found == pytest.approx(
        scores.score(mars_sized.distmat, *mars_sized.labels)["map_standard"], abs=1e-6
    )


@pytest.mark.filterwarnings("ignore")
def test_torchreid(benchmark, mars_sized):
    """The toolkit's own function: compiled where its extension is built, else in Python (a minute or two)."""
    pytest.importorskip("torchreid", reason="torchreid is not installed", exc_type=ImportError)
    rank = import_module("torchreid.reid.metrics.rank")
    benchmark.extra_info["compiled"] = rank.IS_CYTHON_AVAI
    curve, mean = benchmark.pedantic(rank.evaluate_rank, (mars_sized.distmat, *mars_sized.labels), rounds=1)
    ours = scores.score(mars_sized.distmat, *mars_sized.labels)
    assert mean == pytest.approx(ours["map_standard"], abs=1e-6)
    np.testing.assert_allclose(curve[:20], ours.cmc[:20], atol=1e-6)


def test_the_bootstrap_of_mars(benchmark, mars_sized):
    ap = scores.score(mars_sized.distmat, *mars_sized.labels).ap
    benchmark(bootstrap.paired_interval, ap, ap / 2)


def test_the_band_of_a_mars_cmc_curve(benchmark, mars_sized):
    found = scores.score(mars_sized.distmat, *mars_sized.labels)
    benchmark(bootstrap.cmc_band, found, 50)
