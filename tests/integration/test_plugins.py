"""A backbone, dataset, loss, metric and setting from outside: one registration each, found everywhere."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.plugins import micro, registrations
from tests.support.training import teacher_settings
from vkd.cli.main import main
from vkd.data.benchmarks import read_street
from vkd.data.datasets import DATASETS, Dataset, Splits
from vkd.evaluation.comparison import evaluate_models
from vkd.hub.card import metadata, model_card
from vkd.hub.summary import read_summary
from vkd.jobs import runs
from vkd.metrics import tables
from vkd.metrics.ranking import METRICS, Metric
from vkd.models import checkpoint
from vkd.models.backbones import BACKBONES, Backbone
from vkd.training import settings as settings_io
from vkd.training.fields import setting
from vkd.training.objectives import LOSSES, Loss
from vkd.training.settings import STAGES, TeacherSettings, add_setting, register_loss
from vkd.training.trainer import conflicts
from vkd.ui.evaluate import results
from vkd.ui.train import curves, form, views
from vkd.ui.train import runs as train_runs


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    with registrations():
        yield


def flags(capsys: pytest.CaptureFixture[str], *verb: str) -> str:
    """The help of a verb, as it is printed."""
    with pytest.raises(SystemExit) as done:
        main([*verb, "--help"])
    assert not done.value.code
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def field(name: str) -> form.Field:
    return next(each for each in form.fields() if each.name == name)


def trained(street: Path, root: Path, **values: Any) -> Path:
    """A run of one epoch in `root/run`."""
    settings = teacher_settings(street, epochs=1, **values)
    assert runs.train(settings, root / "run")["kind"] == "finished"
    settings_io.save(settings, root / "run" / "settings.json")
    return root / "run"


def drawn(folder: Path) -> dict[str, dict[str, Any]]:
    """The live curves of a run: series → plotly figure."""
    value = curves.refresh(folder.parent, [folder.name], {folder.name: 0}, None)
    assert value
    return {each["layout"]["uirevision"]: each for each in value["figures"]}


def compared(folder: Path, street: Path) -> tables.Results:
    model = checkpoint.load(folder)
    splits = settings_io.load(folder / "settings.json").read_dataset()
    return evaluate_models({"run": model}, splits, views=2, workers=0, resamples=100).results()


def test_backbone(small_street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    BACKBONES["micro"] = Backbone("Micro-8", 8, micro)
    assert ",micro}" in flags(capsys, "train", "teacher").replace(" ", "")
    assert "micro" in field("backbone").choices
    settings, errors = form.read("teacher", {"backbone": "micro"})
    assert not errors
    assert settings
    assert form.command(settings).endswith("--backbone micro")
    folder = trained(small_street, tmp_path, backbone="micro")
    assert runs.label(settings_io.load(folder / "settings.json")) == "street-micro-teacher"
    run = train_runs.read_run(tmp_path, "run")
    assert "micro" in views.headline_html(run)
    card = model_card(read_summary(folder))
    assert "Micro-8 for re-identification" in card
    assert "an embedding of 8 numbers" in card
    assert "micro" in (metadata(read_summary(folder)).tags or [])
    assert checkpoint.load(folder).net.width == 8


def test_dataset(small_street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def read_mine(root: Path) -> Splits:
        return replace(read_street(root), name="mine")

    DATASETS["mine"] = Dataset(
        "My street",
        read_mine,
        "as a street",
        subject="walker",
        description="Walkers, drawn.",
        licence="cc0-1.0",
        protocols=("v2v",),
    )
    for verb in (["train", "teacher"], ["train", "student"], ["evaluate"], ["index"], ["explain"]):
        assert ",mine}" in flags(capsys, *verb).replace(" ", "")
    assert "mine" in field("dataset").choices
    folder = trained(small_street, tmp_path, dataset="mine")
    assert "mine" in views.headline_html(train_runs.read_run(tmp_path, "run"))
    assert "| run | mine | V2V |" in tables.markdown(compared(folder, small_street))
    card, data = model_card(read_summary(folder)), metadata(read_summary(folder))
    assert "Walkers, drawn." in card
    assert "a tracklet of a walker" in card
    assert data.license == "cc0-1.0"
    assert {each.dataset_name for each in data.eval_results or []} == {"My street"}


def spread(given: Any) -> Any:
    return given.output.embedding.var()


def test_loss(small_street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register_loss("spread", Loss("Spread of embeddings", "Weight of the spread.", spread, 0.25))
    for stage in STAGES:
        assert "--spread-weight FLOAT Weight of the spread (from 0)." in flags(capsys, "train", stage)
    added = field("spread_weight")
    assert (added.group, added.label, added.kind) == ("losses", "Spread of embeddings weight", "number")
    assert [added.default(stage) for stage in STAGES] == [0.25, 0.25]
    assert "spread_weight" in form.read("teacher", {"spread_weight": -1})[1]
    folder = trained(small_street, tmp_path, spread_weight=2)
    (epoch,) = [event for event in runs.read(folder)[0] if event["kind"] == "epoch"]
    losses = epoch["losses"]
    assert losses["total"] == pytest.approx(losses["class"] + losses["triplet"] + 2 * losses["spread"])
    figure = drawn(folder)["losses/spread"]
    assert figure["layout"]["meta"]["title"] == "Spread of embeddings"
    assert figure["layout"]["meta"]["section"] == "Losses"
    assert figure["data"][0]["y"] == [pytest.approx(losses["spread"], rel=1e-4)]
    assert "| `spread_weight` | 2.0 | Weight of the spread. |" in model_card(read_summary(folder))
    assert LOSSES["spread"].compute is spread


def test_metric(small_street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    METRICS["half"] = Metric("half of the matches", lambda ranks, _: float(ranks[len(ranks) // 2] <= 3))
    METRICS["last"] = Metric(
        "last rank", lambda ranks, _: float(ranks[-1]), percent=False, higher_is_better=False, headline=True
    )
    words = "train teacher --backbone tiny --image-size 64 32 --views 2 --epochs 1 --device cpu --workers 0"
    more = ["--identities-per-batch", "4", "--samples-per-identity", "2", "--test-views", "2"]
    folder = tmp_path / "run"
    assert main([*words.split(), *more, "--root", str(small_street), "--folder", str(folder)]) == 0
    (scores,) = [event["scores"]["i2v"] for event in runs.read(folder)[0] if event["kind"] == "scores"]
    assert f"last rank {scores['last']:.4g}" in capsys.readouterr().out
    figures = drawn(folder)
    meta = {name: figures[f"i2v/{name}"]["layout"]["meta"] for name in ("half", "last", "map")}
    assert [each["section"] for each in meta.values()] == ["More metrics", "Test metrics", "Test metrics"]
    assert meta["half"]["title"] == "half of the matches · I2V"
    assert meta["half"]["latest"] == f"{100 * scores['half']:.1f} %"
    assert meta["last"]["latest"] == f"{scores['last']:.3g}"
    assert [*figures][:3] == ["i2v/map", "i2v/top1", "i2v/last"]
    tiles = views.headline_html(train_runs.read_run(tmp_path, "run"))
    assert "I2V last rank" in tiles
    assert "half of the matches" not in tiles
    table = compared(folder, small_street)
    assert "| half of the matches | last rank |" in tables.markdown(table)
    assert "half of the matches & last rank" in tables.latex(table)
    (first, *_) = csv.DictReader(tables.export(table, tmp_path / "table.csv").open(encoding="utf-8"))
    assert {"half", "last"} <= first.keys()
    (row, *_) = json.loads(tables.export(table, tmp_path / "table.json").read_text("utf-8"))
    assert row["last"] == pytest.approx(float(first["last"]))
    summary = read_summary(folder)
    assert "| half of the matches | last rank |" in model_card(summary)
    names = [each.metric_name for each in metadata(summary).eval_results or []]
    assert {"I2V half of the matches, %", "V2V last rank"} <= set(names)
    assert checkpoint.load(folder).config.scores["i2v"]["last"] == scores["last"]


def test_metric_in_the_comparison(small_street: Path, tiny_pair: tuple[Path, Path]) -> None:
    METRICS["half"] = Metric("half of the matches", lambda ranks, _: float(ranks[len(ranks) // 2] <= 3))
    models = {folder.name: checkpoint.load(folder) for folder in tiny_pair}
    splits = DATASETS["street"].read(small_street)
    comparison = evaluate_models(models, splits, views=2, workers=0, resamples=100)
    assert "half of the matches" in results.table_html(comparison)
    differences = comparison.gains("tiny-teacher")["tiny-student"]
    assert "half" in differences["i2v"]


def test_setting(small_street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = setting(0.1, "losses", "Label smoothing", "Share of the other classes.", ge=0, le=1)
    add_setting("smoothing", float, info, ["teacher"])
    assert "--smoothing FLOAT Share of the other classes (from 0 to 1). (default: 0.1)" in flags(
        capsys, "train", "teacher"
    )
    assert "--smoothing" not in flags(capsys, "train", "student")
    added = field("smoothing")
    assert (added.group, added.label, added.kind) == ("losses", "Label smoothing", "number")
    assert form.visible(added, "teacher")
    assert not form.visible(added, "student")
    assert added.help("teacher").endswith("(0 to 1)")
    assert "smoothing" in form.read("teacher", {"smoothing": 2})[1]
    settings, _ = form.read("teacher", {"smoothing": 0.5})
    assert settings
    assert form.command(settings).endswith("--smoothing 0.5")
    assert form.parse_json(form.to_json(settings)) == settings
    folder = trained(small_street, tmp_path, smoothing=0.5)
    again = settings_io.load(folder / "settings.json")
    assert form.values(again)["smoothing"] == 0.5
    assert conflicts(TeacherSettings(), again)[-1:] == ["smoothing"]
    assert "| `smoothing` | 0.5 | Share of the other classes. |" in model_card(read_summary(folder))
    words = ["train", "teacher", "--folder", str(folder), "--smoothing", "0.2"]
    assert main(words) == 1
    assert "(smoothing)" in capsys.readouterr().err
