"""Imports many networks of the authors at once: from a zip, or a tree of folders.

A network is a folder with `params/hparams.json` and `chk/<name>`, at any depth. Only its small files of
`params/` and, if it is converted, its one file of weights are unpacked. What is wrong with one network stands
in its line of the report and does not stop the others.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from vkd.io import archives
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import slug, staging_dir
from vkd.io.progress import Progress, silent, track
from vkd.models.checkpoint import save
from vkd.models.network import build_on_meta
from vkd.models.reference import (
    MAX_PARAMS_BYTES,
    PARAMS,
    authors_config,
    choose_weights,
    max_bytes,
    read_params,
    read_weights,
)

MAX_FILES = 100_000
MAX_NETWORKS = 1_000


class AuthorsNetwork(NamedTuple):
    """A network of the authors. `reason` is empty unless it cannot be converted."""

    path: str  # of its folder, in the archive or tree
    name: str  # of its checkpoint folder
    backbone: str = ""
    identities: int = 0
    dataset: str = ""  # mars, duke, veri, or '' if unknown
    weights: str = ""  # path of the file chosen from chk/
    size: int = 0  # of that file, in bytes
    reason: str = ""


class Converted(NamedTuple):
    """A line of the report: the network, and its new folder, or None with the reason."""

    network: AuthorsNetwork
    folder: Path | None
    reason: str


def is_authors_folder(source: str | Path) -> bool:
    """True if `source` is one network's own folder, with params/ or chk/ directly inside."""
    return any((Path(source) / inside).is_dir() for inside in ("params", "chk"))


def list_networks(source: str | Path, only: str = "*", file: str | None = None) -> list[AuthorsNetwork]:
    """Lists the networks in a zip or folder tree of the authors, in the order of their paths.

    `only` is a pattern (`*mars*`) for their names or paths, `file` names the file of chk/ (None: the last).
    Names do not depend on `only`. Raises MissingFileError if none is there or fits, VKDError for an archive
    that is damaged, too large, or has names that lead out of it.
    """
    with tempfile.TemporaryDirectory() as work:
        return _list(Path(source), only, file, Path(work))


def convert(
    source: str | Path,
    out: str | Path,
    only: str = "*",
    file: str | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    half: bool = False,
    progress: Progress = silent,
) -> list[Converted]:
    """Converts the networks that `list_networks` lists into checkpoint folders below `out`.

    A folder appears when it is complete. One that exists stays as it is, with a reason in the report. Raises
    as `list_networks` does, and OSError if `out` cannot be written to.
    """
    source, out = Path(source), Path(out)
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        with staging_dir(out / "networks") as work:
            networks = _list(source, only, file, work)
        return [
            _convert(source, network, out / network.name, image_size, half)
            for network in track(networks, progress, "converting")
        ]
    finally:
        with suppress(OSError):  # not empty: something was converted
            for folder in new:
                folder.rmdir()


def _convert(
    source: Path, network: AuthorsNetwork, target: Path, image_size: tuple[int, int] | None, half: bool
) -> Converted:
    if network.reason:
        return Converted(network, None, network.reason)
    if os.path.lexists(target):
        return Converted(network, None, f"{target} exists already: remove it to convert it again.")
    with staging_dir(target) as work:
        try:
            config = authors_config(network.backbone, network.identities, network.dataset, image_size)
            net = build_on_meta(config.backbone, config.identities)
            most = max_bytes(net)
            if network.size > most:
                raise VKDError(
                    f"{network.weights} has {network.size:,} bytes, more than its weights can have."
                )
            if shutil.disk_usage(work).free < network.size + most // 2:
                raise VKDError(f"The disk has too little space left for {network.name}.")
            weights = _fetch(source, [network.weights], work / "weights", most) / network.weights
            net.load_state_dict(read_weights(weights, net), assign=True)
            save(work / "checkpoint", net, config, half=half)
            (work / "checkpoint").rename(target)
        except (VKDError, OSError) as error:
            return Converted(network, None, _reason(error, work / "weights"))
    return Converted(network, target, "")


