"""The Train tab with what ships: records are looked at, never gone on with; folders are chosen by clicks."""

import json
import shutil
from pathlib import Path

import gradio as gr
import pytest
from markupsafe import Markup

from vkd.data.datasets import DATASETS
from vkd.training import settings
from vkd.training.presets import PRESETS
from vkd.ui import components, dataset, mode
from vkd.ui.state import AppPaths
from vkd.ui.train import actions, attention, curves, runs, tab, views

SCORES = {"i2v": {"map": 0.5, "map_trapezoid": 0.5, "map_standard": 0.52, "top1": 0.61}}


@pytest.fixture
def root(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Path:
    """The records of a teacher and its student, whose settings name folders of another machine."""
    for number, (folder, stage) in enumerate(zip(tiny_pair, ("teacher", "student"), strict=True)):
        made = shutil.copytree(folder, tmp_path / f"street-tiny-{stage}")
        config = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps({**config, "scores": SCORES}))
        settings.save(PRESETS[f"street-tiny-{stage}"].settings(), made / "settings.json")
        told = [
            {"kind": "started", "epoch": 0, "time": 1.0 + number, "epochs": 2},
            {"kind": "epoch", "epoch": 1, "time": 2.0 + number, "losses": {"total": 1.0}},
            {"kind": "scores", "epoch": 1, "time": 3.0 + number, "scores": SCORES},
            {"kind": "finished", "epoch": 2, "time": 4.0 + number, "scores": SCORES},
        ]
        (made / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in told))
        (made / "record.json").write_text("{}")
    return tmp_path


def test_page_opens_with_student_and_teacher(root: Path):
    """Whatever the order in which a clone wrote the files; the teacher's level is on the student's plots."""
    (root / "street-tiny-teacher" / "events.jsonl").touch()
    found = runs.read_runs(root)
    assert runs.default_selection(found) == ["street-tiny-student", "street-tiny-teacher"]
    value = curves.refresh(root, ["street-tiny-student"], {}, "")
    assert value is not None
    plot = next(each["layout"] for each in value["figures"] if each["layout"]["uirevision"] == "i2v/map")
    assert [line["y0"] for line in plot["shapes"]] == [50.0]
    assert [note["text"] for note in plot["annotations"]] == ["teacher"]
    assert "teacher 50.0 %" in views.headline_html(found[0])


def test_own_runs_come_first(root: Path):
    mine = root / "mine"
    mine.mkdir()
    settings.save(PRESETS["street-tiny-teacher"].settings(), mine / "settings.json")
    assert runs.read_runs(root)[0].name == "mine"


def test_imported_run_is_read_only(root: Path):
    paths, name = AppPaths.of(root), "street-tiny-student"
    before = sorted(root.rglob("*"))
    buttons = tab.refresh(paths, [name], {})[-3:]
    assert [button["interactive"] for button in buttons] == [False, False, False]
    with pytest.raises(gr.Error, match="training"):
        actions.resume(paths, name)
    with pytest.raises(gr.Error, match="came with the app"):
        actions.delete(paths, name, name)
    assert sorted(root.rglob("*")) == before
    assert "cannot be resumed" in views.headline_html(runs.read_run(root, name))
    assert "no log" in views.log_html(root, [name])


def test_shipped_pair():
    root = Path(__file__).parents[2] / "checkpoints"
    found = [run for run in runs.read_runs(root) if run.imported]
    assert [(run.name, run.state) for run in found] == [
        ("street-mobilenet-student", "finished"),
        ("street-mobilenet-teacher", "finished"),
    ]
    played = attention.refresh(found[0].folder, {})
    assert played is not None
    assert played["teacher"]
    assert len(played["epochs"]) >= 3
    assert all(row["image"].startswith("data:image/jpeg") for row in played["probes"] + played["gallery"])


def test_gallery_row_counts_queries(small_street: Path):
    rows, _ = dataset.summarise("street", str(small_street))
    by_split = {row["split"]: row for row in rows}
    assert by_split["gallery*"]["tracklets"] == by_split["query"]["tracklets"] > 0
    assert by_split["gallery*"]["images"] == by_split["query"]["images"]
    assert "gallery includes the queries" in dataset.table_html(rows, [])


# --- folders of this machine --------------------------------------------------------------------------------


def test_folders_are_listed_without_hidden_ones_and_say_what_they_hold(tmp_path: Path, small_street: Path):
    (tmp_path / "street").symlink_to(small_street)
    for name in ("Photos", ".ssh", "<b>odd"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.txt").write_text("no folder")
    html, here, data = components.list_folders(AppPaths.of(tmp_path), str(tmp_path))
    assert here == data["folder"] == str(tmp_path)
    assert data["parent"] == str(tmp_path.parent)
    assert data["folders"] == ["<b>odd", "Photos", "street"]
    assert "&lt;b&gt;odd" in html
    assert "<b>odd" not in html
    assert html.count(Markup(f"<b>{DATASETS['street'].title}</b>")) == 1
    _, _, data = components.list_folders(AppPaths.of(tmp_path), str(small_street))
    assert data["kind"] == DATASETS["street"].title


@pytest.mark.parametrize("written", ["gone/deeper", "street.txt", "x" * 5000, "nul\0byte"])
def test_a_path_that_is_no_folder_begins_at_the_nearest_one(tmp_path: Path, written: str):
    (tmp_path / "street.txt").write_text("a file")
    _, here, _ = components.list_folders(AppPaths.of(tmp_path), f"{tmp_path}/{written}")
    assert here == str(tmp_path)


def test_a_folder_of_very_many_is_cut_off_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(components, "MAX_FOLDERS", 2)
    for name in "abc":
        (tmp_path / name).mkdir()
    html, _, data = components.list_folders(AppPaths.of(tmp_path), str(tmp_path))
    assert data["folders"] == ["a", "b"]
    assert "1 more are not shown" in html


def test_a_public_demo_shows_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mode, "DEMO", True)
    with pytest.raises(gr.Error, match="public demo"):
        components.list_folders(AppPaths.of(tmp_path), str(tmp_path))
