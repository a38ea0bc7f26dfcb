"""Model card of a checkpoint: metadata that the Hub reads, and a text from `model_card.md.j2`.

Values missing in the folder are called unknown. Names from outside are sanitised before they enter YAML or
Markdown.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd.data.datasets import DATASETS, UNKNOWN, Dataset
from vkd.data.tracklets import PROTOCOLS
from vkd.evaluation.published import PUBLISHED_CONVENTION, published_scores
from vkd.hub.client import check_repo
from vkd.hub.files import public_settings
from vkd.hub.summary import Summary, last_part
from vkd.io.errors import VKDError
from vkd.metrics import tables
from vkd.metrics.ranking import AP, METRICS
from vkd.models.backbones import BACKBONES
from vkd.models.config import Config
from vkd.training.objectives import LOSSES
from vkd.version import __version__

PAPER = "https://arxiv.org/abs/2007.04174"

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
TASK = "image-feature-extraction"
"""The nearest task of the Hub: images in, embeddings out."""

_STAGE_TEXTS = {
    "teacher": "It is a **teacher**: it is trained on several views of a tracklet at a time.",
    "student": "It is a **student**: it is trained to give from few views what its teacher gives from many.",
    "imported": "It was **imported** from another program's files.",
}
_HIDDEN_SETTINGS = ("stage", "root", "teacher", "start", "device", "workers", "tensorboard", "preset")


def model_card(
    summary: Summary, repo: str | None = None, *, teacher: str | None = None, images: Iterable[str] = ()
) -> str:
    """Returns README.md of a checkpoint: front matter and text.

    `repo` is the destination, `teacher` the repository of a student's teacher, both user/name; `images` are
    the names of the images that are uploaded with it. Raises VKDError for names that are no repositories and
    for a teacher's teacher.
    """
    from huggingface_hub import ModelCard

    for name in filter(None, (repo, teacher)):
        check_repo(name)
    if teacher and summary.config.stage == "teacher":
        raise VKDError(f"{summary.folder} is a teacher and has no teacher itself: leave '{teacher}' out.")
    context = _context(summary, repo, teacher) | {"images": [*images]}
    data = metadata(summary, repo, teacher)
    return f"{ModelCard.from_template(data, str(TEMPLATE), None, **context)}\n"


def metadata(summary: Summary, repo: str | None = None, teacher: str | None = None) -> "ModelCardData":
    """Returns the front matter. No `datasets`: none of ours is on the Hub under its authors' name."""
    from huggingface_hub import ModelCardData

    config, dataset = summary.config, DATASETS.get(summary.config.dataset, UNKNOWN)
    optional: dict[str, Any] = {}
    if dataset.licence == "other":
        optional["license_name"] = "data-set-terms"
        if repo:
            optional["license_link"] = f"https://huggingface.co/{repo}#data-and-licences"
    if teacher:
        # The Hub knows finetune, adapter, merge and quantized. A student begins with the weights of a
        # trained network and is trained on.
        optional |= {"base_model": teacher, "base_model_relation": "finetune"}
    stage = [] if config.stage == "imported" else [config.stage]
    tags = ["re-identification", *dataset.tags, "image-retrieval", "knowledge-distillation", *stage]
    return ModelCardData(
        library_name="vkd",
        pipeline_tag=TASK,
        license=dataset.licence,
        tags=[*tags, plain_name(config.backbone)],
        model_name=_title(summary, repo),
        eval_results=list(_eval_results(config, dataset)) or None,
        **optional,
    )


def _eval_results(config: Config, dataset: Dataset) -> Iterator[Any]:
    """Yields a result for each protocol and metric. The protocol is the dataset's configuration,
    by which the Hub keeps results apart.
    """
    from huggingface_hub import EvalResult

    for protocol, metrics in valid_scores(config).items():
        arguments: dict[str, Any] = {"protocol": protocol}
        if dataset.queries_in_gallery is not None and config.stage != "imported":
            arguments["queries_in_gallery"] = dataset.queries_in_gallery
        for key, value in metrics.items():
            interpolation = METRICS[key].convention
            yield EvalResult(
                task_type=TASK,
                task_name="Re-identification",
                dataset_type=dataset.hub_type,
                dataset_name=dataset.title,
                dataset_config=protocol,
                dataset_split="test",
                dataset_args=arguments,
                metric_type=METRICS[key].hub_type or METRICS[key].title,
                metric_name=f"{protocol.upper()} {METRICS[key].title}" + ", %" * METRICS[key].percent,
                metric_value=round(100 * value, 2) if METRICS[key].percent else value,
                metric_args={"ap": interpolation} if interpolation else None,
                verified=False,
            )


def valid_scores(config: Config) -> dict[str, dict[str, float]]:
    """Returns protocol → metric → fraction, of those that are known and in range.

    The mAP of unnamed interpolation is left out where named ones stand beside it.
    """
    scores: dict[str, dict[str, float]] = {}
    for protocol in PROTOCOLS:
        row = config.scores.get(protocol, {})
        row = {
            key: row[key]
            for key, metric in METRICS.items()
            if metric.listed and key in row and (0 <= row[key] <= 1 or not metric.percent)
        }
        if any(METRICS[key].convention for key in row):
            row.pop(AP, None)
        if row:
            scores[protocol] = row
    return scores


