"""What a pickled state dict claims to hold, read without running it and without memory for its tensors.

``torch.load(weights_only=True)`` runs no foreign code, but it believes the sizes that a file declares: a
file of 2 KB can ask for gigabytes. This reader knows the few pickle operations that a state dict is made
of, refuses every other one, and compares each declared size with the bytes that are there. Both formats of
``torch.save`` are read: the archive, and the older stream of PyTorch before 1.6.
"""

import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from vkd.io import archives
from vkd.io.errors import VKDError

MOST_TENSORS = 10_000
MOST_BYTES = 4 * 2**30
_MOST_PICKLE_BYTES = 16 * 2**20  # names and shapes; the numbers themselves lie outside the pickle
_MOST_AXES = 8
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
}


class Claim(NamedTuple):
    """A tensor that the file says it holds."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class _Storage(NamedTuple):
    key: str
    dtype: torch.dtype
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


def claims(file: IO[bytes], path: Path) -> dict[str, Claim]:
    """The tensors that an opened file claims to hold: name → shape and dtype. `path` is for the sentence.

    Raises ValueError if the file is damaged, is not a plain dict of tensors, or declares more than it holds.
    """
    size = file.seek(0, 2)
    file.seek(0)
    try:
        if size > MOST_BYTES:
            raise pickle.UnpicklingError(f"it is larger than {MOST_BYTES >> 30} GiB")
        archive = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        state = _archive(file, size) if archive else _stream(file, size)
        if not isinstance(state, dict) or not state:
            raise pickle.UnpicklingError("it holds no dict of tensors")
        for name, claim in state.items():
            if not isinstance(claim, Claim):
                raise pickle.UnpicklingError(f"'{archives.printable(name[:80])}' is not a tensor")
        return dict(state)
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise VKDError(f"{path} cannot be used: {error}.") from None
    except Exception:  # bytes that are not a pickle can trip the reader anywhere
        raise VKDError(f"{path} is damaged or not a state dict saved by PyTorch.") from None


def _archive(file: IO[bytes], size: int) -> Any:
    archive = archives.open_zip(file, MOST_TENSORS + 16)
    entries = archive.infolist()
    # Stored, not compressed, is how PyTorch writes; it also leaves no room for an entry that inflates.
    if any(entry.compress_type for entry in entries):
        raise pickle.UnpicklingError("it is not an archive that PyTorch writes")
    # PyTorch's own reader, which comes after this one, knows no capitals and no second entry of a name, and
    # can be led to another directory: what it will read must be what is looked at here.
    sizes = {entry.orig_filename.casefold(): entry.file_size for entry in entries}
    folders = {name.partition("/")[0] for name in sizes}
    if len(sizes) < len(entries) or len(folders) != 1 or not _one_directory(file, archive):
        raise pickle.UnpicklingError("it can be read in more than one way")
    if sum(sizes.values()) > size:
        raise pickle.UnpicklingError("it declares more bytes than it holds")
    pickles = [entry for entry in entries if entry.orig_filename.casefold() == f"{min(folders)}/data.pkl"]
    if len(pickles) != 1:
        raise pickle.UnpicklingError("it has no data.pkl")
    with archive.open(pickles[0]) as inner:
        reader = _Reader(_Budget(inner))
        state = reader.load()
    for storage in reader.storages.values():
        if sizes.get(f"{min(folders)}/data/{storage.key}") != storage.nbytes:
            raise pickle.UnpicklingError(
                f"storage {archives.printable(storage.key[:40])} does not have the bytes it declares"
            )
    return state


def _stream(file: IO[bytes], size: int) -> Any:
    budget = _Budget(file)
    head = [_Reader(budget).load() for _ in range(3)]  # magic number, version, facts about the machine
    if head[0] != _STREAM_MAGIC or head[1] != _STREAM_VERSION:
        raise pickle.UnpicklingError("it was not saved by PyTorch")
    reader = _Reader(budget)
    state = reader.load()
    _Reader(budget).load()  # the order in which the storages follow
    if sum(storage.nbytes for storage in reader.storages.values()) > size - file.tell():
        raise pickle.UnpicklingError("it declares more bytes than it holds")
    return state


def _one_directory(file: IO[bytes], archive: zipfile.ZipFile) -> bool:
    """True if every reader finds the same directory in this zip.

    Python takes the one that lies just before the end record, others (that of PyTorch) the one at the place
    which the record names. A file made for it shows each of them another content.
    """
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - 2**16 - 22))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return False
    named = _number(tail, at + 16, 4)
    locator = at - 20
    if locator >= 0 and tail.startswith(b"PK\x06\x07", locator):
        end64 = locator - 56
        if (
            end64 < 0
            or not tail.startswith(b"PK\x06\x06", end64)
            or _number(tail, locator + 8, 8) != start + end64
        ):
            return False
        named = _number(tail, end64 + 48, 8)
    return named == archive.start_dir


def _number(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little")


class _Budget:
    """A file for the unpickler that ends after so many bytes: pickles that go on and on are none of ours."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.left = _MOST_PICKLE_BYTES

    def read(self, count: int = -1) -> bytes:
        return self._spend(self.file.read(min(count, self.left) if count >= 0 else self.left))

    def readline(self) -> bytes:
        return self._spend(self.file.readline(self.left))

    def _spend(self, data: bytes) -> bytes:
        self.left -= len(data)
        return data


