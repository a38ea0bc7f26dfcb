"""A day of training: start, watch, refresh, a second visitor, a killed server, stop, resume, delete."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error as PlaywrightError

from tests.support.train_page import (
    Server,
    field,
    fill,
    headline,
    points,
    started,
    unfold,
    visit,
    wait_for_points,
)
from vkd.jobs import events, runs


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    made = Server(checkpoints, tmp_path / "app.txt")
    try:
        yield made
    finally:
        made.kill()
        for folder in checkpoints.glob("*/settings.json"):
            if runs.alive(folder.parent):
                runs.stop(folder.parent, patience=20)


def test_a_day_of_training(browser: Any, server: Server, small_street: Path):
    errors: list[str] = []
    page = visit(browser, server.open(), errors)
    page.get_by_text("No run yet").wait_for()

    # The data are looked at before anything is trained on them; nonsense is told beside its field.
    fill(page, "Data", Dataset_folder=small_street, Image_size="64 × 32")
    page.get_by_role("button", name="Inspect dataset").click()
    page.locator(".vkd-table").wait_for()
    fill(page, "Schedule", Identities_per_batch=1, Epochs=4000, Eval_interval=20)
    page.locator(".vkd-wrong-field").get_by_text("greater than or equal to 2").wait_for()
    fill(page, "Schedule", Identities_per_batch=4)
    page.locator(".vkd-wrong-field").wait_for(state="detached")
    fill(page, "Runtime", DataLoader_workers=0)
    teacher = started(page, server)
    headline(page, teacher.name).wait_for()
    headline(page, "training").wait_for()
    wait_for_points(page, "losses/total", 3)

    # The reader zooms, and new points do not take the zoom away.
    page.evaluate(
        "Plotly.relayout(document.querySelector(\"figure[data-series='losses/total'] .vkd-plot\"), "
        "{'xaxis.range[0]': 1, 'xaxis.range[1]': 2})"
    )
    wait_for_points(page, "losses/total", points(page, "losses/total") + 2)
    shown = "document.querySelector(\"figure[data-series='losses/total'] .vkd-plot\").layout.xaxis.range"
    assert page.evaluate(shown) == [1, 2]

    # A refresh forgets neither the form nor the run, and a second visitor finds it too.
    page.reload()
    page.get_by_role("tab", name="Train").click()
    headline(page, teacher.name).wait_for()
    unfold(page, "Schedule")
    assert field(page, "Epochs").input_value() == "4000"
    other = visit(browser, page.url.rstrip("/"), errors)
    headline(other, "training").wait_for()
    wait_for_points(other, "losses/total", 3)
    headline(page, "training").wait_for()
    page.context.close()

    # The server is killed and comes back: the run went on, and the open page finds it again.
    server.kill()
    before = len(events.read(teacher)[0])
    other.wait_for_timeout(1500)
    assert runs.alive(teacher)
    server.open()
    seen = points(other, "losses/total")
    with suppress(PlaywrightError):  # the page may be coming back by itself at this very moment
        other.reload()
    other.get_by_role("tab", name="Train").click()
    headline(other, "training").wait_for()
    wait_for_points(other, "losses/total", seen + 1)
    assert len(events.read(teacher)[0]) > before

    # Stop saves first; Resume goes on.
    other.get_by_role("button", name="Stop", exact=True).click()
    headline(other, "stopped").wait_for()
    stopped = runs.status(teacher)
    assert stopped.state == "stopped"
    assert (teacher / "training.pt").is_file()
    other.get_by_role("button", name="Resume").click()
    headline(other, "training").wait_for()
    wait_for_points(other, "losses/total", stopped.epoch + 1)

    # Attention: looks of the evaluations so far.
    other.get_by_role("tab", name="Grad-CAM over epochs").click()
    other.get_by_label("Epoch", exact=True).wait_for()
    assert other.locator(".vkd-attention img").count() >= 4 * 7
    other.get_by_role("tab", name="Curves").click()

    # A student in the queue behind it, with its teacher's level on its plots; a kill leaves word.
    other.get_by_label("student").check()
    field(other, "Backbone").wait_for(state="hidden")
    fill(other, "Data", Dataset_folder=small_street, Image_size="64 × 32")
    fill(other, "Schedule", Identities_per_batch=4, Epochs=4000, Eval_interval=2)
    fill(other, "Runtime", DataLoader_workers=0)
    student = started(other, server)
    headline(other, student.name).wait_for()
    headline(other, re.compile("Queued behind")).wait_for()
    runs.stop(teacher)
    wait_for_points(other, "losses/kd", 2)
    other.locator("figure[data-series='i2v/map']").get_by_text("teacher").first.wait_for()
    number = runs.pid(student)
    assert number is not None
    os.kill(number, signal.SIGKILL)
    headline(other, "killed").wait_for()
    headline(other, re.compile("Resume continues")).wait_for()

    # A phone shows what to train and the button, then the runs, then every setting; nothing overflows.
    other.set_viewport_size({"width": 390, "height": 844})
    places = [
        other.get_by_role("button", name="Start training"),
        other.locator("#vkd-train-list"),
        other.get_by_role("button", name=re.compile("^Schedule")).first,
    ]
    heights = [place.bounding_box()["y"] for place in places]
    assert heights == sorted(heights)
    assert other.evaluate("document.documentElement.scrollWidth") <= 390
    other.set_viewport_size({"width": 1440, "height": 900})

    # Delete asks.
    confirm = other.get_by_role("button", name="Delete permanently")
    other.get_by_role("button", name="Delete…").click()
    other.locator(".vkd-confirm").get_by_text(student.name).wait_for()
    other.locator(".vkd-confirm").get_by_role("button", name="Cancel").click()
    confirm.wait_for(state="hidden")
    other.get_by_role("button", name="Delete…").click()
    confirm.wait_for()
    other.get_by_role("button", name=teacher.name, exact=True).click()  # another run: the question closes
    confirm.wait_for(state="hidden")
    other.get_by_role("button", name=student.name, exact=True).click()
    headline(other, student.name).wait_for()
    other.get_by_role("button", name="Delete…").click()
    other.locator(".vkd-confirm").get_by_text(student.name).wait_for()
    confirm.click()
    headline(other, teacher.name).wait_for()
    assert not student.exists()
    assert teacher.is_dir()
    refused = ("ERR_CONNECTION_REFUSED", "Failed to fetch", "network error", "Could not")
    other.context.close()
    assert [error for error in errors if not any(word in error for word in refused)] == []
