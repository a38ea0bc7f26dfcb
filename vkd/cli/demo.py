"""`vkd demo`: everything that ships under checkpoints/, made anew from nothing by one command."""

import json
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from vkd.cli.options import argument, bar, flag, parse

if TYPE_CHECKING:
    from vkd.metrics.bootstrap import Interval
    from vkd.metrics.scores import Scores

TEACHER, STUDENT, CONTROL = (f"street-mobilenet-{role}" for role in ("teacher", "student", "control"))
UNSEEN = "street-unseen"
STREETS: dict[str, dict[str, Any]] = {
    "street": {"train_identities": 240, "test_identities": 60, "rings": 16, "seed": 0},
    UNSEEN: {"train_identities": 5, "test_identities": 100, "rings": 1, "seed": 2000},
}
"""The street to train on, and another with other people and other cameras, which nothing is chosen by."""
FRAMES = 6
RESAMPLES = 10_000


class DemoFlags(pydantic.BaseModel):
    out: Path = argument("Folder that gets the pair, gallery, queries, evaluation and README.md.")
    data: Path = flag(Path("data"), "Folder of the streets; those that are there are taken.")
    runs: Path = flag(Path("runs"), "Folder of the three training runs; what is there goes on.")
    workers: int = flag(2, "Processes that draw the streets.", ge=1, le=64)


def demo(argv: Sequence[str]) -> int:
    about = "Draw two streets, train teacher, student and control, score them, and write the demo that ships."
    (flags,) = parse("vkd demo", about, argv, [DemoFlags])
    _streets(flags)
    code = _train(flags)
    if code:
        return code
    half = _ship(flags)
    scores = _scores(flags, half)
    from vkd.cli.demo_gallery import build_demo

    build_demo(flags.data / UNSEEN, half[TEACHER], half[STUDENT], flags.out, progress=bar("gallery"))
    _evaluation(flags)
    report(flags.out, flags.runs, scores)
    print(f"{flags.out / 'README.md'}")
    return 0


def _streets(flags: DemoFlags) -> None:
    from vkd.synthetic.generate import write_street

    for name, values in STREETS.items():
        root = flags.data / name
        if not (root / "street.json").is_file():
            write_street(
                root, **values, frames=FRAMES, workers=flags.workers, progress=bar(f"{name}, people")
            )


def _train(flags: DemoFlags) -> int:
    """The three presets one after another; each goes on where it stands; a finished one is left alone."""
    from vkd.cli.train import train
    from vkd.jobs import runs

    teacher = ["--teacher", str(flags.runs / TEACHER)]
    for stage, name, more in (
        ("teacher", TEACHER, []),
        ("student", STUDENT, teacher),
        ("student", CONTROL, teacher),
    ):
        if runs.status(flags.runs / name).state == "finished":
            continue
        folder = ["--root", str(flags.data / "street"), "--folder", str(flags.runs / name)]
        code = train([stage, "--preset", name, *folder, *more])
        if code:
            return code
    return 0


def _ship(flags: DemoFlags) -> dict[str, Path]:
    """The last weights of teacher and student, stored as fp16, with the record of how they came about."""
    from dataclasses import replace

    from vkd.jobs import shipped
    from vkd.models import checkpoint
    from vkd.training import settings
    from vkd.training.presets import PRESETS

    folders = {}
    places = {flags.data: "data", flags.runs: "checkpoints"}
    words = {f"{path}/": f"{name}/" for here, name in places.items() for path in (here.absolute(), here)}
    for name in (TEACHER, STUDENT):
        found = checkpoint.load(flags.runs / name, weights="model")
        folders[name] = flags.out / name
        shutil.rmtree(folders[name], ignore_errors=True)
        parent = TEACHER if found.config.parent else None
        checkpoint.save(folders[name], found.net, replace(found.config, parent=parent), half=True)
        asked, preset = settings.load(flags.runs / name / "settings.json"), PRESETS[name].settings()
        usual = {key: getattr(preset, key) for key in ("root", "teacher") if hasattr(preset, key)}
        shipped.keep_run(flags.runs / name, folders[name], asked.changed(**usual), words)
    return folders


def _scores(flags: DemoFlags, half: dict[str, Path]) -> dict[str, dict[str, dict[str, "Scores"]]]:
    """Street → network → protocol → scores: the three runs as trained, and the pair as it ships."""
    from vkd.data import datasets
    from vkd.evaluation import protocols
    from vkd.models import checkpoint
    from vkd.models.inference import EmbedConfig

    folders = {name: flags.runs / name for name in (TEACHER, STUDENT, CONTROL)}
    folders |= {f"{name}, as shipped": folder for name, folder in half.items()}
    found: dict[str, dict[str, dict[str, Scores]]] = {}
    for street in STREETS:
        splits = datasets.read("street", flags.data / street)
        found[street] = {}
        for name, folder in folders.items():
            known = checkpoint.load(folder, weights="model")
            found[street][name] = protocols.evaluate(known.net, splits, EmbedConfig.of(known.config))
    return found


def _evaluation(flags: DemoFlags) -> Path:
    """Teacher and student as trained, on the second street, kept so that it opens without that street."""
    from vkd.cli.evaluate import meter
    from vkd.data import datasets
    from vkd.evaluation.comparison import compare
    from vkd.jobs import shipped
    from vkd.jobs.evaluations import SHIPPED, EvaluationRequest
    from vkd.models import checkpoint

    names = (TEACHER, STUDENT)
    networks = {name: checkpoint.load(flags.runs / name, weights="model") for name in names}
    splits = datasets.read("street", flags.data / UNSEEN)
    found = compare(networks, splits, resamples=RESAMPLES, progress=meter())
    asked = EvaluationRequest(names, "street", str(Path("data") / UNSEEN), tuple(found.query_gallery))
    return shipped.keep_evaluation(found, flags.out / SHIPPED, asked, flags.data)


