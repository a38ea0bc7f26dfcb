"""The Evaluate tab as programs see it, and what it draws: plain data that a page can show."""

import base64
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from tests.support.app import free_port
from tests.support.four import as_four
from tests.support.jobs import busy_device
from vkd.evaluation.comparison import Comparison, NetworkInfo
from vkd.jobs import evaluations
from vkd.ui import mode, plots
from vkd.ui.evaluate import actions, films, labels, results
from vkd.ui.state import AppPaths


@pytest.fixture(scope="module")
def root(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoints folder with an untrained pair, and two copies of its networks under other names."""
    folder = tmp_path_factory.mktemp("evaluated-app") / "checkpoints"
    for each in tiny_pair:
        shutil.copytree(each, folder / each.name)
        shutil.copytree(each, folder / f"{each.name}-again")
    return folder


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Client]:
    from vkd.ui import app

    page = app.build(root)
    yield Client(app.launch(page, root, "127.0.0.1", free_port()), verbose=False)
    page.close()


def start(client: Client, street: Path | str, **changes: Any) -> str:
    asked = {"teacher": "tiny-teacher", "student": "tiny-student", "others": [], "data": "auto"}
    asked |= {"root": str(street), "protocols": ["i2v", "v2v"], "views": 8, "ap": "trapezoid", "curves": True}
    asked["cameras"] = "auto"
    return client.predict(*{**asked, **changes}.values(), api_name="/evaluate_start")


def wait(client: Client, name: str) -> dict[str, Any]:
    for _ in range(600):
        job = next(row for row in client.predict(api_name="/evaluate_list") if row["name"] == name)
        if job["state"] not in results.BUSY:
            return job
        time.sleep(0.15)
    raise AssertionError(f"{name} does not end")


@pytest.fixture(scope="module")
def job(client: Client, small_street: Path) -> str:
    name = start(client, small_street)
    assert wait(client, name)["state"] == "finished"
    return name


@pytest.fixture(scope="module")
def found(job: str, root: Path) -> Comparison:
    return actions.comparison(AppPaths.of(root), job)[0]


# ---- as programs see it


def test_a_data_set_is_summed_up_or_refused_with_the_readers_sentence(client, small_street, tmp_path):
    page, data = client.predict("auto", str(small_street), "auto", api_name="/evaluate_data")
    assert {row["split"] for row in data["rows"]} >= {"train", "query"}
    assert "<table" in page
    _, data = client.predict("mars", str(tmp_path / "gone"), "auto", api_name="/evaluate_data")
    assert "does not exist" in data["wrong"]
    _, data = client.predict("auto", " ", "auto", api_name="/evaluate_data")
    assert "write a small street" in data["wrong"]


def test_an_evaluation_tells_what_was_asked_and_how_it_ended(client, job):
    row = client.predict(api_name="/evaluate_list")[0]
    assert (row["name"], row["state"]) == (job, "finished")
    assert row["checkpoints"] == ["tiny-teacher", "tiny-student"]


@pytest.mark.parametrize(
    ("format", "start"),
    [("JSON", "["), ("CSV", "network,"), ("Markdown", "| model"), ("latex", "\\begin{tab")],
)
def test_results_are_downloaded_as_text(client, job, format, start):  # noqa: A002
    text = client.predict(job, format, api_name="/evaluate_download")
    assert text.startswith(start)
    if format == "JSON":
        rows = json.loads(text)
        assert {row["network"] for row in rows} == {"tiny-teacher", "tiny-student", "student − teacher"}


def test_a_query_has_a_ranked_list_for_each_network(client, job, found):
    page, data = client.predict(job, "v2v", 3, 5, api_name="/evaluate_query")
    assert list(data) == ["tiny-teacher", "tiny-student"]
    for name, each in data.items():
        assert each["ap"] == pytest.approx(found.ap(name, "v2v")[3])
        assert [hit["rank"] for hit in each["hits"] if hit["verdict"] != "junk"] == [1, 2, 3, 4, 5]
    assert page.count('aria-label="Matches of') == 2
    assert "data:image/jpeg" in page
    assert "/bbox_test" not in page  # no folder of the server


def test_queries_come_worst_first(client, job, found):
    page, queries = client.predict(job, "i2v", "worst", "", "", api_name="/evaluate_order")
    assert queries == found.order("i2v")
    assert page.index(f'data-query="{queries[0]}"') < page.index(f'data-query="{queries[1]}"')


def test_a_threshold_is_told_for_each_network(client, job):
    _, page, data = client.predict(job, "i2v", 5.0, api_name="/evaluate_threshold")
    for each in data.values():
        assert each["fpr"] <= 0.05
        assert f"{each['similarity']:.3f}" in page


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"teacher": "", "student": ""}, "No network is chosen"),
        ({"student": "tiny-teacher"}, "tiny-teacher is chosen more than once"),
        ({"others": list("abcdefg")}, "9 checkpoints are chosen: compare up to 8"),
        ({"teacher": "../etc"}, "is not the name of a checkpoint"),
        ({"others": ["nobody"]}, "There is no checkpoint named"),
        ({"protocols": []}, "No protocol is chosen"),
        ({"protocols": ["x2y"]}, "not in the list of choices"),
        ({"ap": "round"}, "not in the list of choices"),
        ({"root": "/nowhere/at/all"}, "does not exist"),
    ],
)
def test_wrong_choices_are_answered_with_a_sentence(client, small_street, changes, sentence):
    before = client.predict(api_name="/evaluate_list")
    with pytest.raises(AppError, match=sentence):
        start(client, changes.get("root", small_street), **{k: v for k, v in changes.items() if k != "root"})
    assert client.predict(api_name="/evaluate_list") == before


@pytest.mark.parametrize(
    ("endpoint", "arguments", "sentence"),
    [
        ("/evaluate_download", ("JOB", "stone"), "is no format"),
        ("/evaluate_download", ("../secrets", "JSON"), "There is no evaluation called"),
        ("/evaluate_query", ("JOB", "i2i", 0, 5), "was not evaluated here"),
        ("/evaluate_query", ("JOB", "i2v", 10_000, 5), "is none of them"),
        ("/evaluate_query", ("JOB", "i2v", 0, 5_000), "cannot be shown"),
        ("/evaluate_cancel", ("JOB",), "nothing to cancel"),
    ],
)
def test_wrong_questions_are_answered_with_a_sentence(client, job, endpoint, arguments, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(*(job if each == "JOB" else each for each in arguments), api_name=endpoint)


@pytest.fixture(scope="module")
def four(found: Comparison, root: Path) -> str:
    return as_four(found, root / evaluations.FOLDER / "20200101-000000")


def test_any_two_of_four_networks_are_set_against_each_other(client, four, root):
    found = actions.comparison(AppPaths.of(root), four)[0]
    table, downloads, points, data = client.predict(
        four, "i2v", "tiny-student", "tiny-teacher-again", api_name="/evaluate_pair"
    )
    assert set(data["differences"]) == {"tiny-teacher", "tiny-student-again", "tiny-teacher-again"}
    told = data["differences"]["tiny-teacher-again"]["i2v"]["map"]
    ours, theirs = (found.scores[name]["i2v"].map for name in ("tiny-teacher-again", "tiny-student"))
    assert told["mean"] == pytest.approx(ours - theirs)
    assert told["low"] <= told["mean"] <= told["high"]
    twin = data["differences"]["tiny-student-again"]["i2v"]["map"]
    assert twin == {"mean": 0, "low": 0, "high": 0}, "the same network twice"
    assert table.count("Difference") == 2 * 3
    assert "student − tiny-student" not in table
    assert (points["across"], points["up"]) == ("student AP", "teacher-again AP")
    better = (found.ap("tiny-teacher-again", "i2v") > found.ap("tiny-student", "i2v")).sum()
    assert data["better"]["tiny-teacher-again"] == better
    written = re.findall(r'base64,([^"]+)"', downloads)[1]
    assert "tiny-teacher-again − tiny-student," in base64.b64decode(written).decode()
    _, lost = client.predict(four, "i2v", "loses", "tiny-student", "tiny-teacher", api_name="/evaluate_order")
    assert lost == found.order("i2v", "gains", "tiny-teacher", "tiny-student")


def test_four_networks_are_told_apart(four, root):
    """Short names that differ, colours that differ, bands for a few networks only."""
    found = actions.comparison(AppPaths.of(root), four)[0]
    assert list(labels.labels(found).values()) == ["teacher", "student", "student-again", "teacher-again"]
    assert sorted(labels.colours(found).values()) == [0, 1, 2, 3]
    assert list(labels.parts_of(found).values())[2:] == ["other-2", "other-3"]
    curves = plots.cmc(found, "i2v")
    assert not curves["bands"]
    assert len(curves["lines"]) == len(curves["lines"][0]["low"]) / len(curves["lines"][0]["y"]) * 4
    assert len(plots.pairs(found, "i2v", 0.01)["rows"]) == 4
    assert results.headline(found).count(" / ") == 2 * 3


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (("tiny-student", "tiny-student"), "cannot be compared with itself"),
        (("nobody", ""), "'nobody' was not evaluated here"),
    ],
)
def test_a_pair_that_there_is_not_is_told(client, four, pair, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(four, "i2v", *pair, api_name="/evaluate_pair")


def test_pictures_of_one_camera_need_the_choice_without_cameras(client, root, tmp_path):
    """Everything of an identity and a camera is junk: the sentence leads to the choice, which helps."""
    for person in range(4):
        for walk in range(2):
            place = tmp_path / "mine" / f"person{person}" / "camera1" / f"walk{walk}" / "1.png"
            place.parent.mkdir(parents=True)
            Image.new("RGB", (16, 32), (60 * person, 40 * walk, 90)).save(place)
    _, data = client.predict("folder", str(tmp_path / "mine"), "auto", api_name="/evaluate_data")
    assert "0 valid queries" in data["wrong"]
    assert "cameras='none'" in data["wrong"]
    with pytest.raises(AppError, match="0 valid queries"):
        start(client, tmp_path / "mine", data="folder")
    _, data = client.predict("folder", str(tmp_path / "mine"), "none", api_name="/evaluate_data")
    assert data["wrong"] == ""
    with busy_device(root):  # it need not be done to the end
        name = start(client, tmp_path / "mine", data="folder", cameras="none")
        assert client.predict(api_name="/evaluate_list")[0]["cameras"] == "none"
        client.predict(name, api_name="/evaluate_cancel")


def test_an_evaluation_behind_a_run_says_so_and_is_cancelled(client, root, small_street):
    with busy_device(root):
        name = start(client, small_street)
        while (job := client.predict(api_name="/evaluate_list")[0])["state"] == "running":
            time.sleep(0.1)
        assert (job["name"], job["state"], job["ahead"]) == (name, "waiting", ["a-run"])
        client.predict(name, api_name="/evaluate_cancel")
        assert wait(client, name)["why"] == "cancelled"


def test_a_running_evaluation_is_cancelled(client, small_street):
    others = ["tiny-student-again", "tiny-teacher-again"]
    name = start(client, small_street, others=others)
    assert client.predict(name, api_name="/evaluate_cancel") == name
    job = wait(client, name)
    assert job["why"] == "cancelled"
    assert job["checkpoints"] == ["tiny-teacher", "tiny-student", *others]


def test_a_small_street_is_written_once(client, root, monkeypatch):
    monkeypatch.setattr(
        actions, "SMALL_STREET", {"train_identities": 1, "test_identities": 2, "cameras": 2, "frames": 2}
    )
    shown = client.predict(api_name="/evaluate_street")
    written = root.parent / "data" / "street-small"
    assert Path(shown).resolve() == written.resolve()
    changed = (written / "street.json").stat().st_mtime_ns
    assert client.predict(api_name="/evaluate_street") == shown
    assert (written / "street.json").stat().st_mtime_ns == changed
    assert actions.first_root(AppPaths.of(root)) == shown


def test_a_public_demo_starts_and_writes_nothing(root, small_street, monkeypatch):
    monkeypatch.setattr(mode, "DEMO", True)
    paths = AppPaths.of(root)
    asked = ("tiny-teacher", "", [], "auto", str(small_street), ["i2v"], 8, "trapezoid", False, "auto")
    for deed in (
        lambda: actions.start(paths, *asked),
        lambda: actions.cancel(paths, "20260101-000000"),
        lambda: actions.write_small_street(paths),
        lambda: actions.show_data("auto", "/etc", "auto"),
    ):
        with pytest.raises(gr.Error, match="public demo"):
            deed()


# ---- what is drawn


def test_figures_are_plain_data(found):
    drawn = [
        plots.cmc(found, "i2v"),
        plots.against(found, "i2v", "gallery frames"),
        plots.against(found, "v2v", "query views"),
        plots.scatter(found, "i2v", 0),
        plots.pairs(found, "i2v", 0.01),
    ]
    assert [figure["kind"] for figure in drawn] == ["lines", "lines", "lines", "scatter", "pairs"]
    assert all(figure["summary"] for figure in drawn)
    json.dumps(drawn)
    points = drawn[3]
    for query, x in zip(points["query"], points["x"], strict=True):
        assert x == pytest.approx(found.ap("tiny-teacher", "i2v")[query], abs=1e-4)
    assert drawn[1]["lines"][0]["x"] == [1, 2, 4, 8]


def test_what_cannot_be_drawn_says_why(found):
    assert "single pictures" in plots.against(found, "i2i", "gallery frames")["why"]
    alone = Comparison(
        **{
            **vars(found),
            "networks": {"tiny-teacher": NetworkInfo("student", "tiny")},
            "curves": {"tiny-teacher": {"i2v": {}}},
            "differences": {},
        }
    )
    assert "Choose a teacher and a student" in plots.scatter(alone, "i2v")["why"]
    assert "Not asked for" in plots.against(alone, "i2v", "query views")["why"]
    assert labels.labels(alone) == {"tiny-teacher": "Student"}
    assert labels.colours(alone) == {"tiny-teacher": 1}


def test_the_table_names_its_protocol_and_convention(found):
    page = results.table_html(found)
    for words in (
        "I2V",
        "video to video",
        "trapezoid AP",
        "queries in the gallery",
        "95 % interval",
        "percent",
    ):
        assert words in page
    teacher = 100 * found.scores["tiny-teacher"]["i2v"].map
    assert f"<td>{teacher:.2f}" in page


def test_published_numbers_have_a_row_of_their_own(found):
    known = Comparison(**{**vars(found), "dataset": "mars"})
    known.networks.update()
    as_paper = Comparison(
        **{**vars(known), "networks": {name: NetworkInfo(name[5:], "resnet50") for name in known.networks}}
    )
    page = results.table_html(as_paper)
    assert "resnet50 student, published" in page
    assert "77.27" in page
    assert "Table 1" in page


def test_downloads_hold_the_files_themselves(found):
    links = re.findall(
        r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', results.downloads_html(found, "a")
    )
    assert [name for name, _ in links] == ["vkd-a.json", "vkd-a.csv", "vkd-a.md", "vkd-a.tex"]
    assert base64.b64decode(links[1][1]).decode().startswith("network,")


def test_text_from_outside_never_becomes_markup(found, tmp_path):
    evil = '<img src=x onerror="alert(1)">${x}'
    item = next(iter(found.query_gallery.values()))[0][0]
    named = Comparison(**{**vars(found), "names": {found.items[int(item)].identity: evil}})
    renamed = {
        key: {evil if name == "tiny-student" else name: each for name, each in getattr(named, key).items()}
        for key in ("networks", "scores", "pairs", "curves", "differences", "features")
    }
    named = Comparison(**{**vars(named), **renamed})
    status = evaluations.EvaluationStatus("failed", why=evil)
    asked = evaluations.EvaluationRequest((evil,), "street", f"/data/{evil}", ("i2v",))
    pages = [
        results.table_html(named),
        films.queries_html(named, tmp_path, "i2v", named.order("i2v"), None),
        films.lists_html(named, tmp_path, "i2v", 0, 3)[0],
        results.thresholds_html(named, "i2v", 0.01),
        results.progress_html("a", asked, status),
        json.dumps([plots.pairs(named, "i2v", 0.01), plots.scatter(named, "i2v"), plots.cmc(named, "i2v")]),
    ]
    for page in pages:
        assert "<img src=x" not in page
    assert all("${" not in page for page in pages[:-1])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            evaluations.EvaluationStatus("waiting", ahead=("a-run", "evaluation-b")),
            "Number 3 in the queue of the device",
        ),
        (evaluations.EvaluationStatus("running"), "Reading the data set"),
        (evaluations.EvaluationStatus("running", 30, 90, "net", 40.0), "30 of 90 frames, about 40 s left"),
        (evaluations.EvaluationStatus("running", 90, 90, "net"), "Ranking and comparing"),
        (evaluations.EvaluationStatus("stopping", 30, 90), "Cancelling"),
        (evaluations.EvaluationStatus("stopped"), "Cancelled"),
        (
            evaluations.EvaluationStatus("failed", why="the disk is full."),
            "It did not work: the disk is full.",
        ),
        (evaluations.EvaluationStatus("died", why="out of memory"), "without a word (out of memory)"),
    ],
)
def test_every_state_has_its_words(status, words):
    asked = evaluations.EvaluationRequest(("a", "b"), "street", "data/street", ("i2v",))
    assert words in results.progress_html("20260101-000000", asked, status)


def test_numbers_that_no_query_has_are_left_out(found):
    """A query without a match is in no order and on no point."""
    ap = {name: dict(each) for name, each in found.scores.items()}
    assert not any(np.isnan(each["i2v"].ap[found.order("i2v")]).any() for each in ap.values())
