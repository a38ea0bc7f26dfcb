"""Uploads checkpoints to the Hub: one staged folder, previewed and sent as it is, in one commit.

A new repository is private by default, and nothing private goes to a repository that is public.
"""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vkd.hub.card import model_card
from vkd.hub.client import (
    HUB,
    TIMEOUT,
    check_repo,
    check_revision,
    check_token,
    connect,
    translate_errors,
    with_retries,
)
from vkd.hub.figures import write_figures
from vkd.hub.files import not_uploaded, write_upload_files
from vkd.hub.pull import base_model, read_origin, strip_fields
from vkd.hub.summary import README, WEIGHTS, Summary, check_weights, read_summary
from vkd.io.errors import VKDError
from vkd.io.progress import Progress, silent

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo


@dataclass(frozen=True)
class PushRequest:
    """Arguments of a push and of its preview; blank texts count as None. Raises VKDError for wrong names.

    `revision` is a branch, made if it is missing; `pull_request` proposes the commit instead of making it;
    `teacher` is the repository of a student's teacher (None: where the teacher beside it was pulled from, or
    the one that the card of a pulled student names).
    """

    folder: Path
    repo: str
    private: bool = True
    revision: str | None = None
    pull_request: bool = False
    teacher: str | None = None
    message: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    endpoint: str | None = None

    def __post_init__(self) -> None:
        strip_fields(self)
        object.__setattr__(self, "folder", Path(self.folder))
        check_repo(self.repo)
        check_revision(self.revision)
        if self.teacher:
            check_repo(self.teacher)


class PlannedFile(NamedTuple):
    """A file to upload, and its bytes."""

    path: str
    size: int


class Plan(NamedTuple):
    """Preview of a push: files, card, images of the card by name, and names of what is not uploaded.

    `digest` covers every byte of the files and every choice of the request: the same digest, the same push.
    """

    repo: str
    files: tuple[PlannedFile, ...]
    card: str
    images: dict[str, bytes]
    not_uploaded: tuple[str, ...]
    digest: str


def preview(request: PushRequest) -> Plan:
    """Returns what `push` would send; sends nothing. Raises VKDError for what is no sound checkpoint."""
    with _staged(request) as (_, plan):
        return plan


def card_text(folder: str | Path, repo: str | None = None, *, teacher: str | None = None) -> str:
    """Returns the card that a push would send; without `repo` it names a placeholder."""
    with _staged_folder(Path(folder), repo, teacher) as (staged, _):
        return (staged / README).read_text(encoding="utf-8")


def push(
    request: PushRequest,
    *,
    digest: str | None = None,
    on_plan: Callable[[Plan], object] | None = None,
    progress: Progress = silent,
) -> str:
    """Sends a checkpoint and its card in one commit; returns the address of the commit or pull request.

    A missing repository is made, private unless `private` is False, which is also needed where it is public
    already. Weights of an earlier push that this one does not replace are removed. With `digest`, that of a
    preview, nothing else than what was previewed is sent. `on_plan` gets the plan before anything is sent;
    `progress` counts bytes. Raises AccessDeniedError, MissingFileError, UnreachableError, VKDError (names, a
    damaged checkpoint, a repository that holds something else), and what `progress` raises to cancel.
    """
    api = connect(request.endpoint, request.token)
    check_token(api)
    with _staged(request) as (folder, plan):
        if digest is not None and digest != plan.digest:
            raise VKDError("This push differs from its preview: preview it again, then push.")
        if on_plan:
            on_plan(plan)
        with translate_errors(request.repo, request.revision, api.token):
            return _upload(api, request, folder, plan, progress)


# ---- what is sent


@contextmanager
def _staged(request: PushRequest) -> Iterator[tuple[Path, Plan]]:
    """Yields the folder that is sent, and its plan."""
    with _staged_folder(request.folder, request.repo, request.teacher) as (folder, summary):
        choices = (request.repo, request.teacher, request.private, request.revision, request.pull_request)
        digest, files, images = hashlib.sha256(repr(choices).encode()), [], {}
        for path in sorted(folder.iterdir()):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
            files.append(PlannedFile(path.name, path.stat().st_size))
            if path.suffix == ".png":
                images[path.name] = path.read_bytes()
        card = (folder / README).read_text(encoding="utf-8")
        left = not_uploaded(summary, {each.path for each in files})
        yield folder, Plan(request.repo, tuple(files), card, images, tuple(left), digest.hexdigest())


