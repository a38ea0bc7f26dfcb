"""What travels of finished work, so that a clone shows it: the record of a run, an evaluation with pictures.

A record is a run's folder without what only its own machine can use: to be looked at, not to be gone on with.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vkd.evaluation import results_io
from vkd.evaluation.comparison import Comparison
from vkd.evaluation.digest import digest
from vkd.explain.snapshots import FOLDER as PROBES
from vkd.io.errors import VKDError
from vkd.io.files import replace_dir, staging_dir
from vkd.jobs import evaluations, events
from vkd.jobs.evaluations import EvaluationRequest
from vkd.training import settings as asked
from vkd.training.settings import Settings

RECORD = "record.json"
LOOKS = 12
"""Looks at the probes that travel, at equal distances; the last one is among them."""


def is_record(folder: str | Path) -> bool:
    """Whether the folder is the record of a run that was finished elsewhere."""
    return (Path(folder) / RECORD).is_file()


def keep_run(run: Path, folder: Path, settings: Settings, words: Mapping[str, str]) -> None:
    """Put the record of the run in `run` into `folder`, beside the weights there.

    `settings` are the run's own with folders that mean something elsewhere; in the events each key of `words`
    (where the run was) becomes its value. Raises ValueError for a run that is not finished.
    """
    found, _ = events.read(run)
    if not found or found[-1]["kind"] != "finished":
        raise VKDError(f"{run} is not finished: there is nothing to keep yet.")
    lines = [json.dumps(_told(event, words), separators=(",", ":")) for event in _sittings(found)]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked.save(settings, folder / "settings.json")
    shutil.rmtree(folder / PROBES, ignore_errors=True)
    if (run / PROBES).is_dir():
        shutil.copytree(run / PROBES, folder / PROBES, ignore=shutil.ignore_patterns("[0-9]*", ".*"))
        for look in _thinned(sorted((run / PROBES).glob("[0-9]*"))):
            shutil.copytree(look, folder / PROBES / look.name)
    text = {"left": ["training.pt", "best.safetensors", "log.txt"]}
    (folder / RECORD).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def _sittings(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events without the sittings in which a finished run was asked again and had nothing to do."""
    kept: list[dict[str, Any]] = []
    for event in found:
        if event["kind"] == "finished" and kept and kept[-1]["kind"] == "started":
            kept.pop()
        else:
            kept.append(event)
    return kept


def _told(value: Any, words: Mapping[str, str]) -> Any:
    """The same with words replaced in every text."""
    if isinstance(value, dict):
        return {key: _told(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_told(item, words) for item in value]
    if isinstance(value, str):
        for word, other in words.items():
            value = value.replace(word, other)
    return value


def _thinned(looks: list[Path]) -> list[Path]:
    if len(looks) <= LOOKS:
        return looks
    return [looks[round(place * (len(looks) - 1) / (LOOKS - 1))] for place in range(LOOKS)]


def keep_evaluation(found: Comparison, folder: Path, told: EvaluationRequest, above: Path) -> Path:
    """Make `folder` an evaluation that a page opens as finished, with one small picture of each item.

    Frames are told by their place below the folder `above`. An older evaluation in `folder` is replaced;
    raises ValueError for a folder of something else.
    """
    if folder.exists() and not (folder / "asked.json").is_file():
        raise VKDError(f"{folder} holds something that is no evaluation: choose another folder, or empty it.")
    small = digest(found, above)
    with staging_dir(folder) as work:
        for frame in dict.fromkeys(frame for item in small.items for frame in item.frames):
            evaluations.keep_picture(work, frame, above / frame)
        results_io.save(small, work)
        evaluations.describe(work, told)
        replace_dir(work, folder)
    return folder
