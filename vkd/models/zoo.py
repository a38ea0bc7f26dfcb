"""The authors' model zoo: archives and folder trees that hold many of their networks, converted one by one.

A network is a folder with `params/hparams.json` and `chk/<name>`, at any depth. Nothing is unpacked but the
small files of `params/` and, for a network that is converted, its one file of weights. What is wrong with
one network is said in its line of the report and does not stop the others.
"""

import contextlib
import io
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from vkd.io import archives
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import staging_dir
from vkd.models import checkpoint, pickled, reference
from vkd.models.network import build_on_meta

MOST_FILES = 100_000
MOST_NETWORKS = 1_000
_MOST_MARGIN = 64 * 2**20  # what a file of weights may hold besides its numbers, of at most 8 bytes each


class Listed(NamedTuple):
    """A network of the zoo. `reason` is empty unless it cannot be converted."""

    path: str  # in the archive or tree
    name: str  # of its checkpoint folder
    backbone: str
    identities: int
    dataset: str
    weights: str  # path of the file chosen from chk/
    size: int  # of that file, in bytes
    reason: str


class Converted(NamedTuple):
    """A line of the report: the network, and its new folder, or None with the reason."""

    network: Listed
    folder: Path | None
    reason: str


class _Tree(Protocol):
    """Where the networks are: the files by path, with / between folders."""

    label: str
    stem: str

    @property
    def paths(self) -> Collection[str]: ...

    def flaw(self, path: str) -> str | None: ...
    def size(self, path: str) -> int: ...
    def copy(self, path: str, target: IO[bytes], most: int) -> None: ...


class _Zip:
    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.label, self.stem = archives.printable(path.name), path.stem
        self.archive = archives.open_zip(file, MOST_FILES)
        self.entries: dict[str, zipfile.ZipInfo] = {}
        self.twice: set[str] = set()
        for entry in self.archive.infolist():
            parts = archives.split_name(entry.filename)
            if parts is None:
                raise zipfile.BadZipFile("it has a file name that leads out of its folder")
            if not entry.is_dir() and not archives.is_hidden(parts):
                inside = "/".join(parts)
                if inside in self.entries:
                    self.twice.add(inside)
                self.entries[inside] = entry

    @property
    def paths(self) -> Collection[str]:
        return self.entries.keys()

    def flaw(self, path: str) -> str | None:
        return "is there twice" if path in self.twice else archives.fault(self.entries[path])

    def size(self, path: str) -> int:
        return self.entries[path].file_size

    def copy(self, path: str, target: IO[bytes], most: int) -> None:
        try:
            archives.copy(self.archive, self.entries[path], target, most)
        except zipfile.BadZipFile as error:
            raise VKDError(f"{path} cannot be unpacked: {error}.") from None


class _Folder:
    def __init__(self, root: Path) -> None:
        self.label, self.stem, self.root = archives.printable(root), root.resolve().name, root
        self.paths: set[str] = set()
        for folder, folders, files in os.walk(root):  # does not follow links to folders
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = Path(folder).relative_to(root)
            self.paths |= {(inside / name).as_posix() for name in files if not name.startswith(".")}
            if len(self.paths) > MOST_FILES:
                raise VKDError(f"{self.label} holds more than {MOST_FILES:,} files: name a smaller folder.")

    def flaw(self, path: str) -> str | None:
        return None if stat.S_ISREG((self.root / path).lstat().st_mode) else "is a link or a device"

    def size(self, path: str) -> int:
        return (self.root / path).stat().st_size

    def copy(self, path: str, target: IO[bytes], most: int) -> None:
        with (self.root / path).open("rb") as source:
            shutil.copyfileobj(source, target)


@contextlib.contextmanager
def _opened(source: str | Path) -> Iterator[_Tree]:
    """Raises FileNotFoundError for nothing there, ValueError for a file that is not a zip."""
    source = Path(source)
    if source.is_dir():
        yield _Folder(source)
        return
    if not source.is_file():
        raise MissingFileError(
            f"{archives.printable(source)} does not exist: give a zip or a folder of the authors."
        )
    with source.open("rb") as file:
        try:
            tree = _Zip(file, source)
        except zipfile.BadZipFile as error:
            raise VKDError(
                f"{archives.printable(source.name)} is not a zip that can be used ({error})."
            ) from None
        yield tree


def single(source: str | Path) -> bool:
    """Whether `source` is one network's own folder, with params/ or chk/ directly inside."""
    return any((Path(source) / inside).is_dir() for inside in ("params", "chk"))


def survey(source: str | Path, only: str = "*", file: str | None = None) -> list[Listed]:
    """The networks in a zip or folder tree of the authors, in the order of their paths.

    `only` is a pattern (`*mars*`) for their names or paths, `file` names the file of chk/ (None: the last).
    Names do not depend on `only`. Raises FileNotFoundError if none is there or fits, ValueError for an
    archive that is damaged, too large, or has names that lead out of it.
    """
    with _opened(source) as tree:
        return _survey(tree, only, file)


