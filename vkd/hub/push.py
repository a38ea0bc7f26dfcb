"""A checkpoint goes to the Hub: its plan, the repository, one commit.

Only what the plan names is sent. A new repository is private unless asked otherwise, and nothing private goes
to a repository that is public already. The commit is one step: a failure before it publishes nothing.
"""

import io
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vkd.hub.client import NO_TOKEN, Progress, minding, told
from vkd.hub.listings import (
    TIMEOUT,
    WEIGHTS,
    base_model,
    check_repo,
    check_revision,
    client,
    origin,
    patiently,
)
from vkd.io.errors import VKDError
from vkd.models import checkpoint
from vkd.models.config import Config
from vkd.models.network import ReIDNet

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

_HUB = "https://huggingface.co"


class Planned(NamedTuple):
    """A file to send, and its bytes."""

    path: str
    size: int


class Plan(NamedTuple):
    """What a push would send, the card's text, and by name what stays here."""

    repo: str
    files: tuple[Planned, ...]
    card: str
    left: tuple[str, ...]


def plan(folder: str | Path, repo: str, *, teacher: str | None = None) -> Plan:
    """The preview of `push`; sends nothing. Raises FileNotFoundError, ValueError for a damaged checkpoint.

    Without `teacher` a student's is the repository that its teacher's folder beside it was pulled from, or
    the one that its own card named when it was pulled.
    """
    return _plan(Path(folder), repo, _content(Path(folder), check_repo(repo), teacher))


def card_of(folder: str | Path, repo: str | None = None, *, teacher: str | None = None) -> str:
    """The card that a push would send, where it goes left open without `repo`. Raises as `plan`."""
    return _text(_content(Path(folder), repo and check_repo(repo), teacher)["README.md"])


def push(
    folder: str | Path,
    repo: str,
    *,
    private: bool = True,
    revision: str | None = None,
    pull_request: bool = False,
    teacher: str | None = None,
    message: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    preview: Callable[[Plan], object] | None = None,
    progress: Progress | None = None,
) -> str:
    """Send a checkpoint and its card to `repo` in one commit; → the address of the commit or pull request.

    A missing repository is made, private unless `private` is False, which is also needed where it is public
    already. `revision` is a branch, made where it is missing; with `pull_request` the commit is proposed, not
    made. `teacher` is the repository of a student's teacher. Weights of an earlier push that this one does
    not replace are removed. `preview` sees the plan before anything is sent. Raises PermissionError
    (token), ValueError (names, a damaged checkpoint, a repository that holds something else),
    FileNotFoundError, ConnectionError.
    """
    folder, branch = Path(folder), check_revision(revision)
    api = client(endpoint, token)
    check_repo(repo)
    _check_token(api)
    content = _content(folder, repo, teacher)
    if preview:
        preview(_plan(folder, repo, content))
    before = _repository(api, repo, private, pull_request)
    with minding(progress) as heard, told(repo, revision, api.token):
        if branch and not pull_request:
            patiently(lambda: api.create_branch(repo, branch=branch, exist_ok=True))
        return _commit(
            api, repo, content, before, branch, pull_request, message or f"Push {folder.name}", heard
        )


def push_net(net: ReIDNet, repo: str, *, config: Config | None = None, **options: Any) -> str:
    """Push a network that lies in no folder; `options` as in `push`. Raises ValueError without a config."""
    config = config or net.config
    if config is None:
        raise VKDError("Say what this network is: push_to_hub(repo, config=Config(...)).")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / check_repo(repo).split("/")[1]
        checkpoint.save(folder, net, config)
        return push(folder, repo, **options)


def _content(folder: Path, repo: str | None, teacher: str | None) -> dict[str, Path | bytes]:
    """Path in the repository → what to send. Raises ValueError unless every file of weights can be loaded."""
    from vkd.hub import card

    config = checkpoint.read_config(folder)
    checkpoint.weights_file(folder)
    teacher = check_repo(teacher) if teacher else _teacher(folder, config)
    content = card.travelling(folder)
    for name in WEIGHTS:
        if name in content:
            checkpoint.load(folder, weights="best" if name.startswith("best") else "model")
    pictures = [path for path in content if path.endswith(".png")]
    text = card.card(folder, repo, teacher=teacher, pictures=pictures)
    return {
        "README.md": text.encode(),
        **{path: held for path, held in content.items() if path != "README.md"},
    }


