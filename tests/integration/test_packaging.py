"""What the package declares and holds: every import is a requirement, a wheel has the app's files."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONAL = {"mcp", "onnx", "onnxruntime", "onnxscript", "spaces"}


def imported() -> set[str]:
    """Top-level names of all modules that the package imports."""
    names: set[str] = set()
    for path in (ROOT / "vkd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"vkd"} - OPTIONAL


def test_layers(tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    # In a process of its own: import-linter disables the loggers of the one that it runs in.
    code = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (gradio,) = (each for each in contracts if each["id"] == "gradio")
    names = {path.stem for path in (ROOT / "vkd").iterdir() if path.name[0] not in "_."}
    assert {f"vkd.{name}" for name in names - {"ui", "version"}} == set(gradio["source_modules"])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_declared() -> None:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    declared = {normal(re.split(r"[\[<>=!~ ]", line)[0]) for line in lines if line and line[0] != "#"}
    owners = packages_distributions()
    missing = {name for name in imported() if not {normal(each) for each in owners.get(name, [])} & declared}
    assert missing == set()


def test_wheel_holds_the_app(tmp_path: Path) -> None:
    command = [
        "-m",
        "pip",
        "wheel",
        str(ROOT),
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
    ]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr)
    (wheel,) = tmp_path.glob("vkd-*.whl")
    files = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "vkd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= files
    assert not {name for name in files if name.startswith(("tests", "checkpoints", "spaces"))}
