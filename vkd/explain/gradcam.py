"""Class activation maps of any backbone, any number of views and any stage.

The formulas are those of the `grad-cam` package (pytorch_grad_cam). Its own forward pass is not used: it
takes one image for each target, hooks the shared network, leaves gradients on its weights and mixes up maps
when two threads use it. Here a tracklet of V views is one clip with one target, the stage explained is tapped
for the calling thread only, and gradients run from the target to the tap and no further, so that parameters
may be frozen and nothing is left behind.

Threads: `heatmaps` may be called from any number of threads; a lock lets one work at a time. It may run
beside other forward passes of the same network as long as that network is in evaluation mode.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vkd.explain.methods import METHODS
from vkd.io.errors import VKDError
from vkd.models.network import Output, ReIDNet, evaluation_mode

_LOCK = threading.Lock()


def _coarse(
    method: str, net: nn.Module, layer: nn.Module, activations: NDArray, gradients: NDArray
) -> NDArray:
    """Computes signed maps (n, h, w) from activations and gradients (n, D, h, w)."""
    if not METHODS[method]:
        return np.stack([_principal(one) for one in activations])
    # At the first heatmap, not when this file is read: the package brings scikit-learn along, and the app
    # would open two seconds later.
    import pytorch_grad_cam

    cam = getattr(pytorch_grad_cam, METHODS[method])(net, [])
    return cam.get_cam_image(None, layer, None, activations, gradients, False)


def _principal(one: NDArray) -> NDArray:
    """Returns the first principal component of a map (D, h, w), with its larger side positive."""
    # Its sign is arbitrary, and the package's own decomposition, which is not thin, is slow for wide maps.
    points = one.reshape(len(one), -1).T
    points = points - points.mean(axis=0)
    component = np.linalg.svd(points, full_matrices=False)[2][0]
    projected = (points @ component).reshape(one.shape[1:])
    return -projected if -projected.min() > projected.max() else projected


class Heat(NamedTuple):
    """Heatmaps of B clips of V views, and the number that each clip's maps explain."""

    maps: NDArray[np.float32]  # (B, V, H, W), 0..1, at the images' size
    values: NDArray[np.float64]  # (B,): the logit, or the cosine similarity to the reference
    coarse: NDArray[np.floating]  # (B, V, h, w): at the stage's size, from 0, not scaled
    classes: NDArray[np.int64]  # (B,): the class whose logit it is, −1 for similarities


def heatmaps(
    net: ReIDNet,
    clips: Tensor,
    *,
    target: int | Sequence[int] | Tensor | NDArray | None = None,
    method: str = "gradcam",
    layer: str | int | None = None,
    scale: str = "view",
) -> Heat:
    """Computes heatmaps of clips (B, V, 3, H, W), each a tracklet with one target (mean over views).

    Works whatever the state: parameters frozen, training or evaluation mode (computed in evaluation mode, put
    back after), under `no_grad`, `inference_mode` or autocast, in half precision. The network is
    left unchanged.

    Args:
        target: None: each clip's largest logit. Whole number(s): the logit of that class (0..K−1), one
            for all clips or one each. Floats (D,) or (B, D): the cosine similarity between the clip's
            embedding and this reference embedding, of another image or tracklet: what they share.
        method: a key of METHODS.
        layer: None: the backbone's last map. A number: position in `net.backbone.stages`. A name: a stage's,
            or any module's inside the network whose output is a map.
        scale: maps go from 0 to 1 in each "view", or over the whole "clip" (which view matters more?).
            Maps of two networks are comparable in position, not in strength.

    Raises:
        VKDError: unknown method, layer, class or scale, or shapes that do not fit.
    """
    _check(net, clips, method, scale)
    where = _layer(net, layer)
    clips = clips.detach()
    views, parameter = clips.shape[:2], next(net.parameters())
    # Autocast off for all of it: on the CPU the backward pass would run in half precision too.
    with (
        _LOCK,
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(parameter.device.type, enabled=False),
        evaluation_mode(net),
    ):
        images = clips.clone() if clips.is_inference() else clips
        with _tap(where) as taps:
            output = net(images.to(parameter.device, parameter.dtype))
        if len(taps) != 1 or taps[0].ndim != 4 or len(taps[0]) != views.numel():
            raise VKDError(
                f"Layer {layer!r} gives no map of each image, so there is nothing to explain: choose a "
                f"stage ({', '.join(name for name, _ in net.backbone.stages.named_children())})."
            )
        values, classes = _targets(output, target)
        (slopes,) = torch.autograd.grad(values.sum(), taps[0])
        activations, gradients = (part.detach().cpu().numpy() for part in (taps[0], slopes))
        coarse = _coarse(method, net, where, activations, gradients)
    coarse = np.maximum(coarse, 0).reshape(*views, *coarse.shape[1:])
    maps = _enlarge(coarse, clips.shape[-2:], scale)
    return Heat(maps, values.detach().double().cpu().numpy(), coarse, classes.cpu().numpy())


