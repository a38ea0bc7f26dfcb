"""A run's last look at its probes, beside its teacher's, as one picture."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from vkd.hub.dataset_terms import SOURCES, UNKNOWN
from vkd.hub.summary import Facts, facts, name_of, teacher_of

INK, FAINT = "#1b1f24", "#667079"
HEIGHT, GAP, APART, MARGIN = 236, 8, 44, 22  # pixels: a picture, between pictures, between probes, the edge
LINE = 24
_MOST_PROBES, _MOST_BYTES, _MOST_PIXELS = 8, 2**20, 4_000_000
_BLOCKS = 10
"""Blocks across a coarsened picture: a head is then a block or two."""


class Look(NamedTuple):
    """How one network sees the probes: overlaid, and the similarity to the same subject elsewhere."""

    title: str
    pictures: list[Image.Image]
    similarities: list[float | None]


def heatmaps(folder: str | Path) -> bytes | None:
    """Where the network looks, beside its teacher where that is known, as a PNG; each probe's pictures side
    by side, two probes in a row.

    Photographs are coarsened into blocks: the people in them have not asked to be shown. None for a folder
    that keeps no looks, or damaged ones. Raises as `facts`.
    """
    found = facts(folder)
    place = _place(found)
    table = _table(place)
    own = _latest(place, found.config.epoch)
    probes = [_picture(place, row.get("picture")) for row in table]
    plain = [picture for picture in probes if picture is not None]
    if own is None or not plain or len(plain) < len(probes):
        return None
    network = _look(found.config.stage, own, len(plain))
    if network is None:
        return None
    looks = [Look("picture", plain, [None] * len(plain)), network]
    if found.config.stage == "student" and (teacher := _teacher(found, table)):
        looks.insert(1, teacher)
    source = SOURCES.get(found.config.dataset, UNKNOWN)
    if not source.synthetic:
        looks = [look._replace(pictures=list(map(coarse, look.pictures))) for look in looks]
    page = _page(looks, f"What raises the similarity to the same {source.subject} under another camera")
    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return file.getvalue()


def coarse(picture: Image.Image) -> Image.Image:
    """The picture in large blocks of one colour each: the heat can be told, a face cannot."""
    blocks = (_BLOCKS, max(1, round(_BLOCKS * picture.height / picture.width)))
    small = picture.resize(blocks, Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.NEAREST)


# --- files --------------------------------------------------------------------------------------------------


def _place(found: Facts) -> Path:
    return found.folder / "probes"  # probes.FOLDER, without the networks that its file imports


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _table(place: Path) -> list[dict[str, Any]]:
    return _rows(_json(place / "probes.json").get("probes"))[:_MOST_PROBES]


def _latest(place: Path, epoch: int) -> Path | None:
    """The look of the weights that load by themselves, else the last one."""
    found = sorted(
        (path.parent for path in place.glob("*/look.json") if path.parent.name.isdecimal()),
        key=lambda path: int(path.name),
    )
    same = [path for path in found if int(path.name) == epoch]
    return (same or found or [None])[-1]


def _teacher(found: Facts, table: list[dict[str, Any]]) -> Look | None:
    """How the teacher sees the same probes: as this run wrote it down, else as the teacher's own run did."""
    here = _look("teacher", _place(found) / "teacher", len(table))
    teacher = teacher_of(found)
    if here is not None or teacher is None or _table(_place(teacher)) != table:
        return here
    where = _latest(_place(teacher), teacher.config.epoch)
    return _look("teacher", where, len(table)) if where is not None else None


def _look(title: str, where: Path, count: int) -> Look | None:
    rows = _rows(_json(where / "look.json").get("looks"))[:count]
    pictures = [_picture(where, row.get("heat")) for row in rows]
    whole = [picture for picture in pictures if picture is not None]
    if len(whole) < count:
        return None
    likeness = [row.get("similarity") for row in rows]
    return Look(title, whole, [float(x) if isinstance(x, int | float) else None for x in likeness])


def _picture(place: Path, name: Any) -> Image.Image | None:
    """A picture of that plain name, HEIGHT pixels high."""
    if not isinstance(name, str) or not name or name_of(name) != name:
        return None
    try:
        with Image.open(place / name) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            width = min(2 * HEIGHT, max(1, round(picture.width * HEIGHT / picture.height)))
            return picture.convert("RGB").resize((width, HEIGHT), Image.Resampling.LANCZOS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


# --- the page -----------------------------------------------------------------------------------------------


def _page(looks: Sequence[Look], title: str) -> Image.Image:
    """The looks at each probe side by side under their names, two probes in a row where they are narrow."""
    count = len(looks[0].pictures)
    widths = [max(look.pictures[n].width for look in looks) for n in range(count)]
    cell = max(widths)
    block = len(looks) * (cell + GAP) - GAP
    across = 2 if count > 1 and cell < HEIGHT else 1
    down = -(-count // across)
    large, small = ImageFont.load_default(size=18), ImageFont.load_default(size=15)
    width = 2 * MARGIN + across * block + (across - 1) * APART
    width = max(width, 2 * MARGIN + int(large.getlength(title)))
    step = LINE + HEIGHT + LINE + 2 * GAP
    page = Image.new("RGB", (width, 2 * MARGIN + LINE + GAP + down * step), "white")
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN - 4), title, fill=INK, font=large)
    for n in range(count):
        left = MARGIN + n % across * (block + APART)
        top = MARGIN + LINE + GAP + n // across * step
        for look in looks:
            picture, likeness = look.pictures[n], look.similarities[n]
            pen.text((left, top), look.title, fill=FAINT, font=small)
            page.paste(picture.resize((widths[n], HEIGHT)), (left, top + LINE))
            if likeness is not None:
                pen.text((left, top + LINE + HEIGHT + 4), f"cosine {likeness:.2f}", fill=INK, font=small)
            left += cell + GAP
    return page
