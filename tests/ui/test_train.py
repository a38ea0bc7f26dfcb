"""The Train tab without a browser: runs as data, what is sent to a page, what is refused, endpoints."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client

from tests.support.app import error_of, wait_until
from tests.support.recorded_runs import SCORES, append, ended, epoch, started, write_run
from vkd.jobs import runs as run_jobs
from vkd.training.presets import PRESETS
from vkd.ui import dataset, mode
from vkd.ui.state import AppPaths
from vkd.ui.train import actions, curves, form, presets, runs, tab, views


def headline(root: Path, name: str) -> str:
    return views.headline_html(runs.read_run(root, name))


# ---- state of a run


@pytest.mark.parametrize(
    ("state", "events"),
    [
        ("new", []),
        ("died", [started(), epoch(1)]),
        ("finished", [started(), epoch(1), ended("finished")]),
        ("stopped", [started(), epoch(1), ended("stopped", why="asked to stop")]),
        ("failed", [started(), ended("failed", why="No space left on device")]),
    ],
)
def test_state_of_ended_run(tmp_path: Path, state: str, events: list[dict[str, Any]]):
    write_run(tmp_path, "run", *events)
    assert runs.read_run(tmp_path, "run").state == state
    page = headline(tmp_path, "run")
    assert views.STATES[state] in page
    assert ("No space left on device" in page) == (state == "failed")


def test_state_of_active_run(tmp_path: Path):
    folder = write_run(tmp_path, "alive")
    with run_jobs.lock(folder):
        assert runs.read_run(tmp_path, "alive").state == "starting"
        append(folder, {"kind": "waiting", "epoch": 0, "time": 1.0, "ahead": ["other"], "device": "cpu"})
        assert runs.read_run(tmp_path, "alive").state == "waiting"
        assert "Queued behind other (cpu busy)" in headline(tmp_path, "alive")
        append(folder, started(), epoch(1), epoch(2))
        assert runs.read_run(tmp_path, "alive").state == "running"
        assert "epoch 2 of 20 · 3 min left" in headline(tmp_path, "alive"), "18 epochs at 10 s each"
        run_jobs.ask_to_stop(folder)
        assert runs.read_run(tmp_path, "alive").state == "stopping"


def test_killed_run_shows_log_tail(tmp_path: Path):
    folder = write_run(tmp_path, "gone", started(), epoch(1))
    (folder / "log.txt").write_text("first\n" + "middle\n" * 50 + "Killed <b>hf_secretTOKEN1</b>\n")
    page = headline(tmp_path, "gone")
    assert "Resume starts from the beginning" in page
    assert "Killed &lt;b&gt;" in page
    assert "secretTOKEN1" not in page
    assert "first" not in page


def test_log_tail_of_progress_bar(tmp_path: Path):
    (tmp_path / "log.txt").write_bytes(b"one\r\n 1%\r 2%\r\x1b[31m100%\x1b[0m\nlast \xff\n")
    assert runs.log_tail(tmp_path) == "one\n100%\nlast \ufffd"


def test_unreadable_settings(tmp_path: Path):
    (write_run(tmp_path, "odd") / "settings.json").write_text("{")
    run = runs.read_run(tmp_path, "odd")
    assert run.state == "broken"
    assert str(tmp_path / "odd" / "settings.json") in headline(tmp_path, "odd")
    assert views.STATES["broken"] in views.list_html([run], [], {})


def test_only_valid_names_are_runs(tmp_path: Path):
    write_run(tmp_path, "good")
    for name in ("Capital", "with space", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text("{}")
    assert runs.names(tmp_path) == ["good"]
    for name in ("../good", "", "good/..", "/etc", "Capital", "x" * 65):
        with pytest.raises(ValueError, match="name"):
            runs.folder_of(tmp_path, name)


def test_run_text_is_escaped(tmp_path: Path):
    evil = "<img src=x onerror=alert(1)>${x}"
    write_run(tmp_path, "run", started(notes=[evil]), ended("failed", why=evil))
    page = headline(tmp_path, "run")
    assert "<img" not in page
    assert "${" not in page


# ---- damaged records


def test_torn_line_is_read_once_whole(tmp_path: Path):
    folder = write_run(tmp_path, "run", started())
    line = json.dumps(epoch(1)) + "\n"
    for part, kinds in ((line[:20], ["started"]), (line[20:], ["started", "epoch"])):
        with (folder / "events.jsonl").open("a") as file:
            file.write(part)
        assert [event["kind"] for event in runs.events_of(folder).events] == kinds
    assert runs.events_of(folder).invalid_lines == 0


@pytest.mark.parametrize(
    "line",
    [b"\x00\xff\x00", b"{", b"[]", b"null", b'{"kind": "epoch"}',
     b'{"kind": "epoch", "time": 1, "epoch": "x"}',
     b'{"kind": "scores", "time": 1, "epoch": 1, "scores": 3}', b"[" * 5000],
)  # fmt: skip
def test_invalid_lines_are_counted(tmp_path: Path, line: bytes):
    folder = write_run(tmp_path, "run", started(), epoch(1))
    with (folder / "events.jsonl").open("ab") as file:
        file.write(line + b"\n")
    append(folder, epoch(2), ended("finished", epoch=2))
    run = runs.read_run(tmp_path, "run")
    assert (run.state, run.status.epoch, run.invalid_lines) == ("finished", 2, 1)
    assert "invalid lines ignored: 1" in headline(tmp_path, "run")
    assert [point["epoch"] for point in runs.points_after(folder, 0)[0]] == [1, 2]


def test_replaced_record_is_read_anew(tmp_path: Path):
    folder = write_run(tmp_path, "run", started(), epoch(1), epoch(2))
    assert len(runs.events_of(folder).events) == 3
    (folder / "events.jsonl").unlink()
    append(folder, started())
    assert len(runs.events_of(folder).events) == 1


# ---- curves


def drawn(root: Path, *names: str, mark: str = "") -> dict[str, Any] | None:
    return curves.refresh(root, names, runs.colour_indexes(runs.read_runs(root)), mark)


def test_curves_are_sent_only_when_changed(tmp_path: Path):
    folder = write_run(tmp_path, "run", started(), epoch(1), epoch(2))
    first = drawn(tmp_path, "run")
    assert first is not None
    assert drawn(tmp_path, "run", mark=first["mark"]) is None
    append(folder, epoch(3))
    second = drawn(tmp_path, "run", mark=first["mark"])
    assert second is not None
    total = next(each for each in second["figures"] if each["layout"]["uirevision"] == "losses/total")
    assert total["data"][0]["x"] == [1, 2, 3]


def test_every_number_is_a_point():
    event = epoch(3, total=2.0, surprise=0.123456789) | {"temperature": 61}
    events = [started(), event, ended("saved"), ended("probes"), ended("scores", epoch=3, scores=SCORES)]
    (at, numbers), (_, scores) = runs.points(events)
    assert (at, numbers["losses/surprise"], numbers["temperature"]) == (3, 0.12346, 61)
    assert scores["i2v/map"] == 0.5


def test_long_curve_is_thinned(tmp_path: Path):
    write_run(tmp_path, "run", started(), *map(epoch, range(1, 2000)))
    first = drawn(tmp_path, "run")
    assert first is not None
    x = first["figures"][0]["data"][0]["x"]
    assert len(x) == curves.MAX_POINTS
    assert (x[0], x[-1]) == (1, 1999)


def test_levels_of_teacher_and_paper(tmp_path: Path, tiny_pair: tuple[Path, Path]):
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    config = json.loads((tiny_pair[0] / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**config, "backbone": "resnet50", "scores": SCORES}))
    levels = runs.levels(PRESETS["mars-resnet50-student"].settings(teacher=teacher))
    assert runs.Level("i2v/map", 0.5, "teacher") in levels
    assert runs.Level("i2v/map", 0.7727, "published") in levels
    alone = runs.levels(PRESETS["mars-resnet50-student"].settings(teacher=Path("nowhere")))
    assert {level.source for level in alone} == {"published"}


def test_colours_do_not_depend_on_the_selection(tmp_path: Path):
    for number, (name, preset) in enumerate(
        {"b": "street-tiny-teacher", "a": "street-tiny-student", "c": "street-tiny-teacher"}.items()
    ):
        write_run(tmp_path, name, started(time=100.0 + number), epoch(1), preset=preset)
    listed = runs.read_runs(tmp_path)
    assert runs.colour_indexes(listed) == {"b": 1, "a": 0, "c": 3}
    for selected in (["c"], ["a", "c"], ["c", "b"]):
        value = drawn(tmp_path, *selected)
        assert value is not None
        lines = {line["name"]: line["line"]["color"] for line in value["figures"][0]["data"]}
        assert lines["c"] == "var(--vkd-run-3)"


# ---- what a page is sent


def test_page_up_to_date_is_sent_nothing(tmp_path: Path):
    write_run(tmp_path, "run", started(), epoch(1))
    paths = AppPaths.of(tmp_path)
    selected, listing, headline, figures, _, log = tab.refresh(paths, [], {})[:6]
    have = {
        "curves": figures["mark"], "attention": {"run": "run", "epochs": []},
        "list": views.mark_of(listing), "headline": views.mark_of(headline), "log": views.mark_of(log),
    }  # fmt: skip
    assert all(answer == gr.skip() for answer in tab.refresh(paths, selected, have))


def test_snapshots_wait_for_their_tab(tmp_path: Path):
    """Before the sub-tab was opened its images are not sent, however often the page asks."""
    write_run(tmp_path, "run", started(), epoch(1))
    paths = AppPaths.of(tmp_path)
    assert tab.refresh(paths, ["run"], {"attention": None})[4] == gr.skip()
    assert tab.refresh(paths, ["run"], {"attention": {"run": "", "epochs": []}})[4]["run"] == "run"


def test_deleted_run_leaves_the_page(tmp_path: Path):
    write_run(tmp_path, "stays", started())
    assert tab.refresh(AppPaths.of(tmp_path), ["gone"], {})[0] == ["stays"]


def test_default_selection_is_what_trains(tmp_path: Path):
    write_run(tmp_path, "new", started())
    with run_jobs.lock(write_run(tmp_path, "older")):
        assert runs.default_selection(runs.read_runs(tmp_path)) == ["older"]
    assert runs.default_selection([]) == []


def test_selection_by_name_and_box(monkeypatch: pytest.MonkeyPatch):
    def click(selected: list[str], run: str, how: str) -> list[str]:
        return tab.select(selected, SimpleNamespace(run=run, how=how))  # type: ignore[arg-type]

    assert click(["a", "b"], "c", "name") == ["c", "b"]
    assert click(["a"], "b", "box") == ["a", "b"]
    assert click(["a", "b"], "a", "box") == ["b"]
    warnings: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda text, **more: warnings.append(text))
    assert click(list("abcdef"), "g", "box") == list("abcdef"), "nothing is dropped for a seventh run"
    assert len(warnings) == 1


def test_confirmation_deletes_the_run_it_names():
    shown, question, target = tab.ask_delete(["a", "b"])
    assert shown["visible"]
    assert "<b>a</b>" in question
    assert target == "a"
    assert tab.close_other(["b"], target) == (gr.update(visible=False), "")
    assert tab.close_other(["a"], target) == (gr.update(visible=True), "a")


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (720, "12 min"), (11_100, "3 h 05 min")])
def test_duration(seconds: float, text: str):
    assert views.duration(seconds) == text


# ---- dataset and form


def test_dataset_table(small_street: Path):
    rows, _ = dataset.summarise("street", str(small_street))
    assert {row["split"]: row["identities"] for row in rows}["train"] == 12
    assert dataset.batch_error(rows, 13)
    assert dataset.batch_error(rows, 12) == ""
    page = dataset.table_html(rows, ["mind <this>"])
    assert "<td>12</td>" in page
    assert "mind &lt;this&gt;" in page


def test_missing_street_can_be_generated(tmp_path: Path):
    page, data, offer = actions.show_data(AppPaths.of(tmp_path), "street", str(tmp_path / "nowhere"), "auto")
    assert offer["visible"]
    assert "does not exist" in page
    assert "does not exist" in data["wrong"]


def test_missing_teacher_becomes_one_of_the_same_dataset(paths: AppPaths):
    filled = presets.with_teacher(paths, PRESETS["street-tiny-student"].settings())
    assert getattr(filled, "teacher", None) == paths.checkpoints / "tiny-teacher"
    mars = PRESETS["mars-resnet50-student"].settings()
    assert presets.with_teacher(paths, mars) == mars


def test_expected_scores_of_presets():
    assert "82.2 %" in presets.expected_html("mars-resnet50-teacher")
    assert "Smoke test" in presets.expected_html("street-tiny-teacher")


def test_invalid_field_stops_the_start():
    with pytest.raises(gr.Error, match="Identities per batch"):
        presets.require_valid({"identities_per_batch": "Should be greater than or equal to 2, not 1."})
    presets.require_valid({})


# ---- endpoints


@pytest.fixture
def client(app_client: Client, root: Path) -> Iterator[Client]:
    yield app_client
    assert not list(root.glob("*/settings.json")), "a run was left behind"


@pytest.fixture
def root(app_paths: AppPaths) -> Path:
    return app_paths.checkpoints


def settings_json(street: Path, **changes: Any) -> str:
    """Settings of a run of seconds."""
    small = {"root": street, "image_size": (64, 32), "identities_per_batch": 4, "workers": 0, "epochs": 2}
    return form.to_json(PRESETS["street-tiny-teacher"].settings(**{**small, **changes}))


def ended_run(client: Client, name: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        run = next(run for run in client.predict(api_name="/train_runs") if run["name"] == name)
        return run if run["state"] in ("finished", "failed", "died") else None

    return wait_until(found, f"{name} does not end")


def test_train_watch_delete(client: Client, root: Path, small_street: Path):
    page, data, *_ = client.predict("street", str(small_street), "auto", api_name="/train_check")
    assert data["rows"][0]["identities"] == 12
    assert "vkd-table" in page
    assert json.loads(client.predict("street-tiny-teacher", api_name="/train_preset"))["backbone"] == "tiny"
    name = client.predict(settings_json(small_street), "My run!!", api_name="/train_start")
    assert name == "my-run"
    run = ended_run(client, name)
    assert run["state"] == "finished", (root / name / "log.txt").read_text()
    assert run["epoch"] == run["epochs"] == 2
    assert 0 <= run["scores"]["i2v"]["map"] <= 1
    answer = client.predict(name, 0, api_name="/train_points")
    assert [point["epoch"] for point in answer["points"] if "losses/total" in point] == [1, 2]
    assert client.predict(name, answer["offset"], api_name="/train_points")["points"] == []
    assert "Finished" in client.predict(name, api_name="/train_log")
    assert (root / name / "probes" / "00002" / "look.json").is_file()
    assert "repeat the name" in error_of(client.predict, name, "yours", api_name="/train_delete")
    assert client.predict(name, name, api_name="/train_delete") == name
    assert not (root / name).exists()


def test_street_is_not_generated_over_something(client: Client, small_street: Path):
    for folder in (str(small_street), "", " "):
        assert "exists already" in error_of(client.predict, folder, api_name="/train_street")


@pytest.mark.parametrize("name", ["../mine", "", "/etc/passwd", "none-such"])
@pytest.mark.parametrize("action", ["resume", "stop", "log"])
def test_unknown_run_is_refused(client: Client, action: str, name: str):
    assert f"'{name}'" in error_of(client.predict, name, api_name=f"/train_{action}")


def test_impossible_settings_are_refused(client: Client, small_street: Path, tmp_path: Path):
    student = PRESETS["street-tiny-student"]
    for text, part in [
        ("not json", "settings file"),
        (settings_json(small_street, identities_per_batch=100), "100 identities"),
        (settings_json(tmp_path / "nowhere"), "does not exist"),
        (form.to_json(student.settings(root=small_street, teacher=None)), "needs a teacher"),
        (form.to_json(student.settings(root=small_street, teacher=tmp_path)), "config.json"),
    ]:
        assert part in error_of(client.predict, text, "", api_name="/train_start")


def test_demo_refuses_training(
    client: Client, root: Path, small_street: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mode, "DEMO", True)
    calls = {
        "train_start": (settings_json(small_street), ""),
        "train_resume": ("mine",),
        "train_stop": ("mine",),
        "train_delete": ("mine", "mine"),
        "train_street": (str(root / "street"),),
        "train_check": ("street", str(small_street), "auto"),
    }
    for name, values in calls.items():
        assert "public demo" in error_of(client.predict, *values, api_name=f"/{name}").lower()


def test_running_run_is_not_deleted(client: Client, root: Path):
    folder = write_run(root, "killed", started(), epoch(1))
    code = "import sys\nfrom vkd.jobs import runs\nwith runs.lock(sys.argv[1]):\n"
    code += "    print('held', flush=True)\n    sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert runs.read_run(root, "killed").state == "running"
        assert "stop it first" in error_of(client.predict, "killed", "killed", api_name="/train_delete")
    finally:
        holder.kill()
        holder.wait()
    assert ended_run(client, "killed")["state"] == "died"
    client.predict("killed", "killed", api_name="/train_delete")
