"""k-reciprocal re-ranking: a match counts for more when it has the query among its own neighbours.

Source: Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with k-reciprocal Encoding",
CVPR 2017 (arXiv 1701.08398). Equation numbers below are that paper's.

Memory: with N = Q + G points, neighbour sets are sparse rows, about 60 · N · k1 bytes
(14 MB for N = 11,000 and k1 = 20, 120 MB for N = 100,000), one block of `chunk` × N similarities
(4 bytes each), and the answer, Q × G float32. No N × N matrix is ever held. Time grows with N² · D
for the neighbour search; `top` removes that: each query is re-ranked inside its own `top` nearest
items, which costs top² · D whatever the gallery's size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from vkd.io.errors import VKDError
from vkd.retrieval.index import normalise

Floats = NDArray[np.float32]


def rerank(
    query: NDArray,
    gallery: NDArray,
    *,
    top: int | None = None,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    chunk: int = 1024,
) -> Floats:
    """Returns re-ranked distances (Q, G) of embeddings (Q, D) and (G, D); smaller is nearer.

    Within what is re-ranked a distance lies in 0..1: `weight` parts original distance (squared
    Euclidean distance of normalised embeddings, each point's largest = 1) and 1 − `weight` parts
    Jaccard distance of the k-reciprocal neighbourhoods (eq. 12; the paper's k1 = 20, k2 = 6, λ = 0.3).

    Args:
        top: re-rank each query inside its `top` nearest gallery items only, each query by itself; all
            other items follow behind in their first order, at distances of 1 and more. None: all
            queries and all items at once, as in the paper.
        chunk: rows of similarities computed at once.

    Raises VKDError for widths that differ or a parameter out of range.
    """
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1 or (top is not None and top < 1):
        raise VKDError(
            f"Re-ranking needs k1, k2 and top of at least 1 and a weight in 0..1, "
            f"not k1={k1}, k2={k2}, top={top}, weight={weight}."
        )
    query, gallery = normalise(query), normalise(gallery)
    if query.shape[1] != gallery.shape[1]:
        raise VKDError(
            f"Query and gallery embeddings differ in width: {query.shape[1]} and {gallery.shape[1]}."
        )
    if top is None:
        return _rerank_all(query, gallery, k1, k2, weight, chunk)
    answer = 2 - query @ gallery.T  # cosine distance + 1: behind all that is re-ranked
    for row, one in zip(answer, query, strict=True):
        pool = np.argsort(row, kind="stable")[:top]
        row[pool] = _rerank_all(one[None], gallery[pool], k1, k2, weight, chunk)[0]
    return answer


def _rerank_all(query: Floats, gallery: Floats, k1: int, k2: int, weight: float, chunk: int) -> Floats:
    """Returns distances (Q, G) of normalised (Q, D), (G, D), all points being each other's neighbours."""
    queries, points = len(query), np.concatenate([query, gallery])
    if not queries or not len(gallery):
        return np.zeros((queries, len(gallery)), np.float32)
    nearest, farthest = _neighbours(points, max(k1, k2 - 1), chunk)
    encoding = _encode(points, nearest, farthest, k1)
    if k2 > 1:
        # Local query expansion, eq. 11: a point's encoding is the mean over its k2 nearest, itself first.
        encoding = sparse.csr_matrix(_membership(nearest, k2) @ encoding) / min(k2, nearest.shape[1])
    answer = np.empty((queries, len(gallery)), np.float32)
    columns = sparse.csc_matrix(encoding)
    for row in range(queries):
        original = np.maximum(2 - 2 * (points[row] @ gallery.T), 0) / farthest[row]
        answer[row] = (1 - weight) * _jaccard(encoding, columns, row)[queries:] + weight * original
    return answer


def _neighbours(points: Floats, k: int, chunk: int) -> tuple[NDArray[np.int64], Floats]:
    """Returns each point's nearest (N, k + 1), itself first, and its largest squared distance (N,)."""
    total = len(points)
    keep = min(k + 1, total)
    nearest = np.empty((total, keep), np.int64)
    farthest = np.empty(total, np.float32)
    for start in range(0, total, chunk):
        block = points[start : start + chunk] @ points.T
        rows = np.arange(len(block))
        farthest[start : start + chunk] = 2 - 2 * block.min(axis=1)
        block[rows, start + rows] = np.inf  # a copy of an image must not come before the image itself
        candidates = (
            np.argpartition(-block, keep - 1, axis=1)[:, :keep]
            if keep < total
            else np.tile(np.arange(total), (len(block), 1))
        )
        order = np.argsort(-np.take_along_axis(block, candidates, axis=1), axis=1, kind="stable")
        nearest[start : start + chunk] = np.take_along_axis(candidates, order, axis=1)
    return nearest, np.maximum(farthest, np.finfo(np.float32).tiny)


def _membership(nearest: NDArray[np.int64], count: int) -> sparse.csr_matrix:
    """Returns a sparse 0/1 matrix (N, N): row i marks the first `count` neighbours of i."""
    near = nearest[:, :count]
    total, width = near.shape
    ones = np.ones(near.size, np.float32)
    return sparse.csr_matrix((ones, near.ravel(), np.arange(0, near.size + 1, width)), shape=(total, total))


def _reciprocal(nearest: NDArray[np.int64], k: int) -> sparse.csr_matrix:
    """Returns R(p, k), eq. 2: i and j are each among the other's k nearest (a point is in its own set)."""
    forward = _membership(nearest, k + 1)
    return sparse.csr_matrix(forward.multiply(forward.T))


def _encode(points: Floats, nearest: NDArray[np.int64], farthest: Floats, k1: int) -> sparse.csr_matrix:
    """Returns each point's weighted k-reciprocal neighbourhood V (N, N), rows of sum 1 (eq. 5 to 7)."""
    near = _reciprocal(nearest, k1)
    half = _reciprocal(nearest, max(1, round(k1 / 2)))
    # Eq. 5: neighbour q brings its own half-size set along when at least two thirds of that set are
    # already in p's set. Products of 0/1 matrices count; the entries of `near` choose the pairs.
    shared = sparse.csr_matrix(near.multiply(near @ half.T)).tocoo()
    sizes = np.asarray(half.sum(axis=1)).ravel()
    accepted = 3 * shared.data >= 2 * sizes[shared.col]
    bringing = sparse.csr_matrix(
        (np.ones(int(accepted.sum()), np.float32), (shared.row[accepted], shared.col[accepted])),
        shape=near.shape,
    )
    grown = sparse.csr_matrix(near + bringing @ half)
    grown.sort_indices()
    rows = np.repeat(np.arange(len(points)), np.diff(grown.indptr))
    distances = np.empty(grown.nnz, np.float32)
    for start in range(0, grown.nnz, 65536):  # pairs at once: 65,536 · D floats, twice
        pair = slice(start, start + 65536)
        cosine = np.einsum("ij,ij->i", points[rows[pair]], points[grown.indices[pair]])
        distances[pair] = np.maximum(2 - 2 * cosine, 0)
    grown.data = np.exp(-distances / farthest[rows])
    totals = np.asarray(grown.sum(axis=1)).ravel()
    grown.data /= totals[rows]
    return grown


def _jaccard(encoding: sparse.csr_matrix, columns: sparse.csc_matrix, row: int) -> Floats:
    """Returns Jaccard distances of point `row` to all N (eq. 10): 1 − Σ min / Σ max. Encodings sum to 1."""
    start, end = encoding.indptr[row], encoding.indptr[row + 1]
    overlap = np.zeros(len(encoding.indptr) - 1, np.float32)
    for column, value in zip(encoding.indices[start:end], encoding.data[start:end], strict=True):
        lower, upper = columns.indptr[column], columns.indptr[column + 1]
        overlap[columns.indices[lower:upper]] += np.minimum(columns.data[lower:upper], value)
    return 1 - overlap / (2 - overlap)
