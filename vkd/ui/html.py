"""HTML of the page: one Jinja environment with autoescape, images as data URIs, words that tabs share.

Images travel inside the page as data URIs: the ranked lists of two models are one answer instead of a
hundred requests, no folder of the server has to be opened to the browser, and no path of it is shown.
"""

import base64
import html
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from vkd.retrieval.gallery import Hit
from vkd.retrieval.results import ranks

STRIP_VIEWS = 4
"""Frames of a tracklet that a card or an example shows."""


def escape(text: object) -> str:
    """Escapes text for HTML, attributes too; also `$`, `{` and `}`, which page templates of Gradio read."""
    safe = html.escape(str(text), quote=True)
    return safe.replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")


def _finalize(value: object) -> object:
    return value if hasattr(value, "__html__") else Markup(escape(value))


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    finalize=_finalize,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: object) -> Markup:
    """Renders `templates/<template>`. Values are escaped, except for what `render` returned (Markup)."""
    return Markup(_TEMPLATES.get_template(template).render(**values))


@lru_cache(maxsize=4096)
def _file_uri(path: str, changed: int) -> str:
    kind = "png" if path.lower().endswith(".png") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def file_uri(path: str | Path) -> str:
    """Encodes a small JPEG or PNG file as a data URI; cached until the file changes."""
    return _file_uri(str(path), Path(path).stat().st_mtime_ns)


def array_uri(image: np.ndarray, *, height: int | None = None, quality: int = 88) -> str:
    """Encodes uint8 (H, W, 3) as a JPEG data URI, scaled to `height` pixels where given."""
    picture = Image.fromarray(image)
    if height and picture.height != height:
        width = max(1, round(picture.width * height / picture.height))
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def empty_state(title: str, text: str) -> Markup:
    """Renders an empty state: what will be shown here and what to do next."""
    return render("empty.html.j2", title=title, text=text)


NO_MODEL = empty_state(
    "No model yet",
    "Train a teacher and a student in the Train tab, pull a pair in the Hub tab, or copy their folders into "
    "the checkpoints folder. They appear here without a restart.",
)


def error_box(title: str, message: str) -> Markup:
    """Renders an error in place of an answer. `message` is safe HTML, as `errors.message` makes it."""
    return render("error.html.j2", title=title, message=Markup(message))


def identity_label(identity: int, camera: int, name: str = "", file: str = "") -> str:
    """Returns 'identity 12 · camera 3'.

    A folder's own name of an identity replaces its number; where no identity is known, the file's name does.
    """
    label = f"identity {identity}" if identity >= 0 else file or "unlabelled"
    label = name if name and not name.isdecimal() else label
    return f"{label} · camera {camera}" if camera >= 0 else label


VERDICTS = {"correct": "correct", "incorrect": "incorrect", "junk": "junk", "unknown": ""}
_MARKS = {"correct": "✓", "incorrect": "✗", "junk": "–", "unknown": ""}
_MEANINGS = {
    "correct": "same identity, another camera",
    "incorrect": "another identity",
    "junk": "same identity, same camera: does not count",
    "unknown": "the truth is not known",
}


class Column(NamedTuple):
    """One network's answer: its part (teacher or student), the checkpoint's name and the hits, best first.

    `figure` is HTML about its similarities, `cut` the threshold; `rarities` has for each hit what to show on
    its card and what to say of it.
    """

    part: str
    network: str
    hits: Sequence[Hit]
    figure: str = ""
    cut: float | None = None
    rarities: Sequence[tuple[str, str]] = ()


