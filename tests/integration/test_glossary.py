"""Banned words: identifiers of the package, and text that a person reads."""

import ast
import re
from pathlib import Path

import pytest

VKD = Path(__file__).parents[2] / "vkd"
# "shown" follows once ui/evaluate, ui/hub, ui/plots and ui/train have lost it.
IDENTIFIERS = {"told", "deed", "deeds", "luggage", "stranger", "strangers", "kindly", "shelf", "trunk"}
TEXT = re.compile(r"\b(?:strangers?|for good|small letters|luggage|goes on where)\b", re.IGNORECASE)


def names(tree: ast.AST) -> set[str]:
    """Names of functions, classes, variables, arguments and attributes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    return {part.lower() for name in found for part in name.split("_")}


@pytest.mark.parametrize("path", sorted(VKD.rglob("*.py")), ids=lambda path: str(path.relative_to(VKD)))
def test_identifiers(path: Path) -> None:
    assert names(ast.parse(path.read_text("utf-8"))) & IDENTIFIERS == set()


@pytest.mark.parametrize("path", sorted(VKD.rglob("*.py")), ids=lambda path: str(path.relative_to(VKD)))
def test_text(path: Path) -> None:
    strings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [text for text in strings if TEXT.search(text)] == []
