"""Parts of building a gallery: checks of the request, record of the items, an index per network."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from vkd.data.tracklets import UNKNOWN_IDENTITY, Tracklet
from vkd.io.errors import VKDError
from vkd.io.files import replace_dir, staging_dir
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
        raise VKDError("A gallery needs at least one model to embed its images.")
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


def write_gallery(
    target: Path,
    tracklets: Sequence[Tracklet],
    networks: Mapping[str, Checkpoint],
    kind: str,
    views: int,
    names: Mapping[int, str],
    progress: Progress,
) -> None:
    """Writes a gallery, args and errors of `Gallery.build`. It is whole before it is in `target`."""
    check_request(target, tracklets, networks, kind, views)
    target.parent.mkdir(parents=True, exist_ok=True)
    with staging_dir(target) as work:
        (work / "thumbnails").mkdir()
        items, counts, skipped = storage.write_thumbnails(work / "thumbnails", tracklets, views, progress)
        if not items:
            raise VKDError(f"None of the {len(tracklets)} items can be read; the first: {skipped[0][1]}")
        infos = {
            name: write_index(work, name, checkpoint, items, kind, progress)
            for name, checkpoint in networks.items()
        }
        storage.write(work / RECORD, make_record(items, counts, skipped, names, infos))
        check_replaceable(target)
        replace_dir(work, target)


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
    progress: Progress,
    thumbnails: Callable[[int], tuple[Path, ...]] | None = None,
) -> IndexInfo:
    """Embeds all items with one network and writes its index into `folder`.

    Where original images are gone, the `thumbnails` (by item number) stand in for all of them.
    """
    source = "frames"
    if thumbnails and not all(Path(frame).is_file() for item in items for frame in item.frames):
        source = "thumbnails"
        items = [
            item._replace(frames=tuple(map(str, thumbnails(number)))) for number, item in enumerate(items)
        ]
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
