"""`vkd street` and `vkd evaluate`: one call into the library each, its answer printed."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from vkd.cli.options import argument, bar, flag, parse, refuse
from vkd.io.errors import CancelledError, VKDError
from vkd.training.settings import Choice

if TYPE_CHECKING:
    from vkd.data.tracklets import Splits
    from vkd.evaluation.comparison import Comparison, Progress
    from vkd.models.checkpoint import Checkpoint


def _datasets() -> Iterable[str]:
    from vkd.data.datasets import DATASETS

    return DATASETS


def _frames() -> Iterable[str]:
    from vkd.data.sampling import FRAMES

    return FRAMES


def _protocols() -> Iterable[str]:
    from vkd.data.tracklets import PROTOCOLS

    return PROTOCOLS


def _layouts() -> Iterable[str]:
    from vkd.synthetic.layouts import LAYOUTS

    return LAYOUTS


Datasets = Annotated[str, Choice(_datasets, ("auto",))]
Frames = Annotated[str, Choice(_frames)]
Device = Literal["auto", "cpu", "cuda"]
Weights = Literal["auto", "model", "best"]
Cameras = Literal["auto", "none"]

CAMERAS = "Use the camera labels of a plain folder, or none: then nothing is junk."
WEIGHTS = "Weights of a checkpoint: the last (model), the best, or auto: the best where there is one."
DATASET = "Data set; auto tells it by the files."


class StreetFlags(pydantic.BaseModel):
    root: Path = argument("Folder to write; must be new or empty.")
    layout: Annotated[str, Choice(_layouts)] = flag("mars", "Benchmark whose files are imitated.")
    train_identities: int = flag(60, "People to train with.", ge=1, le=4999)
    test_identities: int = flag(50, "Other people to test with.", ge=1, le=4999)
    group: int = flag(5, "People who share their clothes.", ge=1, le=1000)
    cameras: int = flag(6, "Cameras.", ge=2, le=9)
    rings: int = flag(
        1,
        "Rings of cameras for the training people; above 1 the test people have a ring of their own.",
        ge=1,
        le=100,
    )
    frames: int = flag(8, "Pictures in a tracklet.", ge=1, le=999)
    tracklets_per_camera: int = flag(1, "Tracklets of a person in each camera.", ge=1, le=99)
    size: tuple[int, int] = flag((128, 64), "Height and width of a picture in pixels.")
    seed: int = flag(0, "The same seed gives the same bytes.", ge=0)
    difficulty: float = flag(0.5, "How alike groups are, how bad cameras and boxes.", ge=0, le=1)
    distractors: int = flag(0, "Tracklets of strangers in the gallery (MARS layout).", ge=0, le=999)
    junk: int = flag(0, "Tracklets without a person (MARS layout).", ge=0, le=999)
    masks: bool = flag(True, "Write the mask of each subject too.")
    workers: int = flag(1, "Processes that draw.", ge=1, le=256)


def street(argv: Sequence[str]) -> int:
    (flags,) = parse("vkd street", "Write the synthetic street.", argv, [StreetFlags])
    from vkd.data import datasets
    from vkd.synthetic.generate import write_street

    if min(flags.size) < 16 or max(flags.size) > 1024:
        refuse("vkd street", "--size: height and width must be from 16 to 1024 pixels")
    if flags.layout != "mars" and (flags.distractors or flags.junk):
        refuse("vkd street", "--layout: only mars has distractors and junk")
    values = flags.model_dump()
    root = write_street(values.pop("root"), **values, progress=bar("people"))
    layout = flags.layout if flags.layout != "mars" else "street"
    print(f"{root}\n{datasets.summary_table(datasets.read_dataset(layout, root, check=False))}")
    return 0


class EvaluateFlags(pydantic.BaseModel):
    checkpoints: tuple[Path, ...] = argument(
        "Checkpoint folders: one, or several to compare with the first, the teacher.",
        min_length=1,
        max_length=8,
    )
    dataset: Datasets = flag("auto", DATASET)
    root: Path | None = flag(
        None, "Folder of the data set; none: data/ and the name of the checkpoint's own."
    )
    protocols: tuple[Annotated[str, Choice(_protocols)], ...] = flag(
        ("i2v", "v2v"), "Image or video against image or video.", min_length=1
    )
    views: int = flag(8, "Frames that represent a tracklet.", ge=1, le=256)
    frames: Frames = flag("chunk", "How these frames are chosen.")
    ap: Literal["trapezoid", "standard"] = flag(
        "trapezoid", "Average precision of the mAP column: as the published numbers, or as most toolkits."
    )
    weights: Weights = flag("auto", WEIGHTS)
    cameras: Cameras = flag("auto", CAMERAS)
    resamples: int = flag(10_000, "Resamples of the paired bootstrap.", ge=100, le=1_000_000)
    seed: int = flag(0, "Seed of the bootstrap.", ge=0)
    batch: int = flag(32, "Tracklets embedded at a time.", ge=1, le=4096)
    workers: int = flag(2, "Processes that read pictures.", ge=0, le=64)
    device: Device = flag("auto", "Where to compute.")
    json_file: Path | None = flag(None, "Write the results as JSON.", name="json")
    csv: Path | None = flag(None, "Write the results as CSV.")
    markdown: Path | None = flag(None, "Write the results as a Markdown table.")
    latex: Path | None = flag(None, "Write the results as a LaTeX table.")
    curves: bool = flag(False, "Also score 1, 2, 4 and 8 gallery frames and query views.")
    folder: Path | None = flag(None, "Keep all that was found, and how far the work is, in this folder.")
    wait: bool = flag(
        False,
        "With --folder: wait until the runs and evaluations that asked earlier in the folder of the first "
        "checkpoint have left the device; evaluations that are started in the app always do.",
    )


def device_of(name: str) -> str:
    """auto, cpu or cuda → a device that is there; raises ValueError for a CUDA device that is not."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise VKDError("There is no CUDA device here: choose device auto or cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def load_all(folders: Sequence[Path], weights: Weights, device: str) -> "dict[str, Checkpoint]":
    """Name → checkpoint, in the order given. Raises ValueError for two folders of one name."""
    from vkd.models import checkpoint

    found = [checkpoint.load(folder, weights=weights, device=device) for folder in folders]
    named = {each.name: each for each in found}
    if len(named) < len(found):
        raise VKDError("The checkpoint folders need different names: they name the networks in the results.")
    return named


