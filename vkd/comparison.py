"""Several networks on one data set: scores, differences, pairs of scores, curves over frames, ranked lists.

Every frame is embedded once and tracklets are means of their frames, so that one pass serves every protocol
and every number of frames. The first network is what the others are compared with: the teacher.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vkd.checkpoint import Checkpoint
from vkd.evaluate import PROTOCOLS, Results
from vkd.frames import blocks_of, embed_counts, shown
from vkd.presets import PUBLISHED
from vkd.scores import Interval, Scores, bootstrap, distances, score_features
from vkd.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY, Splits, Tracklet, why_no_query
from vkd.verification import PairScores, pair_scores

COUNTS = (1, 2, 4, 8)
"""Numbers of gallery frames, and of query views, that accuracy is drawn against."""
METRICS = ("map", "top1", "top5", "top10", "minp")
GALLERY_FRAMES, QUERY_VIEWS = "gallery frames", "query views"

Progress = Callable[[int, int, str], None]
"""Frames done, frames in all, the network at work."""


class Known(NamedTuple):
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
    networks: dict[str, Known]
    scores: dict[str, dict[str, Scores]]
    """Network → protocol → scores."""
    pairs: dict[str, dict[str, PairScores]]
    curves: dict[str, dict[str, dict[str, dict[int, dict[str, float]]]]]
    """Network → protocol → "gallery frames" or "query views" → number → metric → fraction."""
    differences: dict[str, dict[str, dict[str, Interval]]]
    """Network after the first → protocol → metric → network − first, with its 95 % interval."""
    items: Sequence[Tracklet]
    """Every tracklet and picture that takes part, with the frames that stand for it."""
    sides: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    """Protocol → items that are its queries and its gallery, in the order of the scores."""
    features: dict[str, NDArray[np.float32]]
    """Network → embeddings (n, D) of the items."""
    names: dict[int, str] = field(default_factory=dict)

    def protocol(self, name: str) -> str:
        """The name itself; raises ValueError for a protocol that was not evaluated."""
        if name not in self.sides:
            raise ValueError(f"'{name}' was not evaluated here: choose from {', '.join(self.sides)}.")
        return name

    def results(self) -> Results:
        """Scores, differences and published numbers as `report` writes them."""
        rows: dict[str, Any] = {name: dict(found) for name, found in self.scores.items()}
        rows |= published(self.networks, self.dataset, self.sides)
        first = next(iter(self.networks))
        for name, found in self.differences.items():
            label = "student − teacher" if len(self.differences) == 1 else f"{name} − {first}"
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
        queries, gallery = self.sides[self.protocol(protocol)]
        if not 0 <= query < len(queries):
            raise ValueError(
                f"{protocol.upper()} has queries 0 to {len(queries) - 1}; {query} is none of them."
            )
        rows = self.features[network]
        own = self.items[int(queries[query])]
        cosine = 1 - distances(rows[queries[query]][None], rows[gallery])[0]
        found: list[Ranked] = []
        counted = 0
        for place in np.argsort(-cosine, kind="stable"):
            item = int(gallery[place])
            verdict = verdict_of(own, self.items[item])
            found.append(Ranked(item, float(cosine[place]), verdict))
            counted += verdict != "junk"
            if counted == k:
                break
        return found

    def order(self, protocol: str, by: str = "worst") -> list[int]:
        """Valid queries, by mean AP ("worst" first) or by what the second network "loses" or "gains"."""
        ap = np.stack([self.ap(name, self.protocol(protocol)) for name in self.networks])
        keys = {"worst": ap.mean(0), "loses": ap[:2][-1] - ap[0], "gains": ap[0] - ap[:2][-1]}
        if by not in keys:
            raise ValueError(f"'{by}' is no order of queries: choose from {', '.join(keys)}.")
        return [int(query) for query in np.argsort(keys[by], kind="stable") if not np.isnan(ap[0, query])]


def verdict_of(query: Tracklet, item: Tracklet) -> str:
    """right, wrong, junk (same identity, same camera) or unknown."""
    if UNKNOWN_IDENTITY in (query.identity, item.identity):
        return "unknown"
    if query.identity != item.identity:
        return "wrong"
    return "junk" if query.camera == item.camera != UNKNOWN_CAMERA else "right"


def published(networks: Mapping[str, Known], dataset: str, protocols: Iterable[str]) -> dict[str, Any]:
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


def difference(
    other: Scores, first: Scores, *, resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval]:
    """Metric → other − first with its 95 % interval, paired over queries (every metric is a mean over them).

    Raises ValueError as `scores.bootstrap` does.
    """
    ours, theirs = per_query(other), per_query(first)
    return {
        metric: bootstrap(
            ours[metric], theirs[metric], resamples=resamples, generator=np.random.default_rng(seed)
        )
        for metric in METRICS
    }


def per_query(scores: Scores) -> dict[str, NDArray[np.float64]]:
    """Metric → (Q,) what each query contributes, NaN where it has no match."""
    valid = scores.first_match > 0
    hits = {f"top{k}": np.where(valid, scores.first_match <= k, np.nan) for k in (1, 5, 10)}
    return {"map": scores.ap, **hits, "minp": scores.inp}


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
    progress: Progress = lambda done, total, name: None,
) -> Comparison:
    """Evaluate networks, the teacher first, on the test side of a data set; see `Comparison`.

    `counts` are the numbers of frames that accuracy is drawn against (none: no such curves). The other
    arguments are those of `evaluate.evaluate`. `progress` is told after each batch; what it raises ends the
    work.

    Raises ValueError before anything is embedded if a protocol is unknown or has no valid query.
    """
    for protocol in protocols:
        if reason := why_no_query(splits, protocol):
            raise ValueError(f"{splits.root} has no valid query for {protocol.upper()}: {reason}.")
    sides = {protocol: splits.sides(protocol) for protocol in protocols}
    used = [each for both in sides.values() for each in both] + ([splits.query] if counts else [])
    distinct = {tracklet.frames: tracklet for side in used for tracklet in side}
    place = {key: row for row, key in enumerate(distinct)}
    items = list(distinct.values())

    def rows(side: Sequence[Tracklet]) -> NDArray[np.int64]:
        return np.array([place[tracklet.frames] for tracklet in side], np.int64)

    wanted = tuple(dict.fromkeys((views, *counts)))
    blocks = list(blocks_of(items, wanted, frames))
    total = len(networks) * sum(len(block) for _, block in blocks)
    ranking = Ranking(items, {name: (rows(a), rows(b)) for name, (a, b) in sides.items()}, splits, convention)
    tracks = rows(splits.query) if counts else np.empty(0, np.int64)
    features, curves = {}, {}
    scores: dict[str, dict[str, Scores]] = {}
    for done, (name, each) in enumerate(networks.items()):

        def told(frames_done: int, name: str = name, before: int = done * total // len(networks)) -> None:
            progress(before + frames_done, total, name)

        found = embed_counts(each, items, blocks, wanted, frames, batch, workers, told)
        features[name] = found[views]
        scores[name] = {protocol: ranking.score(protocol, found[views]) for protocol in protocols}
        curves[name] = {
            protocol: ranking.curves(protocol, found, views, counts, tracks) for protocol in protocols
        }
    first, *others = networks
    return Comparison(
        dataset=splits.name,
        convention=convention,
        views=views,
        networks={name: Known(each.config.stage, each.config.backbone) for name, each in networks.items()},
        scores=scores,
        pairs={name: {p: ranking.pairs(p, rows) for p in protocols} for name, rows in features.items()},
        curves=curves,
        differences={
            name: {
                p: difference(scores[name][p], scores[first][p], resamples=resamples, seed=seed)
                for p in protocols
            }
            for name in others
        },
        items=[item._replace(frames=shown(item.frames, views, frames)) for item in items],
        sides=ranking.sides,
        features=features,
        names=splits.names,
    )


class Ranking(NamedTuple):
    """The items of a data set and where the sides of its protocols find theirs."""

    items: Sequence[Tracklet]
    sides: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    splits: Splits
    convention: str

    def _labels(self, query: NDArray[np.int64], gallery: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        ids = np.array([item.identity for item in self.items], np.int64)
        cameras = np.array([item.camera for item in self.items], np.int64)
        return [ids[query], ids[gallery], cameras[query], cameras[gallery]]

    def score(
        self,
        protocol: str,
        gallery_rows: NDArray[np.float32],
        query_rows: NDArray[np.float32] | None = None,
        queries: NDArray[np.int64] | None = None,
    ) -> Scores:
        """Scores of the embeddings of all items; queries from `query_rows`, or others than the protocol's."""
        own, gallery = self.sides[protocol]
        queries = own if queries is None else queries
        return score_features(
            (gallery_rows if query_rows is None else query_rows)[queries],
            gallery_rows[gallery],
            *self._labels(queries, gallery),
            protocol=protocol,
            dataset=self.splits.name,
            convention=self.convention,
            queries_in_gallery=self.splits.queries_in_gallery,
        )

    def pairs(self, protocol: str, rows: NDArray[np.float32]) -> PairScores:
        query, gallery = self.sides[protocol]
        return pair_scores(rows[query], rows[gallery], *self._labels(query, gallery))

    def curves(
        self,
        protocol: str,
        found: Mapping[int, NDArray[np.float32]],
        views: int,
        counts: Sequence[int],
        tracks: NDArray[np.int64],
    ) -> dict[str, dict[int, dict[str, float]]]:
        """Scores against the number of gallery frames, and of views of query tracklets."""
        curves: dict[str, dict[int, dict[str, float]]] = {}
        if counts and PROTOCOLS[protocol].gallery == "tracklet":
            curves[GALLERY_FRAMES] = {
                n: self.score(protocol, found[n], found[views]).numbers() for n in counts
            }
        if len(tracks):
            curves[QUERY_VIEWS] = {
                n: self.score(protocol, found[views], found[n], tracks).numbers() for n in counts
            }
        return curves
