"""Files that are uploaded and files that stay: nothing of the machine, nothing secret."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.student_run import SECRETS
from vkd.hub.files import not_uploaded, public_events, write_upload_files
from vkd.hub.summary import read_summary
from vkd.io.errors import MissingFileError
from vkd.jobs import events as run_events
from vkd.models import checkpoint
from vkd.training import settings as run_settings


def staged(folder: Path, target: Path) -> Path:
    target.mkdir()
    write_upload_files(read_summary(folder), target)
    return target


def test_exactly_these_files(student_run: Path, tmp_path: Path):
    names = {path.name for path in staged(student_run, tmp_path / "up").iterdir()}
    assert names == {
        "config.json",
        "best.safetensors",
        "model.safetensors",
        "settings.json",
        "events.jsonl",
    }
    left = ["README.md", "hub.json", "lock", "log.txt", "probes/", "training.pt"]
    assert not_uploaded(read_summary(student_run), names) == left


def test_equal_weights_go_once(student_run: Path, tmp_path: Path):
    best = checkpoint.load(student_run)
    checkpoint.save(student_run, best.net, best.config, weights="model")
    assert not (staged(student_run, tmp_path / "up") / "best.safetensors").exists()


def test_weights_go_as_they_are(student_run: Path, tmp_path: Path):
    folder = staged(student_run, tmp_path / "up")
    for name in ("best.safetensors", "model.safetensors"):
        assert (folder / name).read_bytes() == (student_run / name).read_bytes()
    assert checkpoint.load(folder).config == checkpoint.load(student_run).config


def test_no_text_of_the_machine_and_no_token(student_run: Path, tmp_path: Path):
    path = student_run / "config.json"
    extra = {"parent": "/home/jane/runs/tiny-teacher", "machine": "gpu-box.example", "token": SECRETS[1]}
    path.write_text(json.dumps(json.loads(path.read_text()) | extra))
    path = student_run / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"preset": "of jane in /mnt"}))
    folder = staged(student_run, tmp_path / "up")
    for path in folder.iterdir():
        for secret in (*SECRETS, str(student_run), str(student_run.parent)):
            assert secret.encode() not in path.read_bytes(), f"{path.name} tells {secret}"
    assert checkpoint.read_config(folder).parent == "tiny-teacher"


def test_settings_load_again_with_names_of_folders(student_run: Path, tmp_path: Path):
    old = run_settings.load(student_run / "settings.json")
    new = run_settings.load(staged(student_run, tmp_path / "up") / "settings.json")
    assert new == old.changed(root="street", teacher="tiny-teacher")


def test_events_keep_their_numbers_alone(student_run: Path, tmp_path: Path):
    old, _ = run_events.read(student_run)
    new, _ = run_events.read(staged(student_run, tmp_path / "up"))
    assert [e["kind"] for e in new] == [e["kind"] for e in old if e["kind"] not in ("waiting", "probes")]
    numeric = ("epoch", "scores", "finished")
    assert [e for e in new if e["kind"] in numeric] == [e for e in old if e["kind"] in numeric]
    assert new[0]["steps"] == 3
    assert not {"device", "notes"} & new[0].keys()


def test_pulled_checkpoint_is_uploaded_unchanged(student_run: Path, tmp_path: Path):
    once = staged(student_run, tmp_path / "once")
    again = staged(once, tmp_path / "again")
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in once.iterdir()
    }


def test_no_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(MissingFileError):
        read_summary(tmp_path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), values, max_size=5))
def test_any_event_becomes_plain_numbers(event: dict):
    (public,) = public_events(({**event, "kind": "epoch"},))

    def check(value: object) -> None:
        if isinstance(value, dict):
            assert all(key.isascii() and key == key.lower() and " " not in key for key in value)
            for inner in value.values():
                check(inner)
        else:
            assert isinstance(value, int | float)
            assert value == value

    check({key: value for key, value in public.items() if key != "kind"})
    json.dumps(public, allow_nan=False)
