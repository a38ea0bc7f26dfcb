"""The Evaluate story: two checkpoints, a data set, a refresh in the middle, a query that is looked into; then
four networks, of which any two are set against each other, on a desk and on a phone.
"""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.four import as_four
from vkd.jobs import evaluations

PATIENCE = 30_000


@pytest.fixture
def tab(page: Page) -> Page:
    page.get_by_role("tab", name="Evaluate").click()
    expect(page.get_by_role("button", name="Evaluate", exact=True)).to_be_in_viewport()
    return page


def figure(page: Page, words: str) -> Locator:
    return page.get_by_role("img", name=re.compile(words))


def reopened(page: Page) -> None:
    page.reload()
    page.get_by_role("tab", name="Evaluate").click()


def test_an_evaluation_outlives_a_refresh_and_is_looked_into(tab: Page, small_street: Path) -> None:
    expect(tab.get_by_role("heading", name="Compare models")).to_be_visible()
    expect(tab.get_by_role("button", name="Generate a small synthetic test set")).to_be_visible()
    root = tab.get_by_label("Dataset folder")
    root.fill("/nowhere/at/all")
    tab.get_by_role("button", name="Evaluate", exact=True).click()
    expect(tab.get_by_text("/nowhere/at/all does not exist").first).to_be_visible(timeout=PATIENCE)
    assert "Traceback" not in tab.content()

    root.fill(str(small_street))
    root.press("Tab")
    expect(tab.locator("#vkd-evaluate-data table")).to_be_visible(timeout=PATIENCE)
    tab.get_by_role("button", name="Evaluate", exact=True).click()
    expect(tab.get_by_role("progressbar", name="Frames embedded")).to_be_visible(timeout=PATIENCE)
    expect(tab.get_by_role("button", name="Cancel").last).to_be_visible()
    reopened(tab)
    expect(tab.get_by_role("region", name="Scores I2V")).to_be_visible(timeout=120_000)
    expect(figure(tab, "CMC curves, I2V: top-1 Teacher")).to_be_in_viewport(timeout=PATIENCE)
    with tab.expect_download() as saved:
        tab.get_by_role("link", name="JSON").click()
    rows = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert {row["network"] for row in rows} == {
        "tiny-teacher",
        "tiny-student",
        *[row["network"] for row in rows if "−" in row["network"]],
    }

    look_into_queries(tab)
    tab.get_by_role("tab", name="Verification").click()
    expect(tab.get_by_text("impostor pairs)").first).to_be_visible()
    before = tab.locator("#vkd-evaluate-thresholds").inner_text()
    tab.get_by_role("spinbutton", name="FPR").fill("10")
    tab.get_by_role("spinbutton", name="FPR").press("Tab")
    expect(tab.locator("#vkd-evaluate-thresholds")).not_to_have_text(before, timeout=PATIENCE)

    tab.get_by_role("radio", name="V2V").last.click()
    tab.get_by_role("tab", name="Curves").click()
    expect(figure(tab, "CMC curves, V2V")).to_be_visible(timeout=PATIENCE)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1440


def look_into_queries(tab: Page) -> None:
    """A click on a picture, and one on a point of the scatter plot, open both networks' ranked lists."""
    tab.get_by_role("tab", name="Queries").click()
    for name in ("Teacher", "Student"):
        strip = tab.get_by_role("region", name=f"Matches of {name}")
        expect(strip.get_by_role("listitem").first).to_be_in_viewport(timeout=PATIENCE)
    second = tab.locator("#vkd-evaluate-queries button").nth(1)
    query = second.get_attribute("data-query")
    second.click()
    expect(tab.get_by_text(f"Query {query}: identity")).to_be_visible(timeout=PATIENCE)
    expect(second).to_have_attribute("aria-current", "true")

    point = tab.locator("#vkd-scatter .scatterlayer .trace").first.locator("path.point").nth(3)
    number = tab.evaluate("document.querySelector('#vkd-scatter .js-plotly-plot').data[0].customdata[3]")
    point.click(force=True)
    expect(tab.get_by_text(f"Query {number}: identity")).to_be_visible(timeout=PATIENCE)


def test_any_two_of_four_networks_are_set_against_each_other(tab: Page, demo: Path) -> None:
    """Needs the evaluation of the story before: its networks come again under other names."""
    place = demo / evaluations.FOLDER
    as_four(evaluations.load(place / evaluations.names(demo)[0]), place / "20991231-000000")
    reopened(tab)
    board = tab.get_by_role("region", name="Scores I2V")
    expect(board.get_by_role("row", name="Difference teacher-again − teacher")).to_be_visible(
        timeout=PATIENCE
    )
    for name in ("teacher", "student", "student-again", "teacher-again"):
        expect(tab.locator("#vkd-cmc .legendtext").get_by_text(name, exact=True)).to_be_visible(
            timeout=PATIENCE
        )
    tab.get_by_label("with", exact=True).click()
    tab.get_by_role("option", name="student-again").click()
    expect(board.get_by_role("row", name="Difference teacher-again − student-again")).to_be_visible(
        timeout=PATIENCE
    )
    tab.get_by_role("tab", name="Queries").click()
    expect(figure(tab, "student better for .*, student-again for")).to_be_visible(timeout=PATIENCE)

    tab.set_viewport_size({"width": 390, "height": 844})
    tab.get_by_role("tab", name="Curves").click()
    expect(figure(tab, "CMC curves")).to_be_visible(timeout=PATIENCE)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
