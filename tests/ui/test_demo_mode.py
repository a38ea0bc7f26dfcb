"""Demo mode: enforced in every handler, however it is called."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.support.app import error_of, free_port
from tests.support.images import image_value, search, write_noise
from vkd.training.presets import PRESETS
from vkd.ui import app, limits, mode
from vkd.ui.explain import actions as explain
from vkd.ui.retrieve import actions as retrieve
from vkd.ui.retrieve import explanation
from vkd.ui.state import AppPaths
from vkd.ui.train import actions, form, presets

CHANGES = {
    "components.list_folders",
    "evaluate.actions.cancel",
    "evaluate.actions.generate_street",
    "evaluate.actions.show_data",
    "evaluate.actions.start",
    "hub.actions.pull",
    "hub.actions.pull_page",
    "retrieve.build.build_gallery",
    "retrieve.build.cancel_gallery",
    "train.actions.delete",
    "train.actions.generate_street",
    "train.actions.resume",
    "train.actions.show_data",
    "train.actions.start",
    "train.actions.stop",
    "train.presets.save_file",
}
"""Handlers that write, start or stop something, or read a path of the server: a demo refuses them."""

OWN = {
    "hub.actions.cancel",
    "hub.actions.push",
    "hub.actions.push_page",
}
"""Handlers that change something of the visitor's own: their push, with their login, and its end."""

READS = {
    "components._clicked",
    "evaluate.actions.download",
    "evaluate.actions.list_jobs",
    "evaluate.actions.show_order",
    "evaluate.actions.show_pair",
    "evaluate.actions.show_query",
    "evaluate.actions.show_threshold",
    "evaluate.form.refresh_models",
    "evaluate.tab.choices",
    "evaluate.tab.clicked_query",
    "evaluate.tab.different",
    "evaluate.tab.draw",
    "evaluate.tab.open_page",
    "evaluate.tab.orders",
    "evaluate.tab.refresh",
    "evaluate.tab.show_started",
    "explain.actions.cancelled",
    "explain.actions.explain",
    "explain.actions.refresh",
    "explain.actions.save_png",
    "explain.actions.show_example",
    "explain.actions.show_target_inputs",
    "hub.actions.card_file",
    "hub.actions.preview",
    "hub.actions.preview_page",
    "hub.actions.watch",
    "hub.tab.enable_push",
    "hub.tab.invalidate_preview",
    "hub.tab.invalidate_sent",
    "hub.tab.refresh_checkpoints",
    "hub.tab.teacher_field",
    "inputs.example_images",
    "inputs.example_of",
    "query_tab.QueryTab.answer_change",
    "query_tab.QueryTab.answer_now",
    "retrieve.actions.follow_gallery",
    "retrieve.actions.refresh",
    "retrieve.actions.save_csv",
    "retrieve.actions.save_png",
    "retrieve.actions.search",
    "retrieve.build.built_name",
    "retrieve.build.watch_again",
    "retrieve.explanation._clicked",
    "retrieve.explanation._failed",
    "retrieve.explanation.explain_match",
    "train.presets.choose_preset",
    "train.presets.choose_stage",
    "train.presets.load_file",
    "train.presets.load_run",
    "train.presets.preset_settings",
    "train.presets.read_form",
    "train.presets.require_valid",
    "train.presets.restore",
    "train.tab.ask_delete",
    "train.tab.close_confirmation",
    "train.tab.close_other",
    "train.tab.list_runs",
    "train.tab.refresh",
    "train.tab.run_log",
    "train.tab.run_points",
    "train.tab.select",
}
"""Handlers that a demo answers: they read what is bundled, or what the visitor sent."""


# ---- enforced in the handlers


