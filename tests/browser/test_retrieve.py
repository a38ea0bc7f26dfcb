"""The Retrieve story: from a picture on the visitor's disk to two ranked lists."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.zips import pack
from tests.ui.test_app import write_odd
from tests.unit.io.test_video import write_clip


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
    assert {"correct", "incorrect"} & set(teacher.inner_text().split())
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


def test_every_way_to_give_a_picture_is_searched_at_once(page: Page, demo: Path) -> None:
    headline = page.get_by_role("status").filter(has_text="query")
    page.context.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Capture from camera").locator("visible=true").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="capture photo").click()
    expect(headline).to_contain_text("Image query: identity not known", timeout=30_000)
    page.get_by_role("button", name="Clear").locator("visible=true").click()
    expect(page.get_by_role("heading", name="Who is this?")).to_be_visible(timeout=30_000)

    copied = io.BytesIO()
    Image.open(next((demo / "street-queries").glob("*.jpg"))).save(copied, "PNG")
    page.evaluate(COPY, base64.b64encode(copied.getvalue()).decode())
    page.keyboard.press("Control+v")
    expect(headline).to_contain_text("Image query", timeout=30_000)
    page.get_by_role("button", name="Paste from Clipboard").locator("visible=true").click()
    expect(headline).to_contain_text("Tracklet query of 2 pictures", timeout=30_000)
    page.get_by_role("button", name="Delete image").first.click(force=True)
    expect(headline).to_contain_text("Image query", timeout=30_000)


COPY = """async (picture) => {
  const bytes = Uint8Array.from(atob(picture), (one) => one.charCodeAt(0));
  const copied = new Blob([bytes], { type: 'image/png' });
  await navigator.clipboard.write([new ClipboardItem({ 'image/png': copied })]);
}"""


def test_several_pictures_and_clips_are_tracklet_queries(page: Page, demo: Path, tmp_path: Path) -> None:
    headline = page.get_by_role("status").filter(has_text="query")
    by_person: dict[str, list[Path]] = {}
    for path in sorted((demo / "street-queries").glob("*.jpg")):
        by_person.setdefault(path.name[:6], []).append(path)
    views = max(by_person.values(), key=len)
    choose(page, *views)
    expect(headline).to_contain_text(f"Tracklet query of {len(views)} pictures: identity", timeout=30_000)
    page.get_by_role("button", name="Clear").locator("visible=true").click()
    expect(page.get_by_role("heading", name="Who is this?")).to_be_visible(timeout=30_000)
    choose(page, write_clip(tmp_path / "walk.mp4", 20))
    expect(headline).to_contain_text("Tracklet query of 8 pictures: identity not known", timeout=30_000)


REFUSED = {
    "notes.png": (b"not a picture at all", "notes.png is not a picture"),
    "empty.jpg": (b"", "empty.jpg is an empty file"),
    "cut.mp4": (b"\0\0\0\x18ftypmp42" + b"\0" * 400, "cut.mp4 cannot be decoded"),
}
ODD = ("rotated.jpg", "cmyk.jpg", "sixteen-bit.png", "transparent.png", "moving.gif", "one-pixel.png")


def test_bad_files_are_refused_in_words_and_odd_ones_are_searched(page: Page, tmp_path: Path) -> None:
    for name, (content, _) in REFUSED.items():
        (tmp_path / name).write_bytes(content)
    Image.new("1", (12000, 12000)).save(tmp_path / "bomb.png")
    said = {name: words for name, (_, words) in REFUSED.items()} | {"bomb.png": "more than 64 million"}
    for name, words in said.items():
        choose(page, tmp_path / name)
        alert = page.get_by_role("alert").filter(has_text="No answer to this one")
        expect(alert).to_contain_text(words, timeout=30_000)
        expect(alert).to_be_in_viewport()
        expect(page.get_by_role("button", name="Save as CSV")).to_be_hidden()
        page.get_by_role("button", name="Clear").locator("visible=true").click()
        expect(page.get_by_role("heading", name="Who is this?")).to_be_visible(timeout=30_000)
    choose(page, *(write_odd(kind, tmp_path) for kind in ODD))
    expect(page.get_by_text(f"Tracklet query of {len(ODD)} pictures")).to_be_visible(timeout=30_000)
    assert "Traceback" not in page.content()


def test_nothing_asked_is_told_in_words(page: Page) -> None:
    page.get_by_role("button", name="Find matches").click()
    expect(page.get_by_role("alert")).to_contain_text("upload one or click an example", timeout=30_000)


WATCH_PROGRESS = """new MutationObserver(() => {
  window.steps = (window.steps ?? 0) + Boolean(document.querySelector('.vkd-maker [role=progressbar]'));
}).observe(document.body, { subtree: true, childList: true })"""


def made(page: Page, name: str) -> None:
    """Press Build and wait: there is progress, then the gallery is the one that is searched."""
    page.evaluate(WATCH_PROGRESS)
    page.get_by_label("Name (optional)").fill(name)
    page.get_by_role("button", name="Build", exact=True).click()
    expect(page.get_by_text(f"{name} is ready")).to_be_visible(timeout=60_000)
    assert page.evaluate("window.steps") > 0
    page.get_by_role("button", name="Networks and gallery").click()
    expect(page.get_by_label("Gallery", exact=True).locator("visible=true")).to_have_value(
        name, timeout=30_000
    )


def test_a_folder_becomes_the_gallery_that_is_searched(page: Page, small_street: Path) -> None:
    page.get_by_role("button", name="Build a gallery").click()
    page.get_by_label("Data set or folder of pictures").fill(str(small_street))
    made(page, "whole-street")
    choose(page, next((small_street / "bbox_test").rglob("*.jpg")))
    expect(page.get_by_text("gallery items in whole-street")).to_be_visible(timeout=30_000)


def test_a_zip_becomes_a_gallery_with_its_names(page: Page, small_street: Path, tmp_path: Path) -> None:
    pictures = sorted((small_street / "bbox_test").rglob("*.jpg"))[:4]
    packed = pack(
        tmp_path / "mine.zip",
        {
            f"mine/{'anna' if place < 2 else 'bert'}/{place}.jpg": path.read_bytes()
            for place, path in enumerate(pictures)
        },
    )
    choose(page, pictures[0])
    expect(columns(page)[0].get_by_role("listitem").first).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Build a gallery").click()
    page.locator(".vkd-maker input[type=file]").set_input_files(str(packed))
    expect(page.get_by_text("mine.zip")).to_be_visible(timeout=30_000)
    made(page, "my-people")
    # What was asked before is asked of the new gallery, without another click.
    expect(page.get_by_text("4 gallery items in my-people")).to_be_visible(timeout=30_000)
    expect(columns(page)[1].get_by_role("button", name="anna").first).to_be_visible()


def test_a_gallery_that_cannot_be_built_says_why(page: Page) -> None:
    page.get_by_role("button", name="Build a gallery").click()
    page.get_by_label("Data set or folder of pictures").fill("/nowhere/at/all")
    page.get_by_role("button", name="Build", exact=True).click()
    expect(page.get_by_text("/nowhere/at/all does not exist")).to_be_visible(timeout=30_000)


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


def test_two_visitors_do_not_see_each_other(page: Page, browser, app_address: str, tmp_path: Path) -> None:
    heard: list[str] = []
    with browser.new_context() as context:
        other = context.new_page()
        other.on("response", lambda answer: heard.append(answer.url))
        other.goto(app_address)
        expect(other.get_by_role("heading", name="Who is this?")).to_be_visible()
        Image.new("RGB", (30, 60), "purple").save(tmp_path / "private-picture.png")
        choose(page, tmp_path / "private-picture.png")
        expect(columns(page)[0].get_by_role("listitem").first).to_be_visible(timeout=30_000)
        with page.expect_download(timeout=30_000) as download:
            page.get_by_role("button", name="Save as CSV").locator("visible=true").click()
        assert download.value.path()
        expect(other.get_by_role("heading", name="Who is this?")).to_be_visible()
        assert "private-picture" not in other.content()
        other.reload()
        expect(other.get_by_role("heading", name="Who is this?")).to_be_visible()
        assert not [url for url in heard if "private-picture" in url or "vkd-matches" in url]


def test_a_match_is_explained_by_click_or_by_keyboard(page: Page) -> None:
    page.get_by_role("button", name="Example: identity").first.click()
    teacher, _ = columns(page)
    card = teacher.get_by_role("listitem").first.get_by_role("button")
    card.click(timeout=30_000)
    dialog = page.get_by_role("dialog", name="What the query shares with")
    expect(dialog.get_by_role("img", name="student heatmap of query").first).to_be_visible(timeout=30_000)
    expect(dialog.get_by_role("img", name="teacher heatmap of match").first).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(card).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible(timeout=30_000)
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_the_ranked_lists_can_be_kept(page: Page) -> None:
    page.get_by_role("button", name="Example: identity").first.click()
    expect(columns(page)[0].get_by_role("listitem").first).to_be_visible(timeout=30_000)
    for kind in ("csv", "png"):
        with page.expect_download(timeout=30_000) as download:
            save = page.get_by_role("button", name=f"Save as {kind.upper()}").locator("visible=true")
            expect(save).to_be_in_viewport()
            save.click()
        assert download.value.suggested_filename == f"vkd-matches.{kind}"
