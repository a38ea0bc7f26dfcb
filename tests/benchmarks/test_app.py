"""How the app feels: opening, searching, heatmaps, many watchers of one run, memory. Prints a Markdown table.

On a quiet machine, from the repository's root, with the demo pair that ships:

    OMP_NUM_THREADS=2 python tests/benchmarks/test_app.py

Everything stays on this machine: a server of its own on the loopback address, one visitor's requests one
after another, watchers that tick every two seconds as an open page does. It takes about four minutes. The
test below takes the same figures with very small counts, where benchmarks are enabled, and looks at no time.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from vkd.jobs import runs  # noqa: E402
from vkd.jobs.events import recording  # noqa: E402
from vkd.training.presets import PRESETS  # noqa: E402

TICK_SECONDS = 2.0  # of an open Train tab
_PART = re.compile(r'data-mark="(\w+)"')

# --- the server ---------------------------------------------------------------------------------------------


@contextmanager
def served(checkpoints: Path) -> Iterator[tuple[str, int, float]]:
    """The app in its own process: address, process number, and the moment at which it was started."""
    with tempfile.TemporaryFile("w+") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "app.py"), "--checkpoints", str(checkpoints)],
            stdout=log,
            stderr=log,
        )
        try:
            while True:
                log.seek(0)
                told = log.read()
                if found := re.search(r"http://127\.0\.0\.1:\d+", told):
                    break
                if process.poll() is not None or time.perf_counter() - began > 180:
                    raise RuntimeError(f"The app did not open:\n{told}")
                time.sleep(0.02)
            yield found[0], process.pid, began
        finally:
            process.terminate()
            process.wait(20)


def memory(pid: int) -> float:
    """MiB that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def seconds_to_use(address: str, began: float) -> tuple[str, float]:
    """Until a person can click: in a browser where there is one, else until the page is answered."""
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            launched = time.perf_counter()
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
            )
            ready = time.perf_counter() - launched  # the visitor's browser is open already
            page = browser.new_page()
            page.goto(address)
            page.get_by_role("button", name="Search", exact=True).wait_for()
            spent = time.perf_counter() - began - ready
            browser.close()
            return "process start to a page that can be used (browser)", spent
    except Exception as error:
        print(f"No browser ({type(error).__name__}): the page's answer is timed instead.", file=sys.stderr)
        httpx.get(address, timeout=60).raise_for_status()
        return "process start to the page's answer", time.perf_counter() - began


# --- one visitor --------------------------------------------------------------------------------------------


def timed(count: int, ask: Callable[[int], Any]) -> list[float]:
    """Seconds of each of `count` requests, one after another."""
    spent = []
    for number in range(count):
        began = time.perf_counter()
        ask(number)
        spent.append(time.perf_counter() - began)
    return spent


