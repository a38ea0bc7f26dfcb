"""The Hub tab as programs see it, against a Hub on this machine: pull, look, push; tokens are told nobody."""

import logging
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.support.app import free_port
from tests.support.hub_server import Hub
from vkd.models import checkpoint
from vkd.ui import mode, state
from vkd.ui.evaluate import request
from vkd.ui.hub import actions, arrivals, hub_jobs
from vkd.ui.hub import tab as tab
from vkd.ui.state import AppPaths

STRANGER = """---
license: mit
library_name: vkd
base_model: user/first
---
# A card <script>alert(1)</script>
![spy](http://tracker.example/pixel.png) [more](javascript:alert(1))
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def served(hub: Hub, tiny_pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A Hub that has a teacher, user/first, and its student, user/second; the app knows its address."""
    card = f"---\nlibrary_name: vkd\n---\n# The teacher {'x' * 5000}\n"
    hub.put("user/first", files_of(tiny_pair[0]) | {"README.md": card.encode()})
    hub.put("user/second", files_of(tiny_pair[1]) | {"README.md": STRANGER.encode()})
    monkeypatch.setattr(hub_jobs, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(hub_jobs, "TICK", 0.02)
    return hub


@pytest.fixture
def paths(tiny_pair: tuple[Path, Path], tmp_path: Path) -> AppPaths:
    """Of a test that needs no page."""
    return folder_with(tiny_pair, tmp_path)


@pytest.fixture(scope="module")
def here(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> AppPaths:
    """Of the one app that programs ask."""
    return folder_with(tiny_pair, tmp_path_factory.mktemp("hub-app"))


@pytest.fixture(scope="module")
def opened(here: AppPaths) -> Iterator[Client]:
    from vkd.ui import app

    page = app.build(here.checkpoints)
    yield Client(app.launch(page, here.checkpoints, "127.0.0.1", free_port()), verbose=False)
    page.close()


@pytest.fixture
def client(opened: Client, served: Hub, here: AppPaths) -> Iterator[Client]:
    """The app, with the pair and nothing that another test pulled."""
    yield opened
    for name in set(state.checkpoints(here)) - {"tiny-teacher", "tiny-student"}:
        shutil.rmtree(here.checkpoints / name)


def folder_with(pair: tuple[Path, Path], place: Path) -> AppPaths:
    root = place / "checkpoints"
    for folder in pair:
        shutil.copytree(folder, root / folder.name)
    return AppPaths.of(root)


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


def error_of(call: Any, *args: Any, **more: Any) -> str:
    with pytest.raises((AppError, gr.Error)) as refused:
        call(*args, **more)
    return getattr(refused.value, "message", str(refused.value))


# ---- pull


def test_a_pair_comes_pinned_and_every_list_knows_it(client: Client, served: Hub, here: AppPaths) -> None:
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


def test_a_strangers_card_is_shown_and_does_nothing(client: Client) -> None:
    shown, data = pull(client)
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown
    assert "tracker.example" not in shown  # a picture from elsewhere is not loaded, nor named as one
    assert "picture: spy (not loaded)" in shown
    assert 'href="javascript' not in shown
    assert "user/first" in shown  # its metadata, as words
    assert data["pulled"][0]["card"] == STRANGER


def test_out_of_reach_the_cache_serves_and_says_so(client: Client, served: Hub, here: AppPaths) -> None:
    pull(client)
    shutil.rmtree(here.checkpoints / "second")
    served.fault("/api/models/user/second", times=99, status=503)
    shown, data = pull(client)
    assert data["pulled"][0]["offline"]
    assert "out of reach" in shown


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
def test_wrong_wishes_are_answered_with_a_sentence(
    client: Client, here: AppPaths, asked: dict[str, Any], sentence: str
) -> None:
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
def test_bad_weather_is_a_sentence_and_leaves_nothing(
    client: Client, served: Hub, here: AppPaths, fault: dict[str, Any], sentence: str
) -> None:
    before = sorted(path.name for path in here.checkpoints.iterdir())
    served.fault(**fault, times=99)
    told = error_of(pull, client)
    assert re.search(sentence, told), told
    assert sorted(path.name for path in here.checkpoints.iterdir()) == before
    served.faults.clear()
    assert pull(client)[1]["state"] == "done"  # and after it the sun


def test_a_hub_that_is_not_there_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_jobs, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "the Hub cannot be reached" in error_of(pull, client)
    mark = preview(client)[1]["previewed"]
    assert "the Hub cannot be reached" in error_of(push, client, "hf_any", mark)


def test_a_push_can_be_cancelled_and_commits_nothing(served: Hub, paths: AppPaths) -> None:
    mark = actions.preview(paths, *WANTED.values())[1]["previewed"]
    served.fault("/user/new", times=99, seconds=0.3)
    watched = actions.push_now(paths, *WANTED.values(), served.token, mark)
    assert "Pushing user/new" in next(watched)[0]
    assert "Cancelling" in arrivals.cancel(paths, "push")
    *_, (told, _) = watched
    assert "cancelled. Nothing was committed" in told
    assert not served.asked("/commit/")


def test_a_pull_can_be_cancelled_and_nothing_of_it_is_kept(served: Hub, paths: AppPaths) -> None:
    served.fault("GET /user/second/resolve", times=9, seconds=0.4)
    watched = arrivals.pull_now(paths, "user/second", "", False, "", "")
    assert "Asking the Hub" in next(watched)[0]
    [(other, _)] = arrivals.pull_now(paths, "user/first", "", False, "", "")
    assert "A pull of user/second is under way" in other
    assert "Cancelling" in arrivals.cancel(paths, "pull")
    *_, (told, _) = watched
    assert "cancelled. Nothing of it was kept" in told
    assert sorted(path.name for path in paths.checkpoints.iterdir()) == ["tiny-student", "tiny-teacher"]
    assert "nothing to cancel" in error_of(arrivals.cancel, paths, "pull")
    assert "neither pull nor push" in error_of(arrivals.cancel, paths, "everything")


def test_a_page_opened_in_the_middle_sees_how_far_it_is(served: Hub, paths: AppPaths) -> None:
    served.fault("GET /user/second/resolve", times=9, seconds=0.2)
    first = arrivals.pull_now(paths, "user/second", "", False, "", "")
    next(first)
    seen = list(arrivals.watch_pull(paths))
    assert "Pulling user/second" in seen[0][0]
    assert "can be chosen now" in seen[-1][1]
    assert list(first)[-1] == seen[-1]
    assert list(arrivals.watch_pull(paths)) == [(gr.skip(), gr.skip())]


# ---- push


def test_exactly_what_was_previewed_arrives(client: Client, served: Hub, here: AppPaths) -> None:
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


def test_a_pull_request_is_opened_where_one_may_not_write(client: Client, served: Hub) -> None:
    more = {"repo": "user/second", "private": False, "pull_request": True}
    mark = preview(client, **more)[1]["previewed"]
    _, sent = push(client, served.other, mark, **more)
    assert "/user/second/discussions/" in sent["url"]
    assert served.files("user/second")["README.md"].decode() == STRANGER


def test_only_what_was_previewed_is_sent(client: Client, served: Hub, here: AppPaths) -> None:
    assert "Nothing was previewed yet" in error_of(push, client, served.token, "")
    mark = preview(client)[1]["previewed"]
    for change in ({"repo": "user/other"}, {"private": False}, {"pull_request": True}, {"revision": "dev"}):
        assert "differs from its preview" in error_of(push, client, served.token, mark, **change)
    shutil.copytree(here.checkpoints / "tiny-student", here.checkpoints / "moving")
    mark = preview(client, checkpoint="moving")[1]["previewed"]
    moving = checkpoint.load(here.checkpoints / "moving")
    checkpoint.save(moving.folder, moving.net, moving.config, weights="best", half=True)
    assert "differs from its preview" in error_of(push, client, served.token, mark, checkpoint="moving")
    assert not served.asked("POST")


def test_wrong_tokens_are_told_in_a_sentence_and_nowhere_repeated(
    client: Client, served: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mark = preview(client)[1]["previewed"]
    odd = "my secret with no mark"
    for token, sentence in (
        ("hf_unknown1234", "does not accept this token"),
        (served.reader, "lacks the right to do that"),
    ):
        told = error_of(push, client, token, mark)
        assert sentence in told
        assert token not in told
    assert odd not in error_of(push, client, odd, mark)
    assert "needs an access token" in error_of(push, client, "", mark)
    for token in ("hf_unknown1234", served.reader, odd):
        assert token not in caplog.text


def test_a_token_stays_in_no_job_and_no_file(client: Client, served: Hub, here: AppPaths) -> None:
    _, data = pull(client, token=served.token)
    mark = preview(client)[1]["previewed"]
    shown, sent = push(client, served.token, mark)
    assert served.token not in f"{shown}{sent}{data}{vars(hub_jobs)}"
    assert not any(served.token.encode() in path.read_bytes() for path in here.checkpoints.rglob("*.json"))
    assert any(each.authorized for each in served.requests)


def test_the_card_alone_is_a_file(client: Client, served: Hub) -> None:
    file = client.predict("tiny-teacher", "user/new", "", api_name="/hub_card")
    assert Path(file).name == "README.md"
    assert Path(file).read_text() == preview(client, checkpoint="tiny-teacher", teacher="")[1]["card"]
    assert not served.requests
    for name, sentence in (("nobody", "no checkpoint named"), ("../etc", "is not the name of a checkpoint")):
        with pytest.raises(AppError, match=sentence):
            client.predict(name, "user/new", "", api_name="/hub_card")


# ---- a public demo


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "DEMO", True)


@pytest.mark.usefixtures("demo")
def test_a_public_demo_pulls_nothing(served: Hub, paths: AppPaths) -> None:
    assert "public demo" in error_of(lambda: next(arrivals.pull(paths, "user/first")))
    [(told, _)] = arrivals.pull_now(paths, "user/first", "", False, "", "")
    assert "public demo" in told
    assert "public demo" in error_of(arrivals.cancel, paths, "pull")
    assert not served.requests


@pytest.mark.usefixtures("demo")
def test_a_public_demo_pushes_with_the_visitors_login_alone(
    served: Hub, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", served.token)  # the Space's own
    _, data = actions.preview(paths, *WANTED.values())
    asked = (*WANTED.values(), served.token, data["previewed"])
    assert "Log in with Hugging Face" in error_of(lambda: next(actions.push(paths, *asked)))
    assert not served.requests
    login = gr.OAuthToken(token=served.other, scope="", expires_at=0)
    told = error_of(lambda: list(actions.push(paths, *asked, login=login)))
    assert "lacks the right to do that" in told  # someone's login does not write to what is user's
    mine = (WANTED | {"repo": "someone/mine"}).values()
    mark = actions.preview(paths, *mine)[1]["previewed"]
    *_, (_, sent) = actions.push(paths, *mine, "", mark, login=login)
    assert sent["state"] == "done"
    assert served.repositories["models", "someone/mine"].owner == "someone"


@pytest.mark.usefixtures("demo")
def test_visitors_of_a_demo_do_not_see_each_others_pushes(paths: AppPaths) -> None:
    job = hub_jobs.Job("push", "someone/mine")
    hub_jobs.start(paths, job, lambda job: time.sleep(0.2), "anna", None)
    assert hub_jobs.current(paths, "push", "bert") is None
    with pytest.raises(ValueError, match="nothing to cancel"):
        hub_jobs.cancel(paths, "push", "bert")
    assert hub_jobs.current(paths, "push", "anna") is job


@pytest.mark.parametrize(
    ("given", "can"),
    [
        ({}, False),
        ({"OAUTH_CLIENT_ID": "x"}, False),  # elsewhere gradio would lend the machine's own login to visitors
        ({"SYSTEM": "spaces", "SPACE_ID": "a/b"}, False),
        ({"SYSTEM": "spaces", "SPACE_ID": "a/b", "OAUTH_CLIENT_ID": "x"}, True),
    ],
)
def test_logging_in_is_offered_where_it_works(
    given: dict[str, str], can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions.importlib.util, "find_spec", lambda name: object())
    assert actions.can_log_in(given) == can
    monkeypatch.setattr(actions.importlib.util, "find_spec", lambda name: None)
    assert not actions.can_log_in(given)


# ---- the page


def test_a_change_takes_the_permission_to_push_back() -> None:
    assert tab.forget()[1]["interactive"] is False
    mark, button = tab.remember({"previewed": "mark"})
    assert (mark, button["interactive"]) == ("mark", True)
    assert tab.forget_sent("<p>still there</p>") == (gr.skip(), gr.skip())
    assert tab.forget_sent("")[1]["interactive"] is False
    assert tab.remember(None)[1]["interactive"] is False


def test_new_checkpoints_can_be_chosen_without_a_restart(paths: AppPaths) -> None:
    _, _, others = request.look_again(paths, None, None, ["gone", "tiny-student"])
    assert (set(others["choices"]), others["value"]) == ({"tiny-student", "tiny-teacher"}, ["tiny-student"])
    assert tab.look_again(paths, "gone")["value"] in ("tiny-student", "tiny-teacher")
    assert tab.look_again(paths, "tiny-teacher")["value"] == "tiny-teacher"
    assert tab.teacher_field(paths, "tiny-teacher") == gr.update(visible=False, value="")
    assert tab.teacher_field(paths, "tiny-student")["visible"]


def test_every_endpoint_of_the_tab_is_documented(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    ours = {name: each for name, each in endpoints.items() if name.startswith("/hub_")}
    assert set(ours) == {"/hub_pull", "/hub_cancel", "/hub_preview", "/hub_push", "/hub_card"}
    assert all(each["description"] for each in ours.values())
    names = [each["parameter_name"] for each in ours["/hub_push"]["parameters"]]
    assert names == [*WANTED, "token", "previewed"]