def _rebuild_tensor(
    storage: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Claim:
    """Stands in for ``torch._utils._rebuild_tensor_v2``: checks that the tensor lies inside its storage."""
    if not isinstance(storage, _Storage) or not len(shape) == len(stride) <= _MOST_AXES:
        raise pickle.UnpicklingError("a tensor has no storage or too many axes")
    numbers = (offset, *shape, *stride)
    if not all(type(number) is int and 0 <= number <= MOST_BYTES for number in numbers):
        raise pickle.UnpicklingError("a tensor declares a shape that cannot be")
    last = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    # Comparing the count as well refuses a stride of 0, by which one number poses as a thousand million.
    if math.prod(shape) > storage.count or (0 not in shape and last >= storage.count):
        raise pickle.UnpicklingError(
            f"a tensor declares the shape {list(shape)} but has {storage.count} numbers"
        )
    return Claim(tuple(shape), storage.dtype)


def _rebuild_parameter(claim: Any, *_: Any) -> Any:
    return claim


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Reader(pickle._Unpickler):
    """An unpickler whose every operation is one of a state dict's, and whose tensors are claims."""

    stack: list[Any]  # the unpickler's own
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: _Budget) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}
        self.count = 0

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            asked = archives.printable(f"{module[:40]}.{name[:40]}")
            raise pickle.UnpicklingError(f"it asks for {asked}, which no state dict needs")
        return _GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or view not in ([], [None]):
            raise pickle.UnpicklingError("it holds something that is not the storage of a tensor")
        if not isinstance(key, str) or type(count) is not int or not 0 <= count <= MOST_BYTES:
            raise pickle.UnpicklingError("a storage declares a size that cannot be")
        storage = _Storage(key, dtype, count)
        if self.storages.setdefault(key, storage) != storage:
            raise pickle.UnpicklingError(f"storage {archives.printable(key[:40])} is declared twice")
        return storage

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        call = self.stack[-1]
        if call is OrderedDict and arguments == ():
            self.stack[-1] = OrderedDict()
        elif call is _rebuild_tensor or call is _rebuild_parameter:
            self.count += 1
            if self.count > MOST_TENSORS:
                raise pickle.UnpicklingError(f"it declares more than {MOST_TENSORS} tensors")
            self.stack[-1] = call(*arguments)
        else:
            raise pickle.UnpicklingError("it calls something that no state dict needs")

    def load_build(self) -> None:
        self.stack.pop()  # a module's `_metadata`, of no use here
        if type(self.stack[-1]) is not OrderedDict:
            raise pickle.UnpicklingError("it sets the attributes of an object")

    def load_setitem(self) -> None:
        value = self.stack.pop()
        self._set([self.stack.pop(), value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        # Names only: nested tuples as keys would be hashed for ever.
        if not all(isinstance(key, str) for key in items[::2]) or not isinstance(self.stack[-1], dict):
            raise pickle.UnpicklingError("it has a key that is not a name")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    # Operations of pickle protocol 2, which torch.save writes; one that is missing here ends the reading.
    dispatch: dict[int, Callable[..., None]] = {  # noqa: RUF012 (as in the class above it)
        **{
            code[0]: pickle._Unpickler.dispatch[code[0]]
            for code in (
                *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
                *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINUNICODE),
                *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
                *(pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS),
                *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
                *(pickle.GLOBAL, pickle.BINPERSID),
            )
        },
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }
