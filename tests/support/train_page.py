"""Helpers of the browser stories of training: an app killed and started again, the form, the curves."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """`python app.py` on one port, killed and started again at will."""

    def __init__(self, checkpoints: Path, log: Path) -> None:
        self.checkpoints, self.log, self.port = checkpoints, log, ""
        self.process: subprocess.Popen[bytes] | None = None

    def open(self) -> str:
        self.log.write_text("")
        command = [sys.executable, "-u", str(ROOT / "app.py"), "--checkpoints", str(self.checkpoints)]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [*command, *(["--port", self.port] if self.port else [])],
                stdout=output,
                stderr=output,
                # Trainers inherit it: a tiny network gains nothing from threads.
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        deadline = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", self.log.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"The app did not open:\n{self.log.read_text()}")
            time.sleep(0.1)
        self.port = found[1]
        return found[0]

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)


def visit(browser: Any, address: str, errors: list[str]) -> Any:
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(90_000)  # a busy machine draws slowly; what is there is not waited for
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((address, "data:", "blob:")) else errors.append(asked.url),
    )
    page.goto(address)
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("button", name="Start training").wait_for()
    return page


def field(page: Any, label: str) -> Any:
    """An input by its label; the label of a text box has its help in it too."""
    return page.get_by_label(re.compile(rf"^\s*{label.replace('_', ' ')}\b")).first


def unfold(page: Any, group: str) -> None:
    page.get_by_role("button", name=re.compile(rf"^{group}\b")).first.click()


def fill(page: Any, group: str, **values: object) -> None:
    """Open a group of the form and fill fields in by their labels."""
    if not field(page, next(iter(values))).is_visible():
        unfold(page, group)
    for label, value in values.items():
        field(page, label).fill(str(value))
        field(page, label).blur()


def started(page: Any, server: Server) -> Path:
    before = set(server.checkpoints.glob("*/settings.json"))
    page.get_by_role("button", name="Start training").click()
    deadline = time.monotonic() + 60
    while not (new := set(server.checkpoints.glob("*/settings.json")) - before):
        assert time.monotonic() < deadline, page.locator("body").inner_text()
        page.wait_for_timeout(200)
    return new.pop().parent


def headline(page: Any, text: str | re.Pattern[str]) -> Any:
    return page.locator("#vkd-train-headline").get_by_text(text).first


def points(page: Any, series: str) -> int:
    """How many points of a curve the page shows."""
    return page.evaluate(
        "(at) => document.querySelector(at)?.data?.[0]?.x.length ?? 0",
        f"figure[data-series='{series}'] .vkd-plot",
    )


def wait_for_points(page: Any, series: str, count: int) -> None:
    deadline = time.monotonic() + 90
    while points(page, series) < count:
        assert time.monotonic() < deadline, page.locator("#vkd-train-headline").inner_text()
        page.wait_for_timeout(200)
