"""Runs as HTML: the list, the headline of the chosen one, its log. Text from outside is escaped here.

Each piece carries a mark (`data-mark`, its fingerprint), by which a page says what it shows already, so that
only what is new is sent.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from vkd.jobs import runs
from vkd.ui.html import escape
from vkd.ui.train import troubles
from vkd.ui.train.runs import MOST_SHOWN, Run, backbone, duration, log_tail, references

WORDS = {
    "new": "not started",
    "starting": "starting",
    "waiting": "waiting",
    "running": "training",
    "stopping": "saving, then stopping",
    "finished": "finished",
    "stopped": "stopped",
    "failed": "failed",
    "died": "died",
    "broken": "unreadable",
    "damaged": "unreadable",
}


def marked(html: str) -> str:
    """HTML that carries its own fingerprint, by which a page says that it shows it already."""
    mark = hashlib.sha1(html.encode(), usedforsecurity=False).hexdigest()[:12]
    return f'<div data-mark="{mark}">{html}</div>'


def mark_of(html: str) -> str:
    found = re.match(r'<div data-mark="(\w+)">', html)
    return found[1] if found else ""


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def list_html(found: Sequence[Run], shown: Sequence[str]) -> str:
    """The list of runs: a colour and a box for drawing it, its name, its state, how far, its score."""
    if not found:
        return marked(
            '<section class="vkd-empty vkd-empty-runs"><h2>No run yet</h2><p>Choose a preset on the left and '
            "start: the demo presets finish in minutes on a CPU. A run goes on when this page is closed.</p>"
            "</section>"
        )
    return marked(f'<ul class="vkd-runs">{"".join(_row(run, shown) for run in found)}</ul>')


def _row(run: Run, shown: Sequence[str]) -> str:
    drawn = run.name in shown
    colour = shown.index(run.name) % MOST_SHOWN if drawn else -1
    status = run.status or runs.RunStatus("new")
    share = 100 * status.epoch / status.epochs if status.epochs else 0
    protocol = next(iter(status.scores), "")
    score = f"{protocol.upper()} mAP {percent(status.scores[protocol].get('map'))}" if protocol else ""
    left = f"{duration(status.seconds_left)} left" if run.state == "running" and status.seconds_left else ""
    name = escape(run.name)
    current = ' aria-current="true"' if shown and run.name == shown[0] else ""
    return (
        f'<li class="vkd-run vkd-is-{run.state}"{current} data-run="{name}" data-colour="{colour}">'
        f'<label class="vkd-draw"><input type="checkbox"{" checked" if drawn else ""} '
        f'aria-label="Draw the curves of {name}"><i></i></label>'
        f'<button type="button" class="vkd-run-name">{name}</button>'
        f'<span class="vkd-chip vkd-{escape(run.stage)}">{escape(run.stage)}</span>'
        f'<span class="vkd-state">{WORDS[run.state]}</span>'
        f'<span class="vkd-progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share:.0f}" aria-label="{status.epoch} of {status.epochs} epochs">'
        f'<i style="width:{share:.0f}%"></i></span>'
        f'<span class="vkd-epochs">{status.epoch} / {status.epochs}</span>'
        f'<span class="vkd-run-score">{escape(score)}</span><span class="vkd-left">{left}</span></li>'
    )


def headline_html(run: Run) -> str:
    """What there is to know of the chosen run: its state in a sentence, its numbers, what went wrong."""
    status = run.status or runs.RunStatus("new")
    facts = [f"epoch {status.epoch} of {status.epochs}"] if status.epochs else []
    if run.state == "running" and status.seconds_left is not None:
        facts.append(f"{duration(status.seconds_left)} left")
    if run.pace and run.state in ("running", "stopping"):
        facts.append(f"{run.pace.get('images_per_second', 0):.0f} images/s")
    if run.pace and run.pace.get("memory_mb"):
        facts.append(f"{run.pace['memory_mb']:.0f} MiB of memory at most")
    if run.settings:
        trunk = backbone(run.settings, run.folder.parent) or "unknown trunk"
        facts.append(f"{run.settings.dataset}, {trunk}")
    why = "" if run.state == "finished" or not run.why else f'<p class="vkd-why">{escape(_sentence(run))}</p>'
    return marked(
        f'<div class="vkd-run-head vkd-is-{run.state}"><h3>{escape(run.name)}</h3>'
        f'<p class="vkd-facts-line" role="status"><b class="vkd-state">{WORDS[run.state]}</b> · '
        f"{escape(' · '.join(facts))}</p>{why}{_ended(run)}{_kept(run)}{_notes(run)}{_tiles(run)}</div>"
    )


def _sentence(run: Run) -> str:
    return f"It {run.why}." if run.state == "waiting" else f"{run.why[:1].upper()}{run.why[1:].rstrip('.')}."


def _ended(run: Run) -> str:
    """What a run that ended too early kept and, of one that could not say why, the end of its log."""
    if run.state not in ("died", "failed"):
        return ""
    kept = escape(troubles.saved(run.folder))
    if run.state == "failed":
        return f'<p class="vkd-kept">{kept}</p>'
    tail = escape(log_tail(run.folder, 6)) or "(the log is empty)"
    return (
        '<p class="vkd-why">Its process ended without a last word (killed, out of memory, a power cut).</p>'
        f'<p class="vkd-kept">{kept} The last lines of its log:</p><pre class="vkd-last-lines">{tail}</pre>'
    )


def _kept(run: Run) -> str:
    if not run.record:
        return ""
    return (
        '<p class="vkd-facts-line">Trained before it came here: its curves and looks came along, its '
        "training.pt did not, so it cannot go on. “Use its settings” puts them into the form.</p>"
    )


def _notes(run: Run) -> str:
    notes = list(run.notes)
    if run.damaged:
        lines = "1 line" if run.damaged == 1 else f"{run.damaged} lines"
        notes.append(
            f"{lines} of its events.jsonl cannot be read and {'is' if run.damaged == 1 else 'are'} left out."
        )
    return "".join(f'<p class="vkd-note">{escape(note)}</p>' for note in notes)


def _tiles(run: Run) -> str:
    """The latest scores, each with its difference to the teacher's and the published one."""
    if not run.status or not run.settings or not run.status.scores:
        return ""
    lines = references(run.settings, run.folder.parent)
    levels = {(line["text"], line["series"]): line["value"] for line in lines}
    tiles = []
    for protocol, metrics in run.status.scores.items():
        for metric, words in (("map", "mAP"), ("top1", "top-1")):
            value = metrics.get(metric)
            if not isinstance(value, int | float):
                continue
            beside = []
            for text in ("teacher", "published"):
                level = levels.get((text, f"{protocol}/{metric}"))
                if level is not None:
                    beside.append(f"{text} {percent(level)}")
            tiles.append(
                f'<div class="vkd-tile"><span>{escape(protocol.upper())} {words}</span>'
                f"<b>{percent(value)}</b>"
                f"<small>{escape(' · '.join(beside))}</small></div>"
            )
    first = next(iter(run.status.scores.values()))
    convention = "trapezoid" if first.get("map") == first.get("map_trapezoid") else "standard"
    label = f"<small>test split, last evaluation, {convention} AP</small>"
    return f'<div class="vkd-tiles">{"".join(tiles)}<div class="vkd-tile vkd-tile-note">{label}</div></div>'


def log_html(root: Path, shown: Sequence[str]) -> str:
    text = log_tail(root / shown[0]) if shown else ""
    elsewhere = bool(shown) and runs.is_record(root / shown[0])
    nothing = "Its log stayed where it was trained." if elsewhere else "Nothing was printed yet."
    told = escape(text) or nothing
    return marked(f'<pre class="vkd-log" tabindex="0" aria-label="Log">{told}</pre>')