def _list(source: Path, only: str, file: str | None, work: Path) -> list[AuthorsNetwork]:
    sizes, label = _file_sizes(source), archives.printable(source.name)
    files: dict[str, list[str]] = {}  # of each network: the names of the files in its chk/
    for path in sorted(sizes):
        match = re.fullmatch(r"(?:(.*)/)?(?:params/h?params\.json|chk/([^/]+))", path, re.DOTALL)
        if match:
            names = files.setdefault(match[1] or "", [])
            names += [match[2]] if match[2] else []
    if not files:
        raise MissingFileError(f"{label} has no model of the authors: no folder with params/hparams.json.")
    if len(files) > MAX_NETWORKS:
        raise VKDError(f"{label} has {len(files)} models; at most {MAX_NETWORKS} can be converted.")
    stem = source.stem if source.is_file() else source.resolve().name
    named = _unique_names(sorted(files), stem)
    chosen = [path for path, name in named.items() if fnmatchcase(name, only) or fnmatchcase(path, only)]
    if not chosen:
        some = ", ".join(list(named.values())[:8])
        raise MissingFileError(f"No model of {label} fits '{only}'; it has {some}.")
    out = []
    for number, path in enumerate(chosen):
        network = AuthorsNetwork(path, named[path])
        base, params = f"{path}/" if path else "", work / str(number)
        try:
            inside = [f"{base}{name}" for name in PARAMS if f"{base}{name}" in sizes]
            if large := [name for name in inside if sizes[name] > MAX_PARAMS_BYTES]:
                raise VKDError(f"{large[0]} is too large to be a list of parameters.")
            root = _fetch(source, inside, params, 2 * MAX_PARAMS_BYTES)
            hints = [*reversed(path.split("/")), stem]
            backbone, identities, dataset = read_params(root / path, hints, base)
            authors_config(backbone, identities, dataset)
            network = network._replace(backbone=backbone, identities=identities, dataset=dataset)
            weights = f"{base}chk/{choose_weights(files[path], file, f'{base}chk')}"
            out.append(network._replace(weights=weights, size=sizes[weights]))
        except (VKDError, OSError) as error:
            out.append(network._replace(reason=_reason(error, params)))
    return out


def _file_sizes(source: Path) -> dict[str, int]:
    """Returns path → bytes of the files in a zip or tree, hidden ones left out."""
    if source.is_dir():
        sizes: dict[str, int] = {}
        for folder, folders, files in os.walk(source):  # does not follow links to folders
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths = [Path(folder, name) for name in files if not name.startswith(".")]
            sizes |= {path.relative_to(source).as_posix(): path.lstat().st_size for path in paths}
            if len(sizes) > MAX_FILES:
                raise VKDError(f"{source} has more than {MAX_FILES:,} files: choose a smaller folder.")
        return sizes
    if not source.is_file():
        raise MissingFileError(f"{archives.printable(source)} does not exist: give a zip or a folder.")
    return archives.file_sizes(source, MAX_FILES)


def _fetch(source: Path, files: Sequence[str], work: Path, most: int) -> Path:
    """Returns the folder in which `files` lie: the tree itself, or `work`, where a zip's are unpacked."""
    if source.is_dir():
        for file in files:
            if not stat.S_ISREG((source / file).lstat().st_mode):
                raise VKDError(f"{file} is a link or a device.")
        return source
    archives.extract(source, work, lambda path: path.as_posix() in files, max_files=MAX_FILES, max_bytes=most)
    return work


def _unique_names(paths: Sequence[str], stem: str) -> dict[str, str]:
    """Names each network after its folder, with the folders above it where two are alike."""
    out: dict[str, str] = {}
    own = [slug(path.rpartition("/")[2] or stem, 48) for path in paths]
    for path, short in zip(paths, own, strict=True):
        name = (slug(path, 48) if own.count(short) > 1 else short) or "network"
        unique, number = name, 1
        while unique in out.values():
            number += 1
            unique = f"{name}-{number}"
        out[path] = unique
    return out


def _reason(error: Exception, work: Path) -> str:
    """Returns the message of an error on one line, with paths as they are in the archive."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename} cannot be used: {error.strerror.lower()}."
    return archives.printable(" ".join(text.replace(f"{work}/", "").split()))
