"""events.jsonl: written before it is passed on, read in whole lines, damage costs the damaged line only."""

import json
from pathlib import Path

import pytest

from tests.support.jobs import event, write_events
from vkd.jobs import events


def kinds(folder: Path) -> list[str]:
    return [each["kind"] for each in events.read(folder)[0]]


def test_events_are_on_disk_at_once(tmp_path: Path):
    with events.recording(tmp_path) as record:
        record(event("started"))
        assert kinds(tmp_path) == ["started"]
        record(event("step"))
        record(event("finished", 1))
        assert kinds(tmp_path) == ["started", "finished"]


def test_error_becomes_the_last_event(tmp_path: Path):
    with pytest.raises(ValueError, match="x"), events.recording(tmp_path):
        raise ValueError("the image /x.jpg is missing")
    (last,) = events.read(tmp_path)[0]
    assert (last["kind"], last["why"], last["error"]) == (
        "failed",
        "the image /x.jpg is missing",
        "ValueError",
    )


def test_reading_goes_on_at_the_offset(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    assert events.read(tmp_path) == ([], 0)
    path.write_bytes(b'{"kind":"started","time":1}\n{"kind":"ep')
    first, offset = events.read(tmp_path)
    assert (first, offset) == ([{"kind": "started", "time": 1}], 28)
    assert events.read(tmp_path, offset) == ([], 28)
    with path.open("ab") as file:
        file.write(b'och","time":2}\n')
    assert events.read(tmp_path, offset)[0] == [{"kind": "epoch", "time": 2}]


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe", b"[1]", b'{"time":1}', b'{"kind":3,"time":1}', b'{"kind":"x"}', b"[" * 100_000,
        b'{"kind":"x","time":1e999}', b'{"kind":"x","time":1,"epoch":"3"}',
        b'{"kind":"x","time":1,"scores":[]}',
        b'{"kind":"x","time":1,"scores":{"i2v":3}}', b'{"kind":"x","time":1,"losses":{"kd":"1"}}',
        b'{"kind":"x","time":1,"epoch":' + b"9" * 30 + b"}",
        b'{"kind":"x","time":1,"notes":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)  # fmt: skip
def test_damaged_line_costs_itself_only(tmp_path: Path, line: bytes):
    good = b'{"kind":"started","time":1}\n'
    (tmp_path / "events.jsonl").write_bytes(good + line + b"\n" + good)
    assert kinds(tmp_path) == ["started", "started"]


def test_line_torn_by_a_kill_is_closed(tmp_path: Path):
    (tmp_path / "events.jsonl").write_bytes(b'{"kind":"started","time":1}\n{"kind":"epo')
    write_events(tmp_path, event("started"))
    assert kinds(tmp_path) == ["started", "started"]


def test_numbers_that_are_not_finite_stay_readable_json(tmp_path: Path):
    write_events(tmp_path, event("scores", scores={"i2v": {"map": float("nan"), "top": [float("inf")]}}))
    line = (tmp_path / "events.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail)["scores"] == {"i2v": {"map": None, "top": [None]}}


def test_kinds_of_older_versions(tmp_path: Path):
    (tmp_path / "events.jsonl").write_text('{"kind":"smoke","time":1,"scores":{}}\n')
    assert kinds(tmp_path) == ["sanity_check"]


def test_every_number_has_a_name():
    epoch = event("epoch", 3, losses={"class": 2.0, "total": 3}, learning_rate=1e-4)
    assert events.numbers(epoch) == {"losses/class": 2.0, "losses/total": 3.0, "learning_rate": 1e-4}
    scores = event("scores", 3, scores={"i2v": {"map": 0.5, "label": "x"}})
    assert events.numbers(scores) == {"i2v/map": 0.5}
