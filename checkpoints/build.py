"""Makes everything under checkpoints/ anew: streets, trainings, scores, gallery, queries, evaluation.

    python checkpoints/build.py [--out checkpoints] [--data data] [--runs runs] [--workers 2]

Streets that exist are used, a run that was interrupted is resumed, a finished one is left alone.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from vkd.cli.options import progress_bar
from vkd.cli.train import train
from vkd.data import datasets
from vkd.data.tracklets import Tracklet
from vkd.evaluation import protocols, results_io
from vkd.evaluation.comparison import Comparison, evaluate_models
from vkd.explain.snapshots import FOLDER as SNAPSHOTS
from vkd.io.errors import VKDError
from vkd.io.files import evenly_spaced, replace_dir, staging_dir, write_text
from vkd.jobs import evaluations, events, runs
from vkd.jobs.evaluations import SHIPPED, EvaluationRequest
from vkd.metrics.bootstrap import Interval, paired_interval
from vkd.metrics.scores import Scores
from vkd.models import checkpoint
from vkd.models.inference import EmbedConfig
from vkd.retrieval import storage
from vkd.retrieval.gallery import Gallery
from vkd.synthetic.generate import generate_street
from vkd.training import settings as settings_io
from vkd.training.presets import PRESETS
from vkd.training.settings import Settings

TEACHER, STUDENT, CONTROL = (f"street-mobilenet-{role}" for role in ("teacher", "student", "control"))
UNSEEN = "street-unseen"
STREETS: dict[str, dict[str, Any]] = {
    "street": {"train_identities": 240, "test_identities": 60, "rings": 16, "seed": 0},
    UNSEEN: {"train_identities": 5, "test_identities": 100, "rings": 1, "seed": 2000},
}
"""The street to train on, and another with other identities and cameras, by which nothing is chosen."""
TITLES = {
    "street": "The training street's held-out identities under held-out cameras",
    UNSEEN: "A second street: other identities, other cameras",
}
FRAMES = 6
RESAMPLES = 10_000
GALLERY, QUERIES = "street-gallery", "street-queries"
VIEWS = 4
"""Frames of each gallery tracklet that are embedded and kept as thumbnails: small enough to ship."""
MAX_SNAPSHOTS = 12
TEMPLATE = Path(__file__).with_name("README.md.j2")

StreetScores = dict[str, dict[str, Scores]]
"""Network → protocol → scores."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all steps; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--workers", type=int, default=2)
    folders = parser.parse_args(argv)
    generate_streets(folders.data, folders.workers)
    if code := train_all(folders.data, folders.runs):
        return code
    shipped = ship_runs(folders.data, folders.runs, folders.out)
    scores = score_all(folders.data, folders.runs, shipped)
    build_demo(folders.data / UNSEEN, shipped[TEACHER], shipped[STUDENT], folders.out)
    ship_evaluation(folders.data, folders.runs, folders.out)
    print(report(folders.out, folders.runs, scores))
    return 0


def generate_streets(data: Path, workers: int) -> None:
    """Writes the streets that are missing."""
    for name, values in STREETS.items():
        if not (data / name / "street.json").is_file():
            generate_street(data / name, **values, frames=FRAMES, workers=workers, progress=progress_bar())


def train_all(data: Path, runs_dir: Path) -> int:
    """Trains the three presets one after another; returns the first exit code that is not 0."""
    teacher = ["--teacher", str(runs_dir / TEACHER)]
    for name, more in ((TEACHER, []), (STUDENT, teacher), (CONTROL, teacher)):
        if runs.status(runs_dir / name).state == "finished":
            continue
        folders = ["--root", str(data / "street"), "--folder", str(runs_dir / name)]
        if code := train([PRESETS[name].stage, "--preset", name, *folders, *more]):
            return code
    return 0


def ship_runs(data: Path, runs_dir: Path, out: Path) -> dict[str, Path]:
    """Copies the last weights of teacher and student as fp16, with their runs' records; name → folder."""
    folders = {}
    renamed = ((data, "data"), (runs_dir, "checkpoints"))
    words = {f"{path}/": f"{name}/" for folder, name in renamed for path in (folder.absolute(), folder)}
    for name in (TEACHER, STUDENT):
        trained = checkpoint.load(runs_dir / name, weights="model")
        folders[name] = out / name
        shutil.rmtree(folders[name], ignore_errors=True)
        parent = TEACHER if trained.config.parent else None
        checkpoint.save(folders[name], trained.net, replace(trained.config, parent=parent), half=True)
        settings, preset = settings_io.load(runs_dir / name / "settings.json"), PRESETS[name].settings()
        paths = {key: getattr(preset, key) for key in ("root", "teacher") if hasattr(preset, key)}
        ship_record(runs_dir / name, folders[name], settings.changed(**paths), words)
    return folders


