"""Verification: similarities of genuine and impostor pairs, and the threshold at an FPR.

A *genuine pair* is a query and a match of it, an *impostor pair* a query and an item of another identity;
junk and items of unknown identity are neither. NumPy only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd.data.tracklets import UNKNOWN_IDENTITY, is_junk
from vkd.io.errors import VKDError
from vkd.metrics.ranking import labels_of
from vkd.metrics.scores import distances

BINS = 4000
"""Bins of the histograms over cosines −1..1: a threshold is exact to 0.0005."""
_CHUNK_PAIRS = 4_000_000


class Threshold(NamedTuple):
    """A cosine from which on two images count as one identity, with its FPR and TPR."""

    similarity: float
    fpr: float
    tpr: float


@dataclass(frozen=True, eq=False)
class PairScores:
    """Counts of genuine and impostor pairs (BINS,) by cosine similarity, from −1 to 1."""

    genuine: NDArray[np.int64]
    impostor: NDArray[np.int64]

    def threshold(self, rate: float) -> Threshold:
        """Returns the lowest threshold with a false-positive rate of at most `rate`.

        Raises VKDError for a rate outside 0..1.
        """
        if not 0 <= rate <= 1:
            raise VKDError(f"A false-positive rate lies between 0 and 1; {rate} does not.")
        fpr = _share_above(self.impostor)
        edge = int(np.argmax(fpr <= rate))
        return Threshold(-1 + 2 * edge / BINS, float(fpr[edge]), float(_share_above(self.genuine)[edge]))

    def shares(self, bins: int = 80) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Returns the middles of broader bins and the share of genuine and impostor pairs in each."""
        edges = np.linspace(-1, 1, bins + 1)
        genuine, impostor = (
            each.reshape(bins, BINS // bins).sum(1) / max(1, each.sum())
            for each in (self.genuine, self.impostor)
        )
        return (edges[:-1] + edges[1:]) / 2, genuine, impostor


def _share_above(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the share of pairs at or above each edge (BINS + 1,); 0 where there are no pairs."""
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
    """Counts all pairs of embeddings (Q, D) and (G, D), some queries at a time.

    Raises VKDError as `scores.distances`.
    """
    query, gallery = np.asarray(query), np.asarray(gallery)
    labels = labels_of(q_ids, g_ids, q_cams, g_cams, (len(query), len(gallery)))
    genuine, impostor = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    labelled = labels.g_ids != UNKNOWN_IDENTITY
    rows = max(1, _CHUNK_PAIRS // max(1, len(gallery)))
    for start in range(0, len(query), rows):
        part = slice(start, start + rows)
        cosine = 1 - distances(query[part], gallery)
        bins = np.clip(np.floor((cosine + 1) * (BINS / 2)), 0, BINS - 1).astype(np.int64)
        ids, cameras = labels.q_ids[part, None], labels.q_cams[part, None]
        same = ids == labels.g_ids
        counted = (ids != UNKNOWN_IDENTITY) & labelled
        junk = is_junk(ids, cameras, labels.g_ids, labels.g_cams)
        genuine += np.bincount(bins[counted & same & ~junk], minlength=BINS)
        impostor += np.bincount(bins[counted & ~same], minlength=BINS)
    return PairScores(genuine, impostor)
