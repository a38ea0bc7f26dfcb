"""A comparison small enough to travel: the beginnings of its ranked lists instead of its embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vkd.evaluation.comparison import Comparison, Ranked
from vkd.io.errors import VKDError

DEPTH = 24
"""Matches of each query that are kept, junk not counted."""
_DIGITS = 10_000  # similarities are kept to four of them


@dataclass(frozen=True, eq=False)
class Digest(Comparison):
    """A comparison that knows the beginning of each ranked list instead of embeddings."""

    lists: dict[str, dict[str, tuple[NDArray[np.int32], NDArray[np.int16]]]] = field(default_factory=dict)
    """Network → protocol → items (Q, n), −1 after the last, and cosines (Q, n) in units of 1e-4."""

    def nearest(self, network: str, protocol: str, query: int) -> Iterator[tuple[int, float]]:
        items, cosines = self.lists[network][protocol]
        for item, cosine in zip(items[query], cosines[query], strict=True):
            if item >= 0:
                yield int(item), float(cosine) / _DIGITS

    def ranked(self, network: str, protocol: str, query: int, k: int = 10) -> list[Ranked]:
        """As in `Comparison`; raises ValueError, too, for more matches than were kept."""
        if k > DEPTH:
            raise VKDError(f"{DEPTH} matches of a query are kept here, not {k}: ask for fewer.")
        return super().ranked(network, protocol, query, k)


def digest(found: Comparison, above: Path) -> Digest:
    """The same with lists cut off; each item keeps its first frame, by its place below the folder `above`."""
    lists = {
        name: {protocol: _beginnings(found, name, protocol) for protocol in found.query_gallery}
        for name in found.networks
    }
    base = above.absolute()
    firsts = [str(Path(item.frames[0]).absolute().relative_to(base)) for item in found.items]
    items = [item._replace(frames=(frame,)) for item, frame in zip(found.items, firsts, strict=True)]
    plain = {each.name: getattr(found, each.name) for each in fields(Comparison)}
    return Digest(**{**plain, "items": items, "features": {}}, lists=lists)


def _beginnings(found: Comparison, name: str, protocol: str) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    rows = [
        found.ranked(name, protocol, query, DEPTH) for query in range(len(found.query_gallery[protocol][0]))
    ]
    items = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    cosines = np.zeros(items.shape, np.int16)
    for place, row in enumerate(rows):
        items[place, : len(row)] = [hit.item for hit in row]
        cosines[place, : len(row)] = [round(hit.similarity * _DIGITS) for hit in row]
    return items, cosines
