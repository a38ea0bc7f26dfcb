"""The Train tab without a browser: what a folder says, what is sent, what is refused, what programs call."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from vkd.jobs import events as written
from vkd.jobs import runs
from vkd.training import settings
from vkd.training.presets import PRESETS
from vkd.ui import dataset, mode
from vkd.ui.state import AppPaths
from vkd.ui.train import actions, board, form, presets, tab
from vkd.ui.train import runs as train_runs

SCORES = {"i2v": {"map": 0.5, "map_trapezoid": 0.5, "map_standard": 0.52, "top1": 0.61}}


def epoch(number: int, **losses: float) -> dict[str, Any]:
    return {
        "kind": "epoch", "epoch": number, "time": 100.0 + 10 * number,
        "losses": losses or {"total": 1 / number},
        "learning_rate": 1e-3, "images_per_second": 200.0, "memory_mb": 900.0,
    }  # fmt: skip


def started(**values: Any) -> dict[str, Any]:
    return {
        "kind": "started",
        "epoch": 0,
        "time": 100.0,
        "epochs": 20,
        "device": "cpu",
        "notes": [],
        **values,
    }


def write(
    root: Path, name: str, *events: dict[str, Any], preset: str = "street-tiny-teacher", **changes: Any
) -> Path:
    """A run's folder with these events, whose trainer (if it was ever started) is gone."""
    folder = root / name
    folder.mkdir(parents=True)
    settings.save(PRESETS[preset].settings(**changes), folder / "settings.json")
    append(folder, *events)
    if events:
        (folder / "lock").write_text("99999\n")
    return folder


def append(folder: Path, *events: dict[str, Any]) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


# --- what a folder says -------------------------------------------------------------------------------------


def test_a_folder_says_how_its_run_stands(tmp_path: Path):
    write(tmp_path, "new")
    write(tmp_path, "gone", started(), epoch(1))
    write(tmp_path, "done", started(), epoch(1), {"kind": "finished", "epoch": 1, "time": 1.0})
    write(
        tmp_path,
        "halted",
        started(),
        epoch(1),
        {"kind": "stopped", "epoch": 1, "time": 1.0, "why": "asked to stop"},
    )
    write(tmp_path, "broke", started(), {"kind": "failed", "time": 1.0, "why": "No space left on device"})
    found = {run.name: run.state for run in train_runs.look_at_all(tmp_path)}
    assert found == {"new": "new", "gone": "died", "done": "finished", "halted": "stopped", "broke": "failed"}
    assert "No space left on device" in board.headline_html(train_runs.look(tmp_path, "broke"))


def test_a_living_run_starts_waits_trains_and_stops(tmp_path: Path):
    folder = write(tmp_path, "alive")
    with runs.lock(folder):
        assert train_runs.look(tmp_path, "alive").state == "starting"
        append(folder, {"kind": "waiting", "epoch": 0, "time": 1.0, "ahead": ["other"], "device": "cpu"})
        waiting = train_runs.look(tmp_path, "alive")
        assert waiting.state == "waiting"
        assert "waits for other to leave the cpu" in board.headline_html(waiting)
        append(folder, started(), epoch(1), epoch(2))
        training = train_runs.look(tmp_path, "alive")
        assert training.state == "running"
        assert "epoch 2 of 20" in board.headline_html(training)
        assert "3 min left" in board.headline_html(training), "18 epochs at 10 s each"
        runs.ask_to_stop(folder)
        assert train_runs.look(tmp_path, "alive").state == "stopping"


def test_a_dead_run_shows_the_last_lines_of_its_log(tmp_path: Path):
    folder = write(tmp_path, "gone", started(), epoch(1))
    (folder / "log.txt").write_text("first\n" + "middle\n" * 50 + "Killed <b>hf_secretTOKEN1</b>\n")
    html = board.headline_html(train_runs.look(tmp_path, "gone"))
    assert "Nothing was saved yet: Resume starts it anew" in html
    assert "Killed &lt;b&gt;hf_…&lt;/b&gt;" in html
    assert "first" not in html


