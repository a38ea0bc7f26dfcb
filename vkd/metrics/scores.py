"""Scores of a ranking: distances, CMC and every metric of `ranking.METRICS`. NumPy only.

Q queries, G gallery items, D embedding width. What is a match, what is junk and how ties are ranked stands in
`ranking`. Queries without a match are invalid: they count in no mean.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd.io.errors import VKDError
from vkd.metrics.ranking import (
    CONVENTIONS,
    METRICS,
    Labels,
    explain_no_matches,
    labels_of,
    match_ranks,
    matches_and_junk,
)

CHUNK_BYTES = 256 * 2**20


class Terms(TypedDict, total=False):
    """Terms of a ranking; by default unnamed, trapezoid AP, queries not in the gallery."""

    protocol: str
    dataset: str
    convention: str
    queries_in_gallery: bool


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one network under one protocol. Arrays are in query order."""

    protocol: str
    dataset: str
    queries: int
    gallery: int
    valid_queries: int
    cmc: NDArray[np.float64]
    """(G,) share of valid queries with a match among the first 1, 2, … G items."""
    per_query: dict[str, NDArray[np.float64]]
    """Metric (a key of METRICS) → (Q,) its value for each query, NaN where the query has no match."""
    first_match: NDArray[np.int64]
    """(Q,) rank of the first match from 1, 0 where the query has none."""
    nearest: NDArray[np.int64]
    """(Q,) gallery position of the first item that is not junk, −1 where all of the gallery is junk."""
    convention: str = "trapezoid"
    queries_in_gallery: bool = False

    def __getitem__(self, metric: str) -> float:
        """Returns the mean of a metric over the valid queries."""
        return float(self.per_query[metric][self.first_match > 0].mean())

    @property
    def map(self) -> float:
        """Mean average precision in the convention of this result."""
        return self["map"]

    @property
    def ap(self) -> NDArray[np.float64]:
        """(Q,) average precision of each query in the convention of this result."""
        return self.per_query["map"]

    @property
    def label(self) -> str:
        """Names these numbers, such as "mars I2V, trapezoid AP, queries in the gallery"."""
        name = " ".join(part for part in (self.dataset, self.protocol.upper()) if part)
        where = "in" if self.queries_in_gallery else "not in"
        return ", ".join(filter(None, (name, f"{self.convention} AP", f"queries {where} the gallery")))

    def top(self, k: int) -> float:
        """Returns the share of valid queries with a match among the first k items (the CMC curve at k)."""
        if k < 1:
            raise VKDError(f"Ranks start at 1: top({k}) does not exist.")
        return float(self.cmc[min(k, len(self.cmc)) - 1])

    def numbers(self) -> dict[str, float]:
        """Returns every metric by key: for events and checkpoints."""
        return {key: self[key] for key in METRICS if key in self.per_query}

    def as_dict(self) -> dict[str, Any]:
        """Returns the terms, the counts and every metric: a row of a table."""
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "ap": self.convention,
            "queries_in_gallery": self.queries_in_gallery,
            "queries": self.queries,
            "valid_queries": self.valid_queries,
            "gallery": self.gallery,
            **self.numbers(),
        }


def distances(query: ArrayLike, gallery: ArrayLike) -> NDArray[np.float32]:
    """Returns 1 − cosine similarity (Q, G) of embeddings (Q, D) and (G, D).

    A zero embedding is at distance 1 from everything. Raises VKDError for NaN or infinite embeddings and
    for widths that differ.
    """
    query, gallery = _features(query, "query"), _features(gallery, "gallery")
    _check_width(query, gallery)
    return _distances(query, gallery, _scales(gallery, "gallery"))


def score(
    distmat: ArrayLike,
    q_ids: ArrayLike,
    g_ids: ArrayLike,
    q_cams: ArrayLike,
    g_cams: ArrayLike,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    **terms: Unpack[Terms],
) -> Scores:
    """Scores distances (Q, G), smaller is nearer, with identities and cameras (Q,) and (G,).

    Raises VKDError for shapes that do not belong together, distances that are not finite, an unknown
    convention, or when no query is valid.
    """
    distmat = np.asarray(distmat)
    if distmat.ndim != 2:
        raise VKDError(f"Distances must be a matrix of queries × gallery; their shape is {distmat.shape}.")
    labels = labels_of(q_ids, g_ids, q_cams, g_cams, distmat.shape)

    def chunks() -> Iterator[tuple[int, NDArray[Any]]]:
        rows = rows_within(chunk_bytes, distmat.shape[1] * (distmat.itemsize + 1))
        for start in range(0, len(distmat), rows):
            chunk = np.ascontiguousarray(distmat[start : start + rows])
            if chunk.dtype.kind not in "f":
                chunk = chunk.astype(np.float64)  # junk is put at infinity, which whole numbers do not have
            if not np.isfinite(chunk).all():
                row = start + int(np.argmin(np.isfinite(chunk).all(axis=1)))
                raise VKDError(f"The distances of query {row} are not all finite: a ranking needs numbers.")
            yield start, chunk

    return _score(chunks(), labels, **terms)


