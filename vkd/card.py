"""The model card of a checkpoint: metadata that the Hub reads, and a text for people.

What the folder does not say the card says is not known. Names and sentences from outside are made plain before
they come near YAML or Markdown.
"""

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd import __version__, cautions, report
from vkd.backbones import BACKBONES
from vkd.cautions import SOURCES, UNKNOWN, Source
from vkd.config import MEAN, STD, Config
from vkd.facts import Facts, by_epoch, facts, name_of, started, teacher_of
from vkd.luggage import CURVES, HEATMAPS, local_words, plain_settings, scrubbed, staying, travelling
from vkd.presets import PUBLISHED

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

__all__ = ["card", "metadata", "staying", "travelling"]

TASK = "image-feature-extraction"
PROTOCOLS = ("i2v", "v2v", "i2i", "v2i")
_CONVENTIONS = ("trapezoid", "standard")
_METRICS = {"map": "mAP", "map_trapezoid": "mAP", "map_standard": "mAP", "minp": "mINP"}
_METRICS |= {f"top{k}": f"rank-{k}" for k in (1, 5, 10)}
_NOT_TOLD = ("stage", "root", "teacher", "start", "device", "workers", "tensorboard", "preset")


def card(
    folder: str | Path,
    repo: str | None = None,
    *,
    teacher: str | None = None,
    pictures: Iterable[str] = (),
) -> str:
    """README.md of the checkpoint in `folder`: front matter and text.

    `repo` is where it goes, `teacher` the repository of a student's teacher, both user/name; `pictures` are the
    names of those that travel along (`travelling`). Raises FileNotFoundError or ValueError for a folder that
    is no checkpoint, ValueError for a name that is no repository's and for a teacher's teacher.
    """
    found = facts(folder)
    for name in filter(None, (repo, teacher)):
        _check_repo(name)
    if teacher and found.config.stage == "teacher":
        raise ValueError(f"{folder} is a teacher and has no teacher of its own: leave '{teacher}' out.")
    data = metadata(found, repo, teacher).to_yaml()
    text = "\n\n".join(part.strip() for part in _sections(found, repo, teacher, set(pictures)) if part)
    return f"---\n{data}\n---\n\n{text}\n"


def _check_repo(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"'{name}' is no name of a repository on the Hub: {error}") from None


# --- metadata -----------------------------------------------------------------------------------------------


def metadata(found: Facts, repo: str | None = None, teacher: str | None = None) -> "ModelCardData":
    """The front matter. No `datasets`: none of ours is a data set of the Hub under its authors' name."""
    from huggingface_hub import ModelCardData  # not at the top: the page must open without it

    config, source = found.config, _source(found.config)
    more: dict[str, Any] = {}
    if source.licence == "other":
        more["license_name"] = "data-set-terms"
        if repo:
            more["license_link"] = f"https://huggingface.co/{repo}#data-and-licences"
    if teacher:
        # The Hub knows finetune, adapter, merge and quantized. A student begins as a copy of a network that
        # was trained and is trained on.
        more |= {"base_model": teacher, "base_model_relation": "finetune"}
    learned = () if config.stage == "imported" else (config.stage,)
    tags = ["re-identification", *source.tags, "image-retrieval", "knowledge-distillation", *learned]
    return ModelCardData(
        library_name="vkd",
        pipeline_tag=TASK,
        license=source.licence,
        tags=[*tags, _word(config.backbone)],
        model_name=_title(found, repo),
        eval_results=list(_results(config, source)) or None,
        **more,
    )


