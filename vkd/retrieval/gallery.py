"""A gallery: images indexed once, searched many times.

A gallery is a folder that can be moved or copied whole:

    gallery.json      the record: identity, camera, name and frames of each item; the networks
    thumbnails/       <item>.jpg, or <item>-<view>.jpg for a tracklet: 128 pixels high
    <network>.faiss   the embeddings of one network

Threads: `Gallery.load`, `search` and everything that only reads may be called from any number of threads.
`add_network` may run beside searches (they see the old state or the new one); two at once on one gallery
object wait for each other, two programs on one folder do not.
"""

import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY, Tracklet, is_junk
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.progress import Progress, silent
from vkd.metrics.ranking import Verdict, length_to_rank, verdict
from vkd.metrics.verification import PairScores, pair_scores
from vkd.models.checkpoint import Checkpoint
from vkd.retrieval import index as indexes
from vkd.retrieval import indexing, storage
from vkd.retrieval.storage import MAX_VIEWS, RECORD, GalleryRecord, thumbnail_paths

PAIR_ITEMS = 500
"""At most so many items, evenly spread, are compared with all for `Gallery.pairs`."""
RERANK_TOP = 200
"""How many of the best matches are re-ranked: 200² · D operations and under 1 MB for a query."""


class Hit(NamedTuple):
    """One item of a ranked list. `similarity` is the cosine, also after re-ranking."""

    rank: int  # position in the list, from 1
    item: int  # number in the gallery, from 0
    similarity: float
    identity: int  # -1: unknown
    camera: int  # -1: unknown
    name: str
    frames: tuple[str, ...]  # the images that were embedded, where they were then
    thumbnail: Path  # the first view
    verdict: Verdict
    thumbnails: tuple[Path, ...] = ()  # all views