def ship_record(run: Path, folder: Path, settings: Settings, words: Mapping[str, str]) -> None:
    """Copies the record of the run in `run` into `folder`, beside the weights there.

    `settings` are the run's own with folders that exist elsewhere; in the events each key of `words` (a
    folder of this machine) becomes its value. Raises VKDError for a run that is not finished.
    """
    rows, _ = events.read(run)
    if not rows or rows[-1]["kind"] != "finished":
        raise VKDError(f"{run} is not finished: its record cannot be shipped yet.")
    lines = [json.dumps(_renamed(row, words), separators=(",", ":")) for row in _without_empty_sittings(rows)]
    write_text(folder / "events.jsonl", "\n".join(lines) + "\n")
    settings_io.save(settings, folder / "settings.json")
    shutil.rmtree(folder / SNAPSHOTS, ignore_errors=True)
    if (run / SNAPSHOTS).is_dir():
        shutil.copytree(run / SNAPSHOTS, folder / SNAPSHOTS, ignore=shutil.ignore_patterns("[0-9]*", ".*"))
        newest_first = sorted((run / SNAPSHOTS).glob("[0-9]*"), reverse=True)
        for snapshot in evenly_spaced(newest_first, MAX_SNAPSHOTS):
            shutil.copytree(snapshot, folder / SNAPSHOTS / snapshot.name)
    left = ["training.pt", "best.safetensors", "log.txt"]
    write_text(folder / runs.RECORD, json.dumps({"left": left}, indent=1) + "\n")


