"""Heatmaps of both networks for the pictures of one subject, as the page, the API and the files show them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from vkd.explain.dataset import on_subject, overlay, sheet
from vkd.explain.overlay import Strip
from vkd.io.errors import VKDError
from vkd.io.images import read_image
from vkd.models.checkpoint import Checkpoint
from vkd.ui import html, inputs, state
from vkd.ui.explain import heatmaps
from vkd.ui.state import AppPaths

IDENTITY, CHOSEN, SECOND = "top identity", "chosen identity", "second picture"
TARGETS = (IDENTITY, CHOSEN, SECOND)
MOST_VIEWS = 8


class Answer(NamedTuple):
    """One network's heatmaps: of the pictures (V, H, W) and, for a likeness, of the second pictures."""

    part: str
    network: str
    value: float
    meaning: str
    share: float | None
    """Of the heat on the subject, mean over views; None where no mask is known."""
    maps: np.ndarray
    back: np.ndarray | None


class Explained(NamedTuple):
    """What was asked about, the answers there are, and the parts and networks that are still to come."""

    pictures: list[torch.Tensor]
    second: list[torch.Tensor]
    answers: list[Answer]
    rest: list[tuple[str, str]]


class Wanted(NamedTuple):
    """What to explain, how, and with which networks; texts as `vkd.ui.explain.explain` takes them."""

    target: str
    method: str
    teacher: str | None
    student: str | None
    layer: str = ""
    identity: str = ""


def explain(
    paths: AppPaths, pictures: list[Any] | None, second: list[Any] | None, wanted: Wanted
) -> Iterator[Explained]:
    """Compute it, one network after the other; what was found so far is answered after each.

    Raises ValueError or FileNotFoundError with a sentence for a person.
    """
    query = inputs.read_query(paths, inputs.picture_files(pictures)[:MOST_VIEWS])
    if wanted.target not in TARGETS:
        raise VKDError(f"'{wanted.target}' is not a target: choose one of {', '.join(TARGETS)}.")
    other: list[torch.Tensor] = []
    if wanted.target == SECOND:
        files = inputs.picture_files(second, what="second picture")
        other = inputs.read_query(paths, files[:MOST_VIEWS]).pictures[:MOST_VIEWS]
    named = (("teacher", wanted.teacher), ("student", wanted.student))
    rest = [(part, name) for part, name in named if name]
    if not rest:
        raise VKDError("No network is chosen: pick a teacher or a student under 'Networks and method'.")
    found = Explained(query.pictures[:MOST_VIEWS], other, [], rest)
    while found.rest:
        (part, name), *rest = found.rest
        net = state.load_model(state.checkpoint_folder(paths, name))
        answer = _answer(part, name, net, found, query.masks, wanted)
        found = found._replace(answers=[*found.answers, answer], rest=rest)
        yield found


def _answer(
    part: str, name: str, net: Checkpoint, found: Explained, masks: Sequence[Any], wanted: Wanted
) -> Answer:
    """What one network sees in the pictures, and in the second ones where there are any."""
    goal: Any = None
    if wanted.target == SECOND:
        goal = inputs.embed(net, found.second)
    elif wanted.target == CHOSEN:
        goal = _class_of(net, name, wanted.identity)
    layer = layer_of(wanted.layer)
    heat, back = heatmaps.compute(net, found.pictures, goal, wanted.method, layer), None
    if found.second:
        reference = inputs.embed(net, found.pictures)
        back = heatmaps.compute(net, found.second, reference, wanted.method, layer).maps
    share = _on_subject(heat.maps, masks)
    return Answer(part, name, heat.value, _meaning(net, heat.index, wanted.target), share, heat.maps, back)


def layer_of(text: str) -> str | int | None:
    """'' or 'last': the last map; a whole number: that stage; else a layer's name."""
    text = (text or "").strip()
    if text.lower() in ("", "last"):
        return None
    return int(text) if text.lstrip("-").isdecimal() else text


def _class_of(net: Checkpoint, name: str, identity: str) -> int:
    """The class of a training identity: by its raw number where the checkpoint knows them."""
    labels, text = net.config.labels, (identity or "").strip()
    known = labels or range(net.config.identities)
    if not text.isdecimal() or int(text) not in known:
        raise VKDError(
            f"{name} was not trained on an identity '{text}': it knows {len(known)}, "
            f"from {min(known)} to {max(known)}."
        )
    return labels.index(int(text)) if labels else int(text)


def _meaning(net: Checkpoint, index: int, target: str) -> str:
    if index < 0:
        return "similarity to the second picture (cosine)"
    labels = net.config.labels
    which = "its top identity, " if target == IDENTITY else ""
    return f"logit of {which}training identity {labels[index] if labels else index}"


def _on_subject(maps: np.ndarray, masks: Sequence[Any]) -> float | None:
    shares = [
        on_subject(heat, read_image(mask)[0].numpy())
        for heat, mask in zip(maps, masks, strict=False)
        if mask is not None
    ]
    known = [share for share in shares if not np.isnan(share)]
    return float(np.mean(known)) if known else None


def as_data(found: Explained) -> dict[str, Any]:
    """The explained numbers as JSON."""
    return {
        one.part: {
            "network": one.network,
            "value": round(one.value, 4),
            "meaning": one.meaning,
            "on_subject": None if one.share is None else round(one.share, 4),
        }
        for one in found.answers
    }


def as_html(found: Explained) -> str:
    """The page's answer: side by side, and a slider between the two once both are there."""
    panels = []
    for one in found.answers:
        views = heatmaps.views(found.pictures, one.maps, "view")
        others = [] if one.back is None else heatmaps.views(found.second, one.back, "second picture")
        panels.append(html.Panel(one.part, one.network, one.value, one.meaning + _share(one), views, others))
    rest = "".join(html.waiting(part, name) for part, name in found.rest)
    return html.heat(panels, wipe=len(panels) == 2, rest=rest)


def _share(one: Answer) -> str:
    return "" if one.share is None else f" · {100 * one.share:.0f} % of the heat on the subject"


def as_picture(found: Explained) -> Image.Image:
    """One sheet: the pictures, then each network's heatmaps with its number."""
    shown = [heatmaps.shown(picture) for picture in (*found.pictures, *found.second)]
    strips = [Strip("pictures" if len(shown) > 1 else "picture", shown)]
    for one in found.answers:
        maps = [*one.maps, *([] if one.back is None else one.back)]
        caption = f"{one.part.capitalize()} {one.network}: {one.meaning} = {one.value:.2f}{_share(one)}"
        strips.append(Strip(caption, [overlay(*pair) for pair in zip(shown, maps, strict=True)]))
    return sheet(strips, height=256)
