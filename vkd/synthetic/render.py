"""One frame of the synthetic street: a person with a look, before a camera, at one moment of a walk."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vkd.synthetic.appearance import Look, look_alikes
from vkd.synthetic.background import ABOVE, scenery
from vkd.synthetic.body import Gait, figure
from vkd.synthetic.camera import Camera, Picture, develop
from vkd.synthetic.geometry import Array, Frame, Hits, Placed, Solids, cast, place
from vkd.synthetic.motion import CROWD, Moment, Occluder, Passer
from vkd.synthetic.texture import grain, paint

FOCUS = 0.9  # the height that cameras look at, metres
FINER = 2  # rays a pixel, each way
DIFFUSE = np.float32(0.62)  # light on the scenery, as a share of full light
_LINEAR = (np.linspace(0, 1, 256) ** 2.2).astype(np.float32)


class View(NamedTuple):
    """A figure in front of a camera."""

    solids: Solids
    placed: Placed
    rotation: Array  # person to camera
    shift: Array
    frame: Frame


class Shadow(NamedTuple):
    """The figure as the sun sees it."""

    depth: Array  # (h * w,), inf beside the figure
    turn: Array  # camera to sun
    frame: Frame


def render(
    look: Look,
    camera: Camera,
    moment: Moment,
    size: tuple[int, int] = (128, 64),
    *,
    subject: bool = True,
    sensor: bool = True,
) -> tuple[Picture, NDArray[np.bool_]]:
    """One frame: picture (H, W, 3) uint8 and subject mask (H, W), true where the person covers half a pixel.

    `subject=False` leaves out the person (not the shadow), `sensor=False` the camera's colours, blur, noise.
    """
    view = _face(look, camera, moment, size)
    power = camera.sun * moment.light
    shadow = _shadow(view, camera) if power else None
    light = _backdrop(camera, moment, view.frame)
    _darken_ground(light, camera, view.frame, shadow, power)
    layer = _layer(look, camera, view, shadow, power)
    if subject:
        light *= 1 - layer[..., 3:]
        light += layer[..., :3]
    mask = layer[..., 3] >= 0.5
    if moment.occluder:
        front = np.asarray(_in_front(camera, moment.occluder, view.frame))
        cover = front[..., 3:] * np.float32(1 / 255)
        light += cover * (_LINEAR[front[..., :3]] * DIFFUSE - light)
        mask &= cover[..., 0] < 0.5
    if sensor:
        return develop(light, camera, moment.sensor), mask
    return (255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8), mask


def _face(look: Look, camera: Camera, moment: Moment, size: tuple[int, int]) -> View:
    """Where the figure stands and where the detector's box lies around it."""
    turn = math.pi + camera.azimuth + moment.yaw
    c, s = math.cos(turn), math.sin(turn)
    axes = camera.axes()
    rotation = axes @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    shift = axes @ np.array([0, 0, -FOCUS], np.float32)
    solids = figure(look, moment.gait)
    placed = place(solids, rotation, shift, camera.distance)
    left, bottom = placed.box[:, :2].min(0).tolist()
    right, top = placed.box[:, 2:].max(0).tolist()
    high, wide = size
    scale = high * moment.zoom / (top - bottom)
    x = wide * (0.5 + moment.shift[0]) - (left + right) / 2 * scale
    y = high * (0.5 + moment.shift[1]) + (top + bottom) / 2 * scale
    return View(solids, placed, rotation, shift, Frame(high, wide, scale, x, y, camera.distance))


def _layer(look: Look, camera: Camera, view: View, shadow: Shadow | None, power: float) -> Array:
    """The figure alone: light times coverage, and coverage (H, W, 4)."""
    high, wide = view.frame.height, view.frame.width
    scale, x, y = (v * FINER for v in view.frame[2:5])
    hits = cast(view.solids, view.placed, Frame(high * FINER, wide * FINER, scale, x, y, view.frame.distance))
    colour, folds = paint(look, view.solids, hits)
    shade = _shade(hits, colour, folds, camera, _lit(hits.point, shadow), power)
    row, column = np.divmod(hits.pixel, wide * FINER)
    coarse = row // FINER * wide + column // FINER
    channels = [np.bincount(coarse, weight, high * wide) for weight in (*shade.T, None)]
    return (np.stack(channels, 1) / FINER**2).astype(np.float32).reshape(high, wide, 4)


