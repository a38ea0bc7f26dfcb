"""Renderer of the synthetic street: one person in one frame of one camera."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vkd.synthetic.appearance import Appearance, lookalike_group
from vkd.synthetic.background import ABOVE, render_background
from vkd.synthetic.body import Gait, build_figure
from vkd.synthetic.camera import Camera, ImageArray, apply_sensor
from vkd.synthetic.geometry import Array, CameraSolids, Hits, Solids, Viewport, cast, to_camera
from vkd.synthetic.motion import CROWD_SIZE, Bystander, FrameState, Occluder
from vkd.synthetic.texture import grain, surface_colours

FOCUS = 0.9  # height of the cameras' focus point, metres
SUPERSAMPLING = 2  # rays per pixel and axis
DIFFUSE = np.float32(0.62)  # light on the background, as a share of full light
_LINEAR = (np.linspace(0, 1, 256) ** 2.2).astype(np.float32)


class PosedFigure(NamedTuple):
    """A person in camera coordinates."""

    solids: Solids
    posed: CameraSolids
    rotation: Array  # person to camera
    shift: Array
    viewport: Viewport


class ShadowMap(NamedTuple):
    """Depth of the person as seen from the sun."""

    depth: Array  # (h * w,), inf beside the person
    turn: Array  # camera to sun
    viewport: Viewport


def render(
    person: Appearance,
    camera: Camera,
    state: FrameState,
    size: tuple[int, int] = (128, 64),
    *,
    subject: bool = True,
    sensor: bool = True,
) -> tuple[ImageArray, NDArray[np.bool_]]:
    """Renders a frame: image (H, W, 3) uint8, and subject mask (H, W), True if half a pixel is covered.

    `subject=False` leaves out the person (not the shadow), `sensor=False` the camera's colours, blur, noise.
    """
    view = _pose_figure(person, camera, state, size)
    power = camera.sun * state.light
    shadow = _shadow(view, camera) if power else None
    light = _background(camera, state, view.viewport)
    _darken_ground(light, camera, view.viewport, shadow, power)
    layer = _render_figure(person, camera, view, shadow, power)
    if subject:
        light *= 1 - layer[..., 3:]
        light += layer[..., :3]
    mask = layer[..., 3] >= 0.5
    if state.occluder:
        front = np.asarray(_render_occluder(camera, state.occluder, view.viewport))
        cover = front[..., 3:] * np.float32(1 / 255)
        light += cover * (_LINEAR[front[..., :3]] * DIFFUSE - light)
        mask &= cover[..., 0] < 0.5
    if sensor:
        return apply_sensor(light, camera, state.sensor), mask
    return (255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8), mask


def _pose_figure(person: Appearance, camera: Camera, state: FrameState, size: tuple[int, int]) -> PosedFigure:
    """Places the person in front of the camera and the detector's box around it."""
    turn = math.pi + camera.azimuth + state.yaw
    c, s = math.cos(turn), math.sin(turn)
    axes = camera.axes()
    rotation = axes @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    shift = axes @ np.array([0, 0, -FOCUS], np.float32)
    solids = build_figure(person, state.gait)
    posed = to_camera(solids, rotation, shift, camera.distance)
    left, bottom = posed.box[:, :2].min(0).tolist()
    right, top = posed.box[:, 2:].max(0).tolist()
    high, wide = size
    scale = high * state.zoom / (top - bottom)
    x = wide * (0.5 + state.shift[0]) - (left + right) / 2 * scale
    y = high * (0.5 + state.shift[1]) + (top + bottom) / 2 * scale
    return PosedFigure(solids, posed, rotation, shift, Viewport(high, wide, scale, x, y, camera.distance))


def _render_figure(
    person: Appearance, camera: Camera, view: PosedFigure, shadow: ShadowMap | None, power: float
) -> Array:
    """Renders the person alone: light times coverage, and coverage (H, W, 4)."""
    high, wide = view.viewport.height, view.viewport.width
    scale, x, y = (v * SUPERSAMPLING for v in view.viewport[2:5])
    hits = cast(
        view.solids,
        view.posed,
        Viewport(high * SUPERSAMPLING, wide * SUPERSAMPLING, scale, x, y, view.viewport.distance),
    )
    colour, folds = surface_colours(person, view.solids, hits)
    shade = _reflect(hits, colour, folds, camera, _sunlight(hits.point, shadow), power)
    row, column = np.divmod(hits.pixel, wide * SUPERSAMPLING)
    coarse = row // SUPERSAMPLING * wide + column // SUPERSAMPLING
    channels = [np.bincount(coarse, weight, high * wide) for weight in (*shade.T, None)]
    return (np.stack(channels, 1) / SUPERSAMPLING**2).astype(np.float32).reshape(high, wide, 4)