class Visitor:
    """Uploads pictures that the app has never seen: shipped queries with noise of their own."""

    def __init__(self, address: str, checkpoints: Path, place: Path) -> None:
        self.client = Client(address, verbose=False, analytics_enabled=False)
        self.place = place
        self.queries = sorted((checkpoints / "street-queries").glob("*.jpg"))
        names = sorted(path.parent.name for path in checkpoints.glob("*/config.json"))
        self.networks = [next(name for name in names if name.endswith(end)) for end in ("teacher", "student")]
        self.noise = np.random.default_rng(0)

    def picture(self) -> list[dict[str, Any]]:
        path = self.place / "query.jpg"
        pixels = np.asarray(Image.open(self.queries[self.noise.integers(len(self.queries))])).astype(int)
        noisy = np.clip(pixels + self.noise.integers(-6, 7, pixels.shape), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(path, quality=92)
        return [{"image": handle_file(path), "caption": None}]

    def search(self, _: int = 0) -> None:
        given = ("street-gallery", *self.networks, 10, [], False, "1 %")
        self.client.predict(self.picture(), *given, api_name="/search")

    def explain(self, _: int = 0) -> None:
        given = ([], "top identity", "gradcam", *self.networks)
        self.client.predict(self.picture(), *given, api_name="/explain")


# --- watchers -----------------------------------------------------------------------------------------------


@contextmanager
def training(checkpoints: Path) -> Iterator[str]:
    """A run that makes an epoch of events every half second, with a log; without the work of training."""
    folder = runs.create(checkpoints, PRESETS["street-tiny-teacher"].settings(), "watched")
    over = threading.Event()

    def events() -> Iterator[dict[str, Any]]:
        yield {"kind": "started", "epoch": 0, "time": time.time(), "epochs": 10_000, "notes": []}
        for epoch in range(1, 10_000):
            losses = dict.fromkeys(("class", "triplet", "kd", "dp", "total"), 1 / epoch)
            now = {"epoch": epoch, "time": time.time()}
            yield {"kind": "epoch", **now, "losses": losses, "learning_rate": 1e-4, "images_per_second": 99.0}
            if epoch > 200 and over.wait(0.5):  # the first 200 are there when the first watcher comes
                return

    def write() -> None:
        with runs.lock(folder), recording(folder) as record, (folder / "log.txt").open("a") as log:
            for event in events():
                record(event)
                log.write(f"epoch {event['epoch']}\n")
                log.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield folder.name
    finally:
        over.set()
        writer.join()


class Watcher:
    """An open Train tab, as the server sees it: a tick, its answer, and what the page has then."""

    def __init__(self, address: str, run: str, number: int) -> None:
        self.http = httpx.Client(base_url=f"{address}/gradio_api", timeout=60)
        config = httpx.get(f"{address}/config", timeout=60).json()
        self.tick_id = next(
            made["id"]
            for made in config["dependencies"]
            if len(made["outputs"]) == 9 and any(target[1] == "tick" for target in made["targets"])
        )
        self.session, self.shown = f"watcher{number}", [run]
        self.have: dict[str, Any] = {"runs": {}, "order": [run], "looks": {"run": run, "epochs": []}}
        self.points = 0

    def tick(self) -> None:
        asked = {
            "data": [None, self.shown, self.have],
            "fn_index": self.tick_id,
            "session_hash": self.session,
        }
        self.http.post("/queue/join", json=asked).raise_for_status()
        with self.http.stream("GET", "/queue/data", params={"session_hash": self.session}) as answer:
            for line in answer.iter_lines():
                told = json.loads(line[5:]) if line.startswith("data:") else {}
                if told.get("msg") == "process_completed":
                    assert told["success"], told
                    self.take(told["output"]["data"])
                    return
        raise RuntimeError("a tick was not answered")

    def take(self, pieces: list[Any]) -> None:
        for name, piece in zip(("list", "headline", None, None, "log"), pieces[1:6], strict=True):
            if name and isinstance(piece, str):
                self.have[name] = _PART.findall(piece)[0]
        if isinstance(pieces[3], dict) and "runs" in pieces[3]:
            for run, part in pieces[3]["runs"].items():
                self.have["runs"][run] = part["to"]
                self.points += len(part["points"])


def watched(address: str, run: str, watchers: int, seconds: float) -> tuple[list[float], int]:
    """Seconds of every tick of so many watchers, each for so long; and the points that the first got."""
    spent: list[float] = []
    until = time.monotonic() + seconds
    open_pages = [Watcher(address, run, number) for number in range(watchers)]

    def watch(page: Watcher, wait: float) -> None:
        time.sleep(wait)
        while time.monotonic() < until or not page.points:
            began = time.perf_counter()
            page.tick()
            spent.append(time.perf_counter() - began)
            time.sleep(max(0.0, TICK_SECONDS - spent[-1]))

    threads = [
        threading.Thread(target=watch, args=(page, TICK_SECONDS * number / watchers))
        for number, page in enumerate(open_pages)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spent, open_pages[0].points


# --- all of it ----------------------------------------------------------------------------------------------


def measure(
    checkpoints: Path, uploads: int, heatmaps: int, watchers: int, seconds: float
) -> list[tuple[str, str]]:
    """Every figure: (what, how much). The checkpoints are linked into a folder of their own, and stay as they
    are.
    """
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "checkpoints"
        place.mkdir()
        for folder in checkpoints.iterdir():
            (place / folder.name).symlink_to(folder.resolve())
        with served(place) as (address, pid, began):
            what, spent = seconds_to_use(address, began)
            rows.append((what, f"{spent:.1f} s"))
            visitor = Visitor(address, place, Path(scratch))
            timed(10, visitor.search), timed(5, visitor.explain)  # what is kept is kept now
            before = memory(pid)
            rows.append(("upload to both ranked lists", figures(timed(uploads, visitor.search))))
            rows.append(("upload to both heatmaps", figures(timed(heatmaps, visitor.explain))))
            after = memory(pid)
            grown = f"{before:.0f} MiB → {after:.0f} MiB"
            rows.append((f"memory over {uploads} uploads and {heatmaps} heatmaps", grown))
            with training(place) as run:
                ticks, points = watched(address, run, watchers, seconds)
            assert points >= 200, "the watchers saw no curves"
            rows.append(
                (f"tick of {watchers} watchers of one run, every {TICK_SECONDS:.0f} s", figures(ticks))
            )
    return rows


def figures(spent: list[float]) -> str:
    """Median, 95th percentile and how many there were."""
    ordered = sorted(spent)
    high = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return f"median {1000 * statistics.median(ordered):.0f} ms, p95 {1000 * high:.0f} ms (n = {len(ordered)})"


def table(rows: list[tuple[str, str]]) -> str:
    width = max(len(what) for what, _ in rows)
    lines = [f"| {what.ljust(width)} | {much} |" for what, much in rows]
    return "\n".join([f"| {'What'.ljust(width)} | How much |", f"|{'-' * (width + 2)}|---|", *lines])


def test_every_figure_is_taken(
    pytestconfig: pytest.Config, small_street: Path, tiny_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    from tests.support.demo import build_demo

    if not pytestconfig.getoption("benchmark_enable"):
        pytest.skip("It takes 20 s, and what it starts has tests of its own: pytest --benchmark-enable")
    for folder in tiny_pair:
        (tmp_path / folder.name).symlink_to(folder)
    build_demo(small_street, *tiny_pair, tmp_path, identities=8, queries=2)
    rows = measure(tmp_path, uploads=2, heatmaps=2, watchers=2, seconds=1)
    assert len(rows) == 5
    assert "(n = 2)" in table(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints", help="folder with the demo")
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--heatmaps", type=int, default=50)
    parser.add_argument("--watchers", type=int, default=20, help="20 at most")
    parser.add_argument("--seconds", type=float, default=60, help="how long they watch, 120 at most")
    chosen = parser.parse_args()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    watchers, seconds = min(chosen.watchers, 20), min(chosen.seconds, 120)
    print(table(measure(chosen.checkpoints, chosen.uploads, chosen.heatmaps, watchers, seconds)))
