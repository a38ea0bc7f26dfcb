"""Registry of the datasets: one row of `DATASETS` each, with every fact about it. No torch here.

A dataset is added from outside by one assignment: ``DATASETS["mine"] = Dataset("Mine", read, "layout")``.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vkd.data.benchmarks import is_duke, read_duke, read_mars, read_street, read_veri
from vkd.data.checks import check_images, check_listed, mask_path, summary, summary_table
from vkd.data.folder import FolderItems, folder_items, folder_tracklets, read_folder
from vkd.data.layouts import unreadable_benchmark
from vkd.data.scan import check_utf8, child, visible
from vkd.data.tracklets import (
    PROTOCOLS,
    UNKNOWN_CAMERA,
    UNKNOWN_IDENTITY,
    Splits,
    Tracklet,
    explain_invalid,
    first_frames,
    valid_queries,
)
from vkd.io.errors import MissingFileError, VKDError

__all__ = [
    "DATASETS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "UNKNOWN",
    "UNKNOWN_CAMERA",
    "UNKNOWN_IDENTITY",
    "Dataset",
    "FolderItems",
    "Splits",
    "Tracklet",
    "check_images",
    "check_listed",
    "detect",
    "detect_dataset",
    "first_frames",
    "folder_items",
    "folder_tracklets",
    "gallery_items",
    "mask_path",
    "read_dataset",
    "summary",
    "summary_table",
    "valid_queries",
]

PERSONS = "person-re-identification"
IMAGE_SIZE, ERASING_ASPECT = (256, 128), (0.3, 3.3)
"""Height and width of images, and range of height / width of random erasing, unless a row differs."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Channel statistics by which images are normalised, as torchvision's weights expect."""


@dataclass(frozen=True)
class Dataset:
    """A row of `DATASETS`: how a dataset is read and recognised, its protocol and its terms.

    Attributes:
        title: name shown to users.
        read: reader of the dataset's folder; its keyword arguments are the dataset's options.
        layout: description of the files for error messages.
        marks: entries of which at least one lies in the dataset's folder; () for any folder.
        folders: lowercase names of the official archive's folder; () for any name.
        detect: returns True for a folder that holds this dataset.
        name_pattern: regular expression that recognises the dataset in lowercase names and paths.
        image_size: height and width in pixels to which images are resized.
        erasing_aspect: range of height / width of random erasing.
        protocols: keys of PROTOCOLS under which the dataset is usually evaluated.
        queries_in_gallery: whether query tracklets are gallery items too; None if it is not fixed.
        subject: what an identity is.
        synthetic: True if no image shows a real subject.
        hub_type: dataset type in the metadata of a model card (none of them is a dataset of the Hub).
        tags: search terms on the Hub.
        licence: identifier of the Hub; "other" means the dataset's own terms.
        description: what the dataset shows, for the model card (Markdown).
        terms: terms of use, for the model card (Markdown).
    """

    title: str
    read: Callable[..., Splits]
    layout: str
    marks: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    detect: Callable[[Path], bool] | None = None
    name_pattern: str = ""
    image_size: tuple[int, int] = IMAGE_SIZE
    erasing_aspect: tuple[float, float] = ERASING_ASPECT
    protocols: tuple[str, ...] = ("i2v", "v2v")
    queries_in_gallery: bool | None = None
    subject: str = "subject"
    synthetic: bool = False
    hub_type: str = "unknown"
    tags: tuple[str, ...] = ()
    licence: str = "unknown"
    description: str = "What this model was trained on is not recorded in its folder."
    terms: str = (
        "The dataset is unknown, and so are its terms: do not use these weights before you know them."
    )


def _no_reader(root: Path) -> Splits:
    raise VKDError(f"{root} cannot be read: its dataset is unknown.")


UNKNOWN = Dataset("Unknown dataset", _no_reader, "unknown files")
"""Facts about the dataset of a checkpoint whose config names none of `DATASETS`."""

