"""Intervals over queries: the bootstrap drawn query by query is what the fast ways are held to."""

import numpy as np
import pytest

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


def test_the_bootstrap_finds_the_interval_of_the_mean():
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
    ("student", "teacher", "sentence"),
    [
        ([0.1, np.nan], [0.1, 0.2], "valid for 1 of 2 and 2 of 2"),
        ([0.1], [0.1, 0.2], "same queries"),
        ([np.nan], [np.nan], "at least one valid query"),
    ],
)
def test_a_bootstrap_of_different_queries_is_refused(student, teacher, sentence):
    with pytest.raises(ValueError, match=sentence):
        bootstrap.paired_interval(student, teacher)


def test_every_metric_of_a_difference_has_the_bootstrap_of_its_own(pair):
    """Drawing once for all metrics is drawing for each of them from the same seed."""
    found = bootstrap.difference(pair[1], pair[0], resamples=300, seed=7)
    assert list(found) == ["map", "minp", "top1", "top5", "top10"]
    for metric in found:
        values, baseline = (each.per_query[metric] for each in (pair[1], pair[0]))
        alone = bootstrap.paired_interval(values, baseline, resamples=300, seed=7)
        assert found[metric] == pytest.approx(alone)
        assert found[metric].mean == pytest.approx(pair[1].numbers()[metric] - pair[0].numbers()[metric])


def test_the_interval_of_a_mean_leaves_out_invalid_queries(pair):
    found = bootstrap.mean_interval(pair[0].ap)
    assert found.mean == pytest.approx(pair[0].map)
    assert found.low < found.mean < found.high
    assert found == bootstrap.mean_interval(pair[0].ap[pair[0].first_match > 0])


def test_the_band_of_a_cmc_curve_is_that_of_queries_drawn_one_by_one(pair):
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


def test_a_band_ends_with_the_gallery_and_has_no_width_where_all_agree():
    perfect = scores.score(np.zeros((3, 2)), [1, 1, 1], [1, 2], [0, 0, 0], [1, 1])
    low, high = bootstrap.cmc_band(perfect, 50)
    np.testing.assert_array_equal([low, high], np.ones((2, 2)))
