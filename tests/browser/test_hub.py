"""The Hub story: a pair is pulled, its card looked at, the pair used; a run is previewed and pushed."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.cards import UNTRUSTED, files_of
from tests.support.hub_server import Hub

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def served(hub_server: Hub, tiny_pair: tuple[Path, Path]) -> Hub:
    """A Hub that has a teacher and its student."""
    hub_server.clear()
    card = b"---\nlibrary_name: vkd\n---\n# The teacher\n"
    hub_server.put("user/first", files_of(tiny_pair[0]) | {"README.md": card})
    hub_server.put("user/second", files_of(tiny_pair[1]) | {"README.md": UNTRUSTED.encode()})
    return hub_server


@pytest.fixture(scope="module")
def checkpoints(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One student, and a file of its training that stays."""
    root = tmp_path_factory.mktemp("hub-story") / "checkpoints"
    shutil.copytree(tiny_pair[1], root / "my-student")
    (root / "my-student" / "training.pt").write_bytes(b"optimiser")
    return root


@pytest.fixture(scope="module")
def app_address(served: Hub, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python app.py` that knows no other Hub than the one on this machine, and no login."""
    place = tmp_path_factory.mktemp("hub-app")
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_CACHE")}
    own = {"HF_ENDPOINT": served.endpoint, "HF_HOME": str(place / "home"), "HF_HUB_OFFLINE": "0"}
    log = place / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", ROOT / "app.py", "--checkpoints", checkpoints],
            stdout=output,
            stderr=output,
            env={**kept, **own, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"},
        )
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"The app did not open:\n{log.read_text()}")
            time.sleep(0.1)
        yield found[0]
        told = log.read_text()
        assert "Traceback" not in told, told
        assert "hf_" not in told, told
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def tab(page: Page) -> Page:
    page.get_by_role("tab", name="Hub").click()
    expect(page.get_by_role("button", name="Pull", exact=True)).to_be_in_viewport()
    return page


def box(page: Page, label: str):
    """A visible text field by the beginning of its label."""
    return page.get_by_label(re.compile(rf"^\s*{re.escape(label)}")).locator("visible=true").first


def test_a_pair_is_pulled_its_card_read_and_the_pair_used(tab: Page, served: Hub, checkpoints: Path) -> None:
    expect(tab.get_by_role("heading", name="Nothing pulled yet")).to_be_visible()
    box(tab, "Repository").fill("user/second")
    tab.get_by_label("Also download the teacher").check()
    served.fault("GET /user/first/resolve", times=3, seconds=1.5)
    tab.get_by_role("button", name="Pull", exact=True).click()
    expect(tab.get_by_role("progressbar", name="Bytes, Pull of user/second")).to_be_visible(timeout=30_000)
    expect(tab.get_by_role("button", name="Cancel").locator("visible=true")).to_be_in_viewport()

    came = tab.get_by_role("status", name="Pulled")
    expect(came).to_contain_text("first and second in", timeout=60_000)
    for repo in ("user/first", "user/second"):
        expect(came).to_contain_text(served.repositories["models", repo].refs["main"][:12])
    expect(tab.get_by_role("button", name="Cancel").locator("visible=true")).to_have_count(0)
    card = tab.get_by_role("article", name="Card of user/second")
    expect(card).to_be_in_viewport()
    expect(card).to_contain_text("A card")
    expect(card.locator("script, img[src]")).to_have_count(0)
    assert {"first", "second"} <= {path.name for path in checkpoints.iterdir()}

    came.get_by_role("button", name="Evaluate").click()
    expect(tab.get_by_role("tab", name="Evaluate")).to_have_attribute("aria-selected", "true")
    expect(tab.get_by_label("Student").locator("visible=true")).to_have_value(re.compile("second|my-student"))
    tab.get_by_label("Teacher").locator("visible=true").click()
    tab.get_by_role("option", name="first").click()
    tab.get_by_role("tab", name="Explain").click()
    tab.get_by_role("button", name="Models and method").locator("visible=true").click()
    expect(tab.get_by_label("Teacher").locator("visible=true")).to_have_value("first")


def test_a_run_is_looked_at_then_pushed(tab: Page, served: Hub) -> None:
    tab.get_by_role("tab", name="Push").click()
    picker = tab.get_by_label("Checkpoint").locator("visible=true").first
    picker.click()
    tab.get_by_role("option", name="my-student").click()
    push = tab.get_by_role("button", name="Push", exact=True)
    expect(push).to_be_disabled()
    box(tab, "Repository").fill("user/mine")
    box(tab, "Teacher's repository").fill("user/first")
    tab.get_by_role("button", name="Preview").click()
    shown = tab.get_by_role("status", name="Preview")
    expect(shown).to_contain_text("Files to upload to user/mine", timeout=60_000)
    expect(shown.get_by_role("row", name="model.safetensors")).to_be_in_viewport()
    expect(shown).to_contain_text("Not uploaded training.pt")
    expect(tab.get_by_role("article", name="Model card preview")).to_be_in_viewport()
    assert ("models", "user/mine") not in served.repositories

    expect(push).to_be_enabled()
    box(tab, "Repository").fill("user/other")  # what was seen is no longer what would be sent
    expect(push).to_be_disabled()
    box(tab, "Repository").fill("user/mine")
    tab.get_by_role("button", name="Preview").click()
    expect(push).to_be_enabled(timeout=60_000)
    box(tab, "Token").fill("hf_thisTokenIsWrong")
    push.click()
    expect(tab.get_by_role("alert")).to_contain_text("does not accept this token", timeout=60_000)
    assert box(tab, "Token").get_attribute("type") == "password"

    box(tab, "Token").fill(served.token)
    push.click()
    sent = tab.get_by_role("status", name="Pushed")
    expect(sent).to_contain_text(f"{served.endpoint}/user/mine/commit/", timeout=60_000)
    arrived = served.files("user/mine")
    assert {"README.md", "config.json", "model.safetensors"} <= set(arrived)
    assert "training.pt" not in arrived
    assert b"base_model: user/first" in arrived["README.md"]
    assert served.repositories["models", "user/mine"].private
    kept = tab.evaluate("JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie")
    assert served.token not in kept + tab.content()

    with tab.expect_download(timeout=60_000) as saved:
        tab.get_by_role("button", name="Download README.md").click()
    assert saved.value.suggested_filename == "README.md"
    assert Path(saved.value.path()).read_bytes() == arrived["README.md"]


def test_what_is_not_there_is_told_in_words(tab: Page) -> None:
    box(tab, "Repository").fill("user/nobody")
    tab.get_by_role("button", name="Pull", exact=True).click()
    expect(tab.get_by_role("alert")).to_contain_text("user/nobody is not on the Hub", timeout=60_000)
    assert "Traceback" not in tab.content()


def test_a_phone_shows_the_question_then_the_answer(tab: Page) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    box(tab, "Repository").fill("user/second")
    tab.get_by_role("button", name="Pull", exact=True).click()
    came = tab.get_by_role("status", name="Pulled")
    expect(came).to_be_visible(timeout=60_000)
    answer, options = came.bounding_box(), tab.get_by_text("Advanced: revision, local name").bounding_box()
    assert answer is not None
    assert options is not None
    assert answer["y"] < options["y"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