def _check(net: ReIDNet, clips: Tensor, method: str, scale: str) -> None:
    if method not in METHODS:
        raise VKDError(f"There is no heatmap method '{method}'; choose one of {', '.join(METHODS)}.")
    if scale not in ("view", "clip"):
        raise VKDError(f"scale is '{scale}'; it must be 'view' or 'clip'.")
    if clips.ndim != 5 or clips.shape[2] != 3 or not clips.numel():
        raise VKDError(f"Clips must be (tracklets, views, 3, height, width), not {tuple(clips.shape)}.")


def _layer(net: ReIDNet, layer: str | int | None) -> nn.Module:
    if layer is None:
        return net.backbone
    stages = net.backbone.stages
    names = [name for name, _ in stages.named_children()]
    # A stage's name comes first: MobileNet's stages are called "0" to "18".
    if isinstance(layer, int) and -len(names) <= layer < len(names):
        return stages[layer]
    if isinstance(layer, str) and layer:
        for root in (stages, net.backbone, net):
            try:
                return root.get_submodule(layer.removeprefix("backbone."))
            except AttributeError:
                continue
    named = ", ".join(name for name in names if not name.isdecimal())
    raise VKDError(
        f"There is no layer {str(layer)[:80]!r} in {net.backbone_name}: choose a stage from 0 to "
        f"{len(names) - 1}{f', or one of {named}' if named else ''}."
    )


@contextmanager
def _tap(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Yields the outputs of `layer` in this thread, detached from what came before, with gradients after."""
    caller, taps = threading.get_ident(), []

    def tap(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != caller or not isinstance(output, Tensor):
            return None
        # Half precision would lose the map in the sums to come.
        full = output.detach().to(torch.promote_types(output.dtype, torch.float32)).requires_grad_()
        taps.append(full)
        return full.to(output.dtype, copy=True)  # a copy, because what follows may write into it

    handle = layer.register_forward_hook(tap)
    try:
        yield taps
    finally:
        handle.remove()


def _targets(output: Output, target: int | Sequence[int] | Tensor | NDArray | None) -> tuple[Tensor, Tensor]:
    """Returns the number to explain of each clip (B,), and its class or −1."""
    logits, embedding = output.logits, output.embedding
    count = len(logits)
    if target is None:
        top = logits.max(1)
        return top.values, top.indices
    goal = torch.as_tensor(target).detach().to(logits.device)
    if not goal.is_floating_point():
        if goal.ndim > 1 or (goal.ndim == 1 and len(goal) != count):
            raise VKDError(f"Give one class, or one for each of the {count} clips, not {tuple(goal.shape)}.")
        goal = goal.long().expand(count)
        if int(goal.min()) < 0 or int(goal.max()) >= logits.shape[1]:
            raise VKDError(
                f"The model has the classes 0 to {logits.shape[1] - 1}, not all of {goal.tolist()}."
            )
        return logits.gather(1, goal[:, None])[:, 0], goal
    if (
        goal.ndim not in (1, 2)
        or goal.shape[-1] != embedding.shape[1]
        or (goal.ndim == 2 and len(goal) != count)
    ):
        raise VKDError(
            f"The reference embedding must be ({embedding.shape[1]},) or ({count}, {embedding.shape[1]}), "
            f"not {tuple(goal.shape)}."
        )
    cosine = F.cosine_similarity(embedding, goal.clone().to(embedding.dtype).expand_as(embedding), dim=1)
    return cosine, torch.full((count,), -1, device=logits.device)


def _enlarge(coarse: NDArray, size: Sequence[int], scale: str) -> NDArray[np.float32]:
    """Resizes (B, V, h, w) to (B, V, H, W), bilinear, and scales it to 0..1; a constant map becomes 0."""
    maps = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(coarse)), size=tuple(size), mode="bilinear", align_corners=False
    )
    within = (2, 3) if scale == "view" else (1, 2, 3)
    maps = maps - maps.amin(within, keepdim=True)
    largest = maps.amax(within, keepdim=True)
    # Divided in the map's own precision first: gradients of a sure network can be too small for float32.
    return torch.where(largest > 0, maps / largest, torch.zeros_like(maps)).float().numpy()
