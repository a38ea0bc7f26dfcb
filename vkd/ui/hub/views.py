"""What came from the Hub and what would go there, as HTML and as data. Cards are a stranger's text."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vkd.hub import pull
from vkd.hub.push import Plan
from vkd.models import config
from vkd.models.backbones import BACKBONES
from vkd.ui import html
from vkd.ui.html import escape
from vkd.ui.hub import prose
from vkd.ui.hub.hub_jobs import Job

_MOST_PICTURE = 4 * 2**20
_FACTS = {"license": "licence", "library_name": "library", "base_model": "made from", "datasets": "data"}
_DOING = {"pull": "Pulling", "push": "Pushing"}


def amount(count: float) -> str:
    """A number of bytes for a person."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


# ---- on the way


def progress_html(job: Job) -> str:
    """How far a job is: bytes, file, time left."""
    name, doing = escape(job.repo), _DOING[job.kind]
    share = 100 * job.done / job.total if job.total else 0
    if job.stop.is_set():
        told = "Cancelling: what is under way comes to its end, and nothing of it is kept."
    elif not job.total:
        told = "Asking the Hub." if job.kind == "pull" else "Packing, and asking the Hub."
    elif job.done >= job.total:
        told = "Checking what came." if job.kind == "pull" else "All is there; the Hub makes a commit of it."
    else:
        left = job.left()
        when = "" if left is None else f" · about {_duration(left)} left"
        told = f"{escape(job.file)} · {amount(job.done)} of {amount(job.total)}{when}"
    return (
        f'<div class="vkd-sending" role="status"><p class="vkd-headline">{doing} {name}</p>'
        f'<p class="vkd-detail">{told}</p><div class="vkd-progress" role="progressbar" '
        f'aria-label="Bytes of {name}" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share:.0f}">'
        f'<i style="width:{share:.1f}%"></i></div></div>'
    )


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def refused_html(wrong: str) -> str:
    """A sentence of what went wrong, where the answer would be; plain text in."""
    return refusal(escape(wrong))


def refusal(sentence: str) -> str:
    """The same of a sentence that is safe HTML, as `parts.kindly` makes it."""
    return f'<section class="vkd-sent vkd-refused" role="alert"><p>{sentence}</p></section>'


def stopped_html(job: Job) -> str:
    """A job that somebody cancelled."""
    kept = "Nothing of it was kept." if job.kind == "pull" else "Nothing was committed."
    told = f"<p><b>{escape(job.repo)}</b>: cancelled. {kept}</p>"
    return f'<section class="vkd-sent" role="status">{told}</section>'


def ended_html(job: Job) -> str:
    """The last word on a job that was cancelled or failed, or on a push."""
    if job.state == "done":
        return sent_html(job)
    return stopped_html(job) if job.state == "cancelled" else refused_html(job.wrong)


# ---- what came


def pulled_html(pulled: Sequence[pull.Pulled]) -> str:
    """What came: folder, commit, network; what to do with it; the cards, that of the asked one first."""
    rows = "".join(_came(each) for each in pulled)
    tabs = " ".join(
        f'<button type="button" data-tab="{tab}">{tab}</button>'
        for tab in ("Retrieve", "Explain", "Evaluate")
    )
    told = " and ".join(f"<b>{escape(each.folder.name)}</b>" for each in pulled)
    shown = "".join(
        _card_box(f"Card of {each.repo}", read_card(each.folder), pictures_of(each.folder), f"came-{number}",
                  opened=number == 0)
        for number, each in enumerate(reversed(pulled))
    )  # fmt: skip
    return (
        f'<section class="vkd-parcel" role="status" aria-label="Pulled">{rows}'
        f'<p class="vkd-use">{told} can be chosen now. Use it in {tabs} '
        "(to search with it, build a gallery with it under Retrieve).</p></section>"
        f"{shown}"
    )


def _came(one: pull.Pulled) -> str:
    known = config.read_config(one.folder)
    notes = []
    if one.offline:
        notes.append(
            "The Hub was out of reach: this came from this machine's cache, where an earlier pull left it."
        )
    if one.unchanged:
        notes.append("This commit was here already; nothing was downloaded.")
    height, width = known.image_size
    facts = [
        BACKBONES[known.backbone].label, f"{height} × {width} pixels", known.dataset or "data set not told",
        f"{known.identities} identities", f"epoch {known.epoch}", amount(sum(_sizes(one.folder).values())),
    ]  # fmt: skip
    note = f'<p class="vkd-note">{" ".join(notes)}</p>' if notes else ""
    return (
        f'<div class="vkd-came vkd-{escape(known.stage)}"><h3><span class="vkd-part">'
        f"{escape(known.stage.capitalize())}</span> {escape(one.folder.name)}</h3>"
        f'<p class="vkd-detail">{escape(" · ".join(facts))}</p>'
        f'<p class="vkd-detail">from {escape(one.repo)} at commit <code>{escape(one.commit[:12])}</code></p>'
        f"{note}</div>"
    )


