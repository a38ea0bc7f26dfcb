"""The Explain story: where teacher and student look, and what two pictures share."""

from playwright.sync_api import Page, expect


def open_tab(page: Page) -> None:
    page.get_by_role("tab", name="Explain").click()
    expect(page.get_by_role("heading", name="Where does it look?")).to_be_visible()


def test_an_example_shows_both_heatmaps_and_their_numbers(page: Page) -> None:
    open_tab(page)
    page.get_by_role("button", name="Example: identity").locator("visible=true").first.click()
    for part in ("teacher", "student"):
        panel = page.get_by_role("region", name=f"Heatmaps of the {part}")
        expect(panel.get_by_role("img", name=f"{part} heatmap of view 1")).to_be_in_viewport(timeout=30_000)
        expect(panel).to_contain_text("logit of its top identity")


def test_two_pictures_are_compared_by_what_they_share(page: Page, demo) -> None:
    files = sorted(str(path) for path in (demo / "street-queries").glob("*.jpg"))
    open_tab(page)
    page.get_by_role("radio", name="What it shares with a second picture").check()
    fields = page.locator("input[type=file]").locator("xpath=ancestor::*[contains(@class,'vkd-pictures')]")
    shown = fields.locator("visible=true")
    shown.nth(0).locator("input[type=file]").first.set_input_files(files[0])
    expect(shown.nth(0).get_by_role("button", name="Thumbnail 1 of 1")).to_be_visible(timeout=30_000)
    shown.nth(1).locator("input[type=file]").first.set_input_files(files[-1])
    expect(page.get_by_role("region", name="Heatmaps of the student")).to_contain_text(
        "similarity to the second picture", timeout=30_000
    )


def test_explaining_nothing_says_what_is_missing(page: Page) -> None:
    open_tab(page)
    page.get_by_role("button", name="Explain", exact=True).click()
    expect(page.get_by_text("upload one or click an example")).to_be_visible(timeout=30_000)


def test_a_slider_wipes_between_teacher_and_student(page: Page) -> None:
    open_tab(page)
    page.get_by_role("button", name="Example: identity").locator("visible=true").first.click()
    wipe = page.get_by_role("button", name="Wipe", exact=True)
    wipe.click(timeout=30_000)
    page.get_by_role("slider", name="Wipe between teacher and student").fill("25")
    place = page.locator(".vkd-wipes")
    expect(place.locator("img").first).to_be_visible()
    assert place.evaluate("element => element.style.getPropertyValue('--vkd-cut')") == "25%"
