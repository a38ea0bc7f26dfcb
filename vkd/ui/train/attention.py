"""Grad-CAM over the epochs: the snapshots of a run, played in the page (static/attention.js)."""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from vkd.explain.snapshots import FOLDER
from vkd.io.files import evenly_spaced
from vkd.ui.html import file_uri

MAX_EPOCHS = 60
_JS = Path(__file__).parents[1] / "static" / "attention.js"


def epochs(folder: Path) -> list[int]:
    """Returns the epochs of a run with a snapshot: at most `MAX_EPOCHS`, evenly spaced, with the last."""
    names = [path.parent.name for path in folder.glob(f"{FOLDER}/[0-9]*/look.json")]
    snapshots = sorted(int(name) for name in names if name.isdecimal())
    return [*evenly_spaced(snapshots[:-1], MAX_EPOCHS - 1), *snapshots[-1:]]


def refresh(folder: Path, have: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what a page that has `have` ({run, epochs}) lacks to play the run; None: nothing.

    Images travel as data URIs; those of epochs that the page has are not sent again.
    """
    current, same = epochs(folder), have.get("run") == folder.name
    page_epochs = have.get("epochs") or [] if same else []
    if same and page_epochs == current:
        return None
    message: dict[str, Any] = {"run": folder.name, "epochs": current, "snapshots": {}}
    for epoch in current:
        if epoch not in page_epochs and (snapshot := _snapshot(folder / FOLDER / f"{epoch:05d}")):
            message["snapshots"][str(epoch)] = snapshot
    if current and not page_epochs:
        message |= _images(folder / FOLDER)
        message["teacher"] = _snapshot(folder / FOLDER / "teacher")
    return message


def _images(folder: Path) -> dict[str, Any]:
    """Returns the probe queries and the gallery with their images; empty where the file is damaged."""
    try:
        table = json.loads((folder / "probes.json").read_text(encoding="utf-8"))
        return {
            part: [
                {
                    "identity": row["identity"],
                    "camera": row["camera"],
                    "image": file_uri(folder / row["picture"]),
                }
                for row in table[part]
            ]
            for part in ("probes", "gallery")
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {"probes": [], "gallery": []}


def _snapshot(folder: Path) -> list[dict[str, Any]] | None:
    """Returns heatmap, similarity and best matches of each probe query; None where it cannot be read."""
    try:
        rows = json.loads((folder / "look.json").read_text(encoding="utf-8"))["looks"]
        return [
            {"heat": file_uri(folder / row["heat"]), "similarity": row["similarity"], "top": row["top"]}
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def component(**common: Any) -> gr.HTML:
    """Returns the component that plays snapshots; its value is what `refresh` returns."""
    return gr.HTML(
        value=None,
        html_template='<div class="vkd-attention"></div>',
        js_on_load=_JS.read_text(encoding="utf-8"),
        **common,
    )
