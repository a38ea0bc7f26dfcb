"""Scores of a network under each protocol of a dataset: every tracklet is embedded once, then ranked.

Source of the protocols: arXiv 2007.04174, section 4. Embeddings are taken before the neck, compared by
cosine.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vkd.data.tracklets import PROTOCOLS, Splits, Tracklet, explain_invalid
from vkd.io.errors import VKDError
from vkd.io.progress import Progress, silent
from vkd.metrics.bootstrap import mean_interval
from vkd.metrics.scores import Scores, score_features
from vkd.metrics.verification import PairScores, pair_scores
from vkd.models.inference import EmbedConfig, embed
from vkd.models.network import Features, ReIDNet

GALLERY_FRAMES, QUERY_VIEWS = "gallery frames", "query views"

Rows = NDArray[np.int64]
"""Positions in `EvaluationItems.tracklets`."""
Curves = dict[str, dict[int, dict[str, float]]]
"""GALLERY_FRAMES or QUERY_VIEWS → number → metric → fraction; `map_low`, `map_high`: its interval."""


class EvaluationItems(NamedTuple):
    """Every tracklet and image that takes part in an evaluation, once, and the sides of each protocol."""

    tracklets: Sequence[Tracklet]
    rows: dict[str, tuple[Rows, Rows]]
    """Protocol → its queries and its gallery."""
    query_tracklets: Rows
    """For the curve over query views; empty where it is not drawn."""
    splits: Splits
    convention: str

    @classmethod
    def of(
        cls, splits: Splits, protocols: Iterable[str], convention: str, *, query_views: bool = False
    ) -> "EvaluationItems":
        """Collects the items, with the query tracklets for the curve over query views if that is drawn.

        Raises VKDError if a protocol is unknown or has no valid query.
        """
        sides = {protocol: splits.query_gallery(protocol) for protocol in protocols}
        require_queries(splits, sides)
        query_tracklets = splits.query if query_views else ()
        used = [*(side for both in sides.values() for side in both), query_tracklets]
        distinct = {tracklet.frames: tracklet for side in used for tracklet in side}
        index = {frames: row for row, frames in enumerate(distinct)}

        def rows(side: Sequence[Tracklet]) -> Rows:
            return np.array([index[tracklet.frames] for tracklet in side], np.int64)

        both = {protocol: (rows(query), rows(gallery)) for protocol, (query, gallery) in sides.items()}
        return cls(list(distinct.values()), both, rows(query_tracklets), splits, convention)

    def score(
        self, protocol: str, gallery: Features, query: Features | None = None, queries: Rows | None = None
    ) -> Scores:
        """Scores embeddings of the items; `query`: those for the queries, `queries`: other queries."""
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
        """Counts genuine and impostor pairs of a protocol by similarity."""
        query, gallery = self.rows[protocol]
        return pair_scores(features[query], features[gallery], *self._labels(query, gallery))

    def curves(
        self, protocol: str, features: Mapping[int, Features], views: int, counts: Sequence[int]
    ) -> Curves:
        """Scores against the number of gallery frames, and of views of query tracklets.

        `features` holds the embeddings by number of frames; the side that is not varied has `views` of them.
        """
        curves: Curves = {}
        if counts and PROTOCOLS[protocol].gallery == "tracklet":
            curves[GALLERY_FRAMES] = {
                n: _with_interval(self.score(protocol, features[n], features[views])) for n in counts
            }
        if counts and len(self.query_tracklets):
            curves[QUERY_VIEWS] = {
                n: _with_interval(self.score(protocol, features[views], features[n], self.query_tracklets))
                for n in counts
            }
        return curves

    def _labels(self, query: Rows, gallery: Rows) -> list[Rows]:
        ids = np.array([item.identity for item in self.tracklets], np.int64)
        cameras = np.array([item.camera for item in self.tracklets], np.int64)
        return [ids[query], ids[gallery], cameras[query], cameras[gallery]]


def _with_interval(scores: Scores) -> dict[str, float]:
    interval = mean_interval(scores.ap)
    return {**scores.numbers(), "map_low": interval.low, "map_high": interval.high}


def evaluate(
    net: ReIDNet,
    splits: Splits,
    config: EmbedConfig,
    *,
    protocols: Iterable[str] = ("i2v", "v2v"),
    convention: str = "trapezoid",
    progress: Progress = silent,
) -> dict[str, Scores]:
    """Scores a network on the test side of a dataset: protocol → scores. `progress` counts tracklets.

    Raises VKDError before anything is embedded if a protocol is unknown or has no valid query.
    """
    items = EvaluationItems.of(splits, protocols, convention)
    features = embed(net, items.tracklets, config, progress)
    return {protocol: items.score(protocol, features) for protocol in items.rows}


def require_queries(splits: Splits, protocols: Iterable[str]) -> None:
    """Raises VKDError, saying what to do, if a protocol has no valid query."""
    for protocol in protocols:
        if reason := explain_invalid(splits, protocol):
            raise VKDError(f"{splits.root} has no valid query for {protocol.upper()}: {reason}.")
