"""Fuzzing of all readers of untrusted files: read or refused by a VKDError, no writes outside, no code run.

All seeded mutations run in one child process with little memory, which reports every file that it opens for
writing and every program that it starts. ``python -m tests.security.test_fuzz`` prints the results.
"""

import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import mutations
from tests.support.mutations import Draw
from vkd.io.errors import MissingFileError, VKDError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory, reads /proc")

COUNTS = {"zoo": 160, "state dicts": 220, "safetensors": 140, "config": 120, "gallery": 140}
MEMORY = 600 * 2**20
SECONDS = 5  # of computing
SENTENCES = (VKDError, MissingFileError, FileExistsError, OSError)


# The readers: each gives (changed bytes, what reads them in a folder)

Case = tuple[bytes, Callable[[Path], None]]


def state_dict(old: bool) -> bytes:
    import torch

    from vkd.models.network import ReIDNet
    from vkd.models.reference import to_authors

    file = io.BytesIO()
    net = ReIDNet("tiny", 2, generator=torch.Generator().manual_seed(1))
    torch.save(to_authors(net), file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def jpeg(seed: int = 0) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 4, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


def packed(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def network(base: str, weights: bytes) -> dict[str, bytes]:
    hparams = {"backbone_type": "tiny", "num_classes": 2, "inner": {"lr": 1e-4, "views": [8, 2]}}
    return {
        f"{base}/params/hparams.json": json.dumps(hparams).encode(),
        f"{base}/params/params.json": json.dumps({"main": {"dataset_name": "mars"}}).encode(),
        f"{base}/chk/chk_end": weights,
    }


def zoo_cases(folder: str) -> Iterator[Callable[[Draw], bytes]]:
    old, new = state_dict(True), state_dict(False)
    sound = packed({**network("zoo/one", old), **network("zoo/two", new), "zoo/notes.txt": b"hello"})

    def inside(draw: Draw) -> bytes:
        """The JSON or the pickle of one network is changed, the zip is sound."""
        one = network("zoo/one", old)
        kind = int(draw.integers(3))
        if kind < 2:
            name = "zoo/one/params/" + ("hparams.json", "params.json")[kind]
            one[name] = mutations.json_value(one[name], draw)
        else:
            one["zoo/one/chk/chk_end"] = mutations.pickle_code(old, draw, folder)
        return packed({**one, **network("zoo/two", new)})

    yield lambda draw: mutations.scribble(sound, draw)
    yield lambda draw: mutations.zip_field(sound, draw)
    yield lambda draw: mutations.zip_again(sound, draw)
    yield inside


def state_dict_cases(folder: str) -> Iterator[Callable[[Draw], bytes]]:
    old, new = state_dict(True), state_dict(False)
    head = len(old) - len(old[old.index(b"classifier") :]) + 6000
    yield lambda draw: mutations.pickle_code(old, draw, folder)
    yield lambda draw: mutations.torch_archive(new, draw, folder)
    yield lambda draw: mutations.scribble(old[:head], draw) + old[head:]
    yield lambda draw: mutations.scribble(new, draw)
    yield lambda draw: mutations.zip_field(new, draw)
    yield lambda draw: mutations.zip_again(new, draw)


def gallery_cases(folder: str) -> Iterator[Callable[[Draw], bytes]]:
    sound = packed({f"mine/{name}/{n}.jpg": jpeg(n) for name in ("anna", "bert") for n in range(3)})
    yield lambda draw: mutations.scribble(sound, draw)
    yield lambda draw: mutations.zip_field(sound, draw)
    yield lambda draw: mutations.zip_again(sound, draw)


def trained() -> tuple[bytes, bytes]:
    """config.json and model.safetensors of a tiny network."""
    from vkd.models import checkpoint
    from vkd.models.network import ReIDNet

    with tempfile.TemporaryDirectory() as folder:
        config = checkpoint.Config(
            "tiny", 2, (64, 32), scores={"i2v": {"map": 0.5}}, labels=[3, 7], parent="t"
        )
        checkpoint.save(folder, ReIDNet("tiny", 2), config)
        return Path(folder, "config.json").read_bytes(), Path(folder, "model.safetensors").read_bytes()


def safetensors_cases(folder: str) -> Iterator[Callable[[Draw], bytes]]:
    weights = trained()[1]
    yield lambda draw: mutations.safetensors(weights, draw)


def config_cases(folder: str) -> Iterator[Callable[[Draw], bytes]]:
    config = trained()[0]
    yield lambda draw: mutations.scribble(config, draw)
    yield lambda draw: mutations.json_value(config, draw)
    yield lambda draw: mutations.json_value(config, draw)


def read_zoo(data: bytes, target: Path) -> None:
    from vkd.models import checkpoint, reference_archive

    (target / "zoo.zip").write_bytes(data)
    reasons = []
    for line in reference_archive.convert(target / "zoo.zip", target / "out"):
        if line.folder:
            checkpoint.load(line.folder)
        else:
            check_sentence(line.reason)
            reasons.append(line.reason)
    if reasons:
        raise VKDError(reasons[0])


def read_state_dict(data: bytes, target: Path) -> None:
    from vkd.models.network import build_on_meta
    from vkd.models.reference import read_weights

    (target / "chk_end").write_bytes(data)
    net = build_on_meta("tiny", 2)
    net.load_state_dict(read_weights(target / "chk_end", net), assign=True)


def read_gallery(data: bytes, target: Path) -> None:
    from vkd.io.archives import extract_images

    (target / "mine.zip").write_bytes(data)
    (target / "new").mkdir()
    extract_images(target / "mine.zip", target / "new")


def reader_of_checkpoint(changed: str) -> Callable[[bytes, Path], None]:
    from vkd.models import checkpoint

    files = dict(zip(("config.json", "model.safetensors"), trained(), strict=True))

    def read(data: bytes, target: Path) -> None:
        for name, sound in files.items():
            (target / name).write_bytes(data if name == changed else sound)
        checkpoint.find(target.parent)
        checkpoint.load(target)

    return read


# The child


def check_sentence(words: str) -> None:
    """Raises TypeError unless `words` is one printable line of moderate length."""
    if not (words.isprintable() and 20 < len(words) < 900 and " " in words):
        raise TypeError(f"no sentence of {len(words)} characters: {words[:300]!r}")


def fault_of(error: Exception) -> str:
    """→ '' for an error of the library's own with a sentence, else what is wrong with it."""
    if type(error) not in SENTENCES or getattr(error, "errno", None) is not None:
        return f"no sentence of ours: {type(error).__name__}: {str(error)[:300]}"
    try:
        check_sentence(str(error))
    except TypeError as flaw:
        return str(flaw)
    return ""


def watch(target: Path) -> list[str]:
    """From now on: what is opened for writing, made or removed outside `target`, and what is started."""
    violations: list[str] = []
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def outside(path: Any, directory: Any = -1) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        base = os.readlink(f"/proc/self/fd/{directory}") if directory >= 0 else os.getcwd()  # noqa: PTH109, PTH115
        return not Path(base, os.fsdecode(path)).is_relative_to(target)

    targets = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.rename": 2, "os.symlink": 2, "os.link": 2}

    def hook(event: str, arguments: tuple) -> None:
        if (
            event == "open"
            and isinstance(arguments[2], int)
            and arguments[2] & writes
            and outside(arguments[0])
        ):
            violations.append(f"opened {arguments[0]} for writing")
        elif event in targets and outside(arguments[0], arguments[targets[event]]):
            violations.append(f"{event} {arguments[0]}")
        elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect"):
            violations.append(f"{event} {arguments}")

    sys.addaudithook(hook)
    return violations


def child(root: Path) -> dict[str, Any]:
    """Every change of every reader; → name → how many were read, how many refused, what went wrong."""
    import resource

    target = root / "target"
    folder = mutations.folder_name(str(root))
    readers = {
        "zoo": (list(zoo_cases(folder)), read_zoo),
        "state dicts": (list(state_dict_cases(folder)), read_state_dict),
        "safetensors": (list(safetensors_cases(folder)), reader_of_checkpoint("model.safetensors")),
        "config": (list(config_cases(folder)), reader_of_checkpoint("config.json")),
        "gallery": (list(gallery_cases(folder)), read_gallery),
    }
    warm_up(readers, target)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 2**20, resource.RLIM_INFINITY))
    violations = watch(target)
    out = {}
    for name, (cases, read) in readers.items():
        read_well, refused, wrong = 0, 0, []
        for number in range(COUNTS[name]):
            draw = np.random.default_rng([sum(name.encode()), number])
            data = cases[number % len(cases)](draw)
            problem = attempt(data, target, read)
            read_well, refused = read_well + (problem is None), refused + (problem == "")
            faults = [problem] if problem else []
            faults += [f"{len(violations)} actions outside: {violations[0]}"] if violations else []
            faults += ["code ran"] if os.path.lexists(folder) else []
            violations.clear()
            wrong += [f"{name} {number}: {words}" for words in faults]
        out[name] = {"read": read_well, "refused": refused, "wrong": wrong}
    return out