def _results(config: Config, source: Source) -> Iterator[Any]:
    """One result for each protocol and metric, in percent. The protocol is the data set's configuration: the
    Hub keeps results apart by that.
    """
    from huggingface_hub import EvalResult

    for protocol, metrics in _scores(config).items():
        arguments: dict[str, Any] = {"protocol": protocol}
        if source.queries_in_gallery is not None and config.stage != "imported":
            arguments["queries_in_gallery"] = source.queries_in_gallery
        for key, kind in _METRICS.items():
            if key not in metrics:
                continue
            convention = key.removeprefix("map_") if key.startswith("map_") else None
            yield EvalResult(
                task_type=TASK,
                task_name="Re-identification",
                dataset_type=source.kind,
                dataset_name=source.title,
                dataset_config=protocol,
                dataset_split="test",
                dataset_args=arguments,
                metric_type=kind,
                metric_name=f"{protocol.upper()} {report.PERCENT[key]}, %",
                metric_value=round(100 * metrics[key], 2),
                metric_args={"ap": convention} if convention else None,
                verified=False,
            )


def _scores(config: Config) -> dict[str, dict[str, float]]:
    """Protocol → metric → fraction, of those that are known and in range. `map` goes where its convention is
    told beside it.
    """
    known: dict[str, dict[str, float]] = {}
    for protocol in PROTOCOLS:
        found = config.scores.get(protocol, {})
        kept = {key: found[key] for key in _METRICS if key in found and 0 <= found[key] <= 1}
        if any(f"map_{convention}" in kept for convention in _CONVENTIONS):
            kept.pop("map", None)
        if kept:
            known[protocol] = kept
    return known


def _source(config: Config) -> Source:
    return SOURCES.get(config.dataset, UNKNOWN)


# --- plain words from outside -------------------------------------------------------------------------------


def _word(text: str) -> str:
    """A name for YAML, code spans and tables: letters, digits and few signs, 80 at most."""
    return re.sub(r"[^\w .+:@-]", "_", name_of(text))[:80].strip()


def _prose(text: str) -> str:
    """A sentence for Markdown: one line, every sign that means something there escaped, 400 letters at most."""
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    text = text if len(text) <= 400 else text[:399] + "…"
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$&:@-])", r"\\\1", text)


def _title(found: Facts, repo: str | None) -> str:
    return (repo or "").rpartition("/")[2] or _word(found.folder.resolve().name) or "checkpoint"


# --- text ---------------------------------------------------------------------------------------------------


def _sections(found: Facts, repo: str | None, teacher: str | None, pictures: set[str]) -> Iterator[str]:
    config, source = found.config, _source(found.config)
    yield f"# {_title(found, repo)}"
    yield _summary(config, source)
    yield (
        "> **Surveillance technology.** Read [what this network must not be used "
        "for](#what-it-must-not-be-used-for) before anything else."
    )
    yield f"## How to use it\n\n{_use(found, repo or f'user/{_title(found, repo)}')}"
    yield f"## Scores\n\n{_score_table(found, source)}"
    if CURVES in pictures:
        yield f"![Losses and mAP over the epochs of training]({CURVES})"
    if HEATMAPS in pictures:
        yield f"![Where the network looks when it compares a picture with the same {source.subject}]({HEATMAPS})"
        yield _about_heatmaps(config, source)
    yield f"## Teacher\n\n{_lineage(found, teacher)}"
    yield f"## Training\n\n{_training(found)}"
    yield f"## Data and licences\n\n{_data(found, source)}"
    yield f"## Intended use\n\n{cautions.INTENDED}"
    yield f"## What it must not be used for\n\n{cautions.FORBIDDEN}"
    yield f"## Limits\n\n{cautions.SYNTHETIC_LIMIT * source.synthetic}{cautions.LIMITS}"
    yield f"## Citation\n\nThe method is its authors' ([arXiv 2007.04174]({cautions.PAPER})):\n\n{cautions.CITATION}"
    yield f"## How this card was made\n\n{_made(found)}"


def _summary(config: Config, source: Source) -> str:
    row = BACKBONES[config.backbone]
    views = {
        "teacher": "It is a **teacher**: it learned from several views of a tracklet at a time.",
        "student": "It is a **student**: it learned to give, from a few views, what its teacher gives from many.",
        "imported": "It was **imported** from another program; whether it is a teacher or a student is not known.",
    }[config.stage]
    return (
        f"{row.label} for re-identification by [views knowledge distillation]({cautions.PAPER}): one picture or "
        f"a tracklet of a {source.subject} becomes an embedding of {row.width} numbers, so that the same "
        f"{source.subject} can be found again in the pictures of another camera. {views} Data: {source.title}."
    )


