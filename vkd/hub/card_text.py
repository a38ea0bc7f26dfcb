"""The text of a model card, section by section, from what a checkpoint's folder says."""

import math
import re
from collections.abc import Iterator
from typing import Any

from vkd.data.tracklets import PROTOCOLS
from vkd.hub import dataset_terms
from vkd.hub.dataset_terms import PAPER, SOURCES, UNKNOWN, Source
from vkd.hub.files import CURVES, HEATMAPS, local_words, plain_settings, scrubbed
from vkd.hub.summary import Facts, by_epoch, name_of, started, teacher_of
from vkd.metrics import tables as metrics_tables
from vkd.metrics.ranking import METRICS
from vkd.models.backbones import BACKBONES
from vkd.models.config import MEAN, STD, Config
from vkd.training.presets import PUBLISHED
from vkd.version import __version__

__all__ = ["prose", "scores_of", "sections", "source_of", "title_of", "word"]

_NOT_TOLD = ("stage", "root", "teacher", "start", "device", "workers", "tensorboard", "preset")


def source_of(config: Config) -> Source:
    return SOURCES.get(config.dataset, UNKNOWN)


def title_of(found: Facts, repo: str | None) -> str:
    return (repo or "").rpartition("/")[2] or word(found.folder.resolve().name) or "checkpoint"


def word(text: str) -> str:
    """A name for YAML, code spans and tables: letters, digits and a few signs, 80 at most."""
    return re.sub(r"[^\w .+:-]", "_", name_of(text))[:80].strip()


def prose(text: str) -> str:
    """A sentence for Markdown: one line of 400 letters at most, every sign that means something escaped."""
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    text = text if len(text) <= 400 else text[:399] + "…"
    return re.sub(r"([\\`*_{}\[\]<>#!|~$&@])", r"\\\1", text)


def scores_of(config: Config) -> dict[str, dict[str, float]]:
    """Protocol → metric → fraction, of those that are known and in range. A plain `map` is left out where its
    conventions stand beside it.
    """
    known: dict[str, dict[str, float]] = {}
    for protocol in PROTOCOLS:
        found = config.scores.get(protocol, {})
        kept = {
            key: found[key]
            for key, metric in METRICS.items()
            if metric.listed and key in found and (0 <= found[key] <= 1 or not metric.percent)
        }
        if "map_trapezoid" in kept or "map_standard" in kept:
            kept.pop("map", None)
        if kept:
            known[protocol] = kept
    return known


def sections(found: Facts, repo: str | None, teacher: str | None, pictures: set[str]) -> Iterator[str]:
    """The parts of the text, headings included, in Markdown."""
    config, source = found.config, source_of(found.config)
    yield f"# {title_of(found, repo)}"
    yield _summary(config, source)
    yield (
        "> **Surveillance technology.** Read "
        "[what this network must not be used for](#what-it-must-not-be-used-for) before anything else."
    )
    yield f"## How to use it\n\n{_use(found, repo or f'user/{title_of(found, repo)}')}"
    yield f"## Scores\n\n{_scores(found, source)}"
    if CURVES in pictures:
        yield f"![Losses and mAP over the epochs of training]({CURVES})"
    if HEATMAPS in pictures:
        yield f"![Where the network looks when it compares two pictures of one {source.subject}]({HEATMAPS})"
        yield _about_heatmaps(source)
    yield f"## Teacher\n\n{_lineage(found, teacher)}"
    yield f"## Training\n\n{_training(found)}"
    yield f"## Data and licences\n\n{_data(found, source)}"
    yield f"## Intended use\n\n{dataset_terms.INTENDED}"
    yield f"## What it must not be used for\n\n{dataset_terms.FORBIDDEN}"
    yield f"## Limits\n\n{dataset_terms.SYNTHETIC_LIMIT * source.synthetic}{dataset_terms.LIMITS}"
    authors = f"The method is its authors' ([arXiv 2007.04174]({PAPER}))"
    yield f"## Citation\n\n{authors}:\n\n{dataset_terms.CITATION}"
    yield f"## How this card was made\n\n{_made(found)}"


