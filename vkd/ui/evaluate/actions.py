"""Actions of the Evaluate tab: datasets, start, cancel, results, queries, thresholds."""

import functools
from pathlib import Path
from typing import Any

import gradio as gr

from vkd.data.tracklets import PROTOCOLS
from vkd.evaluation import results_io
from vkd.evaluation.comparison import Comparison
from vkd.io.errors import VKDError
from vkd.jobs import evaluations
from vkd.jobs.evaluations import EvaluationRequest
from vkd.metrics import tables
from vkd.synthetic import generate
from vkd.ui import dataset, limits, plots, state
from vkd.ui.components import gradio_progress, relative_path
from vkd.ui.errors import show_errors
from vkd.ui.evaluate import results
from vkd.ui.state import AppPaths

SMALL_STREET: dict[str, Any] = {
    "train_identities": 8, "test_identities": 20, "cameras": 4, "frames": 8, "seed": 11, "masks": False
}  # fmt: skip
"""About 15 s to generate; its identities are in no training street."""
MAX_HITS = 50
MAX_NETWORKS = 8
NO_FOLDER = "A dataset folder is required, or generate a small synthetic test set."
_PROGRESS = gr.Progress()


# ---- dataset


def default_root(paths: AppPaths) -> str:
    """Returns the dataset to begin with: a street where there is one, else any, else ''."""
    folders = sorted(path for path in paths.data.glob("[!.]*") if path.is_dir())
    folders.sort(key=lambda path: (path.name != "street-small", not path.name.startswith("street")))
    return relative_path(str(folders[0])) if folders else ""


def show_data(paths: AppPaths, name: str, root: str, cameras: str) -> tuple[str, dict[str, Any]]:
    """Read a dataset and show its summary: a row for each split, and notes.

    `name` is a key of the datasets or `auto`, `root` its folder on the server, `cameras` is auto or none (the
    labels of a plain folder are ignored). As data: `rows`, `notes`, and `wrong` with the reader's message.
    """
    limits.refuse("reading other datasets is disabled")
    if not (root or "").strip():
        return dataset.why_html(NO_FOLDER, "vkd-detail"), {"rows": [], "notes": [], "wrong": NO_FOLDER}
    return dataset.show(paths, name, root, cameras, training=False)


@show_errors
def generate_street(paths: AppPaths, progress: gr.Progress = _PROGRESS) -> str:
    """Generate a small synthetic test set (20 test identities, 4 cameras) in data/street-small; answers with
    its folder. An existing one is kept.
    """
    limits.refuse("writing is disabled")
    root = paths.data / "street-small"
    if not (root / "street.json").is_file():
        generate.generate_street(root, **SMALL_STREET, progress=gradio_progress(progress))
    return relative_path(str(root))


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
    """Start an evaluation and answer with its name; it continues without this page, and queues for the
    device.

    `teacher`, `student` (one of them may be empty) and `others` are names of checkpoint folders; all are
    compared with the first. `data` is a key of the datasets or `auto`, `root` its folder, `protocols` are of
    i2v, v2v, i2i, v2i, `views` the frames per tracklet, `ap` is trapezoid or standard, `curves` asks for the
    ablation of 1, 2, 4, 8 gallery frames and query views, `cameras` is auto or none (the labels of a plain
    folder are ignored: nothing is junk).
    """
    limits.refuse("new evaluations are disabled")
    names = [name for name in (teacher, student, *(others or [])) if name]
    _check_request(names, protocols, ap, cameras, views, root)
    for name in names:
        state.checkpoint_folder(paths, name)
    dataset.summarise(data, root, cameras)
    request = EvaluationRequest(
        tuple(names), data, str(Path(root).expanduser().absolute()), tuple(protocols), int(views), ap,
        cameras, bool(curves),
    )  # fmt: skip
    return evaluations.start(paths.checkpoints, request).name


