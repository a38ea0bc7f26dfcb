"""The authors' archives: many networks in one zip or tree, converted one by one; what is wrong stays out."""

import io
import json
import os
import stat
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING

import pytest
import torch

from vkd.cli.main import main
from vkd.io import archives
from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import NAME
from vkd.models import checkpoint, reference_archive
from vkd.models.network import ReIDNet
from vkd.models.reference import to_authors
from vkd.models.reference_archive import Converted, convert, list_networks

if TYPE_CHECKING:
    from tests.support.hub_server import Hub


def weights(seed: int = 0, identities: int = 3, old: bool = True) -> bytes:
    """The file in chk/ of a tiny network."""
    net = ReIDNet("tiny", identities, generator=torch.Generator().manual_seed(seed))
    file = io.BytesIO()
    torch.save(to_authors(net), file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def run(
    base: str, dataset: str = "", chk: dict[str, bytes] | None = None, **hparams: object
) -> dict[str, bytes]:
    """The files of one network in the layout of the authors, by path."""
    told = {"backbone_type": "tiny", "num_classes": 3, **hparams}
    params = {"main_params": {"dataset_name": dataset, "backbone": "resnet101"}}
    files = chk if chk is not None else {"chk_end": weights()}
    return {
        f"{base}params/hparams.json": json.dumps(told).encode(),
        f"{base}params/params.json": json.dumps(params).encode(),
        **{f"{base}chk/{name}": data for name, data in files.items()},
    }


def pack(path: Path, *runs: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in (item for files in runs for item in files.items()):
            archive.writestr(name, data)
    return path


def lay(root: Path, *runs: dict[str, bytes]) -> Path:
    for name, data in (item for files in runs for item in files.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def outcome(report: list[Converted]) -> dict[str, str]:
    """Name → reason, '' for a converted network."""
    return {line.network.name: line.reason for line in report}


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def authors_files() -> list[dict[str, bytes]]:
    return [
        run("zoo/mars/base_resnet/", "mars", {"chk_9": weights(9), "chk_100": weights(100)}),
        run("zoo/duke/distill tiny (2)/", "", {"chk_end": weights(2, old=False)}),
        run("zoo/veri/base_resnet/", "", {"chk_end": weights(3)}),
        {"zoo/README.md": b"three networks", "zoo/more.zip": b"PK\x03\x04"},
    ]


# What is found and converted


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "tree"])
def test_convert(tmp_path: Path, authors_files: list[dict[str, bytes]], packed: bool):
    make = pack if packed else lay
    source = make(tmp_path / ("baseline.zip" if packed else "baseline"), *authors_files)
    report = convert(source, tmp_path / "out")
    assert outcome(report) == {"distill-tiny-2": "", "zoo-mars-base_resnet": "", "zoo-veri-base_resnet": ""}
    assert below(tmp_path / "out") == sorted(
        f"{name}/{file}" for name in outcome(report) for file in ("config.json", "model.safetensors")
    )
    configs = {line.network.name: checkpoint.read_config(line.folder) for line in report if line.folder}
    assert {name: config.dataset for name, config in configs.items()} == {
        "distill-tiny-2": "duke",
        "zoo-mars-base_resnet": "mars",
        "zoo-veri-base_resnet": "veri",
    }
    assert {config.backbone for config in configs.values()} == {"tiny"}
    assert configs["zoo-veri-base_resnet"].image_size == (224, 224)
    expected = ReIDNet("tiny", 3, generator=torch.Generator().manual_seed(100)).state_dict()
    given = checkpoint.load(tmp_path / "out" / "zoo-mars-base_resnet").net.state_dict()
    assert all(torch.equal(given[name], tensor) for name, tensor in expected.items())


def test_pattern_and_file(tmp_path: Path, authors_files: list[dict[str, bytes]]):
    source = pack(tmp_path / "baseline.zip", *authors_files)
    report = convert(source, tmp_path / "out", "*mars*", "chk_9", half=True)
    assert outcome(report) == {"zoo-mars-base_resnet": ""}
    assert report[0].network.weights == "zoo/mars/base_resnet/chk/chk_9"
    assert [line.name for line in list_networks(source, "zoo/veri/*")] == ["zoo-veri-base_resnet"]
    with pytest.raises(MissingFileError, match=r"'x\*'.*distill-tiny-2"):
        list_networks(source, "x*")


def test_list_networks(tmp_path: Path, authors_files: list[dict[str, bytes]]):
    source = pack(tmp_path / "baseline.zip", *authors_files)
    found = list_networks(source)
    assert [(line.name, line.backbone, line.identities, line.dataset, line.reason) for line in found] == [
        ("distill-tiny-2", "tiny", 3, "duke", ""),
        ("zoo-mars-base_resnet", "tiny", 3, "mars", ""),
        ("zoo-veri-base_resnet", "tiny", 3, "veri", ""),
    ]
    assert found[1].size == len(weights(100))
    assert below(tmp_path) == ["baseline.zip"]


def test_only_what_is_needed_is_unpacked(
    tmp_path: Path, authors_files: list[dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
):
    source = pack(tmp_path / "baseline.zip", *authors_files)
    unpacked: list[str] = []
    copy = archives.copy

    def spied(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: IO[bytes], most: int) -> int:
        unpacked.append(entry.filename)
        return copy(archive, entry, target, most)

    monkeypatch.setattr(archives, "copy", spied)
    convert(source, tmp_path / "out", "*mars*")
    base = "zoo/mars/base_resnet/"
    assert unpacked == [f"{base}params/hparams.json", f"{base}params/params.json", f"{base}chk/chk_100"]


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reference_archive.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    report = convert(pack(tmp_path / "zoo.zip", run("good/")), tmp_path / "out")
    assert "too little space" in outcome(report)["good"]
    assert not (tmp_path / "out").exists()


def test_unique_names(tmp_path: Path):
    names = ["a b", "a-b", "A_B", "x", "Ünï", ".hidden", "-", "n" * 200]
    source = lay(tmp_path / "tree", *(run(f"{name}/") for name in names))
    listed = [line.name for line in list_networks(source)]
    assert listed == [line.name for line in list_networks(source)]
    assert len(set(listed)) == len(listed) == len(names) - 1  # one is hidden
    assert all(NAME.fullmatch(name) for name in listed)
    assert {"a-b", "a-b-2", "a_b", "x", "n", "network", "n" * 48} == set(listed)


def test_network_at_the_top(tmp_path: Path):
    report = convert(pack(tmp_path / "mars_tiny.zip", run("")), tmp_path / "out")
    assert outcome(report) == {"mars_tiny": ""}
    assert report[0].network.dataset == "mars"


def test_existing_folder(tmp_path: Path, authors_files: list[dict[str, bytes]]):
    source = pack(tmp_path / "baseline.zip", *authors_files)
    (tmp_path / "out" / "distill-tiny-2").mkdir(parents=True)
    report = convert(source, tmp_path / "out")
    assert "exists already" in outcome(report)["distill-tiny-2"]
    assert sum(line.folder is not None for line in report) == 2
    assert list((tmp_path / "out" / "distill-tiny-2").iterdir()) == []


# One bad network does not stop the others


def test_report_of_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vkd.models.reference.MARGIN", 2**19)

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    code = io.BytesIO()
    torch.save({"w": torch.zeros(2), "x": Attack()}, code)
    source = pack(
        tmp_path / "zoo.zip",
        run("good/"),
        run("code/", chk={"chk_end": code.getvalue()}),
        run("cut/", chk={"chk_end": weights()[:5000]}),
        run("other/", num_classes=4),
        run("vgg/", backbone_type="vgg"),
        run("huge/", num_classes=10**12),
        run("empty/", chk={}),
        {"bare/chk/chk_end": weights()},
        {"wordy/params/hparams.json": b" " * (2**20 + 1), "wordy/chk/chk_end": b""},
        {"torn/params/hparams.json": b"{", "torn/chk/chk_end": b""},
        run("padded/", chk={"chk_end": os.urandom(2**20)}),
        run("zeros/", chk={"chk_end": bytes(11 * 2**20)}),
    )
    reasons = outcome(convert(source, tmp_path / "out"))
    expected = {
        "good": "",
        "code": "code/chk/chk_end cannot be used: it refers to posix.mkdir, which no state dict needs.",
        "cut": "cut/chk/chk_end",
        "other": "'classifier.weight' has shape [3, 32], but tiny with 4 identities needs [4, 32]",
        "vgg": "vgg/params/hparams.json: backbone_type is 'vgg'",
        "huge": "identities is 1000000000000",
        "empty": "empty/chk is missing or empty",
        "bare": "bare/params/hparams.json is missing",
        "wordy": "wordy/params/hparams.json is too large to be a list of parameters.",
        "torn": "torn/params/hparams.json is not valid JSON",
        "padded": "more than its weights can have",
        "zeros": "zeros/chk/chk_end",
    }
    assert reasons.keys() == expected.keys()
    for name, words in expected.items():
        assert words in reasons[name]
        assert bool(words) == bool(reasons[name])
    assert below(tmp_path / "out") == ["good/config.json", "good/model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "zoo.zip"]  # no code ran


def with_flags(path: Path, name: str, **values: int) -> Path:
    """Rewrite fields of one entry of the zip's directory."""
    data = bytearray(path.read_bytes())
    at = data.rindex(name.encode()) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    places = {
        "bits": (8, "<H"),
        "method": (10, "<H"),
        "packed": (20, "<I"),
        "size": (24, "<I"),
        "mode": (38, "<I"),
    }
    for field, value in values.items():
        struct.pack_into(places[field][1], data, at + places[field][0], value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mode": (stat.S_IFLNK | 0o777) << 16}, "bad/chk/chk_end is a link or a device"),
        ({"mode": (stat.S_IFCHR | 0o666) << 16}, "bad/chk/chk_end is a link or a device"),
        ({"bits": 1}, "bad/chk/chk_end is protected by a password"),
        ({"method": 12}, "bad/chk/chk_end has an unsupported compression method"),
        ({"size": 2**32 - 2}, "more than its weights can have"),
        ({"size": 100}, "it is damaged, Bad CRC-32"),
        ({"size": 50_000}, "it ends too early"),
    ],
)
def test_entries_that_are_no_files(tmp_path: Path, values: dict[str, int], reason: str):
    source = pack(tmp_path / "zoo.zip", run("bad/"), run("good/"))
    report = outcome(convert(with_flags(source, "bad/chk/chk_end", **values), tmp_path / "out"))
    assert report["good"] == ""
    assert reason in report["bad"]


def test_entry_that_is_there_twice(tmp_path: Path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        source = pack(tmp_path / "zoo.zip", run("bad/"), {"bad/chk/chk_end": weights(1)}, run("good/"))
    report = outcome(convert(source, tmp_path / "out"))
    assert report["good"] == ""
    assert "bad/chk/chk_end is there twice" in report["bad"]


def test_link_in_a_tree(tmp_path: Path):
    source = lay(tmp_path / "tree", run("bad/", chk={}), run("good/"))
    (source / "bad" / "chk").mkdir()
    (source / "bad" / "chk" / "chk_end").symlink_to(source / "good" / "chk" / "chk_end")
    (source / "loop").symlink_to(source)
    assert outcome(convert(source, tmp_path / "out")) == {
        "bad": "bad/chk/chk_end is a link or a device.",
        "good": "",
    }


# Archives that are refused as a whole


@pytest.mark.parametrize(
    "name", ["../up/", "/root/", "a/../../up/", "C:/x/", "..\\up/", "a\\..\\..\\up/", "C:\\x/"]
)
def test_names_that_lead_out(tmp_path: Path, name: str):
    source = pack(tmp_path / "zoo.zip", run("good/"), run(name))
    with pytest.raises(VKDError, match=r"zoo\.zip.* a file name leads out"):
        convert(source, tmp_path / "out")
    assert below(tmp_path) == ["zoo.zip"]


def test_backslash_separates_folders(tmp_path: Path):
    """Archives of Windows: the same network as under a slash."""
    source = pack(tmp_path / "zoo.zip", run("good/"), run("a\\b/"))
    results = outcome(convert(source, tmp_path / "out"))
    assert list(results.values()) == ["", ""]


def test_too_many_files_or_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = pack(tmp_path / "zoo.zip", *(run(f"{n}/", chk={"e": b""}) for n in range(4)))
    monkeypatch.setattr(reference_archive, "MAX_NETWORKS", 3)
    with pytest.raises(VKDError, match="has 4 models; at most 3"):
        list_networks(source)
    monkeypatch.setattr(reference_archive, "MAX_FILES", 11)
    with pytest.raises(VKDError, match=r"more than 11 files"):
        list_networks(source)
    with pytest.raises(VKDError, match="more than 11 files"):
        list_networks(lay(tmp_path / "tree", *(run(f"{n}/", chk={"e": b""}) for n in range(4))))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"\x1f\x8b\x08", b"PK\x05\x06" + bytes(18)])
def test_no_network(tmp_path: Path, content: bytes):
    (tmp_path / "zoo.zip").write_bytes(content)
    with pytest.raises((VKDError, MissingFileError), match=r"zoo\.zip"):
        convert(tmp_path / "zoo.zip", tmp_path / "out")
    with pytest.raises(MissingFileError, match="none does not exist"):
        convert(tmp_path / "none", tmp_path / "out")
    assert below(tmp_path) == ["zoo.zip"]


# The command


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = str(pack(tmp_path / "zoo.zip", run("good/"), run("bad|\x1b[2J/", backbone_type="vgg")))
    assert main(["import", source, "--list"]) == 0
    told = capsys.readouterr().out
    assert "| good | tiny | 3 | ? | good/chk/chk_end, 0." in told
    assert (
        "| bad-2j | ? | ? | ? | refused because bad/?[2J/params/hparams.json: backbone_type is 'vgg'" in told
    )
    assert "\x1b" not in told
    assert main(["import", source, str(tmp_path / "out")]) == 1
    told = capsys.readouterr().out
    assert f"| good | tiny | 3 | ? | converted to {tmp_path / 'out' / 'good'} |" in told
    assert told.endswith("1 of 2 converted.\n")
    assert main(["import", source, str(tmp_path / "again"), "--only", "go*"]) == 0
    assert "1 of 1 converted." in capsys.readouterr().out
    assert main(["import", source, str(tmp_path / "none"), "--only", "bad*"]) == 1
    assert "0 of 1 converted." in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    with pytest.raises(SystemExit) as leaving:
        main(["import", source])
    assert leaving.value.code == 2
    assert "OUT" in capsys.readouterr().err


# On to the Hub


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "one folder"])
def test_push(
    tmp_path: Path,
    hub: "Hub",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    packed: bool,
):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    files = run("good/", "mars")
    source = pack(tmp_path / "zoo.zip", files) if packed else lay(tmp_path, files) / "good"
    out = tmp_path / "out" if packed else tmp_path / "out" / "good"
    words = ["import", str(source), str(out), "--push", "user", "--endpoint", hub.endpoint]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert f"uploaded to {hub.endpoint}/user/good" in told
    assert hub.repositories["models", "user/good"].private
    sent = hub.files("user/good")
    assert {"config.json", "model.safetensors", "README.md"} <= sent.keys()
    assert sent["model.safetensors"] == (tmp_path / "out" / "good" / "model.safetensors").read_bytes()


def test_push_fails(
    tmp_path: Path, hub: "Hub", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    source = str(pack(tmp_path / "zoo.zip", run("a/"), run("b/")))
    words = ["import", source, str(tmp_path / "out"), "--endpoint", hub.endpoint, "--push"]
    assert main([*words, "user"]) == 1
    told = capsys.readouterr().out
    assert f"converted to {tmp_path / 'out' / 'a'}, not uploaded because" in told
    assert "as a was not" in told
    assert told.endswith("2 not uploaded.\n")
    assert "hf_wrong" not in told
    assert main([*words, "no/user"]) == 1
    assert "no/user" in capsys.readouterr().err
