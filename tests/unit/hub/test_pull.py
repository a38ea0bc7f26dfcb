"""Pulling: from the Hub in tests/hub_server.py, in good and bad weather. What fails leaves nothing behind."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.hub_server import Hub
from vkd.hub import pull as hub_pull
from vkd.models import checkpoint
from vkd.models.network import ReIDNet

Pair = tuple[Path, Path]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def card(base: str = "") -> bytes:
    return f"---\nlibrary_name: vkd\n{f'base_model: {base}' if base else ''}\n---\n# Card\n".encode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_clean(root: Path) -> bool:
    """No checkpoint is listed, and nothing hidden lies about."""
    return checkpoint.find(root) == [] and (not root.exists() or list(root.iterdir()) == [])


def is_sentence(text: str) -> bool:
    return bool(re.fullmatch(r"[^\n]{10,400}\.", text)) and "Traceback" not in text and "hf_W" not in text


# ---- fair weather


def test_a_pull_is_pinned_to_a_commit_checked_and_byte_equal(served: Hub, root: Path, tiny_pair: Pair):
    told: list[tuple[int, int, str]] = []
    progress = lambda *now: told.append(now)  # noqa: E731
    (pulled,) = hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint, progress=progress)
    commit = served.repositories["models", "user/tiny-teacher"].refs["main"]
    assert pulled == (root / "tiny-teacher", "user/tiny-teacher", commit, False, False)
    assert checkpoint.find(root) == [pulled.folder]
    for name, content in files_of(tiny_pair[0]).items():
        assert (pulled.folder / name).read_bytes() == content
    came = hub_pull.origin(pulled.folder)
    assert came
    assert (came["repo"], came["commit"], came["endpoint"]) == (*pulled[1:3], served.endpoint)
    assert all(f"/resolve/{commit}/" in each.path for each in served.asked("/resolve/"))
    assert not any(each.authorized for each in served.requests)
    done = [now[0] for now in told]
    assert done == sorted(done)
    assert told[-1][0] == told[-1][1] == sum(len(c) for c in served.files("user/tiny-teacher").values())


def test_a_commit_that_is_there_is_not_downloaded_again(served: Hub, root: Path):
    hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    served.requests.clear()
    (pulled,) = hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert pulled.there
    assert not served.asked("/resolve/")


def test_a_damaged_folder_of_that_commit_is_made_anew(served: Hub, root: Path, tiny_pair: Pair):
    (pulled,) = hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    weights = pulled.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    (again,) = hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert not again.there
    assert weights.read_bytes() == (tiny_pair[0] / "model.safetensors").read_bytes()


def test_a_new_commit_replaces_what_an_earlier_pull_left(served: Hub, root: Path, tiny_pair: Pair):
    hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    newer = served.put("user/tiny-teacher", files_of(tiny_pair[1]))
    (pulled,) = hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert (pulled.commit, pulled.there) == (newer, False)
    assert checkpoint.load(pulled.folder).config.stage == "student"
    assert [path.name for path in root.iterdir()] == ["tiny-teacher"]


@pytest.mark.parametrize("revision", ["v/2", "first", "refs/pr/1", "commit"])
def test_branches_tags_commits_and_pull_requests_can_be_pulled(
    served: Hub, root: Path, tiny_pair: Pair, revision: str
):
    repository = served.repositories["models", "user/tiny-teacher"]
    repository.tags["first"] = repository.refs["refs/pr/1"] = repository.refs["main"]
    if revision == "v/2":
        served.put("user/tiny-teacher", files_of(tiny_pair[1]), ref="v/2")
    asked = repository.refs["main"] if revision == "commit" else revision
    served.put("user/tiny-teacher", {"config.json": b"{}", "model.safetensors": b""})
    (pulled,) = hub_pull.pull("user/tiny-teacher", root, revision=asked, endpoint=served.endpoint)
    assert pulled.commit == repository.resolve(asked)


def test_a_pair_brings_the_teacher_that_the_card_names(served: Hub, root: Path):
    teacher, student = hub_pull.pull(
        "user/tiny-student", root, pair=True, name="mine", endpoint=served.endpoint
    )
    assert (teacher.repo, student.repo) == ("user/tiny-teacher", "user/tiny-student")
    assert (teacher.folder.name, student.folder.name) == ("tiny-teacher", "mine")
    assert [checkpoint.load(each.folder).config.stage for each in (teacher, student)] == [
        "teacher",
        "student",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (card(), "names no teacher"),
        (b"no front matter", "names no teacher"),
        (b"---\nbase_model: [\n---\n", "names no teacher"),
        (card("../../etc"), "names no teacher"),
        (card("user/tiny-student"), "names itself"),
        (card("user/gone"), "is not on the Hub"),
    ],
)
def test_a_pair_without_a_teacher_is_refused_whole(served: Hub, root: Path, tiny_pair: Pair, text, words):
    served.put("user/tiny-student", files_of(tiny_pair[1]) | {"README.md": text})
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        hub_pull.pull("user/tiny-student", root, pair=True, endpoint=served.endpoint)
    assert is_sentence(str(caught.value))
    assert is_clean(root)


def test_half_a_pair_is_not_pulled(served: Hub, root: Path, tiny_pair: Pair):
    served.put("user/tiny-teacher", files_of(tiny_pair[0]) | {"model.safetensors": b"nonsense"})
    with pytest.raises(ValueError, match="user/tiny-teacher"):
        hub_pull.pull("user/tiny-student", root, pair=True, endpoint=served.endpoint)
    assert is_clean(root)


def test_nothing_but_a_checkpoint_s_files_is_taken(served: Hub, root: Path, tiny_pair: Pair):
    more = {
        "settings.json": b"{}",
        "training.pt": b"x",
        "run.py": b"x",
        "sub/config.json": b"{}",
        ".hidden": b"",
    }
    served.put("user/tiny-teacher", files_of(tiny_pair[0]) | more)
    (pulled,) = hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert {path.name for path in pulled.folder.iterdir()} == {"config.json", "model.safetensors", "hub.json"}


# ---- names


@pytest.mark.parametrize(
    "repo", ["", "tiny", "a/b/c", "user/../x", "user/-x", "user/a b", "user/x.git", "https://x/y"]
)
def test_an_invalid_repository_is_a_sentence(hub: Hub, root: Path, repo: str):
    from vkd.hub.pull import pull

    with pytest.raises(ValueError, match="names no repository") as caught:
        pull(repo, root, endpoint=hub.endpoint)
    assert is_sentence(str(caught.value))
    assert not hub.requests


@pytest.mark.parametrize("revision", ["a b", "../x", "-x", "a//b", "x/", "a\n", "é"])
def test_an_invalid_revision_is_a_sentence(served: Hub, root: Path, revision: str):
    with pytest.raises(ValueError, match="is no revision"):
        hub_pull.pull("user/tiny-teacher", root, revision=revision, endpoint=served.endpoint)


@pytest.mark.parametrize(
    "endpoint", ["ftp://x", "nonsense", "https://user:hf_WWWW@host", "http://", "file:///etc"]
)
def test_an_invalid_endpoint_is_a_sentence_without_its_password(root: Path, endpoint: str):
    with pytest.raises(ValueError, match="is no address of a Hub") as caught:
        hub_pull.pull("user/tiny-teacher", root, endpoint=endpoint)
    assert "WWWW" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "A", "a/b", ".x", "-x", "x" * 65])
def test_a_folder_s_name_is_plain(served: Hub, root: Path, name: str):
    with pytest.raises(ValueError, match="is no name for a folder"):
        hub_pull.pull("user/tiny-teacher", root, name=name, endpoint=served.endpoint)
    assert is_clean(root)
    assert not served.requests  # it is said before anybody is asked


def test_a_name_is_made_plain(served: Hub, root: Path, tiny_pair: Pair):
    served.put("user/VKD_Mars.v1-Tiny", files_of(tiny_pair[0]))
    (pulled,) = hub_pull.pull("user/VKD_Mars.v1-Tiny", root, endpoint=served.endpoint)
    assert pulled.folder.name == "vkd_mars-v1-tiny"


def _trained(folder: Path) -> None:
    (folder / "training.pt").write_bytes(b"")


def _of_another(folder: Path) -> None:
    (folder / "hub.json").write_text('{"repo": "some/body", "commit": "0", "endpoint": "x"}')


def _home_made(folder: Path) -> None:
    (folder / "hub.json").unlink()


def _file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("mine")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_trained, "files of its own, such as training.pt"),
        (_of_another, "was pulled from some/body"),
        (_home_made, "was not pulled"),
        (_file, "is a file"),
    ],
)
def test_a_name_that_something_else_has_is_refused(
    served: Hub, root: Path, change: Callable[[Path], None], words
):
    (pulled,) = hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    change(pulled.folder)
    before = files_of(pulled.folder) if pulled.folder.is_dir() else pulled.folder.read_bytes()
    with pytest.raises(ValueError, match=words) as caught:
        hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert is_sentence(str(caught.value))
    assert (files_of(pulled.folder) if pulled.folder.is_dir() else pulled.folder.read_bytes()) == before


# ---- bad weather


def refused(served: Hub) -> dict[str, Any]:
    return {"endpoint": f"http://127.0.0.1:{free_port()}"}


def private(served: Hub) -> None:
    served.repositories["models", "user/tiny-teacher"].private = True


TROUBLES: dict[str, tuple[Callable[[Hub], Any], type[Exception], str]] = {
    "wrong token": (lambda h: {"token": "hf_" + "W" * 20}, PermissionError, "does not know this token"),
    "missing repository": (lambda h: {"repo": "user/gone"}, FileNotFoundError, "user/gone is not on the Hub"),
    "private repository": (private, FileNotFoundError, "is private"),
    "missing revision": (lambda h: {"revision": "v9"}, FileNotFoundError, "the revision 'v9'"),
    "connection refused": (refused, ConnectionError, "cannot be reached"),
    "listing cut": (lambda h: h.fault("GET /api/models", times=9, cut=True), ConnectionError, "was cut"),
    "download cut": (lambda h: h.fault("GET /user", times=999, cut=True), ConnectionError, "was cut"),
    "server error": (lambda h: h.fault("/", times=99, status=503), ConnectionError, r"its own \(503\)"),
    "error at a file": (lambda h: h.fault("GET /user", times=99, status=500), ConnectionError, r"\(500\)"),
    "too many requests": (lambda h: h.fault("/api", times=9, status=429), ConnectionError, "fewer requests"),
    "payment": (lambda h: h.fault("/api", times=9, status=402), PermissionError, "payment"),
    "teapot": (lambda h: h.fault("/api", times=9, status=418, message="I am a teapot"), OSError, "gave up"),
    "truncated": (lambda h: h.fault("model.safe", times=99, shorten=9), ValueError, "48599 bytes instead of"),
    "short body": (lambda h: h.fault("GET /user", times=99, shorten=9), ConnectionError, "incomplete"),
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_is_a_sentence_and_leaves_nothing(served: Hub, root: Path, name: str):
    make, kind, words = TROUBLES[name]
    options = {"repo": "user/tiny-teacher", "endpoint": served.endpoint} | (make(served) or {})
    with pytest.raises(kind, match=words) as caught:
        hub_pull.pull(options.pop("repo"), root, **options)
    assert is_sentence(str(caught.value)), str(caught.value)
    hidden = caught.value.__suppress_context__ or caught.value.__context__ is None
    assert hidden, "a traceback would show the client's own error"
    assert is_clean(root)


@pytest.mark.parametrize(
    ("on", "how"),
    [
        ("GET /api/models", {"status": 503, "times": 2}),
        ("GET /api/models", {"cut": True}),
        ("HEAD /user", {"status": 502}),
        ("GET /user", {"status": 500}),
        ("GET /user", {"cut": True, "times": 3}),
        ("model.safetensors", {"shorten": 9, "times": 2}),
    ],
)
def test_trouble_that_passes_is_waited_for(
    served: Hub, root: Path, tiny_pair: Pair, on: str, how: dict[str, Any]
):
    served.fault(on, **how)
    (pulled,) = hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    weights = (tiny_pair[0] / "model.safetensors").read_bytes()
    assert (pulled.folder / "model.safetensors").read_bytes() == weights


def test_a_branch_that_moves_during_a_pull_does_not_mix_commits(served: Hub, root: Path, tiny_pair: Pair):
    before = served.repositories["models", "user/tiny-teacher"].refs["main"]
    served.fault("HEAD", before=lambda: served.put("user/tiny-teacher", files_of(tiny_pair[1])))
    (pulled,) = hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert pulled.commit == before != served.repositories["models", "user/tiny-teacher"].refs["main"]
    assert (pulled.folder / "config.json").read_bytes() == (tiny_pair[0] / "config.json").read_bytes()


def test_a_commit_that_disappears_during_a_pull_is_a_sentence(served: Hub, root: Path):
    repository = served.repositories["models", "user/tiny-teacher"]
    served.fault("HEAD", before=repository.commits.clear)
    with pytest.raises(FileNotFoundError, match="does not have the revision"):
        hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert is_clean(root)


class Enough(Exception):  # noqa: N818
    pass


def test_a_pull_is_cancelled_by_its_progress(served: Hub, root: Path):
    def cancel(done: int, total: int, name: str) -> None:
        if name == "model.safetensors":
            raise Enough

    with pytest.raises(Enough):
        hub_pull.pull("user/tiny-teacher", root, endpoint=served.endpoint, progress=cancel)
    assert is_clean(root)


# ---- two lines of Python


def other_shapes(files: dict[str, bytes]) -> None:
    config = json.loads(files["config.json"])
    files["config.json"] = json.dumps(config | {"identities": 13}).encode()


def test_from_pretrained_reads_a_repository(served: Hub, tiny_pair: Pair, root: Path):
    net = ReIDNet.from_pretrained("user/tiny-student", endpoint=served.endpoint)
    there = load_file(tiny_pair[1] / "model.safetensors")
    assert not net.training
    assert net.config.stage == "student"
    assert all(torch.equal(there[name], tensor) for name, tensor in net.state_dict().items())
    assert not root.exists()


def test_from_pretrained_reads_a_folder(tiny_pair: Pair):
    assert ReIDNet.from_pretrained(tiny_pair[0]).config == checkpoint.read_config(tiny_pair[0])
    assert ReIDNet.from_pretrained(str(tiny_pair[0])).config.stage == "teacher"


def test_from_pretrained_of_nothing_is_a_sentence(hub: Hub, tmp_path: Path):
    for missing in (tmp_path / "gone", str(tmp_path / "gone"), "gone"):
        with pytest.raises(FileNotFoundError, match="neither a folder nor"):
            ReIDNet.from_pretrained(missing, endpoint=hub.endpoint)


def test_a_network_that_does_not_fit_is_only_taken_when_asked(served: Hub, tiny_pair: Pair):
    files = files_of(tiny_pair[0])
    other_shapes(files)
    served.put("user/tiny-teacher", files)
    with pytest.raises(ValueError, match="has shape"):
        ReIDNet.from_pretrained("user/tiny-teacher", endpoint=served.endpoint)
    with pytest.warns(UserWarning, match="lacks 1 weights, such as 'classifier.weight'"):
        net = ReIDNet.from_pretrained("user/tiny-teacher", strict=False, endpoint=served.endpoint)
    assert net.identities == 13
    trunk = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("classifier")}
    there = load_file(tiny_pair[0] / "model.safetensors")
    assert all(torch.equal(there[name], tensor) for name, tensor in trunk.items())
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())