class Gallery:
    """A gallery in memory, returned by `build` and `load`."""

    def __init__(self, folder: Path, record: GalleryRecord, indexes: Mapping[str, Any]) -> None:
        self.folder = folder
        self._record = record
        self._indexes = dict(indexes)
        self._identities = np.array(record.identities, np.int64)
        self._cameras = np.array(record.cameras, np.int64)
        self._pairs: dict[str, tuple[Any, PairScores]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._record)

    @property
    def networks(self) -> list[str]:
        """Names of the networks that have embedded this gallery."""
        return list(self._record.networks)

    @property
    def cameras(self) -> list[int]:
        """The cameras that occur, ascending, without the unknown one."""
        return self._record.cameras_present

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Path and reason of each image that could not be read when the gallery was built."""
        return self._record.skipped

    def item(self, number: int) -> Tracklet:
        """Returns identity, camera and the embedded frames (repeats included) of one item."""
        record = self._record
        return Tracklet(record.frames[number], record.identities[number], record.cameras[number])

    def thumbnails(self, number: int) -> tuple[Path, ...]:
        """Returns the paths of an item's thumbnails, one of each view."""
        return thumbnail_paths(self.folder / "thumbnails", number, self._record.views[number])

    def embeddings(self, network: str) -> NDArray[np.float32]:
        """Returns all embeddings (n, D) of a network, of length one."""
        return index_rows(self._index(network))

    def embedding(self, network: str, number: int) -> NDArray[np.float32]:
        """Returns the embedding (D,) of one item, of length one. Raises VKDError if there is no such item."""
        if not 0 <= number < len(self):
            raise VKDError(f"The gallery has the items 0 to {len(self) - 1}, and no item {number}.")
        return index_rows(self._index(network), np.array([number]))[0]

    def pairs(self, network: str) -> PairScores:
        """Counts the gallery's genuine pairs (one identity, two cameras) and impostor pairs by similarity.

        Computed once for each index. Items without a camera label are genuine pairs of each other, but not of
        themselves. Raises VKDError for an unknown network.
        """
        index = self._index(network)
        cached = self._pairs.get(network)
        if cached is None or cached[0] is not index:
            rows, step = index_rows(index), -(-len(self) // PAIR_ITEMS)
            alone = UNKNOWN_CAMERA - 1 - np.arange(len(self))  # a camera of its own: junk for itself only
            cameras = np.where(self._cameras == UNKNOWN_CAMERA, alone, self._cameras)
            ids = self._identities
            cached = (index, pair_scores(rows[::step], rows, ids[::step], ids, cameras[::step], cameras))
            self._pairs[network] = cached
        return cached[1]

    @staticmethod
    def build(
        folder: str | Path,
        tracklets: Sequence[Tracklet],
        networks: Mapping[str, Checkpoint],
        *,
        index: str = "exact",
        views: int = MAX_VIEWS,
        names: Mapping[int, str] | None = None,
        progress: Progress = silent,
    ) -> "Gallery":
        """Indexes `tracklets` (a dataset's gallery side, or `folder_tracklets`) with each network.

        Everything is written to a staging folder beside `folder` and renamed at the end; a gallery that was
        there is replaced only then. Images that cannot be read are left out and listed in `skipped`.

        Args:
            networks: name → checkpoint; the name is the one that `search` takes.
            index: a key of `index.INDEXES`: exact, ivf or hnsw.
            views: frames embedded for each tracklet, at equal distances (evaluation's chunk rule).
            names: identity → name.
            progress: counts the images first, then the items of each network.

        Raises:
            VKDError: nothing to index, no image can be read, an unknown index, a bad name, or `folder` holds
                something that is not a gallery.
            OSError: the folder cannot be written; what was there stays.
        """
        target = Path(folder).expanduser().absolute()
        indexing.write_gallery(target, tracklets, networks, index, views, names or {}, progress)
        return Gallery.load(target)

    @staticmethod
    def load(folder: str | Path) -> "Gallery":
        """Opens a gallery and checks it: record, thumbnails, and each index against its checksum.

        Raises MissingFileError if it is no gallery or a file is missing, VKDError if a file is damaged.
        """
        target = Path(folder).expanduser().absolute()
        record = storage.read(target / RECORD)
        thumbnails = target / "thumbnails"
        present = {path.name for path in thumbnails.iterdir()} if thumbnails.is_dir() else set()
        for number, views in enumerate(record.views):
            for path in thumbnail_paths(thumbnails, number, views):
                if path.name not in present:
                    raise MissingFileError(f"The thumbnail {path} is missing; build the gallery again.")
        return Gallery(target, record, {name: _open(target, name, record) for name in record.networks})

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
        """Returns the k best matches of one query, best first.

        Args:
            network: one of `networks`, the one that embedded the query.
            query: its embedding (D,), or (n, D) of n views of one subject: their mean is searched.
            cameras: only items of these cameras.
            identity, camera: of the query, None if unknown. An item with both is junk: it is listed with that
                verdict but does not count towards k, so the list can be longer than k.
            rerank: order the best `RERANK_TOP` (or this many, at least what the list needs) by k-reciprocal
                re-ranking.

        Raises VKDError for an unknown network, a wrong width, k below 1, an embedding that is zero or not
        finite.
        """
        index = self._index(network)
        point = _point(query, index.d, network)
        if k < 1:
            raise VKDError(f"The number of matches must be at least 1, not {k}.")
        among = None if cameras is None else np.flatnonzero(np.isin(self._cameras, list(cameras)))
        own = UNKNOWN_IDENTITY if identity is None else identity, UNKNOWN_CAMERA if camera is None else camera
        junk = is_junk(*own, self._identities, self._cameras)
        count = min(k, len(self)) + int(junk.sum())
        if rerank:
            top = max(count, RERANK_TOP if rerank is True else int(rerank))
            items, cosines = nearest(index, point, top, among)
            from vkd.retrieval.rerank import rerank as rerank_all  # brings SciPy's sparse matrices along

            order = np.argsort(rerank_all(point[None], index_rows(index, items))[0], kind="stable")
            items, cosines = items[order], cosines[order]
        else:
            items, cosines = nearest(index, point, count, among)
        end = length_to_rank(junk[items], k)
        return [
            self._hit(rank, int(number), float(cosine), *own)
            for rank, (number, cosine) in enumerate(zip(items[:end], cosines[:end], strict=True), start=1)
        ]

    def check(self, network: str, net: nn.Module) -> None:
        """Raises VKDError unless `net` has the weights that embedded this gallery under that name.

        Similarities of other weights (the same run, some epochs later) mean nothing.
        """
        self._index(network)
        if indexing.fingerprint(net) != self._record.networks[network].weights:
            raise VKDError(
                f"The gallery {self.folder} was embedded by other weights than those '{network}' has now; "
                "build it again, or add the model again."
            )

    def add_network(self, name: str, checkpoint: Checkpoint, *, progress: Progress = silent) -> None:
        """Embeds the gallery with one more network, or again with new weights.

        The kind of index is that of the first network. Where original images are gone, the thumbnails stand
        in for all of them. Raises as `build`.
        """
        storage.check_name(name)
        with self._lock, tempfile.TemporaryDirectory(prefix=".adding-", dir=self.folder) as work:
            record = self._record
            items = [self.item(number) for number in range(len(self))]
            kind = next(iter(record.networks.values())).index
            info = indexing.write_index(Path(work), name, checkpoint, items, kind, progress, self.thumbnails)
            record = record.model_copy(update={"networks": {**record.networks, name: info}})
            (Path(work) / f"{name}.faiss").replace(self.folder / f"{name}.faiss")
            storage.write(self.folder / RECORD, record)
            # New objects rather than changed ones: a search under way keeps those it began with.
            self._indexes = {**self._indexes, name: _open(self.folder, name, record)}
            self._record = record

    def _index(self, network: str) -> Any:
        if network not in self._indexes:
            names = ", ".join(self._indexes)
            raise VKDError(
                f"The gallery {self.folder} was embedded by {names}, not by '{network}': build it "
                "again with that model, or add it."
            )
        return self._indexes[network]

    def _hit(self, rank: int, number: int, cosine: float, identity: int, camera: int) -> Hit:
        item, thumbnails = self.item(number), self.thumbnails(number)
        return Hit(
            rank,
            number,
            cosine,
            item.identity,
            item.camera,
            self._record.names[number],
            tuple(dict.fromkeys(item.frames)),
            thumbnails[0],
            verdict(identity, camera, item.identity, item.camera),
            thumbnails,
        )


def _open(folder: Path, name: str, record: GalleryRecord) -> Any:
    path, info = folder / f"{name}.faiss", record.networks[name]
    return indexes.read(path, items=len(record), width=info.width, sha256=info.sha256)


def _point(query: NDArray | torch.Tensor, width: int, network: str) -> NDArray[np.float32]:
    """Returns the mean over views (D,) of (D,) or (n, D), as everywhere; views are not normalised first."""
    if isinstance(query, torch.Tensor):
        query = query.detach().cpu().float().numpy()
    rows = np.atleast_2d(np.asarray(query, dtype=np.float32))
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise VKDError(f"'{network}' embeds in {width} numbers; the query has the shape {np.shape(query)}.")
    point = rows.mean(axis=0)
    if not np.isfinite(point).all() or not point.any():
        raise VKDError("The query's embedding is zero or not finite; check the model's weights.")
    return point


def index_rows(index: Any, items: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Returns the embeddings (n, D), of length one, of some items, or of all."""
    if items is None:
        return index.reconstruct_n(0, index.ntotal)
    return index.reconstruct_batch(np.ascontiguousarray(items, np.int64))


def nearest(
    index: Any, query: NDArray, count: int, among: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns items and cosines (m,) nearest to a query (D,), best first, m ≤ `count`, only of `among`."""
    allowed = index.ntotal if among is None else len(among)
    count = min(count, allowed)
    if not count:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    point = (query / np.linalg.norm(query)).astype(np.float32)[None]
    selector = None if among is None else indexes.faiss().IDSelectorBatch(among)
    items, cosines = _search(index, point, count, selector, thorough=False)
    if len(items) < count:  # an approximate index may not reach enough of the items that are allowed
        items, cosines = _search(index, point, count, selector, thorough=True)
    return items, cosines


def _search(
    index: Any, point: NDArray[np.float32], count: int, selector: Any, *, thorough: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Searches with parameters of this call only, so that threads do not disturb each other."""
    faiss = indexes.faiss()
    if isinstance(index, faiss.IndexIVF):
        cells = index.nlist if thorough else index.nprobe
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=cells)
    elif isinstance(index, faiss.IndexHNSW):
        wide = index.ntotal if thorough else max(index.hnsw.efSearch, 2 * count)
        parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=wide)
    else:
        parameters = faiss.SearchParameters(sel=selector)
    cosines, items = index.search(point, count, params=parameters)
    filled = items[0] >= 0
    return items[0][filled], np.clip(cosines[0][filled], -1, 1)