def test_of_a_progress_bar_only_the_last_state_is_shown(tmp_path: Path):
    (tmp_path / "log.txt").write_bytes(b"one\r\n 1%\r 2%\r\x1b[31m100%\x1b[0m\nlast \xff\n")
    assert train_runs.log_tail(tmp_path) == "one\n100%\nlast \ufffd"


def test_a_run_with_unreadable_settings_is_listed_with_the_reason(tmp_path: Path):
    folder = write(tmp_path, "odd")
    (folder / "settings.json").write_text("{")
    run = train_runs.look(tmp_path, "odd")
    assert run.state == "broken"
    assert "not a file of settings" in board.headline_html(run)
    assert "unreadable" in board.list_html([run], [])


def test_only_folders_with_a_run_name_are_runs(tmp_path: Path):
    write(tmp_path, "good")
    for name in ("Capital", "with space", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text("{}")
    assert train_runs.names(tmp_path) == ["good"]
    for name in ("../good", "", "good/..", "/etc", "Capital", "x" * 65):
        with pytest.raises(ValueError, match="no name for a run"):
            train_runs.folder_of(tmp_path, name)


def test_what_was_written_by_others_is_escaped(tmp_path: Path):
    write(
        tmp_path,
        "run",
        started(notes=["<img src=x onerror=alert(1)>"]),
        {"kind": "failed", "time": 1.0, "why": "<script>"},
    )
    html = board.headline_html(train_runs.look(tmp_path, "run"))
    assert "<img" not in html
    assert "<script>" not in html


# --- damage -------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_read_once_it_is_whole(tmp_path: Path):
    folder = write(tmp_path, "run", started())
    line = json.dumps(epoch(1)) + "\n"
    with (folder / "events.jsonl").open("a") as file:
        file.write(line[:20])
    assert [event["kind"] for event in train_runs.seen(folder).events] == ["started"]
    with (folder / "events.jsonl").open("a") as file:
        file.write(line[20:])
    assert [event["kind"] for event in train_runs.seen(folder).events] == ["started", "epoch"]
    assert train_runs.seen(folder).damaged == 0


@pytest.mark.parametrize(
    "line",
    [b"\x00\xff\x00", b"{", b"[]", b"null", b'{"kind": "epoch"}',
     b'{"kind": "epoch", "time": 1, "epoch": "x"}',
     b'{"kind": "scores", "time": 1, "epoch": 1, "scores": 3}', b"[" * 5000],
)  # fmt: skip
def test_damaged_lines_are_left_out_and_counted(tmp_path: Path, line: bytes):
    folder = write(tmp_path, "run", started(), epoch(1))
    with (folder / "events.jsonl").open("ab") as file:
        file.write(line + b"\n")
    append(folder, epoch(2), {"kind": "finished", "epoch": 2, "time": 1.0})
    run = train_runs.look(tmp_path, "run")
    assert run.state == "finished"
    assert run.status is not None
    assert run.status.epoch == 2
    assert run.damaged == 1
    assert "1 line of its events.jsonl cannot be read" in board.headline_html(run)
    message = train_runs.news(tmp_path, ["run"], {})
    assert message is not None
    assert [at for at, _ in message["runs"]["run"]["points"]] == [1, 2]


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path):
    folder = write(tmp_path, "run", started(), epoch(1), epoch(2))
    assert len(train_runs.seen(folder).events) == 3
    (folder / "events.jsonl").unlink()
    append(folder, started())
    assert len(train_runs.seen(folder).events) == 1


# --- what is sent -------------------------------------------------------------------------------------------


