"""The Hub tab against a Hub on this machine: pull, preview, push; tokens appear nowhere."""

import logging
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client

from tests.support.app import error_of, free_port
from tests.support.cards import UNTRUSTED, files_of
from tests.support.hub_server import Hub
from vkd.jobs import background
from vkd.models import checkpoint
from vkd.ui import mode, state
from vkd.ui.hub import actions
from vkd.ui.hub import tab as tab
from vkd.ui.state import AppPaths


@pytest.fixture
def served(hub: Hub, tiny_pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A Hub that has a teacher, user/first, and its student, user/second; the app knows its address."""
    card = f"---\nlibrary_name: vkd\n---\n# The teacher {'x' * 5000}\n"
    hub.put("user/first", files_of(tiny_pair[0]) | {"README.md": card.encode()})
    hub.put("user/second", files_of(tiny_pair[1]) | {"README.md": UNTRUSTED.encode()})
    monkeypatch.setattr(actions, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(actions, "TICK", 0.02)
    return hub


@pytest.fixture
def here(app_paths: AppPaths) -> AppPaths:
    return app_paths


@pytest.fixture
def client(app_client: Client, served: Hub, here: AppPaths) -> Iterator[Client]:
    """The app, with the pair and nothing that another test pulled."""
    yield app_client
    for name in set(state.checkpoints(here)) - {"tiny-teacher", "tiny-student"}:
        shutil.rmtree(here.checkpoints / name)


def pull(client: Client, repo: str = "user/second", **more: Any) -> tuple[str, dict[str, Any]]:
    asked = {"repo": repo, "revision": "", "pair": False, "token": "", "name": ""} | more
    return client.predict(*asked.values(), api_name="/hub_pull")


WANTED = {
    "checkpoint": "tiny-student", "repo": "user/new", "teacher": "user/first", "private": True,
    "revision": "", "pull_request": False,
}  # fmt: skip


def preview(client: Client, **more: Any) -> tuple[str, dict[str, Any]]:
    return client.predict(*(WANTED | more).values(), api_name="/hub_preview")


def push(client: Client, token: str, previewed: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return client.predict(*(WANTED | more).values(), token, previewed, api_name="/hub_push")


# ---- pull


def test_pull_pair(client: Client, served: Hub, here: AppPaths) -> None:
    shown, data = pull(client, pair=True)
    assert (data["state"], [each["checkpoint"] for each in data["pulled"]]) == ("done", ["first", "second"])
    for each in data["pulled"]:
        assert each["commit"] == served.repositories["models", each["repo"]].refs["main"]
        assert each["commit"][:12] in shown
        assert not each["offline"]
    assert {"first", "second"} <= set(state.checkpoints(here))
    assert checkpoint.load(here.checkpoints / "second").config.stage == "student"
    assert data["done"] == data["total"] > 0
    again, data = pull(client)
    assert data["pulled"][0]["there"]
    assert "nothing was downloaded" in again


def test_untrusted_card(client: Client) -> None:
    shown, data = pull(client)
    assert "<script" not in shown
    assert "tracker.example" not in shown  # a picture from elsewhere is not loaded, nor named as one
    assert '<img alt="spy">' in shown
    assert 'href="javascript' not in shown
    assert "user/first" in shown  # its metadata, as words
    assert data["pulled"][0]["card"] == UNTRUSTED


def test_unreachable_hub_cache(client: Client, served: Hub, here: AppPaths) -> None:
    pull(client)
    shutil.rmtree(here.checkpoints / "second")
    served.fault("/api/models/user/second", times=99, status=503)
    shown, data = pull(client)
    assert data["pulled"][0]["offline"]
    assert "Hub unreachable" in shown


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"repo": ""}, "No repository is given"),
        ({"repo": "user/nobody"}, "user/nobody is not on the Hub, or is private"),
        ({"repo": "../../etc/passwd"}, "is not a repository"),
        ({"revision": "gone"}, "has no revision 'gone'"),
        ({"revision": "../x"}, "is not a revision"),
        ({"name": "../outside"}, "not a valid name of a folder"),
        ({"name": "tiny-teacher"}, "tiny-teacher was not pulled"),
        ({"token": "hf_wrongwrongwrong"}, "does not accept this token"),
        ({"repo": "http://169.254.169.254/x"}, "is not a repository"),
    ],
)
def test_invalid_pull(client: Client, here: AppPaths, asked: dict[str, Any], sentence: str) -> None:
    before = sorted(path.name for path in here.checkpoints.iterdir())
    told = error_of(pull, client, **asked)
    assert sentence in told.replace("&#x27;", "'")
    assert "hf_wrong" not in told
    assert str(here.checkpoints) not in told
    assert sorted(path.name for path in here.checkpoints.iterdir()) == before


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"on": "/api/models/", "status": 503}, r"\(503\)"),
        ({"on": "GET /user/second/resolve", "cut": True}, "(cannot be reached|bytes)"),
        ({"on": "/user/second/resolve", "shorten": 9}, "(incomplete|bytes instead of)"),
    ],
)
def test_failed_pull_leaves_nothing(
    client: Client, served: Hub, here: AppPaths, fault: dict[str, Any], sentence: str
) -> None:
    before = sorted(path.name for path in here.checkpoints.iterdir())
    served.fault(**fault, times=99)
    told = error_of(pull, client)
    assert re.search(sentence, told), told
    assert sorted(path.name for path in here.checkpoints.iterdir()) == before
    served.faults.clear()
    assert pull(client)[1]["state"] == "done"  # and after it the sun


def test_no_hub(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "the Hub cannot be reached" in error_of(pull, client)
    mark = preview(client)[1]["previewed"]
    assert "the Hub cannot be reached" in error_of(push, client, "hf_any", mark)


def test_cancel_push(served: Hub, paths: AppPaths) -> None:
    mark = actions.preview(paths, *WANTED.values())[1]["previewed"]
    served.fault("/user/new", times=99, seconds=0.3)
    watched = actions.push_page(paths, None, None, *WANTED.values(), served.token, mark)
    assert "Push of user/new" in next(watched)[0]
    assert "Cancelling" in actions.cancel(paths, "push")
    *_, (told, _) = watched
    assert "Nothing was committed" in told
    assert not served.asked("/commit/")


def test_cancel_pull(served: Hub, paths: AppPaths) -> None:
    served.fault("GET /user/second/resolve", times=9, seconds=0.4)
    watched = actions.pull_page(paths, None, "user/second", "", False, "", "")
    assert "Contacting the Hub" in next(watched)[0]
    [(other, _)] = actions.pull_page(paths, None, "user/first", "", False, "", "")
    assert "Pull of user/second is still running" in other
    assert "Cancelling" in actions.cancel(paths, "pull")
    *_, (told, _) = watched
    assert "Nothing was saved" in told
    assert sorted(path.name for path in paths.checkpoints.iterdir()) == ["tiny-student", "tiny-teacher"]
    assert "nothing to cancel" in error_of(actions.cancel, paths, "pull")
    assert "neither pull nor push" in error_of(actions.cancel, paths, "everything")


def test_watch_running_pull(served: Hub, paths: AppPaths) -> None:
    served.fault("GET /user/second/resolve", times=9, seconds=0.2)
    first = actions.pull_page(paths, None, "user/second", "", False, "", "")
    next(first)
    seen = list(actions.watch(paths, "pull"))
    assert "Pull of user/second" in seen[0][0]
    assert "Pulled" in seen[-1][1]
    assert list(first)[-1] == seen[-1]
    assert list(actions.watch(paths, "pull")) == [(gr.skip(), gr.skip())]


# ---- push


def test_push_sends_the_preview(client: Client, served: Hub, here: AppPaths) -> None:
    shutil.copytree(here.checkpoints / "tiny-student", here.checkpoints / "a-run")
    (here.checkpoints / "a-run" / "training.pt").write_bytes(b"optimiser")
    shown, data = preview(client, checkpoint="a-run")
    assert "training.pt" in data["left"]
    assert "training.pt" in shown
    assert "user/first" in data["card"]
    assert ("models", "user/new") not in served.repositories  # nothing was sent
    assert not served.requests
    shown, sent = push(client, served.token, data["previewed"], checkpoint="a-run")
    assert sent["url"].startswith(f"{served.endpoint}/user/new/commit/")
    assert sent["url"] in shown
    arrived = served.files("user/new")
    assert {name: len(content) for name, content in arrived.items()} == data["files"]
    assert arrived["README.md"].decode() == data["card"]
    assert served.repositories["models", "user/new"].private


def test_pull_request(client: Client, served: Hub) -> None:
    more = {"repo": "user/second", "private": False, "pull_request": True}
    mark = preview(client, **more)[1]["previewed"]
    _, sent = push(client, served.other, mark, **more)
    assert "/user/second/discussions/" in sent["url"]
    assert served.files("user/second")["README.md"].decode() == UNTRUSTED


def test_push_needs_its_preview(client: Client, served: Hub, here: AppPaths) -> None:
    assert "Preview the push first" in error_of(push, client, served.token, "")
    mark = preview(client)[1]["previewed"]
    for change in ({"repo": "user/other"}, {"private": False}, {"pull_request": True}, {"revision": "dev"}):
        assert "differs from its preview" in error_of(push, client, served.token, mark, **change)
    shutil.copytree(here.checkpoints / "tiny-student", here.checkpoints / "moving")
    mark = preview(client, checkpoint="moving")[1]["previewed"]
    moving = checkpoint.load(here.checkpoints / "moving")
    checkpoint.save(moving.folder, moving.net, moving.config, weights="best", half=True)
    assert "differs from its preview" in error_of(push, client, served.token, mark, checkpoint="moving")
    assert not served.asked("POST")


def test_wrong_token(client: Client, served: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    mark = preview(client)[1]["previewed"]
    odd = "my secret with no mark"
    for token, sentence in (
        ("hf_unknown1234", "does not accept this token"),
        (served.reader, "has no permission for that"),
    ):
        told = error_of(push, client, token, mark)
        assert sentence in told
        assert token not in told
    assert odd not in error_of(push, client, odd, mark)
    assert "needs an access token" in error_of(push, client, "", mark)
    for token in ("hf_unknown1234", served.reader, odd):
        assert token not in caplog.text


def test_token_is_not_stored(client: Client, served: Hub, here: AppPaths) -> None:
    _, data = pull(client, token=served.token)
    mark = preview(client)[1]["previewed"]
    shown, sent = push(client, served.token, mark)
    assert served.token not in f"{shown}{sent}{data}{vars(background)}"
    assert not any(served.token.encode() in path.read_bytes() for path in here.checkpoints.rglob("*.json"))
    assert any(each.authorized for each in served.requests)


def test_card_file(client: Client, served: Hub) -> None:
    file = client.predict("tiny-teacher", "user/new", "", api_name="/hub_card")
    assert Path(file).name == "README.md"
    assert Path(file).read_text() == preview(client, checkpoint="tiny-teacher", teacher="")[1]["card"]
    assert not served.requests
    for name, sentence in (("nobody", "no checkpoint named"), ("../etc", "is not the name of a checkpoint")):
        assert sentence in error_of(client.predict, name, "user/new", "", api_name="/hub_card")


# ---- a public demo


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "DEMO", True)


@pytest.mark.usefixtures("demo")
def test_demo_refuses_pull(served: Hub, paths: AppPaths) -> None:
    assert "public demo" in error_of(lambda: next(actions.pull(paths, "user/first"))).lower()
    [(told, _)] = actions.pull_page(paths, None, "user/first", "", False, "", "")
    assert "public demo" in told.lower()
    assert "public demo" in error_of(actions.cancel, paths, "pull").lower()
    assert not served.requests


@pytest.mark.usefixtures("demo")
def test_demo_pushes_with_login(served: Hub, paths: AppPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", served.token)  # the Space's own
    _, data = actions.preview(paths, *WANTED.values())
    asked = (*WANTED.values(), served.token, data["previewed"])
    assert "Log in with Hugging Face" in error_of(lambda: next(actions.push(paths, *asked)))
    assert not served.requests
    login = gr.OAuthToken(token=served.other, scope="", expires_at=0)
    told = error_of(lambda: list(actions.push(paths, *asked, login=login)))
    assert "has no permission for that" in told  # someone's login does not write to what is user's
    mine = (WANTED | {"repo": "someone/mine"}).values()
    mark = actions.preview(paths, *mine)[1]["previewed"]
    *_, (_, sent) = actions.push(paths, *mine, "", mark, login=login)
    assert sent["state"] == "done"
    assert served.repositories["models", "someone/mine"].owner == "someone"


@pytest.mark.usefixtures("demo")
def test_visitors_of_demo_see_their_own_pushes(paths: AppPaths) -> None:
    anna, bert = (SimpleNamespace(session_hash=name) for name in ("anna", "bert"))
    release = threading.Event()
    job = background.start(actions._key(paths, "push", anna), "Push of a/b", lambda job: release.wait(30))
    assert background.current(actions._key(paths, "push", bert)) is None
    assert "nothing to cancel" in error_of(actions.cancel, paths, "push", bert)
    assert background.current(actions._key(paths, "push", anna)) is job
    release.set()


@pytest.mark.parametrize(
    ("given", "can"),
    [
        ({}, False),
        ({"OAUTH_CLIENT_ID": "x"}, False),  # elsewhere gradio would lend the machine's own login to visitors
        ({"SYSTEM": "spaces", "SPACE_ID": "a/b"}, False),
        ({"SYSTEM": "spaces", "SPACE_ID": "a/b", "OAUTH_CLIENT_ID": "x"}, True),
    ],
)
def test_login_button(given: dict[str, str], can: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions.importlib.util, "find_spec", lambda name: object())
    assert actions.can_log_in(given) == can
    monkeypatch.setattr(actions.importlib.util, "find_spec", lambda name: None)
    assert not actions.can_log_in(given)


# ---- the page


def test_change_disables_push() -> None:
    assert tab.invalidate_preview()[1]["interactive"] is False
    mark, button = tab.enable_push({"previewed": "mark"})
    assert (mark, button["interactive"]) == ("mark", True)
    assert tab.invalidate_sent("<p>still there</p>") == (gr.skip(), gr.skip())
    assert tab.invalidate_sent("")[1]["interactive"] is False
    assert tab.enable_push(None)[1]["interactive"] is False


def test_new_checkpoints_are_offered(paths: AppPaths) -> None:
    assert tab.refresh_checkpoints(paths, "gone")["value"] in ("tiny-student", "tiny-teacher")
    assert tab.refresh_checkpoints(paths, "tiny-teacher")["value"] == "tiny-teacher"
    assert tab.teacher_field(paths, "tiny-teacher") == gr.update(visible=False, value="")
    assert tab.teacher_field(paths, "tiny-student")["visible"]


def test_endpoints_are_documented(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    ours = {name: each for name, each in endpoints.items() if name.startswith("/hub_")}
    assert set(ours) == {"/hub_pull", "/hub_cancel", "/hub_preview", "/hub_push", "/hub_card"}
    assert all(each["description"] for each in ours.values())
    names = [each["parameter_name"] for each in ours["/hub_push"]["parameters"]]
    assert names == [*WANTED, "token", "previewed"]