def plain_name(text: str) -> str:
    """Returns a name for YAML, code spans and tables: letters, digits and a few signs, 80 at most."""
    return re.sub(r"[^\w .+:-]", "_", last_part(text))[:80].strip()


def _title(summary: Summary, repo: str | None) -> str:
    return (repo or "").rpartition("/")[2] or plain_name(summary.folder.resolve().name) or "checkpoint"


def _context(summary: Summary, repo: str | None, teacher: str | None) -> dict[str, Any]:
    """Returns the values that the template shows."""
    config, settings = summary.config, summary.settings
    dataset = DATASETS.get(config.dataset, UNKNOWN)
    row, scores = BACKBONES[config.backbone], valid_scores(config)
    published, table = _score_table(summary)
    last = summary.weights.get("model.safetensors") if len(summary.weights) > 1 else None
    sources = ["config", *(["settings"] if settings else []), *(["events"] if summary.events else [])]
    return {
        "title": _title(summary, repo), "repo": repo, "paper": PAPER, "version": __version__,
        "label": row.label, "width": row.width, "stage_text": _STAGE_TEXTS[config.stage],
        "config": config, "dataset": dataset, "best": config, "last": last,
        "protocols": ", ".join(f"{name.upper()}: {PROTOCOLS[name].title}" for name in scores),
        "plain_map": any(AP in each for each in scores.values()),
        "queries_in_gallery": dataset.queries_in_gallery and config.stage != "imported",
        "published": published, "table": table.strip(),
        "teacher_text": _teacher_text(summary, teacher), "training_text": _training_text(summary),
        "settings": [] if settings is None else _settings_rows(summary),
        "unknown_dataset": plain_name(config.dataset) if dataset is UNKNOWN else "",
        "imagenet": getattr(settings, "pretrained", False) and row.weights is not None,
        "sources": ", ".join(sources),
    }  # fmt: skip


def _score_table(summary: Summary) -> tuple[bool, str]:
    """Returns whether scores were published, and a table: weights, teacher, published."""
    config = summary.config
    rows = {
        name: valid_scores(each)
        for name, each in zip(("this model", "its last weights"), summary.weights.values(), strict=False)
    }
    if summary.teacher:
        rows["its teacher"] = valid_scores(summary.teacher.config)
    published = published_scores(config.dataset, config.backbone, config.stage)
    named = next(key for key, metric in METRICS.items() if metric.convention == PUBLISHED_CONVENTION)
    rows |= {
        f"published {stage}": {
            protocol: {named if key == AP else key: value for key, value in metrics.items()}
            for protocol, metrics in scores.items()
        }
        for stage, scores in published.items()
    }
    return bool(published), tables.markdown(rows) if any(rows.values()) else ""


def _teacher_text(summary: Summary, teacher: str | None) -> str:
    config, settings = summary.config, summary.settings
    link = f"[{teacher}](https://huggingface.co/{teacher})" if teacher else ""
    if config.stage == "teacher":
        return "None: this model is a teacher itself."
    if config.stage == "imported":
        return f"Its publisher names {link}." if link else "Whether it had a teacher is not recorded."
    name = link or (f"`{plain_name(config.parent)}`" if config.parent else "a model of unknown name")
    text = [f"Its teacher is {name}."]
    weights = {} if settings is None else settings.weights
    if weights and not any(weight for name, weight in weights.items() if LOSSES[name].needs_teacher):
        text.append("It is a **control**: nothing was distilled into it (the weights of those losses are 0).")
    if start := getattr(settings, "start", None):
        text.append(
            f"It was initialised from another model, `{plain_name(str(start))}` (cross-distillation)."
        )
    return " ".join(text)


def _training_text(summary: Summary) -> str:
    """Returns epochs, steps, speed and preset in sentences."""
    config, settings = summary.config, summary.settings
    if settings is None:
        epochs = f" Its config counts {config.epoch} epochs." if config.epoch else ""
        return f"How it was trained is not recorded: the folder holds no settings.{epochs}"
    epochs, started = summary.by_epoch("epoch"), summary.started()
    parts = [f"{max(epochs)} epochs"] if epochs else []
    for key, text in (("steps", "{} steps each"), ("processes", "{} processes")):
        if epochs and isinstance(started.get(key), int) and started[key] > 1:
            parts.append(text.format(started[key]))
    speeds = [each.get("images_per_second") for each in epochs.values()]
    speeds = [speed for speed in speeds if isinstance(speed, int | float) and 0 < speed < 1e9]
    if speeds:
        parts.append(f"{sum(speeds) / len(speeds):.0f} images per second")
    preset = f"Preset `{plain_name(settings.preset_name)}`." if settings.preset_name else ""
    return " ".join(filter(None, [f"{', '.join(parts)}." if parts else "", preset])) or "Settings:"


def _settings_rows(summary: Summary) -> list[tuple[str, str, str]]:
    assert summary.settings is not None
    fields = type(summary.settings).model_fields
    return [
        (name, _setting(value), (fields[name].description or "").replace("|", "\\|"))
        for name, value in public_settings(summary.settings).items()
        if name not in _HIDDEN_SETTINGS
    ]


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_setting, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else plain_name(str(value))
