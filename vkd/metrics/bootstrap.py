"""95 % bootstrap intervals over queries: of a mean, of a paired difference, of a CMC curve.

Queries are drawn with replacement; an interval reaches from the 2.5th to the 97.5th percentile of the
resamples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd.io.errors import VKDError
from vkd.metrics.ranking import METRICS
from vkd.metrics.scores import CHUNK_BYTES, Scores, rows_within

FEW_RESAMPLES = 2000
"""Resamples of intervals that are only drawn: their ends are exact to about a tenth of their length."""


class Interval(NamedTuple):
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, *, resamples: int = FEW_RESAMPLES, seed: int = 0) -> Interval:
    """Returns the mean of values (Q,), NaN where a query is invalid. Raises VKDError if all are."""
    row = np.asarray(values, dtype=np.float64)[None]
    return _intervals(row[:, ~np.isnan(row[0])], resamples, seed)[0]


def paired_interval(
    values: ArrayLike, baseline: ArrayLike, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Returns the mean of values − baseline, both (Q,), NaN where a query is invalid.

    Raises VKDError if the two were not scored on the same queries, or on none.
    """
    return _paired(np.atleast_2d(values), np.atleast_2d(baseline), resamples, seed)[0]


def difference(
    scores: Scores, baseline: Scores, *, resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval]:
    """Returns metric → scores − baseline, paired over queries, for every compared metric that both have.

    All metrics share the same draws. Raises VKDError as `paired_interval`.
    """
    keys = [key for key, metric in METRICS.items() if metric.compared]
    keys = [key for key in keys if key in scores.per_query and key in baseline.per_query]
    values, others = (np.stack([each.per_query[key] for key in keys]) for each in (scores, baseline))
    return dict(zip(keys, _paired(values, others, resamples, seed), strict=True))


def cmc_band(
    scores: Scores, ranks: int, *, resamples: int = FEW_RESAMPLES, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the lower and upper bounds (ranks,) of the interval of a CMC curve at its first ranks.

    Only the rank of a query's first match counts, so that drawing queries is drawing ranks: one multinomial
    draw a resample, whatever the number of queries.
    """
    ranks = min(ranks, len(scores.cmc))
    first = scores.first_match[scores.first_match > 0]
    share = np.bincount(np.minimum(first, ranks + 1), minlength=ranks + 2)[1:] / len(first)
    counts = np.random.default_rng(seed).multinomial(len(first), share, size=resamples)
    low, high = np.percentile(counts.cumsum(1)[:, :ranks] / len(first), [2.5, 97.5], axis=0)
    return low, high


def _paired(
    values: NDArray[np.float64], baseline: NDArray[np.float64], resamples: int, seed: int
) -> list[Interval]:
    """Returns an interval for each row of values − baseline, both (n, Q)."""
    valid = [~np.isnan(each).any(0) for each in (values, baseline)]
    if values.shape != baseline.shape or np.any(valid[0] != valid[1]):
        counts = [f"{np.count_nonzero(each)} of {each.size}" for each in valid]
        raise VKDError(
            "Two models must be scored on the same queries to be compared in pairs; "
            f"theirs are valid for {counts[0]} and {counts[1]}."
        )
    return _intervals((values - baseline)[:, valid[0]], resamples, seed)


def _intervals(values: NDArray[np.float64], resamples: int, seed: int) -> list[Interval]:
    """Returns an interval for each row of the values (n, Q) of valid queries."""
    from scipy import stats  # takes most of a second, and a page that shows saved intervals needs none of it

    if not values.size or resamples < 1:
        raise VKDError("A bootstrap needs at least one valid query and one resample.")
    means = values.mean(1)
    if values.shape[1] == 1:  # which SciPy refuses
        return [Interval(mean, mean, mean) for mean in means.tolist()]
    low, high = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=rows_within(CHUNK_BYTES // 8, 8 * values.size),
        axis=1,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [Interval(*map(float, each)) for each in zip(means, low, high, strict=True)]
