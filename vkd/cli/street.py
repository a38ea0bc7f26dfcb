"""`vkd street`: generates the synthetic street."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import pydantic

from vkd.cli.options import argument, flag, parse, progress_bar, refuse
from vkd.training.fields import Choice


def _layouts() -> Iterable[str]:
    from vkd.synthetic.layouts import LAYOUTS

    return LAYOUTS


class StreetFlags(pydantic.BaseModel):
    root: Path = argument("Folder to write; must be new or empty.")
    layout: Annotated[str, Choice(_layouts)] = flag("mars", "Benchmark whose file layout is written.")
    train_identities: int = flag(60, "Training identities.", ge=1, le=4999)
    test_identities: int = flag(50, "Test identities, none of them a training identity.", ge=1, le=4999)
    group: int = flag(5, "Identities in a look-alike group, who share their clothes.", ge=1, le=1000)
    cameras: int = flag(6, "Cameras.", ge=2, le=9)
    rings: int = flag(
        1,
        "Rings of cameras for the training identities; above 1 the test identities have a ring of their own.",
        ge=1,
        le=100,
    )
    frames: int = flag(8, "Frames in a tracklet.", ge=1, le=999)
    tracklets_per_camera: int = flag(1, "Tracklets of an identity in each camera.", ge=1, le=99)
    size: tuple[int, int] = flag((128, 64), "Height and width of an image in pixels.")
    seed: int = flag(0, "The same seed gives the same bytes.", ge=0)
    difficulty: float = flag(0.5, "Likeness within groups, quality of cameras and boxes.", ge=0, le=1)
    distractors: int = flag(0, "Distractor tracklets in the gallery (MARS layout).", ge=0, le=999)
    junk: int = flag(0, "Tracklets without a person (MARS layout).", ge=0, le=999)
    masks: bool = flag(True, "Write person masks too.")
    workers: int = flag(1, "Processes that render.", ge=1, le=256)


def street(argv: Sequence[str]) -> int:
    """Runs the verb; returns the exit code."""
    (flags,) = parse("vkd street", "Generate the synthetic street.", argv, [StreetFlags])
    if min(flags.size) < 16 or max(flags.size) > 1024:
        refuse("vkd street", "--size: height and width must be from 16 to 1024 pixels")
    if flags.layout != "mars" and (flags.distractors or flags.junk):
        refuse("vkd street", "--layout: only mars has distractors and junk")
    from vkd.data import datasets
    from vkd.synthetic.generate import generate_street

    values = flags.model_dump()
    root = generate_street(values.pop("root"), **values, progress=progress_bar())
    layout = flags.layout if flags.layout != "mars" else "street"
    print(f"{root}\n{datasets.summary_table(datasets.read_dataset(layout, root, check=False))}")
    return 0
