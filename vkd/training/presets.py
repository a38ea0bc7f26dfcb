"""Recipes of settings: the published ones (arXiv 2007.04174), the demo ones, and the published scores.

The published recipes differ only in stage × data set, and in the backbone that they name, so they are
generated from three small tables.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vkd.data.datasets import DATASETS
from vkd.io.errors import VKDError
from vkd.models.backbones import BACKBONES
from vkd.training.settings import STAGES, Settings

Score = dict[str, dict[str, float]]
"""Protocol → metric → fraction."""


def _published(i2v: tuple[float, float], v2v: tuple[float, float]) -> Score:
    names = ("top1", "map")
    pair = {"i2v": i2v, "v2v": v2v}
    return {
        protocol: {n: round(x / 100, 6) for n, x in zip(names, xs, strict=True)}
        for protocol, xs in pair.items()
    }


PUBLISHED: dict[tuple[str, str, str], Score] = {
    ("mars", backbone, stage): _published(*scores)
    for backbone, rows in {
        "resnet34": [((80.81, 70.74), (86.67, 78.03)), ((82.17, 73.68), (87.83, 79.50))],
        "resnet50": [((82.22, 73.38), (87.88, 81.13)), ((83.89, 77.27), (88.74, 82.22))],
        "resnet101": [((82.78, 74.94), (88.59, 81.66)), ((85.91, 77.64), (89.60, 82.65))],
        "resnet50bam": [((82.58, 74.11), (88.54, 81.19)), ((84.34, 78.13), (89.39, 83.07))],
        "densenet121": [((82.68, 74.34), (89.75, 81.93)), ((84.04, 77.09), (89.80, 82.84))],
        "mobilenet": [((78.64, 67.94), (85.96, 77.10)), ((83.33, 73.95), (88.13, 79.62))],
    }.items()
    for stage, scores in zip(STAGES, rows, strict=True)
}
"""Table 1 of arXiv 2007.04174: (data set, backbone, stage) → scores, with the trapezoid AP."""


@dataclass(frozen=True)
class Preset:
    """A named recipe: the values that differ from the defaults, and the scores it is known to reach."""

    name: str
    stage: str
    backbone: str
    values: dict[str, Any] = field(repr=False)
    expected: Score = field(default_factory=dict, repr=False)

    def settings(self, **changes: Any) -> Settings:
        """The settings of this row, some of them changed; raises ValueError with a sentence."""
        return STAGES[self.stage].model_validate({**self.values, "preset": self.name, **changes})


_TRACKLETS = {"views": 8, "identities_per_batch": 8, "milestones": (100, 200)}
_SINGLES = {"views": 1, "identities_per_batch": 18, "milestones": (200, 250)}
_DISTILLED = {
    "views": 8,
    "student_views": 2,
    "identities_per_batch": 12,
    "epochs": 500,
    "milestones": (300, 450),
}

_BENCHMARKS = {"mars": _TRACKLETS, "duke": _TRACKLETS, "veri": _SINGLES}
_SLOW_START = {"resnet18": {"milestones": (50, 100, 150, 200, 250)}}

_STREET = {
    "image_size": (128, 64),
    "identities_per_batch": 8,
    "samples_per_identity": 3,
    "learning_rate": 3.5e-4,
    "evaluate_every": 6,
}
_SHIPPED = {"channels_last": True, "workers": 0}
_SHIPPED_STUDENT = {**_SHIPPED, "views": 6, "epochs": 13, "milestones": (9, 12)}
_DEMO: dict[str, tuple[str, str, dict[str, Any]]] = {
    "street-mobilenet-teacher": (
        "teacher",
        "mobilenet",
        {**_SHIPPED, "views": 3, "epochs": 18, "milestones": (12, 16)},
    ),
    "street-mobilenet-student": ("student", "mobilenet", _SHIPPED_STUDENT),
    "street-mobilenet-control": (
        "student",
        "mobilenet",
        {**_SHIPPED_STUDENT, "kd_weight": 0.0, "dp_weight": 0.0},
    ),
    "street-tiny-teacher": (
        "teacher",
        "tiny",
        {"views": 3, "epochs": 20, "milestones": (15,), "learning_rate": 3e-3},
    ),
    "street-tiny-student": (
        "student",
        "tiny",
        {"views": 6, "epochs": 20, "milestones": (15,), "learning_rate": 3e-3},
    ),
}


def _presets() -> dict[str, Preset]:
    rows: dict[str, Preset] = {}
    for dataset, teaching in _BENCHMARKS.items():
        row = DATASETS[dataset]
        shared = {"image_size": row.image_size, "protocols": row.protocols}
        for backbone in (name for name, row in BACKBONES.items() if row.weights):
            common = {"dataset": dataset, "root": Path("data") / dataset, **shared}
            own = {
                "teacher": {**teaching, "backbone": backbone},
                "student": {**_DISTILLED, "teacher": Path("checkpoints") / f"{dataset}-{backbone}-teacher"},
            }
            if backbone == "resnet18" and teaching is _TRACKLETS:
                own["teacher"] |= _SLOW_START[backbone]
            for stage, values in own.items():
                name = f"{dataset}-{backbone}-{stage}"
                expected = PUBLISHED.get((dataset, backbone, stage), {})
                rows[name] = Preset(name, stage, backbone, {**common, **values}, expected)
    for name, (stage, backbone, values) in _DEMO.items():
        network = (
            {"backbone": backbone}
            if stage == "teacher"
            else {"teacher": Path("checkpoints") / f"street-{backbone}-teacher"}
        )
        rows[name] = Preset(name, stage, backbone, {"dataset": "street", **_STREET, **network, **values})
    return rows


PRESETS: dict[str, Preset] = _presets()


def preset(name: str) -> Preset:
    """The row of that name; raises ValueError naming the rows there are."""
    if name not in PRESETS:
        raise VKDError(f"There is no preset '{name}'; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
