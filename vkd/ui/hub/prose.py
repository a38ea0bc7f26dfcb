"""A stranger's Markdown as HTML: nothing in it runs, and nothing is fetched for it.

Raw HTML is shown as the letters that it is made of, but for a part that folds (details, summary). Pictures
are those that the caller holds; any other, on this machine or elsewhere, is named in words. Links go to web
pages only, and only when they are clicked.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vkd.ui.html import escape

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MOST = 50_000
"""Letters of a text that are shown."""
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_MOST_FRONT = 64_000
_FOLD = re.compile(r"<details>\s*<summary>([^<>]{1,200})</summary>\Z")
_WEB = re.compile(r"https?://[^\s/@]+(?:[/?#]\S*)?\Z", re.IGNORECASE)


def parts_of(text: str) -> tuple[dict[str, Any], str]:
    """The metadata at the top of a card, and its text. What is no metadata counts as none."""
    text = text[:MOST]
    found = _FRONT.match(text)
    if found is None:
        return {}, text
    return _metadata(found[1]), text[found.end() :]


def _metadata(block: str) -> dict[str, Any]:
    import yaml  # what huggingface_hub reads cards with

    if len(block) > _MOST_FRONT:
        return {}
    try:
        data = yaml.safe_load(block)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):  # ValueError: a 13th month
        return {}
    return data if isinstance(data, dict) else {}


def words(value: object, most: int = 12) -> list[str]:
    """A metadata value as words to show: itself, or the first of a list; anything deeper is left out."""
    several = value if isinstance(value, list) else [value]
    return [str(each)[:80] for each in several[:most] if isinstance(each, str | int | float) and str(each)]


def as_html(text: str, pictures: Mapping[str, str] | None = None, mark: str = "card") -> str:
    """Markdown → HTML that is safe to show. Headings begin at level 3 of the page.

    `pictures`: name in the text → data URI. `mark` sets the anchors of this text apart from others.
    """
    reader = _reader()
    tokens = reader.parse(text[:MOST])
    env = {"pictures": pictures or {}, "mark": mark, "seen": {}}
    for token, inline in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        if token.type == "heading_open" and inline is not None:
            token.attrSet("id", _anchor(env, inline.content))
        if token.type == "inline":
            _mind_links(token.children or [], mark)
    html = reader.renderer.render(_folded(tokens), reader.options, env)
    # As in `cards.escape`: templates of the page read these three.
    return html.replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")


def _folded(tokens: Sequence["Token"]) -> list["Token"]:
    """The same with paragraphs that open or close a part that folds made so; what was opened is closed."""
    from markdown_it.token import Token

    out, opened = list(tokens), 0
    for place in range(len(out) - 2):
        first, inline = out[place], out[place + 1]
        if first.type != "paragraph_open" or first.level:
            continue
        found, html = _FOLD.match(inline.content.strip()), ""
        if found:
            opened, html = opened + 1, f"<details><summary>{escape(found[1])}</summary>"
        elif opened and inline.content.strip() == "</details>":
            opened, html = opened - 1, "</details>"
        if html:
            empty = Token("text", "", 0)
            out[place : place + 3] = [Token("html_block", "", 0, content=html), empty, empty]
    return [*out, *[Token("html_block", "", 0, content="</details>")] * opened]


def _reader() -> "MarkdownIt":
    from markdown_it import MarkdownIt  # 0.1 s that the first page does not wait for

    reader = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(["table", "strikethrough"])
    reader.add_render_rule("image", _picture)
    return reader


def _anchor(env: dict[str, Any], heading: str) -> str:
    """The id of a heading: its words, numbered where they come again."""
    slug = slug_of(heading)
    number = env["seen"][slug] = env["seen"].get(slug, -1) + 1
    return f"vkd-{env['mark']}-{slug}" + (f"-{number}" if number else "")


def slug_of(heading: str) -> str:
    """What the Hub makes of a heading for links to it."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())[:100]


def _mind_links(tokens: Sequence["Token"], mark: str) -> None:
    """Web pages open in a window of their own and learn nothing of this one; other links are text alone."""
    opened = []
    for token in tokens:
        if token.type == "link_open":
            href = str(token.attrGet("href") or "")
            opened.append(token)
            token.attrs = {}
            if href.startswith("#"):
                token.attrs = {"href": f"#vkd-{mark}-{href[1:]}"}
            elif _WEB.match(href):
                token.attrs = {"href": href, "target": "_blank", "rel": "noopener noreferrer nofollow"}
            else:
                token.tag = "span"
        elif token.type == "link_close" and opened:
            token.tag = opened.pop().tag


def _picture(_: Any, tokens: Sequence["Token"], index: int, options: Any, env: dict[str, Any]) -> str:
    """A picture that is held, or its name in words."""
    token = tokens[index]
    told, held = (
        escape(token.content),
        env["pictures"].get(str(token.attrGet("src") or "").removeprefix("./")),
    )
    if held:
        return f'<img src="{held}" alt="{told}">'
    return f'<span class="vkd-unloaded">picture{f": {told}" if told else ""} (not loaded)</span>'
