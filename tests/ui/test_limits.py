"""What makes the app a public demo, how often it may be asked, and the GPU that is lent to it."""

import sys
import types
from pathlib import Path

import pytest

from vkd.ui import limits, mode, state

# ---- decided once


@pytest.mark.parametrize(
    ("given", "demo", "training", "told"),
    [
        ({}, False, False, ""),
        ({"VKD_DEMO": "1"}, True, False, ""),
        ({"VKD_DEMO": "off"}, False, False, ""),
        ({"VKD_DEMO": "ja"}, True, False, "VKD_DEMO is 'ja'"),
        ({"SYSTEM": "spaces"}, True, False, ""),
        ({"SYSTEM": "spaces", "VKD_DEMO": "0"}, True, False, "not heard on a Space"),
        ({"SYSTEM": "spaces", "VKD_TRAINING": "1"}, True, True, ""),
        ({"SYSTEM": "spaces", "VKD_TRAINING": "perhaps"}, True, False, "VKD_TRAINING is 'perhaps'"),
        ({"VKD_TRAINING": "1"}, False, False, ""),
    ],
)
def test_the_environment_decides(given: dict[str, str], demo: bool, training: bool, told: str) -> None:
    found = mode.mode(given, gpu=lambda: True)
    assert (found.demo, found.training) == (demo, training)
    assert told in " ".join(found.notes)
    assert bool(told) == bool(found.notes)


def test_training_needs_a_gpu_of_its_own() -> None:
    found = mode.mode({"SYSTEM": "spaces", "VKD_TRAINING": "1"}, gpu=lambda: False)
    assert not found.training
    assert "needs a GPU" in found.notes[0]


def test_nobody_asks_for_a_gpu_where_training_was_not_asked_for() -> None:
    mode.mode({"SYSTEM": "spaces"}, gpu=lambda: pytest.fail("CUDA was asked"))


# ---- how often


def test_at_home_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "DEMO", False)
    monkeypatch.setattr(limits.LocalContext, "request", None)  # it is not even looked at
    monkeypatch.setattr(limits, "CALLS", None)
    assert limits.limited(len)([1, 2]) == 2


def test_buckets_fill_again() -> None:
    bucket = limits.Bucket(3, 0.5)
    keeper = limits.Doorkeeper(page=bucket)
    assert [keeper.ask({"page": "a"}, now=0.0) for _ in range(4)] == [0, 0, 0, 2]
    assert keeper.ask({"page": "b"}, now=0.0) == 0
    assert keeper.ask({"page": "a"}, now=1.0) == pytest.approx(1)
    assert keeper.ask({"page": "a"}, now=2.0) == 0
    assert [keeper.ask({"page": "a"}, now=1e6) for _ in range(4)] == [0, 0, 0, 2]


def test_who_is_refused_by_one_bucket_takes_nothing_from_the_others() -> None:
    keeper = limits.Doorkeeper(page=limits.Bucket(1, 1), everybody=limits.Bucket(2, 0.1))
    assert [keeper.ask({"page": "a"}, now=0.0) for _ in range(5)] == [0, 1, 1, 1, 1]
    assert keeper.ask({"page": "b"}, now=0.0) == 0
    assert keeper.ask({"page": "c"}, now=0.0) == pytest.approx(10)  # everybody's is empty


def test_what_is_dearer_than_a_full_bucket_can_still_be_had() -> None:
    keeper = limits.Doorkeeper(address=limits.Bucket(10, 1))
    assert keeper.ask({"address": "a"}, cost=50, now=0.0) == 0
    assert keeper.ask({"address": "a"}, cost=50, now=5.0) == pytest.approx(5)


def test_keys_do_not_pile_up() -> None:
    keeper = limits.Doorkeeper(page=limits.Bucket(1, 1, keys=10))
    for visitor in range(1000):
        keeper.ask({"page": str(visitor)}, now=0.0)
    assert len(keeper.buckets["page"].left) == 10


def test_the_proxys_word_counts_on_a_space_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYSTEM", raising=False)
    assert limits.address_of("10.0.0.1", "203.0.113.7, 10.0.0.9") == "10.0.0.1"
    monkeypatch.setenv("SYSTEM", "spaces")
    assert limits.address_of("10.0.0.1", "203.0.113.7, 10.0.0.9") == "203.0.113.7"
    assert limits.address_of("10.0.0.1", "") == "10.0.0.1"


# ---- ZeroGPU


def test_elsewhere_a_callback_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spaces", None)  # importing it would fail
    assert state.on_gpu(len) is len
    monkeypatch.setattr(state, "ZERO_GPU", True)
    assert state.on_gpu(len) is len


def test_on_zero_gpu_a_callback_is_lent_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "ZERO_GPU", True)
    package = types.SimpleNamespace(GPU=lambda callback: lambda *args: ("lent", callback(*args)))
    monkeypatch.setitem(sys.modules, "spaces", package)  # type: ignore[arg-type]
    assert state.on_gpu(len)([1]) == ("lent", 1)


def test_our_own_folder_under_that_name_is_not_taken_for_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state, "ZERO_GPU", True)
    monkeypatch.setitem(sys.modules, "spaces", types.ModuleType("spaces"))
    assert state.on_gpu(len) is len
    assert not (Path(__file__).parents[2] / "spaces" / "__init__.py").exists()
