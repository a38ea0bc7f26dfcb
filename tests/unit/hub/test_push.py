"""Push: the preview is what is sent, private unless asked otherwise, in one commit or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.hub_files import FAULTS, faults, files_of, is_sentence
from tests.support.hub_repositories import front
from tests.support.hub_server import Hub
from vkd.hub.model import ReIDModel
from vkd.hub.pull import PullRequest, pull
from vkd.hub.push import Plan, PushRequest, card_text, preview, push
from vkd.io.errors import CancelledError, VKDError
from vkd.models import checkpoint
from vkd.models.network import ReIDNet

Pair = tuple[Path, Path]
load = ReIDModel.from_pretrained


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest, and is tested in test_figures.py."""
    for name in ("curves", "heatmaps"):
        monkeypatch.setattr(
            f"vkd.hub.figures.{name}", lambda run: b"\x89PNG %d" % len(run.events) if run.events else None
        )


def send(hub: Hub, folder: Path, repo: str = "user/tiny", **options: Any) -> str:
    request = {"token": hub.token, "endpoint": hub.endpoint, "repo": repo} | options
    call = {name: request.pop(name) for name in ("digest", "on_plan", "progress") if name in request}
    return push(PushRequest(folder, **request), **call)


def get(hub: Hub, repo: str, root: Path, **options: Any) -> Any:
    return pull(PullRequest(repo, token=hub.token, endpoint=hub.endpoint, **options), root)


def test_pushed_files_come_back_byte_by_byte(hub: Hub, student_run: Path, tmp_path: Path):
    url = send(hub, student_run)
    repository = hub.repositories["models", "user/tiny"]
    assert url == f"{hub.endpoint}/user/tiny/commit/{repository.refs['main']}"
    assert repository.private
    (pulled,) = get(hub, "user/tiny", tmp_path / "other")
    for name in ("model.safetensors", "best.safetensors"):
        assert (pulled.folder / name).read_bytes() == (student_run / name).read_bytes()
    assert checkpoint.load(pulled.folder).config == checkpoint.load(student_run).config


def test_preview_is_what_is_sent_and_nothing_local_goes(hub: Hub, student_run: Path, tmp_path: Path):
    plan = preview(PushRequest(student_run, "user/tiny"))
    assert not hub.requests
    plans: list[Plan] = []
    send(hub, student_run, digest=plan.digest, on_plan=plans.append)
    sent = hub.files("user/tiny")
    assert plans == [plan]
    assert dict(plan.files) == {name: len(content) for name, content in sent.items()}
    assert sent["README.md"].decode() == plan.card == card_text(student_run, "user/tiny")
    assert plan.images == {name: sent[name] for name in ("curves.png", "heatmaps.png")}
    assert {"training.pt", "lock", "log.txt", "probes/", "hub.json"} == set(plan.not_uploaded)
    assert {"events.jsonl", "settings.json"} <= sent.keys()
    everything = b"".join(sent.values())
    for secret in (str(tmp_path), hub.token, *student_run_secrets()):
        assert secret.encode() not in everything


def student_run_secrets() -> tuple[str, ...]:
    from tests.support.student_run import SECRETS

    return SECRETS


@pytest.mark.parametrize(
    "change",
    [
        {"repo": "user/other"},
        {"private": False},
        {"revision": "v2"},
        {"pull_request": True},
        {"teacher": "user/teacher"},
        lambda folder: (folder / "best.safetensors").unlink(),
        lambda folder: (folder / "events.jsonl").unlink(),
    ],
)
def test_digest_refuses_another_push_than_the_preview(hub: Hub, student_run: Path, change: Any):
    plan = preview(PushRequest(student_run, "user/tiny"))
    assert preview(PushRequest(student_run, "user/tiny")).digest == plan.digest
    options = change if isinstance(change, dict) else {}
    if not options:
        change(student_run)
    with pytest.raises(VKDError) as caught:
        send(hub, student_run, digest=plan.digest, **options)
    assert is_sentence(str(caught.value))
    assert not hub.requests


