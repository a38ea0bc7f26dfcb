"""FAISS indexes of embeddings: exact by default, two approximate kinds by name.

All hold rows of length one and rank by inner product, which is then the cosine. Searching is safe from
several threads at once: nothing is set on the index, every choice travels with the call.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vkd.io.errors import MissingFileError, VKDError

_PER_CELL = 39  # FAISS wants at least this many rows to place one IVF cell


def normalise(features: NDArray) -> NDArray[np.float32]:
    """Rows (n, D) → rows of length one, float32, so that inner product = cosine; a row of zeros stays so.

    Raises:
        ValueError: not a matrix, or a value that is not finite.
    """
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2:
        raise VKDError(f"Embeddings must be a matrix (items, width), not of shape {rows.shape}.")
    if not np.isfinite(rows).all():
        raise VKDError("An embedding holds a value that is not finite; check the network's weights.")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny))


@cache
def _faiss() -> Any:  # its type stubs do not know its Python layer
    """FAISS, imported by the first index: a page that shows a gallery's name need not wait for it."""
    import faiss

    return faiss


def _exact(rows: NDArray[np.float32]) -> Any:
    return _faiss().IndexFlatIP(rows.shape[1])


def _ivf(rows: NDArray[np.float32]) -> Any:
    cells = max(1, min(int(4 * len(rows) ** 0.5), len(rows) // _PER_CELL))
    index = _faiss().IndexIVFFlat(
        _faiss().IndexFlatIP(rows.shape[1]), rows.shape[1], cells, _faiss().METRIC_INNER_PRODUCT
    )
    index.cp.min_points_per_centroid = 1  # else FAISS prints a warning for a small gallery
    index.train(rows)
    index.nprobe = max(8, cells // 8)
    index.set_direct_map_type(_faiss().DirectMap.Array)  # rows can be read back for re-ranking
    return index


def _hnsw(rows: NDArray[np.float32]) -> Any:
    index = _faiss().IndexHNSWFlat(rows.shape[1], 32, _faiss().METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    index.hnsw.efSearch = 128
    return index


@dataclass(frozen=True)
class Kind:
    """One way to index. `text` says when it is worth having."""

    make: Callable[[NDArray[np.float32]], Any]
    text: str


INDEXES: dict[str, Kind] = {
    "exact": Kind(_exact, "every item is compared: right for galleries below some 100,000 items"),
    "ivf": Kind(_ivf, "only the nearest cells are compared: faster above 100,000 items, may miss some"),
    "hnsw": Kind(_hnsw, "a graph is walked: fastest above 100,000 items, more memory, may miss some"),
}


def make(features: NDArray, kind: str = "exact") -> Any:
    """Embeddings (n, D) → a filled FAISS index of an INDEXES kind. Raises ValueError for an unknown kind."""
    if kind not in INDEXES:
        raise VKDError(f"There is no index '{kind}'; choose one of {', '.join(INDEXES)}.")
    rows = normalise(features)
    index = INDEXES[kind].make(rows)
    index.add(rows)
    return index


def write(index: Any, path: Path) -> None:
    """Write an index to `path`. Raises OSError if that fails (a full disk, say)."""
    # Through bytes rather than FAISS's own writer: its errors are C++ ones, and odd file names work.
    path.write_bytes(_faiss().serialize_index(index).tobytes())


def checksum(path: Path) -> str:
    """The file's sha256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path, *, items: int, width: int, sha256: str) -> Any:
    """Read an index of `items` rows of `width` numbers whose file has that checksum.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, cut off, or not the index that the gallery's table describes.
    """
    if not path.is_file():
        raise MissingFileError(f"The gallery's index {path} is missing; build the gallery again.")
    # Before FAISS sees the bytes: its reader is C++ and trusts much of what they say.
    if checksum(path) != sha256:
        raise VKDError(f"The gallery's index {path} is damaged or was replaced; build the gallery again.")
    try:
        index = _faiss().deserialize_index(np.fromfile(path, np.uint8))
    except Exception as error:  # RuntimeError, MemoryError and others, for bytes that are not an index
        raise VKDError(f"The gallery's index {path} cannot be read; build the gallery again.") from error
    if (index.ntotal, index.d) != (items, width) or index.metric_type != _faiss().METRIC_INNER_PRODUCT:
        raise VKDError(
            f"The index {path} holds {index.ntotal} rows of {index.d} numbers, the gallery's table describes "
            f"{items} of {width}; build the gallery again."
        )
    return index


def rows(index: Any, items: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """The embeddings (n, D), of length one, of some items, or of all."""
    if items is None:
        return index.reconstruct_n(0, index.ntotal)
    return index.reconstruct_batch(np.ascontiguousarray(items, np.int64))


def nearest(
    index: Any, query: NDArray, count: int, among: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Query (D,) → items and cosines (m,), best first, m ≤ `count`; `among`: only these items."""
    allowed = index.ntotal if among is None else len(among)
    count = min(count, allowed)
    if not count:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    point = normalise(np.asarray(query)[None])
    selector = None if among is None else _faiss().IDSelectorBatch(among)
    found = _search(index, point, count, selector, thorough=False)
    if len(found[0]) < count:  # an approximate index may not reach enough of the items that are allowed
        found = _search(index, point, count, selector, thorough=True)
    return found


def _search(
    index: Any, point: NDArray[np.float32], count: int, selector: Any, *, thorough: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Parameters go with the call, so that searches in several threads do not disturb each other."""
    if isinstance(index, _faiss().IndexIVF):
        cells = index.nlist if thorough else index.nprobe
        parameters = _faiss().SearchParametersIVF(sel=selector, nprobe=cells)
    elif isinstance(index, _faiss().IndexHNSW):
        wide = index.ntotal if thorough else max(index.hnsw.efSearch, 2 * count)
        parameters = _faiss().SearchParametersHNSW(sel=selector, efSearch=wide)
    else:
        parameters = _faiss().SearchParameters(sel=selector)
    cosines, items = index.search(point, count, params=parameters)
    kept = items[0] >= 0
    return items[0][kept], np.clip(cosines[0][kept], -1, 1)