def _shadow(view: View, camera: Camera) -> Shadow:
    towards = camera.axes() @ camera.to_sun()
    right = np.cross(towards, (0.0, 1.0, 0.001))
    right /= np.linalg.norm(right)
    turn = np.stack((right, np.cross(towards, right), -towards)).astype(np.float32)
    placed = place(view.solids, turn @ view.rotation, turn @ view.shift)
    left, bottom = placed.box[:, :2].min(0).tolist()
    wide, high = (placed.box[:, 2:].max(0) - (left, bottom)).tolist()
    scale = 48.0
    frame = Frame(
        int(high * scale) + 3, int(wide * scale) + 3, scale, 1 - left * scale, 1 + (high + bottom) * scale
    )
    hits = cast(view.solids, placed, frame)
    depth = np.full(frame.height * frame.width, np.inf, np.float32)
    depth[hits.pixel] = hits.point[2]
    return Shadow(depth, turn, frame)


def _lit(point: Array, shadow: Shadow | None) -> Array:
    """Share of the sun (m,) that reaches points (3, m) in camera coordinates."""
    if shadow is None:  # overcast: no sun to keep out
        return np.ones(point.shape[1], np.float32)
    depth, turn, frame = shadow
    x, y, z = turn @ point
    column, row = x * frame.scale + frame.x, frame.y - y * frame.scale
    z -= np.float32(0.03)
    light = np.zeros(len(x), np.float32)
    for dx, dy in ((-0.8, -0.3), (0.3, -0.8), (-0.3, 0.8), (0.8, 0.3)):
        i = np.minimum(np.maximum((column + dx).astype(np.int32), 0), frame.width - 1)
        j = np.minimum(np.maximum((row + dy).astype(np.int32), 0), frame.height - 1)
        light += depth[j * frame.width + i] > z
    return light / 4


def _shade(hits: Hits, colour: Array, folds: Array, camera: Camera, sun: Array, power: float) -> Array:
    """Linear light (m, 3) that leaves surface points for the camera."""
    axes = camera.axes()
    up = axes[:, 2] @ hits.normal
    straight = np.maximum((axes @ camera.to_sun()) @ hits.normal, 0) * sun
    facing = np.clip(-hits.normal[2], 0, 1)
    sky = (0.66 + 0.44 * up) * (0.62 + 0.38 * facing)
    light = (1 - 0.58 * power) * sky + 1.05 * power * straight
    glance = 0.02 * light * (1 - facing) ** 3
    return colour * (light * (1 + 0.17 * folds))[:, None] + glance[:, None]


def _backdrop(camera: Camera, moment: Moment, frame: Frame) -> Array:
    """What is behind the person, linear light (H, W, 3)."""
    coarse = 64 * frame.height // 128
    whole = scenery(camera, coarse)
    feet = frame.y + FOCUS * math.cos(camera.elevation) * frame.scale
    k = coarse / frame.scale  # scenery pixels a picture pixel
    wide, high = frame.width * k * moment.aspect, frame.height * k
    left = min(max(moment.place * coarse - frame.x * k, 0), whole.width - wide)
    top = min(max(ABOVE * coarse - feet * k, 0), whole.height - high)
    crop = whole.resize(
        (frame.width, frame.height), Image.Resampling.BILINEAR, (left, top, left + wide, top + high)
    )
    for passer in sorted(moment.passers, key=lambda passer: -passer.behind):
        _stand(crop, camera, passer, frame)
    return _LINEAR[np.asarray(crop)] * DIFFUSE


def _darken_ground(light: Array, camera: Camera, frame: Frame, shadow: Shadow | None, power: float) -> None:
    """The person's shadow, and the soft dark around the feet where little sky is seen (in place)."""
    first = min(max(int(frame.y), 0), frame.height - 1)
    point, off = _on_ground(camera, frame, first)
    dim = (1 - 0.75 * power * (1 - _lit(point, shadow))) * (1 - 0.5 * np.exp(-((off / 0.28) ** 2)))
    light[first:] *= dim.reshape(frame.height - first, frame.width, 1)


