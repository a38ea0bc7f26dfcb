"""What a gallery is built of: checks of the request, the record of its items, an index for each network."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from vkd.data.tracklets import UNKNOWN_IDENTITY, Tracklet
from vkd.io.errors import VKDError
from vkd.io.progress import Progress
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import EmbedConfig, embed
from vkd.retrieval import index as indexes
from vkd.retrieval import storage
from vkd.retrieval.storage import RECORD, GalleryRecord, IndexInfo


def fingerprint(net: nn.Module) -> str:
    """Returns 16 hexadecimal digits that change with any weight of `net`."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def check_request(
    target: Path, tracklets: Sequence[Tracklet], networks: Mapping[str, Checkpoint], kind: str, views: int
) -> None:
    """Raises VKDError for a gallery that cannot be built."""
    if not tracklets:
        raise VKDError("There is nothing to index: the dataset's gallery side or the folder is empty.")
    if not networks:
        raise VKDError("A gallery needs at least one network to embed its images.")
    indexes.check_kind(kind)
    if views < 1:
        raise VKDError(f"At least one view of each tracklet must be embedded, not {views}.")
    for name in networks:
        storage.check_name(name)
    check_replaceable(target)


def check_replaceable(target: Path) -> None:
    """Raises VKDError unless `target` is free, empty or an older gallery."""
    if target.is_dir():
        if any(target.iterdir()) and not (target / RECORD).is_file():
            raise VKDError(
                f"{target} holds files that are not a gallery; choose another folder, or empty it."
            )
    elif target.exists():
        raise VKDError(f"{target} is a file; a gallery is a folder.")


def make_record(
    items: Sequence[Tracklet],
    counts: Sequence[int],
    skipped: Sequence[tuple[str, str]],
    names: Mapping[int, str],
    networks: dict[str, IndexInfo],
) -> GalleryRecord:
    """Describes the items of a gallery; `names`: identity → name."""

    def name(identity: int) -> str:
        return names.get(identity) or ("" if identity == UNKNOWN_IDENTITY else f"{identity:04d}")

    return GalleryRecord(
        identities=tuple(int(item.identity) for item in items),
        cameras=tuple(int(item.camera) for item in items),
        names=tuple(name(item.identity) for item in items),
        frames=tuple(item.frames for item in items),
        views=tuple(counts),
        networks=networks,
        skipped=tuple(skipped),
    )


def write_index(
    folder: Path,
    name: str,
    checkpoint: Checkpoint,
    items: Sequence[Tracklet],
    kind: str,
    source: str,
    progress: Progress,
) -> IndexInfo:
    """Embeds all items with one network and writes its index into `folder`."""
    config = EmbedConfig.of(checkpoint.config, views=max(len(item.frames) for item in items))
    features = embed(
        checkpoint.net, items, config, lambda done, total, _: progress(done, total, f"embedding with {name}")
    )
    path = folder / f"{name}.faiss"
    indexes.write(indexes.make(features, kind), path)
    return IndexInfo(
        index=kind,
        width=features.shape[1],
        weights=fingerprint(checkpoint.net),
        sha256=indexes.checksum(path),
        source=source,
    )
