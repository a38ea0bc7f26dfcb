"""What version 0.1.0 wrote still loads: runs, a gallery, an evaluation (see tests/data/0.1.0/README.md)."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.training import events_of
from vkd.data.datasets import read_dataset
from vkd.hub.summary import read_summary
from vkd.jobs import evaluations, runs
from vkd.metrics import tables
from vkd.models import checkpoint
from vkd.retrieval.gallery import Gallery
from vkd.training import settings as settings_io
from vkd.training.settings import StudentSettings, TeacherSettings
from vkd.ui.train import curves
from vkd.ui.train import runs as train_runs

DATA = Path(__file__).parents[1] / "data" / "0.1.0"
NETWORKS = ("teacher", "student")
VERDICTS = {"right": "correct", "wrong": "incorrect", "junk": "junk"}


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return json.loads((DATA / "expected.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of that time: the same seed gives the same images."""
    from vkd.synthetic.generate import generate_street

    root = tmp_path_factory.mktemp("data") / "street"
    return generate_street(
        root, train_identities=4, test_identities=4, group=2, cameras=3, frames=2, size=(32, 16), seed=5
    )


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA, tmp_path / "old"))


@pytest.mark.parametrize("name", NETWORKS)
def test_run(old: Path, name: str) -> None:
    folder = old / "checkpoints" / name
    status = runs.status(folder)
    assert (status.state, status.epoch, status.epochs) == ("finished", 2, 2)
    events, offset = runs.read(folder)
    assert offset == (folder / "events.jsonl").stat().st_size
    assert [event["kind"] for event in events] == [
        *("started", "sanity_check"),
        *("epoch", "scores", "saved", "probes") * 2,
        "finished",
    ]
    assert status.scores == events[-1]["scores"]
    summary = read_summary(folder)
    assert (summary.config.stage, summary.config.epoch, summary.config.dataset) == (name, 2, "street")
    assert summary.config.scores == status.scores
    assert len(summary.by_epoch("epoch")) == 2


@pytest.mark.parametrize(("name", "stage"), [("teacher", TeacherSettings), ("student", StudentSettings)])
def test_settings(old: Path, name: str, stage: type) -> None:
    file = old / "checkpoints" / name / "settings.json"
    settings = settings_io.load(file)
    assert type(settings) is stage
    assert (settings.image_size, settings.learning_rate, settings.epochs) == ((32, 16), 1e-3, 2)
    before = json.loads(file.read_text("utf-8"))
    assert before.items() <= json.loads(settings_io.save(settings, file).read_text("utf-8")).items()
    if isinstance(settings, StudentSettings):
        teacher = runs.teacher_of(old / "checkpoints" / name)
        assert teacher == old / "checkpoints" / "teacher"


def test_curves_and_list(old: Path) -> None:
    root = old / "checkpoints"
    listed = train_runs.read_runs(root)
    assert {run.name: run.state for run in listed} == dict.fromkeys(NETWORKS, "finished")
    assert listed[0].invalid_lines == 0
    drawn = curves.refresh(root, NETWORKS, train_runs.colour_indexes(listed), None)
    assert drawn
    figures = {each["layout"]["uirevision"]: each for each in drawn["figures"]}
    assert {"losses/kd", "losses/triplet", "i2v/map", "v2v/top1", "learning_rate"} <= set(figures)
    last = runs.read(root / "student")[0][-1]["scores"]["i2v"]["map"]
    lines = {trace["name"]: trace["y"] for trace in figures["i2v/map"]["data"] if "name" in trace}
    assert lines["student"][-1] == pytest.approx(100 * last, rel=1e-4)


def test_resume(old: Path, street: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The third epoch is the one that 0.1.0 had itself, so weights, optimiser and batches came back."""
    monkeypatch.chdir(old)  # the settings name the teacher's folder from there
    folder = Path("checkpoints/student")
    settings = settings_io.load(folder / "settings.json").changed(root=street, epochs=3)
    events = events_of(settings, folder)
    assert events[0]["resumed"]
    (epoch,) = [event for event in events if event["kind"] == "epoch"]
    assert epoch["epoch"] == 3
    assert epoch["losses"] == pytest.approx(expected["resumed"]["losses"], rel=1e-3, abs=1e-6)
    scores = next(event["scores"] for event in events if event["kind"] == "scores")
    for protocol, values in expected["resumed"]["scores"].items():
        assert scores[protocol] == pytest.approx(values, rel=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_gallery(old: Path, street: Path, expected: dict[str, Any], name: str) -> None:
    gallery = Gallery.load(old / "galleries" / "street")
    assert (gallery.networks, len(gallery), gallery.cameras) == (list(NETWORKS), 12, [0, 1, 2])
    model = checkpoint.load(old / "checkpoints" / name)
    gallery.check(name, model.net)
    query = read_dataset("street", street).query[0]
    point = model.embed([list(query.frames)])[0]
    hits = gallery.search(name, point, 8, identity=query.identity, camera=query.camera)
    items, similarities, verdicts = zip(*expected["hits"][name], strict=True)
    assert [hit.item for hit in hits] == list(items)
    assert [hit.verdict for hit in hits] == [VERDICTS[each] for each in verdicts]
    np.testing.assert_allclose([hit.similarity for hit in hits], similarities, atol=1e-4)
    assert all(path.is_file() for hit in hits for path in hit.thumbnails)
    assert hits[0].frames[0].endswith("bbox_test/0005/0005C1T0001F001.jpg")


def test_evaluation(old: Path, expected: dict[str, Any]) -> None:
    folder = old / "evaluations" / "pair"
    assert evaluations.status(folder).state == "finished"
    comparison = evaluations.load(folder)
    rows = tables.rows(comparison.results())
    assert len(rows) == len(expected["table"]) == 6
    for row, before in zip(rows, expected["table"], strict=True):
        assert before.keys() <= row.keys()
        numbers = {key: value for key, value in before.items() if isinstance(value, int | float)}
        assert {key: row[key] for key in numbers} == pytest.approx(numbers)
        assert {key: row[key] for key in before.keys() - numbers} == {
            key: before[key] for key in before.keys() - numbers
        }
    # Ranked lists were embeddings then.
    lists = [comparison.ranked(name, "v2v", query=0, k=3) for name in NETWORKS]
    assert all(len(ranked) >= 3 for ranked in lists)
    evaluations.save(comparison, folder)
    assert tables.markdown(evaluations.load(folder).results()) == comparison.to_markdown()
