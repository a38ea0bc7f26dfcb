"""The gallery: pictures indexed once, searched many times.

A gallery is a folder that can be moved or copied whole:

    gallery.json      the table: identity, camera, name and frames of each item; the networks that embedded it
    thumbnails/       <item>.jpg, or <item>-<view>.jpg for a tracklet: 128 pixels high
    <network>.faiss   the embeddings of one network

Threads: `Gallery.load`, `search` and everything that only reads may be called from any number of threads.
`add_network` may run beside searches (they see the old state or the new one); two at once on one gallery
object wait for each other, two programs on one folder do not.
"""

import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY, Tracklet
from vkd.io.errors import MissingFileError, VKDError
from vkd.metrics.verification import PairScores, pair_scores
from vkd.models.checkpoint import Checkpoint
from vkd.retrieval import index, indexing, storage, thumbnails
from vkd.retrieval.indexing import Progress
from vkd.retrieval.storage import Table
from vkd.retrieval.thumbnails import MOST_VIEWS

PAIR_ITEMS = 500
"""At most so many items, evenly spread, are compared with all for `Gallery.pairs`."""
RERANK_TOP = 200
"""How many of the best matches are re-ranked: 200² · D operations and under 1 MB for a query."""

Verdict = Literal["correct", "incorrect", "junk", "unknown"]


class Hit(NamedTuple):
    """One match. `similarity` is the cosine, also after re-ranking, when it no longer falls with the rank."""

    rank: int  # place in the list, from 1
    item: int  # number in the gallery, from 0
    similarity: float
    identity: int  # -1: unknown
    camera: int  # -1: unknown
    name: str
    frames: tuple[str, ...]  # the pictures that were embedded, where they were then
    thumbnail: Path  # the first view
    verdict: Verdict
    thumbnails: tuple[Path, ...] = ()  # all views


def _all(items: Iterable[Any]) -> Iterable[Any]:
    return items


