"""From a network and a split to scores: embed every tracklet once, rank by each protocol, tell the results.

Source of the protocols: arXiv 2007.04174, section 4. Embeddings are pre-neck, compared by cosine.
"""

from collections.abc import Iterable

from vkd.data.tracklets import PROTOCOLS, Splits, explain_invalid
from vkd.io.errors import VKDError
from vkd.io.progress import Progress, silent
from vkd.metrics.bootstrap import Interval, paired_interval
from vkd.metrics.scores import CHUNK_BYTES, Scores, distances, score, score_features
from vkd.metrics.tables import Results, export, latex, markdown, rows
from vkd.models.inference import EmbedConfig, embed
from vkd.models.network import ReIDNet

__all__ = [
    "PROTOCOLS",
    "Interval",
    "Results",
    "Scores",
    "distances",
    "evaluate",
    "export",
    "latex",
    "markdown",
    "paired_interval",
    "rows",
    "score",
    "score_features",
]


def evaluate(
    net: ReIDNet,
    splits: Splits,
    config: EmbedConfig,
    *,
    protocols: Iterable[str] = ("i2v", "v2v"),
    convention: str = "trapezoid",
    chunk_bytes: int = CHUNK_BYTES,
    progress: Progress = silent,
) -> dict[str, Scores]:
    """Protocol → Scores of a network on the test side of a data set.

    Each tracklet is embedded once, however many protocols and sides it takes part in. The other arguments are
    those of `retrieval.score_features`.

    Raises ValueError before anything is embedded if a protocol is unknown or has no valid query.
    """
    sides = {protocol: splits.query_gallery(protocol) for protocol in protocols}
    require_queries(splits, sides)
    distinct = {tracklet.frames: tracklet for both in sides.values() for side in both for tracklet in side}
    place = {key: row for row, key in enumerate(distinct)}
    features = embed(net, list(distinct.values()), config, progress)
    return {
        protocol: score_features(
            features[[place[tracklet.frames] for tracklet in query]],
            features[[place[tracklet.frames] for tracklet in gallery]],
            [tracklet.identity for tracklet in query],
            [tracklet.identity for tracklet in gallery],
            [tracklet.camera for tracklet in query],
            [tracklet.camera for tracklet in gallery],
            protocol=protocol,
            dataset=splits.name,
            convention=convention,
            queries_in_gallery=splits.queries_in_gallery,
            chunk_bytes=chunk_bytes,
        )
        for protocol, (query, gallery) in sides.items()
    }


def require_queries(splits: Splits, protocols: Iterable[str]) -> None:
    """Raise ValueError, saying what to do, if a protocol has no valid query."""
    for protocol in protocols:
        if reason := explain_invalid(splits, protocol):
            told = f"no valid query for {protocol.upper()}: {reason}"
            raise VKDError(f"{splits.root} has {told}.")
