"""The ranks of a query's matches, and `METRICS`: what each metric makes of them. One query at a time.

A *match* of a query is a gallery item of its identity that is not junk. Junk (`data.tracklets.is_junk`) is
taken out of the query's ranking. An item of unknown identity is neither junk nor match. Everything else
stays in the ranking, distractors too. Equal distances are ranked by gallery position, the earlier item
first. The rank of a match is one plus the number of items before it, so nothing is sorted for a handful of
matches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd.data.tracklets import UNKNOWN_IDENTITY, is_junk
from vkd.io.errors import VKDError

FEW_MATCHES = 48  # up to here counting beats sorting the row (measured at 11 thousand items)

Verdict = Literal["correct", "incorrect", "junk", "unknown"]
Ranks = NDArray[np.int64]
"""Ascending ranks, from 1, of a query's matches; at least one."""

CONVENTIONS = ("trapezoid", "standard")
"""How average precision is taken: as the authors and the official MARS script, or as most toolkits."""


def average_precision(ranks: Ranks, convention: str) -> float:
    """Returns the average precision of one query.

    "standard" is the mean precision at the matches. "trapezoid" is the area under precision over recall, as
    in the official MARS script: at each match its precision is averaged with the one a rank earlier (1
    before the first rank).
    """
    count = np.arange(1, len(ranks) + 1)
    precision = count / ranks
    if convention == "standard":
        return float(np.mean(precision))
    earlier = np.where(ranks > 1, (count - 1) / np.maximum(ranks - 1, 1), 1.0)
    return float(np.mean((precision + earlier) / 2))


class Metric(NamedTuple):
    """A metric: the mean over valid queries of a value that follows from the ranks of a query's matches."""

    title: str
    value: Callable[[Ranks, str], float]
    """Takes the ranks of the matches and the AP convention."""
    percent: bool = True
    """Shown × 100."""
    higher_is_better: bool = True
    hub_type: str = ""
    """Type in the metadata of a model card; the title if empty."""
    compared: bool = True
    """A column of the comparison of networks, with its difference and 95 % interval."""
    listed: bool = True
    """A column of Markdown and LaTeX tables and a line of cards; JSON and CSV hold every metric."""
    headline: bool = False
    """One of the few that a run shows first: its tiles, first curves and printed lines."""
    convention: str = ""
    """AP convention that the metric always has, whatever that of the result."""


def top(k: int) -> Callable[[Ranks, str], float]:
    """Returns the value of a top-k metric (CMC at rank k): 1 if a match is among the first k items."""
    return lambda ranks, convention: float(ranks[0] <= k)


AP = "map"
"""Key of the mean average precision in the convention of the result."""
METRICS: dict[str, Metric] = {
    AP: Metric("mAP", average_precision, headline=True),
    "map_trapezoid": Metric(
        "mAP (trapezoid)",
        lambda ranks, _: average_precision(ranks, "trapezoid"),
        hub_type="mAP",
        compared=False,
        convention="trapezoid",
    ),
    "map_standard": Metric(
        "mAP (standard)",
        lambda ranks, _: average_precision(ranks, "standard"),
        hub_type="mAP",
        compared=False,
        convention="standard",
    ),
    # Matches / rank of the last match: how far down a person reads to have seen all (arXiv 2001.04193).
    "minp": Metric("mINP", lambda ranks, _: len(ranks) / float(ranks[-1])),
    "top1": Metric("top-1", top(1), hub_type="rank-1", headline=True),
    "top5": Metric("top-5", top(5), hub_type="rank-5"),
    "top10": Metric("top-10", top(10), hub_type="rank-10"),
    "top20": Metric("top-20", top(20), hub_type="rank-20", compared=False, listed=False),
}
"""Key → metric. Scores, intervals, tables, curves, cards and exports follow from a row."""


def metric_value(key: str, value: float, digits: int = 2, unit: str = "") -> str:
    """Formats a metric for people: "71.23" for 0.7123 if it is shown in percent, with `unit` then."""
    return f"{100 * value:.{digits}f}{unit}" if METRICS[key].percent else f"{value:.4g}"


def headlines(values: Mapping[str, Any]) -> list[str]:
    """Returns the keys of the metrics shown first, of those that are in `values` and numbers."""
    return [
        key for key, metric in METRICS.items() if metric.headline and isinstance(values.get(key), int | float)
    ]