def _plan(folder: Path, repo: str, content: dict[str, Path | bytes]) -> Plan:
    from vkd.hub import card

    files = tuple(Planned(path, _size(held)) for path, held in content.items())
    return Plan(repo, files, _text(content["README.md"]), tuple(card.staying(folder)))


def _teacher(folder: Path, config: Config) -> str | None:
    """The repository of a student's teacher, as far as folders tell."""
    if config.stage != "student":
        return None
    beside = origin(folder.resolve().parent / Path(config.parent).name) if config.parent else None
    if beside:
        return beside["repo"]
    return base_model(folder / "README.md") if origin(folder) else None


def _size(held: Path | bytes) -> int:
    return len(held) if isinstance(held, bytes) else held.stat().st_size


def _text(held: Path | bytes) -> str:
    return held.decode() if isinstance(held, bytes) else held.read_text(encoding="utf-8")


def _check_token(api: "HfApi") -> None:
    from huggingface_hub import get_token

    if api.token is False or not (api.token or get_token()):
        raise PermissionError(NO_TOKEN)


def _repository(api: "HfApi", repo: str, private: bool, proposal: bool) -> "ModelInfo | None":
    """Make the repository if it is missing; → what is known of one that was there."""
    from huggingface_hub.errors import RepositoryNotFoundError

    info = None
    with told(repo, None, api.token):
        try:
            info = patiently(lambda: api.model_info(repo, timeout=TIMEOUT))
        except RepositoryNotFoundError:
            if proposal:
                raise
            patiently(lambda: api.create_repo(repo, private=private))
    if info is None:
        return None
    if private and info.private is False:
        raise VKDError(
            f"{repo} exists and is public, and this push is meant to be private: allow that (--public), or "
            "choose another repository."
        )
    names = {each.rfilename for each in info.siblings or ()}
    if names & {"config.json", *WEIGHTS} and "vkd" not in (info.library_name, *(info.tags or ())):
        raise VKDError(f"{repo} exists and holds another kind of model: choose another repository.")
    return info


def _commit(
    api: "HfApi",
    repo: str,
    content: dict[str, Path | bytes],
    before: "ModelInfo | None",
    branch: str | None,
    proposal: bool,
    message: str,
    progress: Progress | None,
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    total = sum(_size(held) for held in content.values())
    with ExitStack() as opened:
        additions, meters = {}, {}
        for path, held in content.items():
            stream = opened.enter_context(_Stream(held))
            # The client sends a path through the Hub's own storage service, which other Hubs lack, and a
            # stream by plain HTTP.
            source = stream if api.endpoint != _HUB else held
            additions[path], meters[path] = CommitOperationAdd(path, source), stream
        done = 0
        for path, operation in additions.items():
            if progress:
                meters[path].told = lambda at, past=done, path=path: progress(past + at, total, path)
            patiently(
                lambda each=operation: api.preupload_lfs_files(
                    repo, [each], revision=branch, create_pr=proposal, free_memory=False
                )
            )
            meters[path].told = None
            done += _size(content[path])
            if progress:
                progress(done, total, path)
        stale = _stale(api, repo, branch, before) - content.keys()
        commit = api.create_commit(
            repo,
            [*additions.values(), *(CommitOperationDelete(path) for path in sorted(stale))],
            commit_message=message,
            revision=branch,
            create_pr=proposal,
            parent_commit=before.sha if before and not branch else None,
        )
    return str(commit.pr_url or commit.commit_url)


def _stale(api: "HfApi", repo: str, branch: str | None, before: "ModelInfo | None") -> set[str]:
    """Weights that the branch holds now: a pull takes the best before the last, whoever pushed it."""
    if branch:
        before = patiently(lambda: api.model_info(repo, revision=branch, timeout=TIMEOUT))
    return {each.rfilename for each in (before.siblings or () if before else ())} & {*WEIGHTS}


class _Stream(io.BufferedReader):
    """A file or bytes to read, which tells how far it was read."""

    told: Callable[[int], object] | None = None

    def __init__(self, held: Path | bytes) -> None:
        raw = io.BytesIO(held) if isinstance(held, bytes) else io.FileIO(held)
        super().__init__(raw)  # pyright: ignore[reportArgumentType] (BytesIO reads as a raw stream does)

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        if self.told:
            self.told(self.tell())
        return block
