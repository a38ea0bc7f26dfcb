"""The items that take part in an evaluation, and what embeddings of them score under each protocol."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vkd.data.tracklets import PROTOCOLS, Splits, Tracklet
from vkd.evaluation.protocols import require_queries
from vkd.metrics.bootstrap import mean_interval
from vkd.metrics.scores import Scores, score_features
from vkd.metrics.verification import PairScores, pair_scores

GALLERY_FRAMES, QUERY_VIEWS = "gallery frames", "query views"

Rows = NDArray[np.int64]
"""Positions in `Sides.items`."""
Features = NDArray[np.float32]
"""Embeddings (n, D) of the items."""
Curves = dict[str, dict[int, dict[str, float]]]
"""GALLERY_FRAMES or QUERY_VIEWS → number → metric → fraction; `map_low`, `map_high`: its interval."""


class Sides(NamedTuple):
    """Every tracklet and picture that takes part, once, and where the protocols find theirs."""

    items: Sequence[Tracklet]
    rows: dict[str, tuple[Rows, Rows]]
    """Protocol → its queries and its gallery."""
    tracks: Rows
    """The query tracklets, for the curve over query views; empty where it is not drawn."""
    splits: Splits
    convention: str

    @classmethod
    def of(cls, splits: Splits, protocols: Iterable[str], convention: str, *, tracks: bool) -> "Sides":
        """Raises ValueError if a protocol is unknown or has no valid query."""
        sides = {protocol: splits.query_gallery(protocol) for protocol in protocols}
        require_queries(splits, sides)
        used = [*(side for both in sides.values() for side in both), splits.query if tracks else ()]
        distinct = {tracklet.frames: tracklet for side in used for tracklet in side}
        place = {frames: row for row, frames in enumerate(distinct)}

        def rows(side: Sequence[Tracklet]) -> Rows:
            return np.array([place[tracklet.frames] for tracklet in side], np.int64)

        found = {protocol: (rows(query), rows(gallery)) for protocol, (query, gallery) in sides.items()}
        return cls(list(distinct.values()), found, rows(used[-1]), splits, convention)

    def score(
        self, protocol: str, gallery: Features, query: Features | None = None, queries: Rows | None = None
    ) -> Scores:
        """Scores of the gallery's embeddings; queries from others, or other queries than the protocol's."""
        own, items = self.rows[protocol]
        queries = own if queries is None else queries
        return score_features(
            (gallery if query is None else query)[queries],
            gallery[items],
            *self._labels(queries, items),
            protocol=protocol,
            dataset=self.splits.name,
            convention=self.convention,
            queries_in_gallery=self.splits.queries_in_gallery,
        )

    def pairs(self, protocol: str, features: Features) -> PairScores:
        query, gallery = self.rows[protocol]
        return pair_scores(features[query], features[gallery], *self._labels(query, gallery))

    def curves(
        self, protocol: str, found: Mapping[int, Features], views: int, counts: Sequence[int]
    ) -> Curves:
        """Scores against the number of gallery frames, and of views of query tracklets.

        `found` has the embeddings by number of frames; the side that is not counted has `views` of them.
        """
        curves: Curves = {}
        if counts and PROTOCOLS[protocol].gallery == "tracklet":
            curves[GALLERY_FRAMES] = {
                n: _with_interval(self.score(protocol, found[n], found[views])) for n in counts
            }
        if counts and len(self.tracks):
            curves[QUERY_VIEWS] = {
                n: _with_interval(self.score(protocol, found[views], found[n], self.tracks)) for n in counts
            }
        return curves

    def _labels(self, query: Rows, gallery: Rows) -> list[Rows]:
        ids = np.array([item.identity for item in self.items], np.int64)
        cameras = np.array([item.camera for item in self.items], np.int64)
        return [ids[query], ids[gallery], cameras[query], cameras[gallery]]


def _with_interval(scores: Scores) -> dict[str, float]:
    found = mean_interval(scores.ap)
    return {**scores.numbers(), "map_low": found.low, "map_high": found.high}
