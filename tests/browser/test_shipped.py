"""A clone in its first minute: every tab works on what ships, and nothing that ships is changed by it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.train_page import Server, field, points, visit, wait_for_points

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
STUDENT = "street-mobilenet-student"


def written() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in CHECKPOINTS.glob("street-*/**/*") if path.is_file()}


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Page]:
    """A visitor on the repository's own checkpoints, whose page is drawn and asks nobody else."""
    before, errors = written(), []
    server = Server(CHECKPOINTS, tmp_path / "app.txt")
    expect.set_options(timeout=60_000)  # a busy machine draws slowly; what is there is not waited for
    try:
        opened = visit(browser, server.open(), errors)
        yield opened
        opened.context.close()
    finally:
        expect.set_options(timeout=5_000)
        server.kill()
    assert errors == []
    assert written() == before


def test_train_and_evaluate_show_the_demo_pair_at_once(page: Page, tmp_path: Path) -> None:
    # Both runs, their curves, the teacher's level, and the student's attention beside its teacher's.
    expect(page.locator("#vkd-train-list").get_by_text("finished")).to_have_count(2)
    expect(page.locator("#vkd-train-headline")).to_contain_text(STUDENT)
    wait_for_points(page, "i2v/map", 3)
    assert points(page, "losses/kd") == 13
    page.locator("figure[data-series='i2v/map']").get_by_text("teacher").first.wait_for()
    for name in ("Stop", "Resume", "Delete…"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
    page.get_by_role("tab", name="Grad-CAM over epochs").click()
    expect(page.get_by_text("epoch 13 · ")).to_be_visible()
    page.get_by_label("Epoch", exact=True).fill("0")
    expect(page.get_by_text("epoch 6 · ")).to_be_visible()
    assert page.locator(".vkd-attention img").count() == 4 * (1 + 6 + 6)

    # A folder is chosen by clicks, and its data are looked at.
    (tmp_path / "photos" / "street").mkdir(parents=True)
    (tmp_path / "photos" / ".hidden").mkdir()
    field(page, "Dataset folder").fill(str(tmp_path / "photos" / "nowhere"))
    page.get_by_role("button", name="Choose a folder…").click()
    folders = page.get_by_role("list", name="Folders")
    expect(folders.get_by_role("button")).to_have_text(["↑ up", "street"])
    folders.get_by_role("button", name="street").click()
    expect(page.locator(".vkd-browse-here")).to_have_text(str(tmp_path / "photos" / "street"))
    page.get_by_role("button", name="Use this folder").click()
    expect(field(page, "Dataset folder")).to_have_value(str(tmp_path / "photos" / "street"))
    expect(page.locator("#vkd-train-data")).to_contain_text("does not look like")

    # The evaluation on the unseen street: table, figures, a click on a query, a threshold.
    page.get_by_role("tab", name="Evaluate").click()
    scores = page.get_by_role("region", name="Scores I2V")
    for number in ("60.12", "68.32", "+8.20"):
        expect(scores).to_contain_text(number)
    expect(page.get_by_role("img", name=re.compile("CMC curves, I2V"))).to_be_in_viewport()
    page.get_by_role("tab", name="Queries").click()
    second = page.locator("#vkd-evaluate-queries button").nth(1)
    query = second.get_attribute("data-query")
    second.click()
    expect(page.get_by_text(f"Query {query}: identity")).to_be_visible()
    expect(page.get_by_role("region", name="Matches of Student").get_by_role("img")).to_have_count(13)
    expect(page.get_by_text("no image")).to_have_count(0)
    page.get_by_role("tab", name="Verification").click()
    expect(page.get_by_text("impostor pairs)").first).to_be_visible()