def _strip(thumbnails: Sequence[Path], alt: str) -> str:
    pictures = []
    step = max(1, len(thumbnails) // STRIP_VIEWS)
    for place, path in enumerate(thumbnails[::step][:STRIP_VIEWS], start=1):
        if path.is_file():
            text = escape(alt) if place == 1 else ""
            pictures.append(f'<img src="{file_uri(path)}" alt="{text}">')
    return "".join(pictures) or '<span class="vkd-missing">no thumbnail</span>'


def card(
    hit: Hit, rank: int | None, part: str = "", cut: float | None = None, rarity: tuple[str, str] = ("", "")
) -> str:
    """One match: rank, verdict in words, a strip of views, similarity with its bar, identity and camera.

    The whole card is a button that asks why this is a match; `cut` is marked on the bar.
    """
    label = identity_label(hit.identity, hit.camera, hit.name, Path(hit.frames[0]).name if hit.frames else "")
    verdict, brief, told = VERDICTS[hit.verdict], *rarity
    alt = f"{f'match {rank}' if rank else 'not counted'}: {label}, similarity {hit.similarity:.2f}" + (
        f", {verdict}" if verdict else ""
    )
    mark = f'<b class="vkd-verdict">{_MARKS[hit.verdict]} {verdict}</b>' if verdict else ""
    share = max(0.0, min(1.0, hit.similarity)) * 100
    tick = "" if cut is None else f'<s style="left:{max(0.0, min(1.0, cut)) * 100:.0f}%"></s>'
    person, _, camera = label.partition(" · ")
    single = " vkd-single" if len(hit.thumbnails) < 2 else ""
    below = " vkd-below" if cut is not None and hit.similarity < cut else ""
    strip = _strip(hit.thumbnails or (hit.thumbnail,), alt)
    title = "; ".join(filter(None, (_MEANINGS[hit.verdict], told, "click to see why")))
    return (
        f'<li><button type="button" class="vkd-card vkd-{hit.verdict}{single}{below}" '
        f'data-item="{hit.item}" data-part="{escape(part)}" title="{escape(title)}">'
        f'<span class="vkd-strip">{strip}</span><span class="vkd-facts">'
        f'<span class="vkd-rank">{rank or ""}</span>{mark}'
        f'<span class="vkd-similarity">{hit.similarity:.2f}</span>'
        f'<span class="vkd-bar" aria-hidden="true"><i style="width:{share:.0f}%"></i>{tick}</span>'
        f'<span class="vkd-who">{escape(person)}</span>'
        f'<span class="vkd-camera">{escape(camera)}</span>'
        f'<span class="vkd-rarity">{escape(brief)}</span></span></button></li>'
    )


def verdict_sentence(hits: Sequence[Hit]) -> str:
    """How one network did, junk left out: first right match and how many of the shown ones are right."""
    right = [rank for hit, rank in zip(hits, ranks(hits), strict=True) if hit.verdict == "correct"]
    counted = sum(hit.verdict in ("correct", "incorrect") for hit in hits)
    if not counted:
        return ""
    return (
        f"first right match at rank {right[0]} · {len(right)} of {counted} right"
        if right
        else f"none of {counted} right"
    )


def column(answer: Column) -> str:
    """One network's ranked list under its name."""
    part, sentence = escape(answer.part), verdict_sentence(answer.hits)
    rarities = answer.rarities or [("", "")] * len(answer.hits)
    cards = "".join(
        card(hit, rank, answer.part, answer.cut, rarity)
        for hit, rank, rarity in zip(answer.hits, ranks(answer.hits), rarities, strict=True)
    )
    body = (
        f'<ol class="vkd-cards">{cards}</ol>'
        if cards
        else '<p class="vkd-none">Nothing passes the camera filter.</p>'
    )
    return (
        f'<section class="vkd-column vkd-{part}" aria-label="Matches of the {part}">'
        f'<h2><span class="vkd-part">{part.capitalize()}</span>'
        f'<span class="vkd-network">{escape(answer.network)}</span></h2>'
        f'<p class="vkd-score">{escape(sentence)}</p>{answer.figure}{body}</section>'
    )


def matches(headline: str, detail: str, query: Sequence[str], columns: Sequence[Column]) -> str:
    """The whole answer of Retrieve: the query as the networks see it, then a column for each network.

    `query` holds data URIs of the query's views.
    """
    views = "".join(f'<img src="{uri}" alt="query view {n}">' for n, uri in enumerate(query[:8], start=1))
    known = any(hit.verdict != "unknown" for answer in columns for hit in answer.hits)
    legend = (
        '<p class="vkd-legend"><span class="vkd-correct">✓ correct</span>'
        '<span class="vkd-incorrect">✗ incorrect</span>'
        '<span class="vkd-junk">– junk: same camera, does not count</span></p>'
        if known
        else ""
    )
    lists = "".join(column(answer) for answer in columns)
    return (
        f'<div class="vkd-answer"><div class="vkd-query"><div class="vkd-strip">{views}</div>'
        f'<div><p class="vkd-headline" role="status">{escape(headline)}</p>'
        f'<p class="vkd-detail">{escape(detail)}</p>{legend}</div></div>'
        f'<div class="vkd-columns">{lists}</div></div>'
    )


class View(NamedTuple):
    """A picture and its heatmap, as data URIs, and what to call them."""

    caption: str
    picture: str
    overlay: str


class Panel(NamedTuple):
    """One network's heatmaps, the number they explain and what that number is; a row of the views, and one
    of what they are compared with."""

    part: str
    network: str
    value: float
    meaning: str
    views: Sequence[View]
    others: Sequence[View] = ()


def panel(answer: Panel) -> str:
    """Pictures and overlays of one network under its name and number."""
    part, rows = escape(answer.part), [row for row in (answer.views, answer.others) if row]
    most = max(map(len, rows))
    height = {1: 380, 2: 220}.get(most, 200 if most < 5 else 140) if len(rows) == 1 else 200
    return (
        f'<section class="vkd-panel vkd-{part}" aria-label="Heatmaps of the {part}" '
        f'style="--vkd-map:{height}px"><h2><span class="vkd-part">{part.capitalize()}</span>'
        f'<span class="vkd-network">{escape(answer.network)}</span></h2>'
        f'<p class="vkd-value"><b>{answer.value:.2f}</b><span>{escape(answer.meaning)}</span></p>'
        f"{''.join(_maps(part, row) for row in rows)}</section>"
    )


def _maps(part: str, views: Sequence[View]) -> str:
    shown = "".join(
        f'<figure><div class="vkd-pair"><img src="{view.picture}" alt="{escape(view.caption)}">'
        f'<img src="{view.overlay}" alt="{part} heatmap of {escape(view.caption)}"></div>'
        f"<figcaption>{escape(view.caption)}</figcaption></figure>"
        for view in views
    )
    return f'<div class="vkd-maps">{shown}</div>'


def waiting(part: str, network: str) -> str:
    """In place of a panel that is still being made."""
    return (
        f'<section class="vkd-panel vkd-waiting vkd-{escape(part)}" role="status"><h2>'
        f'<span class="vkd-part">{escape(part).capitalize()}</span>'
        f'<span class="vkd-network">{escape(network)}</span></h2><p>Its heatmaps are being made…</p>'
        "</section>"
    )


_WIPE = (
    '<div class="vkd-views"><div role="group" aria-label="View">'
    '<button type="button" data-choose="side" aria-pressed="true">Side by side</button>'
    '<button type="button" data-choose="wipe" aria-pressed="false">Wipe</button></div>'
    '<label><span class="vkd-part vkd-teacher">Teacher</span>'
    '<input type="range" min="0" max="100" value="50" aria-label="Wipe between teacher and student">'
    '<span class="vkd-part vkd-student">Student</span></label></div>'
)


def heat(panels: Sequence[Panel], *, wipe: bool = False, rest: str = "") -> str:
    """Teacher and student side by side, and the scale; with `wipe` a place where one lies over the other.

    `rest` is HTML in place of the panels that are still to come.
    """
    choice, wipes = (_WIPE, '<div class="vkd-wipes"></div>') if wipe else ("", "")
    return (
        f'<div class="vkd-answer" data-view="side">{choice}{wipes}'
        f'<div class="vkd-columns vkd-heat">{"".join(map(panel, panels))}{rest}</div>'
        '<p class="vkd-scale" role="status"><span>cold</span><i aria-hidden="true"></i><span>hot</span>'
        "<span>Each map is scaled to its own maximum: compare where it is hot; for strength see the numbers."
        "</span></p></div>"
    )


def dialog(title: str, body: str) -> str:
    """A dialog over the page; scripts open it."""
    return (
        f'<dialog class="vkd-dialog" aria-label="{escape(title)}"><header><h2>{escape(title)}</h2>'
        '<button type="button" class="vkd-close" aria-label="Close">✕</button></header>'
        f"{body}</dialog>"
    )
