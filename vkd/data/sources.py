"""What a gallery is made of: one part of a data set, or all pictures of a folder. No torch here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vkd.data import datasets
from vkd.data.tracklets import Splits, Tracklet
from vkd.io.errors import MissingFileError

Part = Literal["gallery", "query", "train", "gallery_images", "query_images"]


def part_of(splits: Splits, part: Part) -> Sequence[Tracklet]:
    """One part of a data set; the gallery as the protocols search it, with MARS's queries."""
    if part.startswith("gallery"):
        return splits.query_gallery("v2v" if part == "gallery" else "i2i")[1]
    return getattr(splits, part)


def gallery_items(root: str | Path, *, cameras: str = "auto") -> tuple[Sequence[Tracklet], dict[int, str]]:
    """The items to index, and the names of their identities: a benchmark's gallery part, a folder whole.

    Raises FileNotFoundError or ValueError, as the readers do.
    """
    base = Path(root).expanduser()
    if not base.exists():
        raise MissingFileError(f"{base} does not exist: give a data set or a folder of pictures.")
    name = datasets.guess(base)
    if name == "folder":
        return datasets.labelled_tracklets(base, cameras=cameras)
    splits = datasets.read(name, base)
    return part_of(splits, "gallery"), splits.names
