"""One commit of a repository: its list of files, and verified downloads into the client's cache."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd.hub.client import TIMEOUT, cache_dir, is_unreachable, translate_errors, with_retries
from vkd.hub.summary import CURVES, EVENTS, HEATMAPS, README, WEIGHTS
from vkd.io.errors import VKDError
from vkd.io.files import write_text
from vkd.io.progress import Progress, silent
from vkd.models.config import read_config
from vkd.models.network import build_on_meta

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

PULLED_FILES = ("config.json", *WEIGHTS, README, EVENTS, CURVES, HEATMAPS)
"""All that is taken of a repository; a config and one file of weights must be there. No settings.json: a
folder with one is a run, and its settings were chosen on another machine."""
_MAX_SMALL_FILE = 16 * 2**20
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".chk")


@dataclass(frozen=True)
class Snapshot:
    """Files of a repository at one commit. `offline`: as the client's cache remembers them."""

    repo: str
    commit: str
    files: "dict[str, RepoFile]"
    offline: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the files to take; texts and images of absurd size are left out."""
        return [
            name
            for name in PULLED_FILES
            if name in self.files and (name in WEIGHTS or self.files[name].size <= _MAX_SMALL_FILE)
        ]

    def bytes(self, names: Sequence[str]) -> int:
        return sum(self.files[name].size for name in names)


def resolve(api: "HfApi", repo: str, revision: str | None) -> Snapshot:
    """Lists a revision's commit; from the client's cache while the Hub is unreachable."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, RevisionResolutionError
    from huggingface_hub.file_download import repo_folder_name

    cache = cache_dir(api)
    reference = cache / repo_folder_name(repo_id=repo, repo_type="model") / "refs" / (revision or "main")
    offline = False
    with translate_errors(repo, revision, api.token):
        try:
            commit = str(with_retries(lambda: api.model_info(repo, revision=revision, timeout=TIMEOUT)).sha)
            tree = with_retries(lambda: [*api.list_repo_tree(repo, revision=commit)])
            if revision != commit:  # the cache's own note of what a branch or tag was
                reference.parent.mkdir(parents=True, exist_ok=True)
                write_text(reference, commit)
        except Exception as error:
            if not is_unreachable(error):
                raise
            try:
                commit = api.resolve_revision(
                    repo, revision=revision, cache_dir=cache, local_files_only=True
                ).resolved
                tree = get_cached_repo_tree(repo, revision=commit, cache_dir=cache)
            except (RevisionResolutionError, CachedRepoTreeNotFoundError):
                raise error from None
            offline = True
    files = {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}
    snapshot = Snapshot(repo, commit, files, offline)  # pyright: ignore[reportArgumentType]
    _check_complete(snapshot)
    return snapshot


def _check_complete(snapshot: Snapshot) -> None:
    """Raises VKDError unless the snapshot holds a checkpoint of ours."""
    where = f"{snapshot.repo} at commit {snapshot.commit[:8]}"
    if not {*WEIGHTS} & snapshot.files.keys():
        pickles = sorted(name for name in snapshot.files if name.endswith(_PICKLES))
        if pickles:
            raise VKDError(
                f"{where} has its weights in {pickles[0]} only, and loading a pickle can run foreign code: "
                "ask its author for safetensors."
            )
        raise VKDError(f"{where} is no checkpoint: it has neither {' nor '.join(WEIGHTS)}.")
    if "config.json" not in snapshot.names:
        raise VKDError(f"{where} is no checkpoint of VKD: it has no config.json.")


def download(api: "HfApi", snapshot: Snapshot, names: Sequence[str], progress: Progress = silent) -> Path:
    """Downloads files into the client's cache and verifies them; returns the folder that holds them.

    The config comes first: weights that no network of it can have are refused before they are downloaded.
    """
    folder = _fetch(api, snapshot, ["config.json"])
    _check_sizes(snapshot, folder)
    total = snapshot.bytes(names)
    folder = _fetch(api, snapshot, names, lambda done: progress(min(done, total), total, snapshot.repo))
    progress(total, total, snapshot.repo)
    return folder


def _fetch(
    api: "HfApi",
    snapshot: Snapshot,
    names: Sequence[str],
    received: Callable[[int], object] = lambda count: None,
) -> Path:
    from huggingface_hub import snapshot_download

    bar = _silent_bar(received)

    def call(names: Sequence[str], again: bool = False) -> Path:
        path = snapshot_download(
            snapshot.repo,
            revision=snapshot.commit,
            allow_patterns=[*names],
            endpoint=api.endpoint,
            token=api.token,
            cache_dir=cache_dir(api),
            local_files_only=snapshot.offline,
            force_download=again,
            tqdm_class=bar,
            library_name="vkd",
        )
        return Path(path)

    with translate_errors(snapshot.repo, snapshot.commit, api.token):
        folder = with_retries(lambda: call(names))
        damaged = [name for name in names if verify_file(folder / name, snapshot.files[name])]
        if damaged and not snapshot.offline:
            with_retries(lambda: call(damaged, again=True))
        for name in damaged:
            if fault := verify_file(folder / name, snapshot.files[name]):
                where = "in the cache" if snapshot.offline else "as downloaded"
                raise VKDError(f"{snapshot.repo}: {name} {where} {fault}: pull again online.")
    return folder


def _silent_bar(received: Callable[[int], object]) -> type:
    """Returns a tqdm class that draws nothing and reports the bytes received so far, of all files."""
    from tqdm import tqdm

    most = 0

    class Bar(tqdm):  # the client makes one for bytes received, one for bytes written, one for files
        def __init__(self, *args: Any, **options: Any) -> None:
            self.counts_bytes = options.get("unit") == "B"
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal most
            self.n += n or 0
            if self.counts_bytes and self.n > most:
                most = int(self.n)
                received(most)

    return Bar


def verify_file(path: Path, expected: "RepoFile") -> str:
    """Compares a file with the repository's size and checksum; returns its fault, '' if there is none.

    The client's own check (`verify_repo_checksums`) needs a connection, so it cannot judge a cache offline.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    if size != expected.size:
        return f"has {size} bytes instead of {expected.size}"
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if expected.lfs is not None:
        correct = sha256 == expected.lfs.sha256
    else:
        # Git's name of a file. A cached list does not say which files are large: of those it names a pointer.
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        correct = _git_hash(pointer) == expected.blob_id or (
            size <= _MAX_SMALL_FILE and _git_hash(path.read_bytes()) == expected.blob_id
        )
    return "" if correct else "does not match its checksum"


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _check_sizes(snapshot: Snapshot, folder: Path) -> None:
    """Raises VKDError for weights larger than any network of this config can have."""
    with repo_in_errors(folder, snapshot.repo):
        config = read_config(folder)
        net = build_on_meta(config.backbone, config.identities)
    most = sum(8 * tensor.numel() for tensor in net.state_dict().values()) + 2**20
    for name in {*WEIGHTS} & snapshot.files.keys():
        if (size := snapshot.files[name].size) > most:
            raise VKDError(
                f"{snapshot.repo}: {name} has {size} bytes, but a {config.backbone} with "
                f"{config.identities} identities has at most {most}: it does not fit its config.json."
            )


@contextmanager
def repo_in_errors(folder: Path, repo: str) -> Iterator[None]:
    """Names `repo` instead of the hidden `folder` in errors."""
    try:
        yield
    except VKDError as error:
        raise type(error)(str(error).replace(str(folder), repo)) from None
