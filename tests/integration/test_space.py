"""The Space: its card, what deploy.py lays out and sends, and the app as a Space starts it."""

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.support.app import free_port
from tests.support.hub_server import Hub
from tests.support.images import image_value, search

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"teacher": "street-mobilenet-teacher", "student": "street-mobilenet-student"}
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SCOPES = {
    "email", "read-billing", "read-repos", "contribute-repos", "write-repos", "manage-repos", "inference-api",
    "jobs", "webhooks", "write-discussions",
}  # fmt: skip


def load_deploy() -> Any:
    """The module spaces/deploy.py: the folder is no package, and must not become one."""
    spec = importlib.util.spec_from_file_location("deploy", ROOT / "spaces" / "deploy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


deploy = load_deploy()


def front(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


# ---- the card


def test_card_front_matter() -> None:
    """Rules of the Hub's reference of Space settings."""
    said = front(deploy.card(None, []))
    assert said["sdk"] == "gradio"
    assert said["sdk_version"] == importlib.metadata.version("gradio")
    assert re.fullmatch(r"3\.\d+", said["python_version"])  # a text: 3.10 as a number would be 3.1
    assert (ROOT / said["app_file"]).is_file()
    assert {said["colorFrom"], said["colorTo"]} <= COLOURS
    assert not re.search(r"[\w ]", said["emoji"], re.ASCII)
    assert len(said["short_description"]) <= 60
    assert set(said["hf_oauth_scopes"]) <= SCOPES
    assert said["hf_oauth"] is True
    assert said["suggested_hardware"] == "cpu-basic"
    assert said["license"] == "mit"
    assert "preload_from_hub" not in said  # the demo travels with the Space


def test_card_python_is_supported() -> None:
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert supported
    minor = int(front(deploy.card(None, []))["python_version"].split(".")[1])
    assert int(supported[1]) <= minor < int(supported[2])


def test_card_hardware_and_models() -> None:
    said = front(deploy.card("t4-small", ["user/teacher", "user/student"]))
    assert said["suggested_hardware"] == "t4-small"
    assert said["models"] == ["user/teacher", "user/student"]


def test_untested_gradio_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "7.0.0")
    with pytest.raises(ValueError, match=r"7\.0\.0 is installed"):
        deploy.card(None, [])


# ---- the requirements


def test_requirements_repeat_no_version() -> None:
    ours = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1].isalpha()]
    lines = deploy.requirements(None).splitlines()
    assert lines[0] == "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert lines[1:] == [*ours, "gradio[oauth]", "spaces>=0.43"]


@pytest.mark.parametrize(
    ("hardware", "cpu"), [("cpu-upgrade", True), ("t4-small", False), ("zero-a10g", False)]
)
def test_requirements_by_hardware(hardware: str, cpu: bool) -> None:
    assert ("/whl/cpu" in deploy.requirements(hardware)) == cpu


def test_oauth_on_a_space_only() -> None:
    assert "gradio[oauth]" not in (ROOT / "requirements.txt").read_text()


# ---- what is laid out


def clone(root: Path) -> Path:
    """A small repository with a demo, and what people have lying in theirs."""
    for path in (
        "app.py", "LICENSE", "vkd/model.py", "vkd/hub/card.md.j2", "vkd/ui/static/x.css",
        "vkd/ui/static/x.js",
        "vkd/ui/templates/x.html.j2", "vkd/__pycache__/x.pyc", "vkd/mine.py", "checkpoints/build.py",
        "tests/test_x.py", "spaces/deploy.py", "data/street/a.jpg", ".hidden", "checkpoints/README.md",
        "checkpoints/pair/model.safetensors", "checkpoints/pair/log.txt",
        "checkpoints/my-run/model.safetensors",
    ):  # fmt: skip
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / ".gitignore").write_text("__pycache__/\nmine.py\nmy-run/\nlog.txt\n")
    subprocess.run(["git", "-C", root, "add", "."], check=True)
    return root