def test_progress_counts_every_byte(hub: Hub, student_run: Path):
    calls: list[tuple[int, int, str]] = []
    send(hub, student_run, progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert done[-1] == calls[-1][1] == sum(map(len, hub.files("user/tiny").values()))


def test_public_repository_when_asked(hub: Hub, student_run: Path):
    send(hub, student_run, private=False)
    assert not hub.repositories["models", "user/tiny"].private


def test_second_push_removes_old_weights(hub: Hub, student_run: Path):
    send(hub, student_run)
    (student_run / "best.safetensors").unlink()
    send(hub, student_run, message="The last epoch")
    repository = hub.repositories["models", "user/tiny"]
    assert "best.safetensors" not in hub.files("user/tiny")
    before = repository.refs["main"]
    assert repository.titles[before] == "The last epoch"
    assert send(hub, student_run).endswith(before)  # nothing has changed: no commit


def test_revision_is_a_branch_made_if_missing(hub: Hub, student_run: Path):
    send(hub, student_run)
    main = hub.repositories["models", "user/tiny"].refs["main"]
    (student_run / "best.safetensors").unlink()
    for _ in range(2):
        send(hub, student_run, revision="v/2")
    assert "best.safetensors" not in hub.files("user/tiny", "v/2")
    assert hub.repositories["models", "user/tiny"].refs["main"] == main


def test_pull_request_changes_nothing_and_needs_no_right_to_write(hub: Hub, student_run: Path):
    send(hub, student_run, private=False)
    main = hub.repositories["models", "user/tiny"].refs["main"]
    (student_run / "best.safetensors").unlink()
    url = send(hub, student_run, pull_request=True, private=False, token=hub.other)
    assert url == f"{hub.endpoint}/user/tiny/discussions/1"
    assert hub.repositories["models", "user/tiny"].refs["main"] == main
    assert "best.safetensors" not in hub.files("user/tiny", "refs/pr/1")


def test_pushed_pair_names_each_other(hub: Hub, student_run: Path, tmp_path: Path):
    send(hub, student_run.parent / "tiny-teacher", "user/the-teacher")
    send(hub, student_run, teacher="user/the-teacher")
    assert front(hub.files("user/tiny")["README.md"].decode())["base_model"] == "user/the-teacher"
    pair = get(hub, "user/tiny", tmp_path / "other", pair=True)
    assert [each.repo for each in pair] == ["user/the-teacher", "user/tiny"]
    send(hub, pair[1].folder, "user/again")  # a pulled student remembers
    assert front(hub.files("user/again")["README.md"].decode())["base_model"] == "user/the-teacher"


def test_teacher_beside_a_run_is_named_if_it_was_pulled(hub: Hub, student_run: Path):
    assert "base_model" not in front(card_text(student_run))
    teacher = student_run.parent / "tiny-teacher"
    send(hub, teacher, "user/the-teacher")
    shutil.rmtree(teacher)
    get(hub, "user/the-teacher", student_run.parent, name="tiny-teacher")
    assert front(card_text(student_run))["base_model"] == "user/the-teacher"


@pytest.mark.parametrize("large", [".safetensors", ".json"])
def test_other_hubs_by_plain_http(hub: Hub, tiny_pair: Pair, monkeypatch: pytest.MonkeyPatch, large: str):
    """Also where the storage client of huggingface.co is installed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr("tests.support.hub_repositories.LARGE", (large,))
    send(hub, tiny_pair[0])
    assert hub.files("user/tiny")["model.safetensors"] == (tiny_pair[0] / "model.safetensors").read_bytes()


# ---- faults of the Hub


@pytest.mark.parametrize("name", faults("push"))
def test_fault(hub: Hub, tiny_pair: Pair, name: str):
    folder, before = tiny_pair[1], files_of(tiny_pair[1])
    with pytest.raises(VKDError) as caught:
        send(hub, folder, **(FAULTS[name].arrange(hub) or {}))
    assert type(caught.value) is FAULTS[name].error, caught.value
    assert is_sentence(str(caught.value)), str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "shows the client's error"
    assert files_of(folder) == before
    cut = name == "commit cut"  # the answer was lost, not the commit
    assert cut or not any("model.safetensors" in hub.files(repo) for _, repo in hub.repositories)


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
def test_passing_fault(hub: Hub, tiny_pair: Pair, on: str, how: dict[str, Any]):
    hub.fault(on, **how)
    send(hub, tiny_pair[0])
    assert hub.files("user/tiny")["model.safetensors"] == (tiny_pair[0] / "model.safetensors").read_bytes()


def test_cancelled_by_progress(hub: Hub, tiny_pair: Pair):
    def cancel(done: int, total: int, what: str) -> None:
        if done and what == "model.safetensors":
            raise CancelledError("Cancelled.")

    with pytest.raises(CancelledError, match="Cancelled"):
        send(hub, tiny_pair[0], progress=cancel)
    assert hub.files("user/tiny") == {}


def test_commit_by_somebody_else_is_not_overwritten(hub: Hub, tiny_pair: Pair):
    send(hub, tiny_pair[0])
    hub.fault("/commit/", before=lambda: hub.put("user/tiny", {"theirs": b""}))
    with pytest.raises(VKDError) as caught:
        send(hub, tiny_pair[1])
    assert is_sentence(str(caught.value))
    assert hub.files("user/tiny") == {"theirs": b""}


def _no_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.unlink()


def _cut_off(folder: Path) -> None:
    path = folder / "best.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _other_shapes(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identities": 13}))


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize("damage", [_no_weights, _cut_off, _other_shapes, _no_config, shutil.rmtree])
def test_damaged_checkpoint_is_not_pushed(hub: Hub, student_run: Path, damage: Callable[[Path], None]):
    damage(student_run)
    with pytest.raises(VKDError):
        send(hub, student_run)
    assert not hub.requests


# ---- two lines of Python


def test_model_roundtrip(hub: Hub, tiny_pair: Pair):
    access = {"token": hub.token, "endpoint": hub.endpoint}
    model = ReIDModel.from_pretrained(tiny_pair[0])
    model.push_to_hub("user/tiny", **access)
    again = load("user/tiny", **access)
    assert isinstance(again, ReIDModel)
    assert not again.net.training
    assert again.config == model.config == load(str(tiny_pair[0])).config
    state = again.net.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.net.state_dict().items())
    again.push_to_hub("user/copy", **access)
    assert "model.safetensors" in hub.files("user/copy")


def test_model_without_a_folder_is_saved_first(hub: Hub):
    net = ReIDNet("tiny", 3, generator=torch.Generator().manual_seed(0))
    config = checkpoint.Config(backbone="tiny", identities=3, image_size=(64, 32))
    model = ReIDModel(net, config, Path("new"))
    model.push_to_hub("user/tiny", token=hub.token, endpoint=hub.endpoint)
    assert load("user/tiny", token=hub.token, endpoint=hub.endpoint).config == config


def test_changed_network_is_not_pushed_as_its_folder(hub: Hub, tiny_pair: Pair):
    model = load(tiny_pair[0])
    with torch.no_grad():
        model.net.classifier.weight += 1
    with pytest.raises(VKDError):
        model.push_to_hub("user/tiny", token=hub.token, endpoint=hub.endpoint)
    assert not hub.requests


def test_load_of_nothing(hub: Hub, tmp_path: Path):
    for missing in (tmp_path / "gone", str(tmp_path / "gone"), "gone"):
        with pytest.raises(FileNotFoundError):
            load(missing, endpoint=hub.endpoint)
    assert not hub.requests


def test_load_that_does_not_fit_only_when_asked(served: Hub, tiny_pair: Pair):
    files = files_of(tiny_pair[0])
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | {"identities": 13}).encode()
    served.put("user/tiny-teacher", files)
    with pytest.raises(VKDError):
        load("user/tiny-teacher", endpoint=served.endpoint)
    with pytest.warns(UserWarning, match=r"classifier\.weight"):
        model = load("user/tiny-teacher", strict=False, endpoint=served.endpoint)
    assert model.net.identities == 13
    weights, state = load_file(tiny_pair[0] / "model.safetensors"), model.net.state_dict()
    assert all(torch.equal(state[name], weights[name]) for name in weights.keys() & state.keys()
               if not name.startswith("classifier"))  # fmt: skip
    assert all(tensor.isfinite().all() for tensor in model.net.state_dict().values())


def test_load_says_that_it_reads_the_cache(served: Hub, caplog: pytest.LogCaptureFixture):
    load("user/tiny-teacher", endpoint=served.endpoint)
    assert not caplog.records
    served.fault("/", times=999, status=503)
    load("user/tiny-teacher", endpoint=served.endpoint)
    assert [each.levelname for each in caplog.records if each.name == "vkd.hub"] == ["WARNING"]
