"""Pickled state dicts of strangers: sizes are checked before memory is taken, and nothing in them runs."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.zips import end, zipped
from vkd.io.errors import VKDError
from vkd.models import pickled
from vkd.models.pickled import read_state_dict

FORMATS = pytest.mark.parametrize("old", [True, False], ids=["stream", "archive"])


def saved(value: Any, old: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def archive(pickle_bytes: bytes, **storages: bytes) -> bytes:
    """A torch archive around a pickle of one's own."""
    entries = [("archive/data.pkl", pickle_bytes), ("archive/version", b"3\n")]
    entries += [(f"archive/data/{key}", data) for key, data in storages.items()]
    return zipped(*entries, method=zipfile.ZIP_STORED)


def tensor_pickle(shape: tuple, stride: tuple, count: int, key: str = "0") -> bytes:
    """The pickle of {'w': a tensor} with a shape, strides and storage size of one's own."""

    class Weight:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Stored(), 0, shape, stride, False, OrderedDict())

    class Stored:
        pass

    class Pickler(pickle._Pickler):
        def persistent_id(self, obj: object) -> Any:
            return ("storage", torch.FloatStorage, key, "cpu", count) if isinstance(obj, Stored) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"w": Weight()})
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], dict[str, torch.Tensor]]:
    def read(data: bytes) -> dict[str, torch.Tensor]:
        path = tmp_path / "chk_end"
        path.write_bytes(data)
        shapes: list[Any] = []
        state = read_state_dict(path, shapes.append)
        assert shapes == [{name: tensor.shape for name, tensor in state.items()}]
        return state

    return read


@FORMATS
def test_state_dict(read, old: bool):
    state = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).half().state_dict()
    state["columns"] = torch.arange(24.0).view(4, 6).t()
    state["p"] = nn.Parameter(torch.arange(24.0)[5:9].clone())
    ours = read(saved(state, old))
    assert list(ours) == list(state)
    for name, tensor in state.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor)


@FORMATS
def test_nothing_runs(read, old: bool, tmp_path: Path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    with pytest.raises(VKDError, match=r"posix\.system"):
        read(saved({"w": torch.zeros(2), "x": Attack()}, old))
    assert not (tmp_path / "ran").exists()


@FORMATS
@pytest.mark.parametrize(
    "value",
    [
        *({}, [torch.zeros(1)], torch.zeros(1), None, {1: torch.zeros(1)}),
        *({"x": x} for x in (None, 3, "text", [torch.zeros(1)], {"inner": torch.zeros(1)}, {1, 2})),
        *({"x": x} for x in (torch.Size([1]), torch.device("cpu"), bytearray(5), complex(1, 2))),
    ],
)
def test_only_a_dict_of_tensors(read, value: object, old: bool):
    with pytest.raises(VKDError, match="chk_end"):
        read(saved(value, old))


@FORMATS
def test_stride_zero(read, old: bool):
    """One number that poses as a thousand million, in a file of 2 KB."""
    with pytest.raises(VKDError, match="declares more bytes"):
        read(saved({"w": torch.zeros(1).expand(10**9)}, old))


def test_forged_storage_of_a_stream(read):
    """In this format torch would take the memory before it looks for the bytes."""
    real = saved({"w": torch.zeros(3)}, old=True)
    at = real.index(b"K\x03", real.index(b"cpu"))  # the count of the storage
    with pytest.raises(VKDError, match="declares more bytes"):
        read(real[:at] + b"J" + struct.pack("<I", 2**30) + real[at + 2 :])


@pytest.mark.parametrize(
    ("shape", "stride", "count"),
    [
        ((10**9,), (1,), 10**9),
        ((5,), (1,), 4),
        ((5,), (1,), 5),
        ((2, 2), (3, 2), 5),
        ((2**40,), (1,), 4),
        ((-1,), (1,), 4),
        ((2, 2), (1,), 4),
        (("2",), (1,), 4),
        ((1,), (1,), -4),
        ((1,), (1,), 2**60),
    ],
)
def test_forged_shape(read, shape: tuple, stride: tuple, count: int):
    with pytest.raises(VKDError, match="chk_end"):
        read(archive(tensor_pickle(shape, stride, count), **{"0": b"\0" * 16}))


def test_missing_storage(read):
    with pytest.raises(VKDError, match="chk_end"):
        read(archive(tensor_pickle((1,), (1,), 1, key="7"), **{"0": b"\0" * 4}))


def test_archive_that_inflates(read):
    pickled = tensor_pickle((10**7,), (1,), 10**7)
    with pytest.raises(VKDError, match="not an archive that PyTorch writes"):
        read(zipped(("archive/data.pkl", pickled), ("archive/data/0", b"\0" * 4 * 10**7)))


def test_key_that_hashes_for_ever(read):
    """Tuples of themselves, sixty deep: small in the file, 2⁶⁰ steps to hash."""
    nested = b")" + b"q\x00h\x00\x86" * 60
    with pytest.raises(VKDError, match="BINGET"):
        read(archive(b"\x80\x02}" + nested + b"K\x01s."))


@pytest.mark.parametrize(
    "code",
    [
        *(b"(i__builtin__\nprint\n", b"(ctorch\nFloatStorage\no", b"ccollections\nOrderedDict\n)\x81"),
        *(b"\x82\x01", b"S'x'\n", b"B\1\0\0\0x", b"02", b"\x95" + bytes(8)),
        b"ctorch._utils\n_rebuild_tensor_v2\n}X\1\0\0\0ab",  # sets an attribute of a function
    ],
)
def test_other_operations(read, code: bytes):
    with pytest.raises(VKDError, match="chk_end"):
        read(archive(b"\x80\x02}X\x01\x00\x00\x00a" + code + b"s."))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), old=st.booleans())
