"""The model card of a checkpoint: metadata that the Hub reads, and a text for people.

What the folder does not say the card says is not known. Names and sentences from outside are made plain
before they come near YAML or Markdown.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd.hub.card_text import scores_of, sections, source_of, title_of, word
from vkd.hub.dataset_terms import Source
from vkd.hub.files import staying, travelling
from vkd.hub.summary import Facts, facts
from vkd.io.errors import VKDError
from vkd.metrics.ranking import METRICS
from vkd.models.config import Config

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

__all__ = ["card", "metadata", "staying", "travelling"]

TASK = "image-feature-extraction"
"""The nearest task that the Hub knows: pictures in, embeddings out."""


def card(
    folder: str | Path,
    repo: str | None = None,
    *,
    teacher: str | None = None,
    pictures: Iterable[str] = (),
) -> str:
    """README.md of the checkpoint in `folder`: front matter and text.

    `repo` is where it goes, `teacher` the repository of a student's teacher, both user/name; `pictures` are
    the names of those that travel along (`travelling`). Raises FileNotFoundError or ValueError for a folder
    that is no checkpoint, ValueError for a name that is no repository's and for a teacher's teacher.
    """
    found = facts(folder)
    for name in filter(None, (repo, teacher)):
        _check_repo(name)
    if teacher and found.config.stage == "teacher":
        raise VKDError(f"{folder} is a teacher and has no teacher of its own: leave '{teacher}' out.")
    data = metadata(found, repo, teacher).to_yaml()
    text = "\n\n".join(part.strip() for part in sections(found, repo, teacher, set(pictures)))
    return f"---\n{data}\n---\n\n{text}\n"


def _check_repo(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise VKDError(f"'{name}' is no name of a repository on the Hub: {error}") from None


def metadata(found: Facts, repo: str | None = None, teacher: str | None = None) -> "ModelCardData":
    """The front matter. No `datasets`: none of ours is a data set of the Hub under its authors' name."""
    from huggingface_hub import ModelCardData  # not at the top: the page must open without it

    config, source = found.config, source_of(found.config)
    more: dict[str, Any] = {}
    if source.licence == "other":
        more["license_name"] = "data-set-terms"
        if repo:
            more["license_link"] = f"https://huggingface.co/{repo}#data-and-licences"
    if teacher:
        # The Hub knows finetune, adapter, merge and quantized. A student begins with the weights of a
        # trained network and is trained on.
        more |= {"base_model": teacher, "base_model_relation": "finetune"}
    stage = [] if config.stage == "imported" else [config.stage]
    tags = ["re-identification", *source.tags, "image-retrieval", "knowledge-distillation", *stage]
    return ModelCardData(
        library_name="vkd",
        pipeline_tag=TASK,
        license=source.licence,
        tags=[*tags, word(config.backbone)],
        model_name=title_of(found, repo),
        eval_results=list(_results(config, source)) or None,
        **more,
    )


def _results(config: Config, source: Source) -> Iterator[Any]:
    """One result for each protocol and metric, in percent. The protocol is the data set's configuration: by
    that the Hub keeps results apart.
    """
    from huggingface_hub import EvalResult

    for protocol, metrics in scores_of(config).items():
        arguments: dict[str, Any] = {"protocol": protocol}
        if source.queries_in_gallery is not None and config.stage != "imported":
            arguments["queries_in_gallery"] = source.queries_in_gallery
        for key, value in metrics.items():
            convention = key.removeprefix("map_") if key.startswith("map_") else None
            yield EvalResult(
                task_type=TASK,
                task_name="Re-identification",
                dataset_type=source.kind,
                dataset_name=source.title,
                dataset_config=protocol,
                dataset_split="test",
                dataset_args=arguments,
                metric_type=METRICS[key].hub_type or METRICS[key].title,
                metric_name=f"{protocol.upper()} {METRICS[key].title}" + ", %" * METRICS[key].percent,
                metric_value=round(100 * value, 2) if METRICS[key].percent else value,
                metric_args={"ap": convention} if convention else None,
                verified=False,
            )
