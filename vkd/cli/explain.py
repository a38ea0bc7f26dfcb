"""`vkd explain`: writes the heatmaps of a whole split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from vkd.cli.options import DatasetOptions, Frames, ModelOptions, argument, flag, parse, progress_bar
from vkd.data.tracklets import Part
from vkd.explain.methods import METHODS, TARGETS
from vkd.training.fields import Choice


class ExplainFlags(ModelOptions, DatasetOptions):
    checkpoints: tuple[Path, ...] = argument(
        "One checkpoint folder, or teacher and student.", min_length=1, max_length=2
    )
    out: Path = flag(..., "Folder for the heatmaps: sheets/, heatmaps.csv, heatmaps.json.")
    part: Part = flag("query", "Part of the dataset to explain.")
    limit: int | None = flag(None, "Only this many tracklets, evenly spread; none: all.", ge=1)
    target: Annotated[str, Choice(TARGETS)] = flag("logit", "Score that the heatmaps explain.")
    method: Annotated[str, Choice(METHODS)] = flag("gradcam", "CAM method.")
    layer: str | None = flag(None, "Name or number of the layer; none: the last convolutional stage.")
    views: int = flag(8, "Frames per tracklet.", ge=1, le=64)
    frames: Frames = flag("chunk", "Rule by which the frames are chosen.")
    masks: bool = flag(True, "Measure the share of the CAM on person masks, where the dataset has them.")


def explain(argv: Sequence[str]) -> int:
    """Runs the verb; returns the exit code."""
    (flags,) = parse("vkd explain", "Write the heatmaps of a whole split as images.", argv, [ExplainFlags])
    from vkd.explain.dataset import explain_split

    networks = flags.load(flags.checkpoints)
    splits = flags.read(next(iter(networks.values())).config.dataset)
    numbered = flags.layer is not None and flags.layer.lstrip("-").isdecimal()
    summary = explain_split(
        networks,
        splits.part(flags.part),
        flags.out,
        layer=int(flags.layer) if numbered and flags.layer else flags.layer,
        masks=splits.root if flags.masks and (splits.root / "masks").is_dir() else None,
        progress=progress_bar("tracklet"),
        **flags.model_dump(include={"views", "frames", "target", "method", "limit"}),
    )
    print(f"{flags.out}: {summary['tracklets']} tracklets")
    for name, means in summary["networks"].items():
        share = means.get("on_subject")
        words = f"{name}: mean {flags.target} {means['value']:.3f}"
        print(f"{words}, {share:.1%} of the CAM mass on the person" if share else words)
    return 0
