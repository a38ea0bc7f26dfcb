"""FAISS indexes of embeddings: exact by default, two approximate kinds by name.

All hold rows of length one and rank by inner product, which is then the cosine. Here they are made, written
and read; `gallery` searches them.
"""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import refuse_lfs_pointer

_PER_CELL = 39  # FAISS wants at least this many rows to place one IVF cell


def normalise(features: NDArray) -> NDArray[np.float32]:
    """Scales rows (n, D) to length one, float32, so that inner product = cosine; a row of zeros stays so.

    Raises VKDError if it is not a matrix or holds a value that is not finite.
    """
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2:
        raise VKDError(f"Embeddings must be a matrix (items, width), not of shape {rows.shape}.")
    if not np.isfinite(rows).all():
        raise VKDError("An embedding holds a value that is not finite; check the model's weights.")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny))


@cache
def faiss() -> Any:  # its type stubs do not know its Python layer
    """Imports FAISS for the first index: a page that shows a gallery's name need not wait for it."""
    return importlib.import_module("faiss")


def _exact(rows: NDArray[np.float32]) -> Any:
    return faiss().IndexFlatIP(rows.shape[1])


def _ivf(rows: NDArray[np.float32]) -> Any:
    cells = max(1, min(int(4 * len(rows) ** 0.5), len(rows) // _PER_CELL))
    index = faiss().IndexIVFFlat(
        faiss().IndexFlatIP(rows.shape[1]), rows.shape[1], cells, faiss().METRIC_INNER_PRODUCT
    )
    index.cp.min_points_per_centroid = 1  # else FAISS prints a warning for a small gallery
    index.train(rows)
    index.nprobe = max(8, cells // 8)
    index.set_direct_map_type(faiss().DirectMap.Array)  # rows can be read back for re-ranking
    return index


def _hnsw(rows: NDArray[np.float32]) -> Any:
    index = faiss().IndexHNSWFlat(rows.shape[1], 32, faiss().METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    index.hnsw.efSearch = 128
    return index


@dataclass(frozen=True)
class Kind:
    """A row of `INDEXES`; `text` describes when it is useful."""

    make: Callable[[NDArray[np.float32]], Any]
    text: str


INDEXES: dict[str, Kind] = {
    "exact": Kind(_exact, "every item is compared: for galleries below some 100,000 items"),
    "ivf": Kind(_ivf, "only the nearest cells are compared: faster above 100,000 items, may miss some"),
    "hnsw": Kind(_hnsw, "a graph is walked: fastest above 100,000 items, more memory, may miss some"),
}


def check_kind(kind: str) -> None:
    """Raises VKDError unless `kind` is a key of INDEXES."""
    if kind not in INDEXES:
        raise VKDError(f"There is no index '{kind}'; choose one of {', '.join(INDEXES)}.")


def make(features: NDArray, kind: str = "exact") -> Any:
    """Returns a FAISS index of an INDEXES kind, filled with embeddings (n, D)."""
    check_kind(kind)
    rows = normalise(features)
    index = INDEXES[kind].make(rows)
    index.add(rows)
    return index


def write(index: Any, path: Path) -> None:
    """Writes an index to `path`. Raises OSError if that fails (e.g. on a full disk)."""
    # Through bytes rather than FAISS's own writer: its errors are C++ ones, and odd file names work.
    path.write_bytes(faiss().serialize_index(index).tobytes())


def checksum(path: Path) -> str:
    """Returns the file's sha256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path, *, items: int, width: int, sha256: str) -> Any:
    """Reads an index of `items` rows of `width` numbers whose file has that checksum.

    Raises MissingFileError if there is no such file, VKDError if it is not the index that the record
    describes.
    """
    if not path.is_file():
        raise MissingFileError(f"The gallery's index {path} is missing; build the gallery again.")
    refuse_lfs_pointer(path)
    # Before FAISS sees the bytes: its reader is C++ and trusts much of what they say.
    if checksum(path) != sha256:
        raise VKDError(f"The gallery's index {path} is damaged or was replaced; build the gallery again.")
    try:
        index = faiss().deserialize_index(np.fromfile(path, np.uint8))
    except Exception as error:  # RuntimeError, MemoryError and others, for bytes that are not an index
        raise VKDError(f"The gallery's index {path} cannot be read; build the gallery again.") from error
    if (index.ntotal, index.d) != (items, width) or index.metric_type != faiss().METRIC_INNER_PRODUCT:
        raise VKDError(
            f"The index {path} holds {index.ntotal} rows of {index.d} numbers, the gallery's record "
            f"describes {items} of {width}; build the gallery again."
        )
    return index