def test_any_damage(tmp_path: Path, data: st.DataObject, old: bool):
    """Whatever byte is changed, the file is read or refused with one error of ours."""
    sound = bytearray(saved(OrderedDict(a=torch.zeros(2, 3), b=torch.zeros(4)), old))
    for _ in range(data.draw(st.integers(1, 6))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "chk_end"
    path.write_bytes(sound)
    try:
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_state_dict(path, len).values())
    except VKDError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 (both ends are right)


# Archives that another reader would read otherwise


STATE = saved({"w": torch.arange(6.0)}, old=False)


def entries_of(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as content:
        return [(name, content.read(name)) for name in content.namelist()]


def test_two_entries_of_one_name(read):
    """PyTorch's reader knows no capitals."""
    entries = [(new, data) for name, data in entries_of(STATE) for new in dict.fromkeys((name, name.upper()))]
    with pytest.raises(VKDError, match="two entries"):
        read(zipped(*entries, method=zipfile.ZIP_STORED))


def test_two_folders(read):
    """PyTorch's reader takes the first folder for the name of the archive."""
    names = (name for name, _ in entries_of(STATE))
    other = {name: f"other/{name.partition('/')[2]}" for name in names}
    changed = saved({"w": -torch.arange(6.0)}, old=False)
    entries = [*entries_of(STATE), *((other[name], data) for name, data in entries_of(changed))]
    try:
        state = read(zipped(*entries, method=zipfile.ZIP_STORED))
    except VKDError:
        return
    assert torch.equal(state["w"], torch.arange(6.0))


def test_too_many_records(read, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pickled, "_MAX_RECORDS", 5)
    with pytest.raises(VKDError, match="chk_end"):
        read(saved({str(i): torch.zeros(1) for i in range(6)}, old=False))


def test_two_directories(read):
    """Python reads the last one, PyTorch the one that the end record names: both must see the same."""
    data = zipped(("archive/data.pkl", b"N."), method=zipfile.ZIP_STORED)
    at = data.index(b"PK\x01\x02")
    directory = data[at : data.index(b"PK\x05\x06")]
    with pytest.raises(VKDError, match="chk_end"):
        read(data[:at] + directory + bytes(100) + directory + end(1, len(directory), at))


def test_archive_of_another_zip_program(read):
    assert torch.equal(read(zipped(*entries_of(STATE), method=zipfile.ZIP_STORED))["w"], torch.arange(6.0))
