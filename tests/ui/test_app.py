"""The app's frame: command line, errors, endpoints, files it serves; it opens on any folder."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.support.images import search
from vkd.io.errors import VKDError
from vkd.ui import app, components, html, inputs, query_tab, state, theme
from vkd.ui.errors import message, show_errors
from vkd.ui.explain import tab as explain
from vkd.ui.retrieve import actions
from vkd.ui.retrieve import tab as retrieve
from vkd.ui.state import AppPaths, LRUCache

ROOT = Path(__file__).resolve().parents[2]

# ---- errors and HTML


def test_errors_are_shown_by_type(caplog: pytest.LogCaptureFixture) -> None:
    @show_errors
    def fail(error: Exception) -> None:
        raise error

    @show_errors
    def fail_later(error: Exception):
        yield 1
        raise error

    for call in (fail, lambda error: list(fail_later(error))):
        with pytest.raises(gr.Error, match="bad &lt;b&gt;name"):
            call(VKDError("bad <b>name"))
        with pytest.raises(gr.Error, match="Internal error") as hidden:
            call(ValueError("operands could not be broadcast"))
        assert "operands" not in str(hidden.value)
    assert "operands" in caplog.text


def test_message_has_no_token_and_no_temporary_folder(tmp_path: Path) -> None:
    text = message(VKDError(f"{tmp_path}/a.png failed with hf_{'A' * 30}"))
    assert "a.png" in text
    assert str(tmp_path) not in text
    assert "hf_A" not in text


HOSTILE = '<img src=x onerror="alert(1)">${alert(1)}{{alert}}'


@pytest.mark.parametrize(
    "page",
    [
        html.empty_state(HOSTILE, HOSTILE),
        html.render(
            "folders.html.j2",
            folder=HOSTILE,
            dataset=HOSTILE,
            parent=HOSTILE,
            folders=[(HOSTILE, HOSTILE, HOSTILE)],
            omitted=0,
        ),
        html.render("explanation.html.j2", title=HOSTILE, item=0, body=""),
    ],
    ids=["empty", "folders", "explanation"],
)
def test_templates_escape(page: str) -> None:
    for markup in ("<img src=x", "${", "{{", 'onerror="'):
        assert markup not in page


def test_lru_cache() -> None:
    cache, loaded = LRUCache(2), []
    for key in "abacab":
        cache.get(key, lambda key=key: loaded.append(key) or key)
    assert loaded == ["a", "b", "c", "b"]


# ---- endpoints and files


def test_endpoints_are_named_and_described(app_client: Client) -> None:
    endpoints = app_client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {"/search", "/example", "/explain", "/explain_match", "/gallery_build"} <= set(endpoints)
    assert [name for name, endpoint in endpoints.items() if not endpoint["description"]] == []
    arguments = [one["parameter_name"] for each in endpoints.values() for one in each["parameters"]]
    assert not [name for name in arguments if name.startswith("param_")]


def test_server_files_are_not_served(app_client: Client, app_paths: AppPaths) -> None:
    for path in (app_paths.checkpoints / "tiny-teacher" / "config.json", Path("/etc/passwd")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{app_client.src}gradio_api/file={path}")
        assert refused.value.code == 403


def test_server_files_are_not_read_as_uploads(app_client: Client, app_paths: AppPaths) -> None:
    config = app_paths.checkpoints / "tiny-teacher" / "config.json"
    stolen = {"path": str(config), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError) as refused:
        search(app_client, [{"image": stolen, "caption": None}])
    assert "is not an image" not in str(refused.value)  # it was not even opened


def test_no_component_outlives_its_page() -> None:
    for module in (html, explain, theme, state, inputs, retrieve, components, query_tab):
        kept = [name for name, value in vars(module).items() if isinstance(value, gr.blocks.Block)]
        assert not kept, f"{module.__name__} keeps {kept}"


# ---- the command


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("example.org", False)],
)
def test_is_loopback(host: str, loopback: bool) -> None:
    assert app.is_loopback(host) is loopback


def test_open_host_needs_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("VKD_AUTH", "SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as stopped:
        app.main(["--host", "0.0.0.0", "--checkpoints", str(tmp_path)])
    assert stopped.value.code == 2
    assert "VKD_AUTH" in capsys.readouterr().err


def test_damaged_gallery_is_named_at_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "street-gallery").mkdir()
    (tmp_path / "street-gallery" / "gallery.json").write_text("{")
    with pytest.raises(SystemExit) as stopped:
        app.main(["--checkpoints", str(tmp_path)])
    assert stopped.value.code == 2
    assert "gallery.json" in capsys.readouterr().err


def test_mcp_needs_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = app.importlib.util.find_spec
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None if name == "mcp" else find(name))
    with pytest.raises(SystemExit):
        app.main(["--mcp", "--checkpoints", str(tmp_path)])
    assert "pip install 'gradio[mcp]'" in capsys.readouterr().err


def test_own_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two apps of one machine have two folders, which are gone when they end; a folder that is set stays."""
    script = "import os; from vkd.ui import app; app.use_own_uploads(); print(os.environ['GRADIO_TEMP_DIR'])"
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def folder() -> Path:
        return Path(subprocess.check_output([sys.executable, "-c", script], text=True).strip())

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    assert folder() == tmp_path
    assert tmp_path.is_dir()
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    first, second = folder(), folder()
    assert first != second
    assert first.parent == tmp_path
    assert not first.exists()


def test_opens_on_empty_folder(tmp_path: Path) -> None:
    page = app.build(tmp_path)
    assert "No model yet" in json.dumps(page.get_config_file(), default=str)
    with pytest.raises(gr.Error, match="There is no image yet"):
        actions.search(AppPaths.of(tmp_path), [], "", "", "", 5, [], False)


@pytest.mark.skipif(
    not (ROOT / "checkpoints" / "street-gallery" / "gallery.json").is_file(), reason="no bundled checkpoints"
)
def test_bundled_examples_are_answered() -> None:
    paths = AppPaths.of(ROOT / "checkpoints")
    names = state.default_pair(paths)
    assert all(names)
    for example in inputs.examples(paths):
        files = inputs.example_images(paths, example)
        assert inputs.example_of(paths, files) == example
        _, data = actions.search(paths, files, "street-gallery", names[0], names[1], 5, [], False)
        assert len(data["student"]["hits"]) >= 5
