"""Several networks on one dataset: scores, differences, pairs, curves over frames, ranked lists.

Every frame is embedded once and tracklets are means of their frames, so that one pass serves every protocol
and every number of frames. The first network is what the others are compared with: the teacher.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vkd.data.tracklets import Splits, Tracklet, is_junk
from vkd.evaluation.protocols import Curves, EvaluationItems, Rows
from vkd.evaluation.published import published_scores
from vkd.io.errors import VKDError
from vkd.io.progress import Progress, silent
from vkd.metrics.bootstrap import Interval, difference
from vkd.metrics.ranking import Verdict, length_to_rank, verdict
from vkd.metrics.scores import Scores, distances
from vkd.metrics.tables import Results, markdown
from vkd.metrics.verification import PairScores
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import EmbedConfig, embed_counts, select_frames
from vkd.models.network import Features

COUNTS = (1, 2, 4, 8)
"""Numbers of gallery frames, and of query views, that accuracy is drawn against."""
DEPTH = 50
"""Length of each ranked list, junk not counted."""


class NetworkInfo(NamedTuple):
    """Stage and backbone of a network of a comparison."""

    stage: str
    backbone: str


class RankedItem(NamedTuple):
    """One line of a ranked list: `item` is a position in `Comparison.items`."""

    item: int
    similarity: float
    verdict: Verdict


class RankedLists(NamedTuple):
    """Heads of the ranked lists of Q queries: positions in `Comparison.items` and cosines (Q, n)."""

    items: NDArray[np.int32]
    """−1 behind the last."""
    similarities: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Results of several networks (name → …, the teacher first) on one dataset."""

    dataset: str
    convention: str
    views: int
    networks: dict[str, NetworkInfo]
    scores: dict[str, dict[str, Scores]]
    """Network → protocol → scores."""
    pairs: dict[str, dict[str, PairScores]]
    curves: dict[str, dict[str, Curves]]
    """Network → protocol → curves over gallery frames and query views."""
    differences: dict[str, dict[str, dict[str, Interval]]]
    """Network after the first → protocol → metric → network − first, with its 95 % interval."""
    items: Sequence[Tracklet]
    """Every tracklet and image that takes part, with the frames that represent it."""
    query_gallery: dict[str, tuple[Rows, Rows]]
    """Protocol → items that are its queries and its gallery, in the order of the scores."""
    lists: dict[str, dict[str, RankedLists]]
    """Network → protocol → ranked lists."""
    names: dict[int, str] = field(default_factory=dict)
    """Identity → name, of a dataset whose identities have names."""

    def network(self, name: str) -> str:
        """Returns the name. Raises VKDError for a network that was not evaluated."""
        if name not in self.networks:
            raise VKDError(f"'{name}' was not evaluated here: choose from {', '.join(self.networks)}.")
        return name

    def pair(self, base: str | None = None, other: str | None = None) -> tuple[str, str]:
        """Chooses two networks to compare: those named, else the first and the next one.

        Of a single network both are it. Raises VKDError for one that was not evaluated, or for one network
        with itself.
        """
        names = list(self.networks)
        if len(names) == 1:
            return names[0], names[0]
        base = self.network(base) if base else next(name for name in names if name != other)
        other = self.network(other) if other else next(name for name in names if name != base)
        if base == other:
            raise VKDError(f"{base} cannot be compared with itself: choose two different models.")
        return base, other

    def protocol(self, name: str) -> str:
        """Returns the name. Raises VKDError for a protocol that was not evaluated."""
        if name not in self.query_gallery:
            raise VKDError(f"'{name}' was not evaluated here: choose from {', '.join(self.query_gallery)}.")
        return name

    def gains(self, base: str) -> dict[str, dict[str, dict[str, Interval]]]:
        """Returns network other than `base` → protocol → metric → network − base.

        Raises VKDError for a network that was not evaluated.
        """
        first = next(iter(self.networks))
        return self.differences if self.network(base) == first else differences(self.scores, base)

    def results(self, base: str | None = None) -> Results:
        """Returns the rows of a table: scores, published scores, differences to `base` or the first."""
        rows: dict[str, Any] = {name: dict(scores) for name, scores in self.scores.items()}
        rows |= published(self.networks, self.dataset, self.query_gallery)
        base = self.pair(base)[0]
        for name, protocols in self.gains(base).items():
            rows[difference_name(name, base)] = {
                protocol: difference_row(self.convention, intervals)
                for protocol, intervals in protocols.items()
            }
        return rows

    def to_markdown(self, base: str | None = None) -> str:
        """Returns the table of `results` in percent."""
        return markdown(self.results(base))

    def ap(self, network: str, protocol: str) -> NDArray[np.float64]:
        """Returns the average precision of each query (Q,), NaN where it has no match."""
        return self.scores[network][protocol].ap

    def ranked(self, network: str, protocol: str, query: int, k: int = 10) -> list[RankedItem]:
        """Returns the list of one query until its k-th item that is not junk (at most DEPTH), best first.

        Raises VKDError for a query that the protocol does not have.
        """
        queries, _ = self.query_gallery[self.protocol(protocol)]
        if not 0 <= query < len(queries):
            raise VKDError(f"{protocol.upper()} has no query {query}: choose from 0 to {len(queries) - 1}.")
        own = self.items[int(queries[query])]
        lists = self.lists[network][protocol]
        hits: list[RankedItem] = []
        for item, similarity in zip(lists.items[query], lists.similarities[query], strict=True):
            if item >= 0:
                each = self.items[int(item)]
                hit = verdict(own.identity, own.camera, each.identity, each.camera)
                hits.append(RankedItem(int(item), float(similarity), hit))
        return hits[: length_to_rank(np.array([hit.verdict == "junk" for hit in hits], bool), k)]

    def order(
        self, protocol: str, by: str = "worst", base: str | None = None, other: str | None = None
    ) -> list[int]:
        """Sorts the valid queries: "worst" (mean AP of all networks), or what `other` "loses" or "gains"."""
        ap = np.stack([self.ap(name, self.protocol(protocol)) for name in self.networks])
        first, second = (self.ap(name, protocol) for name in self.pair(base, other))
        keys = {"worst": ap.mean(0), "loses": second - first, "gains": first - second}
        if by not in keys:
            raise VKDError(f"Queries cannot be ordered by '{by}': choose from {', '.join(keys)}.")
        return [int(query) for query in np.argsort(keys[by], kind="stable") if not np.isnan(ap[0, query])]


