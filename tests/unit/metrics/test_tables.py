"""Tables of results as JSON, CSV, Markdown and LaTeX; a metric that a plugin adds is computed and shown."""

import csv
import json

import pytest

from vkd.evaluation.comparison import difference_row
from vkd.io.errors import VKDError
from vkd.metrics import bootstrap, tables
from vkd.metrics.ranking import METRICS, Metric
from vkd.metrics.scores import Scores, score


@pytest.fixture
def results() -> dict[str, Scores]:
    def scored(protocol: str, distance: float) -> Scores:
        return score(
            [[distance, 0.5, 0.7]], [1], [1, 2, 1], [0], [1, 1, 2], protocol=protocol, dataset="street"
        )

    return {"i2v": scored("i2v", 0.6), "v2v": scored("v2v", 0.4)}


def test_json(results, tmp_path):
    path = tables.export({"teacher": results}, tmp_path / "new" / "scores.json")
    first, second = json.loads(path.read_text())
    assert (first["network"], first["protocol"], first["dataset"]) == ("teacher", "i2v", "street")
    assert (first["top1"], second["top1"]) == (0, 1)
    assert first["cmc"] == [0, 1, 1]
    assert [entry.name for entry in path.parent.iterdir()] == ["scores.json"]


def test_csv(results, tmp_path):
    path = tables.export(results, tmp_path / "scores.csv")
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["protocol"] for line in lines] == ["i2v", "v2v"]
    assert float(lines[1]["map"]) == results["v2v"].map
    assert lines[0]["queries_in_gallery"] == "False"


def test_markdown(results, tmp_path):
    table = {
        "ours | new": results,
        "published": {"i2v": {"dataset": "street", "top1": 0.8081, "map": 0.7074}},
    }
    lines = tables.export(table, tmp_path / "scores.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 + 3
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert lines[2].startswith("| ours \\| new | street | I2V | no | 1 | 1 | 3 | trapezoid | ")
    assert lines[3].endswith("| 100.00 | 100.00 | 100.00 |")
    assert "| published | street | I2V | – | – | – | – | – | 70.74 | – | – | – | 80.81 | – | – |" in lines


def test_unknown_suffix(results, tmp_path):
    with pytest.raises(VKDError, match=r"scores\.xlsx"):
        tables.export(results, tmp_path / "scores.xlsx")


def test_latex(results):
    """Every special sign is escaped, every line has as many cells as the head; gains carry intervals."""
    gain = {"i2v": {"map": 0.05, "map_low": -0.01, "map_high": 0.11}}
    text = tables.latex({"tiny_a & 50%": results, "student − teacher": gain})
    assert r"tiny\_a \& 50\%" in text
    assert r"+5.00 (-1.00 \ldots{} +11.00)" in text
    assert text.startswith("\\begin{tabular}{")
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in lines}) == 1


def test_metric_of_a_plugin(monkeypatch):
    """One row of METRICS: computed, compared, in every table."""
    last = Metric("last rank", lambda ranks, _: float(ranks[-1]), percent=False, higher_is_better=False)
    monkeypatch.setitem(METRICS, "last", last)
    labels = [1, 1], [1, 2, 1], [0, 0], [1, 1, 2]
    ours, theirs = (score([[a, 0.5, 0.7], [a, 0.6, 0.2]], *labels) for a in (0.1, 0.55))
    assert (ours["last"], ours.numbers()["last"]) == (2.5, 2.5)
    interval = bootstrap.difference(ours, theirs, resamples=100)["last"]
    assert interval.mean == ours["last"] - theirs["last"]
    rows = {"ours": {"i2v": ours}, "ours − theirs": {"i2v": difference_row("trapezoid", {"last": interval})}}
    head, _, first, second = tables.markdown(rows).splitlines()
    assert head.endswith("| last rank |")
    assert first.endswith("| 2.5 |")
    assert second.split(" | ")[-1].startswith(f"{interval.mean:+.4g} (")
    assert json.loads(tables.WRITERS[".json"](rows))[0]["last"] == 2.5