def _on_ground(camera: Camera, frame: Frame, first: int) -> tuple[Array, Array]:
    """Where the rays of picture rows from `first` down meet the ground: camera coordinates (3, n), and
    metres (n,) from the person's feet."""
    x = (np.arange(frame.width, dtype=np.float32) + 0.5 - frame.x) / frame.scale
    y = (frame.y - np.arange(first, frame.height, dtype=np.float32) - 0.5) / frame.scale
    s, c = math.sin(camera.elevation), math.cos(camera.elevation)
    t = np.clip((FOCUS + y * c) / np.maximum(s - y * c / frame.distance, 0.02), -4, 9)
    k = 1 + t / frame.distance
    point = np.empty((3, len(y), len(x)), np.float32)
    point[0], point[1], point[2] = x * k[:, None], (y * k)[:, None], t[:, None]
    point = point.reshape(3, -1)
    off = point - np.array([[0], [-FOCUS * c], [FOCUS * s]], np.float32)
    return point, np.sqrt(off[0] ** 2 + off[1] ** 2 + off[2] ** 2)


class Sprite(NamedTuple):
    """A passer-by, cut out: RGBA, and the frame it was drawn in."""

    picture: Image.Image
    frame: Frame


@lru_cache(128)
def _crowd(camera: Camera, high: int) -> tuple[Sprite, ...]:
    """CROWD strangers as this camera sees them."""
    rng = np.random.default_rng([camera.scene, 2])
    sprites = []
    for _ in range(CROWD):
        look = look_alikes(rng, 1, 0.0)[0]
        gait = Gait(float(rng.uniform(0, 7)), float(rng.uniform(0.2, 0.4)))
        moment = Moment(gait, float(rng.uniform(0, 2 * math.pi)), 0.98)
        view = _face(look, camera, moment, (high, high * 5 // 8))
        layer = _layer(look, camera, view, _shadow(view, camera), camera.sun)
        plain = layer[..., :3] / np.maximum(layer[..., 3:], 0.05) / DIFFUSE
        rgba = np.dstack((np.clip(plain, 0, 1) ** (1 / 2.2), layer[..., 3]))
        sprites.append(Sprite(Image.fromarray((rgba * 255 + 0.5).astype(np.uint8)), view.frame))
    return tuple(sprites)


def _stand(onto: Image.Image, camera: Camera, passer: Passer, frame: Frame) -> None:
    """Put a stranger into the picture (RGB or RGBA), feet on the ground."""
    sprite = _crowd(camera, frame.height)[passer.who]
    near = camera.distance / (camera.distance + passer.behind)
    k = frame.scale / sprite.frame.scale * near
    size = (max(1, round(sprite.picture.width * k)), max(1, round(sprite.picture.height * k)))
    small = sprite.picture.resize(size, Image.Resampling.BILINEAR)
    c, s = math.cos(camera.elevation), math.sin(camera.elevation)
    feet = frame.y + (FOCUS * c - passer.behind * s * near) * frame.scale
    x = frame.x + passer.aside * frame.scale * near - sprite.frame.x * k
    y = feet - (sprite.frame.y + FOCUS * c * sprite.frame.scale) * k
    onto.paste(small, (round(x), round(y)), small)


def _in_front(camera: Camera, occluder: Occluder, frame: Frame) -> Image.Image:
    """What stands between camera and person: RGBA (H, W)."""
    high, wide = frame.height, frame.width
    layer = Image.new("RGBA", (wide, high))
    draw = ImageDraw.Draw(layer)
    x, size = occluder.x * wide, occluder.size
    tone = np.random.default_rng(occluder.who).uniform(25, 190) * np.array((1, 0.98, 0.94))
    fill, shade = (tuple(int(v) for v in tone * k) for k in (1.0, 0.7))
    if occluder.kind == "person":
        _stand(layer, camera, Passer(occluder.who % CROWD, (x - frame.x) / frame.scale, -1.2), frame)
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
        alpha = 6 * (1 - edge + 0.35 * grain(u + occluder.who % 83, v, 100))
        green = np.array((60, 84, 42)) * np.clip(1 + 0.4 * grain(v, u, 260), 0.3, 2)[..., None]
        return Image.fromarray(np.dstack((green, alpha * 255)).clip(0, 255).astype(np.uint8))
    return layer