def read_data(dataset: str, root: Path | None, cameras: Cameras, config_dataset: str) -> "Splits":
    """The data set that the flags mean; without a root that of the checkpoint, under data/."""
    from vkd.data import datasets

    if root is None:
        name = dataset if dataset != "auto" else config_dataset
        if not name:
            raise VKDError("The checkpoint does not say its data set: give --root.")
        root = Path("data") / name
    options = {} if cameras == "auto" else {"cameras": cameras}
    return datasets.read_dataset(dataset, root, **options)  # pyright: ignore[reportArgumentType]


def evaluate(argv: Sequence[str]) -> int:
    about = "Score a network; with more, also the differences to the first and their 95 % intervals."
    (flags,) = parse("vkd evaluate", about, argv, [EvaluateFlags])
    _check_names(flags)
    if flags.folder is None:
        return _report(flags, _compare(flags, meter()))
    from vkd.jobs import evaluations

    flags.folder.mkdir(parents=True, exist_ok=True)
    try:
        root = flags.checkpoints[0].absolute().parent if flags.wait else None
        with evaluations.recording(flags.folder, root, flags.device) as progress:
            found = _compare(flags, progress)
            evaluations.save(found, flags.folder)
    except CancelledError:
        return 3
    return _report(flags, found)


def _compare(flags: EvaluateFlags, progress: "Progress") -> "Comparison":
    from vkd.evaluation.comparison import COUNTS, compare

    networks = load_all(flags.checkpoints, flags.weights, device_of(flags.device))
    first = next(iter(networks.values())).config
    return compare(
        networks,
        read_data(flags.dataset, flags.root, flags.cameras, first.dataset),
        protocols=flags.protocols,
        views=flags.views,
        frames=flags.frames,
        batch=flags.batch,
        workers=flags.workers,
        convention=flags.ap,
        counts=COUNTS if flags.curves else (),
        resamples=flags.resamples,
        seed=flags.seed,
        progress=progress,
    )


def meter() -> "Progress":
    """A progress bar over frames, on a terminal only."""
    from tqdm import tqdm

    shown = tqdm(leave=False, disable=not sys.stderr.isatty(), dynamic_ncols=True, unit="frame")

    def told(done: int, total: int, network: str) -> None:
        shown.total = total
        shown.set_description(network, refresh=False)
        shown.update(done - shown.n)
        if done == total:
            shown.close()

    return told


def _report(flags: EvaluateFlags, found: "Comparison") -> int:
    """Write the files asked for, print the table and what the differences are."""
    from vkd.metrics import tables

    results = found.results()
    for path in filter(None, (flags.json_file, flags.csv, flags.markdown, flags.latex)):
        tables.export(results, path)
    print(tables.markdown(results).rstrip())
    first = next(iter(found.networks))
    for name, differences in found.differences.items():
        pair = "student − teacher" if len(found.differences) == 1 else f"{name} − {first}"
        for protocol, intervals in differences.items():
            mean, low, high = (100 * number for number in intervals["map"])
            print(
                f"{protocol.upper()} mAP, {pair}: {mean:+.2f} points, "
                f"95 % interval {low:+.2f} to {high:+.2f} (paired bootstrap, {flags.resamples} resamples of "
                f"{found.scores[name][protocol].valid_queries} queries)"
            )
    return 0


def _check_names(flags: EvaluateFlags) -> None:
    for name, suffix in (("json_file", ".json"), ("csv", ".csv"), ("markdown", ".md"), ("latex", ".tex")):
        path = getattr(flags, name)
        if path is not None and path.suffix.lower() != suffix:
            refuse("vkd evaluate", f"--{name.removesuffix('_file')}: {path} must end in {suffix}")
