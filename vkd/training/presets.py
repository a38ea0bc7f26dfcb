"""Presets: the published recipes (arXiv 2007.04174) and those of the demo.

The published recipes differ only in stage, dataset and the backbone that they name, so small tables generate
them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vkd.data.datasets import DATASETS
from vkd.evaluation.published import PUBLISHED, ProtocolScores
from vkd.models.backbones import BACKBONES
from vkd.training.settings import PRESET_VALUES, STAGES, Settings


@dataclass(frozen=True)
class Preset:
    """A named recipe: the values that differ from the defaults, and the scores it is known to reach."""

    name: str
    stage: str
    backbone: str
    values: dict[str, Any] = field(repr=False)
    expected: ProtocolScores = field(default_factory=dict, repr=False)

    def settings(self, **changes: Any) -> Settings:
        """Returns the settings of this row, some of them changed. Raises pydantic's ValidationError."""
        return STAGES[self.stage].preset(self.name, **changes)


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

for _row in PRESETS.values():
    PRESET_VALUES[_row.stage][_row.name] = _row.values