def _without_empty_sittings(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drops the pairs started, finished of a finished run that was started again and had nothing to do."""
    out: list[dict[str, Any]] = []
    for row in rows:
        if row["kind"] == "finished" and out and out[-1]["kind"] == "started":
            out.pop()
        else:
            out.append(row)
    return out


def _renamed(value: Any, words: Mapping[str, str]) -> Any:
    """Replaces words in every string of a JSON value."""
    if isinstance(value, dict):
        return {key: _renamed(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, words) for item in value]
    if isinstance(value, str):
        for word, other in words.items():
            value = value.replace(word, other)
    return value


def score_all(data: Path, runs_dir: Path, shipped: Mapping[str, Path]) -> dict[str, StreetScores]:
    """Scores the three runs as trained, and the pair as it ships: street → network → protocol → scores."""
    folders = {name: runs_dir / name for name in (TEACHER, STUDENT, CONTROL)}
    folders |= {f"{name}, as shipped": folder for name, folder in shipped.items()}
    scores: dict[str, StreetScores] = {}
    for street in STREETS:
        splits = datasets.read_dataset("street", data / street)
        scores[street] = {}
        for name, folder in folders.items():
            trained = checkpoint.load(folder, weights="model")
            scores[street][name] = protocols.evaluate(trained.net, splits, EmbedConfig.of(trained.config))
    return scores


def ship_evaluation(data: Path, runs_dir: Path, out: Path) -> Path:
    """Compares teacher and student as trained on the second street; readable without that street."""
    names = (TEACHER, STUDENT)
    networks = {name: checkpoint.load(runs_dir / name, weights="model") for name in names}
    splits = datasets.read_dataset("street", data / UNSEEN)
    comparison = evaluate_models(networks, splits, resamples=RESAMPLES, progress=progress_bar("frame"))
    request = EvaluationRequest(names, "street", str(Path("data") / UNSEEN), tuple(comparison.query_gallery))
    return write_evaluation(comparison, out / SHIPPED, request, data)


def write_evaluation(comparison: Comparison, folder: Path, request: EvaluationRequest, above: Path) -> Path:
    """Writes an evaluation that the page opens as finished, with one thumbnail of each item.

    Frames are named relative to the folder `above`. Replaces an older evaluation in `folder`; raises VKDError
    for a folder of something else.
    """
    _check_replaceable(folder, "asked.json", "an evaluation")
    base = above.absolute()
    items = [
        item._replace(frames=(str(Path(item.frames[0]).absolute().relative_to(base)),))
        for item in comparison.items
    ]
    with staging_dir(folder) as staged:
        for frame in dict.fromkeys(frame for item in items for frame in item.frames):
            evaluations.write_thumbnail(staged, frame, above / frame)
        results_io.save(replace(comparison, items=items), staged)
        evaluations.write_finished(staged, request)
        replace_dir(staged, folder)
    return folder


def _check_replaceable(folder: Path, file: str, what: str) -> None:
    if folder.exists() and not (folder / file).is_file():
        raise VKDError(f"{folder} does not hold {what}: choose another folder, or empty it.")


class Query(NamedTuple):
    """A query to ship: its tracklet, how many of its images, and its look-alike group."""

    tracklet: Tracklet
    images: int
    group: int


def build_demo(
    street: Path, teacher: Path, student: Path, out: Path, *, identities: int = 30, queries: int = 8
) -> tuple[Path, Path]:
    """Writes the gallery and the queries (images, queries.json, masks) of the demo; returns both folders.

    The gallery holds every tracklet of the first `identities` test identities (whole look-alike groups, so
    that it is not easy), embedded by the checkpoints in `teacher` and `student`. Queries are spread evenly
    over identities and cameras rather than chosen by their result; every second one is a single image, the
    others are four views. A row of queries.json is {file, identity, camera, group}.
    """
    splits = datasets.read_dataset("street", street)
    people = json.loads((street / "street.json").read_text(encoding="utf-8"))["people"]
    groups = {int(identity): int(person["group"]) for identity, person in people.items()}
    _, items = splits.query_gallery("v2v")
    chosen = set(sorted({item.identity for item in items if item.identity > 0})[:identities])
    query = choose_queries([item for item in splits.query if item.identity in chosen], groups, queries)
    networks = {folder.name: checkpoint.load(folder) for folder in (teacher, student)}
    indexed = [item for item in items if item.identity in chosen]
    gallery = Gallery.build(out / GALLERY, indexed, networks, views=VIEWS, progress=progress_bar("item"))
    _make_relative(gallery.folder / "gallery.json", splits.root.absolute().parent)
    return gallery.folder, write_queries(out / QUERIES, query, splits.root)


def _make_relative(path: Path, above: Path) -> None:
    """Names frames relative to `above`, so that gallery.json does not contain paths of this machine."""
    table = storage.read(path)
    frames = tuple(tuple(str(Path(frame).relative_to(above)) for frame in item) for item in table.frames)
    storage.write(path, table.model_copy(update={"frames": frames}))


def choose_queries(tracklets: Sequence[Tracklet], groups: Mapping[int, int], count: int) -> list[Query]:
    """Chooses at most `count` query tracklets, evenly spread over identities, each from the next camera."""
    by_identity: dict[int, list[Tracklet]] = {}
    for tracklet in tracklets:
        by_identity.setdefault(tracklet.identity, []).append(tracklet)
    if not by_identity:
        raise VKDError("The street has no query tracklets of the gallery's identities: write a larger one.")
    out = []
    for index, identity in enumerate(evenly_spaced(sorted(by_identity), count)):
        views = sorted(by_identity[identity], key=lambda tracklet: tracklet.camera)
        out.append(Query(views[index % len(views)], 1 if index % 2 == 0 else VIEWS, groups.get(identity, -1)))
    return out


def write_queries(folder: Path, queries: Sequence[Query], street: Path | None = None) -> Path:
    """Copies the images, their masks in the street at `street`, and queries.json; replaces older ones."""
    _check_replaceable(folder, "queries.json", "a set of queries")
    with staging_dir(folder) as staged:
        (staged / "masks").mkdir()
        rows = []
        for query in queries:
            # Odd frames: the gallery's chunk rule takes the even ones.
            frames = (query.tracklet.frames[1::2] or query.tracklet.frames)[: query.images]
            for frame in map(Path, frames):
                shutil.copyfile(frame, staged / frame.name)
                if street is not None and (mask := datasets.mask_path(street, str(frame))).is_file():
                    shutil.copyfile(mask, staged / "masks" / mask.name)
                where = {"identity": query.tracklet.identity, "camera": query.tracklet.camera}
                rows.append({"file": frame.name, **where, "group": query.group})
        write_text(staged / "queries.json", json.dumps(rows, indent=1) + "\n")
        if not any((staged / "masks").iterdir()):
            (staged / "masks").rmdir()
        replace_dir(staged, folder)
    return folder


def report(out: Path, runs_dir: Path, scores: Mapping[str, StreetScores]) -> Path:
    """Writes scores.json and README.md: data, command, seeds, time and scores; returns README.md."""
    minutes = {name: _minutes(runs_dir / name) for name in (TEACHER, STUDENT, CONTROL)}
    streets = {street: _with_gains(networks) for street, networks in scores.items()}
    content = {"minutes": minutes, "streets": streets}
    write_text(out / "scores.json", json.dumps(content, indent=1) + "\n")
    return write_text(out / "README.md", render(content))


def render(content: Mapping[str, Any]) -> str:
    """Renders README.md of the content of scores.json."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        **content, titles=TITLES, seen=STREETS["street"], unseen=STREETS[UNSEEN], frames=FRAMES,
        resamples=f"{RESAMPLES:,}", teacher=TEACHER, student=STUDENT, control=CONTROL,
    )  # fmt: skip


def _with_gains(networks: StreetScores) -> dict[str, Any]:
    """Adds the differences in AP between the networks to one street's scores."""
    pairs = ((STUDENT, TEACHER), (CONTROL, TEACHER), (STUDENT, CONTROL))
    return {
        "networks": {name: {p: s.as_dict() for p, s in scores.items()} for name, scores in networks.items()},
        "gains": {
            f"{better} − {worse}": {p: _gain(networks, better, worse, p)._asdict() for p in networks[better]}
            for better, worse in pairs
        },
    }


def _gain(networks: StreetScores, better: str, worse: str, protocol: str) -> Interval:
    pair = (networks[name][protocol].ap for name in (better, worse))
    return paired_interval(*pair, resamples=RESAMPLES)


def _minutes(run: Path) -> float:
    """Returns the minutes that a run was at work, without the pauses between its sittings."""
    rows, _ = events.read(run)
    seconds = (b["time"] - a["time"] for a, b in pairwise(rows) if b["kind"] != "started")
    return round(sum(seconds) / 60, 1)


if __name__ == "__main__":
    sys.exit(main())