_STAGES = {
    "teacher": "It is a **teacher**: it learned from several views of a tracklet at a time.",
    "student": "It is a **student**: it learned to give, from a few views, what its teacher gives from many.",
    "imported": "It was **imported** from another program's files.",
}


def _summary(config: Config, source: Source) -> str:
    row, subject = BACKBONES[config.backbone], source.subject
    return (
        f"{row.label} for re-identification by [views knowledge distillation]({PAPER}): one picture or a "
        f"tracklet of a {subject} becomes an embedding of {row.width} numbers, so that the same {subject} "
        f"can be found again in the pictures of another camera. {_STAGES[config.stage]} Data: {source.title}."
    )


def _use(found: Facts, repo: str) -> str:
    config, (height, width) = found.config, found.config.image_size
    other = "" if (config.mean, config.std) == (MEAN, STD) else f", mean={config.mean}, std={config.std}"
    lines = [
        f"With VKD {__version__} installed, in Python:",
        f'```python\nfrom vkd.models.network import ReIDNet\nnet = ReIDNet.from_pretrained("{repo}")\n```',
        "and then, for pictures of one tracklet:",
        "```python\nfrom vkd.data.transforms import prepare\n"
        f'clip = prepare(["first.jpg", "second.jpg"], size=({height}, {width}){other})[None]\n'
        f"embedding = net.embed(clip)  # (1, {BACKBONES[config.backbone].width}); compare by cosine\n```",
        "Or as a folder, for the command line and the app:",
        f"```sh\nvkd hub pull {repo}\n```",
    ]
    if len(found.weights) > 1:
        best, last = found.weights.values()
        lines.append(
            f"Two files of weights are here. `best.safetensors` (epoch {best.epoch}, the best by mAP) is "
            f"what loads by itself; `model.safetensors` (epoch {last.epoch}) is the last epoch."
        )
    return "\n\n".join(lines)


def _scores(found: Facts, source: Source) -> str:
    """Scores of each file of weights, of the teacher, and the published ones; and what the numbers are."""
    config = found.config
    names = ("this network", "its last weights")
    tables: dict[str, dict[str, dict[str, float]]] = {
        name: scores_of(each) for name, each in zip(names, found.weights.values(), strict=False)
    }
    if teacher := teacher_of(found):
        tables["its teacher"] = scores_of(teacher.config)
    stages = ("teacher", "student") if config.stage == "imported" else (config.stage,)
    published = {stage: PUBLISHED.get((config.dataset, config.backbone, stage), {}) for stage in stages}
    for stage, scores in published.items():
        if scores:
            tables[f"published {stage}"] = {
                protocol: {"map_trapezoid": metrics["map"], "top1": metrics["top1"]}
                for protocol, metrics in scores.items()
            }
    told = [*_about_scores(found, source), _about_published(source, any(published.values()))]
    return "\n\n".join([*told, metrics_tables.markdown(tables)] if any(tables.values()) else told)


def _about_scores(found: Facts, source: Source) -> Iterator[str]:
    scores = scores_of(found.config)
    if not scores:
        yield "**Scores of this network are not known**: its folder holds none."
        return
    named = ", ".join(f"{name.upper()}: {PROTOCOLS[name].title}" for name in scores)
    told = [
        f"On the test split of {source.title}, in percent, as measured by whoever trained it and verified by "
        f"nobody else ({named}; cosine of embeddings before the neck)."
    ]
    if any("map" in metrics for metrics in scores.values()):
        told.append("Which convention of average precision the mAP follows is not recorded.")
    else:
        told.append("Two conventions of average precision are in use; each column names its own.")
    if source.queries_in_gallery and found.config.stage != "imported":
        told.append("Query tracklets are part of the gallery.")
    if len(found.weights) > 1:
        told.append(
            "The weights were chosen among the evaluated epochs by their mAP on this same split, which "
            "flatters them a little."
        )
    yield " ".join(told)


def _about_published(source: Source, published: bool) -> str:
    if published:
        return (
            f"*Published* is what Table 1 of the [paper]({PAPER}) reports for this data set and backbone "
            "under its own recipe, with the trapezoid AP."
        )
    if source.synthetic:
        return "No published number exists for synthetic data, and none on photographs compares with these."
    if source is UNKNOWN:
        return "As the data set is not known, no published number can be set beside it."
    return "The paper's Table 1 has no number for this data set and backbone."


