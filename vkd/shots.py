"""One frame of the synthetic street: a person with a look, before a camera, at one moment of a walk."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vkd.bodies import Array, Frame, Hits, Solids, cast, place
from vkd.looks import Look
from vkd.people import Gait, figure, paint
from vkd.scenes import ABOVE, LENGTH, Camera, Picture, Sensor, develop, scenery

FOCUS = 0.9  # the height that cameras look at, metres
FINER = 2  # rays a pixel, each way


class Moment(NamedTuple):
    """One frame of a tracklet. Box numbers are what a detector gets wrong: shares of the box."""

    gait: Gait = Gait()
    yaw: float = 0.0  # radians added to the camera's azimuth
    zoom: float = 0.9  # share of the picture's height that the person fills
    shift: tuple[float, float] = (0.0, 0.0)
    aspect: float = 1.0
    place: float = 8.0  # metres along the camera's scenery
    passers: tuple[
        tuple[int, float, float, bool], ...
    ] = ()  # sprite, metres to the right, metres behind, mirrored
    sensor: Sensor = Sensor()
    light: float = 1.0  # share of the sun that gets through


class View(NamedTuple):
    """A figure in front of a camera."""

    solids: Solids
    rotation: Array  # person to camera
    shift: Array
    frame: Frame


def _face(look: Look, camera: Camera, moment: Moment, size: tuple[int, int]) -> View:
    """Where the figure stands and where the detector's box lies around it."""
    turn = math.pi + camera.azimuth + moment.yaw
    c, s = math.cos(turn), math.sin(turn)
    axes = camera.axes()
    rotation = axes @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    shift = axes @ np.array([0, 0, -FOCUS], np.float32)
    solids = figure(look, moment.gait)
    box = place(solids, rotation, shift, camera.distance).box
    left, bottom, right, top = box[:, 0].min(), box[:, 1].min(), box[:, 2].max(), box[:, 3].max()
    high, wide = size
    scale = high * moment.zoom / float(top - bottom)
    x = wide * (0.5 + moment.shift[0]) - float(left + right) / 2 * scale
    y = high * (0.5 + moment.shift[1]) + float(top + bottom) / 2 * scale
    return View(solids, rotation, shift, Frame(high, wide, scale, x, y, camera.distance))


def _shadow(view: View, camera: Camera) -> tuple[Array, Array, Array, Frame]:
    """The figure as the sun sees it: depths (h, w), inf beside it; camera to sun rotation, shift, frame."""
    towards = camera.axes() @ camera.to_sun()
    right = np.cross(towards, (0.0, 1.0, 0.001))
    right /= np.linalg.norm(right)
    turn = np.stack((right, np.cross(towards, right), -towards)).astype(np.float32)
    placed = place(view.solids, turn @ view.rotation, turn @ view.shift)
    low, high = placed.box[:, :2].min(0), placed.box[:, 2:].max(0)
    scale = 56.0
    frame = Frame(int((high[1] - low[1]) * scale) + 3, int((high[0] - low[0]) * scale) + 3, scale,
                  float(1 - low[0] * scale), float(1 + high[1] * scale))  # fmt: skip
    hits = cast(view.solids, placed, frame)
    depth = np.full(frame.height * frame.width, np.inf, np.float32)
    depth[hits.pixel] = hits.point[2]
    return depth, turn, hits.pixel, frame


def _lit(point: Array, shadow: tuple[Array, Array, Array, Frame]) -> Array:
    """Share of the sun (m,) that reaches points (3, m) in camera coordinates."""
    depth, turn, _, frame = shadow
    x, y, z = turn @ point
    column, row = frame.x + x * frame.scale, frame.y - y * frame.scale
    light = np.zeros(len(x), np.float32)
    for dx, dy in ((-0.8, -0.3), (0.3, -0.8), (-0.3, 0.8), (0.8, 0.3)):
        i = np.clip((column + dx).astype(np.intp), 0, frame.width - 1)
        j = np.clip((row + dy).astype(np.intp), 0, frame.height - 1)
        light += depth[j * frame.width + i] > z - 0.03
    return light / 4


def _shade(hits: Hits, colour: Array, folds: Array, camera: Camera, sun: Array, power: float) -> Array:
    """Linear light (m, 3) that leaves surface points for the camera."""
    axes = camera.axes()
    up = axes[:, 2] @ hits.normal
    straight = np.maximum((axes @ camera.to_sun()) @ hits.normal, 0) * sun
    facing = np.clip(-hits.normal[2], 0, 1)
    sky = (0.62 + 0.38 * up) * (0.72 + 0.28 * facing)
    light = (1 - power) * sky + power * (0.42 * sky + 1.05 * straight)
    return colour * (light * (1 + 0.13 * folds))[:, None] + 0.015 * (light * (1 - facing) ** 3)[:, None]


def _backdrop(camera: Camera, moment: Moment, frame: Frame) -> Array:
    """What is behind the person, linear light (H, W, 3)."""
    coarse = 64 * frame.height // 128
    whole = scenery(camera, coarse)
    feet = frame.y + FOCUS * math.cos(camera.elevation) * frame.scale
    k = coarse / frame.scale  # scenery pixels a picture pixel
    left = moment.place * coarse - frame.x * k
    top = ABOVE * coarse - feet * k
    wide, high = frame.width * k * moment.aspect, frame.height * k
    left = min(max(left, 0), whole.width - wide)
    top = min(max(top, 0), whole.height - high)
    crop = whole.resize(
        (frame.width, frame.height), Image.Resampling.BILINEAR, (left, top, left + wide, top + high)
    )
    return _LINEAR[np.asarray(crop)]


