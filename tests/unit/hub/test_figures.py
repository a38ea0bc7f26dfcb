"""Images of the card: what is drawn, and what is left out."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from vkd.hub import figures
from vkd.hub.summary import read_summary
from vkd.models import checkpoint

Drawn = dict[str, list[float]]


def curves(folder: Path) -> bytes | None:
    return figures.curves(read_summary(folder))


def heatmaps(folder: Path) -> bytes | None:
    return figures.heatmaps(read_summary(folder))


def pixels(image: bytes | None) -> NDArray[np.uint8]:
    assert image is not None
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Label of each line that was drawn → its values."""
    lines: Drawn = {}
    subplots = Figure.subplots

    def recording(self: Figure, *args: Any, **options: Any) -> Any:
        panels = subplots(self, *args, **options)
        for axes in panels[0]:
            for name in ("plot", "axhline"):
                monkeypatch.setattr(axes, name, record(getattr(axes, name)))
        return panels

    def record(draw: Any) -> Any:
        def call(*values: Any, label: str, **options: Any) -> Any:
            lines[label] = [round(value, 3) for value in np.atleast_1d(values[-1])]
            return draw(*values, label=label, **options)

        return call

    monkeypatch.setattr(Figure, "subplots", recording)
    return lines


# ---- curves


def test_weighted_losses_and_levels_of_the_teacher(student_run: Path, drawn: Drawn):
    assert pixels(curves(student_run)).shape == (585, 1680, 3)
    assert drawn == {
        "CE": [4.0, 2.0],
        "Triplet": [0.5, 0.1],
        "KD (KL)": [0.1, 0.05],
        "DP": [0.09, 0.07],  # 900 and 700 times its weight
        "total": [5.0, 2.2],
        "I2V": [50.0, 40.0],
        "V2V": [60.0, 55.0],
        "teacher I2V": [30.0],
        "teacher V2V": [45.0],
    }


def test_published_score_is_a_level(student_run: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figures, "PUBLISHED", {("street", "tiny", "student"): {"i2v": {"map": 0.7}}})
    curves(student_run)
    assert drawn["published I2V"] == [70.0]


def test_losses_alone_make_one_panel(student_run: Path, drawn: Drawn):
    path = student_run / "events.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().split("\n")[:5]))
    assert pixels(curves(student_run)).shape == (585, 840, 3)
    assert drawn.keys() == {"CE", "Triplet", "KD (KL)", "DP", "total"}


def test_same_run_same_bytes_without_a_program_s_name(student_run: Path):
    before = (matplotlib.get_backend(auto_select=False), "matplotlib.pyplot" in sys.modules)
    image = curves(student_run)
    assert image == curves(student_run)
    assert image
    assert Image.open(io.BytesIO(image)).info.keys() <= {"dpi"}
    assert (matplotlib.get_backend(auto_select=False), "matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "epoch", "time": 1, "epoch": 1, "losses": {"class": null, "kd": "much", "total": NaN}}',
        '{"kind": "epoch", "time": 1, "epoch": 1, "losses": 3}',
        '{"kind": "epoch", "time": 1, "epoch": "x", "losses": {"class": 1.0}}',
        '{"kind": "scores", "time": 1, "epoch": 1, "scores": {"i2v": 3, "v2v": {"map_trapezoid": null}}}',
        '{"kind": "scores", "time": 1, "epoch": 1}',
        '{"kind": "epoch", "time": 1, "epoch": 1, "losses": {"class": 0.0}}',
    ],
)
def test_events_without_numbers_draw_nothing(student_run: Path, line: str):
    (student_run / "events.jsonl").write_text(line + "\n")
    assert curves(student_run) is None


def test_odd_names_and_numbers(student_run: Path, drawn: Drawn):
    losses = {"$\\frac{": 1.0, "tiny": 1e-300, "class": 2.0}
    scores = {name: {"map": 0.5, "map_trapezoid": 0.5} for name in ("$x$", "i2v")}
    lines = [
        {"kind": "epoch", "time": 1.0, "epoch": 7, "losses": losses},
        {"kind": "scores", "time": 2.0, "epoch": 7, "scores": scores},
    ]
    (student_run / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert pixels(curves(student_run)).shape == (585, 1680, 3)
    assert {"CE", "I2V"} <= drawn.keys()
    assert not {"$\\frac{", "$X$"} & drawn.keys()


def test_checkpoint_without_a_run_has_no_images(tiny_pair: tuple[Path, Path]):
    assert curves(tiny_pair[1]) is None
    assert heatmaps(tiny_pair[1]) is None


# ---- heatmaps


def test_heatmaps_of_teacher_and_default_weights(student_run: Path):
    image = heatmaps(student_run)
    last = checkpoint.load(student_run, weights="model")
    (student_run / "best.safetensors").unlink()
    assert last.config.epoch == 2
    image, older = heatmaps(student_run), image
    assert not np.array_equal(pixels(image), pixels(older))
    (student_run / "probes" / "teacher" / "look.json").unlink()
    alone = pixels(heatmaps(student_run))
    assert not np.array_equal(alone, pixels(image))
    assert alone.shape[1] <= pixels(image).shape[1]


@pytest.mark.parametrize("dataset", ["mars", "duke", "veri", "folder", "", "other"])
def test_photographs_are_not_shown(student_run: Path, dataset: str):
    for name in ("config.json", "settings.json"):
        path = student_run / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": dataset}))
    assert heatmaps(student_run) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "probes.json").write_text("[]"),
        lambda folder: (folder / "probes.json").write_text("{"),
        lambda folder: (folder / "probes.json").write_text('{"probes": 7}'),
        lambda folder: (folder / "probes.json").unlink(),
        lambda folder: [path.unlink() for path in folder.glob("0*/look.json")],
        lambda folder: [path.write_bytes(b"no image") for path in folder.rglob("*.jpg")],
    ],
)
def test_damaged_snapshots_are_no_image(student_run: Path, damage: Any):
    damage(student_run / "probes")
    assert heatmaps(student_run) is None


def test_damaged_rows_are_left_out(student_run: Path):
    whole = pixels(heatmaps(student_run))
    path = student_run / "probes" / "probes.json"
    (student_run / "secret.jpg").write_bytes((student_run / "probes" / "probe-0.jpg").read_bytes())
    rows = json.loads(path.read_text())["probes"]
    rows[0]["picture"] = "../secret.jpg"
    path.write_text(json.dumps({"probes": rows[:2]}))
    look = student_run / "probes" / "00001" / "look.json"
    looks = json.loads(look.read_text())["looks"]
    looks[1]["similarity"] = None
    look.write_text(json.dumps({"looks": looks}))
    part = pixels(heatmaps(student_run))
    assert part.shape[0] < whole.shape[0]