def published(networks: Mapping[str, NetworkInfo], dataset: str, protocols: Iterable[str]) -> dict[str, Any]:
    """Returns the published scores for the same dataset, backbone and stage as rows of `results`."""
    rows: dict[str, Any] = {}
    terms = {"dataset": dataset, "ap": "trapezoid", "queries_in_gallery": True}
    for each in networks.values():
        for stage, scores in published_scores(dataset, each.backbone, each.stage).items():
            if both := {protocol: terms | scores[protocol] for protocol in protocols if protocol in scores}:
                rows[f"{each.backbone} {stage}, published"] = both
    return rows


def differences(
    scores: Mapping[str, Mapping[str, Scores]], base: str, *, resamples: int = 10_000, seed: int = 0
) -> dict[str, dict[str, dict[str, Interval]]]:
    """Returns network other than `base` → protocol → metric → network − base, with its 95 % interval."""
    return {
        name: {
            protocol: difference(each, scores[base][protocol], resamples=resamples, seed=seed)
            for protocol, each in protocols.items()
        }
        for name, protocols in scores.items()
        if name != base
    }


def difference_name(name: str, base: str) -> str:
    """Names a difference of two networks, as a row of a table."""
    return f"{name} − {base}"


def difference_row(convention: str, intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """Returns a difference as a row of `results`: each metric with its `_low` and `_high`."""
    row: dict[str, Any] = {"ap": convention}
    for metric, interval in intervals.items():
        row |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
    return row


def ranked_lists(features: Features, items: Sequence[Tracklet], queries: Rows, gallery: Rows) -> RankedLists:
    """Ranks the gallery for each query up to DEPTH items without junk; ties by gallery position."""
    ids, cameras = (np.array([getattr(t, name) for t in items]) for name in ("identity", "camera"))
    lists: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for query in queries:
        row = distances(features[query][None], features[gallery])[0]
        junk = is_junk(ids[query], cameras[query], ids[gallery], cameras[gallery])
        length = min(DEPTH + int(junk.sum()), len(row))
        # Only what can be in the list is sorted: up to the distance of its last item, ties included.
        near = np.flatnonzero(row <= np.partition(row, length - 1)[length - 1])
        near = near[np.argsort(row[near], kind="stable")]
        near = near[: length_to_rank(junk[near], DEPTH)]
        lists.append((gallery[near], 1 - row[near]))
    out = np.full((len(lists), max(len(each) for each, _ in lists)), -1, np.int32)
    similarities = np.zeros(out.shape, np.float32)
    for query, (positions, cosines) in enumerate(lists):
        out[query, : len(positions)], similarities[query, : len(cosines)] = positions, cosines
    return RankedLists(out, similarities)


def evaluate_models(
    models: Mapping[str, Checkpoint],
    splits: Splits,
    *,
    protocols: Sequence[str] = ("i2v", "v2v"),
    convention: str = "trapezoid",
    counts: Sequence[int] = COUNTS,
    resamples: int = 10_000,
    seed: int = 0,
    progress: Progress = silent,
    **embedding: Any,
) -> Comparison:
    """Evaluates and compares networks, the teacher first, on the test side of a dataset.

    Args:
        counts: numbers of frames that accuracy is drawn against; none for no such curves.
        resamples, seed: of the paired bootstrap.
        progress: called after each batch with frames done, frames of all networks, the network.
        embedding: fields of `EmbedConfig` that the checkpoints do not tell: views, frames, batch, workers.

    Raises VKDError before anything is embedded if a protocol is unknown or has no valid query.
    """
    items = EvaluationItems.of(splits, protocols, convention, query_views=bool(counts))
    configs = {name: EmbedConfig.of(model.config, **embedding) for name, model in models.items()}
    config = next(iter(configs.values()))
    views, lists = config.views, {}
    scores: dict[str, dict[str, Scores]] = {}
    pairs: dict[str, dict[str, PairScores]] = {}
    curves: dict[str, dict[str, Curves]] = {}
    for number, (name, model) in enumerate(models.items()):

        def report(done: int, total: int, what: str, name: str = name, number: int = number) -> None:
            progress(number * total + done, len(models) * total, name)

        by_count = embed_counts(
            model.net, items.tracklets, tuple(dict.fromkeys((views, *counts))), configs[name], report
        )
        features = by_count[views]
        scores[name] = {protocol: items.score(protocol, features) for protocol in items.rows}
        pairs[name] = {protocol: items.pairs(protocol, features) for protocol in items.rows}
        curves[name] = {protocol: items.curves(protocol, by_count, views, counts) for protocol in items.rows}
        lists[name] = {
            protocol: ranked_lists(features, items.tracklets, *rows) for protocol, rows in items.rows.items()
        }
    return Comparison(
        dataset=splits.name,
        convention=convention,
        views=views,
        networks={name: NetworkInfo(m.config.stage, m.config.backbone) for name, m in models.items()},
        scores=scores,
        pairs=pairs,
        curves=curves,
        differences=differences(scores, next(iter(scores)), resamples=resamples, seed=seed),
        items=[
            item._replace(frames=select_frames(item.frames, views, config.frames)) for item in items.tracklets
        ],
        query_gallery=items.rows,
        lists=lists,
        names=splits.names,
    )
