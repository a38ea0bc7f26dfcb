"""Memory of the app after uploads and heatmaps. Prints figures, asserts nothing.

Run with: python tests/benchmarks/memory.py CHECKPOINTS [UPLOADS] [HEATMAPS]
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def resident(process: subprocess.Popen) -> float:
    """Resident memory of a process in MiB (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")


def measure(client: Client, process: subprocess.Popen, uploads: int, heatmaps: int, folder: Path) -> None:
    """Search `uploads` different pictures, explain `heatmaps` of them; a line every so often."""
    config = client.config["components"]
    labels = {part["props"].get("label"): part["props"].get("value") for part in config if "props" in part}
    gallery, teacher, student = (labels[name] for name in ("Gallery", "Teacher", "Student"))
    random = np.random.default_rng(0)
    took: dict[str, list[float]] = {"search": [], "explain": []}
    print(f"start: {resident(process):.0f} MiB", flush=True)
    for number in range(uploads + heatmaps):
        path = folder / f"{number}.png"
        Image.fromarray(random.integers(0, 255, (256, 128, 3), np.uint8)).save(path)
        query = [{"image": handle_file(path), "caption": None}]
        began = time.perf_counter()
        if number < uploads:
            given = (query, gallery, teacher, student, 10, [], False, "1 in 100")
            client.predict(*given, api_name="/search")
        else:
            given = (query, [], "top identity", "gradcam", teacher, student, "last", "")
            client.predict(*given, api_name="/explain")
        took["search" if number < uploads else "explain"].append(time.perf_counter() - began)
        path.unlink()
        if (number + 1) % 25 == 0:
            print(f"{number + 1} requests: {resident(process):.0f} MiB", flush=True)
    for what, seconds in took.items():
        if seconds:
            middle, high = np.percentile(seconds, [50, 95])
            print(f"{what}: median {middle:.2f} s, p95 {high:.2f} s of {len(seconds)}", flush=True)


def main() -> None:
    """Start the app, measure, end it by its own process id."""
    checkpoints, *counts = sys.argv[1:]
    uploads, heatmaps = (*map(int, counts), 200, 50)[:2] if len(counts) == 2 else (200, 50)
    command = [sys.executable, "-u", ROOT / "app.py", "--checkpoints", checkpoints]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        address = re.search(r"http://\S+", line)
        if address is None:
            raise SystemExit(f"The app did not open: {line}")
        with tempfile.TemporaryDirectory() as folder:
            measure(Client(address[0], verbose=False), process, uploads, heatmaps, Path(folder))
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main()
