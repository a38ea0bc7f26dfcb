"""Curves and heatmaps as pictures: what is drawn, and what is left out."""

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from tests.support import told_run
from vkd.hub import attention_sheet, figures
from vkd.models import checkpoint


@pytest.fixture
def student(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Path:
    return told_run.make(tmp_path, tiny_pair)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts at the ends of lines."""
    texts: list[str] = []
    annotate = Axes.annotate

    def listening(self: Axes, text: str, *args: Any, **how: Any) -> Any:
        texts.append(text)
        return annotate(self, text, *args, **how)

    monkeypatch.setattr(Axes, "annotate", listening)
    return texts


def opened(picture: bytes | None) -> Image.Image:
    assert picture is not None
    return Image.open(io.BytesIO(picture))


def pixels(picture: bytes | None) -> NDArray[np.uint8]:
    return np.asarray(opened(picture).convert("RGB"))


def move(folder: Path, dataset: str) -> None:
    """The same run on another data set."""
    for name in ("config.json", "settings.json"):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": dataset}))


# --- curves ---


def test_losses_count_by_their_share_and_the_teacher_is_a_level(student: Path, drawn: list[str]):
    assert opened(figures.curves(student)).size == (1680, 585)
    ends = sorted(drawn)
    assert ends == [
        "I2V 40.0",
        "V2V 55.0",
        "class 2",
        "dp 0.07",  # 700 times its weight
        "kd 0.05",
        "teacher I2V 30.0",
        "teacher V2V 45.0",
        "total 2.2",
        "triplet 0.1",
    ]


def test_the_published_score_is_a_level_where_there_is_one(student: Path, drawn: list[str], monkeypatch):
    figures.curves(student)
    assert not any("published" in text for text in drawn)
    table = {("street", "tiny", "student"): {"i2v": {"map": 0.7}}}
    monkeypatch.setattr(figures, "PUBLISHED", table)
    figures.curves(student)
    assert "published I2V 70.0" in drawn


def test_losses_alone_make_one_picture(student: Path, drawn: list[str]):
    path = student / "events.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().split("\n")[:5]))
    assert opened(figures.curves(student)).size == (840, 585)
    assert sorted(drawn) == ["class 4", "dp 0.09", "kd 0.1", "total 5", "triplet 0.5"]


def test_the_same_run_gives_the_same_bytes_and_they_name_no_program(student: Path):
    picture = figures.curves(student)
    assert picture == figures.curves(student)
    assert opened(picture).info.keys() <= {"dpi"}


def test_no_state_of_pyplot_is_touched(student: Path):
    import sys

    before = (matplotlib.get_backend(auto_select=False), "matplotlib.pyplot" in sys.modules)
    figures.curves(student)
    assert (matplotlib.get_backend(auto_select=False), "matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "epoch", "epoch": 1, "losses": {"class": null, "kd": "much", "total": NaN}}',
        '{"kind": "epoch", "epoch": 1, "losses": 3}',
        '{"kind": "epoch", "epoch": "x", "losses": {"class": 1.0}}',
        '{"kind": "scores", "epoch": 1, "scores": {"i2v": 3, "v2v": {"map_trapezoid": null}}}',
        '{"kind": "scores", "epoch": 1}',
        '{"kind": "epoch", "epoch": 1, "losses": {"class": 0.0}}',
    ],
)
def test_events_without_a_number_to_draw_draw_nothing(student: Path, line: str):
    (student / "events.jsonl").write_text(line + "\n")
    assert figures.curves(student) is None


def test_odd_names_and_numbers_are_drawn_all_the_same(student: Path):
    losses = {"$\\frac{": 1e-300, "_": 1e30, "class": 2.0}
    found = {"$x$": {"map_trapezoid": 0.5}, "i2v" * 50: {"map_trapezoid": 0.5}}
    lines = [{"kind": "epoch", "epoch": 7, "losses": losses}, {"kind": "scores", "epoch": 7, "scores": found}]
    (student / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert opened(figures.curves(student)).size == (1680, 585)


def test_a_checkpoint_without_events_has_no_curves(tiny_pair: tuple[Path, Path]):
    assert figures.curves(tiny_pair[1]) is None
    assert figures.heatmaps(tiny_pair[1]) is None


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.2))
def test_names_stand_apart_and_in_order(places: list[float], gap: float):
    found = figures.spread(sorted(places), gap)
    assert len(found) == len(places)
    assert all(after - before >= gap - 1e-9 for before, after in pairwise(found))


def test_names_that_have_room_stay_where_they_are():
    assert figures.spread([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    assert figures.spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


# --- heatmaps ---


def test_teacher_and_student_stand_beside_each_probe(student: Path):
    with_teacher = opened(figures.heatmaps(student))
    across = 3 * 118 + 2 * attention_sheet.GAP  # pictures of 80 × 160, 236 pixels high
    assert with_teacher.width == 2 * attention_sheet.MARGIN + 2 * across + attention_sheet.APART


def test_the_look_is_that_of_the_weights_that_load_by_themselves(student: Path):
    found = pixels(figures.heatmaps(student))
    known = checkpoint.load(student, weights="model")
    (student / "best.safetensors").unlink()
    assert known.config.epoch == 2
    assert not np.array_equal(pixels(figures.heatmaps(student)), found)
    checkpoint.save(student, known.net, told_run.replaced(known.config, epoch=1))
    assert np.array_equal(pixels(figures.heatmaps(student)), found)


def test_the_teacher_s_own_run_is_asked_where_the_student_s_kept_no_look_of_it(student: Path):
    found = figures.heatmaps(student)
    teacher = student.parent / "tiny-teacher"
    told_run.look(teacher / "probes")
    (teacher / "probes" / "00004").mkdir()
    for path in (student / "probes" / "teacher").iterdir():
        path.rename(teacher / "probes" / "00004" / path.name)
    assert figures.heatmaps(student) == found
    told_run_other = json.loads((teacher / "probes" / "probes.json").read_text())
    told_run_other["probes"][0]["identity"] = 77
    (teacher / "probes" / "probes.json").write_text(json.dumps(told_run_other))
    assert opened(figures.heatmaps(student)).width < opened(found).width, "other probes: not comparable"


@pytest.mark.parametrize("dataset", ["mars", "duke", "veri", "folder"])
def test_photographs_are_coarsened_so_that_nobody_is_recognised(student: Path, dataset: str):
    synthetic = pixels(figures.heatmaps(student))
    move(student, dataset)
    photographs = pixels(figures.heatmaps(student))
    top = attention_sheet.MARGIN + 2 * attention_sheet.LINE + attention_sheet.GAP + 40

    def steps(page: NDArray[np.uint8]) -> int:
        """How often the colour changes along a row of the first picture, which has 20 stripes."""
        row = page[top, attention_sheet.MARGIN : attention_sheet.MARGIN + 118].astype(int)
        return int((abs(np.diff(row, axis=0)).sum(1) > 0).sum())

    assert steps(synthetic) > 50
    assert steps(photographs) < 10


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "probes.json").write_text("[]"),
        lambda place: (place / "probes.json").write_text("{"),
        lambda place: (place / "probe-1.jpg").write_bytes(b"no picture"),
        lambda place: (place / "probes.json").write_text('{"probes": [{"picture": "../../secret.jpg"}]}'),
        lambda place: (place / "00001" / "look.json").write_text('{"looks": [{"heat": 3}]}'),
        lambda place: (place / "00001" / "heat-2.jpg").unlink(),
    ],
)
def test_damaged_looks_are_no_picture(student: Path, damage):
    damage(student / "probes")
    assert figures.heatmaps(student) is None


def test_a_likeness_that_is_no_number_is_not_written(student: Path):
    path = student / "probes" / "00001" / "look.json"
    look = json.loads(path.read_text())
    look["looks"][0]["similarity"] = None
    path.write_text(json.dumps(look))
    assert figures.heatmaps(student) is not None
