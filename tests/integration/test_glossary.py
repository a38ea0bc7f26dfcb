"""Banned words: in identifiers and texts of the package, in templates, and on the rendered page."""

import ast
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vkd.ui import app
from vkd.ui.evaluate import tab
from vkd.ui.explain import actions as explain
from vkd.ui.retrieve import actions as retrieve
from vkd.ui.state import AppPaths
from vkd.ui.train import runs, views

ROOT = Path(__file__).parents[2]
SOURCES = [
    *sorted((ROOT / "vkd").rglob("*.py")),
    ROOT / "checkpoints" / "build.py",
    ROOT / "spaces" / "deploy.py",
]
TEXTS = [
    path for suffix in ("j2", "js", "css", "html") for path in sorted((ROOT / "vkd").rglob(f"*.{suffix}"))
]
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "spaces/README.md")]
CHECKPOINTS = ROOT / "checkpoints"

IDENTIFIERS = {
    *(
        "found",
        "told",
        "shown",
        "known",
        "asked",
        "wanted",
        "kept",
        "heard",
        "place",
        "places",
        "aside",
        "trunk",
    ),
    *("deed", "deeds", "luggage", "stranger", "strangers", "kindly", "shelf", "doorkeeper", "remedy"),
}
# Everywhere, docstrings and comments in templates included.
TEXT = re.compile(
    r"\b(?:pictures?|data sets?|strangers?|for good|small letters|luggage|deeds?|doorkeeper|trunks?)\b",
    re.IGNORECASE,
)
# The page, where a network is a model and a match is correct or incorrect.
PAGE = re.compile(TEXT.pattern + r"|\b(?:networks?|wrong|looks?|told|kept|asked|somebody)\b", re.IGNORECASE)
# Names in files: the backbone's weights of format 1, images of snapshots, a column of tables of images.
ON_DISK = {"trunk.stages.", "trunk", "picture"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Yields the words of a module's own names: functions, classes, variables, arguments, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names = [node.id if isinstance(node, ast.Name) else node.attr]
        elif isinstance(node, ast.arg):
            names = [node.arg]
        elif isinstance(node, ast.alias):
            names = [node.asname or ""]
        else:
            continue
        for name in names:
            yield from re.findall("[a-z]+", re.sub("([A-Z])", r"_\1", name).lower())


def strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in ON_DISK:
            yield node.value


def visible(text: str) -> str:
    """Returns the text of HTML, with what tooltips and screen readers add."""
    text = re.sub(r"<(style|script)\b.*?</\1>", " ", text, flags=re.DOTALL)
    spoken = re.findall(r'\s(?:title|alt|aria-label|placeholder)="([^"]*)"', text)
    return html.unescape(" ".join([re.sub(r"<[^>]*>", " ", text), *spoken]))


def page_texts(value: Any, key: str = "") -> Iterator[str]:
    """Yields the texts that a component's props show."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from page_texts(each, name)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from page_texts(each, key)
    elif isinstance(value, str) and key in {"label", "value", "info", "placeholder", "choices", "headers"}:
        yield visible(value)


def banned(text: str, words: re.Pattern[str]) -> list[str]:
    """Returns each banned word with its surroundings."""
    return [text[max(0, each.start() - 40) : each.end() + 40] for each in words.finditer(text)]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_source(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert IDENTIFIERS.isdisjoint(identifiers(tree)), IDENTIFIERS.intersection(identifiers(tree))
    assert [each for text in strings(tree) for each in banned(text, TEXT)] == []


@pytest.mark.parametrize("path", [*TEXTS, *DOCUMENTS], ids=name_of)
def test_text(path: Path) -> None:
    assert banned(path.read_text("utf-8"), TEXT) == []


@pytest.fixture(scope="module")
def paths() -> AppPaths:
    return AppPaths.of(CHECKPOINTS)


@pytest.fixture
def queries() -> list[str]:
    (first,) = (CHECKPOINTS / "street-queries").glob("0006*.jpg")
    return [str(first)]


def test_page() -> None:
    """The page as it opens, and what it says of its endpoints."""
    page = app.build(CHECKPOINTS)
    texts = list(page_texts([each["props"] for each in page.config["components"]]))
    assert any("Query the gallery" in text for text in texts)
    described = json.dumps(page.get_api_info())
    assert [each for text in texts for each in banned(text, PAGE)] == []
    assert banned(described, TEXT) == []


def test_search(paths: AppPaths, queries: list[str]) -> None:
    pair = ("street-mobilenet-teacher", "street-mobilenet-student")
    answer, _ = retrieve.search(paths, queries, "street-gallery", *pair, 10, None, False)
    assert "incorrect" in visible(answer)
    assert banned(visible(answer), PAGE) == []


def test_explanation(paths: AppPaths, queries: list[str]) -> None:
    pair = ("street-mobilenet-teacher", "street-mobilenet-student")
    answer, _ = explain.explain(paths, queries, queries, "second image", "gradcam", *pair)
    assert "cosine" in visible(answer)
    assert banned(visible(answer), PAGE) == []


def test_evaluation(paths: AppPaths) -> None:
    (job, _, _) = tab.open_page(paths)
    drawn = tab.refresh(paths, job["value"], "")
    rest = tab.draw(paths, job["value"], "i2v", "worst", 1, 5, "", "")
    texts = list(page_texts([{"value": each} for each in [*drawn, *rest]]))
    assert any("mAP" in text for text in texts)
    assert [each for text in texts for each in banned(text, PAGE)] == []


def test_runs(paths: AppPaths) -> None:
    listed = runs.read_runs(paths.checkpoints)
    texts = [views.list_html(listed, [], {}), *map(views.headline_html, listed)]
    assert len(texts) == 3
    assert [each for text in texts for each in banned(visible(text), PAGE)] == []
