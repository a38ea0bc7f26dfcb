"""Pushing: the plan is what is sent, private unless asked otherwise, in one commit or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.hub_repositories import front
from tests.support.hub_server import Hub
from tests.unit.hub.test_pull import files_of, free_port, is_sentence
from vkd.hub import pull as hub_pull
from vkd.models import checkpoint
from vkd.models.network import ReIDNet

Pair = tuple[Path, Path]


@pytest.fixture
def run(tmp_path: Path, tiny_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A student's run: last and best weights, its record, and everything that must stay at home."""
    from vkd.training import settings

    # Drawing takes longer than all the rest, and what is drawn is the matter of sketches.py.
    monkeypatch.setattr("vkd.hub.figures.curves", lambda folder: b"\x89PNG of " + folder.name.encode())
    folder = tmp_path / "runs" / "my-student"
    shutil.copytree(tiny_pair[1], folder)
    found = checkpoint.load(tiny_pair[0])
    checkpoint.save(folder, found.net, checkpoint.read_config(folder), weights="best")
    asked = settings.StudentSettings(dataset="street", root=tmp_path / "secret-data", teacher=tiny_pair[0])
    settings.save(asked, folder / "settings.json")
    began = {"kind": "started", "time": 1.0, "epochs": 2, "notes": [f"data in {tmp_path}/secret-data"]}
    lines = [began, {"kind": "epoch", "time": 2.0, "epoch": 1, "losses": {"total": 1.0}}]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("training.pt", "lock", "log.txt", "stop", "notes of mine.txt"):
        (folder / name).write_text(f"{tmp_path}/secret-data")
    return folder


def push(hub_: Hub, folder: Path, repo: str = "user/tiny", **options: Any) -> str:
    return hub_pull.push(folder, repo, **{"token": hub_.token, "endpoint": hub_.endpoint} | options)


def test_what_was_pushed_comes_back_byte_by_byte(hub: Hub, run: Path, tmp_path: Path):
    from vkd.hub.pull import pull

    url = push(hub, run)
    repository = hub.repositories["models", "user/tiny"]
    assert url == f"{hub.endpoint}/user/tiny/commit/{repository.refs['main']}"
    assert repository.private
    (pulled,) = pull("user/tiny", tmp_path / "other", token=hub.token, endpoint=hub.endpoint)
    for name in ("model.safetensors", "best.safetensors"):
        assert (pulled.folder / name).read_bytes() == (run / name).read_bytes()
    assert checkpoint.load(pulled.folder).config == checkpoint.load(run).config


def test_the_plan_is_what_is_sent_and_nothing_local_goes(hub: Hub, run: Path, tmp_path: Path):
    from vkd.hub.pull import plan

    expected = plan(run, "user/tiny")
    assert not hub.requests
    seen = []
    push(hub, run, preview=seen.append)
    sent = hub.files("user/tiny")
    assert seen == [expected]
    assert dict(expected.files) == {name: len(held) for name, held in sent.items()}
    assert sent["README.md"].decode() == expected.card
    assert {"training.pt", "lock", "log.txt", "stop", "notes of mine.txt"} <= set(expected.left)
    everything = b"".join(sent.values())
    assert {"curves.png", "events.jsonl", "settings.json"} <= sent.keys()
    assert str(tmp_path).encode() not in everything
    assert hub.token.encode() not in everything


def test_progress_reaches_the_last_byte(hub: Hub, run: Path):
    told: list[tuple[int, int, str]] = []
    push(hub, run, progress=lambda *now: told.append(now))
    done = [now[0] for now in told]
    assert done == sorted(done)
    assert told[-1][0] == told[-1][1] == sum(len(held) for held in hub.files("user/tiny").values())


def test_a_public_repository_is_made_when_asked(hub: Hub, run: Path):
    push(hub, run, private=False)
    assert not hub.repositories["models", "user/tiny"].private


def test_a_second_push_goes_on_and_removes_old_weights(hub: Hub, run: Path):
    push(hub, run)
    (run / "best.safetensors").unlink()
    push(hub, run, message="The last epoch")
    repository = hub.repositories["models", "user/tiny"]
    assert "best.safetensors" not in hub.files("user/tiny")
    assert repository.titles[repository.refs["main"]] == "The last epoch"
    before = repository.refs["main"]
    assert push(hub, run).endswith(before)  # nothing has changed: no commit


