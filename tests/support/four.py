"""An evaluation of four networks made of one of two, so that no process has to work for it."""

from dataclasses import replace
from pathlib import Path

from vkd.evaluation.comparison import Comparison, differences
from vkd.jobs import evaluations


def as_four(found: Comparison, folder: Path) -> str:
    """Keep in `folder` an evaluation of the two networks, and of each of them under another name; → its
    name.
    """
    again = {"tiny-student": "tiny-student-again", "tiny-teacher": "tiny-teacher-again"}
    parts = {
        key: {**getattr(found, key), **{other: getattr(found, key)[name] for name, other in again.items()}}
        for key in ("networks", "scores", "pairs", "curves", "lists")
    }
    compared = replace(found, **parts, differences=differences(parts["scores"], "tiny-teacher", resamples=50))
    folder.mkdir()
    evaluations.save(compared, folder)
    asked = evaluations.EvaluationRequest(
        tuple(compared.networks), "street", "data/street", tuple(compared.query_gallery)
    )
    evaluations.write_finished(folder, asked)
    return folder.name