class Gallery:
    """Made by `build` or `load`; see the top of this file for what is on disk."""

    def __init__(self, folder: Path, content: Table, indexes: Mapping[str, Any]) -> None:
        self.folder = folder
        self._content = content
        self._indexes = dict(indexes)
        self._identities = np.array(content.identities, np.int64)
        self._cameras = np.array(content.cameras, np.int64)
        self._pairs: dict[str, tuple[Any, PairScores]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._content)

    @property
    def networks(self) -> list[str]:
        """Names of the networks that have embedded this gallery."""
        return list(self._content.networks)

    @property
    def cameras(self) -> list[int]:
        """The cameras that occur, ascending, without the unknown one."""
        return self._content.known_cameras

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Path and reason of each picture that could not be read when the gallery was built."""
        return self._content.skipped

    def item(self, number: int) -> Tracklet:
        """Identity, camera and the embedded frames (repeats included) of one item."""
        content = self._content
        return Tracklet(content.frames[number], content.identities[number], content.cameras[number])

    def thumbnails(self, number: int) -> tuple[Path, ...]:
        """The small pictures of one item, one of each view."""
        return thumbnails.files(self.folder / "thumbnails", number, self._content.views[number])

    def embeddings(self, network: str) -> NDArray[np.float32]:
        """All embeddings (n, D) of a network, of length one."""
        return index.rows(self._index(network))

    def embedding(self, network: str, number: int) -> NDArray[np.float32]:
        """The embedding (D,) of one item, of length one. Raises ValueError where there is no such item."""
        if not 0 <= number < len(self):
            raise VKDError(f"The gallery has the items 0 to {len(self) - 1}, and no item {number}.")
        return index.rows(self._index(network), np.array([number]))[0]

    def pairs(self, network: str) -> PairScores:
        """How alike the gallery's own items are: true pairs (one identity, two cameras) and false ones.

        Computed once for each index. Items without a camera label are true pairs of each other, but not of
        themselves. Raises ValueError for an unknown network.
        """
        found = self._index(network)
        known = self._pairs.get(network)
        if known is None or known[0] is not found:
            rows, step = index.rows(found), -(-len(self) // PAIR_ITEMS)
            alone = UNKNOWN_CAMERA - 1 - np.arange(len(self))  # a camera of its own: junk for itself only
            cameras = np.where(self._cameras == UNKNOWN_CAMERA, alone, self._cameras)
            ids = self._identities
            known = (found, pair_scores(rows[::step], rows, ids[::step], ids, cameras[::step], cameras))
            self._pairs[network] = known
        return known[1]

    @staticmethod
    def build(
        folder: str | Path,
        tracklets: Sequence[Tracklet],
        networks: Mapping[str, Checkpoint],
        *,
        index: str = "exact",
        views: int = MOST_VIEWS,
        names: Mapping[int, str] | None = None,
        progress: Progress = _all,
    ) -> "Gallery":
        """Index `tracklets` (a data set's gallery side, or `folder_tracklets`) with each network.

        Everything is written to a temporary folder beside `folder` and renamed at the end; a gallery that was
        there is replaced only then. Pictures that cannot be read are left out and listed in `skipped`.

        Args:
            networks: name → checkpoint; the name is what `search` will be asked for.
            index: a key of `index.INDEXES`: exact, ivf or hnsw.
            views: frames embedded for each tracklet, at equal distances (evaluation's chunk rule).
            names: identity → name to show.
            progress: wraps each long loop: the pictures once, then the batches of each network.

        Raises:
            ValueError: nothing to index, no picture can be read, an unknown index, a bad name, or `folder`
                holds something that is not a gallery.
            OSError: the folder cannot be written; what was there stays.
        """
        indexing.build(
            folder, tracklets, networks, index=index, views=views, names=names or {}, progress=progress
        )
        return Gallery.load(folder)

    @staticmethod
    def load(folder: str | Path) -> "Gallery":
        """Open a gallery and check it: table, thumbnails, and each index against its checksum and the table.

        Raises:
            FileNotFoundError: not a gallery, or one of its files is missing.
            ValueError: a file is damaged or does not fit the others. The sentence names it.
        """
        target = Path(folder).expanduser().absolute()
        content = storage.read(target / "gallery.json")
        pictures = target / "thumbnails"
        present = {path.name for path in pictures.iterdir()} if pictures.is_dir() else set()
        for number, views in enumerate(content.views):
            for path in thumbnails.files(pictures, number, views):
                if path.name not in present:
                    raise MissingFileError(f"The thumbnail {path} is missing; build the gallery again.")
        return Gallery(target, content, {name: _open(target, name, content) for name in content.networks})

    def search(
        self,
        network: str,
        query: NDArray | torch.Tensor,
        k: int = 10,
        *,
        cameras: set[int] | None = None,
        identity: int | None = None,
        camera: int | None = None,
        rerank: bool | int = False,
    ) -> list[Hit]:
        """The k best matches of one query, best first.

        Args:
            network: one of `networks`, the one that embedded the query.
            query: its embedding (D,), or (n, D) of n views of one subject: their mean is searched.
            cameras: only items of these cameras.
            identity, camera: of the query where known. An item with both is junk: it is listed with that
                verdict but does not count towards k, so the list can be longer than k.
            rerank: order the best `RERANK_TOP` (or this many, at least what the list needs) by k-reciprocal
                re-ranking.

        Raises:
            ValueError: unknown network, wrong width, k below 1, or an embedding that is zero or not finite.
        """
        found = self._index(network)
        point = _point(query, found.d, network)
        if k < 1:
            raise VKDError(f"At least one match must be asked for, not {k}.")
        among = None if cameras is None else np.flatnonzero(np.isin(self._cameras, list(cameras)))
        known = identity is not None and identity != UNKNOWN_IDENTITY
        junk = np.zeros(len(self), bool)
        if known and camera is not None and camera != UNKNOWN_CAMERA:
            junk = (self._identities == identity) & (self._cameras == camera)
        wanted = min(k, len(self)) + int(junk.sum())
        if rerank:
            top = max(wanted, RERANK_TOP if rerank is True else int(rerank))
            items, cosines = index.nearest(found, point, top, among)
            from vkd.retrieval.rerank import rerank as rerank_all  # brings SciPy's sparse matrices along

            order = np.argsort(rerank_all(point[None], index.rows(found, items))[0], kind="stable")
            items, cosines = items[order], cosines[order]
        else:
            items, cosines = index.nearest(found, point, wanted, among)
        counted = np.cumsum(~junk[items])
        # Up to the k-th item that counts; junk behind it would only lengthen the list.
        end = len(items) if len(items) == 0 or counted[-1] < k else int(np.argmax(counted == k)) + 1
        return [
            self._hit(place, int(number), float(cosine), identity if known else None, bool(junk[number]))
            for place, (number, cosine) in enumerate(zip(items[:end], cosines[:end], strict=True), start=1)
        ]

    def check(self, network: str, net: nn.Module) -> None:
        """Raise ValueError unless `net` has the weights that embedded this gallery under that name: the
        similarities of other weights (the same run, some epochs later) mean nothing."""
        self._index(network)
        if indexing.fingerprint(net) != self._content.networks[network].weights:
            raise VKDError(
                f"The gallery {self.folder} was embedded by other weights than those '{network}' has now; "
                "build it again, or add the network again."
            )

    def add_network(self, name: str, checkpoint: Checkpoint, *, progress: Progress = _all) -> None:
        """Embed the gallery with one more network (or again, with new weights), with the first network's kind
        of index. Where original pictures are gone, the thumbnails stand in for all of them.

        Raises: as `build`.
        """
        storage.check_name(name)
        with self._lock, tempfile.TemporaryDirectory(prefix=".adding-", dir=self.folder) as work:
            content = self._content
            items = [self.item(number) for number in range(len(self))]
            source = "frames"
            if not all(Path(frame).is_file() for item in items for frame in item.frames):
                source = "thumbnails"
                items = [
                    item._replace(frames=tuple(map(str, self.thumbnails(number))))
                    for number, item in enumerate(items)
                ]
            kind = next(iter(content.networks.values())).index
            entry = indexing.embed(Path(work), name, checkpoint, items, kind, source, progress)
            content = replace(content, networks={**content.networks, name: entry})
            (Path(work) / f"{name}.faiss").replace(self.folder / f"{name}.faiss")
            storage.write(self.folder / "gallery.json", content)
            # New objects rather than changed ones: a search under way keeps those it began with.
            self._indexes = {**self._indexes, name: _open(self.folder, name, content)}
            self._content = content

    def _index(self, network: str) -> Any:
        if network not in self._indexes:
            known = ", ".join(self._indexes)
            raise VKDError(
                f"The gallery {self.folder} was not embedded by '{network}'. It knows {known}; "
                "build it again with that network, or add it."
            )
        return self._indexes[network]

    def _hit(self, place: int, number: int, cosine: float, identity: int | None, junk: bool) -> Hit:
        content = self._content
        own = content.identities[number]
        verdict: Verdict = "junk"
        if not junk:
            unknown = identity is None or own == UNKNOWN_IDENTITY
            verdict = "unknown" if unknown else "correct" if own == identity else "incorrect"
        frames = tuple(dict.fromkeys(content.frames[number]))
        views = self.thumbnails(number)
        name = content.names[number]
        return Hit(
            place, number, cosine, own, content.cameras[number], name, frames, views[0], verdict, views
        )


def _open(folder: Path, name: str, content: Table) -> Any:
    path, entry = folder / f"{name}.faiss", content.networks[name]
    return index.read(path, items=len(content), width=entry.width, sha256=entry.sha256)


def _point(query: NDArray | torch.Tensor, width: int, network: str) -> NDArray[np.float32]:
    """(D,) or (n, D) → (D,): the mean over views, as everywhere (views are not normalised first)."""
    if isinstance(query, torch.Tensor):
        query = query.detach().cpu().float().numpy()
    rows = np.atleast_2d(np.asarray(query, dtype=np.float32))
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise VKDError(f"'{network}' embeds in {width} numbers; the query has the shape {np.shape(query)}.")
    point = rows.mean(axis=0)
    if not np.isfinite(point).all() or not point.any():
        raise VKDError("The query's embedding is zero or not finite; check the network's weights.")
    return point
