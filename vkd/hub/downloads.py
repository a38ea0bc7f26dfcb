"""Files of one commit, fetched into the client's cache and checked against what their repository says."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd.hub.client import Progress, told
from vkd.hub.listings import WEIGHTS, File, Listing, patiently
from vkd.io.errors import MissingFileError, VKDError
from vkd.models.config import read_config
from vkd.models.network import build_on_meta

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def fetch(
    api: "HfApi", found: Listing, names: Sequence[str], told_so: Progress | None = None
) -> dict[str, Path]:
    """Name → file in the client's cache, checked against the listing; a damaged one is fetched anew, once.

    Raises ConnectionError, ValueError for a file that stays damaged, FileNotFoundError for one that the
    cache lacks while the Hub is out of reach.
    """
    done, total, paths = 0, sum(found.files[name].size or 0 for name in names), {}
    for name in names:
        size = found.files[name].size or 0
        meter = _meter(lambda n, at=done, name=name: told_so and told_so(min(at + n, total), total, name))
        path = _one(api, found, name, meter)
        wrong = fault(path, found.files[name])
        if wrong and not found.offline:
            path = _one(api, found, name, meter, again=True)
            wrong = fault(path, found.files[name])
        if wrong:
            where, how = ("in the cache", " with a connection") if found.offline else ("as it arrived", "")
            raise VKDError(f"{found.repo}: {name} {where} {wrong}: pull again{how}.")
        if name == "config.json":
            _check_sizes(found, path)
        done += size
        if told_so:
            told_so(done, total, name)
        paths[name] = path
    return paths


def _one(api: "HfApi", found: Listing, name: str, meter: type, again: bool = False) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def call() -> str:
        return hf_hub_download(
            found.repo,
            name,
            revision=found.commit,
            endpoint=found.endpoint,
            token=api.token,
            library_name="vkd",
            tqdm_class=meter,
            local_files_only=found.offline,
            force_download=again,
        )

    with told(found.repo, found.commit, api.token):
        if not found.offline:
            return Path(patiently(call))
        try:
            return Path(call())
        except LocalEntryNotFoundError:
            pass
    raise MissingFileError(
        f"{found.repo}: the Hub is out of reach, and {name} of commit {found.commit[:8]} is not in the "
        "cache: pull again with a connection."
    )


def fault(path: Path, file: File) -> str:
    """What is wrong with the file, or an empty string."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size} bytes instead of {file.size}"
    if file.sha256 or file.blob:
        # git's name of a file is the SHA-1 of a header and its content.
        digest = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with path.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
        if digest.hexdigest() != (file.sha256 or file.blob):
            return "is not what its checksum says"
    return ""


def _check_sizes(found: Listing, path: Path) -> None:
    """Raise ValueError before weights are fetched that no network of this config can have."""
    with named(path.parent, found.repo):
        config = read_config(path.parent)
        net = build_on_meta(config.backbone, config.identities)
    most = sum(8 * tensor.numel() for tensor in net.state_dict().values()) + 2**20
    for name in WEIGHTS:
        size = found.files[name].size if name in found.files else None
        if (size or 0) > most:
            raise VKDError(
                f"{found.repo}: {name} has {size} bytes, and a {config.backbone} with {config.identities} "
                f"identities at most {most}: it is not what its config.json says."
            )


class named:  # noqa: N801 (used as a statement)
    """Inside, sentences that name files of `folder` name those of `repo` instead: that folder is hidden."""

    def __init__(self, folder: Path, repo: str) -> None:
        self.folder, self.repo = folder, repo

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if isinstance(error, ValueError | FileNotFoundError):
            sentence = str(error).replace(str(self.folder), self.repo)
            raise (ValueError if isinstance(error, ValueError) else FileNotFoundError)(sentence) from None


def _meter(told_so: Callable[[int], object]) -> type:
    """A progress bar as the client takes it, which shows nothing and tells how many bytes are there."""

    class Meter:
        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            self.n, self.total, self.disable = initial, 0, False

        def __enter__(self) -> "Meter":
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, n: int | float | None = 1) -> None:
            self.n += int(n or 0)
            told_so(self.n)

        def close(self) -> None: ...

        def refresh(self, *_: object, **__: object) -> None: ...

        def set_description(self, *_: object, **__: object) -> None: ...

        def set_postfix_str(self, *_: object, **__: object) -> None: ...

    return Meter
