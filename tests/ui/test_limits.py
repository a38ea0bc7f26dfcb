"""Demo mode by the environment, rate limits, and the GPU lent by ZeroGPU."""

import sys
import types
from pathlib import Path

import pytest

from vkd.ui import limits as app_limits
from vkd.ui import mode
from vkd.ui.limits import RateLimiter

# ---- mode


@pytest.mark.parametrize(
    ("environ", "demo", "training", "note"),
    [
        ({}, False, False, ""),
        ({"VKD_DEMO": "1"}, True, False, ""),
        ({"VKD_DEMO": "off"}, False, False, ""),
        ({"VKD_DEMO": "ja"}, True, False, "VKD_DEMO"),
        ({"SYSTEM": "spaces"}, True, False, ""),
        ({"SYSTEM": "spaces", "VKD_DEMO": "0"}, True, False, "VKD_DEMO"),
        ({"SYSTEM": "spaces", "VKD_TRAINING": "1"}, True, True, ""),
        ({"SYSTEM": "spaces", "VKD_TRAINING": "perhaps"}, True, False, "VKD_TRAINING"),
        ({"VKD_TRAINING": "1"}, False, False, ""),
    ],
)
def test_mode_from_environment(environ: dict[str, str], demo: bool, training: bool, note: str) -> None:
    read = mode.read_mode(environ, has_gpu=lambda: True)
    assert (read.demo, read.training) == (demo, training)
    assert note in " ".join(read.notes)
    assert bool(note) == bool(read.notes)


def test_training_needs_gpu() -> None:
    read = mode.read_mode({"SYSTEM": "spaces", "VKD_TRAINING": "1"}, has_gpu=lambda: False)
    assert not read.training
    assert "GPU" in read.notes[0]


def test_cuda_is_not_queried_without_training() -> None:
    mode.read_mode({"SYSTEM": "spaces"}, has_gpu=lambda: pytest.fail("CUDA was queried"))


# ---- rates


class Clock:
    """The time that the library `limits` reads, moved by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1e9
        patch.setattr("time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_no_limit_outside_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "DEMO", False)
    monkeypatch.setattr(app_limits, "CALLS", None)
    assert app_limits.rate_limited(len)([1, 2]) == 2


def test_window_empties_with_time(clock: Clock) -> None:
    limiter = RateLimiter(page="3/6 second")
    assert [limiter.check({"page": "a"}) > 0 for _ in range(4)] == [False, False, False, True]
    assert limiter.check({"page": "b"}) == 0
    assert 0 < limiter.check({"page": "a"}) <= 6
    clock.now += 6.1
    assert limiter.check({"page": "a"}) == 0


def test_refused_by_one_limit_counts_for_none(clock: Clock) -> None:
    limiter = RateLimiter(page="1/10 second", everybody="2/10 second")
    assert [limiter.check({"page": "a"}) > 0 for _ in range(5)] == [False, True, True, True, True]
    assert limiter.check({"page": "b"}) == 0
    assert limiter.check({"page": "c"}) > 0  # everybody's limit is reached


def test_cost_above_limit_is_admitted_once(clock: Clock) -> None:
    limiter = RateLimiter(address="10/10 second")
    assert limiter.check({"address": "a"}, cost=50) == 0
    assert limiter.check({"address": "a"}, cost=1) > 0


def test_forwarded_address_counts_on_space_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYSTEM", raising=False)
    assert app_limits.client_address("10.0.0.1", "203.0.113.7, 10.0.0.9") == "10.0.0.1"
    monkeypatch.setenv("SYSTEM", "spaces")
    assert app_limits.client_address("10.0.0.1", "203.0.113.7, 10.0.0.9") == "203.0.113.7"
    assert app_limits.client_address("10.0.0.1", "") == "10.0.0.1"


# ---- ZeroGPU


def test_on_gpu_elsewhere_is_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spaces", None)  # importing it would fail
    assert mode.on_gpu(len) is len
    monkeypatch.setattr(mode, "ZERO_GPU", True)
    assert mode.on_gpu(len) is len


def test_on_gpu_on_zero_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "ZERO_GPU", True)
    package = types.SimpleNamespace(GPU=lambda callback: lambda *args: ("lent", callback(*args)))
    monkeypatch.setitem(sys.modules, "spaces", package)  # type: ignore[arg-type]
    assert mode.on_gpu(len)([1]) == ("lent", 1)


def test_own_spaces_folder_is_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "ZERO_GPU", True)
    monkeypatch.setitem(sys.modules, "spaces", types.ModuleType("spaces"))
    assert mode.on_gpu(len) is len
    assert not (Path(__file__).parents[2] / "spaces" / "__init__.py").exists()