def pulled_data(pulled: Sequence[pull.Pulled]) -> list[dict[str, Any]]:
    """What came as JSON; the teacher first."""
    found = []
    for one in pulled:
        known = config.read_config(one.folder)
        found.append(
            {
                "checkpoint": one.folder.name,
                "repo": one.repo,
                "commit": one.commit,
                "offline": one.offline,
                "there": one.unchanged,
                "stage": known.stage,
                "backbone": known.backbone,
                "dataset": known.dataset,
                "files": _sizes(one.folder),
                "card": read_card(one.folder),
            }
        )
    return found


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}


def read_card(folder: Path) -> str:
    """README.md of a folder, or nothing; at most what is shown."""
    path = folder / "README.md"
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(prose.MOST)


def pictures_of(folder: Path) -> dict[str, str]:
    """Pictures that lie beside a card, as data URIs by their names."""
    found = [path for path in folder.glob("*.png") if path.stat().st_size <= _MOST_PICTURE]
    return {path.name: html.file_uri(path) for path in found if path.read_bytes()[:4] == b"\x89PNG"}


# ---- what would go


def plan_html(planned: Plan, terms: str) -> str:
    """The files and their sizes, what stays here, where it goes, the card as it will be."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(each.path)}</th><td>{amount(each.size)}</td></tr>"
        for each in planned.files
    )
    total = sum(each.size for each in planned.files)
    left = (
        f'<p class="vkd-staying"><b>Stays here</b> {escape(", ".join(planned.kept_local))}</p>'
        if planned.kept_local
        else '<p class="vkd-staying"><b>Stays here</b> Nothing: all of the folder would go.</p>'
    )
    uris = {
        name: f"data:image/png;base64,{base64.b64encode(held).decode()}"
        for name, held in planned.images.items()
    }
    return (
        '<section class="vkd-parcel" role="status" aria-label="Preview">'
        f'<p class="vkd-headline">{len(planned.files)} files, {amount(total)}, would go to '
        f'{escape(planned.repo)}</p><p class="vkd-detail">{escape(terms)} Nothing has been sent yet.</p>'
        f'<div class="vkd-luggage"><table class="vkd-files"><tbody>{rows}</tbody></table>{left}</div>'
        "</section>"
        f"{_card_box('The card as it will be', planned.card, uris, 'goes', opened=True)}"
    )


def plan_data(planned: Plan) -> dict[str, Any]:
    """The plan as JSON; `previewed` is what a push must repeat."""
    return {
        "repo": planned.repo,
        "files": {each.path: each.size for each in planned.files},
        "left": list(planned.kept_local),
        "card": planned.card,
        "previewed": planned.digest,
    }


def sent_html(job: Job) -> str:
    """Where it is now."""
    safe = escape(job.url)
    link = f'<a href="{safe}" target="_blank" rel="noopener noreferrer">{safe}</a>'
    shown = link if job.url.startswith(("https://", "http://")) else safe
    return (
        '<section class="vkd-sent" role="status" aria-label="Pushed"><p><b class="vkd-go">Sent.</b> '
        f"{escape(job.repo)} has it now, {amount(job.total)}: {shown}</p>"
        f"<p>Elsewhere: <code>vkd hub pull {escape(job.repo)}</code></p></section>"
    )


# ---- cards


def _card_box(title: str, text: str, pictures: Mapping[str, str], mark: str, *, opened: bool) -> str:
    data, body = prose.parts_of(text)
    facts = "".join(
        f"<li><b>{name}</b> {escape(', '.join(prose.words(data[key])))}</li>"
        for key, name in _FACTS.items()
        if prose.words(data.get(key, []))
    )
    tags = "".join(f"<li>{escape(tag)}</li>" for tag in prose.words(data.get("tags", [])))
    shown = prose.as_html(body, pictures, mark) if body.strip() else "<p>It has no card.</p>"
    if len(text) >= prose.MOST:
        shown += "<p>The rest is not shown: the card is very long.</p>"
    return (
        f'<details class="vkd-letter"{" open" if opened else ""}><summary>{escape(title)}</summary>'
        f'<ul class="vkd-chips">{facts}{tags}</ul><article class="vkd-prose" tabindex="0" '
        f'aria-label="{escape(title)}">{shown}</article></details>'
    )
