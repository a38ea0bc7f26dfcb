"""The Retrieve story: from a picture on the visitor's disk to two ranked lists."""

from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect


def choose(page: Page, *files: Path) -> None:
    """Give files to the tab's picture field as a person does."""
    page.locator("input[type=file]:not([disabled])").first.set_input_files([str(file) for file in files])


def columns(page: Page) -> tuple:
    return page.get_by_role("region", name="Matches of the teacher"), page.get_by_role(
        "region", name="Matches of the student"
    )


def test_an_empty_page_says_what_to_do(page: Page) -> None:
    expect(page.get_by_role("heading", name="Who is this?")).to_be_visible()
    expect(page.get_by_role("button", name="Find matches")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Example: identity").first).to_be_in_viewport()


def test_uploading_a_picture_shows_both_ranked_lists(page: Page, demo: Path) -> None:
    query = next((demo / "street-queries").glob("*.jpg"))
    choose(page, query)
    teacher, student = columns(page)
    expect(teacher.get_by_role("listitem").first).to_be_visible(timeout=30_000)
    expect(student.get_by_role("listitem").first).to_be_in_viewport()
    # The uploaded picture is one that ships, so right, wrong and junk are told, in words.
    assert {"right", "wrong"} & set(teacher.inner_text().split())
    views = teacher.get_by_role("img")
    assert views.first.get_attribute("alt", timeout=1000).startswith("match 1: identity") or "junk" in (
        views.first.get_attribute("alt") or ""
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


def test_an_example_is_one_click(page: Page) -> None:
    page.get_by_role("button", name="4 views").first.click()
    expect(page.get_by_role("status").filter(has_text="Tracklet query of 4 pictures")).to_be_visible(
        timeout=30_000
    )
    expect(page.get_by_role("button", name="4 views").first).to_have_attribute("aria-pressed", "true")


def test_fewer_matches_are_shown_when_fewer_are_asked_for(page: Page) -> None:
    page.get_by_role("button", name="Example: identity").first.click()
    teacher, _ = columns(page)
    expect(teacher.get_by_role("listitem").nth(7)).to_be_visible(timeout=30_000)
    page.get_by_role("spinbutton", name="Matches to show").fill("2")
    page.get_by_role("button", name="Find matches").click()
    expect(teacher.locator(".vkd-card:not(.vkd-junk)")).to_have_count(2, timeout=30_000)


def test_a_stranger_is_searched_without_verdicts(page: Page, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (120, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "stranger.png")
    choose(page, tmp_path / "stranger.png")
    expect(page.get_by_role("status").filter(has_text="Image query")).to_be_visible(timeout=30_000)
    teacher, _ = columns(page)
    assert "✓" not in teacher.inner_text()


def test_what_is_no_picture_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"not a picture at all")
    choose(page, tmp_path / "notes.png")
    expect(page.get_by_text("notes.png is not a picture")).to_be_visible(timeout=30_000)
    assert "Traceback" not in page.content()


def test_a_phone_shows_the_question_then_the_answer(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="Example: identity").first.click()
    teacher, _ = columns(page)
    expect(teacher.get_by_role("listitem").first).to_be_visible(timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    answer = page.locator(".vkd-answer").first.bounding_box()
    options = page.get_by_label("Matches to show").first.bounding_box()
    assert answer is not None
    assert options is not None
    assert answer["y"] < options["y"]


def test_two_visitors_do_not_see_each_other(page: Page, browser, app_address: str) -> None:
    page.get_by_role("button", name="Example: identity").first.click()
    expect(columns(page)[0].get_by_role("listitem").first).to_be_visible(timeout=30_000)
    context = browser.new_context()
    other = context.new_page()
    other.goto(app_address)
    expect(other.get_by_role("heading", name="Who is this?")).to_be_visible()
    context.close()


def test_a_click_on_a_match_explains_it(page: Page) -> None:
    page.get_by_role("button", name="Example: identity").first.click()
    teacher, _ = columns(page)
    teacher.get_by_role("listitem").first.get_by_role("button").click(timeout=30_000)
    dialog = page.get_by_role("dialog", name="What the query shares with")
    expect(dialog.get_by_role("img", name="student heatmap of query").first).to_be_visible(timeout=30_000)
    expect(dialog.get_by_role("img", name="teacher heatmap of match").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_the_ranked_lists_can_be_kept(page: Page) -> None:
    page.get_by_role("button", name="Example: identity").first.click()
    expect(columns(page)[0].get_by_role("listitem").first).to_be_visible(timeout=30_000)
    for kind in ("csv", "png"):
        with page.expect_download(timeout=30_000) as download:
            page.locator(".vkd-keep:visible").get_by_role("button", name=f"Save as {kind.upper()}").click()
        assert download.value.suggested_filename == f"vkd-matches.{kind}"
