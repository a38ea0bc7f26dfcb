"""Explain in the browser: targets, methods and layers, the slider, a PNG, a phone."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.images import write_clip


def open_tab(page: Page) -> None:
    page.get_by_role("tab", name="Explain").click()
    expect(page.get_by_role("heading", name="Class activation maps")).to_be_visible()


def test_targets(page: Page) -> None:
    open_tab(page)
    page.get_by_role("button", name="Explain", exact=True).click()
    expect(page.get_by_text("upload one or click an example")).to_be_visible()
    examples = page.locator("[data-example]:visible")
    examples.first.click()
    student = page.get_by_role("region", name="Heatmaps of the student")
    for part in ("teacher", "student"):
        panel = page.get_by_role("region", name=f"Heatmaps of the {part}")
        expect(panel.get_by_role("img", name=f"{part} heatmap of view")).to_be_in_viewport()
        expect(panel).to_contain_text("logit of top-1 class")
    page.get_by_role("radio", name="Similarity to a second image").check()
    expect(page.get_by_role("heading", name="Second image")).to_be_visible()
    examples.nth(1).click()  # becomes the second image
    expect(student.get_by_role("img", name="student heatmap of second image").first).to_be_visible()
    expect(student).to_contain_text("similarity to the second image")
    page.get_by_role("radio", name="Logit of a chosen class").check()
    expect(page.get_by_role("heading", name="Identity ID")).to_be_visible()
    page.get_by_role("textbox", name="Training identity").fill("5")
    page.keyboard.press("Enter")
    expect(student).to_contain_text("logit of training identity 5")


def test_methods_slider_and_png(page: Page, tmp_path: Path) -> None:
    open_tab(page)
    field = page.locator(".vkd-images:visible input[type=file]").first
    field.set_input_files(str(write_clip(tmp_path / "walk.mp4", 12)))
    panel = page.get_by_role("region", name="Heatmaps of the student")
    expect(panel.get_by_role("img", name="student heatmap of view 8")).to_be_visible()
    page.get_by_role("button", name="Models and method").click()
    page.get_by_label("Method", exact=True).click()
    for name in ("Grad-CAM", "Grad-CAM++", "LayerCAM", "HiResCAM", "EigenCAM (class-agnostic)"):
        expect(page.get_by_role("option", name=name, exact=True)).to_be_visible()
    page.get_by_role("option", name="LayerCAM", exact=True).click()
    expect(panel).to_be_visible()
    layer = page.get_by_label("Layer", exact=True)
    layer.fill("attic")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("attic")
    layer.fill("last")
    page.keyboard.press("Enter")
    expect(panel).to_be_visible()
    page.get_by_role("button", name="Slider", exact=True).click()
    page.get_by_role("slider", name="Slider between teacher and student").fill("25")
    page.keyboard.press("ArrowRight")
    compared = page.locator(".vkd-wipes")
    expect(compared.locator("img").first).to_be_visible()
    assert compared.evaluate("element => element.style.getPropertyValue('--vkd-cut')") == "26%"
    save = page.get_by_role("button", name="Save as PNG").locator("visible=true")
    expect(save).to_be_in_viewport()
    with page.expect_download() as download:
        save.click()
    assert download.value.suggested_filename == "vkd-heatmaps.png"
    with Image.open(download.value.path()) as sheet:
        assert sheet.format == "PNG"
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