@contextmanager
def _staged_folder(folder: Path, repo: str | None, teacher: str | None) -> Iterator[tuple[Path, Summary]]:
    """Yields a temporary folder with all that is sent, and the summary of the checkpoint's folder."""
    summary = read_summary(folder)
    check_weights(summary)
    with tempfile.TemporaryDirectory(prefix="vkd-push-") as temporary:
        staged = Path(temporary)
        write_upload_files(summary, staged)
        images = write_figures(summary, staged)
        card = model_card(summary, repo, teacher=teacher or _teacher_repo(summary), images=images)
        (staged / README).write_text(card, encoding="utf-8")
        yield staged, summary


def _teacher_repo(summary: Summary) -> str | None:
    """Returns the repository of a student's teacher, None if the folders do not name it."""
    if summary.config.stage != "student":
        return None
    origin = read_origin(summary.teacher_folder) if summary.teacher_folder else None
    if origin:
        return origin["repo"]
    return base_model(summary.folder / README) if read_origin(summary.folder) else None


# ---- sending it


def _upload(api: "HfApi", request: PushRequest, folder: Path, plan: Plan, progress: Progress) -> str:
    """Makes the repository, uploads large files, commits; returns the address.

    Not `HfApi.upload_folder`: it reports no progress, so that it cannot be cancelled, and where the Hub's
    storage client is installed it sends to no other Hub.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    repo, branch = request.repo, request.revision
    before = _prepare_repo(api, request)
    if branch and not request.pull_request:
        with_retries(lambda: api.create_branch(repo, branch=branch, exist_ok=True))
    total, done = sum(each.size for each in plan.files), 0
    with ExitStack() as stack:
        streams = {each.path: stack.enter_context(_Stream(folder / each.path)) for each in plan.files}
        # The client sends a path through the Hub's own storage service, and a stream by plain HTTP.
        additions = {
            path: CommitOperationAdd(path, folder / path if api.endpoint == HUB else stream)
            for path, stream in streams.items()
        }
        for path, size in plan.files:
            progress(done, total, path)
            streams[path].report = lambda at, path=path, before=done: progress(before + at, total, path)
            with_retries(
                lambda path=path: api.preupload_lfs_files(
                    repo,
                    [additions[path]],
                    revision=branch,
                    create_pr=request.pull_request,
                    free_memory=False,
                )
            )
            streams[path].report = None
            done += size
        progress(total, total, repo)
        stale = _stale_weights(api, repo, branch, before) - additions.keys()
        commit = api.create_commit(
            repo,
            [*additions.values(), *(CommitOperationDelete(path) for path in sorted(stale))],
            commit_message=request.message or f"Push {request.folder.name}",
            revision=branch,
            create_pr=request.pull_request,
            parent_commit=before.sha if before and not branch else None,
        )
    return str(commit.pr_url or commit.commit_url)


def _prepare_repo(api: "HfApi", request: PushRequest) -> "ModelInfo | None":
    """Makes the repository if it is missing; returns what is known of one that exists."""
    from huggingface_hub.errors import RepositoryNotFoundError

    repo = request.repo
    try:
        info = with_retries(lambda: api.model_info(repo, timeout=TIMEOUT))
    except RepositoryNotFoundError:
        if request.pull_request:
            raise
        with_retries(lambda: api.create_repo(repo, private=request.private))
        return None
    if request.private and info.private is False:
        raise VKDError(
            f"{repo} is public, and this push is private: allow a public one (--public), or choose another "
            "repository."
        )
    names = {each.rfilename for each in info.siblings or ()}
    if names & {"config.json", *WEIGHTS} and "vkd" not in (info.library_name, *(info.tags or ())):
        raise VKDError(f"{repo} holds another kind of model: choose another repository.")
    return info


def _stale_weights(api: "HfApi", repo: str, branch: str | None, before: "ModelInfo | None") -> set[str]:
    """Returns the weights that the branch holds now: loading takes the best before the last of them."""
    if branch:
        before = with_retries(lambda: api.model_info(repo, revision=branch, timeout=TIMEOUT))
    return {each.rfilename for each in (before.siblings or () if before else ())} & {*WEIGHTS}


class _Stream(io.BufferedReader):
    """A file that reports how far it was read."""

    report: Callable[[int], object] | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        if self.report:
            self.report(self.tell())
        return block
