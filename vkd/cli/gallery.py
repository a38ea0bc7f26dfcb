"""`vkd index`, `vkd search` and `vkd explain`: galleries, ranked matches, heatmaps."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydantic

from vkd.cli.evaluate import (
    CAMERAS,
    DATASET,
    WEIGHTS,
    Cameras,
    Datasets,
    Device,
    Frames,
    Weights,
    device_of,
    load_all,
    read_data,
)
from vkd.cli.options import argument, bar, flag, parse
from vkd.data.tracklets import Part
from vkd.io.errors import MissingFileError, VKDError
from vkd.training.settings import Choice

if TYPE_CHECKING:
    from vkd.retrieval.gallery import Hit


def _indexes() -> Iterable[str]:
    from vkd.retrieval.index import INDEXES

    return INDEXES


def _targets() -> Iterable[str]:
    from vkd.explain.dataset import TARGETS

    return TARGETS


def _methods() -> Iterable[str]:
    from vkd.explain.gradcam import METHODS

    return METHODS


class IndexFlags(pydantic.BaseModel):
    root: Path = argument("Data set, or folder of pictures: <identity>/<camera>/…, <identity>/… or flat.")
    checkpoints: tuple[Path, ...] = flag(
        ..., "Checkpoint folders that embed it, such as teacher and student.", min_length=1
    )
    out: Path = flag(..., "Folder of the gallery; a gallery that is there is replaced at the end.")
    dataset: Datasets = flag("auto", DATASET)
    part: Part = flag("gallery", "Part of a data set to index; a plain folder is indexed whole.")
    index: Annotated[str, Choice(_indexes)] = flag("exact", "Kind of FAISS index.")
    views: int = flag(8, "Frames embedded of a tracklet.", ge=1, le=8)
    weights: Weights = flag("auto", WEIGHTS)
    cameras: Cameras = flag("auto", CAMERAS)
    device: Device = flag("auto", "Where to compute.")


def index(argv: Sequence[str]) -> int:
    (flags,) = parse("vkd index", "Build a gallery to search.", argv, [IndexFlags])
    from vkd.data import datasets
    from vkd.retrieval.gallery import Gallery

    networks = load_all(flags.checkpoints, flags.weights, device_of(flags.device))
    if not flags.root.exists():
        raise MissingFileError(f"{flags.root} does not exist: give a data set or a folder of pictures.")
    name = datasets.detect_dataset(flags.root) if flags.dataset == "auto" else flags.dataset
    if name == "folder":
        tracklets, names = datasets.folder_tracklets(flags.root, cameras=flags.cameras)
    else:
        splits = read_data(name, flags.root, flags.cameras, "")
        tracklets, names = splits.part(flags.part), splits.names
    gallery = Gallery.build(
        flags.out,
        tracklets,
        networks,
        index=flags.index,
        views=flags.views,
        names=names,
        progress=bar("gallery"),
    )
    print(f"{gallery.folder}: {len(gallery)} items, {', '.join(gallery.networks)}")
    if gallery.skipped:
        path, reason = gallery.skipped[0]
        print(f"{len(gallery.skipped)} pictures left out, such as {path}: {reason}")
    return 0


class SearchFlags(pydantic.BaseModel):
    gallery: Path = argument("Folder of the gallery.")
    pictures: tuple[Path, ...] = argument(
        "Pictures of one subject; several are one tracklet query.", min_length=1
    )
    networks: tuple[str, ...] = flag((), "Networks to ask, as the gallery names them; none: all of them.")
    checkpoints: Path = flag(Path("checkpoints"), "Folder that holds the checkpoints of those names.")
    top: int = flag(10, "Matches to list.", ge=1, le=10_000)
    cameras: tuple[int, ...] = flag((), "Only items of these cameras (from 0); none: of all.")
    identity: int | None = flag(None, "The query's identity, if known: matches are then right or wrong.")
    camera: int | None = flag(None, "The query's camera, if known: its own pictures are then junk.")
    rerank: bool = flag(False, "Re-rank the best matches by their own neighbours.")
    weights: Weights = flag("auto", WEIGHTS)
    device: Device = flag("auto", "Where to compute.")
    json_file: Path | None = flag(None, "Write the matches as JSON.", name="json")


def search(argv: Sequence[str]) -> int:
    (flags,) = parse("vkd search", "Search a gallery with pictures of one subject.", argv, [SearchFlags])
    import torch

    from vkd.data.transforms import prepare
    from vkd.retrieval.gallery import Gallery

    gallery = Gallery.load(flags.gallery)
    if flags.cameras and not set(flags.cameras) & set(gallery.cameras):
        there = ", ".join(map(str, gallery.cameras)) or "none that is known"
        raise VKDError(f"{flags.gallery} has no item of these cameras; its cameras are {there}.")
    device = device_of(flags.device)
    found: dict[str, list[Hit]] = {}
    for name in flags.networks or gallery.networks:
        if name not in gallery.networks:
            raise VKDError(f"{flags.gallery} knows the networks {', '.join(gallery.networks)}, not '{name}'.")
        (known,) = load_all([flags.checkpoints / name], flags.weights, device).values()
        gallery.check(name, known.net)
        clip = prepare(flags.pictures, known.config.image_size, known.config.mean, known.config.std)
        with torch.inference_mode():
            query = known.net.embed(clip[None].to(device))[0]
        found[name] = gallery.search(
            name,
            query,
            flags.top,
            cameras=set(flags.cameras) or None,
            identity=flags.identity,
            camera=flags.camera,
            rerank=flags.rerank,
        )
    for name, hits in found.items():
        print(f"{name}\n{_table(hits)}")
    if flags.json_file is not None:
        _write(flags.json_file, found)
    return 0


def _table(hits: "Sequence[Hit]") -> str:
    known = any(hit.verdict not in ("unknown",) for hit in hits)
    lines = [
        f"{'rank':>4}  {'cosine':>6}  {'camera':>6}  {'verdict' if known else '':<7}  name, first picture"
    ]
    for hit in hits:
        camera = str(hit.camera) if hit.camera >= 0 else "–"
        verdict = hit.verdict if known else ""
        lines.append(
            f"{hit.rank:>4}  {hit.similarity:>6.3f}  {camera:>6}  {verdict:<7}  {hit.name}, {hit.frames[0]}"
        )
    return "\n".join(lines)


def _write(path: Path, found: "dict[str, list[Hit]]") -> None:
    rows = {name: [hit._asdict() for hit in hits] for name, hits in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(rows, indent=2, default=str, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


class ExplainFlags(pydantic.BaseModel):
    checkpoints: tuple[Path, ...] = argument(
        "One checkpoint folder, or teacher and student.", min_length=1, max_length=2
    )
    out: Path = flag(..., "Folder for the heatmaps: sheets/, heatmaps.csv, heatmaps.json.")
    root: Path | None = flag(
        None, "Folder of the data set; none: data/ and the name of the checkpoint's own."
    )
    dataset: Datasets = flag("auto", DATASET)
    part: Part = flag("query", "Part of the data set to explain.")
    limit: int | None = flag(None, "Only this many tracklets, evenly spread; none: all.", ge=1)
    target: Annotated[str, Choice(_targets)] = flag("logit", "What the heat explains.")
    method: Annotated[str, Choice(_methods)] = flag("gradcam", "How the heat is computed.")
    layer: str | None = flag(None, "Name or number of the layer; none: the last map of the trunk.")
    views: int = flag(8, "Frames of a tracklet.", ge=1, le=64)
    frames: Frames = flag("chunk", "How these frames are chosen.")
    masks: bool = flag(True, "Measure the share on the subject where the data set has masks.")
    weights: Weights = flag("auto", WEIGHTS)
    cameras: Cameras = flag("auto", CAMERAS)
    device: Device = flag("auto", "Where to compute.")


def explain(argv: Sequence[str]) -> int:
    (flags,) = parse("vkd explain", "Write heatmaps of a whole split as pictures.", argv, [ExplainFlags])
    from vkd.explain.dataset import explain_split

    networks = load_all(flags.checkpoints, flags.weights, device_of(flags.device))
    dataset = next(iter(networks.values())).config.dataset
    splits = read_data(flags.dataset, flags.root, flags.cameras, dataset)
    layer = (
        int(flags.layer) if flags.layer is not None and flags.layer.lstrip("-").isdecimal() else flags.layer
    )
    summary = explain_split(
        networks,
        splits.part(flags.part),
        flags.out,
        views=flags.views,
        frames=flags.frames,
        target=flags.target,
        method=flags.method,
        layer=layer,
        masks=splits.root if flags.masks and (splits.root / "masks").is_dir() else None,
        limit=flags.limit,
        progress=bar("heatmaps"),
    )
    print(f"{flags.out}: {summary['tracklets']} tracklets")
    for name, means in summary["networks"].items():
        share = means.get("on_subject")
        print(
            f"{name}: mean {flags.target} {means['value']:.3f}"
            + (f", {share:.1%} on the subject" if share else "")
        )
    return 0
