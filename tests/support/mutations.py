"""Files that went wrong, by accident or by intent: seeded changes to zips, pickles, JSON, safetensors."""

import io
import json
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Draw = np.random.Generator
NUMBERS = (0, 1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
NAMES = (
    *("../up.jpg", "a/../../up.jpg", "/tmp/up.jpg", "C:/up.jpg", "C:\\up.jpg", "\\\\host\\up.jpg"),
    *("", ".", "..", "a//b.jpg", "a/./b.jpg", "CON.jpg", "x" * 300 + ".jpg", "d/" * 600 + "x.jpg"),
    *("run/params/hparams.json", "run/chk/chk_end", "../chk/chk_end", "run/chk/../../x", "\x1b[2J.jpg"),
    *("~/x.jpg", "ü\u202egpj.jpg", "a\0b.jpg"),
)  # fmt: skip


def pick(draw: Draw, values: Any) -> Any:
    return values[int(draw.integers(len(values)))]


def scribble(data: bytes, draw: Draw) -> bytes:
    """One to four blind changes: bits, numbers, pieces gone, doubled, put elsewhere or put in."""
    out = bytearray(data)
    for _ in range(int(draw.integers(1, 5))):
        at, length = int(draw.integers(len(out) + 1)), int(draw.integers(1, 40))
        kind = int(draw.integers(7))
        if kind == 0 and at < len(out):
            out[at] ^= 1 << int(draw.integers(8))
        elif kind == 1:
            size = pick(draw, (1, 2, 4, 8))
            out[at : at + size] = (pick(draw, NUMBERS) % 256**size).to_bytes(size, "little")
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = out[at : at + length]
        elif kind == 4:
            other = int(draw.integers(len(out) + 1))
            out[at : at + length] = out[other : other + length]
        elif kind == 5:
            out[at:at] = draw.bytes(length)
        elif draw.random() < 0.3:
            del out[at:]
    return bytes(out)


# Zips

_CENTRAL = {4: 2, 6: 2, 8: 2, 10: 2, 16: 4, 20: 4, 24: 4, 28: 2, 30: 2, 32: 2, 34: 2, 36: 2, 38: 4, 42: 4}
_LOCAL = {4: 2, 6: 2, 8: 2, 14: 4, 18: 4, 22: 4, 26: 2, 28: 2}
_END = {4: 2, 6: 2, 8: 2, 10: 2, 12: 4, 16: 4, 20: 2}
_HEADERS = {b"PK\x01\x02": _CENTRAL, b"PK\x03\x04": _LOCAL, b"PK\x05\x06": _END}


def zip_field(data: bytes, draw: Draw) -> bytes:
    """One to three fields of headers: versions, flags, methods, sizes, lengths, offsets, modes."""
    out = bytearray(data)
    for _ in range(int(draw.integers(1, 4))):
        mark = pick(draw, list(_HEADERS))
        places = [at for at in range(len(data) - 4) if data.startswith(mark, at)] if mark else []
        if places:
            at, (field, size) = pick(draw, places), pick(draw, list(_HEADERS[mark].items()))
            old = int.from_bytes(data[at + field : at + field + size], "little")
            new = (
                pick(draw, (*NUMBERS, old + 1, old - 1, old * 2, old + 100, old ^ 1, old | 0xA0000000))
                % 256**size
            )
            out[at + field : at + field + size] = new.to_bytes(size, "little")
    return bytes(out)


def zip_again(data: bytes, draw: Draw, change: Callable[[bytes, Draw], bytes] = scribble) -> bytes:
    """Packed again, one entry renamed, doubled, dropped, of another kind or method, or changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    chosen, kind = int(draw.integers(len(entries))), int(draw.integers(6))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (entry, content) in enumerate(entries):
            new = zipfile.ZipInfo(entry.filename)
            new.compress_type, new.external_attr = zipfile.ZIP_DEFLATED, entry.external_attr
            if number == chosen:
                if kind == 0:
                    new.filename = pick(draw, NAMES)
                elif kind == 1:
                    new.external_attr = (
                        int(pick(draw, (0o120777, 0o020666, 0o060666, 0o010666, 0o140777))) << 16
                    )
                elif kind == 2:
                    new.compress_type = pick(draw, (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED))
                elif kind == 3:
                    content = change(content, draw)
                elif kind == 4:
                    archive.writestr(new, content[::-1])
                else:
                    continue
            archive.writestr(new, content)
    return out.getvalue()


# Pickles


def code(folder: str) -> bytes:
    """Pickle operations that would make `folder` when run."""
    name = folder.encode()
    return b"cos\nmkdir\nX" + struct.pack("<I", len(name)) + name + b"\x85R"


def pickle_code(data: bytes, draw: Draw, folder: str = "") -> bytes:
    """One pickle (or the fourth of a stream of PyTorch) with operations replaced, doubled, or code put in."""
    file = io.BytesIO(data)
    start = 0
    if data[:1] == b"\x80" and data[2:3] == b"\x8a":  # the magic number: three short pickles come first
        for _ in range(3):
            pickletools.dis(file, out=io.StringIO())
        start = file.tell()
    operations = [(op, at) for op, _, at in pickletools.genops(io.BytesIO(data[start:]))]
    places = [at + start for _, at in operations] + [operations[-1][1] + start + 1]
    place = int(draw.integers(1, len(places) - 1))
    begin, end, kind = places[place], places[place + 1], int(draw.integers(5))
    if kind == 0:
        new = code(folder) if folder else b"N"
        keep = data[begin:end] if draw.random() < 0.5 else b"0" + data[begin:end]
        return data[:begin] + new + keep + data[end:]
    if kind == 1:
        return data[:begin] + pick(draw, pickletools.opcodes).code.encode("latin-1") + data[end:]
    if kind == 2:
        return data[:begin] + data[begin:end] * int(pick(draw, (0, 2, 50))) + data[end:]
    if kind == 3:
        number = pick(draw, (10**9, 2**31 - 1, -1, 2**62, 2**200))
        return data[:begin] + pickle.dumps(number, 2)[2:-1] + data[end:]
    other = int(draw.integers(1, len(places) - 1))
    return data[:begin] + data[places[other] : places[other + 1]] + data[end:]


def torch_archive(data: bytes, draw: Draw, folder: str = "") -> bytes:
    """An archive of torch.save with its pickle changed, packed as PyTorch packs."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, pickle_code(content, draw, folder) if name.endswith("data.pkl") else content)
    return out.getvalue()


# JSON and safetensors

VALUES = (
    *("null", "true", "-1", "0", "1e999", "-1e999", "NaN", "1" * 5000, "10000000000000000000000", "0.5"),
    *('""', '"\\ud800"', '"\\u0000"', '"../up"', '"\\u001b[2J"', "[]", "{}", "[[1]]", '{"a": {"b": []}}'),
    *("[null, null]", "[" * 900 + "]" * 900, "[" * 200_000, '{"a":' * 900 + "1" + "}" * 900),
    *("[1e999, 1, 1]", "[-1, 2]", '["a", {}]'),
)  # fmt: skip


def json_value(text: bytes, draw: Draw) -> bytes:
    """One value, at any depth, becomes another; or its key goes, or comes a second time."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    raw = json.loads(text)
    walk(raw)
    inside, key = pick(draw, places)
    if isinstance(inside, dict) and draw.random() < 0.15:
        del inside[key]
        return json.dumps(raw).encode()
    inside[key] = "HERE"
    value = pick(draw, VALUES)
    twice = f'{value}, "{key}": {value}' if isinstance(inside, dict) and draw.random() < 0.1 else value
    return json.dumps(raw).replace('"HERE"', twice).encode()


def safetensors(data: bytes, draw: Draw) -> bytes:
    """Header, its length, or blind bytes."""
    length = int.from_bytes(data[:8], "little")
    kind = int(draw.integers(4))
    if kind == 0:
        return pick(draw, (*NUMBERS, length + 1, length - 1)).to_bytes(8, "little") + data[8:]
    if kind == 1:
        return data[:8] + scribble(data[8 : 8 + length], draw)[:length].ljust(length) + data[8 + length :]
    if kind == 2:
        header = json_value(data[8 : 8 + length], draw)
        return len(header).to_bytes(8, "little") + header + data[8 + length :]
    return scribble(data, draw)


def folder_name(where: str) -> str:
    """A name that no folder has yet: made only if a pickle's code runs."""
    return os.path.join(where, "code-ran")  # noqa: PTH118 (a text for a pickle)