@pytest.fixture(scope="module")
def demo(app_paths: AppPaths) -> Iterator[tuple[gr.Blocks, str]]:
    """The app as a public demo, and its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mode, "DEMO", True)
        patch.setattr(mode, "TRAINING", False)
        patch.setattr(limits, "CALLS", limits.RateLimiter(page="1000 per second"))
        page = app.build(app_paths.checkpoints)
        yield page, app.launch(page, app_paths.checkpoints, "127.0.0.1", free_port())
        page.close()


@pytest.fixture
def client(demo: tuple[gr.Blocks, str]) -> Client:
    return Client(demo[1], verbose=False)


def name_of(callback: Callable[..., Any]) -> str:
    callback = getattr(callback, "func", callback)  # of a partial
    return f"{callback.__module__.removeprefix('vkd.ui.')}.{callback.__qualname__}"


def handlers(page: gr.Blocks) -> dict[str, list[int]]:
    """Returns every handler of the page with the numbers under which it can be called."""
    found: dict[str, list[int]] = {}
    for number, block in page.fns.items():
        if block.fn is not None and "<lambda>" not in name_of(block.fn):
            found.setdefault(name_of(block.fn), []).append(number)
    return found


def raw(address: str, number: int, data: list[Any]) -> str:
    """Returns the answer to a request as anybody can send it, whatever the page shows."""
    session = f"raw{number}"
    body = json.dumps({"data": data, "fn_index": number, "session_hash": session}).encode()
    head = {"Content-Type": "application/json"}
    joined = urllib.request.Request(f"{address}gradio_api/queue/join", body, head)
    urllib.request.urlopen(joined, timeout=20).close()
    with urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash={session}", timeout=20) as told:
        return told.read().decode()


def harmless(block: Any) -> list[Any]:
    """Returns a value for each input that its component takes."""
    return [None if isinstance(part, gr.State) else getattr(part, "value", None) for part in block.inputs]


def test_every_handler_is_listed(demo: tuple[gr.Blocks, str]) -> None:
    """A new handler goes into CHANGES, and calls `limits.refuse` first, or into READS."""
    assert set(handlers(demo[0])) - CHANGES - OWN == READS


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_changes_are_refused(demo: tuple[gr.Blocks, str], app_paths: AppPaths, name: str) -> None:
    page, address = demo
    before = sorted(app_paths.checkpoints.rglob("*"))
    for number in handlers(page)[name]:
        assert "This is a public demo" in raw(address, number, harmless(page.fns[number]))
    assert sorted(app_paths.checkpoints.rglob("*")) == before


def test_server_path_is_no_upload(demo: tuple[gr.Blocks, str]) -> None:
    page, address = demo
    stolen = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for number in handlers(page)["train.presets.load_file"]:
        answer = raw(address, number, [None, stolen])
        assert '"success":false' in answer.replace(" ", "")
        assert "root:" not in answer


@pytest.mark.parametrize("name", sorted(OWN - {"hub.actions.cancel"}))
def test_push_needs_own_login(
    demo: tuple[gr.Blocks, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"hf_{'S' * 34}")  # the Space's own
    page, address = demo
    for number in handlers(page)[name]:
        values = [*harmless(page.fns[number])[:-1], "what a preview answered"]
        assert "Log in with Hugging Face" in raw(address, number, values)


def test_settings_reveal_no_files(
    app_paths: AppPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    settings = PRESETS["street-tiny-student"].settings(teacher=tmp_path)
    monkeypatch.setattr(mode, "DEMO", False)
    assert presets.with_teacher(app_paths, settings).teacher == tmp_path  # type: ignore[attr-defined]
    monkeypatch.setattr(mode, "DEMO", True)
    for teacher in (tmp_path, tmp_path / "nowhere"):
        fitted = presets.with_teacher(app_paths, settings.changed(teacher=teacher))
        assert fitted.teacher.parent == app_paths.checkpoints  # type: ignore[attr-defined]


def test_demo_answers(client: Client, app_paths: AppPaths) -> None:
    shipped = sorted(app_paths.queries.glob("*.jpg"))
    _, data = search(client, image_value(shipped[0]))
    assert len(data["student"]["hits"]) >= 5
    assert client.predict(api_name="/train_runs") == []
    assert client.predict(api_name="/evaluate_list") == []
    page, _ = client.predict(
        image_value(shipped[0]), [], "top identity", "gradcam", "tiny-teacher", "tiny-student",
        api_name="/explain",
    )  # fmt: skip
    assert "<figure" in page


# ---- what the page shows


def seen(page: gr.Blocks) -> dict[str, bool]:
    """Returns labels and texts of the page, and whether they are visible."""
    found: dict[str, bool] = {}

    def walk(node: dict[str, Any], above: bool) -> None:
        props = parts_of[node["id"]]["props"]
        shown = above and props.get("visible", True) is True
        text = props.get("label") or props.get("value")
        if isinstance(text, str):
            found[text] = found.get(text, False) or shown
        for child in node.get("children") or []:
            walk(child, shown)

    config: dict[str, Any] = {**page.get_config_file()}
    parts_of = {part["id"]: part for part in config["components"]}
    for child in config["layout"]["children"]:
        walk(child, True)
    return found


HIDDEN = (
    "Start training", "Inspect dataset", "Stop", "Resume", "Delete…", "Save settings",
    "Build a gallery", "Dataset folder", "Generate a small synthetic test set", "Choose a folder…",
)  # fmt: skip


def test_page_offers_nothing_refused(demo: tuple[gr.Blocks, str], app_paths: AppPaths) -> None:
    shown = seen(demo[0])
    paths = {field.label for field in form.fields() if field.kind == "folder"} - {"Teacher"}  # a picker, too
    for label in (*HIDDEN, *paths):
        assert not shown.get(label, False), f"{label} is offered"
    assert any("training is disabled" in text and visible for text, visible in shown.items())
    assert any("new evaluations are disabled" in text and visible for text, visible in shown.items())


def test_duplicate_button(app_paths: AppPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "DEMO", True)
    assert "Duplicate this Space" not in seen(app.build(app_paths.checkpoints))
    monkeypatch.setenv("SPACE_ID", "user/vkd")
    assert seen(app.build(app_paths.checkpoints))["Duplicate this Space"]


# ---- limits


def test_image_limit(client: Client, app_paths: AppPaths) -> None:
    files = sorted(app_paths.queries.glob("*.jpg"))[:1] * (limits.MAX_IMAGES + 1)
    with pytest.raises(AppError, match=f"at most {limits.MAX_IMAGES} images"):
        search(client, image_value(*files))


def upload(address: str, megabytes: float, **headers: str) -> int:
    """Uploads a file of this size; returns the status."""
    content = b"x" * int(megabytes * 2**20)
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n' + content
    head = {"Content-Type": "multipart/form-data; boundary=b", **headers}
    request = urllib.request.Request(f"{address}gradio_api/upload", body + b"\r\n--b--\r\n", head)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def test_upload_limits(demo: tuple[gr.Blocks, str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, address = demo
    assert upload(address, 0.1) == 200
    assert upload(address, limits.MAX_MEGABYTES + 1) == 413
    monkeypatch.setattr(limits, "UPLOADS", limits.RateLimiter(address="5 per hour"))
    assert [upload(address, 2) for _ in range(3)] == [200, 200, 429]


def test_call_limits(
    demo: tuple[gr.Blocks, str], app_paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = limits.RateLimiter(page="2 per hour", everybody="100 per second")
    monkeypatch.setattr(limits, "CALLS", limit)
    query = image_value(sorted(app_paths.queries.glob("*.jpg"))[0])
    busy, other = Client(demo[1], verbose=False), Client(demo[1], verbose=False)
    for _ in range(2):
        search(busy, query)
    with pytest.raises(AppError, match=r"Too many requests: wait \d+ s"):
        search(busy, query)
    search(other, query)  # somebody else is not kept waiting


def test_models_are_rate_limited(
    app_paths: AppPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's own callbacks included: their refusal stands where the answer would be."""

    def full() -> None:
        raise gr.Error("Too many requests: wait 9 s, then try again.")

    monkeypatch.setattr(limits, "check_rate", full)
    images = [str(write_noise(tmp_path / "one.png"))]
    searched = (app_paths, images, "street-gallery", "tiny-teacher", "tiny-student", 5, [], False, "1 %")
    explained = (
        app_paths, images, [], "top identity", "gradcam", "tiny-teacher", "tiny-student", "last", "",
    )  # fmt: skip
    for call, values in (
        (retrieve.search, searched),
        (retrieve.save_csv, searched),
        (explain.explain, explained),
        (explain.save_png, explained),
        (explanation.explain_match, (*searched[:3], 0, "tiny-teacher", "tiny-student")),
    ):
        assert "Too many requests" in error_of(call, *values)
    for tab, values in ((retrieve.TAB, searched), (explain.TAB, explained)):
        assert "Too many requests" in next(tab.answer_now(*values))[0]


# ---- a Space that may train


def test_training_on_own_data(tmp_path: Path, small_street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "DEMO", True)
    monkeypatch.setattr(mode, "TRAINING", True)
    paths = AppPaths.of(tmp_path / "checkpoints")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "street").symlink_to(small_street)
    for outside in (
        small_street,
        "/etc",
        tmp_path / "data" / ".." / ".." / "x",
        tmp_path / "data" / "street",
    ):
        _, data, _ = actions.show_data(paths, "street", str(outside), "auto")
        assert "is not part of this demo" in data["wrong"]  # nor through a link out of it
    settings = PRESETS["street-tiny-teacher"].settings(root=small_street)
    with pytest.raises(gr.Error, match="is not part of this demo"):
        actions.start(paths, form.to_json(settings), "")
    started: list[Any] = []
    monkeypatch.setattr(
        actions.dataset, "summarise", lambda *asked: ([{"split": "train", "identities": 99}], [])
    )
    monkeypatch.setattr(
        actions.run_jobs, "start", lambda asked, root, name: started.append(asked.root) or root / "new"
    )
    mine = settings.changed(root=tmp_path / "data" / "mine")
    assert actions.start(paths, form.to_json(mine), "") == "new"
    assert started == [tmp_path / "data" / "mine"]
    monkeypatch.setattr(mode, "TRAINING", False)
    with pytest.raises(gr.Error, match="training is disabled"):
        actions.start(paths, form.to_json(mine), "")