def test_staged_files(tmp_path: Path) -> None:
    deploy.stage(tmp_path / "space", root=clone(tmp_path / "clone"))
    assert [file.path for file in deploy.listing(tmp_path / "space")] == [
        "LICENSE", "README.md", "app.py", "checkpoints/README.md", "checkpoints/pair/model.safetensors",
        "requirements.txt", "vkd/hub/card.md.j2", "vkd/model.py", "vkd/ui/static/x.css",
        "vkd/ui/static/x.js", "vkd/ui/templates/x.html.j2",
    ]  # fmt: skip


def test_stage_into_used_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        deploy.stage(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_stage_without_git_or_weights(tmp_path: Path) -> None:
    (tmp_path / "clone" / "vkd").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="deploy from a clone"):
        deploy.uploaded_files(tmp_path / "clone")
    subprocess.run(["git", "init", "-q", tmp_path / "clone"], check=True)
    with pytest.raises(FileNotFoundError, match="no weights"):
        deploy.uploaded_files(tmp_path / "clone")


# ---- the Hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "space"
    place.mkdir()
    for name in ("README.md", "app.py", "model.safetensors"):
        (place / name).write_text(f"---\ntitle: {name}\n---\n" * 9)
    return place


def test_send_in_one_commit(hub: Hub, folder: Path) -> None:
    address = deploy.send(folder, "user/vkd", private=True, token=hub.token, endpoint=hub.endpoint)
    assert address == f"{hub.endpoint}/spaces/user/vkd"
    assert hub.files("user/vkd", kind="spaces") == {
        file.path: (folder / file.path).read_bytes() for file in deploy.listing(folder)
    }
    assert hub.repositories["spaces", "user/vkd"].private
    assert len(hub.asked("/commit/")) == 1


def test_send_changes_only(hub: Hub, folder: Path) -> None:
    given = {"token": hub.token, "endpoint": hub.endpoint}
    deploy.send(folder, "user/vkd", **given)
    hub.requests.clear()
    deploy.send(folder, "user/vkd", **given)
    assert not hub.asked("/commit/")
    assert not hub.asked("PUT")
    (folder / "app.py").write_text("changed")
    (folder / "model.safetensors").unlink()
    deploy.send(folder, "user/vkd", **given)
    assert len(hub.asked("/commit/")) == 1
    assert not hub.asked("PUT")
    assert set(hub.files("user/vkd", kind="spaces")) == {"README.md", "app.py"}
    assert hub.files("user/vkd", kind="spaces")["app.py"] == b"changed"


def test_send_requests_hardware(hub: Hub, folder: Path) -> None:
    deploy.send(folder, "user/vkd", hardware="t4-small", token=hub.token, endpoint=hub.endpoint)
    assert hub.asked("POST /api/spaces/user/vkd/hardware")


@pytest.mark.parametrize(
    ("token", "on", "fault", "sentence"),
    [
        ("X", "", {}, "does not accept this token"),
        ("R", "", {}, r"\(403\)"),
        ("O", "", {}, r"\(403\)"),
        ("W", "/api/repos/create", {"status": 402}, r"\(402\)"),
        ("W", "/preupload/", {"status": 503, "times": 99}, r"\(503\)"),
        ("W", "/commit/", {"cut": True, "times": 99}, "cannot be reached"),
    ],
)
def test_send_fault(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    token: str, on: str, fault: dict[str, Any], sentence: str,
) -> None:  # fmt: skip
    secret = f"hf_{token * 34}"
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        deploy, "stage", lambda place, **how: place.mkdir() or (place / "app.py").write_text("x")
    )
    if on:
        hub.fault(on, **fault)
    with pytest.raises(SystemExit) as stopped:
        deploy.main(["user/vkd"])
    told = capsys.readouterr()
    assert stopped.value.code == 1
    assert re.search(sentence, told.err)
    assert secret not in told.err + told.out
    assert "Traceback" not in told.err