def _use(found: Facts, repo: str) -> str:
    config, (height, width) = found.config, found.config.image_size
    other = "" if (config.mean, config.std) == (MEAN, STD) else f", mean={config.mean}, std={config.std}"
    lines = [
        f"With [VKD](#citation) {__version__} installed, in Python:",
        f'```python\nfrom vkd.model import Net\nnet = Net.from_pretrained("{repo}")\n```',
        "and then, for pictures of one tracklet,",
        "```python\nfrom vkd.pictures import prepare\n"
        f'clip = prepare(["first.jpg", "second.jpg"], size=({height}, {width}){other})[None]\n'
        f"embedding = net.embed(clip)  # (1, {BACKBONES[config.backbone].width}); compare by cosine\n```",
        "or as a folder, for the command line and the app:",
        f"```sh\nvkd hub pull {repo}\n```",
    ]
    if len(found.weights) > 1:
        best, last = found.weights.values()
        lines.append(
            f"Two files of weights are here. `best.safetensors` (epoch {best.epoch}, the best by mAP) is what "
            f"loads by itself; `model.safetensors` (epoch {last.epoch}) is where training ended."
        )
    return "\n\n".join(lines)


def _score_table(found: Facts, source: Source) -> str:
    """Scores of each file of weights, of the teacher and the published ones; what the numbers are."""
    config = found.config
    tables = {"this network": _scores(config)}
    for config in list(found.weights.values())[1:]:
        tables["its last weights"] = _scores(config)
    if teacher := teacher_of(found):
        tables["its teacher"] = _scores(teacher.config)
    stages = ("teacher", "student") if config.stage == "imported" else (config.stage,)
    published = {stage: PUBLISHED.get((config.dataset, config.backbone, stage)) for stage in stages}
    for stage, scores in published.items():
        for protocol, metrics in (scores or {}).items():
            row = {"map_trapezoid": metrics["map"], "top1": metrics["top1"]}
            tables.setdefault(f"published {stage}", {})[protocol] = row
    return "\n\n".join([*_about_scores(found, source, any(published.values())), report.markdown(tables)])


def _about_scores(found: Facts, source: Source, published: bool) -> Iterator[str]:
    from vkd.evaluate import PROTOCOLS as NAMES

    scores = _scores(found.config)
    if not scores:
        yield "**Scores of this network are not known**: its folder holds none."
    else:
        named = ", ".join(f"{name.upper()}: {NAMES[name].name}" for name in scores)
        yield (
            f"On the test split of {source.title}, in percent, as measured by whoever trained it and verified by "
            f"nobody else ({named}; cosine of embeddings before the neck)."
        )
        told = ["Two conventions of average precision are in use and each column names its own"]
        if any("map" in metrics for metrics in scores.values()):
            told = ["Which convention of average precision the mAP follows is not recorded"]
        if source.queries_in_gallery and found.config.stage != "imported":
            told.append("query tracklets are part of the gallery")
        yield "; ".join(told) + "."
    if len(found.weights) > 1:
        yield (
            "The weights were chosen among the evaluated epochs by their mAP on this same split, which flatters "
            "them a little."
        )
    if published:
        yield (
            f"*Published* is what Table 1 of the [paper]({cautions.PAPER}) reports for this data set and backbone "
            "under its own recipe, with the trapezoid AP."
        )
    elif source.synthetic:
        yield "No published number exists for synthetic data, and none on photographs compares with these."
    else:
        yield "The paper publishes no number for this data set and backbone."


