"""Grad-CAM snapshots: a few fixed images, explained again after every evaluation of a run.

For each probe (one image of a query person) the run's folder holds the Grad-CAM of its comparison
with the same person under another camera, and the five best matches in a small fixed gallery:

    probes/probes.json     the probes and the gallery: identity, camera, file
    probes/probe-0.jpg     the probes;  probes/item-0.jpg  the gallery items
    probes/teacher/        the teacher's snapshot, in a student's run
    probes/00010/          the snapshot of the network saved after epoch 10: look.json, heat-0.jpg …

The choice depends on the dataset alone, so that runs on one dataset can be compared image by image.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vkd.data.tracklets import Splits, Tracklet, is_junk
from vkd.explain.gradcam import heatmaps
from vkd.explain.overlay import overlay
from vkd.io.errors import VKDError
from vkd.io.files import evenly_spaced, replace_dir, staging_dir, write_bytes, write_text
from vkd.io.images import read_image, resize_to_height
from vkd.metrics.scores import distances
from vkd.models import checkpoint
from vkd.models.checkpoint import Checkpoint
from vkd.models.inference import EmbedConfig, embed

FOLDER = "probes"
PROBES, ITEMS, TOP = 4, 48, 5
HEIGHT = 160  # pixels, of the images
_VIEWS = 4  # frames that represent a gallery item


def choose(splits: Splits) -> tuple[list[Tracklet], list[int], list[Tracklet]]:
    """Chooses probes (one image each), the gallery index of a match of each, and the gallery.

    Query people are evenly spaced; the gallery holds their matches and, evenly spaced, others. Raises
    VKDError where no query has a match.
    """
    queries, gallery = splits.query_gallery("i2v")
    by_identity: dict[int, list[Tracklet]] = {}
    for item in gallery:
        by_identity.setdefault(item.identity, []).append(item)

    def matches(query: Tracklet) -> list[Tracklet]:
        items = by_identity.get(query.identity, [])
        return [item for item in items if not is_junk(*query[1:], *item[1:])]

    people = {query.identity: query for query in reversed(queries) if matches(query)}
    if not people:
        raise VKDError("No query has a match under another camera, so there are no snapshots.")
    probes = [people[identity] for identity in evenly_spaced(sorted(people), PROBES)]
    items = list(dict.fromkeys(item for probe in probes for item in matches(probe)[:2]))
    mates = [items.index(matches(probe)[0]) for probe in probes]
    identities = {probe.identity for probe in probes}
    others = [item for item in gallery if item.identity not in identities]
    return probes, mates, items + evenly_spaced(others, ITEMS - len(items))


class Snapshots:
    """The probes of one run and their gallery; writes a snapshot of a network."""

    def __init__(
        self, folder: Path, splits: Splits, *, teacher: Path | None = None, device: str = "cpu"
    ) -> None:
        """Chooses the probes and writes them and, for a student, the snapshot of its `teacher`.

        Raises VKDError where no query has a match, or for an image or a checkpoint that cannot be read.
        """
        self.folder, self.device = folder, device
        self.probes, self.mates, self.gallery = choose(splits)
        (folder / FOLDER).mkdir(exist_ok=True)
        table = {
            "probes": [self._write_image(item, f"probe-{n}.jpg") for n, item in enumerate(self.probes)],
            "gallery": [self._write_image(item, f"item-{n}.jpg") for n, item in enumerate(self.gallery)],
        }
        write_text(folder / FOLDER / "probes.json", json.dumps(table))
        if teacher is not None:
            self._write("teacher", checkpoint.load(teacher), epoch=0)

    def write(self, epoch: int) -> Path:
        """Writes the snapshot of the network that the run saved last; returns its folder."""
        return self._write(f"{epoch:05d}", checkpoint.load(self.folder, weights="model"), epoch)

    def _write_image(self, tracklet: Tracklet, name: str) -> dict[str, Any]:
        write_bytes(self.folder / FOLDER / name, _jpeg(_small(tracklet)))
        return {"identity": tracklet.identity, "camera": tracklet.camera, "picture": name}

    def _write(self, name: str, network: Checkpoint, epoch: int) -> Path:
        target = self.folder / FOLDER / name
        # What training draws afterwards must not depend on whether snapshots are written.
        with staging_dir(target) as work, torch.random.fork_rng(devices=[]):
            rows = []
            for number, (similarities, mate) in enumerate(self._similarities(network)):
                heat, value = self._heat(self.probes[number], network, mate)
                (work / f"heat-{number}.jpg").write_bytes(_jpeg(Image.fromarray(heat)))
                top = self._top(self.probes[number], similarities)
                rows.append({"heat": f"heat-{number}.jpg", "similarity": round(value, 4), "top": top})
            (work / "look.json").write_text(json.dumps({"epoch": epoch, "looks": rows}), encoding="utf-8")
            replace_dir(work, target)
        return target

    def _similarities(self, network: Checkpoint) -> list[tuple[NDArray, NDArray]]:
        """Returns for each probe its similarity to the gallery (n,) and the embedding (D,) of its match."""
        config = EmbedConfig.of(network.config, views=_VIEWS, device=self.device)
        queries = embed(
            network.net, [probe._replace(frames=probe.frames[:1]) for probe in self.probes], config
        )
        items = embed(network.net, self.gallery, config)
        return list(zip(1 - distances(queries, items), items[self.mates], strict=True))

    def _heat(self, probe: Tracklet, network: Checkpoint, mate: NDArray) -> tuple[NDArray[np.uint8], float]:
        """Returns a probe under the heatmap of what it shares with its match, and their similarity."""
        clip = network.prepare(probe.frames[:1])[None].to(self.device)
        heat = heatmaps(network.net, clip, target=mate)
        return overlay(np.asarray(_small(probe)), heat.maps[0, 0]), float(heat.values[0])

    def _top(self, probe: Tracklet, similarities: NDArray) -> list[dict[str, Any]]:
        """Returns the best matches of a probe, junk left out."""
        ranking = map(int, np.argsort(-similarities, kind="stable"))
        valid = [item for item in ranking if not is_junk(*probe[1:], *self.gallery[item][1:])]
        return [{"item": item, "similarity": round(float(similarities[item]), 4)} for item in valid[:TOP]]


def _small(tracklet: Tracklet) -> Image.Image:
    """Returns a tracklet's first frame at the height of the snapshots."""
    return resize_to_height(read_image(tracklet.frames[0]).permute(1, 2, 0).contiguous().numpy(), HEIGHT)


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()
