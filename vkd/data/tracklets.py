"""Tracklets, the splits of a dataset, protocols and the junk rule. No torch here.

A *tracklet* is a sequence of images of one identity in one camera; a single image is a tracklet of one
frame. A gallery item with the query's identity and camera is *junk* for that query (it neither helps nor
hurts), so a query is *valid* when its identity occurs in the gallery under another camera or without a
camera label.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from vkd.io.errors import VKDError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN_CAMERA = -1
"""No camera label. Such an item is never junk."""

UNKNOWN_IDENTITY = -1
"""No identity label: an unlabelled image in a folder to be searched."""


class Protocol(NamedTuple):
    """Kind of the queries and of the gallery items, "image" or "tracklet", and the name in full."""

    query: str
    gallery: str
    title: str


PROTOCOLS: dict[str, Protocol] = {
    "i2v": Protocol("image", "tracklet", "image to video"),
    "v2v": Protocol("tracklet", "tracklet", "video to video"),
    "i2i": Protocol("image", "image", "image to image"),
    "v2i": Protocol("tracklet", "image", "video to image"),
}
"""Key → protocol. Source: arXiv 2007.04174, section 4."""


Part = Literal["gallery", "query", "train", "gallery_images", "query_images"]


class Tracklet(NamedTuple):
    """Frames in temporal order, as absolute path strings (half a million `Path` objects are slow)."""

    frames: tuple[str, ...]
    identity: int
    camera: int


@dataclass(frozen=True)
class Splits:
    """A dataset as read from disk. Identities are the raw ones; `labels` numbers those of training.

    `gallery` is what the protocols search. Where they count the queries as gallery items too (MARS),
    `queries_in_gallery` is set and the queries stand in front of `gallery_only`. `names` gives the folder
    name of an identity (plain folders only); `val` is a validation part, which is neither trained on nor
    searched; `notes` are sentences about how the files were understood and what was passed over.
    """

    name: str
    root: Path
    train: tuple[Tracklet, ...]
    query: tuple[Tracklet, ...]
    gallery_only: tuple[Tracklet, ...]
    query_images: tuple[Tracklet, ...]
    gallery_only_images: tuple[Tracklet, ...]
    queries_in_gallery: bool = False
    names: dict[int, str] = field(default_factory=dict)
    val: tuple[Tracklet, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def gallery(self) -> tuple[Tracklet, ...]:
        """Gallery tracklets as the protocols search them."""
        return (self.query if self.queries_in_gallery else ()) + self.gallery_only

    @property
    def gallery_images(self) -> tuple[Tracklet, ...]:
        """Gallery images, as one-frame tracklets, as the protocols search them."""
        return (self.query_images if self.queries_in_gallery else ()) + self.gallery_only_images

    def labels(self) -> dict[int, int]:
        """Maps the raw training identities, in ascending order, to classes 0..K-1."""
        return {identity: label for label, identity in enumerate(sorted({t.identity for t in self.train}))}

    def query_gallery(self, protocol: str) -> tuple[tuple[Tracklet, ...], tuple[Tracklet, ...]]:
        """Returns the query and the gallery side of a protocol (a key of PROTOCOLS).

        Raises VKDError for any other word.
        """
        if protocol not in PROTOCOLS:
            raise VKDError(f"Unknown protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}.")
        kinds = PROTOCOLS[protocol]
        queries = {"image": self.query_images, "tracklet": self.query}
        galleries = {"image": self.gallery_images, "tracklet": self.gallery}
        return queries[kinds.query], galleries[kinds.gallery]

    def part(self, name: Part) -> tuple[Tracklet, ...]:
        """Returns one part of the dataset by its name."""
        return getattr(self, name)

    def frames(self) -> Iterable[str]:
        """Returns every frame of every split once, in reading order."""
        parts = (self.train, self.query, self.gallery_only, self.query_images, self.gallery_only_images)
        return dict.fromkeys(frame for part in parts for tracklet in part for frame in tracklet.frames)


@overload
def is_junk(query_identity: int, query_camera: int, identity: int, camera: int) -> bool: ...
@overload
def is_junk(
    query_identity: "int | NDArray", query_camera: "int | NDArray", identity: "NDArray", camera: "NDArray"
) -> "NDArray[np.bool_]": ...
def is_junk(query_identity: Any, query_camera: Any, identity: Any, camera: Any) -> Any:
    """True where a gallery item has the query's known identity and known camera (numbers or arrays).

    Junk is left out of the query's ranking, as if it were not in the gallery (MARS and Market-1501 rules).
    """
    same = (identity == query_identity) & (camera == query_camera)
    return same & (identity != UNKNOWN_IDENTITY) & (camera != UNKNOWN_CAMERA)


def first_frames(tracklets: Iterable[Tracklet]) -> tuple[Tracklet, ...]:
    """Returns one-frame tracklets of the first frames: the image side of a protocol."""
    return tuple(Tracklet(t.frames[:1], t.identity, t.camera) for t in tracklets)


def valid_queries(queries: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> int:
    """Counts the queries with a match that is not junk: same known identity, another (or no) camera."""
    cameras: dict[int, set[int]] = {}
    for item in gallery:
        cameras.setdefault(item.identity, set()).add(item.camera)
    return sum(_has_match(query, cameras.get(query.identity, set())) for query in queries)


def _has_match(query: Tracklet, cameras: set[int]) -> bool:
    identity = query.identity
    return identity != UNKNOWN_IDENTITY and any(
        not is_junk(identity, query.camera, identity, camera) for camera in cameras
    )


def explain_invalid(splits: Splits, protocol: str) -> str:
    """Returns "" if the protocol has a valid query, else the reason and a hint, as the end of a sentence."""
    queries, gallery = splits.query_gallery(protocol)
    if valid_queries(queries, gallery):
        return ""
    hint = "check the query and gallery parts"
    if not queries:
        return f"there are no queries; {_hint_no_queries(gallery) if splits.name == 'folder' else hint}"
    if not gallery:
        return f"the gallery is empty; {hint}"
    if not {t.identity for t in queries} & {t.identity for t in gallery}:
        return f"no query identity appears in the gallery; {hint}"
    if splits.name == "folder":
        hint = f"{_NO_CAMERAS} to ignore camera labels"
    return f"every match shares the query's camera; {hint}"


_NO_CAMERAS = "use cameras='none' (Cameras: none in the app, --cameras none on the command line)"


def _hint_no_queries(gallery: Sequence[Tracklet]) -> str:
    if any(count > 1 for count in Counter(tracklet.identity for tracklet in gallery).values()):
        return (
            f"a test identity needs tracklets of two cameras, or {_NO_CAMERAS} to let those of one camera "
            "match"
        )
    return (
        "a test identity needs two tracklets, of two cameras or of none (images directly in the identity's "
        "folder are tracklets of their own)"
    )