DATASETS: dict[str, Dataset] = {
    "mars": Dataset(
        title="MARS",
        read=read_mars,
        layout="bbox_train/, bbox_test/ and info/ with train_name.txt, test_name.txt and three .mat files",
        marks=("info", "bbox_train", "bbox_test"),
        folders=("mars",),
        detect=lambda folder: (folder / "info" / "tracks_train_info.mat").is_file(),
        name_pattern="mars",
        queries_in_gallery=True,
        subject="person",
        hub_type="mars-video-reid",
        tags=(PERSONS, "mars"),
        licence="other",
        description=(
            "MARS, a video extension of Market-1501: pedestrians on a university campus under six cameras, "
            "in tracklets made by a detector and a tracker. The images show real people; no record of their "
            "consent to such a use is known here."
        ),
        terms=(
            "MARS was given out for research. Its images are not part of this repository. The terms under "
            "which it was given out bind whoever uses these weights, whatever the licence of the code."
        ),
    ),
    "duke": Dataset(
        title="Duke-Video-ReID",
        read=read_duke,
        layout="train/, query/ and gallery/, each with <identity>/<tracklet>/<identity>_C<camera>_….jpg",
        marks=("train", "query", "gallery"),
        folders=("dukemtmc-videoreid",),
        detect=is_duke,
        name_pattern="duke",
        subject="person",
        hub_type="dukemtmc-videoreid",
        tags=(PERSONS, "dukemtmc-videoreid"),
        licence="other",
        description=(
            "DukeMTMC-VideoReID, cut from DukeMTMC: people filmed by eight cameras on the campus of Duke "
            "University. **DukeMTMC was withdrawn by its authors in 2019**, after it had become known how "
            "the recordings of people who had not agreed to it were being used."
        ),
        terms=(
            "DukeMTMC is withdrawn and must not be passed on. Weights learned from it should serve to "
            "reproduce published research and nothing else, and are better not published: keep this "
            "repository private, or train on another dataset."
        ),
    ),
    "veri": Dataset(
        title="VeRi-776",
        read=read_veri,
        layout="image_train/, image_query/, image_test/, name_train.txt, name_query.txt and test_track.txt",
        marks=("name_train.txt", "test_track.txt", "image_train"),
        folders=("veri", "veri-776", "veri_776", "veri776"),
        detect=lambda folder: (folder / "test_track.txt").is_file(),
        name_pattern="veri",
        image_size=(224, 224),
        erasing_aspect=(0.7, 1.4),
        protocols=tuple(PROTOCOLS),
        subject="vehicle",
        hub_type="veri-776",
        tags=("vehicle-re-identification", "veri-776"),
        licence="other",
        description=(
            "VeRi-776: 776 vehicles in the recordings of 20 traffic cameras of one city. Vehicles have "
            "owners and drivers, and some images show number plates."
        ),
        terms=(
            "VeRi-776 is given out by its authors on request, for non-commercial use. Its images are not "
            "part of this repository; the same terms bind whoever uses these weights."
        ),
    ),
    "folder": Dataset(
        title="Own images (folder)",
        read=read_folder,
        layout="<identity>/<camera>/ or <identity>/ folders, or a CSV with path, identity, camera",
        hub_type="own-images",
        description=(
            "A folder of images of whoever trained this model. What they show, where they come from and "
            "whether the people in them agreed is not recorded: **the publisher should state it here**."
        ),
        terms=(
            "The licence of the images, and with it what these weights may be used for, is not known to the "
            "program that wrote this card: the publisher should state it."
        ),
    ),
    "street": Dataset(
        title="Synthetic street",
        read=read_street,
        layout="as written by `vkd street`: a benchmark's layout, street.json and masks/",
        marks=("street.json", "info"),
        detect=lambda folder: (folder / "street.json").is_file(),
        image_size=(128, 64),
        queries_in_gallery=True,
        subject="person",
        synthetic=True,
        hub_type="vkd-synthetic-street",
        tags=(PERSONS, "synthetic"),
        licence="mit",
        description=(
            "**Synthetic data only**: the street that `vkd street` draws, people made of simple bodies who "
            "walk past a ring of cameras. No person in it exists."
        ),
        terms="The images were drawn by the project's own program and are free of other people's rights.",
    ),
}


