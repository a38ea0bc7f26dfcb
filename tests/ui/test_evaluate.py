"""The Evaluate tab: endpoints, figures, tables, ranked lists; text from outside stays text."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from tests.support.app import error_of, wait_until
from tests.support.four import as_four
from tests.support.jobs import busy_device
from vkd.evaluation.comparison import Comparison, NetworkInfo
from vkd.jobs import evaluations
from vkd.ui import labels, mode, plots
from vkd.ui.evaluate import actions, results, tab
from vkd.ui.state import AppPaths


@pytest.fixture(scope="module")
def paths(app_paths: AppPaths, tiny_pair: tuple[Path, Path]) -> Iterator[AppPaths]:
    """The session's app with two copies of the pair's networks under other names."""
    copies = [app_paths.checkpoints / f"{folder.name}-again" for folder in tiny_pair]
    for folder, copy in zip(tiny_pair, copies, strict=True):
        shutil.copytree(folder, copy)
    yield app_paths
    for folder in (*copies, app_paths.checkpoints / evaluations.FOLDER):
        shutil.rmtree(folder)


@pytest.fixture
def client(app_client: Client, paths: AppPaths) -> Client:
    return app_client


def start(client: Client, street: Path | str, **changes: Any) -> str:
    request = {"teacher": "tiny-teacher", "student": "tiny-student", "others": [], "data": "auto"}
    request |= {"root": str(street), "protocols": ["i2v", "v2v"], "views": 8, "ap": "trapezoid"}
    request |= {"curves": True, "cameras": "auto"}
    return client.predict(*{**request, **changes}.values(), api_name="/evaluate_start")


def row_of(client: Client, name: str) -> dict[str, Any]:
    return next(row for row in client.predict(api_name="/evaluate_list") if row["name"] == name)


def ended(client: Client, name: str) -> dict[str, Any]:
    return wait_until(
        lambda: (row := row_of(client, name))["state"] not in results.BUSY and row, f"{name} does not end"
    )


@pytest.fixture(scope="module")
def job(app_client: Client, paths: AppPaths, small_street: Path) -> str:
    name = start(app_client, small_street)
    assert ended(app_client, name)["state"] == "finished"
    return name


@pytest.fixture(scope="module")
def compared(job: str, paths: AppPaths) -> Comparison:
    return actions.comparison(paths, job)[0]


# ---- endpoints


def test_dataset_summary(client: Client, small_street: Path, tmp_path: Path):
    page, data = client.predict("auto", str(small_street), "auto", api_name="/evaluate_data")
    assert {row["split"] for row in data["rows"]} >= {"train", "query"}
    assert "<table" in page
    _, data = client.predict("mars", str(tmp_path / "gone"), "auto", api_name="/evaluate_data")
    assert "does not exist" in data["wrong"]
    _, data = client.predict("auto", " ", "auto", api_name="/evaluate_data")
    assert data["wrong"] == actions.NO_FOLDER


def test_list_has_request_and_state(client: Client, job: str):
    row = row_of(client, job)
    assert row["state"] == "finished"
    assert row["checkpoints"] == ["tiny-teacher", "tiny-student"]


@pytest.mark.parametrize(
    ("format", "start"),
    [("JSON", "["), ("CSV", "network,"), ("Markdown", "| model"), ("latex", "\\begin{tab")],
)
def test_download(client: Client, job: str, format: str, start: str):  # noqa: A002
    text = client.predict(job, format, api_name="/evaluate_download")
    assert text.startswith(start)
    if format == "JSON":
        networks = {row["network"] for row in json.loads(text)}
        assert {"tiny-teacher", "tiny-student"} < networks
        assert len(networks) == 3, "and their difference"


def test_ranked_lists_of_query(client: Client, job: str, compared: Comparison):
    page, data = client.predict(job, "v2v", 3, 5, api_name="/evaluate_query")
    assert list(data) == ["tiny-teacher", "tiny-student"]
    for name, each in data.items():
        assert each["ap"] == pytest.approx(compared.ap(name, "v2v")[3])
        assert [hit["rank"] for hit in each["hits"] if hit["verdict"] != "junk"] == [1, 2, 3, 4, 5]
    assert page.count('aria-label="Matches of') == 2
    assert "data:image/jpeg" in page
    assert "/bbox_test" not in page, "no folder of the server"


def test_order_of_queries(client: Client, job: str, compared: Comparison):
    page, queries = client.predict(job, "i2v", "worst", "", "", api_name="/evaluate_order")
    assert queries == compared.order("i2v")
    assert page.index(f'data-query="{queries[0]}"') < page.index(f'data-query="{queries[1]}"')


def test_threshold_of_each_network(client: Client, job: str):
    _, page, data = client.predict(job, "i2v", 5.0, api_name="/evaluate_threshold")
    for each in data.values():
        assert each["fpr"] <= 0.05
        assert f"{each['similarity']:.3f}" in page


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"teacher": "", "student": ""}, "No model"),
        ({"student": "tiny-teacher"}, "tiny-teacher"),
        ({"others": list("abcdefg")}, "9 models"),
        ({"teacher": "../etc"}, "'../etc'"),
        ({"others": ["nobody"]}, "'nobody'"),
        ({"protocols": []}, "No protocol"),
        ({"protocols": ["x2y"]}, "choices"),
        ({"ap": "round"}, "choices"),
        ({"root": "/nowhere/at/all"}, "does not exist"),
    ],
)
def test_invalid_request(client: Client, small_street: Path, changes: dict[str, Any], part: str):
    before = client.predict(api_name="/evaluate_list")
    changes = {"root": str(small_street), **changes}
    assert part in error_of(start, client, changes.pop("root"), **changes)
    assert client.predict(api_name="/evaluate_list") == before


@pytest.mark.parametrize(
    ("endpoint", "arguments", "part"),
    [
        ("/evaluate_download", ("JOB", "stone"), "'stone'"),
        ("/evaluate_download", ("../secrets", "JSON"), "'../secrets'"),
        ("/evaluate_query", ("JOB", "i2i", 0, 5), "i2i"),
        ("/evaluate_query", ("JOB", "i2v", 10_000, 5), "10000"),
        ("/evaluate_query", ("JOB", "i2v", 0, 5_000), "5000"),
        ("/evaluate_cancel", ("JOB",), "nothing to cancel"),
    ],
)
def test_invalid_question(client: Client, job: str, endpoint: str, arguments: tuple[Any, ...], part: str):
    arguments = tuple(job if each == "JOB" else each for each in arguments)
    assert part in error_of(client.predict, *arguments, api_name=endpoint)


@pytest.fixture(scope="module")
def four(compared: Comparison, paths: AppPaths) -> str:
    return as_four(compared, paths.checkpoints / evaluations.FOLDER / "20200101-000000")


def test_pairs_of_four(client: Client, four: str, paths: AppPaths):
    compared = actions.comparison(paths, four)[0]
    table, downloads, scatter, data = client.predict(
        four, "i2v", "tiny-student", "tiny-teacher-again", api_name="/evaluate_pair"
    )
    assert set(data["differences"]) == {"tiny-teacher", "tiny-student-again", "tiny-teacher-again"}
    gain = data["differences"]["tiny-teacher-again"]["i2v"]["map"]
    ours, theirs = (compared.scores[name]["i2v"].map for name in ("tiny-teacher-again", "tiny-student"))
    assert gain["mean"] == pytest.approx(ours - theirs)
    assert gain["low"] <= gain["mean"] <= gain["high"]
    twin = data["differences"]["tiny-student-again"]["i2v"]["map"]
    assert twin == {"mean": 0, "low": 0, "high": 0}, "the same network twice"
    assert table.count("Difference") == 2 * 3
    assert "teacher-again − student" in table
    axes = scatter["figures"][0]["layout"]
    titles = [axes[axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
    assert titles == ["student AP", "teacher-again AP"]
    better = (compared.ap("tiny-teacher-again", "i2v") > compared.ap("tiny-student", "i2v")).sum()
    assert data["better"]["tiny-teacher-again"] == better
    written = re.findall(r'base64,([^"]+)"', downloads)[1]
    assert "tiny-teacher-again − tiny-student," in base64.b64decode(written).decode()
    _, lost = client.predict(four, "i2v", "loses", "tiny-student", "tiny-teacher", api_name="/evaluate_order")
    assert lost == compared.order("i2v", "gains", "tiny-teacher", "tiny-student")


def test_labels_of_four(four: str, paths: AppPaths):
    compared = actions.comparison(paths, four)[0]
    assert list(labels.labels(compared).values()) == ["teacher", "student", "student-again", "teacher-again"]
    assert sorted(labels.colours(compared).values()) == [0, 1, 2, 3]
    assert list(labels.css_parts(compared).values())[2:] == ["other-2", "other-3"]
    curves = plots.cmc(compared, "i2v").data
    assert len(curves) == 4, "bands of few networks only"
    assert all(line.customdata for line in curves), "but intervals in every hover box"
    assert len(plots.similarities(compared, "i2v", 0.01).layout.shapes) == 4
    assert results.headline(compared).count(" / ") == 2 * 3


@pytest.mark.parametrize(
    ("pair", "part"), [(("tiny-student", "tiny-student"), "itself"), (("nobody", ""), "'nobody'")]
)
def test_invalid_pair(client: Client, four: str, pair: tuple[str, str], part: str):
    assert part in error_of(client.predict, four, "i2v", *pair, api_name="/evaluate_pair")


def test_one_camera_needs_the_choice_without_cameras(client: Client, paths: AppPaths, tmp_path: Path):
    """Everything of an identity and a camera is junk: the message leads to the choice, which helps."""
    for person in range(4):
        for walk in range(2):
            image = tmp_path / "mine" / f"person{person}" / "camera1" / f"walk{walk}" / "1.png"
            image.parent.mkdir(parents=True)
            Image.new("RGB", (16, 32), (60 * person, 40 * walk, 90)).save(image)
    _, data = client.predict("folder", str(tmp_path / "mine"), "auto", api_name="/evaluate_data")
    assert "0 valid queries" in data["wrong"]
    assert "cameras='none'" in data["wrong"]
    assert "0 valid queries" in error_of(start, client, tmp_path / "mine", data="folder")
    _, data = client.predict("folder", str(tmp_path / "mine"), "none", api_name="/evaluate_data")
    assert data["wrong"] == ""
    with busy_device(paths.checkpoints):  # it need not be done
        name = start(client, tmp_path / "mine", data="folder", cameras="none")
        assert row_of(client, name)["cameras"] == "none"
        client.predict(name, api_name="/evaluate_cancel")
        ended(client, name)


def test_queued_evaluation_is_cancelled(client: Client, paths: AppPaths, small_street: Path):
    with busy_device(paths.checkpoints):
        name = start(client, small_street)
        row = wait_until(lambda: (row := row_of(client, name))["state"] != "running" and row, "never queued")
        assert (row["state"], row["ahead"]) == ("waiting", ["a-run"])
        client.predict(name, api_name="/evaluate_cancel")
        assert ended(client, name)["why"] == "cancelled"


def test_running_evaluation_is_cancelled(client: Client, job: str, paths: AppPaths, small_street: Path):
    others = ["tiny-student-again", "tiny-teacher-again"]
    name = start(client, small_street, others=others)
    assert client.predict(name, api_name="/evaluate_cancel") == name
    row = ended(client, name)
    assert row["why"] == "cancelled"
    assert row["checkpoints"] == ["tiny-teacher", "tiny-student", *others]
    assert actions.default_job(paths) == job, "a page opens with a finished one"


def test_small_street_is_generated_once(
    client: Client, paths: AppPaths, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    small = {"train_identities": 1, "test_identities": 2, "cameras": 2, "frames": 2}
    monkeypatch.setattr(actions, "SMALL_STREET", small)
    request.addfinalizer(lambda: shutil.rmtree(paths.data))
    shown = client.predict(api_name="/evaluate_street")
    written = paths.data / "street-small"
    assert Path(shown).resolve() == written.resolve()
    changed = (written / "street.json").stat().st_mtime_ns
    assert client.predict(api_name="/evaluate_street") == shown
    assert (written / "street.json").stat().st_mtime_ns == changed
    assert actions.default_root(paths) == shown


def test_demo_refuses(paths: AppPaths, small_street: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mode, "DEMO", True)
    request = ("tiny-teacher", "", [], "auto", str(small_street), ["i2v"], 8, "trapezoid", False, "auto")
    for call in (
        lambda: actions.start(paths, *request),
        lambda: actions.cancel(paths, "20260101-000000"),
        lambda: actions.generate_street(paths),
        lambda: actions.show_data(paths, "auto", "/etc", "auto"),
    ):
        with pytest.raises(gr.Error, match=r"(?i)public demo"):
            call()


# ---- figures and HTML


def test_figures(compared: Comparison):
    drawn = [
        plots.cmc(compared, "i2v"),
        plots.ablation(compared, "i2v", "gallery frames"),
        plots.ablation(compared, "v2v", "query views"),
        plots.ap_scatter(compared, "i2v", 0),
        plots.similarities(compared, "i2v", 0.01),
    ]
    assert all(figure.layout.meta["summary"] and not figure.layout.meta.get("why") for figure in drawn)
    value = plots.drawing(drawn)
    assert value == plots.drawing(drawn)
    names = [each["layout"]["uirevision"] for each in json.loads(json.dumps(value))["figures"]]
    assert len(set(names)) == 5, "each keeps its own zoom"
    for figure in drawn:
        assert figure.layout.hoverlabel.bgcolor == plots.CARD, "opaque"
    points = drawn[3].data[0]
    assert points.x == pytest.approx(
        100 * compared.ap("tiny-teacher", "i2v")[list(points.customdata)], abs=0.01
    )
    assert list(drawn[1].data[-1].x) == [1, 2, 4, 8]


def test_unavailable_figures_say_why(compared: Comparison):
    assert "single images" in plots.ablation(compared, "i2i", "gallery frames").layout.meta["why"]
    alone = replace(
        compared,
        networks={"tiny-teacher": NetworkInfo("student", "tiny")},
        curves={"tiny-teacher": {"i2v": {}}},
        differences={},
    )
    assert "second model" in plots.ap_scatter(alone, "i2v").layout.meta["why"]
    assert "Ablate frames and views" in plots.ablation(alone, "i2v", "query views").layout.meta["why"]
    assert labels.labels(alone) == {"tiny-teacher": "Student"}
    assert labels.colours(alone) == {"tiny-teacher": 1}


def test_table_names_protocol_and_convention(compared: Comparison):
    page = results.table_html(compared)
    for words in ("I2V", "video to video", "trapezoid AP", "queries in the gallery", "95 %", "percent"):
        assert words in page
    assert f"<td>{100 * compared.scores['tiny-teacher']['i2v'].map:.2f}" in page


def test_difference_names_both_networks(compared: Comparison):
    """Also where the two are not a teacher and its student."""
    stages = {name: NetworkInfo("teacher", "tiny") for name in compared.networks}
    assert "student − teacher" in results.table_html(replace(compared, networks=stages))
    assert "Student − Teacher" in results.table_html(compared)
    assert "Teacher − Student" in results.table_html(compared, "tiny-student")


def test_published_scores_have_a_row(compared: Comparison):
    networks = {name: NetworkInfo(name[5:], "resnet50") for name in compared.networks}
    page = results.table_html(replace(compared, dataset="mars", networks=networks))
    assert "resnet50 student, published" in page
    assert "77.27" in page
    assert "Table 1" in page


def test_downloads_hold_the_files(compared: Comparison):
    page = results.downloads_html(compared, "a")
    links = re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', page)
    assert [name for name, _ in links] == ["vkd-a.json", "vkd-a.csv", "vkd-a.md", "vkd-a.tex"]
    assert base64.b64decode(links[1][1]).decode().startswith("network,")


def test_outside_text_is_escaped(compared: Comparison, tmp_path: Path):
    evil = '<img src=x onerror="alert(1)">${x}'
    item = next(iter(compared.query_gallery.values()))[0][0]
    named = replace(compared, names={compared.items[int(item)].identity: evil})
    renamed = {
        key: {evil if name == "tiny-student" else name: each for name, each in getattr(named, key).items()}
        for key in ("networks", "scores", "pairs", "curves", "differences", "lists")
    }
    named = replace(named, **renamed)
    status = evaluations.EvaluationStatus("failed", why=evil)
    request = evaluations.EvaluationRequest((evil,), "street", f"/data/{evil}", ("i2v",))
    pages = [
        results.table_html(named),
        results.downloads_html(named, evil),
        results.queries_html(named, tmp_path, "i2v", named.order("i2v"), None),
        results.ranked_html(named, tmp_path, "i2v", 0, 3)[0],
        results.thresholds_html(named, "i2v", 0.01),
        results.progress_html("a", request, status),
    ]
    figures = [
        plots.similarities(named, "i2v", 0.01),
        plots.ap_scatter(named, "i2v"),
        plots.cmc(named, "i2v"),
    ]
    for page in (*pages, json.dumps(plots.drawing(figures))):
        assert "<img src=x" not in page
    assert all("${" not in page for page in pages)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (("waiting", 0, 0, "", None, "", ("a-run", "evaluation-b")), "number 3"),
        (("running",), "Reading the dataset"),
        (("running", 30, 90, "net", 40.0), "30 of 90 frames, about 40 s left"),
        (("running", 90, 90, "net"), "Ranking and comparing"),
        (("stopping", 30, 90), "Cancelling"),
        (("stopped",), "Cancelled."),
        (("failed", 0, 0, "", None, "the disk is full."), "Evaluation failed: the disk is full."),
        (("died", 0, 0, "", None, "out of memory"), "killed: out of memory"),
    ],
)
def test_state_in_words(status: tuple[Any, ...], words: str):
    request = evaluations.EvaluationRequest(("a", "b"), "street", "data/street", ("i2v",))
    page = results.progress_html("20260101-000000", request, evaluations.EvaluationStatus(*status))
    assert words in page


def test_queries_without_a_match_are_left_out(compared: Comparison):
    """A query whose AP is NaN is in no list and no plot."""
    ap = compared.ap("tiny-teacher", "i2v").copy()
    ap[0] = np.nan
    scores = {
        name: {**each, "i2v": replace(each["i2v"], per_query={**each["i2v"].per_query, "map": ap})}
        for name, each in compared.scores.items()
    }
    changed = replace(compared, scores=scores)
    assert 0 not in changed.order("i2v")
    assert 0 not in plots.ap_scatter(changed, "i2v").data[0].customdata


def test_new_checkpoints_are_offered(paths: AppPaths):
    _, _, others = tab.refresh_models(paths, None, None, ["gone", "tiny-student"])
    assert {"tiny-student", "tiny-teacher"} <= set(others["choices"])
    assert others["value"] == ["tiny-student"]