def test_only_new_points_are_sent(tmp_path: Path):
    folder = write(tmp_path, "run", started(), epoch(1), epoch(2))
    first = train_runs.news(tmp_path, ["run"], {})
    assert first is not None
    have = {"run": first["runs"]["run"]["to"]}
    assert train_runs.news(tmp_path, ["run"], have, ["run"]) is None, "nothing is new"
    append(folder, epoch(3))
    second = train_runs.news(tmp_path, ["run"], have, ["run"])
    assert second is not None
    assert [at for at, _ in second["runs"]["run"]["points"]] == [3]
    assert second["runs"]["run"]["from"] == have["run"]
    assert "references" not in second["runs"]["run"]


def test_a_page_that_knows_more_than_the_file_holds_gets_everything(tmp_path: Path):
    write(tmp_path, "run", started(), epoch(1))
    message = train_runs.news(tmp_path, ["run"], {"run": 10**9}, ["run"])
    assert message is not None
    assert message["runs"]["run"]["from"] == 0
    assert len(message["runs"]["run"]["points"]) == 1


def test_another_order_is_sent_without_points(tmp_path: Path):
    for name in ("a", "b"):
        write(tmp_path, name, started(), epoch(1))
    both = train_runs.news(tmp_path, ["a", "b"], {})
    assert both is not None
    have = {name: part["to"] for name, part in both["runs"].items()}
    assert train_runs.news(tmp_path, ["b", "a"], have, ["a", "b"]) == {"order": ["b", "a"], "runs": {}}


def test_every_number_of_an_event_is_a_point():
    event = epoch(3, total=2.0, surprise=0.123456789) | {"temperature": 61}
    scores = {"kind": "scores", "epoch": 3, "time": 1.0, "scores": SCORES}
    (at, numbers), (_, found) = train_runs.points(
        [started(), event, {"kind": "saved", "epoch": 3, "time": 1.0}, scores]
    )
    assert at == 3
    assert numbers["losses/surprise"] == 0.12346
    assert numbers["temperature"] == 61
    assert found["i2v/map"] == 0.5


def test_a_students_plots_have_its_teachers_level_and_the_published_one(
    tmp_path: Path, tiny_pair: tuple[Path, Path]
):
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    config = json.loads((tiny_pair[0] / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**config, "backbone": "resnet50", "scores": SCORES}))
    asked = PRESETS["mars-resnet50-student"].settings(teacher=teacher)
    lines = {
        (line["text"], line["series"]): (line["value"], line["dash"]) for line in train_runs.references(asked)
    }
    assert lines["teacher", "i2v/map"] == (0.5, "dash")
    assert lines["published", "i2v/map"] == (0.7727, "dot")


def test_without_its_teacher_a_student_still_has_the_published_level():
    lines = train_runs.references(PRESETS["mars-resnet50-student"].settings(teacher=Path("nowhere")))
    assert {line["text"] for line in lines} == {"published"}


def test_a_page_that_is_up_to_date_is_sent_nothing(tmp_path: Path):
    write(tmp_path, "run", started(), epoch(1))
    paths = AppPaths.of(tmp_path)
    first = tab.look(paths, [], {})
    shown, listed, headline, message, _, log = first[:6]
    have = {
        "runs": {"run": message["runs"]["run"]["to"]}, "order": shown, "looks": {"run": "run", "epochs": []},
        "list": board.mark_of(listed), "headline": board.mark_of(headline), "log": board.mark_of(log),
    }  # fmt: skip
    assert all(answer == gr.skip() for answer in tab.look(paths, shown, have))


def test_a_run_that_was_deleted_elsewhere_leaves_the_page(tmp_path: Path):
    write(tmp_path, "stays", started())
    shown = tab.look(AppPaths.of(tmp_path), ["gone"], {})[0]
    assert shown == ["stays"]


def test_a_page_opens_with_what_is_training(tmp_path: Path):
    write(tmp_path, "new", started())
    older = write(tmp_path, "older")
    with runs.lock(older):
        assert train_runs.first_shown(train_runs.look_at_all(tmp_path)) == ["older"]
    assert train_runs.first_shown([]) == []