_LINEAR = (np.linspace(0, 1, 256) ** 2.2).astype(np.float32)


def _on_ground(camera: Camera, frame: Frame, first: int) -> tuple[Array, Array]:
    """Where the rays of picture rows from `first` down meet the ground: camera coordinates (3, n), and metres (n,)
    from the person's feet."""
    x = (np.arange(frame.width, dtype=np.float32) + 0.5 - frame.x) / frame.scale
    y = (frame.y - np.arange(first, frame.height, dtype=np.float32) - 0.5) / frame.scale
    s, c = math.sin(camera.elevation), math.cos(camera.elevation)
    t = (FOCUS + y * c) / np.maximum(s - y * c / frame.distance, 0.02)
    t = np.clip(t, -4, 9)
    k = 1 + t / frame.distance
    point = np.stack(
        [v.ravel() for v in np.broadcast_arrays(x[None] * k[:, None], (y * k)[:, None], t[:, None])]
    )
    feet = np.array([[0], [-FOCUS * c], [FOCUS * s]], np.float32)
    return point.astype(np.float32), np.sqrt(((point - feet) ** 2).sum(0))


def render(
    look: Look, camera: Camera, moment: Moment, size: tuple[int, int] = (128, 64), *, subject: bool = True,
    sensor: bool = True,
) -> tuple[Picture, NDArray[np.bool_]]:  # fmt: skip
    """One frame: picture (H, W, 3) uint8 and subject mask (H, W).

    `subject=False` leaves the person out (the shadow stays), `sensor=False` leaves out the camera's blur and noise.
    """
    high, wide = size
    view = _face(look, camera, moment, size)
    frame = view.frame
    power = camera.sun * moment.light
    shadow = _shadow(view, camera)
    light = _backdrop(camera, moment, frame) * np.float32(0.62)
    first = min(max(int(frame.y), 0), high - 1)
    point, off = _on_ground(camera, frame, first)
    sun = _lit(point, shadow)
    dim = (1 - 0.75 * power * (1 - sun)) * (1 - 0.5 * np.exp(-((off / 0.28) ** 2)))
    light[first:] *= dim.reshape(high - first, wide, 1)
    fine = Frame(
        high * FINER, wide * FINER, frame.scale * FINER, frame.x * FINER, frame.y * FINER, frame.distance
    )
    hits = cast(view.solids, place(view.solids, view.rotation, view.shift, frame.distance), fine)
    colour, folds = paint(look, view.solids, hits)
    layer = np.zeros((fine.height * fine.width, 4), np.float32)
    layer[hits.pixel, :3] = _shade(hits, colour, folds, camera, _lit(hits.point, shadow), power)
    layer[hits.pixel, 3] = 1
    layer = layer.reshape(high, FINER, wide, FINER, 4).mean((1, 3))
    if subject:
        light = light * (1 - layer[..., 3:]) + layer[..., :3]
    quiet = moment.sensor
    picture = (
        develop(light, camera, quiet)
        if sensor
        else (255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    )
    return picture, layer[..., 3] >= 0.5


def walk(rng: np.random.Generator, camera: Camera, frames: int, difficulty: float = 0.5) -> list[Moment]:
    """The moments of one tracklet: a person crosses the picture, turning a little."""
    yaw, bend = rng.normal(0, 0.2), rng.uniform(-0.4, 0.4)
    stride, phase = float(rng.uniform(0.22, 0.42)), rng.uniform(0, 2 * math.pi)
    step, speed = rng.uniform(0.45, 0.95), rng.uniform(0.15, 0.45)
    arms = int(rng.choice(3, p=[0.76, 0.12, 0.12]))
    place_, light = rng.uniform(1, LENGTH - 1), float(rng.uniform(0.3, 1))
    zoom, exposure = rng.uniform(0.84, 0.95), rng.normal(0, 0.05 + 0.2 * difficulty)
    moments = []
    for k in range(frames):
        turn = float(yaw + bend * (k / max(frames - 1, 1) - 0.5) + rng.normal(0, 0.04))
        place_ += speed * math.sin(camera.azimuth + turn)
        loose = rng.random() < 0.12 * difficulty  # now and then the detector is far off
        wander = 0.012 + 0.02 * difficulty + 0.07 * loose
        moments.append(
            Moment(
                gait=Gait(float(phase + k * step), stride, stride * 0.9, arms, float(rng.normal(0.04, 0.02))),
                yaw=turn,
                zoom=float(zoom * np.exp(rng.normal(0, 0.02 + 0.12 * loose))),
                shift=(float(rng.normal(0, wander)), float(rng.normal(0, wander))),
                aspect=float(np.exp(rng.normal(0, 0.05))),
                place=float(np.clip(place_, 0.5, LENGTH - 0.5)),
                sensor=Sensor(float(np.exp(exposure + rng.normal(0, 0.03))), float(rng.exponential(0.2)),
                              int(rng.integers(2**31))),
                light=light,
            )
        )  # fmt: skip
    return moments
