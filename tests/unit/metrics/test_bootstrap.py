"""Intervals over queries: their theory, a bootstrap drawn query by query, and edge cases."""

import numpy as np
import pytest

from vkd.io.errors import VKDError
from vkd.metrics import bootstrap, scores


@pytest.fixture(scope="module")
def pair() -> list[scores.Scores]:
    """Two networks scored on one gallery of which 5 of 60 queries have no match."""
    found = []
    for seed, noise in enumerate((0.8, 1.1)):
        generator = np.random.default_rng(seed)
        q_ids, g_ids = np.arange(60) % 30, np.arange(90) % 30
        q_ids[:5] = 99
        distmat = (q_ids[:, None] != g_ids) + noise * generator.normal(size=(60, 90))
        found.append(scores.score(distmat, q_ids, g_ids, np.zeros(60), np.ones(90)))
    return found


def test_paired_interval():
    generator = np.random.default_rng(3)
    teacher = generator.random(900)
    difference = generator.normal(0.02, 0.1, 900)
    student = teacher + difference
    student[:40] = teacher[:40] = np.nan
    ours = bootstrap.paired_interval(student, teacher, resamples=4000, seed=1)
    valid = difference[40:]
    error = 1.96 * valid.std() / np.sqrt(len(valid))
    assert ours.mean == pytest.approx(valid.mean())
    assert ours.low == pytest.approx(valid.mean() - error, abs=0.05 * error)
    assert ours.high == pytest.approx(valid.mean() + error, abs=0.05 * error)
    assert ours == bootstrap.paired_interval(student, teacher, resamples=4000, seed=1)
    same = bootstrap.paired_interval(teacher, teacher, resamples=10)
    assert same == (0, 0, 0)


@pytest.mark.parametrize(
    ("student", "teacher", "values"),
    [
        ([0.1, np.nan], [0.1, 0.2], "1 of 2 and 2 of 2"),
        ([0.1], [0.1, 0.2], "1 of 1 and 2 of 2"),
        ([np.nan], [np.nan], "valid query"),
    ],
)
def test_different_queries(student, teacher, values):
    with pytest.raises(VKDError, match=values):
        bootstrap.paired_interval(student, teacher)


def test_difference(pair):
    """Drawing once for all metrics is drawing for each of them from the same seed."""
    found = bootstrap.difference(pair[1], pair[0], resamples=300, seed=7)
    assert list(found) == ["map", "minp", "top1", "top5", "top10"]
    for metric in found:
        values, baseline = (each.per_query[metric] for each in (pair[1], pair[0]))
        alone = bootstrap.paired_interval(values, baseline, resamples=300, seed=7)
        assert found[metric] == pytest.approx(alone)
        assert found[metric].mean == pytest.approx(pair[1].numbers()[metric] - pair[0].numbers()[metric])


def test_mean_interval(pair):
    found = bootstrap.mean_interval(pair[0].ap)
    assert found.mean == pytest.approx(pair[0].map)
    assert found.low < found.mean < found.high
    assert found == bootstrap.mean_interval(pair[0].ap[pair[0].first_match > 0])


def test_cmc_band(pair):
    low, high = bootstrap.cmc_band(pair[0], 20, resamples=20_000)
    first = pair[0].first_match[pair[0].first_match > 0]
    generator = np.random.default_rng(1)
    curves = [
        np.mean(generator.choice(first, len(first))[:, None] <= np.arange(1, 21), axis=0)
        for _ in range(20_000)
    ]
    expected = np.percentile(curves, [2.5, 97.5], axis=0)
    np.testing.assert_allclose([low, high], expected, atol=1.01 / len(first))  # one query more or less
    assert np.all(low <= pair[0].cmc[:20])
    assert np.all(pair[0].cmc[:20] <= high)


def test_cmc_band_of_perfect_scores():
    perfect = scores.score(np.zeros((3, 2)), [1, 1, 1], [1, 2], [0, 0, 0], [1, 1])
    low, high = bootstrap.cmc_band(perfect, 50)
    np.testing.assert_array_equal([low, high], np.ones((2, 2)))


def test_one_query():
    assert bootstrap.mean_interval([0.25, np.nan]) == (0.25, 0.25, 0.25)
