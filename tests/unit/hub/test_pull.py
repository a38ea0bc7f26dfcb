"""Pull: pinned, verified, whole or absent, from the cache offline. The Hub is tests/support/hub_server.py."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tests.support.hub_files import FAULTS, card, faults, files_of, free_port, is_clean, is_sentence
from tests.support.hub_server import Hub
from vkd.hub.client import UnreachableError
from vkd.hub.pull import Pulled, PullRequest, pull, read_origin
from vkd.io.errors import CancelledError, MissingFileError, VKDError
from vkd.models import checkpoint

Pair = tuple[Path, Path]
TEACHER = "user/tiny-teacher"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def get(hub: Hub, root: Path, repo: str = TEACHER, progress: Any = None, **options: Any) -> list[Pulled]:
    request = PullRequest(repo, **{"endpoint": hub.endpoint} | options)
    return pull(request, root, **({"progress": progress} if progress else {}))


def refused(hub: Hub, root: Path, error: type[Exception] = VKDError, **options: Any) -> str:
    """The sentence of a pull that fails and leaves nothing behind."""
    with pytest.raises(error) as caught:
        get(hub, root, **options)
    assert type(caught.value) is error
    assert is_sentence(str(caught.value)), str(caught.value)
    assert str(root) not in str(caught.value)
    assert is_clean(root)
    return str(caught.value)


# ---- what arrives


def test_pinned_verified_and_byte_equal(served: Hub, root: Path, tiny_pair: Pair):
    calls: list[tuple[int, int, str]] = []
    (pulled,) = get(served, root, progress=lambda *call: calls.append(call))
    commit = served.repositories["models", TEACHER].refs["main"]
    assert pulled == (root / "tiny-teacher", TEACHER, commit, False, False)
    assert checkpoint.find(root) == [pulled.folder]
    assert files_of(tiny_pair[0]).items() <= files_of(pulled.folder).items()
    origin = read_origin(pulled.folder)
    assert origin
    assert (origin["repo"], origin["commit"], origin["endpoint"]) == (TEACHER, commit, served.endpoint)
    assert all(f"/resolve/{commit}/" in each.path for each in served.asked("/resolve/"))
    assert not any(each.authorized for each in served.requests)
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert len({*done}) > 2
    assert done[-1] == calls[-1][1] == sum(map(len, served.files(TEACHER).values()))


def test_same_commit_is_not_downloaded_again(served: Hub, root: Path):
    get(served, root)
    served.requests.clear()
    (pulled,) = get(served, root)
    assert pulled.unchanged
    assert not served.asked("/resolve/")


def test_damaged_folder_is_replaced(served: Hub, root: Path, tiny_pair: Pair):
    (pulled,) = get(served, root)
    weights = pulled.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    (again,) = get(served, root)
    assert not again.unchanged
    assert weights.read_bytes() == (tiny_pair[0] / "model.safetensors").read_bytes()


def test_new_commit_replaces_an_earlier_pull(served: Hub, root: Path, tiny_pair: Pair):
    get(served, root)
    newer = served.put(TEACHER, files_of(tiny_pair[1]))
    (pulled,) = get(served, root)
    assert (pulled.commit, pulled.unchanged) == (newer, False)
    assert checkpoint.load(pulled.folder).config.stage == "student"
    assert [path.name for path in root.iterdir()] == ["tiny-teacher"]


@pytest.mark.parametrize("revision", ["v/2", "first", "refs/pr/1", "commit"])
def test_revisions(served: Hub, root: Path, tiny_pair: Pair, revision: str):
    repository = served.repositories["models", TEACHER]
    repository.tags["first"] = repository.refs["refs/pr/1"] = repository.refs["main"]
    if revision == "v/2":
        served.put(TEACHER, files_of(tiny_pair[1]), ref="v/2")
    revision = repository.refs["main"] if revision == "commit" else revision
    served.put(TEACHER, {"config.json": b"{}", "model.safetensors": b""})
    (pulled,) = get(served, root, revision=revision)
    assert pulled.commit == repository.resolve(revision)


def test_pair_brings_the_teacher_of_the_card(served: Hub, root: Path):
    teacher, student = get(served, root, "user/tiny-student", pair=True, name="mine")
    assert (teacher.repo, student.repo) == (TEACHER, "user/tiny-student")
    assert (teacher.folder.name, student.folder.name) == ("tiny-teacher", "mine")
    stages = [checkpoint.load(each.folder).config.stage for each in (teacher, student)]
    assert stages == ["teacher", "student"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (card(), VKDError),
        (b"no front matter", VKDError),
        (b"---\nbase_model: [\n---\n", VKDError),
        (card("../../etc"), VKDError),
        (card("user/tiny-student"), VKDError),
        (card("user/gone"), MissingFileError),
    ],
)
def test_pair_without_a_teacher(served: Hub, root: Path, tiny_pair: Pair, text: bytes, error):
    served.put("user/tiny-student", files_of(tiny_pair[1]) | {"README.md": text})
    refused(served, root, error, repo="user/tiny-student", pair=True)


def test_half_a_pair_is_not_pulled(served: Hub, root: Path, tiny_pair: Pair):
    served.put(TEACHER, files_of(tiny_pair[0]) | {"model.safetensors": b"nonsense"})
    assert TEACHER in refused(served, root, repo="user/tiny-student", pair=True)


def test_only_files_of_a_checkpoint_are_taken(served: Hub, root: Path, tiny_pair: Pair):
    more = dict.fromkeys(("settings.json", "training.pt", "run.py", "sub/config.json", ".hidden"), b"{}")
    served.put(TEACHER, files_of(tiny_pair[0]) | more | {"README.md": bytes(17 * 2**20)})
    (pulled,) = get(served, root)
    assert {path.name for path in pulled.folder.iterdir()} == {"config.json", "model.safetensors", "hub.json"}


# ---- names


@pytest.mark.parametrize(
    "repo", ["", "tiny", "a/b/c", "user/../x", "user/-x", "user/a b", "user/x.git", "https://x/y"]
)
def test_invalid_repository(hub: Hub, root: Path, repo: str):
    refused(hub, root, repo=repo)
    assert not hub.requests


@pytest.mark.parametrize("revision", ["a b", "../x", "-x", "a//b", "x/", "é"])
def test_invalid_revision(served: Hub, root: Path, revision: str):
    assert revision in refused(served, root, revision=revision)


@pytest.mark.parametrize(
    "endpoint", ["ftp://x", "nonsense", "https://user:hf_WWWW@host", "http://", "file:///etc"]
)
def test_invalid_endpoint_without_its_password(root: Path, hub: Hub, endpoint: str):
    assert "WWWW" not in refused(hub, root, endpoint=endpoint)


@pytest.mark.parametrize("name", ["../x", "A", "a/b", ".x", "-x", "x" * 65])
def test_invalid_folder_name_before_any_request(served: Hub, root: Path, name: str):
    refused(served, root, name=name)
    assert not served.requests


def test_blank_fields_are_none():
    request = PullRequest(" user/x ", revision=" ", name="", token="", endpoint="")
    assert request == PullRequest("user/x")


def test_folder_name_is_the_repository_s(served: Hub, root: Path, tiny_pair: Pair):
    served.put("user/VKD_Mars.v1-Tiny", files_of(tiny_pair[0]))
    (pulled,) = get(served, root, "user/VKD_Mars.v1-Tiny")
    assert pulled.folder.name == "vkd_mars-v1-tiny"


def _file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("mine")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "training.pt").write_bytes(b""), "training.pt"),
        (
            lambda folder: (folder / "hub.json").write_text(
                '{"repo": "some/body", "commit": "0", "endpoint": "x"}'
            ),
            "some/body",
        ),
        (lambda folder: (folder / "hub.json").unlink(), "tiny-teacher"),
        (_file, "tiny-teacher"),
    ],
)
def test_taken_name_is_left_alone(served: Hub, root: Path, change: Callable[[Path], None], said: str):
    (pulled,) = get(served, root)
    change(pulled.folder)
    before = files_of(pulled.folder) if pulled.folder.is_dir() else pulled.folder.read_bytes()
    with pytest.raises(VKDError, match=said) as caught:
        get(served, root)
    assert is_sentence(str(caught.value))
    assert (files_of(pulled.folder) if pulled.folder.is_dir() else pulled.folder.read_bytes()) == before


def test_name_taken_during_the_download_is_left_alone(served: Hub, root: Path):
    def take(done: int, total: int, what: str) -> None:
        (root / "tiny-teacher").mkdir(exist_ok=True)
        (root / "tiny-teacher" / "settings.json").write_text("{}")

    with pytest.raises(VKDError, match="tiny-teacher"):
        get(served, root, progress=take)
    assert files_of(root / "tiny-teacher") == {"settings.json": b"{}"}


# ---- faults of the Hub


@pytest.mark.parametrize("name", faults("pull"))
def test_fault(served: Hub, root: Path, name: str):
    options = FAULTS[name].arrange(served) or {}
    with pytest.raises(VKDError) as caught:
        get(served, root, **options)
    assert type(caught.value) is FAULTS[name].error, caught.value
    assert is_sentence(str(caught.value)), str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "shows the client's error"
    assert is_clean(root)


@pytest.mark.parametrize(
    ("on", "how"),
    [
        ("GET /api/models", {"status": 503, "times": 2}),
        ("GET /api/models", {"cut": True}),
        ("tree", {"status": 502}),
        ("HEAD /user", {"status": 502}),
        ("GET /user", {"status": 500}),
        ("GET /user", {"cut": True, "times": 3}),
        ("model.safetensors", {"shorten": 9, "times": 2}),
    ],
)
def test_passing_fault(served: Hub, root: Path, tiny_pair: Pair, on: str, how: dict[str, Any]):
    served.fault(on, **how)
    (pulled,) = get(served, root)
    weights = (tiny_pair[0] / "model.safetensors").read_bytes()
    assert (pulled.folder / "model.safetensors").read_bytes() == weights
    assert not pulled.offline


def test_moving_branch_does_not_mix_commits(served: Hub, root: Path, tiny_pair: Pair):
    before = served.repositories["models", TEACHER].refs["main"]
    served.fault("HEAD", before=lambda: served.put(TEACHER, files_of(tiny_pair[1])))
    (pulled,) = get(served, root)
    assert pulled.commit == before != served.repositories["models", TEACHER].refs["main"]
    assert (pulled.folder / "config.json").read_bytes() == (tiny_pair[0] / "config.json").read_bytes()


def test_commit_that_disappears(served: Hub, root: Path):
    served.fault("HEAD", before=served.repositories["models", TEACHER].commits.clear)
    refused(served, root, MissingFileError)


@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_cancelled_by_progress(served: Hub, root: Path, at: float):
    def cancel(done: int, total: int, what: str) -> None:
        if done >= at * total:
            raise CancelledError(f"{what} was cancelled.")

    with pytest.raises(CancelledError, match="was cancelled"):
        get(served, root, progress=cancel)
    assert is_clean(root)


# ---- damaged repositories


def _set(name: str, content: bytes | None) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files.pop(name)
        if content is not None:
            files[name] = content

    return change


def _other_shapes(files: dict[str, bytes]) -> None:
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | {"identities": 13}).encode()


def _pickled(files: dict[str, bytes]) -> None:
    files["pytorch_model.bin"] = files.pop("model.safetensors")


def _huge(files: dict[str, bytes]) -> None:
    files["model.safetensors"] += bytes(3 * 2**20)


@pytest.mark.parametrize(
    ("change", "said", "error"),
    [
        (_other_shapes, "user/tiny-teacher/model.safetensors", VKDError),
        (_set("model.safetensors", save({"a": torch.zeros(3)})), "user/tiny-teacher/model.saf", VKDError),
        (_set("model.safetensors", b"PK\3\4 nonsense"), "user/tiny-teacher/model.safetensors", VKDError),
        (_set("model.safetensors", b""), "user/tiny-teacher/model.safetensors", VKDError),
        (_set("model.safetensors", None), "model.safetensors", VKDError),
        (_set("config.json", None), "config.json", VKDError),
        (_set("config.json", b"{"), "user/tiny-teacher/config.json", VKDError),
        (_set("config.json", b'{"version": 1, "backbone": "x"}'), "user/tiny-teacher/config.json", VKDError),
        (_set("config.json", bytes(17 * 2**20)), "config.json", VKDError),
        (_pickled, "pytorch_model.bin", VKDError),
        (_huge, "model.safetensors", VKDError),
    ],
)  # fmt: skip
def test_damaged_repository(served: Hub, root: Path, tiny_pair: Pair, change, said: str, error):
    files = files_of(tiny_pair[0])
    change(files)
    served.put(TEACHER, files)
    assert said in refused(served, root, error)
    if change is _huge:
        assert not served.asked("resolve/main/model.safetensors")
        assert not [each for each in served.asked("model.safetensors") if each.method == "GET"]


# ---- offline


def away(served: Hub) -> None:
    served.fault("/", times=999, status=503)


def test_cache_serves_offline_and_says_so(served: Hub, root: Path, monkeypatch: pytest.MonkeyPatch):
    get(served, root, "user/tiny-student", pair=True)
    shutil.rmtree(root)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    served.requests.clear()
    pair = get(served, root, "user/tiny-student", pair=True)
    assert [each.offline for each in pair] == [True, True]
    assert [checkpoint.load(each.folder).config.stage for each in pair] == ["teacher", "student"]
    assert not served.requests


@pytest.mark.parametrize("revision", [None, "main", "commit"])
def test_cache_serves_while_the_hub_has_trouble(served: Hub, root: Path, revision: str | None):
    commit = served.repositories["models", TEACHER].refs["main"]
    revision = commit if revision == "commit" else revision
    get(served, root, revision=revision)
    shutil.rmtree(root)
    away(served)
    (pulled,) = get(served, root, revision=revision)
    assert (pulled.offline, pulled.commit) == (True, commit)


def test_cache_of_another_hub_is_not_taken(served: Hub, root: Path):
    get(served, root)
    shutil.rmtree(root)
    refused(served, root, UnreachableError, endpoint=f"http://127.0.0.1:{free_port()}")


def cached(name: str) -> Path:
    from huggingface_hub import constants

    parent = Path(constants.HF_HUB_CACHE).parent
    (path,) = parent.glob(f"hub-*/models--user--tiny-teacher/snapshots/*/{name}")
    return path


def test_partial_cache_is_refused(served: Hub, root: Path):
    get(served, root)
    shutil.rmtree(root)
    cached("model.safetensors").unlink()
    away(served)
    refused(served, root, MissingFileError)


def test_cached_card_alone_is_no_checkpoint(served: Hub, root: Path):
    from huggingface_hub import hf_hub_download

    from vkd.hub.client import cache_dir, connect

    cache = cache_dir(connect(served.endpoint, None))
    hf_hub_download(TEACHER, "README.md", endpoint=served.endpoint, cache_dir=cache)
    away(served)
    refused(served, root, UnreachableError)


def test_damaged_cache_is_refused_offline_and_repaired_online(served: Hub, root: Path):
    get(served, root)
    shutil.rmtree(root)
    blob = cached("model.safetensors").resolve()
    good = blob.read_bytes()
    blob.write_bytes(good[:-1] + b"!")
    away(served)
    assert "checksum" in refused(served, root)
    served.faults.clear()
    (pulled,) = get(served, root)
    assert (pulled.folder / "model.safetensors").read_bytes() == good