def _check_request(
    names: list[str], protocols: list[str], ap: str, cameras: str, views: float, root: str
) -> None:
    """Raises VKDError for a request that cannot be evaluated."""
    if not names:
        raise VKDError("No model is selected: choose a teacher or a student.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise VKDError(f"{twice[0]} is selected more than once.")
    if len(names) > MAX_NETWORKS:
        raise VKDError(f"{len(names)} models are selected: compare at most {MAX_NETWORKS} at a time.")
    if not protocols:
        raise VKDError("No protocol is selected.")
    for value, choices, what in (
        *((protocol, tuple(PROTOCOLS), "protocol") for protocol in protocols),
        (ap, ("trapezoid", "standard"), "AP interpolation"),
        (cameras, ("auto", "none"), "choice of cameras"),
    ):
        if value not in choices:
            raise VKDError(f"'{value}' is not a valid {what}: choose from {', '.join(choices)}.")
    if not 1 <= int(views) <= 256:
        raise VKDError(f"Frames per tracklet must be 1 to 256, not {views:g}.")
    if not (root or "").strip():
        raise VKDError(NO_FOLDER)


@show_errors
def cancel(paths: AppPaths, name: str) -> str:
    """Ask an evaluation to stop after its current batch; answers with its name."""
    limits.refuse("cancelling is disabled")
    evaluations.cancel(evaluations.folder_of(paths.checkpoints, name))
    return name


def list_jobs(paths: AppPaths) -> list[dict[str, Any]]:
    """List every evaluation, newest first: name, request, state, frames done of total, seconds left, why it
    ended.
    """
    rows = []
    for name in evaluations.names(paths.checkpoints):
        folder = evaluations.folder_of(paths.checkpoints, name)
        try:
            request = evaluations.read_request(folder)
        except ValueError:
            continue
        rows.append({"name": name, **vars(request), **vars(evaluations.status(folder))})
    return rows


def job_choices(paths: AppPaths) -> list[tuple[str, str]]:
    """Returns evaluations for a picker: date, dataset and models, and the name."""
    return [(_job_label(row), row["name"]) for row in list_jobs(paths)]


def _job_label(row: dict[str, Any]) -> str:
    name = row["name"]
    date = f"{name[:4]}-{name[4:6]}-{name[6:8]} {name[9:11]}:{name[11:13]}"
    when = "bundled" if name == evaluations.SHIPPED else date
    state_text = "" if row["state"] == "finished" else f" ({row['state']})"
    return f"{when} · {Path(row['root']).name}: {' vs '.join(row['checkpoints'])}{state_text}"


def default_job(paths: AppPaths) -> str | None:
    """Returns the evaluation to open with: one that runs, else the latest finished one."""
    rows = list_jobs(paths)
    opens = (*results.BUSY, "finished")
    return next((row["name"] for row in rows if row["state"] in opens), None)


@functools.lru_cache(maxsize=4)
def _load(folder: Path, changed: int) -> Comparison:
    return evaluations.load(folder)


def comparison(paths: AppPaths, name: str) -> tuple[Comparison, Path]:
    """Returns the results of an evaluation, cached, and its folder. Raises VKDError where there are none."""
    folder = evaluations.folder_of(paths.checkpoints, name)
    file = results_io.results_file(folder)
    return _load(folder, file.stat().st_mtime_ns if file.is_file() else 0), folder


@show_errors
def download(paths: AppPaths, name: str, format: str) -> str:  # noqa: A002
    """Return the results of an evaluation as text: `format` is JSON, CSV, Markdown or LaTeX."""
    formats = {title.lower(): suffix for title, suffix in results.FORMATS.items()}
    if (format or "").lower() not in formats:
        raise VKDError(f"'{format}' is not a format: choose from {', '.join(results.FORMATS)}.")
    return tables.WRITERS[formats[format.lower()]](comparison(paths, name)[0].results())


@show_errors
def show_query(
    paths: AppPaths, name: str, protocol: str, query: float, k: float
) -> tuple[str, dict[str, Any]]:
    """Show the ranked lists of one query of an evaluation, for each network its k best matches.

    Answers with the page's HTML and with the lists as JSON: AP, and rank (null for junk), similarity,
    identity, camera, verdict of each match.
    """
    if not 1 <= int(k) <= MAX_HITS:
        raise VKDError(f"Top-k must be 1 to {MAX_HITS}, not {k:g}.")
    compared, folder = comparison(paths, name)
    return results.ranked_html(compared, folder, compared.protocol(protocol), int(query), int(k))


@show_errors
def show_order(
    paths: AppPaths, name: str, protocol: str, order: str, base: str, other: str
) -> tuple[str, list[int]]:
    """Show the valid queries of an evaluation: `worst` first over all networks, or where the network `other`
    does worse (`loses`) or better (`gains`) than `base`; the first two networks where these are empty.

    Answers with the page's HTML and with the numbers of all queries.
    """
    compared, folder = comparison(paths, name)
    queries = compared.order(protocol, order, base, other)
    return results.queries_html(compared, folder, protocol, queries, next(iter(queries), None)), queries


@show_errors
def show_pair(
    paths: AppPaths, name: str, protocol: str, base: str, other: str
) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """Compare two networks of an evaluation, `other` with `base`; the first two where these are empty.

    Answers with the page's table, its downloads and its scatter plot, and with JSON: the pair, for how many
    queries each is better, and `differences`, of every network to `base`, by protocol and metric, as mean,
    low and high of the 95 % interval in fractions.
    """
    compared, _ = comparison(paths, name)
    pair = compared.pair(base, other)
    first, second = (compared.ap(each, compared.protocol(protocol)) for each in pair)
    data = {
        "base": pair[0],
        "other": pair[1],
        "better": {pair[0]: int((first > second).sum()), pair[1]: int((second > first).sum())},
        "differences": {
            name: {
                protocol: {metric: interval._asdict() for metric, interval in metrics.items()}
                for protocol, metrics in protocols.items()
            }
            for name, protocols in compared.gains(pair[0]).items()
        },
    }
    return (
        results.table_html(compared, pair[0]),
        results.downloads_html(compared, name, pair[0]),
        plots.drawing([plots.ap_scatter(compared, protocol, None, *pair)]),
        data,
    )


@show_errors
def show_threshold(
    paths: AppPaths, name: str, protocol: str, rate: float
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Show the verification threshold at an FPR in percent, for each network of an evaluation.

    Answers with the figure, the page's HTML, and the thresholds as JSON (rates in fractions).
    """
    compared, _ = comparison(paths, name)
    share, protocol = rate / 100, compared.protocol(protocol)
    return (
        plots.drawing([plots.similarities(compared, protocol, share)]),
        results.thresholds_html(compared, protocol, share),
        results.thresholds(compared, protocol, share),
    )
