"""What of a checkpoint's folder travels to the Hub, and what stays.

Weights go up as they are. Texts are written anew from what was read, so that nothing goes along unseen: of
settings.json the fields alone, folders reduced to their names; of events.jsonl the kinds that a curve or a
reader needs, without paths, addresses, names of machines and tokens.
"""

import getpass
import io
import json
import platform
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from vkd.hub import figures
from vkd.hub.summary import WEIGHTS, Facts, facts, name_of
from vkd.models.config import to_json
from vkd.training.settings import Settings

README = "README.md"
CURVES, HEATMAPS = "curves.png", "heatmaps.png"
_KINDS = ("started", "smoke", "sanity_check", "epoch", "scores", "saved", "finished", "stopped", "failed")
_GONE = "…"
_MOST_PIXELS, _MOST_LETTERS = 20_000_000, 2000

_STOP = r":;,()'\"<>|\n"
_SECRETS = (
    re.compile(r"\b(?:hf_|api_org_|ghp_|github_pat_|sk-)\w+|\bBearer\s+\S+", re.IGNORECASE),
    re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"]*|\S+@[\w.-]+|\b\d{1,3}(?:\.\d{1,3}){3}\b", re.IGNORECASE),
    re.compile(r"'[^'\n]*[/\\][^'\n]*'|\"[^\"\n]*[/\\][^\"\n]*\""),
    # An absolute path reaches to the last slash before a stop: its folders may have spaces in their names,
    # and too much left out is better than too little.
    re.compile(rf"(?:(?<![\w.])|\b[A-Za-z]:|~|\.\.?)[/\\](?:[^{_STOP}]*[/\\])?[^\s{_STOP}]*"),
    re.compile(r"[^\s/\\]*[/\\]\S*"),
)


def scrubbed(text: str, words: Iterable[str] = ()) -> str:
    """Free text without tokens, addresses, paths and the names in `words`; each becomes '…'. A text of more
    than 2000 letters is cut off.
    """
    text = text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + _GONE
    for word in sorted({word for word in words if len(word) > 2}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", _GONE, text)
    for pattern in _SECRETS:
        text = pattern.sub(_GONE, text)
    return re.sub(rf"{_GONE}(?:[\s/\\]*{_GONE})+", _GONE, text)


def local_words(found: Facts) -> set[str]:
    """What names this machine, its user and the folders of the run."""
    machine, here = platform.node(), found.folder.resolve()
    words = {machine, machine.partition(".")[0], str(Path.home()), str(Path.cwd())}
    words |= {str(found.folder), str(here), str(here.parent)}
    if found.settings is not None:
        words |= {str(value) for _, value in found.settings if isinstance(value, Path)}
    with suppress(OSError, KeyError):  # a process whose user has no name
        words.add(getpass.getuser())
    return words - {"root", "user", "localhost", "."}


def travelling(folder: str | Path) -> dict[str, Path | bytes]:
    """Path in the repository → the file, or what it will hold; README.md, the card, comes on top.

    Both files of weights go up only where they differ: `best.safetensors` is then what loads by itself.
    Raises FileNotFoundError without config or weights, ValueError for damaged ones.
    """
    found = facts(folder)
    words = local_words(found)
    goods: dict[str, Path | bytes] = {"config.json": _config(found)}
    goods |= {name: found.folder / name for name in WEIGHTS if name in found.weights}
    if found.settings is not None:
        values = plain_settings(found.settings, words)
        goods["settings.json"] = (json.dumps(values, indent=2) + "\n").encode()
    if found.events:
        kept = [_told(event, words) for event in found.events if event["kind"] in _KINDS]
        goods["events.jsonl"] = b"".join(
            json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in kept
        )
    for name, draw in ((CURVES, figures.curves), (HEATMAPS, figures.heatmaps)):
        if picture := draw(found.folder) or _pulled(found.folder / name):
            goods[name] = picture
    return goods


def staying(folder: str | Path) -> list[str]:
    """What is in the folder and does not travel, folders with a slash. The card replaces an old README.md."""
    found = facts(folder)
    going = {"config.json", *found.weights, CURVES, HEATMAPS, README}
    going |= {"settings.json"} if found.settings is not None else set()
    going |= {"events.jsonl"} if found.events else set()
    left = [path for path in found.folder.iterdir() if path.name not in going]
    return sorted(f"{path.name}/" if path.is_dir() else path.name for path in left)


def plain_settings(settings: Settings, words: Iterable[str] = ()) -> dict[str, Any]:
    """The stage and every field as JSON knows them; folders by their names alone."""
    values = settings.model_dump(mode="json")
    for name, value in settings:
        if isinstance(value, Path):
            values[name] = name_of(value) or name
    values["preset"] = scrubbed(settings.preset, words)
    return {"stage": settings.stage, **values}


def _config(found: Facts) -> bytes:
    """config.json of the last weights, without what no config knows, the parent by its name alone."""
    config = found.weights.get("model.safetensors", found.config)
    parent = name_of(config.parent) if config.parent else None
    return to_json(replace(config, parent=parent or None, dataset=name_of(config.dataset))).encode()


def _told(event: dict[str, Any], words: set[str]) -> dict[str, Any]:
    """An event with every text in it scrubbed, its kind aside."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {scrubbed(str(key)): clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [clean(item) for item in value]
        return scrubbed(value, words) if isinstance(value, str) else value

    return {**clean(event), "kind": event["kind"]}


def _pulled(path: Path) -> bytes | None:
    """A picture of an earlier pull that cannot be drawn here, without what else its file says."""
    try:
        with Image.open(path) as picture:
            if picture.format != "PNG" or picture.width * picture.height > _MOST_PIXELS:
                return None
            plain = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    plain.info.clear()
    file = io.BytesIO()
    plain.save(file, "PNG", optimize=True)
    return file.getvalue()
