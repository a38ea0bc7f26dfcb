"""A comparison on disk: numbers as JSON and arrays; embeddings stay there until a list asks for them.

A digest has the beginnings of its ranked lists in `lists.npz` instead of the embeddings.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from vkd.data.tracklets import Tracklet
from vkd.evaluation.comparison import Comparison, NetworkInfo
from vkd.evaluation.digest import Digest
from vkd.io.errors import VKDError
from vkd.metrics.bootstrap import Interval
from vkd.metrics.scores import Scores
from vkd.metrics.verification import PairScores

_LISTS = "lists.npz"
_ARRAYS = ("cmc", "first_match", "nearest")
_TERMS = ("protocol", "dataset", "queries", "gallery", "valid_queries", "convention", "queries_in_gallery")


def write_json(path: Path, value: Any) -> None:
    """The file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)


def save(comparison: Comparison, folder: Path) -> None:
    """Write a comparison into a folder; `comparison.json` comes last, so that what has it is complete."""
    arrays: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    for number, (name, found) in enumerate(comparison.scores.items()):
        if name in comparison.features:
            np.save(folder / f"features-{number}.npy", comparison.features[name])
        scores[name] = {}
        for protocol, each in found.items():
            scores[name][protocol] = {term: getattr(each, term) for term in _TERMS} | each.numbers()
            key, pairs = f"{number}/{protocol}", comparison.pairs[name][protocol]
            arrays |= {f"{key}/{part}": getattr(each, part) for part in _ARRAYS}
            arrays |= {f"{key}/per_query/{metric}": values for metric, values in each.per_query.items()}
            arrays |= {f"{key}/true": pairs.genuine, f"{key}/false": pairs.impostor}
    for protocol, (query, gallery) in comparison.query_gallery.items():
        arrays |= {f"{protocol}/query": query, f"{protocol}/gallery": gallery}
    np.savez_compressed(folder / "arrays.npz", **arrays)
    if isinstance(comparison, Digest):
        np.savez_compressed(folder / _LISTS, **_by_number(comparison))
    write_json(folder / "items.json", [list(item) for item in comparison.items])
    write_json(
        folder / "comparison.json",
        {
            "dataset": comparison.dataset,
            "convention": comparison.convention,
            "views": comparison.views,
            "networks": {name: known._asdict() for name, known in comparison.networks.items()},
            "scores": scores,
            "curves": comparison.curves,
            "differences": comparison.differences,
            "names": comparison.names,
        },
    )


def _by_number(digest: Digest) -> dict[str, Any]:
    """Its lists as arrays: number of the network/protocol/items or cosines."""
    return {
        f"{number}/{protocol}/{part}": array
        for number, protocols in enumerate(digest.lists.values())
        for protocol, pair in protocols.items()
        for part, array in zip(("items", "cosines"), pair, strict=True)
    }


def load(folder: Path) -> Comparison:
    """Read a comparison again; embeddings stay on disk until a ranked list asks for them.

    Raises ValueError for an evaluation that is not finished or whose files are damaged.
    """
    if not (folder / "comparison.json").is_file():
        raise VKDError(f"The evaluation {folder.name} has no results: it is not finished, or ended early.")
    try:
        return _load(folder)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise VKDError(f"The results in {folder} are damaged ({error}): evaluate again.") from None


def _lists(folder: Path, names: list[str], protocols: list[str]) -> dict[str, Any]:
    """The lists of a digest; nothing for a comparison that has its embeddings."""
    if not (folder / _LISTS).is_file():
        return {}
    with np.load(folder / _LISTS, allow_pickle=False) as arrays:
        lists = {
            name: {p: (arrays[f"{number}/{p}/items"], arrays[f"{number}/{p}/cosines"]) for p in protocols}
            for number, name in enumerate(names)
        }
    return {"lists": lists}


def _scores(plain: Mapping[str, Any], arrays: Mapping[str, Any], key: str) -> Scores:
    first_match = arrays[f"{key}/first_match"]
    start = f"{key}/per_query/"
    per_query = {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
    if not per_query:  # as version 0.1.0 wrote it
        valid = first_match > 0
        per_query = {
            "map": arrays[f"{key}/ap_{plain['convention']}"],
            "map_trapezoid": arrays[f"{key}/ap_trapezoid"],
            "map_standard": arrays[f"{key}/ap_standard"],
            "minp": arrays[f"{key}/inp"],
            **{f"top{k}": np.where(valid, first_match <= k, np.nan) for k in (1, 5, 10, 20)},
        }
    return Scores(
        **{term: plain[term] for term in _TERMS},
        **{part: arrays[f"{key}/{part}"] for part in _ARRAYS},
        per_query=per_query,
    )


def _load(folder: Path) -> Comparison:
    told = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    items = json.loads((folder / "items.json").read_text(encoding="utf-8"))
    scores: dict[str, dict[str, Scores]] = {}
    pairs: dict[str, dict[str, PairScores]] = {}
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        for number, (name, found) in enumerate(told["scores"].items()):
            keys = {protocol: f"{number}/{protocol}" for protocol in found}
            scores[name] = {
                protocol: _scores(plain, arrays, keys[protocol]) for protocol, plain in found.items()
            }
            pairs[name] = {
                p: PairScores(arrays[f"{key}/true"], arrays[f"{key}/false"]) for p, key in keys.items()
            }
        protocols = next(iter(scores.values()))
        query_gallery = {p: (arrays[f"{p}/query"], arrays[f"{p}/gallery"]) for p in protocols}
    kept = _lists(folder, list(scores), list(protocols))
    return (Digest if kept else Comparison)(
        dataset=told["dataset"],
        convention=told["convention"],
        views=told["views"],
        networks={name: NetworkInfo(**each) for name, each in told["networks"].items()},
        scores=scores,
        pairs=pairs,
        curves={
            name: {
                protocol: {kind: {int(n): each for n, each in line.items()} for kind, line in lines.items()}
                for protocol, lines in found.items()
            }
            for name, found in told["curves"].items()
        },
        differences={
            name: {
                p: {metric: Interval(*each) for metric, each in metrics.items()}
                for p, metrics in found.items()
            }
            for name, found in told["differences"].items()
        },
        items=[Tracklet(tuple(frames), identity, camera) for frames, identity, camera in items],
        query_gallery=query_gallery,
        features={
            name: np.load(folder / f"features-{number}.npy", mmap_mode="r")
            for number, name in enumerate(told["scores"])
            if not kept
        },
        **kept,
        names={int(identity): name for identity, name in told["names"].items()},
    )
