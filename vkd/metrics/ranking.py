"""The ranks of a query's matches and what follows from them: NumPy only, one query at a time.

A *match* of a query is a gallery item of its identity that is not junk. *Junk* shares identity and camera
with the query and is taken out of its ranking. An unknown camera is never junk; an unknown identity is
neither junk nor match. Everything else stays in the ranking, distractors too. Equal distances are ranked by
gallery position, the earlier item first. The rank of a match is one plus the number of items before it, so
nothing is sorted for a handful of matches.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY
from vkd.io.errors import VKDError

FEW_MATCHES = 48  # up to here counting beats sorting the row (measured at 11 thousand items)


class Labels(NamedTuple):
    """Identities and cameras of Q queries and G gallery items."""

    q_ids: NDArray[np.int64]
    g_ids: NDArray[np.int64]
    q_cams: NDArray[np.int64]
    g_cams: NDArray[np.int64]


def ap_standard(ranks: NDArray[np.int64]) -> float:
    """Mean precision at the matches, from their ascending ranks (from 1)."""
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def ap_trapezoid(ranks: NDArray[np.int64]) -> float:
    """Area under precision over recall by trapezoids, as the official MARS script takes it.

    At each match its precision is averaged with the precision one rank earlier (1 before the first rank).
    """
    found = np.arange(1, len(ranks) + 1)
    before = np.where(ranks > 1, (found - 1) / np.maximum(ranks - 1, 1), 1.0)
    return float(np.mean((found / ranks + before) / 2))


def match_ranks(row: NDArray[Any], matches: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending ranks, from 1, of the gallery positions `matches` in a row of distances (G,).

    Equal distances are ranked by position. Junk must have been set to infinity.
    """
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


def pairs(labels: Labels) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each query the gallery positions of its matches and of its junk, both ascending."""
    by_identity = np.argsort(labels.g_ids, kind="stable")
    ordered = labels.g_ids[by_identity]
    starts, stops = (np.searchsorted(ordered, labels.q_ids, side=side) for side in ("left", "right"))
    for start, stop, identity, camera in zip(starts, stops, labels.q_ids, labels.q_cams, strict=True):
        same = by_identity[start:stop] if identity != UNKNOWN_IDENTITY else by_identity[:0]
        junk = (labels.g_cams[same] == camera) & (camera != UNKNOWN_CAMERA)
        yield same[~junk], same[junk]


def why_no_query(labels: Labels, dataset: str, protocol: str) -> str:
    """The sentence of a ranking that cannot be scored."""
    name = " ".join(part for part in (dataset, protocol.upper()) if part)
    start = (
        f"No query{' of ' + name if name else ''} has a match in the gallery, so there is nothing to score: "
    )
    if not len(labels.q_ids) or not len(labels.g_ids):
        return start + f"there are {len(labels.q_ids)} queries and {len(labels.g_ids)} gallery items."
    if not np.isin(labels.q_ids[labels.q_ids != UNKNOWN_IDENTITY], labels.g_ids).any():
        return start + f"none of the identities of the {len(labels.q_ids)} queries is in it."
    return start + (
        "every item of a query's identity comes from the query's own camera and is junk; where cameras are "
        "not known, give every picture the camera −1."
    )


def labels_of(
    q_ids: ArrayLike, g_ids: ArrayLike, q_cams: ArrayLike, g_cams: ArrayLike, shape: tuple[int, int]
) -> Labels:
    """The four as integer arrays, one for each row or column of distances of this shape, or a ValueError."""
    labels = Labels(*(np.asarray(x, dtype=np.int64) for x in (q_ids, g_ids, q_cams, g_cams)))
    for name, array, size in zip(
        ("query identities", "gallery identities", "query cameras", "gallery cameras"),
        labels,
        (shape[0], shape[1], shape[0], shape[1]),
        strict=True,
    ):
        if array.shape != (size,):
            raise VKDError(
                f"The {name} must be {size} numbers, as the distances; their shape is {array.shape}."
            )
    return labels