def test_a_revision_is_a_branch_made_where_it_is_missing(hub: Hub, run: Path):
    push(hub, run)
    main = hub.repositories["models", "user/tiny"].refs["main"]
    (run / "best.safetensors").unlink()
    for _ in range(2):
        push(hub, run, revision="v/2")
    assert "best.safetensors" not in hub.files("user/tiny", "v/2")
    assert hub.repositories["models", "user/tiny"].refs["main"] == main


def test_a_pull_request_changes_nothing_and_needs_no_right_to_write(hub: Hub, run: Path):
    push(hub, run, private=False)
    main = hub.repositories["models", "user/tiny"].refs["main"]
    (run / "best.safetensors").unlink()
    url = push(hub, run, pull_request=True, private=False, token=hub.other)
    assert url == f"{hub.endpoint}/user/tiny/discussions/1"
    assert hub.repositories["models", "user/tiny"].refs["main"] == main
    assert "best.safetensors" not in hub.files("user/tiny", "refs/pr/1")


def test_a_pushed_pair_knows_each_other(hub: Hub, run: Path, tiny_pair: Pair, tmp_path: Path):
    from vkd.hub.pull import pull

    push(hub, tiny_pair[0], "user/the-teacher")
    push(hub, run, teacher="user/the-teacher")
    assert front(hub.files("user/tiny")["README.md"].decode())["base_model"] == "user/the-teacher"
    pair = pull("user/tiny", tmp_path / "other", pair=True, token=hub.token, endpoint=hub.endpoint)
    assert [each.repo for each in pair] == ["user/the-teacher", "user/tiny"]
    push(hub, pair[1].folder, "user/again")  # a pulled student remembers
    assert front(hub.files("user/again")["README.md"].decode())["base_model"] == "user/the-teacher"


def test_the_teacher_beside_a_run_is_named_if_it_was_pulled(hub: Hub, run: Path, tiny_pair: Pair):
    from vkd.hub.pull import plan, pull

    assert "base_model" not in front(plan(run, "user/tiny").card)
    push(hub, tiny_pair[0], "user/the-teacher")
    pull("user/the-teacher", run.parent, name="tiny-teacher", token=hub.token, endpoint=hub.endpoint)
    assert front(plan(run, "user/tiny").card)["base_model"] == "user/the-teacher"


