"""A stranger's Markdown: shown as text, whatever it tries."""

import re
import time
from html.parser import HTMLParser

import pytest

from vkd.ui.hub import prose

PICTURE = "data:image/png;base64,AAAA"


class Seen(HTMLParser):
    """Tags and attributes, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


def test_a_card_is_headings_lists_tables_and_code():
    html = prose.as_html("# One\n\n- *two*\n\n|a|b|\n|-|-|\n|1|2|\n\n```sh\nvkd <x>\n```\n")
    for part in ("<h3", "<em>two</em>", "<td>2</td>", "vkd &lt;x&gt;"):
        assert part in html


def test_links_inside_a_text_find_its_headings():
    html = prose.as_html("[down](#what-it-must-not) \n# What it must *not*\n# Again\n# Again", mark="mine")
    assert 'href="#vkd-mine-what-it-must-not"' in html
    assert re.findall(r'id="([^"]+)"', html) == [
        "vkd-mine-what-it-must-not",
        "vkd-mine-again",
        "vkd-mine-again-1",
    ]


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
    seen.feed(prose.as_html(text, {"curves.png": PICTURE}))
    assert {tag for tag, _ in seen.tags} <= {"a", "b", "p", "h3", "img", "span", "pre", "code", "em"}
    for _, attributes in seen.tags:
        assert set(attributes) <= {"href", "src", "alt", "id", "class", "title", "target", "rel"}
        assert attributes.get("src", PICTURE) == PICTURE
        assert attributes.get("href", "http://").startswith("http://")


@pytest.mark.parametrize(
    "address",
    ["//evil.example/x", "/etc/passwd", "file:///etc", "http://user@evil.example", "mailto:a@b.example"],
)
def test_links_go_to_web_pages_only(address: str):
    assert "href" not in prose.as_html(f"[x](<{address}>)")


def test_a_web_page_is_opened_apart_and_told_nothing():
    html = prose.as_html("[x](https://arxiv.org/abs/2007.04174)")
    assert (
        'href="https://arxiv.org/abs/2007.04174" target="_blank" rel="noopener noreferrer nofollow"' in html
    )


def test_pictures_are_those_that_are_held():
    html = prose.as_html(
        "![a](./curves.png) ![b](http://spy.example/b.png) ![c](../secret.png)", {"curves.png": PICTURE}
    )
    assert html.count("<img") == 1
    assert "picture: b (not loaded)" in html
    assert "spy.example" not in html


def test_a_part_that_folds_is_the_one_html_that_counts():
    html = prose.as_html("<details>\n<summary>All & more</summary>\n\n*in*\n\n</details>\n\nout")
    assert "<details><summary>All &amp; more</summary>" in html
    assert html.index("<em>in</em>") < html.index("</details>") < html.index("out")
    for odd in ("</details>", "<details open ontoggle=x>\n<summary>a</summary>", "<summary>a</summary>"):
        assert "details>" not in prose.as_html(odd)
    assert prose.as_html("<details><summary>a</summary>\n\nb").count("</details>") == 1
    quoted = prose.as_html("> <details><summary>a</summary>\n\nb")
    assert "<details>" not in quoted


def test_templates_of_the_page_read_nothing_of_it():
    assert not set("${}") & set(prose.as_html("# ${value} {{secret}}\n\n`${x}` $y$"))


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
def test_metadata_is_read_or_left(text: str, data: dict):
    found, body = prose.parts_of(text)
    assert found == data
    assert body.strip() == "# x"


def test_metadata_becomes_few_plain_words():
    assert prose.words(["a", {"b": 1}, ["c"], None, 3, "x" * 200]) == ["a", "3", "x" * 80]
    assert prose.words({"deep": 1}) == []
    bomb = "---\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\ntags: [*c, y]\n---\n"
    assert prose.words(prose.parts_of(bomb)[0]["tags"]) == ["y"]


@pytest.mark.parametrize(
    "piece", ["[", "![[", "*a ", "> ", "([", "_a__", "# x\n", "- ", "|a|\n|-|\n|b|\n", "`", "<"]
)
def test_a_text_made_to_be_slow_is_shown_in_seconds(piece: str):
    began = time.process_time()
    prose.as_html(piece * (prose.MOST // len(piece)) * 2)
    assert time.process_time() - began < 10