def score_features(
    query: ArrayLike,
    gallery: ArrayLike,
    q_ids: ArrayLike,
    g_ids: ArrayLike,
    q_cams: ArrayLike,
    g_cams: ArrayLike,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    **terms: Unpack[Terms],
) -> Scores:
    """Scores embeddings (Q, D) and (G, D) by cosine without holding the whole matrix of distances.

    `chunk_bytes` bounds the part of the matrix in memory (one row at least). Raises VKDError as `distances`
    and `score` do.
    """
    query, gallery = _features(query, "query"), _features(gallery, "gallery")
    _check_width(query, gallery)
    labels = labels_of(q_ids, g_ids, q_cams, g_cams, (len(query), len(gallery)))
    scales = _scales(gallery, "gallery")
    rows = rows_within(chunk_bytes, 4 * len(gallery))

    def chunks() -> Iterator[tuple[int, NDArray[np.float32]]]:
        for start in range(0, len(query), rows):
            yield start, _distances(query[start : start + rows], gallery, scales, start)

    return _score(chunks(), labels, **terms)


def _score(
    chunks: Iterable[tuple[int, NDArray[Any]]],
    labels: Labels,
    *,
    protocol: str = "",
    dataset: str = "",
    convention: str = "trapezoid",
    queries_in_gallery: bool = False,
) -> Scores:
    """Scores chunks of distances: (number of the first query, distances (rows, G))."""
    if convention not in CONVENTIONS:
        raise VKDError(f"Unknown AP convention {convention!r}: choose from {', '.join(CONVENTIONS)}.")
    queries, gallery = len(labels.q_ids), len(labels.g_ids)
    per_query = {key: np.full(queries, np.nan) for key in METRICS}
    first, nearest = np.zeros(queries, dtype=np.int64), np.full(queries, -1, dtype=np.int64)
    if not any(len(matches) for matches, _ in matches_and_junk(labels)):
        raise VKDError(explain_no_matches(labels, dataset, protocol))
    positions = matches_and_junk(labels)
    for start, chunk in chunks:
        for query, row in enumerate(chunk, start):
            matches, junk = next(positions)
            if len(junk):
                row = row.copy()
                row[junk] = np.inf
            nearest[query] = row.argmin() if len(junk) < gallery else -1
            if not len(matches):
                continue
            ranks = match_ranks(row, matches)
            first[query] = ranks[0]
            for key, metric in METRICS.items():
                per_query[key][query] = metric.value(ranks, convention)
    valid = first > 0
    return Scores(
        protocol=protocol,
        dataset=dataset,
        queries=queries,
        gallery=gallery,
        valid_queries=int(valid.sum()),
        cmc=np.cumsum(np.bincount(first[valid], minlength=gallery + 1)[1:]) / valid.sum(),
        per_query=per_query,
        first_match=first,
        nearest=nearest,
        convention=convention,
        queries_in_gallery=queries_in_gallery,
    )


def _features(features: ArrayLike, side: str) -> NDArray[np.float32]:
    array = np.asarray(features, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] == 0:
        raise VKDError(
            f"The {side} embeddings must be a matrix of items × width; their shape is {array.shape}."
        )
    return array


def _check_width(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> None:
    if query.shape[1] != gallery.shape[1]:
        raise VKDError(
            f"Query and gallery embeddings have widths {query.shape[1]} and {gallery.shape[1]}: "
            "both must come from the same model."
        )


def _scales(features: NDArray[np.float32], side: str, start: int = 0) -> NDArray[np.float32]:
    """Returns 1 / length (n,) of each embedding. Raises VKDError where one is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(features, axis=1)
    if not np.isfinite(lengths).all():
        item = start + int(np.argmin(np.isfinite(lengths)))
        raise VKDError(
            f"The embedding of {side} item {item} holds NaN or infinite numbers (or overflows); "
            "it cannot be ranked."
        )
    return (1 / np.maximum(lengths, 1e-12)).astype(np.float32)


def _distances(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    gallery_scales: NDArray[np.float32],
    start: int = 0,
) -> NDArray[np.float32]:
    """Computes `distances` of some queries without a copy of the gallery (it may be 0.8 GB)."""
    out = (query * _scales(query, "query", start)[:, None]) @ gallery.T
    out *= gallery_scales
    return np.subtract(1, out, out=out)


def rows_within(limit: int, row_bytes: int) -> int:
    """Returns how many rows of `row_bytes` fit into `limit` bytes, one at least."""
    return max(1, limit // max(1, row_bytes))
