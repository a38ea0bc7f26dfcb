"""Checkpoints travel: `pull` brings one from the Hub, `push` takes one there.

A pulled folder is built out of sight, checked, and renamed into place: a failure leaves nothing behind.
Tokens come as an argument or from the client's own places (login, HF_TOKEN), and go nowhere but to the Hub.
"""

import json
import logging
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vkd.hub.client import Progress, describe, minding, redact
from vkd.hub.downloads import fault, fetch, named
from vkd.hub.listings import (
    ORIGIN,
    PULLED,
    WEIGHTS,
    Listing,
    base_model,
    check_repo,
    check_revision,
    client,
    listing,
    origin,
)
from vkd.hub.push import Plan, Planned, card_of, plan, push, push_net
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import NAME, replace_dir, staging_dir
from vkd.models import checkpoint

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = [
    "ORIGIN",
    "Plan",
    "Planned",
    "Progress",
    "Pulled",
    "card_of",
    "describe",
    "load",
    "origin",
    "plan",
    "pull",
    "push",
    "push_net",
    "redact",
]


LOG = logging.getLogger("vkd.hub.pull")


class Pulled(NamedTuple):
    """`offline`: from the cache, the Hub was out of reach. `there`: that commit was there already."""

    folder: Path
    repo: str
    commit: str
    offline: bool
    there: bool


def pull(
    repo: str,
    root: str | Path = "checkpoints",
    *,
    revision: str | None = None,
    name: str | None = None,
    pair: bool = False,
    token: str | bool | None = None,
    endpoint: str | None = None,
    progress: Progress | None = None,
) -> list[Pulled]:
    """Bring a checkpoint to `root/<name>`; with `pair` its teacher too, which comes first in the answer.

    The revision (branch, tag, commit; None: the main branch) becomes a commit, and only that commit is read.
    `name` is the repository's made plain unless given. A folder that an earlier pull of this repository made
    is replaced, any other is left alone. The Hub out of reach, the client's cache serves if it is whole.
    Raises ValueError (wrong names, a taken folder, no or a damaged checkpoint), FileNotFoundError (no such
    repository or revision), PermissionError (token), ConnectionError, and what `progress` raises to cancel.
    """
    api = client(endpoint, token)
    names = [_name(check_repo(repo), name)]
    found = [listing(api, repo, check_revision(revision))]
    if pair:
        teacher = _teacher(api, found[0])
        found.insert(0, listing(api, teacher, None))
        names.insert(0, _name(teacher, None))
        if names[0] == names[1]:
            raise VKDError(f"Teacher and student would both be named '{names[0]}': give the student a name.")
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    there = [_is_there(root / folder, each) for folder, each in zip(names, found, strict=True)]
    todo = [(folder, each) for folder, each, done in zip(names, found, there, strict=True) if not done]
    total, past = sum(each.bytes for _, each in todo), 0
    with staging_dir(root / "pull") as work, minding(progress) as heard:
        for folder, each in todo:
            _build(api, each, work / folder, _from(heard, past, total))
            past += each.bytes
        for folder, _ in todo:
            replace_dir(work / folder, root / folder)
    return [
        Pulled(root / folder, each.repo, each.commit, each.offline, done)
        for folder, each, done in zip(names, found, there, strict=True)
    ]


def load(
    where: str | Path,
    *,
    revision: str | None = None,
    strict: bool = True,
    token: str | bool | None = None,
    endpoint: str | None = None,
    device: str = "cpu",
) -> checkpoint.Checkpoint:
    """The checkpoint in a folder, or in a repository (read from the client's cache, nothing is left here).

    Raises as `pull` and `checkpoint.load`.
    """
    folder = Path(where)
    if folder.is_dir():
        return checkpoint.load(folder, strict=strict, device=device)
    api = client(endpoint, token)
    if isinstance(where, Path) or not re.fullmatch(r"[^/]+/[^/]+", str(where)):
        raise MissingFileError(f"{where} is neither a folder nor a repository's name (user/name).")
    found = listing(api, check_repo(str(where)), check_revision(revision))
    names = [name for name in found.wanted if name == "config.json" or name in WEIGHTS]
    cached = fetch(api, found, names)["config.json"].parent
    if found.offline:
        LOG.warning("%s comes from the cache: the Hub is out of reach", found.repo)
    with named(cached, found.repo):
        return checkpoint.load(cached, strict=strict, device=device)


def _name(repo: str, name: str | None) -> str:
    """The folder's name: given, or the repository's own made plain."""
    if name:
        if not NAME.fullmatch(name):
            raise VKDError(
                f"'{name}' is no name for a folder: 1 to 64 small letters, digits, - and _, no - or _ first."
            )
        return name
    plain = re.sub(r"[^a-z0-9_]+", "-", repo.split("/")[1].lower()).strip("-_")[:64].rstrip("-_")
    return plain or "checkpoint"


def _teacher(api: "HfApi", student: Listing) -> str:
    """The repository that the student's card names as its base model. Raises ValueError if it names none."""
    card = "README.md"
    base = base_model(fetch(api, student, [card])[card]) if card in student.wanted else None
    if base is None:
        raise VKDError(f"{student.repo} names no teacher (base_model of its card): pull it alone.")
    if base == student.repo:
        raise VKDError(f"{student.repo} names itself as its teacher: pull it alone.")
    return base


def _is_there(target: Path, found: Listing) -> bool:
    """Whether `target` holds that very commit. Raises ValueError if the name is taken by something else."""
    if not target.is_dir():
        if target.exists() or target.is_symlink():
            raise VKDError(f"{target} is a file: choose another name.")
        return False
    held = {path.name for path in target.iterdir()}
    if not held:
        return False
    came = origin(target)
    if came is None:
        raise VKDError(f"{target} holds something that was not pulled: choose another name.")
    if (came["repo"], came["endpoint"]) != (found.repo, found.endpoint):
        raise VKDError(f"{target} was pulled from {came['repo']}: choose another name.")
    if own := sorted(held - {*PULLED, ORIGIN}):
        raise VKDError(f"{target} has files of its own, such as {own[0]}: choose another name.")
    return came["commit"] == found.commit and all(
        (target / name).is_file() and not fault(target / name, found.files[name]) for name in found.wanted
    )


def _build(api: "HfApi", found: Listing, folder: Path, progress: Progress | None) -> None:
    """Fetch and check; → a whole checkpoint in `folder`, which no list shows yet."""
    cached = fetch(api, found, found.wanted, progress)
    folder.mkdir()
    for name, path in cached.items():
        shutil.copyfile(path, folder / name)
    with named(folder, found.repo):
        for name in WEIGHTS:
            if name in cached:
                checkpoint.load(folder, weights="best" if name.startswith("best") else "model")
    came = {
        "repo": found.repo,
        "commit": found.commit,
        "endpoint": found.endpoint,
        "pulled": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / ORIGIN).write_text(json.dumps(came, indent=1) + "\n", encoding="utf-8")


def _from(progress: Progress | None, past: int, total: int) -> Progress | None:
    """Progress of one repository as that of all."""
    return progress and (lambda done, _, name: progress(past + done, total, name))
