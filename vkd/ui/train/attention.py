"""Watching attention move: what a run saw after its evaluations, played over the epochs."""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from vkd.explain.snapshots import FOLDER
from vkd.ui.html import file_uri

MOST_LOOKS = 60
_JS = Path(__file__).parents[1] / "static" / "attention.js"


def epochs(folder: Path) -> list[int]:
    """Epochs of which the run in `folder` kept a look: at most `MOST_LOOKS`, evenly, the last one too."""
    names = [path.parent.name for path in folder.glob(f"{FOLDER}/[0-9]*/look.json")]
    found = sorted(int(name) for name in names if name.isdecimal())
    if len(found) <= MOST_LOOKS:
        return found
    step = (len(found) - 1) / (MOST_LOOKS - 1)
    return [found[round(place * step)] for place in range(MOST_LOOKS)]


def news(folder: Path, have: dict[str, Any]) -> dict[str, Any] | None:
    """What a page that has `have` ({run, epochs}) must be sent to play the run in `folder`; None: nothing.

    Pictures travel as data URIs; those of epochs that the page has are not sent again.
    """
    wanted = epochs(folder)
    known = [epoch for epoch in have.get("epochs") or [] if have.get("run") == folder.name]
    if have.get("run") == folder.name and known == wanted:
        return None
    message: dict[str, Any] = {"run": folder.name, "epochs": wanted, "looks": {}}
    for epoch in wanted:
        if epoch not in known and (look := _look(folder / FOLDER / f"{epoch:05d}")):
            message["looks"][str(epoch)] = look
    if wanted and not known:
        message |= _table(folder / FOLDER)
        message["teacher"] = _look(folder / FOLDER / "teacher")
    return message


def _table(place: Path) -> dict[str, Any]:
    """The probes and the gallery, with their pictures; empty where the file is damaged."""
    try:
        table = json.loads((place / "probes.json").read_text(encoding="utf-8"))
        return {
            part: [
                {
                    "identity": row["identity"],
                    "camera": row["camera"],
                    "picture": file_uri(place / row["picture"]),
                }
                for row in table[part]
            ]
            for part in ("probes", "gallery")
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {"probes": [], "gallery": []}


def _look(place: Path) -> list[dict[str, Any]] | None:
    """One look: for each probe its heatmap, similarity and best matches; None where it cannot be read."""
    try:
        looks = json.loads((place / "look.json").read_text(encoding="utf-8"))["looks"]
        return [
            {"heat": file_uri(place / look["heat"]), "similarity": look["similarity"], "top": look["top"]}
            for look in looks
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def component(**common: Any) -> gr.HTML:
    """The place where looks are played; its value is a message of `news`."""
    return gr.HTML(
        value=None,
        html_template='<div class="vkd-attention"></div>',
        js_on_load=_JS.read_text(encoding="utf-8"),
        **common,
    )
