"""A real app in its own process and a real browser. Without one the stories fail under CI, else skip."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",  # a camera that everybody may use and that shows a test picture
    "--use-fake-device-for-media-stream",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def missing(what: str) -> None:
    """Under CI a story that cannot be told is a failure, elsewhere it is skipped."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{what}, and CI=true asks for the browser stories.")
    pytest.skip(what)


@pytest.fixture(scope="package")  # a page that stays open would draw beside all later tests
def browser():
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        missing("Playwright is not installed")
    expect.set_options(timeout=30_000)
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        missing("No chromium was found on PATH")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def demo(small_street: Path, tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoints folder as it ships, with an untrained pair."""
    from tests.support.demo import build_demo

    root = tmp_path_factory.mktemp("browser-demo")
    for folder in tiny_pair:
        shutil.copytree(folder, root / folder.name)
    build_demo(small_street, root / "tiny-teacher", root / "tiny-student", root, identities=8, queries=4)
    return root


@pytest.fixture(scope="package")
def app_address(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python app.py` on a free port; ended by its own process id."""
    log = tmp_path_factory.mktemp("app") / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", ROOT / "app.py", "--checkpoints", demo],
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 90
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"The app did not open:\n{log.read_text()}")
            time.sleep(0.1)
        yield found[0]
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def page(browser, app_address: str):
    """A visitor's fresh page at 1440 × 900. At the end: no script error, no request off the machine."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    visited = context.new_page()
    elsewhere: list[str] = []
    errors: list[str] = []
    local = (app_address, "data:", "blob:")
    visited.on("request", lambda asked: None if asked.url.startswith(local) else elsewhere.append(asked.url))
    visited.on("pageerror", lambda error: errors.append(str(error)))
    visited.goto(app_address)
    visited.get_by_role("tab", name="Retrieve").wait_for()
    yield visited
    context.close()
    assert not elsewhere, f"The page asked others: {elsewhere}"
    assert not errors, f"The page's scripts failed: {errors}"
