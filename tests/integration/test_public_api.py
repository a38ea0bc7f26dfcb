"""The public API: the lines of the README run, importing the package is free, and help loads no torch."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import vkd
from vkd.training import settings

README = Path(__file__).parents[2] / "README.md"


def test_readme_snippet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ten lines of the README, with a smaller street, fewer epochs and a Hub on this machine."""
    (snippet,) = re.findall(r"```python\n(import vkd\n.*?)```", README.read_text("utf-8"), flags=re.S)
    assert len(ast.parse(snippet).body) == 11
    small = {
        "train_identities=60": "train_identities=8, test_identities=6, cameras=3, frames=4, size=(64, 32)",
        'root="data/street"': 'root="data/street", image_size=(64, 32), epochs=1, milestones=(), workers=0, '
        "device='cpu', identities_per_batch=4, samples_per_identity=2",
        '"query.jpg"': "str(query)",
        '("user/student")': f'("user/student", endpoint="{hub.endpoint}")',
    }
    for words, other in small.items():
        assert words in snippet
        snippet = snippet.replace(words, other)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    values: dict[str, Any] = {"query": tmp_path / "query.jpg"}
    lines = snippet.replace(
        "gallery = ", "query.write_bytes(open(data.query[0].frames[0], 'rb').read()); gallery = "
    )

    exec(compile(lines, "README.md", "exec"), values)

    assert "I2V" in capsys.readouterr().out
    assert [hit.rank for hit in values["hits"]] == [1, 2, 3, 4, 5]
    assert values["heat"].shape == (1, 64, 32)
    assert isinstance(values["student"], vkd.ReIDModel)
    same, again = (values[name].net.state_dict() for name in ("student", "again"))
    assert all((same[key] == again[key]).all() for key in same)
    resumed = vkd.train(settings.load(tmp_path / "runs/teacher/settings.json"), "runs/teacher")
    assert resumed.config == values["teacher"].config


def test_names() -> None:
    assert set(vkd.__all__) <= set(dir(vkd))
    assert all(getattr(vkd, name).__doc__ for name in vkd.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vkd.nonsense  # type: ignore[attr-defined]


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a new interpreter has loaded after running `code`."""
    code += "\nimport sys; print('|'.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split("|"))


def test_import_is_lazy() -> None:
    assert not {"torch", "numpy", "pydantic", "gradio"} & loaded_after("import vkd")
    code = "import time; began = time.perf_counter(); import vkd; print(time.perf_counter() - began)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.1


@pytest.mark.parametrize(
    "code",
    [
        "import vkd.training.presets",
        "import vkd.data.datasets, vkd.data.benchmarks, vkd.data.folder",
        "import vkd.metrics.tables",
        *(
            f"from vkd.cli.main import main\ntry: main('{words} --help'.split())\nexcept SystemExit: pass"
            for words in (
                "",
                *("street", "train", "train student", "evaluate", "index", "search", "explain", "export"),
                *("import", "hub", "hub push"),
            )
        ),
    ],
)
def test_no_torch(code: str) -> None:
    assert not {"torch", "torchvision", "gradio", "faiss", "cv2"} & loaded_after(code)


def test_help_is_quick() -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "vkd", "--help"], capture_output=True, check=True)
    assert time.monotonic() - began < 5  # 0.15 s on an idle machine