def test_invalid_name(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("vkd", "user/../x", "user/vkd/more", "--user/x"):
        with pytest.raises(SystemExit) as stopped:
            deploy.main([name, "--dry-run"])
        assert stopped.value.code == 2
    assert "is no name on the Hub" in capsys.readouterr().err


def test_token_as_argument(capsys: pytest.CaptureFixture[str]) -> None:
    secret = f"hf_{'a' * 34}"
    with pytest.raises(SystemExit) as stopped:
        deploy.main(["user/vkd", "--token", secret])
    told = capsys.readouterr()
    assert stopped.value.code == 2
    assert "HF_TOKEN" in told.err
    assert secret not in told.err + told.out


# ---- the app as a Space starts it


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `deploy.py user/name --dry-run --stage FOLDER` lays out, in a process that knows no token."""
    place = tmp_path_factory.mktemp("staged") / "space"
    command = [sys.executable, ROOT / "spaces" / "deploy.py", "user/vkd", "--dry-run", "--stage", place]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=place.parent)
    assert shown.returncode == 0, shown.stderr
    assert "Nothing was sent to user/vkd." in shown.stdout
    assert "MB  in" in shown.stdout
    return place


def test_package_spaces_is_not_hidden(staged: Path) -> None:
    top = sorted(path.name for path in staged.iterdir())
    assert top == ["LICENSE", "README.md", "app.py", "checkpoints", "requirements.txt", "vkd"]
    assert not list(staged.rglob("__pycache__"))


@pytest.fixture(scope="module")
def space(staged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The staged app in a Space's environment, its working folder the staged one; its address and its log."""
    port, log = free_port(), tmp_path_factory.mktemp("space") / "log.txt"
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "TMPDIR") if name in os.environ}
    given = {
        "HOME": str(log.parent), "SYSTEM": "spaces", "SPACE_ID": "user/vkd",
        "SPACE_HOST": "user-vkd.hf.space",
        "SPACE_AUTHOR_NAME": "user", "SPACE_REPO_NAME": "vkd", "GRADIO_SERVER_PORT": str(port),
        "VKD_TRAINING": "please",
    }  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "app.py"], cwd=staged, env=kept | given, stdout=output, stderr=output
        )
    try:
        until = time.monotonic() + 120
        while "VKD is open" not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"The app did not open:\n{log.read_text()}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", log
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def visitor(space: tuple[str, Path]) -> Client:
    return Client(space[0], verbose=False)


@pytest.fixture(scope="module")
def query(staged: Path) -> list[dict[str, Any]]:
    return image_value(sorted((staged / "checkpoints" / "street-queries").glob("*.jpg"))[0])


def test_space_listens_and_can_be_duplicated(space: tuple[str, Path]) -> None:
    sockets = Path("/proc/net/tcp").read_text() if Path("/proc/net/tcp").exists() else ""
    port = int(space[0].rsplit(":", 1)[1])
    assert f"00000000:{port:04X} " in sockets or not sockets
    with urllib.request.urlopen(f"{space[0]}/config", timeout=20) as answer:
        config = json.load(answer)
    assert "Duplicate this Space" in json.dumps(config)
    assert config["space_id"] == "user/vkd"


def test_space_searches_and_explains(visitor: Client, query: list[dict[str, Any]]) -> None:
    _, found = search(visitor, query, **NAMES)
    assert len(found["student"]["hits"]) >= 5
    page, _ = visitor.predict(
        query, [], "top identity", "gradcam", *NAMES.values(), api_name="/explain"
    )  # fmt: skip
    assert "<figure" in page


def test_space_shows_runs_and_evaluations(visitor: Client) -> None:
    runs = {run["name"]: run["state"] for run in visitor.predict(api_name="/train_runs")}
    assert runs == dict.fromkeys(NAMES.values(), "finished")
    evaluated = visitor.predict(api_name="/evaluate_list")
    assert [job["state"] for job in evaluated] == ["finished"]
    table = visitor.predict(evaluated[0]["name"], "Markdown", api_name="/evaluate_download")
    assert "mAP" in table


def test_space_does_not_train(space: tuple[str, Path], visitor: Client) -> None:
    with pytest.raises(AppError, match="public demo"):
        visitor.predict("{}", "", api_name="/train_start")
    log = space[1].read_text()
    assert "VKD_TRAINING='please'" in log
    # Gradio's own watcher wants the package `spaces`, which every Space has and few other machines do.
    assert log.count("Traceback") == log.count("RuntimeError: `spaces` package is required"), log
