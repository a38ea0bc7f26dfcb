"""Same or not: the similarities of true and of false pairs, and the threshold at a false-positive rate.

A *true pair* is a query and a match of it, a *false pair* a query and an item of another identity; junk and
items whose identity is not known are neither. NumPy only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY
from vkd.io.errors import VKDError
from vkd.metrics.ranking import labels_of
from vkd.metrics.scores import distances

BINS = 4000
"""Bins of the histograms over cosines −1..1: a threshold is exact to 0.0005."""
_CHUNK_PAIRS = 4_000_000


class Threshold(NamedTuple):
    """Call two pictures the same from this cosine on: which share of false and of true pairs then passes."""

    similarity: float
    false_rate: float
    true_rate: float


@dataclass(frozen=True, eq=False)
class PairScores:
    """Counts of true and false pairs (BINS,) by cosine similarity, from −1 to 1."""

    true: NDArray[np.int64]
    false: NDArray[np.int64]

    def threshold(self, rate: float) -> Threshold:
        """The lowest threshold that lets at most the share `rate` of the false pairs pass.

        Raises ValueError for a rate outside 0..1.
        """
        if not 0 <= rate <= 1:
            raise VKDError(f"A false-positive rate lies between 0 and 1; {rate} does not.")
        passing = _passing(self.false)
        place = int(np.argmax(passing <= rate))
        return Threshold(-1 + 2 * place / BINS, float(passing[place]), float(_passing(self.true)[place]))

    def shares(self, bins: int = 80) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Middles of broader bins and the share of true and of false pairs in each, for drawing."""
        edges = np.linspace(-1, 1, bins + 1)
        parts = [
            each.reshape(bins, BINS // bins).sum(1) / max(1, each.sum()) for each in (self.true, self.false)
        ]
        return (edges[:-1] + edges[1:]) / 2, parts[0], parts[1]


def _passing(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(BINS + 1,) share of pairs at or above each edge; of no pairs at all none passes."""
    above = np.concatenate([np.cumsum(counts[::-1])[::-1], [0]])
    return above / max(1, above[0])


def pair_scores(
    query: ArrayLike,
    gallery: ArrayLike,
    q_ids: ArrayLike,
    g_ids: ArrayLike,
    q_cams: ArrayLike,
    g_cams: ArrayLike,
) -> PairScores:
    """Histograms of all pairs of embeddings (Q, D) and (G, D), some queries at a time.

    Raises ValueError as `scores.distances` does.
    """
    query, gallery = np.asarray(query), np.asarray(gallery)
    labels = labels_of(q_ids, g_ids, q_cams, g_cams, (len(query), len(gallery)))
    true, false = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    known = labels.g_ids != UNKNOWN_IDENTITY
    rows = max(1, _CHUNK_PAIRS // max(1, len(gallery)))
    for start in range(0, len(query), rows):
        part = slice(start, start + rows)
        cosine = 1 - distances(query[part], gallery)
        bins = np.clip(np.floor((cosine + 1) * (BINS / 2)), 0, BINS - 1).astype(np.int64)
        ids, cameras = labels.q_ids[part, None], labels.q_cams[part, None]
        same = ids == labels.g_ids
        counted = (ids != UNKNOWN_IDENTITY) & known
        junk = (cameras == labels.g_cams) & (cameras != UNKNOWN_CAMERA)
        true += np.bincount(bins[counted & same & ~junk], minlength=BINS)
        false += np.bincount(bins[counted & ~same], minlength=BINS)
    return PairScores(true, false)
