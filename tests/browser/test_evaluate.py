"""The Evaluate story: two checkpoints, a data set, a refresh in the middle, a query that is looked into."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect


@pytest.fixture
def tab(page: Page) -> Page:
    page.get_by_role("tab", name="Evaluate").click()
    expect(page.get_by_role("button", name="Evaluate", exact=True)).to_be_in_viewport()
    return page


def finished(page: Page) -> None:
    expect(page.get_by_role("region", name="Scores I2V")).to_be_visible(timeout=120_000)


def test_an_empty_tab_says_what_to_do(tab: Page) -> None:
    expect(tab.get_by_role("heading", name="How good is it?")).to_be_visible()
    expect(tab.get_by_role("button", name="Write a small street to try with")).to_be_visible()


def test_an_evaluation_outlives_a_refresh_and_is_looked_into(tab: Page, small_street: Path) -> None:
    tab.get_by_label("Folder of the data set").fill(str(small_street))
    tab.get_by_label("Folder of the data set").press("Tab")
    expect(tab.locator("#vkd-evaluate-data table")).to_be_visible(timeout=30_000)
    tab.get_by_role("button", name="Evaluate", exact=True).click()
    expect(tab.get_by_role("progressbar", name="Frames embedded")).to_be_visible(timeout=30_000)
    tab.reload()
    tab.get_by_role("tab", name="Evaluate").click()
    finished(tab)
    expect(tab.get_by_role("img", name=re.compile("CMC curves, I2V: top-1 Teacher"))).to_be_in_viewport(
        timeout=30_000
    )
    with tab.expect_download() as saved:
        tab.get_by_role("link", name="JSON").click()
    rows = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert {row["network"] for row in rows} == {"tiny-teacher", "tiny-student", "student − teacher"}

    tab.get_by_role("tab", name="Queries").click()
    teacher = tab.get_by_role("region", name="Matches of Teacher")
    expect(teacher.get_by_role("listitem").first).to_be_in_viewport(timeout=30_000)
    second = tab.locator("#vkd-evaluate-queries button").nth(1)
    query = second.get_attribute("data-query")
    second.click()
    expect(tab.get_by_text(f"Query {query}: identity")).to_be_visible(timeout=30_000)
    expect(second).to_have_attribute("aria-current", "true")

    point = tab.locator("#vkd-scatter .scatterlayer .trace").first.locator("path.point").nth(3)
    number = tab.evaluate("document.querySelector('#vkd-scatter .js-plotly-plot').data[0].customdata[3]")
    point.click(force=True)
    expect(tab.get_by_text(f"Query {number}: identity")).to_be_visible(timeout=30_000)

    tab.get_by_role("tab", name="Same or not?").click()
    expect(tab.get_by_text("pairs of strangers pass").first).to_be_visible()
    before = tab.locator("#vkd-evaluate-thresholds").inner_text()
    tab.get_by_role("spinbutton", name="False-positive rate").fill("10")
    tab.get_by_role("spinbutton", name="False-positive rate").press("Tab")
    expect(tab.locator("#vkd-evaluate-thresholds")).not_to_have_text(before, timeout=30_000)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1440


def test_another_protocol_is_one_click(tab: Page) -> None:
    finished(tab)
    tab.get_by_role("radio", name="V2V").last.click()
    expect(tab.get_by_role("img", name=re.compile("CMC curves, V2V"))).to_be_visible(timeout=30_000)


def test_wrong_choices_are_told_in_words(tab: Page) -> None:
    tab.get_by_label("Folder of the data set").fill("/nowhere/at/all")
    tab.get_by_role("button", name="Evaluate", exact=True).click()
    expect(tab.get_by_text("/nowhere/at/all does not exist").first).to_be_visible(timeout=30_000)
    assert "Traceback" not in tab.content()


def test_a_phone_shows_everything_below_each_other(tab: Page) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    finished(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    expect(tab.get_by_role("img", name=re.compile("CMC curves"))).to_be_visible(timeout=30_000)
