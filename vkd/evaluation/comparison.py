"""Several networks on one data set: scores, differences, pairs of scores, curves over frames, ranked lists.

Every frame is embedded once and tracklets are means of their frames, so that one pass serves every protocol
and every number of frames. The first network is what the others are compared with: the teacher.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY, Splits, Tracklet
from vkd.evaluation.protocols import Results
from vkd.evaluation.sides import Curves, Sides
from vkd.io.errors import VKDError
from vkd.io.progress import Progress, silent
from vkd.metrics.bootstrap import Interval, difference
from vkd.metrics.scores import Scores, distances
from vkd.metrics.verification import PairScores
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import EmbedConfig, embed_counts, select_frames
from vkd.training.presets import PUBLISHED

COUNTS = (1, 2, 4, 8)
"""Numbers of gallery frames, and of query views, that accuracy is drawn against."""


class NetworkInfo(NamedTuple):
    """What a network of a comparison is."""

    stage: str
    backbone: str


class Ranked(NamedTuple):
    """One line of a ranked list: `item` is a position in `Comparison.items`."""

    item: int
    similarity: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """What several networks (name → …, the teacher first) reach on one data set."""

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
    """Every tracklet and picture that takes part, with the frames that stand for it."""
    query_gallery: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    """Protocol → items that are its queries and its gallery, in the order of the scores."""
    features: dict[str, NDArray[np.float32]]
    """Network → embeddings (n, D) of the items."""
    names: dict[int, str] = field(default_factory=dict)

    def network(self, name: str) -> str:
        """The name itself; raises ValueError for a network that was not evaluated."""
        if name not in self.networks:
            raise VKDError(f"'{name}' was not evaluated here: choose from {', '.join(self.networks)}.")
        return name

    def pair(self, base: str | None = None, other: str | None = None) -> tuple[str, str]:
        """Two networks to set against each other: those named, else the first and the next one.

        Raises ValueError for one that was not evaluated, or for one network with itself; of a single network
        both are it.
        """
        names = list(self.networks)
        if len(names) == 1:
            return names[0], names[0]
        base = self.network(base) if base else next(name for name in names if name != other)
        other = self.network(other) if other else next(name for name in names if name != base)
        if base == other:
            raise VKDError(f"{base} cannot be compared with itself: choose two different networks.")
        return base, other

    def protocol(self, name: str) -> str:
        """The name itself; raises ValueError for a protocol that was not evaluated."""
        if name not in self.query_gallery:
            raise VKDError(f"'{name}' was not evaluated here: choose from {', '.join(self.query_gallery)}.")
        return name

    def gains(self, base: str) -> dict[str, dict[str, dict[str, Interval]]]:
        """Network other than `base` → protocol → metric → network − base: `differences` to any network.

        Raises ValueError for a network that was not evaluated.
        """
        first = next(iter(self.networks))
        return self.differences if self.network(base) == first else differences(self.scores, base)

    def results(self, base: str | None = None) -> Results:
        """Scores, differences (to the first network or to `base`) and published numbers as `report` writes
        them.
        """
        rows: dict[str, Any] = {name: dict(found) for name, found in self.scores.items()}
        rows |= published(self.networks, self.dataset, self.query_gallery)
        base, first = self.pair(base)[0], next(iter(self.networks))
        for name, found in self.gains(base).items():
            label = "student − teacher" if len(self.networks) == 2 and base == first else f"{name} − {base}"
            rows[label] = {
                protocol: difference_row(self.convention, intervals) for protocol, intervals in found.items()
            }
        return rows

    def ap(self, network: str, protocol: str) -> NDArray[np.float64]:
        """(Q,) average precision of each query, NaN where it has no match."""
        return self.scores[network][protocol].ap

    def ranked(self, network: str, protocol: str, query: int, k: int = 10) -> list[Ranked]:
        """The list of one query until its k-th item that is not junk, best first.

        Raises ValueError for a query that the protocol does not have.
        """
        queries, _ = self.query_gallery[self.protocol(protocol)]
        if not 0 <= query < len(queries):
            raise VKDError(
                f"{protocol.upper()} has queries 0 to {len(queries) - 1}; {query} is none of them."
            )
        own = self.items[int(queries[query])]
        found: list[Ranked] = []
        counted = 0
        for item, similarity in self.nearest(network, protocol, query):
            verdict = verdict_of(own, self.items[item])
            found.append(Ranked(item, similarity, verdict))
            counted += verdict != "junk"
            if counted == k:
                break
        return found

    def nearest(self, network: str, protocol: str, query: int) -> Iterator[tuple[int, float]]:
        """Item and cosine of the whole gallery, best first."""
        queries, gallery = self.query_gallery[protocol]
        rows = self.features[network]
        cosine = 1 - distances(rows[queries[query]][None], rows[gallery])[0]
        for place in np.argsort(-cosine, kind="stable"):
            yield int(gallery[place]), float(cosine[place])

    def order(
        self, protocol: str, by: str = "worst", base: str | None = None, other: str | None = None
    ) -> list[int]:
        """Valid queries, by mean AP over all networks ("worst" first) or by what the second network of the
        `pair` "loses" or "gains".
        """
        ap = np.stack([self.ap(name, self.protocol(protocol)) for name in self.networks])
        first, second = (self.ap(name, protocol) for name in self.pair(base, other))
        keys = {"worst": ap.mean(0), "loses": second - first, "gains": first - second}
        if by not in keys:
            raise VKDError(f"'{by}' is no order of queries: choose from {', '.join(keys)}.")
        return [int(query) for query in np.argsort(keys[by], kind="stable") if not np.isnan(ap[0, query])]


def verdict_of(query: Tracklet, item: Tracklet) -> str:
    """right, wrong, junk (same identity, same camera) or unknown."""
    if UNKNOWN_IDENTITY in (query.identity, item.identity):
        return "unknown"
    if query.identity != item.identity:
        return "incorrect"
    return "junk" if query.camera == item.camera != UNKNOWN_CAMERA else "correct"


def published(networks: Mapping[str, NetworkInfo], dataset: str, protocols: Iterable[str]) -> dict[str, Any]:
    """The paper's scores for the same data set, backbone and stage, where it has them, as rows of results."""
    rows: dict[str, Any] = {}
    for each in networks.values():
        stages = ("teacher", "student") if each.stage == "imported" else (each.stage,)
        for stage in stages:
            scores = PUBLISHED.get((dataset, each.backbone, stage), {})
            common = {"dataset": dataset, "ap": "trapezoid", "queries_in_gallery": True}
            found = {protocol: {**common, **scores[protocol]} for protocol in protocols if protocol in scores}
            if found:
                rows[f"{each.backbone} {stage}, published"] = found
    return rows


