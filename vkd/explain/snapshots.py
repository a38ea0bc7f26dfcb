"""Watching attention move: a few fixed pictures, looked at again after every evaluation of a run.

For each probe (one picture of a query person) the run's folder keeps where the network looks when it compares
it with the same person seen by another camera, and the five best matches among a small fixed gallery:

    probes/probes.json     the probes and the gallery: identity, camera, picture
    probes/probe-0.jpg     the probes;  probes/item-0.jpg  the gallery items
    probes/teacher/        the teacher's look at them, in a student's run
    probes/00010/          the look of the network saved after epoch 10: look.json, heat-0.jpg …

The choice depends on the data set alone, so that runs on one data set can be compared picture by picture.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vkd.data import datasets
from vkd.data.datasets import Splits, Tracklet
from vkd.data.tracklets import is_junk
from vkd.data.transforms import prepare
from vkd.explain.gradcam import heatmaps
from vkd.explain.overlay import overlay
from vkd.io.errors import VKDError
from vkd.io.files import replace_dir, staging_dir
from vkd.io.grids import resize_to_height
from vkd.io.images import read_image
from vkd.metrics.scores import distances
from vkd.models import checkpoint
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import EmbedConfig, embed

FOLDER = "probes"
PROBES, ITEMS, TOP = 4, 48, 5
_HEIGHT = 160


def choose(splits: Splits) -> tuple[list[Tracklet], list[int], list[Tracklet]]:
    """Probes (one picture each), for each the gallery place of the same person elsewhere, and the gallery.

    Query people at equal distances; the gallery holds their tracklets from other cameras and, at equal
    distances, others. Raises ValueError where no query has a match.
    """
    queries, gallery = splits.query_gallery("i2v")
    mates: dict[int, list[Tracklet]] = {}
    for item in gallery:
        mates.setdefault(item.identity, []).append(item)

    def elsewhere(query: Tracklet) -> list[Tracklet]:
        return [
            item
            for item in mates.get(query.identity, [])
            if item.camera != query.camera or query.camera == datasets.UNKNOWN_CAMERA
        ]

    people = {query.identity: query for query in reversed(queries) if elsewhere(query)}
    if not people:
        raise VKDError("No query has a match under another camera, so there is nothing to watch.")
    probes = [people[identity] for identity in _spread(sorted(people), PROBES)]
    kept = list(dict.fromkeys(item for probe in probes for item in elsewhere(probe)[:2]))
    places = [kept.index(elsewhere(probe)[0]) for probe in probes]
    shown = {probe.identity for probe in probes}
    others = [item for item in gallery if item.identity not in shown]
    return probes, places, kept + _spread(others, ITEMS - len(kept))


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items at equal distances."""
    count = max(0, min(count, len(items)))
    return [items[place * len(items) // count] for place in range(count)]


class Probes:
    """The probes of one run, its gallery, and where they are written."""

    def __init__(self, folder: Path, splits: Splits, device: str = "cpu") -> None:
        self.folder, self.device = folder, device
        self.probes, self.mates, self.gallery = choose(splits)

    @classmethod
    def of(
        cls, folder: Path, splits: Splits, *, teacher: Path | None = None, device: str = "cpu"
    ) -> "Probes":
        """Chooses the probes, writes what they are and, for a student, how its teacher sees them."""
        made = cls(folder, splits, device)
        place = folder / FOLDER
        place.mkdir(exist_ok=True)
        table = {
            "probes": [made._keep(probe, f"probe-{n}.jpg") for n, probe in enumerate(made.probes)],
            "gallery": [made._keep(item, f"item-{n}.jpg") for n, item in enumerate(made.gallery)],
        }
        (place / "probes.json").write_text(json.dumps(table), encoding="utf-8")
        if teacher is not None:
            made._write("teacher", checkpoint.load(teacher), epoch=0)
        return made

    def look(self, epoch: int) -> Path:
        """Load the network that was just saved, look at every probe, and write what it sees."""
        return self._write(f"{epoch:05d}", checkpoint.load(self.folder, weights="model"), epoch)

    def _keep(self, tracklet: Tracklet, name: str) -> dict[str, Any]:
        _small(tracklet.frames[0]).save(self.folder / FOLDER / name, quality=88)
        return {"identity": tracklet.identity, "camera": tracklet.camera, "picture": name}

    def _write(self, name: str, known: Checkpoint, epoch: int) -> Path:
        place = self.folder / FOLDER / name
        with staging_dir(place) as staged:
            with torch.random.fork_rng(devices=[]):
                looks = [self._seen(n, staged, known, items) for n, items in self._ranked(known)]
            text = json.dumps({"epoch": epoch, "looks": looks})
            (staged / "look.json").write_text(text, encoding="utf-8")
            replace_dir(staged, place)
        return place

    def _ranked(self, known: Checkpoint) -> Iterator[tuple[int, tuple[NDArray, NDArray]]]:
        """For each probe: its similarity to every gallery item (n,), and the embedding (D,) of its mate."""
        config = EmbedConfig.of(known.config, views=4, device=self.device)
        firsts = [Tracklet(probe.frames[:1], probe.identity, probe.camera) for probe in self.probes]
        found, items = embed(known.net, firsts, config), embed(known.net, self.gallery, config)
        similar = 1 - distances(found, items)
        for n, mate in enumerate(self.mates):
            yield n, (similar[n], items[mate])

    def _seen(self, n: int, work: Path, known: Checkpoint, ranked: tuple[NDArray, NDArray]) -> dict[str, Any]:
        similar, mate = ranked
        probe, config = self.probes[n], known.config
        clip = prepare(probe.frames[:1], size=config.image_size, mean=config.mean, std=config.std)[None]
        heat = heatmaps(known.net, clip.to(self.device), target=mate)
        picture = np.asarray(_small(probe.frames[0]))
        small = torch.nn.functional.interpolate(
            torch.as_tensor(np.asarray(heat.maps))[:1, :1], size=picture.shape[:2], mode="bilinear"
        )
        Image.fromarray(overlay(picture, small[0, 0].numpy())).save(work / f"heat-{n}.jpg", quality=88)
        best = np.argsort(-similar, kind="stable")
        best = [int(item) for item in best if not is_junk(*probe[1:], *self.gallery[item][1:])][:TOP]
        return {
            "heat": f"heat-{n}.jpg",
            "similarity": round(float(np.asarray(heat.values)[0]), 4),
            "top": [{"item": item, "similarity": round(float(similar[item]), 4)} for item in best],
        }


def _small(path: str) -> Image.Image:
    return resize_to_height(read_image(path).permute(1, 2, 0).contiguous().numpy(), _HEIGHT)
