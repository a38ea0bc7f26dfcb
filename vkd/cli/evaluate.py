"""`vkd evaluate`: scores models, compares them with the first, and writes tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from vkd.cli.options import DatasetOptions, Frames, ModelOptions, argument, flag, parse, progress_bar, refuse
from vkd.io.errors import CancelledError
from vkd.training.fields import Choice

if TYPE_CHECKING:
    from vkd.evaluation.comparison import Comparison
    from vkd.io.progress import Progress


def _protocols() -> Iterable[str]:
    from vkd.data.tracklets import PROTOCOLS

    return PROTOCOLS


class EvaluateFlags(ModelOptions, DatasetOptions):
    checkpoints: tuple[Path, ...] = argument(
        "Checkpoint folders: one, or several to compare with the first, the teacher.",
        min_length=1,
        max_length=8,
    )
    protocols: tuple[Annotated[str, Choice(_protocols)], ...] = flag(
        ("i2v", "v2v"), "Protocols, query2gallery: image (i) or video (v).", min_length=1
    )
    views: int = flag(8, "Frames per tracklet.", ge=1, le=256)
    frames: Frames = flag("chunk", "Rule by which the frames are chosen.")
    ap: Literal["trapezoid", "standard"] = flag(
        "trapezoid", "AP interpolation of the mAP column: trapezoid (as in the paper) or standard."
    )
    resamples: int = flag(10_000, "Resamples of the paired bootstrap.", ge=100, le=1_000_000)
    seed: int = flag(0, "Seed of the bootstrap.", ge=0)
    batch: int = flag(32, "Tracklets embedded at a time.", ge=1, le=4096)
    workers: int = flag(2, "DataLoader workers.", ge=0, le=64)
    json_file: Path | None = flag(None, "Write the results as JSON.", name="json")
    csv: Path | None = flag(None, "Write the results as CSV.")
    markdown: Path | None = flag(None, "Write the results as a Markdown table.")
    latex: Path | None = flag(None, "Write the results as a LaTeX table.")
    curves: bool = flag(False, "Also score 1, 2, 4 and 8 gallery frames and query views.")
    folder: Path | None = flag(None, "Folder for the whole evaluation and its progress.")
    wait: bool = flag(
        False,
        "With --folder: wait for the runs and evaluations queued earlier in the folder of the first "
        "checkpoint; evaluations that are started in the app always do.",
    )


def evaluate(argv: Sequence[str]) -> int:
    """Runs the verb; returns the exit code."""
    about = "Score a model; with several, also the differences to the first and their 95 % intervals."
    (flags,) = parse("vkd evaluate", about, argv, [EvaluateFlags])
    _check_names(flags)
    if flags.folder is None:
        return _report(flags, _compare(flags, progress_bar("frame")))
    from vkd.jobs import evaluations

    flags.folder.mkdir(parents=True, exist_ok=True)
    try:
        root = flags.checkpoints[0].absolute().parent if flags.wait else None
        with evaluations.recording(flags.folder, root, flags.device) as progress:
            comparison = _compare(flags, progress)
            evaluations.save(comparison, flags.folder)
    except CancelledError:
        return 3
    return _report(flags, comparison)


def _compare(flags: EvaluateFlags, progress: "Progress") -> "Comparison":
    from vkd.evaluation.comparison import COUNTS, evaluate_models

    networks = flags.load(flags.checkpoints)
    return evaluate_models(
        networks,
        flags.read(next(iter(networks.values())).config.dataset),
        protocols=flags.protocols,
        convention=flags.ap,
        counts=COUNTS if flags.curves else (),
        progress=progress,
        **flags.model_dump(include={"views", "frames", "batch", "workers", "resamples", "seed"}),
    )


def _report(flags: EvaluateFlags, comparison: "Comparison") -> int:
    """Writes the requested files, prints the table and the differences; returns 0."""
    from vkd.evaluation.comparison import difference_name
    from vkd.metrics import tables

    results = comparison.results()
    for path in filter(None, (flags.json_file, flags.csv, flags.markdown, flags.latex)):
        tables.export(results, path)
    print(tables.markdown(results).rstrip())
    first = next(iter(comparison.networks))
    for name, differences in comparison.differences.items():
        pair = difference_name(name, first)
        for protocol, intervals in differences.items():
            mean, low, high = (100 * number for number in intervals["map"])
            print(
                f"{protocol.upper()} mAP, {pair}: {mean:+.2f} points, "
                f"95 % interval {low:+.2f} to {high:+.2f} (paired bootstrap, {flags.resamples} resamples of "
                f"{comparison.scores[name][protocol].valid_queries} queries)"
            )
    return 0


def _check_names(flags: EvaluateFlags) -> None:
    for name, suffix in (("json_file", ".json"), ("csv", ".csv"), ("markdown", ".md"), ("latex", ".tex")):
        path = getattr(flags, name)
        if path is not None and path.suffix.lower() != suffix:
            refuse("vkd evaluate", f"--{name.removesuffix('_file')}: {path} must end in {suffix}")