@pytest.mark.parametrize(("seconds", "told"), [(40, "40 s"), (720, "12 min"), (11_100, "3 h 05 min")])
def test_durations_are_told_in_words(seconds: float, told: str):
    assert train_runs.duration(seconds) == told


# --- data and form ------------------------------------------------------------------------------------------


def test_data_are_shown_with_what_to_mind(small_street: Path):
    rows, _ = dataset.check("street", str(small_street))
    assert {row["split"]: row["identities"] for row in rows}["train"] == 12
    assert "lower 'Identities per batch'" in dataset.against(rows, 13)
    assert dataset.against(rows, 12) == ""
    assert "<td>12</td>" in dataset.as_html(rows, ["mind <this>"])
    assert "mind &lt;this&gt;" in dataset.as_html(rows, ["mind <this>"])


def test_data_that_cannot_be_read_are_told_with_the_readers_sentence(tmp_path: Path):
    nowhere = str(tmp_path / "nowhere")
    html, data, offered = actions.show_data(AppPaths.of(tmp_path), "street", nowhere, "auto")
    assert offered["visible"], "the street can be rendered there"
    assert "does not exist" in html
    assert "does not exist" in data["wrong"]


def test_a_preset_with_a_missing_teacher_takes_the_latest_of_its_data_set(
    tmp_path: Path, tiny_pair: tuple[Path, Path]
):
    (tmp_path / "tiny-teacher").symlink_to(tiny_pair[0])
    paths = AppPaths.of(tmp_path)
    filled = presets.fitting_teacher(paths, PRESETS["street-tiny-student"].settings())
    assert getattr(filled, "teacher", None) == tmp_path / "tiny-teacher"
    mars = PRESETS["mars-resnet50-student"].settings()
    assert presets.fitting_teacher(paths, mars) == mars, "a teacher of another data set is not offered"


def test_published_presets_say_what_to_expect():
    assert "82.2 %" in presets.expected_html("mars-resnet50-teacher")
    assert "trapezoid AP" in presets.expected_html("mars-resnet50-teacher")
    assert "minute" in presets.expected_html("street-tiny-teacher")


def test_a_wrong_field_stops_the_start_and_is_named():
    with pytest.raises(gr.Error, match="Identities per batch"):
        presets.require_right({"identities_per_batch": "Should be greater than or equal to 2, not 1."})
    presets.require_right({})


# --- what programs may call ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Client]:
    with gr.Blocks(analytics_enabled=False) as page:
        tab.build(AppPaths.of(root), page, [page.load])
    _, address, _ = page.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield Client(address, verbose=False, analytics_enabled=False)
    page.close()


def small(street: Path, **changes: Any) -> str:
    """Settings text of a run of seconds."""
    asked = PRESETS["street-tiny-teacher"].settings(
        **{
            "root": street,
            "image_size": (64, 32),
            "identities_per_batch": 4,
            "workers": 0,
            "epochs": 2,
            **changes,
        }
    )
    return form.as_text(asked)


