"""Untrusted model cards: nothing in them runs, nothing is loaded."""

import time
from html.parser import HTMLParser

import pytest

from vkd.ui.hub import card

PICTURE = "data:image/png;base64,AAAA"


class Seen(HTMLParser):
    """Tags and attributes, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


def test_headings_lists_tables_code():
    html = str(card.to_html("# One\n\n- *two*\n\n|a|b|\n|-|-|\n|1|2|\n\n```sh\nvkd <x>\n```\n"))
    for part in ("<h3", "<em>two</em>", "<td>2</td>", "vkd &lt;x&gt;"):
        assert part in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '<a href="javascript:alert(1)">x</a>',
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](data:text/html;base64,AAAA)",
        "[x](vbscript:x) <javascript:alert(1)>",
        "[x][y]\n\n[y]: javascript:alert(1)",
        "![x](javascript:alert(1))",
        '![x" onerror="alert(1)](curves.png)',
        '[x](http://a.example "title\\" onclick=\\"alert(1)")',
        '```html" onload="alert(1)\n<b>\n```',
        '# x" onclick="alert(1)',
        "<iframe src=//evil.example></iframe><svg/onload=alert(1)>",
    ],
)
def test_nothing_runs(text: str):
    seen = Seen()
    seen.feed(card.to_html(text, {"curves.png": PICTURE}))
    assert {tag for tag, _ in seen.tags} <= {"a", "b", "p", "h3", "img", "pre", "code", "em"}
    for _, attributes in seen.tags:
        assert set(attributes) <= {"href", "src", "alt", "target", "rel"}
        assert attributes.get("src", PICTURE) == PICTURE
        assert attributes.get("href", "http://").startswith("http://")


@pytest.mark.parametrize(
    "address",
    ["//evil.example/x", "/etc/passwd", "file:///etc", "http://user@evil.example", "mailto:a@b.example"],
)
def test_links_to_web_pages_only(address: str):
    assert "href" not in card.to_html(f"[x](<{address}>)")


def test_link_opens_apart_and_tells_nothing():
    seen = Seen()
    seen.feed(card.to_html("[x](https://arxiv.org/abs/2007.04174)"))
    link = dict(seen.tags)["a"]
    assert link["href"] == "https://arxiv.org/abs/2007.04174"
    assert link["target"] == "_blank"
    assert set(link["rel"].split()) == {"noopener", "noreferrer", "nofollow"}


def test_images_are_those_that_are_held():
    seen = Seen()
    text = "![a](./curves.png) ![b](http://spy.example/b.png) ![c](../secret.png) <img src=//spy.example/d>"
    html = card.to_html(text, {"curves.png": PICTURE})
    seen.feed(html)
    assert [one.get("src") for tag, one in seen.tags if tag == "img"] == [PICTURE, None, None, None]
    assert "spy.example" not in html


def test_part_that_folds():
    html = str(
        card.to_html("<details ontoggle=x>\n<summary>All & more</summary>\n\n*in*\n\n</details>\n\nout")
    )
    assert "ontoggle" not in html
    assert "<summary>All &amp; more</summary>" in html
    assert html.index("<em>in</em>") < html.index("</details>") < html.index("out")
    assert str(card.to_html("<details><summary>a</summary>\n\nb")).count("</details>") == 1


def test_page_templates_read_nothing():
    assert not set("${}") & set(card.to_html("# ${value} {{secret}}\n\n`${x}` $y$"))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("---\nlicense: mit\ntags: [a, b]\n---\n# x", {"license": "mit", "tags": ["a", "b"]}),
        ("\ufeff---\r\nlicense: mit\r\n---\r\n# x", {"license": "mit"}),
        ("# x", {}),
        ("---\n- a\n---\n# x", {}),
        ("---\na: [\n---\n# x", {}),
        ("---\na: 2020-13-45\n---\n# x", {}),
        ("---\n" + "[" * 5000 + "\n---\n# x", {}),
        ("---\na: !!python/object/apply:os.system [id]\n---\n# x", {}),
    ],
)
def test_metadata(text: str, data: dict):
    found, body = card.split_metadata(text)
    assert found == data
    assert body.strip() == "# x"


def test_metadata_words():
    assert card.words(["a", {"b": 1}, ["c"], None, 3, "x" * 200]) == ["a", "3", "x" * 80]
    assert card.words({"deep": 1}) == []
    bomb = "---\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\ntags: [*c, y]\n---\n"
    assert card.words(card.split_metadata(bomb)[0]["tags"]) == ["y"]


@pytest.mark.parametrize(
    "piece", ["[", "![[", "*a ", "> ", "([", "_a__", "# x\n", "- ", "|a|\n|-|\n|b|\n", "`", "<"]
)
def test_slow_text(piece: str):
    began = time.process_time()
    card.to_html(piece * (card.MAX_LETTERS // len(piece)) * 2)
    assert time.process_time() - began < 10