def differences(
    scores: Mapping[str, Mapping[str, Scores]], base: str, *, resamples: int = 10_000, seed: int = 0
) -> dict[str, dict[str, dict[str, Interval]]]:
    """Network other than `base` → protocol → metric → network − base, with its 95 % interval."""
    return {
        name: {
            protocol: difference(each, scores[base][protocol], resamples=resamples, seed=seed)
            for protocol, each in found.items()
        }
        for name, found in scores.items()
        if name != base
    }


def difference_row(convention: str, intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """A difference as a row of results: each metric with its `_low` and `_high`."""
    row: dict[str, Any] = {"ap": convention}
    for metric, interval in intervals.items():
        row |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
    return row


def compare(
    networks: Mapping[str, Checkpoint],
    splits: Splits,
    *,
    protocols: Sequence[str] = ("i2v", "v2v"),
    views: int = 8,
    frames: str = "chunk",
    batch: int = 32,
    workers: int = 0,
    convention: str = "trapezoid",
    counts: Sequence[int] = COUNTS,
    resamples: int = 10_000,
    seed: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Evaluate networks, the teacher first, on the test side of a data set; see `Comparison`.

    `counts` are the numbers of frames that accuracy is drawn against (none: no such curves). The other
    arguments are those of `evaluate.evaluate`. `progress` counts frames of all networks and
    names the one at work.

    Raises ValueError before anything is embedded if a protocol is unknown or has no valid query.
    """
    sides = Sides.of(splits, protocols, convention, tracks=bool(counts))
    wanted = tuple(dict.fromkeys((views, *counts)))
    features, curves = {}, {}
    scores: dict[str, dict[str, Scores]] = {}
    for number, (name, each) in enumerate(networks.items()):
        config = EmbedConfig.of(each.config, views=views, frames=frames, batch=batch, workers=workers)
        report = _over_all(progress, name, number, len(networks))
        found = embed_counts(each.net, sides.items, wanted, config, report)
        features[name] = found[views]
        scores[name] = {protocol: sides.score(protocol, found[views]) for protocol in sides.rows}
        curves[name] = {protocol: sides.curves(protocol, found, views, counts) for protocol in sides.rows}
    return Comparison(
        dataset=splits.name,
        convention=convention,
        views=views,
        networks={
            name: NetworkInfo(each.config.stage, each.config.backbone) for name, each in networks.items()
        },
        scores=scores,
        pairs={name: {p: sides.pairs(p, rows) for p in sides.rows} for name, rows in features.items()},
        curves=curves,
        differences=differences(scores, next(iter(scores)), resamples=resamples, seed=seed),
        items=[item._replace(frames=select_frames(item.frames, views, frames)) for item in sides.items],
        query_gallery=sides.rows,
        features=features,
        names=splits.names,
    )


def _over_all(progress: Progress, name: str, number: int, networks: int) -> Progress:
    """Progress of the network of that number as progress of all of them."""
    return lambda done, total, _: progress(number * total + done, networks * total, name)
