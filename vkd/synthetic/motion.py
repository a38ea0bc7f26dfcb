"""The moments of a tracklet: how somebody walks past a camera, who else is there, what gets in the way."""

import math
from typing import NamedTuple

import numpy as np

from vkd.synthetic.background import LENGTH
from vkd.synthetic.body import Gait
from vkd.synthetic.camera import Camera, Sensor

CROWD = 10  # strangers that a camera knows


class Passer(NamedTuple):
    """A stranger: which one, metres to the right of the person and metres behind."""

    who: int
    aside: float
    behind: float


class Occluder(NamedTuple):
    """Something between the camera and the person."""

    kind: str  # person pole box leaves
    x: float  # share of the picture's width
    size: float  # 0..1
    who: int  # a seed


class Moment(NamedTuple):
    """One frame of a tracklet. Box numbers are what a detector gets wrong: shares of the box."""

    gait: Gait = Gait()
    yaw: float = 0.0  # radians added to the camera's azimuth
    zoom: float = 0.9  # share of the picture's height that the person fills
    shift: tuple[float, float] = (0.0, 0.0)
    aspect: float = 1.0  # stretch of the scenery
    place: float = 8.0  # metres along the camera's scenery
    passers: tuple[Passer, ...] = ()
    occluder: Occluder | None = None
    sensor: Sensor = Sensor()
    light: float = 1.0  # share of the sun that gets through


def walk(rng: np.random.Generator, camera: Camera, frames: int, difficulty: float = 0.5) -> list[Moment]:
    """The moments of one tracklet: a person crosses the picture, turning a little."""
    yaw, bend = rng.normal(0, 0.2), rng.uniform(-0.4, 0.4)
    stride, phase = float(rng.uniform(0.22, 0.42)), rng.uniform(0, 2 * math.pi)
    step, speed = rng.uniform(0.45, 0.95), rng.uniform(0.15, 0.45)
    arms = int(rng.choice(3, p=[0.76, 0.12, 0.12]))
    along, light = rng.uniform(1, LENGTH - 1), float(rng.uniform(0.3, 1))
    zoom, exposure = rng.uniform(0.84, 0.95), rng.normal(0, 0.05 + 0.2 * difficulty)
    strangers = [
        (int(rng.integers(CROWD)), rng.normal(0, 0.9), rng.uniform(0.8, 6), rng.normal(0, 0.15))
        for _ in range(rng.poisson(0.7))
    ]
    blocked = rng.random() < 0.1 + 0.5 * difficulty
    kind = str(rng.choice(["person", "pole", "box", "leaves"], p=[0.4, 0.2, 0.25, 0.15]))
    begin, drift = rng.uniform(-0.6, 1.6), rng.choice([-1, 1]) * rng.uniform(0.05, 0.35)
    extent, seed = float(rng.uniform(0.25, 0.9)), int(rng.integers(2**31))
    moments = []
    for k in range(frames):
        turn = float(yaw + bend * (k / max(frames - 1, 1) - 0.5) + rng.normal(0, 0.04))
        along += speed * math.sin(camera.azimuth + turn)
        loose = rng.random() < 0.12 * difficulty  # now and then the detector is far off
        wander = 0.012 + 0.02 * difficulty + 0.07 * loose
        flash, defocus = float(np.exp(exposure + rng.normal(0, 0.03))), float(rng.exponential(0.2))
        moments.append(
            Moment(
                gait=Gait(float(phase + k * step), stride, stride * 0.9, arms, float(rng.normal(0.04, 0.02))),
                yaw=turn,
                zoom=float(zoom * np.exp(rng.normal(0, 0.02 + 0.12 * loose))),
                shift=(float(rng.normal(0, wander)), float(rng.normal(0, wander))),
                aspect=float(np.exp(rng.normal(0, 0.05))),
                place=float(np.clip(along, 0.5, LENGTH - 0.5)),
                passers=tuple(Passer(who, float(x + k * go), float(y)) for who, x, y, go in strangers),
                occluder=Occluder(kind, float(begin + drift * k), extent, seed) if blocked else None,
                sensor=Sensor(flash, defocus, int(rng.integers(2**31))),
                light=light,
            )
        )
    return moments
