"""A network for other programs: ONNX, `torch.export`, and the layout of the authors' public code.

The first two hold what embeds, images (B, V, 3, H, W) → embedding (B, D), for any number of tracklets and
views; neck and classifier serve training alone. TorchScript is not written: PyTorch has deprecated it. What
is written is read again and compared with the network before it takes its name.
"""

import copy
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vkd.io.errors import VKDError
from vkd.io.files import staging_dir
from vkd.models import reference
from vkd.models.checkpoint import Checkpoint, load_authors
from vkd.models.network import ReIDNet

TOLERANCE = 1e-4
"""Largest difference to the network's own embeddings, over their largest value."""
CHECKED = ((1, 1), (3, 2))
"""Tracklets and views with which a written network is compared."""
_INPUT, _OUTPUT = "images", "embedding"


class _Embed(nn.Module):
    """What `ReIDNet.embed` does, without neck and classifier."""

    def __init__(self, net: ReIDNet) -> None:
        super().__init__()
        self.backbone = net.backbone

    def forward(self, images: Tensor) -> Tensor:
        views = self.backbone(images.flatten(0, 1)).mean((-2, -1))
        return views.unflatten(0, images.shape[:2]).mean(1)


def export(checkpoint: Checkpoint, out: str | Path, to: str) -> Path:
    """Write `checkpoint` in one of FORMATS to `out`, which must not exist; → `out`.

    Raises ValueError for an unknown format, a wrong ending, a missing package, or if what was written does
    not give the network's embedding; FileExistsError if `out` is there. Then nothing is left behind.
    """
    out = Path(out)
    if to not in FORMATS:
        raise VKDError(f"There is no format '{to}'; choose one of {', '.join(FORMATS)}.")
    form = FORMATS[to]
    if form.ending and out.suffix.lower() != form.ending:
        raise VKDError(f"{out} must end in {form.ending}.")
    if os.path.lexists(out):
        raise FileExistsError(f"{out} is there already: remove it or choose another name.")
    missing = [name for name in form.packages if find_spec(name) is None]
    if missing:
        raise VKDError(f"Writing {to} needs {' and '.join(missing)}: pip install {' '.join(form.packages)}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    net = copy.deepcopy(checkpoint.net).cpu().eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.ReLU | nn.Hardtanh):
            module.inplace = False  # the graph is the same, and the exporter takes half the time
    checkpoint = replace(checkpoint, net=net)
    with staging_dir(out) as work:
        made = work / out.name
        form.write(checkpoint, made)
        form.check(checkpoint, made)
        made.rename(out)
    return out


def facts(checkpoint: Checkpoint) -> dict[str, str]:
    """What a program needs to know beside the weights: texts, lists as JSON. No path of this machine."""
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


def _program(checkpoint: Checkpoint) -> torch.export.ExportedProgram:
    """The embedding part as a graph, tracklets and views left open."""
    shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("views")},)
    program = torch.export.export(_Embed(checkpoint.net), (_images(checkpoint, 2, 2),), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def _images(checkpoint: Checkpoint, batch: int, views: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, views, 3, *checkpoint.config.image_size, generator=generator)


def _compare(checkpoint: Checkpoint, path: Path, run: Callable[[Tensor], np.ndarray]) -> None:
    """Raise ValueError unless `run` gives the network's embeddings for every size of CHECKED."""
    for batch, views in CHECKED:
        images = _images(checkpoint, batch, views)
        with torch.no_grad():
            expected = checkpoint.net.embed(images).numpy()
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
                f"{path.name} was not kept: its embeddings are {off:.1e} off those of the network "
                f"({batch} tracklets of {views} views, allowed are {TOLERANCE:.0e})."
            )


# ONNX


def _write_onnx(checkpoint: Checkpoint, path: Path) -> None:
    import onnx  # an extra: `pip install vkd[export]`

    with _quiet():
        program = torch.onnx.export(
            _program(checkpoint), (), dynamo=True, input_names=[_INPUT], output_names=[_OUTPUT], verbose=False
        )
    assert program is not None
    model: Any = program.model_proto
    _name_sides(model.graph)
    for thing in (*model.graph.node, *model.graph.value_info, model.graph):
        del thing.metadata_props[:]  # where each operation stands in files of this machine
    del model.graph.value_info[:]  # shapes in between, under names that went
    onnx.helper.set_model_props(model, facts(checkpoint))
    model.producer_name, model.producer_version = "vkd", ""
    onnx.save_model(model, path)


def _name_sides(graph: Any) -> None:
    """The open sides are called batch and views."""
    for value, names in ((graph.input[0], ("batch", "views")), (graph.output[0], ("batch",))):
        for side, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            side.dim_param = name


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_onnx(checkpoint: Checkpoint, path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    _compare(checkpoint, path, lambda images: np.asarray(session.run([_OUTPUT], {_INPUT: images.numpy()})[0]))


# torch.export


def _write_program(checkpoint: Checkpoint, path: Path) -> None:
    extra = {"vkd.json": json.dumps(facts(checkpoint))}
    torch.export.save(_program(checkpoint), path, extra_files=extra)


def _check_program(checkpoint: Checkpoint, path: Path) -> None:
    module = torch.export.load(path).module()
    _compare(checkpoint, path, lambda images: module(images).detach().numpy())


# The authors' layout


def _write_authors(checkpoint: Checkpoint, path: Path) -> None:
    """`params/` and `chk/chk_end`, the latter in the format that every version of PyTorch reads."""
    config = checkpoint.config
    (path / "params").mkdir(parents=True)
    (path / "chk").mkdir()
    hparams = {"backbone_type": config.backbone, "num_classes": config.identities, "pretrained": True}
    texts = {"hparams": hparams, "params": {"main_params": {"dataset_name": config.dataset}}}
    for name, values in texts.items():
        (path / "params" / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    state = {name: tensor.detach().cpu() for name, tensor in reference.to_authors(checkpoint.net).items()}
    torch.save(state, path / "chk" / "chk_end", _use_new_zipfile_serialization=False)


def _check_authors(checkpoint: Checkpoint, path: Path) -> None:
    again = load_authors(path).net.state_dict()
    for name, tensor in checkpoint.net.state_dict().items():
        if not torch.equal(again[name], tensor.cpu()):
            raise VKDError(f"{path.name} was not kept: '{name}' reads back otherwise.")


@dataclass(frozen=True)
class Format:
    """One way to write a network. `ending`: of its file; none: it is a folder. `packages`: what it needs."""

    write: Callable[[Checkpoint, Path], None]
    check: Callable[[Checkpoint, Path], None]
    ending: str
    packages: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "onnx": Format(_write_onnx, _check_onnx, ".onnx", ("onnx", "onnxruntime", "onnxscript")),
    "torch.export": Format(_write_program, _check_program, ".pt2"),
    "authors": Format(_write_authors, _check_authors, ""),
}