def _survey(tree: _Tree, only: str, file: str | None) -> list[Listed]:
    folders: dict[str, list[str]] = {}  # of each network: the names of the files in its chk/
    for path in sorted(tree.paths):
        found = re.fullmatch(r"(?:(.*)/)?(?:params/h?params\.json|chk/([^/]+))", path, re.DOTALL)
        if found:
            names = folders.setdefault(found[1] or "", [])
            names += [found[2]] if found[2] else []
    if not folders:
        raise MissingFileError(
            f"{tree.label} holds no network of the authors: params/hparams.json is missing at every depth."
        )
    if len(folders) > MOST_NETWORKS:
        raise VKDError(f"{tree.label} holds {len(folders)} networks; at most {MOST_NETWORKS} can be taken.")
    named = _names(sorted(folders), tree.stem)
    chosen = [path for path, name in named.items() if fnmatchcase(name, only) or fnmatchcase(path, only)]
    if not chosen:
        some = ", ".join(list(named.values())[:8])
        raise MissingFileError(f"No network of {tree.label} fits '{only}'; it holds {some}.")
    return [_listed(tree, path, named[path], folders[path], file) for path in chosen]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:48].rstrip("-_")  # leaves room for a number


def _names(paths: Sequence[str], stem: str) -> dict[str, str]:
    """A plain, unique name for each network: that of its folder, with those above it where two are alike."""
    out: dict[str, str] = {}
    own = [_plain(path.rpartition("/")[2] or stem) for path in paths]
    for path, short in zip(paths, own, strict=True):
        alike = own.count(short) > 1
        name = (_plain(path) if alike else short) or "network"
        unique, number = name, 1
        while unique in out.values():
            number += 1
            unique = f"{name}-{number}"
        out[path] = unique
    return out


def _listed(tree: _Tree, path: str, name: str, files: list[str], file: str | None) -> Listed:
    known = Listed(path, name, "", 0, "", "", 0, "")
    base = f"{path}/" if path else ""
    try:
        hparams = _small(tree, f"{base}params/hparams.json")
        params = f"{base}params/params.json"
        more = _small(tree, params) if params in tree.paths else b""
        places = [*reversed(path.split("/")), tree.stem]
        backbone, identities, dataset = reference.understand(hparams, more, f"{base}params", places)
        checkpoint.imported(backbone, identities, dataset)
        known = known._replace(backbone=backbone, identities=identities, dataset=dataset)
        weights = f"{base}chk/{reference.choose(files, file, f'{base}chk')}"
        if flaw := tree.flaw(weights):
            raise VKDError(f"{weights} {flaw}.")
        return known._replace(weights=weights, size=tree.size(weights))
    except (ValueError, OSError) as error:
        return known._replace(reason=_sentence(error))


def _small(tree: _Tree, path: str) -> bytes:
    """The content of a file of params/."""
    if path not in tree.paths:
        raise MissingFileError(f"{path} is missing.")
    if flaw := tree.flaw(path):
        raise VKDError(f"{path} {flaw}.")
    if tree.size(path) > reference.MOST_PARAMS_BYTES:
        raise VKDError(f"{path} is too large to be a list of parameters.")
    target = io.BytesIO()
    tree.copy(path, target, reference.MOST_PARAMS_BYTES)
    return target.getvalue()


def _sentence(error: Exception) -> str:
    words = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        words = f"{error.filename} cannot be used: {error.strerror.lower()}."
    return archives.printable(" ".join(words.split()))


def convert(
    source: str | Path,
    out: str | Path,
    only: str = "*",
    file: str | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    half: bool = False,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[Converted]:
    """Convert the networks that `survey` lists into checkpoint folders below `out`; → the report.

    A folder appears when it is whole. What is there already is left as it is, and said. Raises as `survey`
    does, and OSError if `out` cannot be written to.
    """
    out = Path(out)
    with _opened(source) as tree:
        networks = _survey(tree, only, file)
        made = [folder for folder in (out, *out.parents) if not folder.exists()]
        out.mkdir(parents=True, exist_ok=True)
        try:
            return [_convert(tree, network, out, image_size, half) for network in progress(networks)]
        finally:
            with contextlib.suppress(OSError):  # not empty: something was converted
                for folder in made:
                    folder.rmdir()


def _convert(
    tree: _Tree, network: Listed, out: Path, image_size: tuple[int, int] | None, half: bool
) -> Converted:
    target = out / network.name
    if network.reason:
        return Converted(network, None, network.reason)
    if os.path.lexists(target):
        return Converted(network, None, f"{target} is there already: remove it to convert anew.")
    with staging_dir(target) as work:
        weights, new = work / "weights", work / "new"
        try:
            config = checkpoint.imported(network.backbone, network.identities, network.dataset, image_size)
            net = build_on_meta(config.backbone, config.identities)
            _fetch(tree, network, weights, sum(tensor.numel() for tensor in net.state_dict().values()))
            net.load_state_dict(reference.read_weights(weights, net), assign=True)
            checkpoint.save(new, net, config, half=half)
            new.rename(target)
        except (ValueError, OSError) as error:
            reason = _sentence(error).replace(str(weights), archives.printable(network.weights))
            return Converted(network, None, reason)
    return Converted(network, target, "")


def _fetch(tree: _Tree, network: Listed, target: Path, numbers: int) -> None:
    """Bring the one file of weights to `target`, if it can be what it should be and there is room for it."""
    most = min(8 * numbers + _MOST_MARGIN, pickled.MOST_BYTES)
    if network.size > most:
        raise VKDError(
            f"{network.weights} has {network.size:,} bytes, more than the weights of {network.backbone} with "
            f"{network.identities} identities can have."
        )
    if shutil.disk_usage(target.parent).free < network.size + 4 * numbers:
        raise OSError(f"There is no room on the disk for {network.name}: make room and convert it again.")
    with target.open("xb") as file:
        tree.copy(network.weights, file, most)