def _shadow(view: PosedFigure, camera: Camera) -> ShadowMap:
    towards = camera.axes() @ camera.to_sun()
    right = np.cross(towards, (0.0, 1.0, 0.001))
    right /= np.linalg.norm(right)
    turn = np.stack((right, np.cross(towards, right), -towards)).astype(np.float32)
    posed = to_camera(view.solids, turn @ view.rotation, turn @ view.shift)
    left, bottom = posed.box[:, :2].min(0).tolist()
    wide, high = (posed.box[:, 2:].max(0) - (left, bottom)).tolist()
    scale = 48.0
    viewport = Viewport(
        int(high * scale) + 3, int(wide * scale) + 3, scale, 1 - left * scale, 1 + (high + bottom) * scale
    )
    hits = cast(view.solids, posed, viewport)
    depth = np.full(viewport.height * viewport.width, np.inf, np.float32)
    depth[hits.pixel] = hits.point[2]
    return ShadowMap(depth, turn, viewport)


def _sunlight(point: Array, shadow: ShadowMap | None) -> Array:
    """Returns the share of the sun (m,) that reaches points (3, m) in camera coordinates."""
    if shadow is None:  # overcast: no sun to keep out
        return np.ones(point.shape[1], np.float32)
    depth, turn, viewport = shadow
    x, y, z = turn @ point
    column, row = x * viewport.scale + viewport.x, viewport.y - y * viewport.scale
    z -= np.float32(0.03)
    light = np.zeros(len(x), np.float32)
    for dx, dy in ((-0.8, -0.3), (0.3, -0.8), (-0.3, 0.8), (0.8, 0.3)):
        i = np.minimum(np.maximum((column + dx).astype(np.int32), 0), viewport.width - 1)
        j = np.minimum(np.maximum((row + dy).astype(np.int32), 0), viewport.height - 1)
        light += depth[j * viewport.width + i] > z
    return light / 4


def _reflect(hits: Hits, colour: Array, folds: Array, camera: Camera, sun: Array, power: float) -> Array:
    """Returns the linear light (m, 3) from surface points to the camera."""
    axes = camera.axes()
    up = axes[:, 2] @ hits.normal
    straight = np.maximum((axes @ camera.to_sun()) @ hits.normal, 0) * sun
    facing = np.clip(-hits.normal[2], 0, 1)
    sky = (0.66 + 0.44 * up) * (0.62 + 0.38 * facing)
    light = (1 - 0.58 * power) * sky + 1.05 * power * straight
    glance = 0.02 * light * (1 - facing) ** 3
    return colour * (light * (1 + 0.17 * folds))[:, None] + glance[:, None]


def _background(camera: Camera, state: FrameState, viewport: Viewport) -> Array:
    """Renders background and bystanders, linear light (H, W, 3)."""
    coarse = 64 * viewport.height // 128
    whole = render_background(camera, coarse)
    feet = viewport.y + FOCUS * math.cos(camera.elevation) * viewport.scale
    k = coarse / viewport.scale  # background pixels per image pixel
    wide, high = viewport.width * k * state.aspect, viewport.height * k
    left = min(max(state.position * coarse - viewport.x * k, 0), whole.width - wide)
    top = min(max(ABOVE * coarse - feet * k, 0), whole.height - high)
    crop = whole.resize(
        (viewport.width, viewport.height), Image.Resampling.BILINEAR, (left, top, left + wide, top + high)
    )
    for bystander in sorted(state.bystanders, key=lambda bystander: -bystander.behind):
        _paste_bystander(crop, camera, bystander, viewport)
    return _LINEAR[np.asarray(crop)] * DIFFUSE


def _darken_ground(
    light: Array, camera: Camera, viewport: Viewport, shadow: ShadowMap | None, power: float
) -> None:
    """Adds the person's shadow, and ambient occlusion around the feet (in place)."""
    first = min(max(int(viewport.y), 0), viewport.height - 1)
    point, off = _on_ground(camera, viewport, first)
    dim = (1 - 0.75 * power * (1 - _sunlight(point, shadow))) * (1 - 0.5 * np.exp(-((off / 0.28) ** 2)))
    light[first:] *= dim.reshape(viewport.height - first, viewport.width, 1)