def read_dataset(name: str, root: str | Path, *, check: bool = True, **options: object) -> Splits:
    """Reads a dataset from disk.

    Args:
        name: key of DATASETS, or "auto" to detect it from the files.
        root: the dataset's folder, or its parent (for "folder" also a CSV file).
        check: whether to compare the lists with the files and to open up to 5000 of the images.
        options: mars queries_in_gallery; duke grouping; folder cameras, held_out, seed.

    Raises VKDError and MissingFileError that name the path and the reason, for every defect of a dataset.
    """
    base = Path(root).expanduser().absolute()
    check_utf8(str(base))
    if not base.exists():
        raise MissingFileError(f"{base} does not exist: give the folder of the dataset.")
    name = detect_dataset(base) if name == "auto" else name
    if name not in DATASETS:
        raise VKDError(f"Unknown dataset {name!r}: choose from auto, {', '.join(DATASETS)}.")
    dataset = DATASETS[name]
    accepted = [key for key in inspect.signature(dataset.read).parameters if key != "root"]
    unknown = sorted(set(options) - set(accepted))
    if unknown == ["cameras"]:
        raise VKDError(
            f"{dataset.title} has camera labels in its own files: 'cameras' is an option of plain folders "
            "only, leave it at auto."
        )
    if unknown:
        raise VKDError(
            f"Unknown option {unknown[0]!r} for {dataset.title}: it has {', '.join(accepted) or 'none'}."
        )
    splits = dataset.read(_find_root(base, dataset), **options)
    if name != "folder" and (outside := next((path for path in splits.frames() if "/../" in path), "")):
        raise VKDError(f"{splits.root} lists {outside[-80:]!r}, which leads out of its folder.")
    if (reason := explain_invalid(splits, "v2v")) and explain_invalid(splits, "i2v"):
        raise VKDError(f"{splits.root} has 0 valid queries because {reason}.")
    if check:
        check_listed(splits)
        check_images(splits, limit=5000)
    return splits


def detect(folder: Path) -> str:
    """Returns the key of the dataset whose files lie directly in a folder, "" if there is none."""
    # Later rows first: a street, and what is registered from outside, may have a benchmark's layout.
    for key, row in reversed(DATASETS.items()):
        with suppress(OSError, VKDError):  # a folder that may not be opened is no dataset
            if row.detect and row.detect(folder):
                return key
    return ""


def detect_dataset(root: str | Path) -> str:
    """Returns the key of the dataset in a folder or its children; "folder" if there is none.

    Raises VKDError for a tree that looks like a benchmark but cannot be read as one: naming the benchmark and
    what is missing. The dataset "folder", given by name, reads such a tree as own images.
    """
    base = Path(root).expanduser().absolute()
    folders = [base, *_children(base)]
    if name := next(filter(None, map(detect, folders)), ""):
        return name
    for folder in folders[:100] if base.is_dir() else ():
        if reason := unreadable_benchmark(folder):
            raise VKDError(f"{folder} {reason}. To read it as own images, choose the dataset 'folder'.")
    return "folder"


def gallery_items(
    root: str | Path, *, cameras: str = "auto", confined: bool = False, notes: list[str] | None = None
) -> tuple[Sequence[Tracklet], dict[int, str]]:
    """Reads what a gallery is built from: the gallery part of a benchmark, or all images of a folder.

    `confined` refuses a table whose paths lead out of its folder, as in an archive of somebody else. `notes`
    takes sentences on how the files were read. Returns the tracklets, and the names of their identities.
    Raises as `read_dataset`.
    """
    base = Path(root).expanduser()
    if not base.exists():
        raise MissingFileError(f"{base} does not exist: give a dataset or a folder of images.")
    name = detect_dataset(base)
    if name == "folder":
        items = folder_items(base, cameras=cameras, confined=confined)
    else:
        splits = read_dataset(name, base)
        items = FolderItems(splits.part("gallery"), splits.names, list(splits.notes))
    if notes is not None:
        notes += items.notes
    return items.tracklets, items.names


def _children(base: Path) -> list[Path]:
    return [path for path in visible(base) if path.is_dir()] if base.is_dir() else []


def _find_root(base: Path, dataset: Dataset) -> Path:
    """Returns the dataset's own folder: `base`, or its child with an official name."""
    if not dataset.marks:
        return base
    children = _children(base)
    named = [path for path in children if path.name.lower() in dataset.folders or not dataset.folders]
    for folder in (base, *named):
        if any(child(folder, mark).exists() for mark in dataset.marks):
            return folder
    if len(same := [path for path in children if dataset.detect and dataset.detect(path)]) > 1:
        raise VKDError(f"{base} holds {dataset.title} more than once ({same[0].name}, …): give one of them.")
    if same:
        return same[0]
    raise VKDError(f"{base} does not look like {dataset.title}: expected {dataset.layout}.")
