"""What the Evaluate tab does and answers: data sets, start, cancel, results, queries, thresholds."""

import functools
from pathlib import Path
from typing import Any

import gradio as gr

from vkd.data.tracklets import PROTOCOLS
from vkd.evaluation.comparison import Comparison
from vkd.io.errors import VKDError
from vkd.jobs import evaluations
from vkd.jobs.evaluations import EvaluationRequest
from vkd.metrics import tables
from vkd.synthetic import generate
from vkd.ui import dataset, limits, plots, state
from vkd.ui.errors import show_errors
from vkd.ui.evaluate import films, results
from vkd.ui.state import AppPaths

SMALL_STREET: dict[str, Any] = {
    "train_identities": 8, "test_identities": 20, "cameras": 4, "frames": 8, "seed": 11, "masks": False
}  # fmt: skip
"""About a quarter of a minute of drawing; its people are in no training street."""
MOST_HITS = 50
MOST_NETWORKS = 8
_PROGRESS = gr.Progress()


# ---- the data set


def data_folder(paths: AppPaths) -> Path:
    """Where data sets lie: `data`, beside the checkpoints."""
    return paths.checkpoints.absolute().parent / "data"


def first_root(paths: AppPaths) -> str:
    """The data set to begin with: a street where there is one, else any, else nothing."""
    found = sorted(path for path in data_folder(paths).glob("[!.]*") if path.is_dir())
    found.sort(key=lambda path: (path.name != "street-small", not path.name.startswith("street")))
    return _shown(found[0]) if found else ""


