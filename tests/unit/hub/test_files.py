"""What travels to the Hub and what stays: nothing of the machine, nothing secret."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support import told_run
from tests.support.told_run import SECRETS
from vkd.hub.files import scrubbed, staying, travelling
from vkd.jobs import events
from vkd.models import checkpoint
from vkd.training import settings as asked


@pytest.fixture
def student(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Path:
    return told_run.make(tmp_path, tiny_pair)


def unpacked(goods: dict[str, Path | bytes], folder: Path) -> Path:
    """As a pull would leave it."""
    folder.mkdir()
    for name, held in goods.items():
        (folder / name).write_bytes(held if isinstance(held, bytes) else held.read_bytes())
    return folder


def test_exactly_these_files_travel_and_all_others_stay(student: Path):
    assert list(travelling(student)) == [
        "config.json",
        "best.safetensors",
        "model.safetensors",
        "settings.json",
        "events.jsonl",
        "curves.png",
        "heatmaps.png",
    ]
    assert staying(student) == ["hub.json", "lock", "log.txt", "probes/", "training.pt"]


def test_of_two_equal_files_of_weights_one_travels_and_the_other_is_said_to_stay(student: Path):
    known = checkpoint.load(student)
    checkpoint.save(student, known.net, known.config, weights="model")
    assert "best.safetensors" not in travelling(student)
    assert "best.safetensors" in staying(student)


def test_weights_go_as_they_are(student: Path, tmp_path: Path):
    goods = travelling(student)
    assert goods["best.safetensors"] == student / "best.safetensors"
    there = unpacked(goods, tmp_path / "pulled")
    one, other = checkpoint.load(student), checkpoint.load(there)
    assert one.config == other.config
    assert all(w.equal(other.net.state_dict()[name]) for name, w in one.net.state_dict().items())


def test_no_text_that_travels_tells_of_the_machine_or_holds_a_token(student: Path):
    path = student / "config.json"
    told = json.loads(path.read_text())
    told |= {"parent": "/home/jane/runs/tiny-teacher", "machine": "gpu-box.example", "token": SECRETS[1]}
    path.write_text(json.dumps(told))
    for name, held in travelling(student).items():
        if isinstance(held, bytes):
            for secret in (*SECRETS, str(student), str(student.parent)):
                assert secret.encode() not in held, f"{name} tells {secret}"
    assert (
        checkpoint.read_config(unpacked(travelling(student), student.parent / "p")).parent == "tiny-teacher"
    )


def test_settings_can_be_read_again_their_folders_are_names(student: Path, tmp_path: Path):
    there = unpacked(travelling(student), tmp_path / "pulled")
    old, new = asked.load(student / "settings.json"), asked.load(there / "settings.json")
    assert new == old.changed(root="street", teacher="tiny-teacher")


def test_events_keep_their_numbers_and_lose_what_only_this_machine_understands(student: Path, tmp_path: Path):
    there = unpacked(travelling(student), tmp_path / "pulled")
    old, new = events.read(student)[0], events.read(there)[0]
    assert [e["kind"] for e in new] == [e["kind"] for e in old if e["kind"] not in ("waiting", "probes")]
    kept = [e for e in old if e["kind"] in ("epoch", "scores", "finished")]
    assert [e for e in new if e["kind"] in ("epoch", "scores", "finished")] == kept
    (note,) = new[0]["notes"]
    assert note.startswith("ImageNet weights for tiny are missing: looked in …")


def test_a_pulled_checkpoint_travels_on_with_its_heatmaps(student: Path, tmp_path: Path):
    there = unpacked(travelling(student), tmp_path / "pulled")
    again = travelling(there)
    assert set(again) == set(travelling(student))
    assert again["config.json"] == (there / "config.json").read_bytes()
    assert again["events.jsonl"] == (there / "events.jsonl").read_bytes()


def test_what_a_pulled_picture_says_besides_is_left_out(student: Path, tmp_path: Path):
    from PIL.PngImagePlugin import PngInfo

    there = unpacked(travelling(student), tmp_path / "pulled")
    info = PngInfo()
    info.add_text("Author", "jane")
    Image.new("RGB", (4, 4)).save(there / "heatmaps.png", pnginfo=info)
    again = travelling(there)["heatmaps.png"]
    assert isinstance(again, bytes)
    assert b"jane" not in again
    (there / "heatmaps.png").write_bytes(b"no picture")
    assert "heatmaps.png" not in travelling(there)


def test_an_imported_checkpoint_is_its_config_and_its_weights(tiny_pair: tuple[Path, Path]):
    assert list(travelling(tiny_pair[0])) == ["config.json", "model.safetensors"]
    assert staying(tiny_pair[0]) == []


def test_what_is_no_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="is not a checkpoint"):
        travelling(tmp_path)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/data/mars/x.jpg is missing: unpack it again", "… is missing: unpack it again"),
        ("could not read '/data/my own/x.jpg' twice", "could not read … twice"),
        ("see /home/jane doe/my data/x.jpg", "see …"),
        ("C:\\Users\\jane\\x.jpg, then ~/x and ../y", "…, then …"),
        ("token hf_aBc123 was refused", "token … was refused"),
        ("Authorization: Bearer abc.def", "Authorization: …"),
        ("https://user:secret@10.1.2.3/x", "…"),
        ("written by jane@gpu-box.example", "written by …"),
        (
            "the losses kd, dp are no longer finite in epoch 3",
            "the losses kd, dp are no longer finite in epoch 3",
        ),
    ],
)
def test_sentences_are_scrubbed(text: str, left: str):
    assert scrubbed(text) == left


def test_known_names_are_scrubbed_as_whole_words():
    assert scrubbed("on gpu-box, not on gpu-boxer", {"gpu-box", "on"}) == "on …, not on gpu-boxer"


@given(
    st.text(max_size=60),
    st.sampled_from(["/home/jane/x", "hf_jane123", "C:\\jane\\x", "x/jane/y", "'/a b/jane'", "//jane"]),
    st.text(max_size=60),
)
def test_whatever_stands_around_a_path_or_token_it_goes(before: str, secret: str, after: str):
    assert "jane" not in scrubbed(f"{before} {secret} {after}")


@pytest.mark.parametrize("text", ["/ " * 50_000, "a" * 100_000, "/a" * 50_000, "'/" * 50_000, "@" * 100_000])
def test_no_text_takes_long(text: str):
    began = time.perf_counter()
    scrubbed(text)
    assert time.perf_counter() - began < 2