class Labels(NamedTuple):
    """Identities and cameras of Q queries and G gallery items."""

    q_ids: NDArray[np.int64]
    g_ids: NDArray[np.int64]
    q_cams: NDArray[np.int64]
    g_cams: NDArray[np.int64]


def labels_of(
    q_ids: ArrayLike, g_ids: ArrayLike, q_cams: ArrayLike, g_cams: ArrayLike, shape: tuple[int, int]
) -> Labels:
    """Converts the four to integer arrays. Raises VKDError unless they fit distances of shape (Q, G)."""
    labels = Labels(*(np.asarray(x, dtype=np.int64) for x in (q_ids, g_ids, q_cams, g_cams)))
    names = ("query identities", "gallery identities", "query cameras", "gallery cameras")
    for name, array, size in zip(names, labels, (*shape, *shape), strict=True):
        if array.shape != (size,):
            raise VKDError(
                f"The {name} must be {size} numbers, as the distances; their shape is {array.shape}."
            )
    return labels


def matches_and_junk(labels: Labels) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yields for each query the gallery positions of its matches and of its junk, both ascending."""
    by_identity = np.argsort(labels.g_ids, kind="stable")
    ordered = labels.g_ids[by_identity]
    starts, stops = (np.searchsorted(ordered, labels.q_ids, side=side) for side in ("left", "right"))
    for start, stop, identity, camera in zip(starts, stops, labels.q_ids, labels.q_cams, strict=True):
        same = by_identity[start:stop] if identity != UNKNOWN_IDENTITY else by_identity[:0]
        junk = is_junk(identity, camera, labels.g_ids[same], labels.g_cams[same])
        yield same[~junk], same[junk]


def match_ranks(row: NDArray[Any], matches: NDArray[np.int64]) -> Ranks:
    """Returns the ranks of the gallery positions `matches` in a row of distances (G,), junk at infinity."""
    if len(matches) <= FEW_MATCHES:
        before = [
            np.count_nonzero(row[:position] <= row[position])
            + np.count_nonzero(row[position:] < row[position])
            for position in matches.tolist()
        ]
        return np.sort(np.asarray(before, dtype=np.int64)) + 1
    ordered = np.sort(row)
    first, last = (np.searchsorted(ordered, row[matches], side=side) for side in ("left", "right"))
    if np.any(last - first > 1):
        is_match = np.zeros(len(row), dtype=bool)
        is_match[matches] = True
        return np.flatnonzero(is_match[np.argsort(row, kind="stable")]) + 1
    return np.sort(first) + 1


def verdict(query_identity: int, query_camera: int, identity: int, camera: int) -> Verdict:
    """Returns the verdict on an item of a ranked list; "unknown" where an identity is missing."""
    if UNKNOWN_IDENTITY in (query_identity, identity):
        return "unknown"
    if is_junk(query_identity, query_camera, identity, camera):
        return "junk"
    return "correct" if query_identity == identity else "incorrect"


def ranks_without_junk(verdicts: Sequence[str]) -> list[int | None]:
    """Returns the rank of each item of a list from its top on; junk has none and takes none."""
    ranks = np.cumsum([each != "junk" for each in verdicts]).tolist()
    return [None if each == "junk" else rank for each, rank in zip(verdicts, ranks, strict=True)]


def length_to_rank(junk: NDArray[np.bool_], k: int) -> int:
    """Returns how many items a list has until its k-th that is not junk; all if there are fewer.

    Junk behind the k-th item would only lengthen the list.
    """
    ranks = np.cumsum(~junk)
    return int(np.argmax(ranks == k)) + 1 if len(ranks) and ranks[-1] >= k else len(ranks)


def explain_no_matches(labels: Labels, dataset: str, protocol: str) -> str:
    """Returns the message for a ranking in which no query has a match."""
    name = " ".join(part for part in (dataset, protocol.upper()) if part)
    start = f"No query{' of ' + name if name else ''} has a match in the gallery: "
    if not len(labels.q_ids) or not len(labels.g_ids):
        return start + f"there are {len(labels.q_ids)} queries and {len(labels.g_ids)} gallery items."
    if not np.isin(labels.q_ids[labels.q_ids != UNKNOWN_IDENTITY], labels.g_ids).any():
        return start + f"none of the identities of the {len(labels.q_ids)} queries is in it."
    return start + (
        "every item of a query's identity comes from the query's own camera and is junk; without camera "
        "labels give every image the camera −1."
    )
