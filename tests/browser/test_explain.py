"""The Explain story: where teacher and student look, and what two pictures share."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.unit.io.test_video import write_clip


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


def test_an_example_becomes_the_second_picture_where_one_is_asked_for(page: Page) -> None:
    open_tab(page)
    examples = page.get_by_role("button", name="Example: identity").locator("visible=true")
    examples.first.click()
    expect(page.get_by_role("region", name="Heatmaps of the student")).to_be_visible(timeout=30_000)
    page.get_by_role("radio", name="What it shares with a second picture").check()
    expect(page.get_by_role("heading", name="Which second picture?")).to_be_visible(timeout=30_000)
    examples.nth(1).click()
    student = page.get_by_role("region", name="Heatmaps of the student")
    expect(student.get_by_role("img", name="student heatmap of second picture").first).to_be_visible(
        timeout=30_000
    )
    page.get_by_role("radio", name="What speaks for a training identity").check()
    expect(page.get_by_role("heading", name="Which training identity?")).to_be_visible(timeout=30_000)
    page.get_by_role("textbox", name="Training identity").fill("5")
    page.keyboard.press("Enter")
    expect(student).to_contain_text("logit of training identity 5", timeout=30_000)


def test_methods_and_layers_are_chosen_and_a_wrong_one_is_refused(page: Page, tmp_path: Path) -> None:
    open_tab(page)
    field = page.locator(".vkd-pictures:visible input[type=file]").first
    field.set_input_files(str(write_clip(tmp_path / "walk.mp4", 12)))
    panel = page.get_by_role("region", name="Heatmaps of the student")
    expect(panel.get_by_role("img", name="student heatmap of view 8")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Networks and method").click()
    method = page.get_by_label("Method", exact=True)
    method.click()
    for name in ("Grad-CAM", "Grad-CAM++", "Layer-CAM", "HiRes-CAM"):
        expect(page.get_by_role("option", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("option", name="Eigen-CAM")).to_be_visible()
    page.get_by_role("option", name="Layer-CAM", exact=True).click()
    expect(panel).to_be_visible(timeout=30_000)
    page.get_by_label("Layer", exact=True).fill("attic")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("There is no layer", timeout=30_000)
    with page.expect_event("response", lambda answer: "queue/join" in answer.url):
        page.get_by_label("Layer", exact=True).fill("last")
        page.keyboard.press("Enter")
    expect(panel).to_be_visible(timeout=30_000)


def test_the_heatmaps_can_be_kept(page: Page) -> None:
    open_tab(page)
    page.get_by_role("button", name="Example: identity").locator("visible=true").first.click()
    save = page.get_by_role("button", name="Save as PNG").locator("visible=true")
    expect(save).to_be_in_viewport(timeout=30_000)
    with page.expect_download(timeout=30_000) as download:
        save.click()
    assert download.value.suggested_filename == "vkd-heatmaps.png"
    with Image.open(download.value.path()) as sheet:
        assert sheet.format == "PNG"


def test_a_phone_shows_both_networks_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_tab(page)
    page.get_by_role("button", name="Example: identity").locator("visible=true").first.click()
    student = page.get_by_role("region", name="Heatmaps of the student")
    expect(student.get_by_role("img", name="student heatmap of view 1")).to_be_visible(timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


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
    page.keyboard.press("ArrowRight")
    place = page.locator(".vkd-wipes")
    expect(place.locator("img").first).to_be_visible()
    assert place.evaluate("element => element.style.getPropertyValue('--vkd-cut')") == "26%"
