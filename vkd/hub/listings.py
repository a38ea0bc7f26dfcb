"""What a repository holds at one commit: names, sizes, checksums.

A revision becomes a commit here, and only that commit is read afterwards. The listing is remembered beside
the client's cache, so that without a connection a whole cache can be told from a partial one.
"""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from vkd.hub.client import out_of_reach, redact, told
from vkd.io.errors import VKDError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WEIGHTS = ("model.safetensors", "best.safetensors")
PULLED = ("config.json", *WEIGHTS, "README.md", "events.jsonl", "curves.png", "heatmaps.png")
"""All that is taken of a repository, if it is there; a config and one file of weights must be. No
settings.json: a folder with one is a run, and a stranger's settings are not ours to train with."""
ORIGIN = "hub.json"
"""In a pulled folder: {"repo", "commit", "endpoint", "pulled"}, where it came from and when."""
WAITS = (1.0, 3.0)  # seconds before another try where the Hub did not answer or had trouble of its own
PATIENCE = 20.0  # … but not after this many: some calls of the client have waited by themselves
TIMEOUT = 10.0
_MOST_EXTRA = 16 * 2**20
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".chk")
_REVISION = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$")

T = TypeVar("T")


class File(NamedTuple):
    """A file as its repository describes it; `sha256` of large files, `blob` (git's SHA-1) of others."""

    size: int | None
    sha256: str | None
    blob: str | None


@dataclass(frozen=True)
class Listing:
    """The files of one commit. `offline`: remembered, because the Hub was out of reach."""

    repo: str
    commit: str
    endpoint: str
    files: dict[str, File]
    offline: bool = False

    @property
    def wanted(self) -> list[str]:
        """What is taken, the config first; texts and pictures of absurd size are left."""
        found = [name for name in PULLED if name in self.files]
        return [name for name in found if name in WEIGHTS or (self.files[name].size or 0) <= _MOST_EXTRA]

    @property
    def bytes(self) -> int:
        return sum(self.files[name].size or 0 for name in self.wanted)


def origin(folder: str | Path) -> dict[str, Any] | None:
    """What `hub.json` says of where the folder came from, or None."""
    try:
        raw = json.loads((Path(folder) / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    keys = ("repo", "commit", "endpoint")
    return raw if isinstance(raw, dict) and all(isinstance(raw.get(key), str) for key in keys) else None


def base_model(readme: Path) -> str | None:
    """The repository that a card names as its base model, or None."""
    from huggingface_hub import ModelCard
    from huggingface_hub.utils import validate_repo_id

    try:
        text = readme.read_text(encoding="utf-8")
        base = ModelCard(text, ignore_metadata_errors=True).data.get("base_model")
        base = base[0] if isinstance(base, list) else base
        validate_repo_id(base)
    except Exception:  # whatever a stranger's YAML does to the client, it names nobody
        return None
    return base if isinstance(base, str) and "/" in base else None


def client(endpoint: str | None, token: str | bool | None) -> "HfApi":
    """The Hub's client. Raises ValueError for an endpoint that is no plain address."""
    # The client takes half a second to import, and most of this package never needs it.
    from huggingface_hub import HfApi

    from vkd.version import __version__

    if endpoint is not None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise VKDError(
                f"'{redact(endpoint)}' is no address of a Hub: write https://host, without user or password."
            )
    return HfApi(
        endpoint=endpoint.rstrip("/") if endpoint else None,
        token=token or None if token is not False else False,
        library_name="vkd",
        library_version=__version__,
    )


def check_repo(repo: str) -> str:
    """The id itself. Raises ValueError for one that is not user/name."""
    from huggingface_hub.utils import validate_repo_id

    with told(str(repo)):
        validate_repo_id(repo)
    if repo.count("/") != 1:
        raise VKDError(f"'{repo}' names no repository: write it as user/name.")
    return repo


def check_revision(revision: str | None) -> str | None:
    """The revision itself, None for an empty one. Raises ValueError for one that git would not take."""
    if not revision:
        return None
    if (
        not _REVISION.fullmatch(revision)
        or ".." in revision
        or "//" in revision
        or revision.endswith((".", "/"))
    ):
        raise VKDError(f"'{revision}' is no revision: give a branch, a tag or a commit.")
    return revision


def patiently(call: Callable[[], T]) -> T:
    """`call()`, tried again after `WAITS` while the Hub is out of reach, within `PATIENCE`."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    begun = time.monotonic()
    for wait in (*WAITS, None):
        try:
            return call()
        except Exception as error:
            hopeless = isinstance(error, OfflineModeIsEnabled) or not out_of_reach(error)
            if wait is None or hopeless or time.monotonic() - begun > PATIENCE:
                raise
            time.sleep(wait)
    raise AssertionError


def listing(api: "HfApi", repo: str, revision: str | None) -> Listing:
    """What `repo` holds at `revision` (None: its main branch), or held when the Hub was last in reach."""
    with told(repo, revision, api.token):
        try:
            info = patiently(
                lambda: api.model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
            )
        except Exception as error:
            known = _remembered(api, repo, revision) if out_of_reach(error) else None
            if known is None:
                raise
            return known
    files = {
        each.rfilename: File(
            each.size, each.lfs.sha256 if each.lfs else None, None if each.lfs else each.blob_id
        )
        for each in info.siblings or ()
    }
    found = Listing(repo, str(info.sha), api.endpoint, files)
    _check_complete(found)
    _remember(found, revision)
    return found


def _check_complete(found: Listing) -> None:
    """Raise ValueError unless the repository holds a checkpoint of ours."""
    where = f"{found.repo} at commit {found.commit[:8]}"
    if not any(name in found.files for name in WEIGHTS):
        pickles = sorted(name for name in found.files if name.endswith(_PICKLES))
        if pickles:
            raise VKDError(
                f"{where} has its weights in {pickles[0]} only: reading such a pickle can run a stranger's "
                "code, so vkd does not; ask for safetensors."
            )
        raise VKDError(f"{where} has neither model.safetensors nor best.safetensors: it is no checkpoint.")
    if "config.json" not in found.files:
        raise VKDError(f"{where} has no config.json: it is no checkpoint of vkd.")


def _record(repo: str, revision: str | None) -> Path:
    from huggingface_hub import cached_assets_path

    return cached_assets_path("vkd", repo, "listings") / f"{quote(revision or 'main', safe='')}.json"


def _remember(found: Listing, revision: str | None) -> None:
    text = json.dumps(asdict(found))
    try:
        for name in {revision, found.commit}:
            path = _record(found.repo, name)
            part = path.with_name(f".{path.name}.{os.getpid()}")
            part.write_text(text, encoding="utf-8")
            part.replace(path)
    except (OSError, ValueError):
        return  # a cache that cannot be written costs the next pull its connection, nothing else


def _remembered(api: "HfApi", repo: str, revision: str | None) -> Listing | None:
    try:
        raw = json.loads(_record(repo, revision).read_text(encoding="utf-8"))
        files = {str(name): File(*values) for name, values in raw["files"].items()}
        found = Listing(raw["repo"], raw["commit"], raw["endpoint"], files, offline=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if (found.repo, found.endpoint) == (repo, api.endpoint) else None
