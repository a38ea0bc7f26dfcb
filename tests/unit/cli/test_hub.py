"""vkd hub: what is printed, the exit code, and that a token is never an argument."""

from pathlib import Path

import pytest

from tests.support.hub_files import FAULTS, faults, is_clean
from tests.support.hub_server import Hub
from tests.support.student_run import make
from vkd.cli.main import main
from vkd.hub.push import card_text
from vkd.models import checkpoint

TOKEN = f"hf_{'T' * 34}"
Captured = pytest.CaptureFixture[str]
Pair = tuple[Path, Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def run(tmp_path: Path, tiny_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A student's run whose images are drawn in no time."""
    for name in ("curves", "heatmaps"):
        monkeypatch.setattr(f"vkd.hub.figures.{name}", lambda summary: b"\x89PNG")
    return make(tmp_path / "runs", tiny_pair)


def vkd(*words: object) -> int:
    return main(["hub", *map(str, words)])


def test_pull_output(served: Hub, root: Path, capsys: Captured, monkeypatch):
    where = ("--root", root, "--endpoint", served.endpoint)
    assert vkd("pull", "user/tiny-student", "--pair", *where) == 0
    commits = {
        name: served.repositories["models", f"user/{name}"].refs["main"][:8]
        for name in ("tiny-teacher", "tiny-student")
    }
    lines = [f"{root / name}: user/{name} at {commit}" for name, commit in commits.items()]
    assert capsys.readouterr().out.splitlines() == lines
    assert vkd("pull", "user/tiny-teacher", *where) == 0
    assert capsys.readouterr().out.splitlines() == [f"{lines[0]}, already up to date"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert vkd("pull", "user/tiny-teacher", "--name", "mine", *where) == 0
    assert capsys.readouterr().out.endswith(", from the cache: the Hub is not reachable\n")
    assert {path.name for path in checkpoint.find(root)} == {"tiny-teacher", "tiny-student", "mine"}


def test_push_output(hub: Hub, run: Path, capsys: Captured, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert vkd("push", run, "user/tiny", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Would upload to user/tiny:\n")
    assert not hub.requests
    assert vkd("push", run, "user/tiny", "--endpoint", hub.endpoint) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:-1] == shown.replace("Would upload", "Uploading").splitlines()
    assert out.splitlines()[-1].startswith(f"{hub.endpoint}/user/tiny/commit/")
    assert "Not uploaded: " in out
    assert "training.pt" in out
    assert hub.token not in out + err
    assert hub.repositories["models", "user/tiny"].private


def test_push_public_branch_and_pull_request(hub: Hub, run: Path, capsys: Captured, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    where = ("user/tiny", "--public", "--endpoint", hub.endpoint)
    assert vkd("push", run, *where, "--revision", "v2", "--message", "Two") == 0
    (run / "best.safetensors").unlink()
    assert vkd("push", run, *where, "--pull-request") == 0
    assert capsys.readouterr().out.endswith("/user/tiny/discussions/1\n")
    repository = hub.repositories["models", "user/tiny"]
    assert not repository.private
    assert repository.titles[repository.refs["v2"]] == "Two"


def test_token_of_the_login(hub: Hub, run: Path):
    from huggingface_hub import constants

    place = Path(constants.HF_TOKEN_PATH)
    place.parent.mkdir(parents=True)
    place.write_text(hub.token)
    assert vkd("push", run, "user/tiny", "--endpoint", hub.endpoint) == 0


def test_card_output(tiny_pair: tuple[Path, Path], tmp_path: Path, capsys: Captured):
    assert vkd("card", tiny_pair[1], "--repo", "user/tiny", "--teacher", "user/teacher") == 0
    text = capsys.readouterr().out
    assert text.startswith("---\n")
    assert "base_model: user/teacher" in text
    assert vkd("card", tiny_pair[0], "--out", tmp_path / "README.md") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'README.md'}\n"
    assert (tmp_path / "README.md").read_text().startswith("---\n")


def test_card_is_that_of_a_push(run: Path, capsys: Captured):
    assert vkd("card", run, "--repo", "user/mine") == 0
    text = capsys.readouterr().out
    assert "(curves.png)" in text
    assert text == card_text(run, "user/mine")


@pytest.mark.parametrize(
    "name", [f"pull: {name}" for name in faults("pull")] + [f"push: {name}" for name in faults("push")]
)
def test_fault(
    served: Hub, root: Path, tiny_pair: Pair, capsys: Captured, monkeypatch: pytest.MonkeyPatch, name: str
):
    verb, _, fault = name.partition(": ")
    options = {"token": served.token, "endpoint": served.endpoint, "repo": "user/tiny"}
    options |= {"repo": "user/tiny-teacher", "token": None} if verb == "pull" else {}
    options |= FAULTS[fault].arrange(served) or {}
    if token := options.pop("token"):
        monkeypatch.setenv("HF_TOKEN", token)
    words = [options.pop("repo"), *(["--public"] * (not options.pop("private", True)))]
    words += ["--pull-request"] * options.pop("pull_request", False)
    words += [f"--{key}={value}" for key, value in options.items()]
    words = [*words, "--root", root] if verb == "pull" else [tiny_pair[1], *words]
    assert vkd(verb, *words) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("vkd hub: ")
    assert "hf_" not in err.replace("hf_…", "")
    assert is_clean(root)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "choose pull, push or card"),
        (("send",), "there is no 'send'"),
        (("pull",), "REPO"),
        (("pull", "user/tiny", "--token", "hf_x"), "--token"),
        (("push", "x", "user/tiny", "--token", "hf_x"), "--token"),
    ],
)
def test_wrong_arguments(capsys: Captured, words: tuple[str, ...], said: str):
    with pytest.raises(SystemExit) as caught:
        vkd(*words)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert said in out + err


def test_help(capsys: Captured):
    assert vkd("--help") == 0
    shown = capsys.readouterr().out
    assert all(f"vkd hub {verb}" in shown or f"| {verb}" in shown for verb in ("pull", "push", "card"))


@pytest.mark.parametrize(
    "words",
    [
        ("hub", "pull", "user/tiny", "--token", TOKEN),
        ("hub", "push", "folder", "user/tiny", f"--token={TOKEN}"),
        ("hub", "card", "folder", TOKEN),
        ("import", "zoo.zip", "out", "--push", TOKEN),
    ],
)
def test_token_as_argument(capsys: Captured, words: tuple[str, ...]):
    """Anybody on this machine can read the arguments of a process."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert "HF_TOKEN" in err
    assert "hf_" not in out + err