@pytest.mark.parametrize("large", [".safetensors", ".json"])
def test_other_hubs_are_reached_by_plain_http_with_the_storage_client_installed(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, large: str
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr("tests.support.hub_repositories.LARGE", (large,))
    push(hub, run)
    assert hub.files("user/tiny")["model.safetensors"] == (run / "model.safetensors").read_bytes()


# ---- trouble


def anyone(hub: Hub) -> None:
    hub.put("user/tiny", {"README.md": b"mine"})


def foreign(hub: Hub) -> dict[str, Any]:
    hub.put("user/tiny", {"README.md": b"---\nlibrary_name: transformers\n---\n", "config.json": b"{}"})
    return {"private": False}


def strangers(hub: Hub) -> dict[str, Any]:
    hub.put("someone/tiny", {"README.md": b""})
    return {"repo": "someone/tiny", "private": False}


TROUBLES: dict[str, tuple[Callable[[Hub], Any], type[Exception], str]] = {
    "no token": (lambda h: {"token": None}, PermissionError, "who you are"),
    "token refused": (lambda h: {"token": False}, PermissionError, "who you are"),
    "wrong token": (lambda h: {"token": "hf_" + "W" * 20}, PermissionError, "does not know this token"),
    "reading token": (lambda h: {"token": h.reader}, PermissionError, "user/tiny: this token may not"),
    "somebody's name": (lambda h: {"repo": "someone/new"}, PermissionError, "may not"),
    "somebody's repository": (strangers, PermissionError, "someone/tiny: this token may not"),
    "public repository": (anyone, ValueError, "exists and is public"),
    "other kind of model": (foreign, ValueError, "another kind of model"),
    "no such repository": (lambda h: {"pull_request": True}, FileNotFoundError, "is not on the Hub"),
    "connection refused": (
        lambda h: {"endpoint": f"http://127.0.0.1:{free_port()}"}, ConnectionError, "cannot be reached"),
    "listing cut": (lambda h: h.fault("GET /api", times=9, cut=True), ConnectionError, "was cut"),
    "commit cut": (lambda h: h.fault("/commit/", cut=True), ConnectionError, "was cut"),
    "server error": (lambda h: h.fault("/", times=99, status=503), ConnectionError, r"\(503\)"),
    "upload fails": (lambda h: h.fault("PUT /lfs", times=99, status=500), ConnectionError, r"\(500\)"),
    "commit fails": (lambda h: h.fault("/commit/", times=99, status=500), ConnectionError, r"\(500\)"),
    "too large": (lambda h: h.fault("/commit/", status=413), ValueError, "no file as large"),
    "conflict": (lambda h: h.fault("repos/create", status=409), ValueError, "is taken on the Hub"),
    "odd teacher": (lambda h: {"teacher": "x"}, ValueError, "'x' names no repository"),
    "odd repository": (lambda h: {"repo": "x/y/z"}, ValueError, "'x/y/z' names no repository"),
    "odd revision": (lambda h: {"revision": "-"}, ValueError, "is no revision"),
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_is_a_sentence(hub: Hub, run: Path, name: str):
    make, kind, words = TROUBLES[name]
    before = files_of(run)
    with pytest.raises(kind, match=words) as caught:
        push(hub, run, **(make(hub) or {}))
    assert is_sentence(str(caught.value)), str(caught.value)
    assert "hf_" not in str(caught.value).replace("hf_…", "")
    assert files_of(run) == before
    cut = name == "commit cut"  # the answer was lost, not the commit
    held = [hub.files(repo) for _, repo in hub.repositories]
    assert cut or not any("model.safetensors" in files for files in held)


@pytest.mark.parametrize(
    ("on", "how"),
    [
        ("GET /api/models", {"status": 503, "times": 2}),
        ("repos/create", {"status": 500}),
        ("preupload", {"status": 502}),
        ("preupload", {"cut": True}),
        ("objects/batch", {"status": 503}),
        ("PUT /lfs", {"status": 500, "times": 3}),
        ("lfs/verify", {"cut": True}),
    ],
)
def test_trouble_that_passes_is_waited_for(hub: Hub, run: Path, on: str, how: dict[str, Any]):
    hub.fault(on, **how)
    push(hub, run)
    assert hub.files("user/tiny")["model.safetensors"] == (run / "model.safetensors").read_bytes()


def test_a_push_is_cancelled_by_its_progress(hub: Hub, run: Path):
    def cancel(done: int, total: int, name: str) -> None:
        if name == "model.safetensors":
            raise KeyError(name)

    with pytest.raises(KeyError):
        push(hub, run, progress=cancel)
    assert hub.files("user/tiny") == {}


def test_a_commit_by_somebody_else_in_between_is_not_overwritten(hub: Hub, run: Path):
    push(hub, run)
    (run / "best.safetensors").unlink()
    hub.fault("/commit/", before=lambda: hub.put("user/tiny", {"theirs": b""}))
    with pytest.raises(ValueError, match="changed by somebody else") as caught:
        push(hub, run)
    assert is_sentence(str(caught.value))
    assert hub.files("user/tiny") == {"theirs": b""}


def _no_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.unlink()


def _cut_off(folder: Path) -> None:
    path = folder / "best.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize("spoil", [_no_weights, _cut_off, _no_config, shutil.rmtree])
def test_a_damaged_checkpoint_is_not_pushed(hub: Hub, run: Path, spoil: Callable[[Path], None]):
    spoil(run)
    with pytest.raises((ValueError, FileNotFoundError)):
        push(hub, run)
    assert not hub.requests


# ---- two lines of Python


def test_push_to_hub_and_back(hub: Hub, tiny_pair: Pair):
    net = ReIDNet.from_pretrained(tiny_pair[0])
    net.push_to_hub("user/tiny", token=hub.token, endpoint=hub.endpoint)
    back = ReIDNet.from_pretrained("user/tiny", token=hub.token, endpoint=hub.endpoint)
    assert back.config == net.config
    assert all(torch.equal(back.state_dict()[name], held) for name, held in net.state_dict().items())


def test_a_network_made_here_says_what_it_is(hub: Hub):
    net = ReIDNet("tiny", 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="Say what this network is"):
        net.push_to_hub("user/tiny", token=hub.token, endpoint=hub.endpoint)
    config = checkpoint.Config(backbone="tiny", identities=3, image_size=(64, 32))
    net.push_to_hub("user/tiny", config=config, token=hub.token, endpoint=hub.endpoint)
    assert ReIDNet.from_pretrained("user/tiny", token=hub.token, endpoint=hub.endpoint).config == config
