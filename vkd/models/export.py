"""Exports a network for other programs: ONNX and `torch.export`.

A file holds what embeds, images (B, V, 3, H, W) → embedding (B, D), for any number of tracklets and views;
neck and classifier serve training alone. TorchScript is not written: PyTorch has deprecated it. A file is
read again and compared with the network before it takes its name. No torch at import: the command line's help
lists FORMATS.
"""

import copy
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd.io.errors import VKDError
from vkd.io.files import staging_dir

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vkd.models.checkpoint import Checkpoint

TOLERANCE = 1e-4
"""Largest difference to the network's own embeddings, over their largest value."""
CHECKED_SIZES = ((1, 1), (3, 2))
"""Tracklets and views with which a file is compared."""
_INPUT, _OUTPUT = "images", "embedding"


@dataclass(frozen=True)
class Format:
    """One file format: its ending, and the packages that writing it needs."""

    write: "Callable[[Checkpoint, Path], None]"
    load: "Callable[[Path], Callable[[torch.Tensor], np.ndarray]]"
    ending: str
    packages: tuple[str, ...] = ()


def export(checkpoint: "Checkpoint", out: str | Path, to: str) -> Path:
    """Writes `checkpoint` in one of FORMATS to the file `out`, which must not exist.

    Raises VKDError for an unknown format, a wrong ending, a missing package, a file that exists, or if the
    file does not give the network's embedding; then nothing is left behind.
    """
    from torch import nn

    out = Path(out)
    if to not in FORMATS:
        raise VKDError(f"There is no format '{to}'; choose one of {', '.join(FORMATS)}.")
    row = FORMATS[to]
    if out.suffix.lower() != row.ending:
        raise VKDError(f"{out} must end in {row.ending}.")
    if os.path.lexists(out):
        raise VKDError(f"{out} exists already: remove it or choose another name.")
    if missing := [name for name in row.packages if find_spec(name) is None]:
        raise VKDError(f"Writing {to} needs {' and '.join(missing)}: pip install {' '.join(row.packages)}.")
    net = copy.deepcopy(checkpoint.net).cpu().eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.ReLU | nn.Hardtanh):
            module.inplace = False  # the graph is the same, and the exporter takes half the time
    checkpoint = replace(checkpoint, net=net)
    with staging_dir(out) as work:
        file = work / out.name
        row.write(checkpoint, file)
        _compare(checkpoint, file, row.load(file))
        file.rename(out)
    return out


def facts(checkpoint: "Checkpoint") -> dict[str, str]:
    """Returns what a program needs beside the weights: texts, lists as JSON. No path of this machine."""
    config = checkpoint.config
    return {
        "backbone": config.backbone,
        "image_size": json.dumps(list(config.image_size)),
        "mean": json.dumps(list(config.mean)),
        "std": json.dumps(list(config.std)),
        "pixels": "RGB, 0 to 1, minus mean, over std",
        "dataset": config.dataset,
        "stage": config.stage,
        "identities": str(config.identities),
        "width": str(checkpoint.net.width),
    }


def _program(checkpoint: "Checkpoint") -> "torch.export.ExportedProgram":
    """Traces the embedding part as a graph, with the numbers of tracklets and views left open."""
    import torch

    class Embed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = checkpoint.net.backbone

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            views = self.backbone(images.flatten(0, 1)).mean((-2, -1))
            return views.unflatten(0, images.shape[:2]).mean(1)

    dimensions = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("views")},)
    program = torch.export.export(Embed(), (_images(checkpoint, 2, 2),), dynamic_shapes=dimensions)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def _images(checkpoint: "Checkpoint", batch: int, views: int) -> "torch.Tensor":
    import torch

    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, views, 3, *checkpoint.config.image_size, generator=generator)


def _compare(checkpoint: "Checkpoint", path: Path, run: "Callable[[torch.Tensor], np.ndarray]") -> None:
    """Raises VKDError unless `run` gives the network's embeddings for every size of CHECKED_SIZES."""
    import numpy as np

    from vkd.models.network import embed_clips

    for batch, views in CHECKED_SIZES:
        images = _images(checkpoint, batch, views)
        expected = embed_clips(checkpoint.net, images)
        try:
            given = run(images)
        except Exception as error:  # whatever the other program provokes
            words = " ".join(str(error).split())[:200]
            raise VKDError(
                f"{path.name} does not run with {batch} tracklets of {views} views: {words}."
            ) from None
        scale = float(np.abs(expected).max()) or 1.0
        off = float(np.abs(given - expected).max()) / scale if given.shape == expected.shape else np.inf
        if not off <= TOLERANCE:
            raise VKDError(
                f"{path.name} was removed: its embeddings differ by {off:.1e} from those of the model "
                f"({batch} tracklets of {views} views; at most {TOLERANCE:.0e} is allowed)."
            )


def _write_onnx(checkpoint: "Checkpoint", path: Path) -> None:
    import onnx  # an extra: `pip install vkd[export]`
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own insides
        program = torch.onnx.export(
            _program(checkpoint), (), dynamo=True, input_names=[_INPUT], output_names=[_OUTPUT], verbose=False
        )
    assert program is not None
    model: Any = program.model_proto
    graph = model.graph
    for value, names in ((graph.input[0], ("batch", "views")), (graph.output[0], ("batch",))):
        for side, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            side.dim_param = name
    for item in (*graph.node, *graph.value_info, graph):
        del item.metadata_props[:]  # where each operation stands in files of this machine
    del graph.value_info[:]  # shapes in between, under the old names of the open sides
    onnx.helper.set_model_props(model, facts(checkpoint))
    model.producer_name, model.producer_version = "vkd", ""
    onnx.save_model(model, path)


def _load_onnx(path: Path) -> "Callable[[torch.Tensor], np.ndarray]":
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([_OUTPUT], {_INPUT: images.numpy()})[0])


def _write_program(checkpoint: "Checkpoint", path: Path) -> None:
    import torch

    torch.export.save(_program(checkpoint), path, extra_files={"vkd.json": json.dumps(facts(checkpoint))})


def _load_program(path: Path) -> "Callable[[torch.Tensor], np.ndarray]":
    import torch

    module = torch.export.load(path).module()
    return lambda images: module(images).detach().numpy()


FORMATS: dict[str, Format] = {
    "onnx": Format(_write_onnx, _load_onnx, ".onnx", ("onnx", "onnxruntime", "onnxscript")),
    "torch.export": Format(_write_program, _load_program, ".pt2"),
}
