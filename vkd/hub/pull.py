"""Downloads checkpoints from the Hub: pinned to a commit, verified, whole or not at all."""

import json
import logging
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vkd.hub.client import check_repo, check_revision, connect
from vkd.hub.snapshot import PULLED_FILES, Snapshot, download, repo_in_errors, resolve, verify_file
from vkd.hub.summary import README, WEIGHTS
from vkd.io.errors import VKDError
from vkd.io.files import check_name, replace_dir, slug, staging_dir
from vkd.io.progress import Progress, silent
from vkd.models import checkpoint

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOG = logging.getLogger("vkd.hub")

ORIGIN = "hub.json"
"""In a pulled folder: {"repo", "commit", "endpoint", "pulled"}, where it came from and when."""


@dataclass(frozen=True)
class PullRequest:
    """Arguments of a pull; blank texts count as None. Raises VKDError for names that cannot be.

    `revision` is a branch, tag or commit (None: the main branch), `name` that of the new folder (None: from
    the repository), `pair` brings the teacher that a student's card names too.
    """

    repo: str
    revision: str | None = None
    name: str | None = None
    pair: bool = False
    token: str | bool | None = field(default=None, repr=False)
    endpoint: str | None = None

    def __post_init__(self) -> None:
        strip_fields(self)
        check_repo(self.repo)
        check_revision(self.revision)
        if self.name:
            check_name(self.name, "folder")


class Pulled(NamedTuple):
    """`offline`: from the cache, the Hub was unreachable. `unchanged`: that commit was there already."""

    folder: Path
    repo: str
    commit: str
    offline: bool
    unchanged: bool


def strip_fields(request: Any) -> None:
    """Strips the text fields of a frozen dataclass; an optional one that is blank becomes None."""
    for name, value in vars(request).items():
        if isinstance(value, str):
            value = value.strip()
            object.__setattr__(request, name, value if value or name == "repo" else None)


def pull(
    request: PullRequest, root: str | Path = "checkpoints", *, progress: Progress = silent
) -> list[Pulled]:
    """Downloads a checkpoint to `root/<name>`; with `pair` its teacher too, first in the result.

    A folder of an earlier pull of this repository is replaced, any other is left alone. `progress` counts
    bytes. Raises VKDError for what is no checkpoint, damaged, or a folder's name that is taken,
    MissingFileError, AccessDeniedError, UnreachableError, and what `progress` raises to cancel.
    """
    api, root = connect(request.endpoint, request.token), Path(root)
    snapshots = {request.name or folder_name(request.repo): resolve(api, request.repo, request.revision)}
    if request.pair:
        teacher = _teacher(api, *snapshots.values())
        if (name := folder_name(teacher)) in snapshots:
            raise VKDError(f"Teacher and student would both be named '{name}': give the student a name.")
        snapshots = {name: resolve(api, teacher, None), **snapshots}
    unchanged = {name: _is_unchanged(root / name, each, api.endpoint) for name, each in snapshots.items()}
    missing = {name: each for name, each in snapshots.items() if not unchanged[name]}
    total, before = sum(each.bytes(each.names) for each in missing.values()), 0
    with staging_dir(root / "pull") as work:
        for name, snapshot in missing.items():
            _build(api, snapshot, work / name, _from(progress, before, total))
            before += snapshot.bytes(snapshot.names)
        for name, snapshot in missing.items():
            _is_unchanged(root / name, snapshot, api.endpoint)  # raises if the name was taken meanwhile
        for name in missing:
            replace_dir(work / name, root / name)
    return [
        Pulled(root / name, each.repo, each.commit, each.offline, unchanged[name])
        for name, each in snapshots.items()
    ]


def fetch(
    repo: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
) -> Path:
    """Downloads config and weights into the client's cache; returns their folder. Raises as `pull`."""
    request = PullRequest(repo, revision, token=token, endpoint=endpoint)
    api = connect(request.endpoint, request.token)
    snapshot = resolve(api, request.repo, request.revision)
    if snapshot.offline:
        LOG.warning("%s comes from the cache: the Hub cannot be reached", snapshot.repo)
    return download(api, snapshot, [name for name in snapshot.names if name in ("config.json", *WEIGHTS)])


def folder_name(repo: str) -> str:
    """Returns the folder's name for a repository."""
    return slug(repo.split("/")[1]) or "checkpoint"


def read_origin(folder: str | Path) -> dict[str, Any] | None:
    """Reads the repository, commit and endpoint that a folder was pulled from; None if it was not."""
    try:
        raw = json.loads((Path(folder) / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    keys = ("repo", "commit", "endpoint")
    return raw if isinstance(raw, dict) and all(isinstance(raw.get(key), str) for key in keys) else None


def base_model(readme: Path) -> str | None:
    """Reads the repository that a card names as its base model; None if it names none."""
    from huggingface_hub import ModelCard
    from huggingface_hub.utils import validate_repo_id

    try:
        text = readme.read_text(encoding="utf-8")
        base = ModelCard(text, ignore_metadata_errors=True).data.get("base_model")
        base = base[0] if isinstance(base, list) else base
        validate_repo_id(base)
    except Exception:  # whatever untrusted YAML does to the client, it names nobody
        return None
    return base if isinstance(base, str) and "/" in base else None


def _teacher(api: "HfApi", student: Snapshot) -> str:
    """Returns the teacher's repository, as the student's card names it. Raises VKDError if it names none."""
    names = [README] if README in student.names else []
    base = base_model(download(api, student, names) / README) if names else None
    if base is None:
        raise VKDError(f"{student.repo} names no teacher (base_model of its card): pull it alone.")
    if base == student.repo:
        raise VKDError(f"{student.repo} names itself as its teacher: pull it alone.")
    return base


def _is_unchanged(target: Path, snapshot: Snapshot, endpoint: str) -> bool:
    """True if `target` holds this commit already. Raises VKDError if something else has the name."""
    if not target.is_dir():
        if target.exists() or target.is_symlink():
            raise VKDError(f"{target} is a file: choose another name.")
        return False
    names = {path.name for path in target.iterdir()}
    if not names:
        return False
    origin = read_origin(target)
    if origin is None:
        raise VKDError(f"{target} was not pulled from the Hub: choose another name.")
    if (origin["repo"], origin["endpoint"]) != (snapshot.repo, endpoint):
        raise VKDError(f"{target} was pulled from {origin['repo']}: choose another name.")
    if own := sorted(names - {*PULLED_FILES, ORIGIN}):
        raise VKDError(f"{target} has files of its own, such as {own[0]}: choose another name.")
    return origin["commit"] == snapshot.commit and not any(
        verify_file(target / name, snapshot.files[name]) for name in snapshot.names
    )


def _build(api: "HfApi", snapshot: Snapshot, folder: Path, progress: Progress) -> None:
    """Downloads into `folder`, and checks that each file of weights loads."""
    cached = download(api, snapshot, snapshot.names, progress)
    folder.mkdir()
    for name in snapshot.names:
        shutil.copyfile(cached / name, folder / name)
    with repo_in_errors(folder, snapshot.repo):
        for name in {*WEIGHTS} & {*snapshot.names}:
            checkpoint.load(folder, weights="best" if name.startswith("best") else "model")
    origin = {
        "repo": snapshot.repo,
        "commit": snapshot.commit,
        "endpoint": api.endpoint,
        "pulled": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def _from(progress: Progress, before: int, total: int) -> Progress:
    """Progress of one repository as that of all."""
    return lambda done, _, what: progress(before + done, total, what)