def _shown(path: Path) -> str:
    """A path as a person would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def show_data(name: str, root: str, cameras: str) -> tuple[str, dict[str, Any]]:
    """Read a data set and show its summary: a row for each split, and what to mind.

    `name` is a key of the data sets or `auto`, `root` its folder on the server's machine, `cameras` is auto
    or none (the labels of a plain folder are ignored). As data: `rows`, `notes`, and `wrong` with the
    reader's sentence.
    """
    limits.refuse("it reads no other data sets")
    if not (root or "").strip():
        sentence = "Give the folder of a data set, or write a small street to try with."
        return f'<p class="vkd-detail">{sentence}</p>', {"rows": [], "notes": [], "wrong": sentence}
    try:
        rows, notes = dataset.check(name, root, cameras)
    except (ValueError, OSError) as error:
        return dataset.wrong_html(str(error)), {"rows": [], "notes": [], "wrong": str(error)}
    return dataset.as_html(rows, []), {"rows": rows, "notes": notes, "wrong": ""}


@show_errors
def write_small_street(paths: AppPaths, progress: gr.Progress = _PROGRESS) -> str:
    """Write a small synthetic street (20 people to find, 4 cameras) into data/street-small; answers with its
    folder. One that is there is kept.
    """
    limits.refuse("it writes nothing")
    root = data_folder(paths) / "street-small"
    if not (root / "street.json").is_file():
        generate.generate_street(
            root, **SMALL_STREET, progress=lambda done, total, what: progress((done, total), desc=what)
        )
    return _shown(root)


# ---- evaluations


@show_errors
def start(
    paths: AppPaths,
    teacher: str,
    student: str,
    others: list[str] | None,
    data: str,
    root: str,
    protocols: list[str],
    views: float,
    ap: str,
    curves: bool,
    cameras: str,
) -> str:
    """Start an evaluation and answer with its name; it goes on without this page, and waits while a run or
    another evaluation has the device.

    `teacher`, `student` (one of them may be empty) and `others` are names of checkpoint folders; all are
    compared with the first. `data` is a key of the data sets or `auto`, `root` its folder, `protocols` are of
    i2v, v2v, i2i, v2i, `views` the frames that stand for a tracklet, `ap` is trapezoid or standard, `curves`
    asks for accuracy against 1, 2, 4, 8 gallery frames and query views, `cameras` is auto or none (the labels
    of a plain folder are ignored: nothing is junk).
    """
    limits.refuse("it evaluates nothing new")
    names = [name for name in (teacher, student, *(others or [])) if name]
    if not names:
        raise VKDError("No network is chosen: pick a teacher or a student.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise VKDError(f"{twice[0]} is chosen more than once: choose each of the checkpoints once.")
    if len(names) > MOST_NETWORKS:
        raise VKDError(f"{len(names)} checkpoints are chosen: compare up to {MOST_NETWORKS} at a time.")
    for name in names:
        state.checkpoint_folder(paths, name)
    if not protocols:
        raise VKDError("No protocol is chosen: tick one, for instance I2V.")
    if wrong := [name for name in protocols if name not in PROTOCOLS]:
        raise VKDError(f"'{wrong[0]}' is not a protocol: choose from {', '.join(PROTOCOLS)}.")
    if ap not in ("trapezoid", "standard"):
        raise VKDError(f"'{ap}' is no AP convention: choose trapezoid or standard.")
    if cameras not in ("auto", "none"):
        raise VKDError(f"'{cameras}' is no choice of cameras: choose auto or none.")
    if not 1 <= int(views) <= 256:
        raise VKDError(f"{views:g} frames cannot stand for a tracklet: choose 1 to 256.")
    if not (root or "").strip():
        raise VKDError("Give the folder of a data set, or write a small street to try with.")
    dataset.check(data, root, cameras)
    asked = EvaluationRequest(
        tuple(names), data, str(Path(root).expanduser().absolute()), tuple(protocols), int(views), ap,
        cameras, bool(curves),
    )  # fmt: skip
    return evaluations.start(paths.checkpoints, asked).name


@show_errors
def cancel(paths: AppPaths, name: str) -> str:
    """Ask an evaluation to stop after its current batch; answers with its name."""
    limits.refuse("it cancels nothing")
    evaluations.cancel(evaluations.folder_of(paths.checkpoints, name))
    return name


def list_jobs(paths: AppPaths) -> list[dict[str, Any]]:
    """Every evaluation, newest first: name, what was asked, state, frames done of total, seconds left, why it
    ended.
    """
    rows = []
    for name in evaluations.names(paths.checkpoints):
        folder = evaluations.folder_of(paths.checkpoints, name)
        try:
            asked = evaluations.read_request(folder)
        except ValueError:
            continue
        rows.append({"name": name, **vars(asked), **vars(evaluations.status(folder))})
    return rows


def job_choices(paths: AppPaths) -> list[tuple[str, str]]:
    """Evaluations for a picker: when and on what, and the plain name."""
    found = [(row["name"], Path(row["root"]).name) for row in list_jobs(paths)]
    return [(f"{_when(name)} · {on}", name) for name, on in found]


def _when(name: str) -> str:
    if name == evaluations.SHIPPED:
        return "came with the app"
    return f"{name[6:8]}.{name[4:6]}. {name[9:11]}:{name[11:13]}:{name[13:15]}"


@functools.lru_cache(maxsize=4)
def _loaded(folder: Path, changed: int) -> Comparison:
    return evaluations.load(folder)


def comparison(paths: AppPaths, name: str) -> tuple[Comparison, Path]:
    """The results of an evaluation, kept in memory, and its folder; a ValueError where there are none."""
    folder = evaluations.folder_of(paths.checkpoints, name)
    file = folder / "comparison.json"
    return _loaded(folder, file.stat().st_mtime_ns if file.is_file() else 0), folder


@show_errors
def download(paths: AppPaths, name: str, format: str) -> str:  # noqa: A002
    """The results of an evaluation as text: `format` is JSON, CSV, Markdown or LaTeX."""
    formats = {title.lower(): suffix for title, suffix in results.FORMATS.items()}
    if (format or "").lower() not in formats:
        raise VKDError(f"'{format}' is no format: choose from {', '.join(results.FORMATS)}.")
    return tables.WRITERS[formats[format.lower()]](comparison(paths, name)[0].results())


@show_errors
def show_query(
    paths: AppPaths, name: str, protocol: str, query: float, k: float
) -> tuple[str, dict[str, Any]]:
    """The ranked lists of one query of an evaluation, for each network its k best matches.

    Answers with the page's HTML and with the lists as JSON: AP, and rank (null for junk), similarity,
    identity, camera, verdict of each match.
    """
    found, folder = comparison(paths, name)
    if not 1 <= int(k) <= MOST_HITS:
        raise VKDError(f"{k:g} matches cannot be shown: choose 1 to {MOST_HITS}.")
    return films.lists_html(found, folder, found.protocol(protocol), int(query), int(k))


@show_errors
def show_order(
    paths: AppPaths, name: str, protocol: str, order: str, base: str, other: str
) -> tuple[str, list[int]]:
    """The valid queries of an evaluation: `worst` first over all networks, or where the network `other` does
    worse (`loses`) or better (`gains`) than `base`; the first two networks where these are empty.

    Answers with the page's HTML and with the numbers of all queries.
    """
    found, folder = comparison(paths, name)
    queries = found.order(protocol, order, base, other)
    return films.queries_html(found, folder, protocol, queries, queries[0] if queries else None), queries


@show_errors
def show_pair(
    paths: AppPaths, name: str, protocol: str, base: str, other: str
) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """Set two networks of an evaluation against each other, `other` against `base`; the first two where these
    are empty.

    Answers with the page's table, its downloads and the data of the scatter plot, and with JSON: the pair,
    for how many queries each is better, and `differences`, of every network to `base`, by protocol and
    metric, as mean, low and high of the 95 % interval in fractions.
    """
    found, _ = comparison(paths, name)
    pair = found.pair(base, other)
    first, second = (found.ap(each, found.protocol(protocol)) for each in pair)
    data = {
        "base": pair[0],
        "other": pair[1],
        "better": {pair[0]: int((first > second).sum()), pair[1]: int((second > first).sum())},
        "differences": {
            name: {
                protocol: {metric: interval._asdict() for metric, interval in metrics.items()}
                for protocol, metrics in protocols.items()
            }
            for name, protocols in found.gains(pair[0]).items()
        },
    }
    return (
        results.table_html(found, pair[0]),
        results.downloads_html(found, name, pair[0]),
        plots.scatter(found, protocol, None, *pair),
        data,
    )


@show_errors
def show_threshold(
    paths: AppPaths, name: str, protocol: str, rate: float
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The threshold of 'same or not' at a false-positive rate in percent, for each network of an evaluation.

    Answers with the figure's data, the page's HTML, and the thresholds as JSON (rates in fractions).
    """
    found, _ = comparison(paths, name)
    share, protocol = rate / 100, found.protocol(protocol)
    return (
        plots.pairs(found, protocol, share),
        results.thresholds_html(found, protocol, share),
        results.thresholds(found, protocol, share),
    )