def warm_up(readers: dict, target: Path) -> None:
    """The sound files, so that what is loaded only once is loaded."""
    for data, read in (
        (packed(network("zoo/one", state_dict(True))), read_zoo),
        (state_dict(False), read_state_dict),
        (trained()[0], readers["config"][1]),
        (packed({"mine/1.jpg": jpeg()}), read_gallery),
    ):
        problem = attempt(data, target, read)
        assert problem is None, problem


def attempt(data: bytes, target: Path, read: Callable[[bytes, Path], None]) -> str | None:
    """→ None if the file was read, '' if it was refused in a sentence, else what went wrong."""
    target.mkdir()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        read(data, target)
        return None
    except SENTENCES as error:
        return fault_of(error)
    except BaseException as error:  # and this is what the whole file is about
        return f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        shutil.rmtree(target)


def too_long(*_: object) -> None:
    raise TimeoutError("took too long")


# The tests


def around(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("fuzz")
    (root / "beside").mkdir()
    (root / "beside" / "sentinel.jpg").write_text("stays")
    (root / "sentinel.txt").write_text("stays")
    before = around(root)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.test_fuzz", str(root)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert around(root) == before
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", COUNTS)
def test_mutated_files_are_read_or_refused(outcome: dict[str, Any], name: str):
    counts = outcome[name]
    assert counts["wrong"] == []
    assert counts["read"] + counts["refused"] == COUNTS[name]
    assert counts["refused"] > COUNTS[name] / 4  # the changes do change something


def test_injected_code_would_run(tmp_path: Path):
    pickle.loads(b"\x80\x02" + mutations.code(mutations.folder_name(str(tmp_path))) + b".")
    assert Path(mutations.folder_name(str(tmp_path))).is_dir()


if __name__ == "__main__":
    signal.signal(signal.SIGPROF, too_long)
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    print(json.dumps(child(where)))
