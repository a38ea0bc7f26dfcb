"""Pickled state dicts: what they claim is known before memory is taken, and nothing in them runs."""

import io
import os
import pickle
import pickletools
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
from vkd.models import pickled
from vkd.models.pickled import Claim, claims

PATH = Path("chk/chk_end")
FORMATS = pytest.mark.parametrize("old", [True, False], ids=["stream", "archive"])


def saved(value: Any, old: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def read(data: bytes) -> dict[str, Claim]:
    return claims(io.BytesIO(data), PATH)


def archive(pickle_bytes: bytes, **storages: bytes) -> bytes:
    """A torch archive around a pickle of one's own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickle_bytes)
        for key, data in storages.items():
            file.writestr(f"archive/data/{key}", data)
    return buffer.getvalue()


def tensor_pickle(shape: tuple[int, ...], stride: tuple[int, ...], count: int, key: str = "0") -> bytes:
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


@FORMATS
def test_a_state_dict_is_read_as_it_is(old: bool):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).half()
    state = net.state_dict()
    assert read(saved(state, old)) == {key: Claim(tuple(t.shape), t.dtype) for key, t in state.items()}


@FORMATS
def test_views_of_one_storage_and_parameters(old: bool):
    base = torch.arange(24.0)
    state = {
        "rows": base.view(4, 6),
        "columns": base.view(4, 6).t(),
        "part": base[5:9],
        "p": nn.Parameter(base),
    }
    assert {key: claim.shape for key, claim in read(saved(state, old)).items()} == {
        "rows": (4, 6),
        "columns": (6, 4),
        "part": (4,),
        "p": (24,),
    }


@FORMATS
def test_nothing_runs(old: bool, tmp_path: Path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    with pytest.raises(ValueError, match=r"chk_end cannot be used: it asks for posix\.system"):
        read(saved({"w": torch.zeros(2), "x": Attack()}, old))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [torch.Size([1]), torch.device("cpu"), {1, 2}, bytearray(5), complex(1, 2)])
def test_what_torch_allows_and_no_state_dict_needs(value: object):
    with pytest.raises(ValueError, match="chk_end"):
        read(saved({"w": torch.zeros(2), "x": value}, old=False))


@pytest.mark.parametrize("value", [None, 3, "text", [torch.zeros(1)], {"inner": torch.zeros(1)}])
def test_only_tensors_under_names(value: object):
    with pytest.raises(ValueError, match="'x' is not a tensor"):
        read(saved({"w": torch.zeros(2), "x": value}, old=False))


@pytest.mark.parametrize("value", [{}, [torch.zeros(1)], torch.zeros(1), None, {1: torch.zeros(1)}])
@FORMATS
def test_other_things_than_a_dict(value: object, old: bool):
    with pytest.raises(ValueError, match="chk_end cannot be used: it h"):
        read(saved(value, old))


# Declared sizes


def test_one_number_that_poses_as_a_thousand_million():
    """An expanded tensor: stride 0, a file of 1.5 KB."""
    data = saved({"w": torch.zeros(1).expand(10**9)}, old=False)
    assert len(data) < 2000
    with pytest.raises(ValueError, match=r"declares the shape \[1000000000\] but has 1 numbers"):
        read(data)


def test_a_storage_that_is_not_there():
    data = archive(tensor_pickle((10**9,), (1,), 10**9), **{"0": b"\0" * 4})
    with pytest.raises(ValueError, match="storage 0 does not have the bytes it declares"):
        read(data)
    with pytest.raises(ValueError, match="storage 7 does not have"):
        read(archive(tensor_pickle((1,), (1,), 1, key="7"), **{"0": b"\0" * 4}))


def test_the_old_stream_with_a_storage_that_is_not_there():
    """In this format torch would take the memory before it looks for the bytes."""
    real = saved({"w": torch.zeros(3)}, old=True)
    small, large = b"cpu", struct.pack("<I", 2**30)
    at = real.index(b"K\x03", real.index(small))  # the count of the storage
    data = real[:at] + b"J" + large + real[at + 2 :]
    with pytest.raises(ValueError, match="declares more bytes than it holds"):
        read(data)


@pytest.mark.parametrize(
    ("shape", "stride", "count"),
    [
        ((5,), (1,), 4),
        ((2, 2), (3, 2), 5),
        ((2**40,), (1,), 4),
        ((-1,), (1,), 4),
        ((2,), (-1,), 4),
        ((2, 2), (1,), 4),
        ((1,) * 9, (1,) * 9, 4),
        (("2",), (1,), 4),
        ((True,), (1,), 4),
        ((1,), (1,), -4),
        ((1,), (1,), 2**60),
    ],
)
def test_shapes_that_cannot_be(shape: tuple, stride: tuple, count: int):
    with pytest.raises(ValueError, match=r"chk_end cannot be used: a (tensor|storage)"):
        read(archive(tensor_pickle(shape, stride, count), **{"0": b"\0" * 16}))


def test_too_many_tensors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pickled, "MOST_TENSORS", 5)
    state = {str(i): torch.zeros(1) for i in range(6)}
    with pytest.raises(ValueError, match="more than 5 tensors"):
        read(saved(state, old=True))
    zero = torch.zeros(1)
    with pytest.raises(ValueError, match="more than 5 tensors"):
        read(saved({str(i): zero.view(1) for i in range(6)}, old=False))


def test_a_file_that_is_too_large(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pickled, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="larger than"):
        read(saved({"w": torch.zeros(1000)}, old=False))


def test_an_archive_that_inflates():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", tensor_pickle((10**7,), (1,), 10**7))
        file.writestr("archive/data/0", b"\0" * 4 * 10**7)
    with pytest.raises(ValueError, match="not an archive that PyTorch writes"):
        read(buffer.getvalue())


def test_a_pickle_that_goes_on_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pickled, "_MOST_PICKLE_BYTES", 10_000)
    with pytest.raises(ValueError, match="chk_end is damaged"):
        read(archive(b"\x80\x02" + b"N0" * 10_000 + b"."))


def test_keys_that_would_be_hashed_for_ever():
    """Tuples of themselves, sixty deep: small in the file, 2⁶⁰ steps to hash."""
    nested = b")" + b"q\x00h\x00\x86" * 60
    with pytest.raises(ValueError, match="a key that is not a name"):
        read(archive(b"\x80\x02}" + nested + b"K\x01s."))


@pytest.mark.parametrize("operation", ["INST", "OBJ", "NEWOBJ", "EXT1", "STRING", "BINBYTES", "DUP", "FRAME"])
def test_operations_of_other_pickles_are_unknown(operation: str):
    code = next(op.code for op in pickletools.opcodes if op.name == operation)
    assert ord(code) not in pickled._Reader.dispatch


def test_attributes_are_not_set():
    call = b"ctorch._utils\n_rebuild_tensor_v2\n"
    with pytest.raises(ValueError, match="sets the attributes of an object"):
        read(archive(b"\x80\x02" + call + b"}X\x01\x00\x00\x00ab."))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), old=st.booleans())
def test_any_damage_is_a_sentence(data: st.DataObject, old: bool):
    """Whatever byte is changed, the answer is the claims of a sound file or one ValueError."""
    sound = bytearray(saved(OrderedDict(a=torch.zeros(2, 3), b=torch.zeros(4)), old))
    for _ in range(data.draw(st.integers(1, 6))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert all(isinstance(claim, Claim) for claim in read(bytes(sound)).values())
    except ValueError as error:
        assert str(error).startswith(str(PATH))  # noqa: PT017 (both ends are right)


# Archives that another reader would read otherwise


STATE = saved({"w": torch.arange(6.0)}, old=False)


def rebuilt(change: Callable[[str], list[str]]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(STATE)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    return zipped(*((new, data) for name, data in entries for new in change(name)), method=zipfile.ZIP_STORED)


def two_directories() -> bytes:
    """Python reads the last one, PyTorch the one that the end record names."""
    data = zipped(("archive/data.pkl", b"N."), method=zipfile.ZIP_STORED)
    at = data.index(b"PK\x01\x02")
    size = data.index(b"PK\x05\x06") - at
    directory = data[at : at + size]
    return data[:at] + directory + bytes(100) + directory + end(1, size, at)


@pytest.mark.parametrize(
    "data",
    [
        lambda: rebuilt(lambda name: [name, name.upper()] if name.endswith("data.pkl") else [name]),
        lambda: rebuilt(lambda name: [name, f"other/{name.partition('/')[2]}"]),
        two_directories,
    ],
    ids=["capitals", "two folders", "two directories"],
)
def test_two_readings(data: Callable[[], bytes]):
    with pytest.raises(ValueError, match=r"can be read in more than one way"):
        claims(io.BytesIO(data()), Path("chk_end"))


def test_one_reading():
    for data in (STATE, rebuilt(lambda name: [name])):  # with and without the fields for large files
        assert claims(io.BytesIO(data), Path("chk_end"))["w"].shape == (6,)
