"""Retrieve in the browser: every kind of query, match and explanation, galleries, visitors apart."""

import base64
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.support.images import ODD, write_clip, write_noise, write_odd
from tests.support.zips import pack


def choose(page: Page, *files: Path) -> None:
    """Gives files to the tab's image field as a person does."""
    page.locator("input[type=file]:not([disabled])").first.set_input_files([str(file) for file in files])


def column(page: Page, part: str) -> Locator:
    return page.get_by_role("region", name=f"Matches of the {part}")


def clear(page: Page) -> None:
    page.get_by_role("button", name="Clear").locator("visible=true").click()
    expect(page.get_by_role("heading", name="Query the gallery")).to_be_visible()


def test_examples_and_uploads(page: Page, demo: Path) -> None:
    expect(page.get_by_role("heading", name="Query the gallery")).to_be_visible()
    expect(page.get_by_text("Drop one or more crops of the same person").first).to_be_visible()
    expect(page.get_by_role("button", name="Search", exact=True)).to_be_in_viewport()
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("upload one or click an example")
    headline = page.get_by_role("status").filter(has_text="query")
    example = page.get_by_role("button", name="tracklet (4 frames)").first
    example.click()
    expect(headline).to_contain_text("Tracklet query, 4 frames: identity")
    expect(example).to_have_attribute("aria-pressed", "true")
    expect(column(page, "student").get_by_role("listitem").first).to_be_in_viewport()
    assert {"correct", "incorrect"} & set(column(page, "teacher").inner_text().split())
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    # Another query releases the example, and closes the enlarged image.
    page.get_by_role("button", name="Thumbnail 1 of 4").click()
    page.get_by_role("button", name="id").filter(has_text="image").first.click()
    expect(headline).to_contain_text("Image query")
    expect(page.get_by_role("button", name="Thumbnail 1 of 1")).to_be_in_viewport(ratio=0.9)
    expect(example).to_have_attribute("aria-pressed", "false")
    clear(page)
    expect(page.locator("[data-example][aria-pressed=true]")).to_have_count(0)
    choose(page, next((demo / "street-queries").glob("*.jpg")))
    expect(headline).to_contain_text("Image query: identity")
    page.get_by_role("spinbutton", name="Top-k").fill("2")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(column(page, "teacher").locator(".vkd-card:not(.vkd-junk)")).to_have_count(2)
    for kind in ("csv", "png"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save as {kind.upper()}").locator("visible=true").click()
        assert download.value.suggested_filename == f"vkd-matches.{kind}"
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    answer = page.locator(".vkd-answer").first.bounding_box()
    options = page.get_by_label("Top-k").first.bounding_box()
    assert answer is not None
    assert options is not None
    assert answer["y"] < options["y"], "on a phone the answer comes before the options"


COPY = """async (image) => {
  const bytes = Uint8Array.from(atob(image), (one) => one.charCodeAt(0));
  const copied = new Blob([bytes], { type: 'image/png' });
  await navigator.clipboard.write([new ClipboardItem({ 'image/png': copied })]);
}"""
BAD = {
    "notes.png": b"not an image at all",
    "empty.jpg": b"",
    "cut.mp4": b"\0\0\0\x18ftypmp42" + b"\0" * 400,
}


def test_every_kind_of_query(page: Page, demo: Path, tmp_path: Path) -> None:
    headline = page.get_by_role("status").filter(has_text="query")
    page.context.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Capture from camera").locator("visible=true").click()
    page.get_by_text("Click to Access Webcam").click()
    # A photo taken before the first frame is empty, and nothing is sent then.
    page.wait_for_function("[...document.querySelectorAll('video')].some(video => video.videoWidth > 0)")
    page.get_by_role("button", name="capture photo").click()
    expect(headline).to_contain_text("Image query: unlabelled query")
    clear(page)
    copied = io.BytesIO()
    Image.open(next((demo / "street-queries").glob("*.jpg"))).save(copied, "PNG")
    page.evaluate(COPY, base64.b64encode(copied.getvalue()).decode())
    page.keyboard.press("Control+v")
    expect(headline).to_contain_text("Image query")
    assert "✓" not in column(page, "teacher").inner_text()
    page.get_by_role("button", name="Paste from Clipboard").locator("visible=true").click()
    expect(headline).to_contain_text("Tracklet query, 2 frames")
    page.get_by_role("button", name="Delete image").first.click(force=True)
    expect(headline).to_contain_text("Image query")
    clear(page)
    choose(page, write_clip(tmp_path / "walk.mp4", 20))
    expect(headline).to_contain_text("Tracklet query, 8 frames: unlabelled query")
    clear(page)
    for name, content in BAD.items():
        (tmp_path / name).write_bytes(content)
        choose(page, tmp_path / name)
        alert = page.get_by_role("alert").filter(has_text="Search failed")
        expect(alert).to_contain_text(name)
        expect(alert).to_be_in_viewport()
        expect(page.get_by_role("button", name="Save as CSV")).to_be_hidden()
        clear(page)
    choose(page, *(write_odd(kind, tmp_path) for kind in ODD))
    expect(headline).to_contain_text(f"Tracklet query, {len(ODD)} frames")
    assert "Traceback" not in page.content()


WATCH_PROGRESS = """new MutationObserver(() => {
  window.steps = (window.steps ?? 0) + Boolean(document.querySelector('.vkd-maker [role=progressbar]'));
}).observe(document.body, { subtree: true, childList: true })"""


def test_galleries_are_built(page: Page, small_street: Path, tmp_path: Path) -> None:
    images = sorted((small_street / "bbox_test").rglob("*.jpg"))[:4]
    people = {
        f"mine/{'anna' if n < 2 else 'bert'}/{n}.jpg": file.read_bytes() for n, file in enumerate(images)
    }
    choose(page, images[0])
    expect(column(page, "teacher").get_by_role("listitem").first).to_be_visible()
    page.get_by_role("button", name="Build a gallery").click()
    build = page.get_by_role("button", name="Build", exact=True)
    folder = page.get_by_label("Dataset or image folder")
    folder.fill("/nowhere/at/all")
    build.click()
    expect(page.get_by_text("/nowhere/at/all does not exist")).to_be_visible()
    folder.fill(str(small_street))
    page.get_by_label("Name (optional)").fill("whole-street")
    page.evaluate(WATCH_PROGRESS)
    build.click()
    expect(page.get_by_text("whole-street is ready")).to_be_visible(timeout=60_000)
    assert page.evaluate("window.steps") > 0
    expect(page.get_by_text("whole-street: ")).to_be_visible()
    folder.fill("")
    page.get_by_label("Name (optional)").fill("my-people")
    page.locator(".vkd-maker input[type=file]").set_input_files(str(pack(tmp_path / "mine.zip", people)))
    expect(page.get_by_text("mine.zip")).to_be_visible()
    build.click()
    # The query is searched in the new gallery without another click.
    expect(page.get_by_text("my-people: 4 tracklets")).to_be_visible(timeout=60_000)
    expect(column(page, "student").get_by_role("button", name="anna").first).to_be_visible()


def test_match_is_explained_and_visitors_are_apart(
    page: Page, browser, app_address: str, tmp_path: Path
) -> None:
    heard: list[str] = []
    with browser.new_context() as context:
        other = context.new_page()
        other.on("response", lambda answer: heard.append(answer.url))
        other.goto(app_address)
        expect(other.get_by_role("heading", name="Query the gallery")).to_be_visible()
        choose(page, write_noise(tmp_path / "private-image.png"))
        card = column(page, "teacher").get_by_role("listitem").first.get_by_role("button")
        card.click()
        dialog = page.get_by_role("dialog", name="Grad-CAM of the similarity")
        expect(dialog.get_by_role("img", name="student heatmap of query").first).to_be_visible()
        expect(dialog.get_by_role("img", name="teacher heatmap of match").first).to_be_in_viewport()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(card).to_be_focused()
        page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_be_hidden()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as CSV").locator("visible=true").click()
        assert download.value.path()
        other.reload()
        expect(other.get_by_role("heading", name="Query the gallery")).to_be_visible()
        assert "private-image" not in other.content()
        assert not [url for url in heard if "private-image" in url or "vkd-matches" in url]