def _about_heatmaps(config: Config, source: Source) -> str:
    text = (
        "Heat is what raises the similarity to the same subject under another camera (Grad-CAM). Each map is scaled "
        "to its own maximum: compare places, not strengths."
    )
    if not source.synthetic:
        text += " The photographs are coarsened, so that nobody in them can be recognised."
    return text


def _lineage(found: Facts, teacher: str | None) -> str:
    config = found.config
    if config.stage == "teacher":
        return "None: it is a teacher itself."
    if config.stage == "imported":
        link = f" Its publisher names [{teacher}](https://huggingface.co/{teacher})." if teacher else ""
        return f"Whether it had a teacher is not recorded.{link}"
    name = f"[{teacher}](https://huggingface.co/{teacher})" if teacher else ""
    name = name or (f"`{_word(config.parent)}`" if config.parent else "a network whose name is not recorded")
    text = f"Its teacher is {name}."
    settings = found.settings
    if (
        settings is not None
        and not getattr(settings, "kd_weight", 1)
        and not getattr(settings, "dp_weight", 1)
    ):
        text += " It is a **control**: it began like a student, but nothing was distilled into it (both weights 0)."
    if start := getattr(settings, "start", None):
        text += f" It began as a copy of another network, `{_word(str(start))}` (cross-distillation)."
    return text


def _training(found: Facts) -> str:
    config, settings = found.config, found.settings
    if settings is None:
        known = f" {config.epoch} epochs are recorded." if config.epoch else ""
        return f"How it was trained is not recorded: the folder holds no settings.{known}"
    words, lines = local_words(found), [_course(found)]
    if settings.preset:
        lines.append(f"The settings began with the preset `{_word(settings.preset)}`.")
    for note in started(found).get("notes") or []:
        lines.append(f"- {_prose(scrubbed(str(note), words))}")
    fields = type(settings).model_fields
    rows = [
        f"| `{name}` | {_value(value)} | {_prose(fields[name].description or '')} |"
        for name, value in plain_settings(settings).items()
        if name not in _NOT_TOLD
    ]
    table = "\n".join(["| setting | value | |", "|---|---|---|", *rows])
    return "\n\n".join(
        [*filter(None, lines), f"<details><summary>All settings</summary>\n\n{table}\n\n</details>"]
    )


def _course(found: Facts) -> str:
    """Epochs, time and device in a sentence, '' without events."""
    done, began = by_epoch(found, "epoch"), started(found)
    if not done:
        return ""
    speeds = [e.get("images_per_second") for e in done.values()]
    speeds = [s for s in speeds if isinstance(s, int | float) and math.isfinite(s)]
    device, processes = _word(str(began.get("device", ""))), began.get("processes")
    text = f"{max(done)} epochs"
    if isinstance(began.get("steps"), int):
        text += f" of {began['steps']} steps"
    if device:
        text += f" on {device}" + (
            f", {processes} processes" if isinstance(processes, int) and processes > 1 else ""
        )
    if speeds:
        text += f", {sum(speeds) / len(speeds):.0f} pictures a second"
    return text + "."


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    if value is None or value == "":
        return "none"
    return _word(str(value)) if not isinstance(value, bool) else ("yes" if value else "no")


def _data(found: Facts, source: Source) -> str:
    config, (height, width) = found.config, found.config.image_size
    named = (
        "" if config.dataset in SOURCES or not config.dataset else f" It is called `{_word(config.dataset)}`."
    )
    lines = [
        source.seen + named,
        f"{config.identities} training identities; pictures resized to {height} × {width} pixels (height × width).",
        source.terms,
        "The code that trained it is under the MIT licence.",
    ]
    if getattr(found.settings, "pretrained", False) and BACKBONES[config.backbone].weights is not None:
        lines.append("Training was asked to start from ImageNet weights, whose own terms hold too.")
    return "\n\n".join(lines)


def _made(found: Facts) -> str:
    kept = "settings and events" if found.settings and found.events else "config alone"
    return (
        f"Written by VKD {__version__} from the {kept} of a training folder. Nobody has checked it: its publisher "
        "should read it and add what is missing."
    )
