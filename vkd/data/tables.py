"""Lists of images: CSV and TSV files with a path and an identity in each row. No torch here."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vkd.data.layouts import PARTS, part_of
from vkd.data.scan import check_utf8
from vkd.io.errors import VKDError
from vkd.io.files import refuse_lfs_pointer

COLUMNS = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "image_path", "img_path"),
        *("image", "img", "picture"),
    ),
    "identity": ("identity", "id", "pid", "person_id", "vehicle_id", "label", "person", "vehicle"),
    "camera": ("camera", "cam", "camid", "cam_id", "camera_id"),
    "tracklet": ("tracklet", "track", "tracklet_id", "track_id"),
    "split": ("split", "part", "subset"),
}  # fmt: skip

_NO_LABEL = {"", "-1", "-1.0", "unknown", "nan", "none", "null", "n/a", "na", "<na>"}


class LabelledImage(NamedTuple):
    """An image with its labels as written, "" where missing. Images of equal `group` form a tracklet."""

    path: str
    identity: str
    camera: str
    group: str
    split: str


def is_list(table: Path) -> bool:
    """True if a table has the columns of a list of images."""
    try:
        return {"path", "identity"} <= _columns(_header(_rows(table))).keys()
    except VKDError:
        return False


def read_table(table: Path, *, confined: bool = False) -> Iterator[LabelledImage]:
    """Yields the images that a table lists, in its order.

    Identities and cameras that are empty, -1, unknown or nan are no labels; rows without any value are
    passed over. Raises VKDError for a table that is no list of images, and naming the line for a row without
    path, with an unknown part or, if `confined`, with a path that leads out of the table's folder.
    """
    rows = _rows(table)
    header = _header(rows)
    columns = _columns(header)
    if "path" not in columns or "identity" not in columns:
        raise VKDError(
            f"{table} has the columns {', '.join(header)[:300] or '(none)'}; it needs path and identity, "
            "and may have camera, tracklet and split."
        )
    folder = table.parent
    for line, row in rows:
        values = {key: row[at].strip() if at < len(row) else "" for key, at in columns.items()}
        if not any(value.strip() for value in row):
            continue
        written, split = values["path"], part_of(values.get("split", ""))
        if not written:
            raise VKDError(f"{table} line {line} has no path.")
        if values.get("split") and not split:
            parts = ", ".join(PARTS)
            raise VKDError(f"{table} line {line} has the split {values['split'][:80]!r}; expected {parts}.")
        path = _resolve(folder, written)
        if confined and not Path(path).resolve().is_relative_to(folder.resolve()):
            raise VKDError(f"{table.name} line {line} leads out of its folder: {written[:80]!r}.")
        if "\0" in path or len(path) > 4000:
            raise VKDError(f"{table} line {line} has no valid path: {written[:80]!r}.")
        check_utf8(path)
        identity, camera, track = (_label(values.get(key, "")) for key in ("identity", "camera", "tracklet"))
        group = track or (camera and "one tracklet for each camera") or path
        yield LabelledImage(path, identity, camera, group, split)


def _label(value: str) -> str:
    """Returns a label as written, "" for none; numbers that a spreadsheet wrote as 3.0 are 3."""
    if value.lower() in _NO_LABEL:
        return ""
    return value[:-2] if re.fullmatch(r"[0-9]+\.0", value) else value


def _resolve(folder: Path, written: str) -> str:
    """Returns the path of a row; a backslash divides folders unless a file is really named so."""
    path = f"{folder.as_posix()}/{written}"
    if "\\" in written and not _exists(path):
        written = written.replace("\\", "/")
    return (folder / written).as_posix()


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def _rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the lines of a table on which rows begin, and the rows. Raises VKDError for damage."""
    try:
        data = table.read_bytes()
    except OSError as error:
        raise VKDError(f"{table} cannot be read ({error.strerror}).") from None
    refuse_lfs_pointer(table)
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise VKDError(f"{table} is not a UTF-8 text file ({error.reason}).") from error
    lines = io.StringIO(text, newline="")
    first = text.lstrip("\r\n").partition("\n")[0]
    rows = csv.reader(lines, delimiter=next((mark for mark in "\t;" if mark in first), ","))
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise VKDError(f"{table} line {line} is damaged ({error}).") from None
        if row is None:
            return
        yield line, row


def _header(rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    """Returns the names of the columns, lowercase, from the first row with a value."""
    return next(([name.strip().lower() for name in row] for _, row in rows if any(map(str.strip, row))), [])


def _columns(header: list[str]) -> dict[str, int]:
    """Maps keys of COLUMNS to positions; the first word that occurs counts."""
    return {
        key: header.index(word)
        for key, words in COLUMNS.items()
        for word in reversed(words)
        if word in header
    }
