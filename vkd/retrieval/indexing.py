"""Building a gallery's folder: thumbnails, embeddings, table, and the rename that puts it in place."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vkd.data.tracklets import UNKNOWN_IDENTITY, Tracklet
from vkd.io.errors import VKDError
from vkd.io.files import replace_dir, staging_dir
from vkd.models import inference
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import EmbedConfig
from vkd.retrieval import index as indexes
from vkd.retrieval import storage, thumbnails
from vkd.retrieval.storage import IndexInfo, Table

Progress = Callable[[Iterable[Any]], Iterable[Any]]


def build(
    folder: str | Path,
    tracklets: Sequence[Tracklet],
    networks: Mapping[str, Checkpoint],
    *,
    index: str,
    views: int,
    names: Mapping[int, str],
    progress: Progress,
) -> None:
    """What `Gallery.build` documents."""
    target = Path(folder).expanduser().absolute()
    _check_request(target, tracklets, networks, index, views)
    target.parent.mkdir(parents=True, exist_ok=True)
    with staging_dir(target) as work:
        (work / "thumbnails").mkdir()
        kept, counts, skipped = thumbnails.write_all(work / "thumbnails", tracklets, views, progress)
        if not kept:
            raise VKDError(f"None of the {len(tracklets)} items can be read; the first: {skipped[0][1]}")
        entries = {
            name: embed(work, name, checkpoint, kept, index, "frames", progress)
            for name, checkpoint in networks.items()
        }
        storage.write(work / "gallery.json", _describe(kept, counts, skipped, names, entries))
        _check_replaceable(target)
        replace_dir(work, target)


def fingerprint(net: nn.Module) -> str:
    """16 hexadecimal digits that change with any weight of `net`."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _check_request(
    target: Path, tracklets: Sequence[Tracklet], networks: Mapping[str, Checkpoint], kind: str, views: int
) -> None:
    if not tracklets:
        raise VKDError("There is nothing to index: the data set's gallery side or the folder is empty.")
    if not networks:
        raise VKDError("A gallery needs at least one network to embed its pictures.")
    if kind not in indexes.INDEXES:
        raise VKDError(f"There is no index '{kind}'; choose one of {', '.join(indexes.INDEXES)}.")
    if views < 1:
        raise VKDError(f"At least one view of each tracklet must be embedded, not {views}.")
    for name in networks:
        storage.check_name(name)
    _check_replaceable(target)


def _check_replaceable(target: Path) -> None:
    if target.is_dir():
        if any(target.iterdir()) and not (target / "gallery.json").is_file():
            raise VKDError(
                f"{target} holds files that are not a gallery; choose another folder, or empty it."
            )
    elif target.exists():
        raise VKDError(f"{target} is a file; a gallery is a folder.")


def _describe(
    kept: Sequence[Tracklet],
    counts: Sequence[int],
    skipped: Sequence[tuple[str, str]],
    names: Mapping[int, str],
    networks: dict[str, IndexInfo],
) -> Table:
    def shown(identity: int) -> str:
        return names.get(identity) or ("" if identity == UNKNOWN_IDENTITY else f"{identity:04d}")

    return Table(
        identities=tuple(int(item.identity) for item in kept),
        cameras=tuple(int(item.camera) for item in kept),
        names=tuple(shown(item.identity) for item in kept),
        frames=tuple(item.frames for item in kept),
        views=tuple(counts),
        networks=networks,
        skipped=tuple(skipped),
    )


def embed(
    folder: Path,
    name: str,
    checkpoint: Checkpoint,
    items: Sequence[Tracklet],
    kind: str,
    source: str,
    progress: Progress,
) -> IndexInfo:
    """Embed all items with one network and write its index into `folder`."""
    net, views = checkpoint.net, max(len(item.frames) for item in items)
    features = inference.embed(net, items, EmbedConfig.of(checkpoint.config, views=views), _counted(progress))
    path = folder / f"{name}.faiss"
    indexes.write(indexes.make(features, kind), path)
    return IndexInfo(kind, features.shape[1], fingerprint(net), indexes.checksum(path), source)


def _counted(wrap: Progress) -> Callable[[int, int, str], None]:
    """The wrapper of a loop as a callback (until galleries take a `vkd.io.progress.Progress`)."""
    loops: list[Iterator[int]] = []

    def report(done: int, total: int, what: str) -> None:
        if not loops:
            loops.append(iter(wrap(range(total))))
        for number in loops[0]:
            if number >= done:
                break

    return report