def until(client: Client, name: str, *states: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        run = next(run for run in client.predict(api_name="/train_runs") if run["name"] == name)
        if run["state"] in states:
            return run
        assert time.monotonic() < deadline, run
        time.sleep(0.3)


def test_a_program_trains_watches_and_deletes(client: Client, root: Path, small_street: Path):
    html, checked, *_ = client.predict("street", str(small_street), "auto", api_name="/train_check")
    assert checked["rows"][0]["identities"] == 12
    assert "vkd-table" in html
    preset = json.loads(client.predict("street-tiny-teacher", api_name="/train_preset"))
    assert preset["backbone"] == "tiny"
    assert client.predict(small(small_street), "mine", api_name="/train_start") == "mine"
    finished = until(client, "mine", "finished", "failed", "died")
    assert finished["state"] == "finished", (root / "mine" / "log.txt").read_text()
    assert finished["epoch"] == finished["epochs"] == 2
    assert 0 <= finished["scores"]["i2v"]["map"] <= 1
    answer = client.predict("mine", 0, api_name="/train_points")
    assert [point["epoch"] for point in answer["points"] if "losses/total" in point] == [1, 2]
    assert client.predict("mine", answer["offset"], api_name="/train_points")["points"] == []
    assert "Finished" in client.predict("mine", api_name="/train_log")
    assert (root / "mine" / "probes" / "00002" / "look.json").is_file(), "attention was watched"
    with pytest.raises(AppError, match="repeat the name"):
        client.predict("mine", "yours", api_name="/train_delete")
    assert client.predict("mine", "mine", api_name="/train_delete") == "mine"
    assert not (root / "mine").exists()


def test_a_street_is_not_rendered_over_something(client: Client, small_street: Path):
    for folder in (str(small_street), "", " "):
        with pytest.raises(AppError, match="exists already"):
            client.predict(folder, api_name="/train_street")


@pytest.mark.parametrize("name", ["../mine", "", "/etc/passwd", "none-such"])
@pytest.mark.parametrize("deed", ["resume", "stop", "log"])
def test_a_name_that_is_no_run_is_refused(client: Client, deed: str, name: str):
    with pytest.raises(AppError, match=r"no name for a run|no run called"):
        client.predict(name, api_name=f"/train_{deed}")


def test_settings_that_cannot_work_are_refused_with_a_sentence(
    client: Client, small_street: Path, tmp_path: Path
):
    for text, told in [
        ("not json", "not a file of settings"),
        (small(small_street, identities_per_batch=100), "lower 'Identities per batch'"),
        (small(tmp_path / "nowhere"), "does not exist"),
        (
            form.as_text(PRESETS["street-tiny-student"].settings(root=small_street, teacher=None)),
            "needs a teacher",
        ),
        (
            form.as_text(PRESETS["street-tiny-student"].settings(root=small_street, teacher=tmp_path)),
            "config.json",
        ),
    ]:
        with pytest.raises(AppError, match=told):
            client.predict(text, "", api_name="/train_start")
    with pytest.raises(AppError, match="no name for a run"):
        client.predict(small(small_street), "No Good", api_name="/train_start")


def test_a_public_demo_trains_nothing_whoever_asks(
    client: Client, root: Path, small_street: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mode, "DEMO", True)
    calls = {
        "train_start": (small(small_street), ""),
        "train_resume": ("mine",),
        "train_stop": ("mine",),
        "train_delete": ("mine", "mine"),
        "train_street": (str(root / "street"),),
        "train_check": ("street", str(small_street), "auto"),
    }
    for name, values in calls.items():
        with pytest.raises(AppError, match="public demo"):
            client.predict(*values, api_name=f"/{name}")
    assert not list(root.glob("*/settings.json"))


def test_a_run_whose_process_was_killed_is_told_and_resumed(client: Client, root: Path):
    folder = write(root, "killed", started(), epoch(1))
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time\nfrom vkd.jobs import runs\nwith runs.lock(sys.argv[1]):\n"
         "    print('held', flush=True)\n    time.sleep(600)", str(folder)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    assert until(client, "killed", "running")["epoch"] == 1
    with pytest.raises(AppError, match="stop it first"):
        client.predict("killed", "killed", api_name="/train_delete")
    holder.kill()
    holder.wait()
    assert until(client, "killed", "died")["state"] == "died"
    client.predict("killed", "killed", api_name="/train_delete")


def test_events_of_a_look_at_the_probes_do_not_disturb_the_curves(tmp_path: Path):
    folder = write(
        tmp_path, "run", started(), epoch(1), {"kind": "probes", "epoch": 1, "time": 1.0, "why": ""}
    )
    assert len(train_runs.points(written.read(folder)[0])) == 1
