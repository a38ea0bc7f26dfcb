"""95 % bootstrap intervals over queries: of a mean, a paired difference, a CMC curve. NumPy only.

Queries are drawn with replacement; an interval holds the 2.5th to the 97.5th percentile of what comes out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd.io.errors import VKDError
from vkd.metrics.scores import CHUNK_BYTES, Scores, rows_within

METRICS = ("map", "top1", "top5", "top10", "minp")
DRAWN = 2000
"""Resamples of intervals that are only drawn: their ends are exact to about a tenth of their length."""
_ENDS = [2.5, 97.5]


class Interval(NamedTuple):
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    student_ap: ArrayLike, teacher_ap: ArrayLike, *, resamples: int = 10_000, generator: np.random.Generator
) -> Interval:
    """Paired bootstrap of student − teacher: AP of each query (Q,), NaN where invalid → 95 % interval.

    Queries are drawn with replacement, the same for both.

    Raises ValueError if the two were not scored on the same queries, or on none.
    """
    return _paired(_columns(student_ap), _columns(teacher_ap), resamples, generator)[0]


def difference(
    other: Scores, first: Scores, *, resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval]:
    """Metric → other − first with its 95 % interval, paired over queries (every metric is a mean over them).

    Raises ValueError as `bootstrap` does.
    """
    ours, theirs = (np.stack([per_query(each)[name] for name in METRICS], 1) for each in (other, first))
    found = _paired(ours, theirs, resamples, np.random.default_rng(seed))
    return dict(zip(METRICS, found, strict=True))


def per_query(scores: Scores) -> dict[str, NDArray[np.float64]]:
    """Metric → (Q,) what each query contributes, NaN where it has no match."""
    valid = scores.first_match > 0
    hits = {f"top{k}": np.where(valid, scores.first_match <= k, np.nan) for k in (1, 5, 10)}
    return {"map": scores.ap, **hits, "minp": scores.inp}


def mean(values: ArrayLike, *, resamples: int = DRAWN, seed: int = 0) -> Interval:
    """Mean of what each query contributes (Q,), NaN where it is invalid. Raises ValueError as `bootstrap`."""
    column = _columns(values)
    return _intervals(column[~np.isnan(column[:, 0])], resamples, np.random.default_rng(seed))[0]


def cmc_band(
    scores: Scores, ranks: int, *, resamples: int = DRAWN, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper end (ranks,) of the interval of a CMC curve at each of its first ranks.

    Only the rank of a query's first match counts, so that drawing queries is drawing ranks: one multinomial
    draw a resample, whatever the number of queries.
    """
    ranks = min(ranks, len(scores.cmc))
    first = scores.first_match[scores.first_match > 0]
    share = np.bincount(np.minimum(first, ranks + 1), minlength=ranks + 2)[1:] / len(first)
    drawn = np.random.default_rng(seed).multinomial(len(first), share, size=resamples)
    low, high = np.percentile(drawn.cumsum(1)[:, :ranks] / len(first), _ENDS, axis=0)
    return low, high


def _columns(values: ArrayLike) -> NDArray[np.float64]:
    """(Q,) → (Q, 1)."""
    return np.asarray(values, dtype=np.float64)[..., None]


def _paired(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    resamples: int,
    generator: np.random.Generator,
) -> list[Interval]:
    """Columns of numbers of each query (Q, n), NaN where it is invalid → an interval for each column."""
    valid = [~np.isnan(each).any(-1) for each in (ours, theirs)]
    if ours.ndim != 2 or ours.shape != theirs.shape or np.any(valid[0] != valid[1]):
        told = [f"{np.count_nonzero(each)} of {each.size}" for each in valid]
        raise VKDError(
            "Student and teacher must be scored on the same queries to be compared in pairs; "
            f"theirs are valid for {told[0]} and {told[1]}."
        )
    return _intervals((ours - theirs)[valid[0]], resamples, generator)


def _intervals(values: NDArray[np.float64], resamples: int, generator: np.random.Generator) -> list[Interval]:
    """Valid queries (Q, n) → an interval for each column; every column sees the same draws."""
    queries = len(values)
    if not queries or resamples < 1:
        raise VKDError("A bootstrap needs at least one valid query and one resample.")
    most, means = rows_within(CHUNK_BYTES // 8, 8 * queries), []
    for done in range(0, resamples, most):
        rows = min(most, resamples - done)
        drawn = generator.integers(queries, size=(rows, queries))
        drawn += queries * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * queries).reshape(rows, queries)
        means.append(times.astype(np.float64) @ values / queries)
    low, high = np.percentile(np.concatenate(means), _ENDS, axis=0)
    return [Interval(*map(float, each)) for each in zip(values.mean(0), low, high, strict=True)]
