"""Reads pickled state dicts from untrusted files: no code of theirs runs, forged sizes cost no memory.

`torch.load(weights_only=True)` runs no foreign code, but it trusts declared sizes: 2 KB can allocate
gigabytes. So a file is loaded twice: first under FakeTensorMode, which gives shapes and sizes without memory,
and once these fit the file and the network, for its numbers. Both formats of `torch.save` are read: the
archive, and the older stream of PyTorch before 1.6, which the authors' files have.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from vkd.io import archives
from vkd.io.errors import VKDError

_MAX_RECORDS = 10_000
_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_OPERATIONS = _TUPLES | {
    *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"),
    *("BINUNICODE", "EMPTY_TUPLE", "EMPTY_DICT", "EMPTY_LIST", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "GLOBAL", "BINPERSID", "REDUCE", "BUILD"),
}
_GLOBALS = {
    "collections OrderedDict",
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"),
    *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int")),
}


def read_state_dict(path: Path, check: Callable[[Mapping[str, torch.Size]], None]) -> dict[str, Tensor]:
    """Reads the state dict in a file; `check` gets name → shape before memory is taken, and may raise.

    Raises VKDError if the file is damaged, is not a plain dict of tensors, or declares more than it holds.
    """
    try:
        with path.open("rb") as file:
            is_archive = file.read(4) == b"PK\x03\x04"
            size = file.seek(0, io.SEEK_END)
            archive, records = _stored_archive(file, size) if is_archive else (None, {})
            file.seek(0)
            # In a stream: magic number, version, machine, the state dict, order of the storages.
            for _ in range(0 if archive else 5):
                _check_pickle(file)
            tensors = _shapes(archive or file)
            _check_sizes(tensors, size)
            check({name: tensor.shape for name, tensor in tensors.items()})
            if archive:
                return _from_archive(archive, records, tensors)
            file.seek(0)
            return dict(torch.load(file, map_location="cpu", weights_only=True))
    except VKDError:
        raise
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise VKDError(f"{path} cannot be used: {archives.printable(error)[:200]}.") from None
    except Exception:  # bytes that are not a pickle can trip the readers anywhere
        raise VKDError(f"{path} is damaged or not a state dict saved by PyTorch.") from None


def _check_pickle(file: IO[bytes]) -> None:
    """Checks that each operation of the next pickle is one that state dicts are made of.

    No tuple comes from the memo: tuples of tuples of the same tuple would take for ever to hash as a key.
    """
    previous, tuples = "", set()
    for operation, argument, _ in pickletools.genops(file):
        name = operation.name
        odd = (name.endswith("BINGET") and argument in tuples) or (name == "PROTO" and argument != 2)
        if odd or name not in _OPERATIONS:
            raise pickle.UnpicklingError(f"it holds the operation {name}, which no state dict needs")
        if name == "GLOBAL" and argument not in _GLOBALS:
            request = str(argument)[:80].replace(" ", ".")
            raise pickle.UnpicklingError(f"it refers to {request}, which no state dict needs")
        if name.endswith("BINPUT") and previous in _TUPLES:
            tuples.add(argument)
        previous = name


def _stored_archive(file: IO[bytes], size: int) -> tuple[io.BytesIO, dict[int, int]]:
    """Checks an archive and writes its content anew; returns the copy and offset → bytes of its records.

    What torch's own reader gets to see, which could be led to another directory, is what was checked here.
    """
    archive = archives.open_zip(file, _MAX_RECORDS)
    entries, copy, records = archive.infolist(), io.BytesIO(), {}
    # Stored, not compressed, is how PyTorch writes; it also leaves no room for an entry that inflates.
    if any(entry.compress_type != zipfile.ZIP_STORED or archives.fault(entry) for entry in entries):
        raise pickle.UnpicklingError("it is not an archive that PyTorch writes")
    # PyTorch's reader knows no capitals.
    if len({entry.filename.casefold() for entry in entries}) < len(entries):
        raise pickle.UnpicklingError("it has two entries of one name")
    if sum(entry.file_size for entry in entries) > size:
        raise pickle.UnpicklingError("it declares more bytes than it holds")
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as output:
        for entry in entries:
            data = archive.read(entry)
            if entry.filename.casefold().endswith("data.pkl"):
                _check_pickle(io.BytesIO(data))
            if "/." in entry.filename:
                continue  # by which torch would calculate the offsets of records instead of looking them up
            output.writestr(entry.filename, data)
            records[copy.tell() - len(data)] = len(data)
    return copy, records


def _shapes(file: IO[bytes]) -> dict[str, Tensor]:
    """Loads the state dict as tensors without numbers."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    file.seek(0)
    with FakeTensorMode():
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not state:
        raise pickle.UnpicklingError("it holds no dict of tensors")
    for name, tensor in state.items():
        if not isinstance(name, str):
            raise pickle.UnpicklingError("it has a key that is not a name")
        if not isinstance(tensor, Tensor):
            raise pickle.UnpicklingError(f"'{name[:80]}' is not a tensor")
    return dict(state)


def _check_sizes(tensors: Mapping[str, Tensor], size: int) -> None:
    """Checks what the tensors declare, and their storages, against the `size` of the file in bytes."""
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors.values()
    }
    # The tensors are counted too: by a stride of 0 one number can pose as a thousand million.
    numbers = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if max(numbers, sum(storages.values())) > size:
        raise pickle.UnpicklingError("it declares more bytes than it holds")


def _from_archive(
    archive: io.BytesIO, records: Mapping[int, int], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Takes the numbers of the tensors out of the archive, where each storage lies as it is."""
    content, state = archive.getbuffer(), {}
    for name, tensor in tensors.items():
        storage: Any = tensor.untyped_storage()
        offset, count = storage._checkpoint_offset, storage.nbytes()
        if records[offset] != count:
            raise pickle.UnpicklingError(f"'{name[:80]}' does not have the bytes it declares")
        raw = torch.frombuffer(content, dtype=torch.uint8, count=count, offset=offset)
        part = raw.view(tensor.dtype).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        state[name] = part.clone(memory_format=torch.contiguous_format)
    return state
