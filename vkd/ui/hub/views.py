"""HTML and data of the Hub tab: progress of a job, pulled checkpoints, the preview of a push, cards."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vkd.hub.pull import Pulled
from vkd.hub.push import Plan, PushRequest
from vkd.jobs.background import BackgroundJob
from vkd.models.backbones import BACKBONES
from vkd.models.config import read_config
from vkd.ui.html import file_uri, render
from vkd.ui.hub import card
from vkd.ui.train.views import duration

_MAX_IMAGE_BYTES = 4 * 2**20
_METADATA = {"license": "licence", "library_name": "library", "base_model": "base model", "datasets": "data"}
_CONTACTING = {"pull": "Contacting the Hub…", "push": "Preparing files and contacting the Hub…"}
_FINISHING = {"pull": "Verifying files…", "push": "Uploaded; the Hub is committing…"}


def size_text(count: float) -> str:
    """Formats a number of bytes."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


# ---- jobs


def progress_html(kind: str, job: BackgroundJob) -> str:
    """Renders the progress of a pull or a push: bytes, file, time left."""
    if job.cancelling:
        text = "Cancelling; nothing will be saved."
    elif not job.total:
        text = _CONTACTING[kind]
    elif job.done >= job.total:
        text = _FINISHING[kind]
    else:
        left = job.seconds_left()
        text = f"{job.what} · {size_text(job.done)} of {size_text(job.total)}"
        text += "" if left is None else f" · about {duration(max(1, left))} left"
    share = 100 * job.done / job.total if job.total else 0
    return render("hub/progress.html.j2", name=job.name, text=text, share=round(share, 1))


def job_data(job: BackgroundJob) -> dict[str, Any]:
    """Returns the state of a job as JSON."""
    repo = job.name.rpartition(" ")[2]
    return {"state": job.state, "repo": repo, "file": job.what, "done": job.done, "total": job.total}


def error_html(message: str) -> str:
    """Renders an error in place of the answer; the message is HTML, as `show_errors` makes it."""
    return render("hub/outcome.html.j2", kind="error", text=Markup(message))


def ended_html(kind: str, job: BackgroundJob) -> str:
    """Renders the end of a job: cancelled, the pulled checkpoints, or where a push has arrived."""
    if job.state == "done" and kind == "pull":
        return pulled_html(job.result)
    return render(
        "hub/outcome.html.j2", kind=job.state, pull=kind == "pull", name=job.name, url=str(job.result),
        repo=job.name.rpartition(" ")[2], size=size_text(job.total),
    )  # fmt: skip


def result_data(kind: str, job: BackgroundJob) -> dict[str, Any]:
    """Returns what a job brought, as JSON."""
    return {"pulled": pulled_data(job.result or [])} if kind == "pull" else {"url": job.result or ""}


# ---- pulled checkpoints


def pulled_html(pulled: Sequence[Pulled]) -> str:
    """Renders pulled checkpoints, the teacher first; then their cards, that of the requested one first."""
    cards = [
        _card_html(f"Card of {each.repo}", read_card(each.folder), images_beside(each.folder), index == 0)
        for index, each in enumerate(reversed(pulled))
    ]
    rows = [_pulled_row(each) for each in pulled]
    return render("hub/pulled.html.j2", rows=rows, tabs=("Retrieve", "Explain", "Evaluate"), cards=cards)


def _pulled_row(one: Pulled) -> dict[str, Any]:
    config, notes = read_config(one.folder), []
    if one.offline:
        notes.append("Hub unreachable: taken from this machine's cache of an earlier pull.")
    if one.unchanged:
        notes.append("Already up to date: nothing was downloaded.")
    height, width = config.image_size
    facts = [
        BACKBONES[config.backbone].label, f"{height} × {width} px", config.dataset or "unknown dataset",
        f"{config.identities} identities", f"epoch {config.epoch}",
        size_text(sum(_sizes(one.folder).values())),
    ]  # fmt: skip
    return {
        "stage": config.stage, "name": one.folder.name, "facts": facts, "notes": notes, "repo": one.repo,
        "commit": one.commit[:12],
    }  # fmt: skip


def pulled_data(pulled: Sequence[Pulled]) -> list[dict[str, Any]]:
    """Returns pulled checkpoints as JSON; the teacher first."""
    rows = []
    for one in pulled:
        config = read_config(one.folder)
        rows.append(
            {
                "checkpoint": one.folder.name, "repo": one.repo, "commit": one.commit,
                "offline": one.offline, "there": one.unchanged, "stage": config.stage,
                "backbone": config.backbone, "dataset": config.dataset, "files": _sizes(one.folder),
                "card": read_card(one.folder),
            }
        )  # fmt: skip
    return rows


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}


def read_card(folder: Path) -> str:
    """Reads a folder's README.md, at most what is shown; '' where there is none."""
    path = folder / "README.md"
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(card.MAX_LETTERS)


def images_beside(folder: Path) -> dict[str, str]:
    """Returns the PNG files that lie beside a card: name → data URI."""
    files = [path for path in folder.glob("*.png") if path.stat().st_size <= _MAX_IMAGE_BYTES]
    return {path.name: file_uri(path) for path in files if path.read_bytes()[:4] == b"\x89PNG"}


# ---- preview of a push


def plan_html(plan: Plan, request: PushRequest) -> str:
    """Renders files with sizes, files that are not uploaded, the destination, and the card."""
    how = "As a pull request" if request.pull_request else "In one commit"
    where = f" on the branch {request.revision}" if request.revision else ""
    private = "private" if request.private else "public"
    new = "" if request.pull_request else f" A new repository is {private}."
    images = {name: f"data:image/png;base64,{base64.b64encode(data).decode()}"
              for name, data in plan.images.items()}  # fmt: skip
    return render(
        "hub/plan.html.j2", plan=plan, total=size_text(sum(each.size for each in plan.files)),
        files=[(each.path, size_text(each.size)) for each in plan.files], terms=f"{how}{where}.{new}",
        card=_card_html("Model card preview", plan.card, images, True),
    )  # fmt: skip


def plan_data(plan: Plan) -> dict[str, Any]:
    """Returns the plan as JSON; `previewed` is what a push must repeat."""
    return {
        "repo": plan.repo,
        "files": {each.path: each.size for each in plan.files},
        "left": list(plan.not_uploaded),
        "card": plan.card,
        "previewed": plan.digest,
    }


def _card_html(title: str, text: str, images: Mapping[str, str], opened: bool) -> Markup:
    metadata, body = card.split_metadata(text)
    chips = [(name, ", ".join(card.words(metadata.get(key, [])))) for key, name in _METADATA.items()]
    return render(
        "hub/card.html.j2", title=title, opened=opened, chips=[chip for chip in chips if chip[1]],
        tags=card.words(metadata.get("tags", [])), cut=len(text) >= card.MAX_LETTERS,
        body=card.to_html(body, images) if body.strip() else Markup("<p>No card.</p>"),
    )  # fmt: skip
