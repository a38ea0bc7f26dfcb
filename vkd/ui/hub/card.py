"""Model cards from the Hub as HTML: untrusted Markdown, in which nothing runs and nothing is loaded.

Links go to web pages only. Images are those that the caller holds; any other keeps its alternative text.
"""

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

MAX_LETTERS = 50_000
"""Letters of a card that are shown."""
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_MAX_METADATA = 64_000
_WEB = re.compile(r"https?://[^\s/@]+(?:[/?#]\S*)?\Z", re.IGNORECASE)
_TAGS = {
    "a", "b", "blockquote", "br", "code", "del", "details", "em", "h3", "h4", "h5", "h6", "hr", "i", "img",
    "li", "ol", "p", "pre", "s", "strong", "summary", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


def split_metadata(text: str) -> tuple[dict[str, Any], str]:
    """Returns the metadata at the top of a card ({} where it is invalid), and the card's text."""
    text = text[:MAX_LETTERS]
    match = _FRONT.match(text)
    return ({}, text) if match is None else (_metadata(match[1]), text[match.end() :])


def _metadata(block: str) -> dict[str, Any]:
    import yaml

    if len(block) > _MAX_METADATA:
        return {}
    try:
        data = yaml.safe_load(block)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):  # ValueError: a 13th month
        return {}
    return data if isinstance(data, dict) else {}


def words(value: object, most: int = 12) -> list[str]:
    """Returns a metadata value as words: itself, or the first of a list; deeper values are left out."""
    several = value if isinstance(value, list) else [value]
    return [str(each)[:80] for each in several[:most] if isinstance(each, str | int | float) and str(each)]


def to_html(text: str, images: Mapping[str, str] | None = None) -> Markup:
    """Renders untrusted Markdown as safe HTML; headings begin at level 3. `images`: name → data URI."""
    import nh3
    from markdown_it import MarkdownIt  # 0.1 s that the first page does not wait for

    reader = MarkdownIt("commonmark", {"html": True, "maxNesting": 20}).enable(["table", "strikethrough"])
    tokens = reader.parse(text[:MAX_LETTERS])
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"

    def attribute(tag: str, name: str, value: str) -> str | None:
        if (tag, name) == ("img", "src"):
            return (images or {}).get(value.removeprefix("./"))
        return value if name != "href" or _WEB.match(value) else None

    safe = nh3.clean(
        reader.renderer.render(tokens, reader.options, {}),
        tags=_TAGS,
        attributes={"*": set(), "a": {"href"}, "img": {"src", "alt"}},
        attribute_filter=attribute,
        url_schemes={"http", "https"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    # Gradio's page templates read these three.
    return Markup(safe.replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;"))
