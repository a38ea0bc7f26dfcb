"""What arrives is checked: damaged repositories are refused, a cache is taken for what it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tests.support.hub_server import Hub
from tests.unit.hub.test_pull import files_of, free_port, is_clean, is_sentence, other_shapes
from vkd.hub import pull
from vkd.models import checkpoint
from vkd.models.network import ReIDNet

Pair = tuple[Path, Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


# ---- damaged repositories


def _other_names(files: dict[str, bytes]) -> None:
    files["model.safetensors"] = save({"a": torch.zeros(3)})


def _set(name: str, content: bytes | None) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files.pop(name)
        if content is not None:
            files[name] = content

    return change


def _pickled(files: dict[str, bytes]) -> None:
    files["pytorch_model.bin"] = files.pop("model.safetensors")


def _huge(files: dict[str, bytes]) -> None:
    files["model.safetensors"] += bytes(3 * 2**20)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_shapes, r"user/tiny-teacher/model.safetensors: '.*' has shape"),
        (_other_names, "user/tiny-teacher/model.safetensors does not hold the weights"),
        (_set("model.safetensors", b"PK\3\4 nonsense"), "damaged or not a safetensors file"),
        (_set("model.safetensors", b""), "damaged or not a safetensors file"),
        (_set("model.safetensors", None), "neither model.safetensors nor"),
        (_set("config.json", None), "no config.json"),
        (_set("config.json", b"{"), "user/tiny-teacher/config.json is not valid JSON"),
        (_set("config.json", b'{"version": 1, "backbone": "x"}'), "does not describe a network"),
        (_pickled, "pytorch_model.bin only: reading such a pickle"),
        (_huge, "not what its config.json says"),
    ],
)
def test_what_is_no_checkpoint_is_refused(served: Hub, root: Path, tiny_pair: Pair, change, words: str):
    files = files_of(tiny_pair[0])
    change(files)
    served.put("user/tiny-teacher", files)
    with pytest.raises(ValueError, match=words) as caught:
        pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert is_sentence(str(caught.value))
    assert str(root) not in str(caught.value)
    assert is_clean(root)


def test_weights_too_large_for_their_config_are_not_downloaded(served: Hub, root: Path, tiny_pair: Pair):
    files = files_of(tiny_pair[0])
    _huge(files)
    served.put("user/tiny-teacher", files)
    with pytest.raises(ValueError):
        pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert not served.asked("model.safetensors")


# ---- without a connection


def away(served: Hub) -> None:
    served.fault("/", times=999, status=503)


def test_the_cache_serves_without_a_connection_and_says_so(served: Hub, root: Path, monkeypatch):
    pull.pull("user/tiny-student", root, pair=True, endpoint=served.endpoint)
    shutil.rmtree(root)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    served.requests.clear()
    pair = pull.pull("user/tiny-student", root, pair=True, endpoint=served.endpoint)
    assert [each.offline for each in pair] == [True, True]
    assert [checkpoint.load(each.folder).config.stage for each in pair] == ["teacher", "student"]
    assert not served.requests


@pytest.mark.parametrize("revision", [None, "main", "commit"])
def test_the_cache_serves_a_hub_in_trouble(served: Hub, root: Path, revision: str | None):
    commit = served.repositories["models", "user/tiny-teacher"].refs["main"]
    asked = commit if revision == "commit" else revision
    pull.pull("user/tiny-teacher", root, revision=asked, endpoint=served.endpoint)
    shutil.rmtree(root)
    away(served)
    (pulled,) = pull.pull("user/tiny-teacher", root, revision=asked, endpoint=served.endpoint)
    assert (pulled.offline, pulled.commit) == (True, commit)


def test_from_pretrained_says_that_it_reads_the_cache(served: Hub, caplog: pytest.LogCaptureFixture):
    ReIDNet.from_pretrained("user/tiny-teacher", endpoint=served.endpoint)
    assert not caplog.records
    away(served)
    ReIDNet.from_pretrained("user/tiny-teacher", endpoint=served.endpoint)
    said = [each.getMessage() for each in caplog.records if each.name == "vkd.hub.pull"]
    assert said == ["user/tiny-teacher comes from the cache: the Hub is out of reach"]


def test_another_hub_s_cache_is_not_taken(served: Hub, root: Path):
    pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    shutil.rmtree(root)
    with pytest.raises(ConnectionError):
        pull.pull("user/tiny-teacher", root, endpoint=f"http://127.0.0.1:{free_port()}")
    assert is_clean(root)


def cached(name: str) -> Path:
    from huggingface_hub import constants

    (path,) = Path(constants.HF_HUB_CACHE).glob(f"models--user--tiny-teacher/snapshots/*/{name}")
    return path


def test_a_partial_cache_is_told_from_a_whole_one(served: Hub, root: Path):
    pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    shutil.rmtree(root)
    cached("model.safetensors").unlink()
    away(served)
    with pytest.raises(FileNotFoundError, match=r"model.safetensors of commit .* not in the cache") as caught:
        pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert is_sentence(str(caught.value))
    assert is_clean(root)


def test_a_cache_that_holds_the_readme_alone_is_no_checkpoint(served: Hub, root: Path):
    from huggingface_hub import hf_hub_download

    hf_hub_download("user/tiny-teacher", "README.md", endpoint=served.endpoint)
    away(served)
    with pytest.raises(ConnectionError, match="trouble of its own"):
        pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert is_clean(root)


def test_a_damaged_cache_is_refused_without_a_connection_and_mended_with_one(served: Hub, root: Path):
    pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    shutil.rmtree(root)
    blob = cached("model.safetensors").resolve()
    good = blob.read_bytes()
    blob.write_bytes(good[:-1] + b"!")
    away(served)
    with pytest.raises(ValueError, match="in the cache is not what its checksum says: pull again with a"):
        pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert is_clean(root)
    served.faults.clear()
    (pulled,) = pull.pull("user/tiny-teacher", root, endpoint=served.endpoint)
    assert (pulled.folder / "model.safetensors").read_bytes() == good
