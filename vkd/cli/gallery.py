"""`vkd index` and `vkd search`: builds a gallery, ranks its items."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from vkd.cli.options import DatasetOptions, ModelOptions, argument, flag, parse, progress_bar
from vkd.data.tracklets import Part
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import write_text
from vkd.training.fields import Choice

if TYPE_CHECKING:
    from vkd.retrieval.gallery import Hit


def _indexes() -> Iterable[str]:
    from vkd.retrieval.index import INDEXES

    return INDEXES


class IndexFlags(ModelOptions, DatasetOptions):
    root: Path = argument("Dataset, or image folder: <identity>/<camera>/*.jpg, <identity>/*.jpg, *.jpg.")
    checkpoints: tuple[Path, ...] = flag(
        ..., "Checkpoint folders that embed it, such as teacher and student.", min_length=1
    )
    out: Path = flag(..., "Folder of the gallery; an older gallery is replaced at the end.")
    part: Part = flag("gallery", "Part of a dataset to index; an image folder is indexed whole.")
    index: Annotated[str, Choice(_indexes)] = flag("exact", "Kind of FAISS index.")
    views: int = flag(8, "Frames embedded of a tracklet.", ge=1, le=8)


def index(argv: Sequence[str]) -> int:
    """Runs the verb; returns the exit code."""
    (flags,) = parse("vkd index", "Build a gallery.", argv, [IndexFlags])
    from vkd.data import datasets
    from vkd.retrieval.gallery import Gallery

    networks = flags.load(flags.checkpoints)
    if not flags.root.exists():
        raise MissingFileError(f"{flags.root} does not exist: give a dataset or an image folder.")
    name = datasets.detect_dataset(flags.root) if flags.dataset == "auto" else flags.dataset
    if name == "folder":
        tracklets, names, notes = datasets.folder_items(flags.root, cameras=flags.cameras)
        print(*notes, sep="\n", end="\n" if notes else "", file=sys.stderr)
    else:
        splits = flags.read()
        tracklets, names = splits.part(flags.part), splits.names
    gallery = Gallery.build(
        flags.out,
        tracklets,
        networks,
        index=flags.index,
        views=flags.views,
        names=names,
        progress=progress_bar("item"),
    )
    print(f"{gallery.folder}: {len(gallery)} items, {', '.join(gallery.networks)}")
    if gallery.skipped:
        path, reason = gallery.skipped[0]
        print(f"{len(gallery.skipped)} images left out, such as {path}: {reason}")
    return 0


class SearchFlags(ModelOptions):
    gallery: Path = argument("Folder of the gallery.")
    images: tuple[Path, ...] = argument("Images of one identity; several are a tracklet query.", min_length=1)
    networks: tuple[str, ...] = flag((), "Models to search with, as the gallery names them; none: all.")
    checkpoints: Path = flag(Path("checkpoints"), "Folder that holds the checkpoints of those names.")
    top: int = flag(10, "Top-k: matches to list.", ge=1, le=10_000)
    cameras: tuple[int, ...] = flag((), "Only items of these cameras (from 0); none: of all.")
    identity: int | None = flag(None, "The query's identity: matches are then correct or incorrect.")
    camera: int | None = flag(None, "The query's camera: items of its identity and camera are then junk.")
    rerank: bool = flag(False, "k-reciprocal re-ranking of the best matches.")
    json_file: Path | None = flag(None, "Write the matches as JSON.", name="json")


def search(argv: Sequence[str]) -> int:
    """Runs the verb; returns the exit code."""
    (flags,) = parse("vkd search", "Search a gallery with images of one identity.", argv, [SearchFlags])
    from vkd.retrieval.gallery import Gallery

    gallery = Gallery.load(flags.gallery)
    if flags.cameras and not set(flags.cameras) & set(gallery.cameras):
        cameras = ", ".join(map(str, gallery.cameras)) or "unknown"
        raise VKDError(f"{flags.gallery} has no item of these cameras; its cameras: {cameras}.")
    results: dict[str, list[Hit]] = {}
    for name in flags.networks or gallery.networks:
        if name not in gallery.networks:
            raise VKDError(f"{flags.gallery} has the models {', '.join(gallery.networks)}, not '{name}'.")
        (model,) = flags.load([flags.checkpoints / name]).values()
        gallery.check(name, model.net)
        results[name] = gallery.search(
            name,
            model.embed([list(flags.images)])[0],
            flags.top,
            cameras=set(flags.cameras) or None,
            identity=flags.identity,
            camera=flags.camera,
            rerank=flags.rerank,
        )
    if flags.json_file is not None:
        rows = {name: [hit._asdict() for hit in hits] for name, hits in results.items()}
        flags.json_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(flags.json_file, json.dumps(rows, indent=2, default=str, ensure_ascii=False) + "\n")
    for name, hits in results.items():
        print(f"{name}\n{_table(hits)}")
    return 0


def _table(hits: "Sequence[Hit]") -> str:
    labelled = any(hit.verdict != "unknown" for hit in hits)
    head = f"{'rank':>4}  {'cosine':>6}  {'camera':>6}  {'verdict' if labelled else '':<9}  name, first frame"
    lines = [head]
    for hit in hits:
        camera = str(hit.camera) if hit.camera >= 0 else "–"
        verdict = hit.verdict if labelled else ""
        lines.append(
            f"{hit.rank:>4}  {hit.similarity:>6.3f}  {camera:>6}  {verdict:<9}  {hit.name}, {hit.frames[0]}"
        )
    return "\n".join(lines)