def _about_heatmaps(source: Source) -> str:
    text = (
        f"Heat is what raises the similarity to the same {source.subject} under another camera (Grad-CAM). "
        "Each map is scaled to its own maximum: compare places, not strengths."
    )
    if not source.synthetic:
        text += " The photographs are coarsened, so that nobody in them can be recognised."
    return text


def _lineage(found: Facts, teacher: str | None) -> str:
    config, settings = found.config, found.settings
    link = f"[{teacher}](https://huggingface.co/{teacher})" if teacher else ""
    if config.stage == "teacher":
        return "None: it is a teacher itself."
    if config.stage == "imported":
        return f"Its publisher names {link}." if link else "Whether it had a teacher is not recorded."
    name = link or (f"`{word(config.parent)}`" if config.parent else "a network whose name is not recorded")
    text = [f"Its teacher is {name}."]
    if settings is not None and not any(getattr(settings, f"{loss}_weight", 1) for loss in ("kd", "dp")):
        text.append("It is a **control**: nothing was distilled into it (the weights of KD and DP are 0).")
    if start := getattr(settings, "start", None):
        text.append(f"It began as a copy of another network, `{word(str(start))}` (cross-distillation).")
    return " ".join(text)


def _training(found: Facts) -> str:
    config, settings = found.config, found.settings
    if settings is None:
        known = f" Its config speaks of {config.epoch} epochs." if config.epoch else ""
        return f"How it was trained is not recorded: the folder holds no settings.{known}"
    words = local_words(found)
    lines = [_course(found)]
    if settings.preset:
        lines.append(f"The settings began with the preset `{word(settings.preset)}`.")
    notes = started(found).get("notes")
    lines += [f"- {prose(scrubbed(str(note), words))}" for note in (notes if isinstance(notes, list) else [])]
    fields = type(settings).model_fields
    rows = [
        f"| `{name}` | {_value(value)} | {prose(fields[name].description or '')} |"
        for name, value in plain_settings(settings).items()
        if name not in _NOT_TOLD
    ]
    table = "\n".join(["| setting | value | |", "|---|---|---|", *rows])
    lines.append(f"<details>\n<summary>All settings</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(filter(None, lines))


def _course(found: Facts) -> str:
    """Epochs, steps, device and pace in a sentence, '' without events."""
    done, began = by_epoch(found, "epoch"), started(found)
    if not done:
        return ""
    speeds = [event.get("images_per_second") for event in done.values()]
    speeds = [speed for speed in speeds if isinstance(speed, int | float) and math.isfinite(speed)]
    steps, processes = began.get("steps"), began.get("processes")
    text = f"{max(done)} epochs"
    if isinstance(steps, int):
        text += f" of {steps} steps"
    if device := word(scrubbed(str(began.get("device", "")), local_words(found))):
        text += f" on {device}"
    if isinstance(processes, int) and processes > 1:
        text += f", {processes} processes"
    if speeds:
        text += f", {sum(speeds) / len(speeds):.0f} pictures a second"
    return text + "."


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else word(str(value))


def _data(found: Facts, source: Source) -> str:
    config, (height, width) = found.config, found.config.image_size
    named = f" Its config calls it `{word(config.dataset)}`." if source is UNKNOWN and config.dataset else ""
    lines = [
        source.seen + named,
        f"It learned {config.identities} identities, from pictures resized to {height} × {width} pixels "
        "(height × width).",
        source.terms,
    ]
    terms = "The code of VKD is under the MIT licence."
    if getattr(found.settings, "pretrained", False) and BACKBONES[config.backbone].weights is not None:
        terms += " Training was asked to start from ImageNet weights, whose own terms hold too."
    return "\n\n".join([*lines, terms])


def _made(found: Facts) -> str:
    kept = ["config", "settings"] if found.settings else ["config"]
    kept += ["events"] if found.events else []
    return (
        f"Written by VKD {__version__} from the {', '.join(kept)} of a checkpoint's folder. Nobody has "
        "checked it: its publisher should read it and add what is missing."
    )
