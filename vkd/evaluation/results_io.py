"""Comparisons on disk: results/ with comparison.json, items.json, arrays.npz and lists.npz.

Version 0.1.0 wrote these files into the evaluation's folder itself, and embeddings (features-*.npy) instead
of lists.npz; such evaluations can be read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pydantic

from vkd.data.tracklets import Tracklet
from vkd.evaluation.comparison import Comparison, NetworkInfo, RankedLists, ranked_lists
from vkd.evaluation.protocols import Curves
from vkd.io.errors import VKDError
from vkd.io.files import replace_dir, staging_dir
from vkd.metrics.bootstrap import Interval
from vkd.metrics.scores import Scores
from vkd.metrics.verification import PairScores

RESULTS = "results"
_ARRAYS = ("cmc", "first_match", "nearest")
_SIMILARITY = 1e-4
"""Similarities in lists.npz are whole numbers of this unit."""


class TermsRecord(pydantic.BaseModel):
    """Fields of `Scores` that are not arrays."""

    protocol: str
    dataset: str
    queries: int
    gallery: int
    valid_queries: int
    convention: str
    queries_in_gallery: bool


class ComparisonRecord(pydantic.BaseModel):
    """comparison.json: see `Comparison`."""

    version: int = 1
    dataset: str
    convention: str
    views: int
    networks: dict[str, NetworkInfo]
    scores: dict[str, dict[str, TermsRecord]]
    curves: dict[str, dict[str, Curves]]
    differences: dict[str, dict[str, dict[str, Interval]]]
    names: dict[int, str] = {}

    @pydantic.field_validator("networks", mode="before")
    @classmethod
    def _networks(cls, networks: Mapping[str, Any]) -> dict[str, NetworkInfo]:
        return {name: NetworkInfo(**each) for name, each in networks.items()}


_ITEMS = pydantic.TypeAdapter(list[Tracklet])


def results_file(folder: Path) -> Path:
    """Returns the path of comparison.json, which exists once there are results."""
    new = folder / RESULTS / "comparison.json"
    old = folder / "comparison.json"
    return old if old.is_file() and not new.is_file() else new


def save(comparison: Comparison, folder: Path) -> None:
    """Writes a comparison into an evaluation's folder; older results are replaced whole or not at all."""
    arrays: dict[str, Any] = {}
    lists: dict[str, Any] = {}
    for number, (name, protocols) in enumerate(comparison.scores.items()):
        for protocol, scores in protocols.items():
            key, pairs = f"{number}/{protocol}", comparison.pairs[name][protocol]
            arrays |= {f"{key}/{part}": getattr(scores, part) for part in _ARRAYS}
            arrays |= {f"{key}/per_query/{metric}": values for metric, values in scores.per_query.items()}
            arrays |= {f"{key}/true": pairs.genuine, f"{key}/false": pairs.impostor}
            ranked = comparison.lists[name][protocol]
            cosines = np.round(ranked.similarities / _SIMILARITY).astype(np.int16)
            lists |= {f"{key}/items": ranked.items, f"{key}/cosines": cosines}
    for protocol, (query, gallery) in comparison.query_gallery.items():
        arrays |= {f"{protocol}/query": query, f"{protocol}/gallery": gallery}
    record = {
        "version": 1,
        "dataset": comparison.dataset,
        "convention": comparison.convention,
        "views": comparison.views,
        "networks": {name: info._asdict() for name, info in comparison.networks.items()},
        "scores": {
            name: {
                protocol: {term: getattr(scores, term) for term in TermsRecord.model_fields}
                | scores.numbers()
                for protocol, scores in protocols.items()
            }
            for name, protocols in comparison.scores.items()
        },
        "curves": comparison.curves,
        "differences": comparison.differences,
        "names": comparison.names,
    }
    with staging_dir(folder / RESULTS) as staged:
        np.savez_compressed(staged / "arrays.npz", **arrays)
        np.savez_compressed(staged / "lists.npz", **lists)
        for name, value in (("items", [list(item) for item in comparison.items]), ("comparison", record)):
            (staged / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        replace_dir(staged, folder / RESULTS)


def load(folder: Path) -> Comparison:
    """Reads a comparison.

    Raises VKDError for an evaluation that is not finished or whose files are damaged.
    """
    file = results_file(folder)
    if not file.is_file():
        raise VKDError(f"The evaluation {folder.name} has no results: it is not finished, or ended early.")
    try:
        return _load(file.parent)
    except (OSError, ValueError, KeyError, TypeError, IndexError, BadZipFile) as error:
        raise VKDError(f"The results in {folder} are damaged ({error}): evaluate again.") from None


def _load(folder: Path) -> Comparison:
    record = ComparisonRecord.model_validate_json((folder / "comparison.json").read_bytes())
    items = _ITEMS.validate_json((folder / "items.json").read_bytes())
    scores: dict[str, dict[str, Scores]] = {}
    pairs: dict[str, dict[str, PairScores]] = {}
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        for number, (name, protocols) in enumerate(record.scores.items()):
            keys = {protocol: f"{number}/{protocol}" for protocol in protocols}
            scores[name] = {p: _scores(protocols[p], arrays, key) for p, key in keys.items()}
            pairs[name] = {
                p: PairScores(arrays[f"{key}/true"], arrays[f"{key}/false"]) for p, key in keys.items()
            }
        query_gallery = {
            p: (arrays[f"{p}/query"], arrays[f"{p}/gallery"]) for p in next(iter(record.scores.values()))
        }
    return Comparison(
        dataset=record.dataset,
        convention=record.convention,
        views=record.views,
        networks=record.networks,
        scores=scores,
        pairs=pairs,
        curves=record.curves,
        differences=record.differences,
        items=items,
        query_gallery=query_gallery,
        lists=_lists(folder, list(record.scores), items, query_gallery),
        names=record.names,
    )


def _scores(terms: TermsRecord, arrays: Mapping[str, Any], key: str) -> Scores:
    first_match = arrays[f"{key}/first_match"]
    start = f"{key}/per_query/"
    per_query = {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
    if not per_query:  # as version 0.1.0 wrote it
        per_query = {
            "map": arrays[f"{key}/ap_{terms.convention}"],
            "map_trapezoid": arrays[f"{key}/ap_trapezoid"],
            "map_standard": arrays[f"{key}/ap_standard"],
            "minp": arrays[f"{key}/inp"],
            **{f"top{k}": np.where(first_match > 0, first_match <= k, np.nan) for k in (1, 5, 10, 20)},
        }
    return Scores(
        **terms.model_dump(),
        cmc=arrays[f"{key}/cmc"],
        per_query=per_query,
        first_match=first_match,
        nearest=arrays[f"{key}/nearest"],
    )


def _lists(
    folder: Path, names: list[str], items: list[Tracklet], query_gallery: Mapping[str, tuple[Any, Any]]
) -> dict[str, dict[str, RankedLists]]:
    if not (folder / "lists.npz").is_file():  # as version 0.1.0 wrote it: embeddings
        lists: dict[str, dict[str, RankedLists]] = {}
        for number, name in enumerate(names):
            features = np.load(folder / f"features-{number}.npy", allow_pickle=False)
            lists[name] = {p: ranked_lists(features, items, *rows) for p, rows in query_gallery.items()}
        return lists
    with np.load(folder / "lists.npz", allow_pickle=False) as arrays:
        return {
            name: {
                p: RankedLists(
                    arrays[f"{number}/{p}/items"],
                    np.float32(_SIMILARITY) * arrays[f"{number}/{p}/cosines"].astype(np.float32),
                )
                for p in query_gallery
            }
            for number, name in enumerate(names)
        }
