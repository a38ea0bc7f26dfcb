"""HTML of runs: the list, the selected run, its log; each part with a digest of its content."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vkd.jobs.runs import is_record
from vkd.metrics.ranking import METRICS, headlines, metric_value
from vkd.ui.html import render
from vkd.ui.train import runs
from vkd.ui.train.runs import Run

STATES = {
    "new": "not started", "starting": "starting", "waiting": "queued", "running": "training",
    "stopping": "saving, then stopping", "finished": "finished", "stopped": "stopped", "failed": "failed",
    "died": "killed", "broken": "unreadable", "damaged": "unreadable",
}  # fmt: skip


def marked(html: str) -> str:
    """Wraps HTML with its digest, which a page sends back to get changes only."""
    mark = hashlib.sha1(html.encode(), usedforsecurity=False).hexdigest()[:12]
    return f'<div data-mark="{mark}">{html}</div>'


def mark_of(html: str) -> str:
    """Returns the digest that `marked` put into HTML."""
    match = re.match(r'<div data-mark="(\w+)">', html)
    return match[1] if match else ""


def _score(metric: str, value: float) -> str:
    return metric_value(metric, value, 1, " %")


def duration(seconds: float) -> str:
    """Formats seconds: '40 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def list_html(listed: Sequence[Run], selected: Sequence[str], colours: Mapping[str, int]) -> str:
    """Renders the list of runs: colour and box, name, stage, state, progress, score."""
    rows = [_row(run, selected, colours) for run in listed]
    return marked(render("train/list.html.j2", rows=rows))


def _row(run: Run, selected: Sequence[str], colours: Mapping[str, int]) -> dict[str, Any]:
    status = run.status
    protocol, scores = next(iter(status.scores.items()), ("", {}))
    score = next(
        (f"{protocol.upper()} {METRICS[key].title} {_score(key, scores[key])}" for key in headlines(scores)),
        "",
    )
    left = f"{duration(status.seconds_left)} left" if run.state == "running" and status.seconds_left else ""
    return {
        "run": run, "state": STATES[run.state], "colour": colours.get(run.name, 0), "score": score,
        "drawn": run.name in selected, "current": run.name in selected[:1], "left": left,
        "share": round(100 * status.epoch / status.epochs) if status.epochs else 0,
    }  # fmt: skip


def headline_html(run: Run) -> str:
    """Renders the selected run: state, numbers, what went wrong, latest scores."""
    status, pace = run.status, run.pace or {}
    facts = [f"epoch {status.epoch} of {status.epochs}"] if status.epochs else []
    if run.state == "running" and status.seconds_left is not None:
        facts.append(f"{duration(status.seconds_left)} left")
    if run.state in ("running", "stopping") and "images_per_second" in pace:
        facts.append(f"{pace['images_per_second']:.0f} images/s")
    if "memory_mb" in pace:
        facts.append(f"peak memory {pace['memory_mb'] / 1024:.1f} GiB")
    if run.settings:
        facts += [run.settings.dataset, runs.backbone(run.settings, run.folder.parent) or "unknown backbone"]
    notes = list(run.notes)
    if run.invalid_lines:
        notes.append(f"events.jsonl: invalid lines ignored: {run.invalid_lines}.")
    why = f"{run.why[:1].upper()}{run.why[1:].rstrip('.')}." if run.why and run.state != "finished" else ""
    ended = run.state in ("died", "failed")
    return marked(
        render(
            "train/headline.html.j2", run=run, state=STATES[run.state], facts=facts, why=why, notes=notes,
            saved=runs.saved_state(run.folder) if ended else "", tiles=_tiles(run), ap=_ap_convention(run),
            log=runs.log_tail(run.folder, 6) or "(the log is empty)" if run.state == "died" else "",
        )
    )  # fmt: skip


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """Returns (title, score, scores to compare with) of the last evaluation."""
    if not run.settings or not run.status.scores:
        return []
    levels = runs.levels(run.settings, run.folder.parent)
    tiles = []
    for protocol, metrics in run.status.scores.items():
        for metric in headlines(metrics):
            series = f"{protocol}/{metric}"
            beside = " · ".join(
                f"{level.source} {_score(metric, level.value)}" for level in levels if level.series == series
            )
            title = f"{protocol.upper()} {METRICS[metric].title}"
            tiles.append((title, _score(metric, metrics[metric]), beside))
    return tiles


def _ap_convention(run: Run) -> str:
    first = next(iter(run.status.scores.values()), {})
    return "trapezoid" if first.get("map") == first.get("map_trapezoid") else "standard"


def log_html(root: Path, selected: Sequence[str]) -> str:
    """Renders the end of the selected run's log."""
    text = runs.log_tail(root / selected[0]) if selected else ""
    imported = bool(selected) and is_record(root / selected[0])
    nothing = "Imported run: it has no log." if imported else "Nothing was printed yet."
    return marked(render("train/log.html.j2", text=text or nothing))
