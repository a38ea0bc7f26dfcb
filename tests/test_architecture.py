"""The import order that ARCHITECTURE.md draws is the one the code keeps."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vkd"
DOORS = {"model": {"hub"}}  # upwards, on purpose (see ARCHITECTURE.md)


def floors() -> list[str]:
    """Module names in the order of ARCHITECTURE.md's picture, ground floor first."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    picture = re.search(r"```house\n(.*?)```", text, re.DOTALL)
    assert picture, "ARCHITECTURE.md has no ```house block"
    names = re.findall(r"^  +((?:ui/)?\w+)\.py", picture[1], re.MULTILINE)
    return [name.replace("/", ".") for name in names]


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.endswith("__init__"):
            found[name] = path
    return found


def imported(path: Path, name: str) -> set[str]:
    """Everything a file imports, at its top or inside a function: own modules without the leading `vkd.`."""
    out: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["vkd", *name.split(".")][: -node.level]
                base = ".".join([*package, base] if base else package)
            out.add(base)
            out |= {f"{base}.{alias.name}" for alias in node.names}
    return out


def test_every_file_has_its_floor():
    assert set(floors()) == set(modules()), "ARCHITECTURE.md's house and the files of vkd/ differ"


@pytest.mark.parametrize("name", modules())
def test_a_file_imports_only_what_stands_above_it(name: str):
    order = floors()
    above = set(order[: order.index(name)])
    own = {used.removeprefix("vkd.") for used in imported(modules()[name], name) if used.startswith("vkd.")}
    own &= set(order) - DOORS.get(name, set())
    assert own <= above, f"{name} imports {sorted(own - above)}, which stand below it"


@pytest.mark.parametrize("name", modules())
def test_gradio_is_a_matter_of_the_interface(name: str):
    uses = any(used.split(".")[0] == "gradio" for used in imported(modules()[name], name))
    assert not uses or name.startswith("ui."), f"{name} imports gradio"


@pytest.mark.parametrize("name", ["datasets", "settings"])
def test_reading_and_settings_need_no_torch(name: str):
    torchy = {
        used for used in imported(modules()[name], name) if used.split(".")[0] in {"torch", "torchvision"}
    }
    assert not torchy


def test_the_readme_s_tree_is_the_house():
    house = re.search(
        r"```house\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert house
    assert house[1] in (ROOT / "README.md").read_text(encoding="utf-8")