def _gain(scores: "dict[str, dict[str, Scores]]", better: str, worse: str, protocol: str) -> "Interval":
    import numpy as np

    from vkd.metrics.bootstrap import bootstrap

    pair = (scores[name][protocol].ap for name in (better, worse))
    return bootstrap(*pair, resamples=RESAMPLES, generator=np.random.default_rng(0))


def report(out: Path, runs: Path, scores: "dict[str, dict[str, dict[str, Scores]]]") -> Path:
    """Write scores.json and README.md: data, command, seeds, time and scores of what ships."""
    minutes = {name: _minutes(runs / name) for name in (TEACHER, STUDENT, CONTROL)}
    streets = {street: _with_gains(networks) for street, networks in scores.items()}
    _write(out / "scores.json", json.dumps({"minutes": minutes, "streets": streets}, indent=1) + "\n")
    sections = [_section(street, found) for street, found in streets.items()]
    times = ", ".join(f"{name} {taken:.0f}" for name, taken in minutes.items())
    return _write(out / "README.md", _HEAD + "\n".join(sections) + _TAIL.format(times=times))


def _with_gains(networks: "dict[str, dict[str, Scores]]") -> dict[str, Any]:
    """One street's scores, and who gains how much over whom."""
    pairs = ((STUDENT, TEACHER), (CONTROL, TEACHER), (STUDENT, CONTROL))
    return {
        "networks": {name: {p: s.as_dict() for p, s in found.items()} for name, found in networks.items()},
        "gains": {
            f"{better} − {worse}": {p: _gain(networks, better, worse, p)._asdict() for p in networks[better]}
            for better, worse in pairs
        },
    }


def _write(path: Path, text: str) -> Path:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)


def _minutes(run: Path) -> float:
    """Minutes that a run was at work, the pauses between its sittings left out."""
    from vkd.jobs.events import read

    events, _ = read(run)
    seconds = (
        after["time"] - before["time"] for before, after in pairwise(events) if after["kind"] != "started"
    )
    return round(sum(seconds) / 60, 1)


def _section(street: str, found: dict[str, Any]) -> str:
    """One street's scores in percent and differences in points."""
    one = next(iter(found["networks"].values()))
    lines = [
        f"### {_TITLES[street]}",
        "",
        "; ".join(
            f"{p.upper()}: {s['valid_queries']} valid queries, {s['gallery']} gallery tracklets"
            for p, s in one.items()
        )
        + ". Trapezoid AP, queries in the gallery as on MARS.",
        "",
        "| network | I2V top-1 | I2V mAP | V2V top-1 | V2V mAP |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, scores in found["networks"].items():
        numbers = [scores[p][metric] for p in ("i2v", "v2v") for metric in ("top1", "map")]
        lines.append(f"| {name} | " + " | ".join(f"{100 * number:.2f}" for number in numbers) + " |")
    lines += ["", "| mAP difference, points (95 % interval) | I2V | V2V |", "|---|--:|--:|"]
    for name, gains in found["gains"].items():
        cells = [
            f"{100 * gains[p]['mean']:+.2f} ({100 * gains[p]['low']:+.2f} … {100 * gains[p]['high']:+.2f})"
            for p in ("i2v", "v2v")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


_TITLES = {
    "street": "The training street's held-out people under held-out cameras",
    UNSEEN: "A second street: other people, other cameras",
}

_SEEN, _UNSEEN = STREETS["street"], STREETS[UNSEEN]

_HEAD = f"""# The demo pair

A MobileNet-V2 teacher and the student it taught, trained on the synthetic street only: no person in these
pictures exists. This page and everything beside it is written by one command:

    vkd demo checkpoints

It draws a street of {_SEEN["train_identities"]} training people under {_SEEN["rings"]} rings of six
cameras and {_SEEN["test_identities"]} test people under a ring of their own (seed {_SEEN["seed"]};
{FRAMES} frames a tracklet, 128 × 64 pixels, difficulty 0.5), and a second street of
{_UNSEEN["test_identities"]} test people under six more cameras (seed {_UNSEEN["seed"]}); trains the
presets `{TEACHER}`, `{STUDENT}` and
`{CONTROL}` (seed 0) from MobileNet-V2's ImageNet weights; and scores the last
weights of each. The control is the student without what it learns from the teacher (weights of KD and DP 0),
otherwise the same run.

- `{TEACHER}/`, `{STUDENT}/`: the checkpoints, stored as fp16, and the records of their runs:
  settings, events, what the probe pictures showed. They cannot be gone on with (no `training.pt`).
- `street-gallery/`: tracklets of the second street's people, embedded by both networks.
- `street-queries/`: query pictures of the same people, frames that the gallery's embeddings do not use, and
  the masks of who is in them.
- `street-evaluation/`: teacher and student as trained on the second street, as the Evaluate tab opens it.
- `scores.json`: the numbers below with all others, in full precision.

## Scores (synthetic data)

No person and no camera of these scores is in a training picture, and neither weights nor settings were chosen
by the second street. Differences are paired over queries, with the
95 % interval of {RESAMPLES} bootstrap resamples.

"""

_TAIL = """
## Time

Minutes of training in the run that made these files, on two shared CPU cores: {times}.
"""