def _on_ground(camera: Camera, viewport: Viewport, first: int) -> tuple[Array, Array]:
    """Projects image rows from `first` on to the ground: camera coordinates (3, n), metres from the feet."""
    x = (np.arange(viewport.width, dtype=np.float32) + 0.5 - viewport.x) / viewport.scale
    y = (viewport.y - np.arange(first, viewport.height, dtype=np.float32) - 0.5) / viewport.scale
    s, c = math.sin(camera.elevation), math.cos(camera.elevation)
    t = np.clip((FOCUS + y * c) / np.maximum(s - y * c / viewport.distance, 0.02), -4, 9)
    k = 1 + t / viewport.distance
    point = np.empty((3, len(y), len(x)), np.float32)
    point[0], point[1], point[2] = x * k[:, None], (y * k)[:, None], t[:, None]
    point = point.reshape(3, -1)
    off = point - np.array([[0], [-FOCUS * c], [FOCUS * s]], np.float32)
    return point, np.sqrt(off[0] ** 2 + off[1] ** 2 + off[2] ** 2)


class Sprite(NamedTuple):
    """A rendered bystander: RGBA image and its projection."""

    image: Image.Image
    viewport: Viewport


@lru_cache(128)
def _bystander_sprites(camera: Camera, high: int) -> tuple[Sprite, ...]:
    """Renders the CROWD_SIZE bystanders of a camera."""
    rng = np.random.default_rng([camera.scene, 2])
    sprites = []
    for _ in range(CROWD_SIZE):
        person = lookalike_group(rng, 1, 0.0)[0]
        gait = Gait(float(rng.uniform(0, 7)), float(rng.uniform(0.2, 0.4)))
        state = FrameState(gait, float(rng.uniform(0, 2 * math.pi)), 0.98)
        view = _pose_figure(person, camera, state, (high, high * 5 // 8))
        layer = _render_figure(person, camera, view, _shadow(view, camera), camera.sun)
        plain = layer[..., :3] / np.maximum(layer[..., 3:], 0.05) / DIFFUSE
        rgba = np.dstack((np.clip(plain, 0, 1) ** (1 / 2.2), layer[..., 3]))
        sprites.append(Sprite(Image.fromarray((rgba * 255 + 0.5).astype(np.uint8)), view.viewport))
    return tuple(sprites)


def _paste_bystander(onto: Image.Image, camera: Camera, bystander: Bystander, viewport: Viewport) -> None:
    """Pastes a bystander into an image (RGB or RGBA), feet on the ground."""
    sprite = _bystander_sprites(camera, viewport.height)[bystander.index]
    near = camera.distance / (camera.distance + bystander.behind)
    k = viewport.scale / sprite.viewport.scale * near
    size = (max(1, round(sprite.image.width * k)), max(1, round(sprite.image.height * k)))
    small = sprite.image.resize(size, Image.Resampling.BILINEAR)
    c, s = math.cos(camera.elevation), math.sin(camera.elevation)
    feet = viewport.y + (FOCUS * c - bystander.behind * s * near) * viewport.scale
    x = viewport.x + bystander.right * viewport.scale * near - sprite.viewport.x * k
    y = feet - (sprite.viewport.y + FOCUS * c * sprite.viewport.scale) * k
    onto.paste(small, (round(x), round(y)), small)


def _render_occluder(camera: Camera, occluder: Occluder, viewport: Viewport) -> Image.Image:
    """Renders the occluder, RGBA (H, W)."""
    high, wide = viewport.height, viewport.width
    layer = Image.new("RGBA", (wide, high))
    draw = ImageDraw.Draw(layer)
    x, size = occluder.x * wide, occluder.size
    tone = np.random.default_rng(occluder.seed).uniform(25, 190) * np.array((1, 0.98, 0.94))
    fill, shade = (tuple(int(v) for v in tone * k) for k in (1.0, 0.7))
    if occluder.kind == "person":
        _paste_bystander(
            layer,
            camera,
            Bystander(occluder.seed % CROWD_SIZE, (x - viewport.x) / viewport.scale, -1.2),
            viewport,
        )
    elif occluder.kind == "pole":
        half = wide * size * 0.16
        draw.rectangle((x - half, 0, x + half, high), fill=fill)
        draw.rectangle((x - half, 0, x - 0.4 * half, high), fill=shade)
    elif occluder.kind == "box":
        top, half = high * (1 - 0.45 * size), wide * (0.25 + 0.5 * size)
        draw.rounded_rectangle((x - half, top, x + half, high + 9), wide * 0.06, fill=fill)
        draw.rectangle((x - half, top + high * 0.03, x + half, top + high * 0.045), fill=shade)
    else:  # leaves that hang in from the side
        v, u = np.mgrid[0:high, 0:wide].astype(np.float32) / high
        edge = np.abs(u - (x > wide / 2) * wide / high) / (0.32 * size)
        alpha = 6 * (1 - edge + 0.35 * grain(u + occluder.seed % 83, v, 100))
        green = np.array((60, 84, 42)) * np.clip(1 + 0.4 * grain(v, u, 260), 0.3, 2)[..., None]
        return Image.fromarray(np.dstack((green, alpha * 255)).clip(0, 255).astype(np.uint8))
    return layer
