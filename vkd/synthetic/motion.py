"""Motion of a tracklet: gait, bystanders, occluders and detector errors, frame by frame."""

import math
from typing import NamedTuple

import numpy as np

from vkd.synthetic.background import LENGTH
from vkd.synthetic.body import Gait
from vkd.synthetic.camera import Camera, Sensor

CROWD_SIZE = 10  # different bystanders of a camera


class Bystander(NamedTuple):
    """A bystander: index, metres to the right of the person and metres behind."""

    index: int
    right: float
    behind: float


class Occluder(NamedTuple):
    """An object between the camera and the person."""

    kind: str  # person pole box leaves
    x: float  # share of the image width
    size: float  # 0..1
    seed: int


class FrameState(NamedTuple):
    """State of one frame. `zoom` and `shift` imitate detector errors: shares of the box."""

    gait: Gait = Gait()
    yaw: float = 0.0  # radians added to the camera's azimuth
    zoom: float = 0.9  # share of the image height that the person fills
    shift: tuple[float, float] = (0.0, 0.0)
    aspect: float = 1.0  # stretch of the background
    position: float = 8.0  # metres along the camera's background
    bystanders: tuple[Bystander, ...] = ()
    occluder: Occluder | None = None
    sensor: Sensor = Sensor()
    light: float = 1.0  # share of the sun that gets through


def sample_walk(
    rng: np.random.Generator, camera: Camera, frames: int, difficulty: float = 0.5
) -> list[FrameState]:
    """Samples the frames of a tracklet: a person crosses the image, turning a little."""
    yaw, bend = rng.normal(0, 0.2), rng.uniform(-0.4, 0.4)
    stride, phase = float(rng.uniform(0.22, 0.42)), rng.uniform(0, 2 * math.pi)
    step, speed = rng.uniform(0.45, 0.95), rng.uniform(0.15, 0.45)
    arms = int(rng.choice(3, p=[0.76, 0.12, 0.12]))
    along, light = rng.uniform(1, LENGTH - 1), float(rng.uniform(0.3, 1))
    zoom, exposure = rng.uniform(0.84, 0.95), rng.normal(0, 0.05 + 0.2 * difficulty)
    others = [
        (int(rng.integers(CROWD_SIZE)), rng.normal(0, 0.9), rng.uniform(0.8, 6), rng.normal(0, 0.15))
        for _ in range(rng.poisson(0.7))
    ]
    blocked = rng.random() < 0.1 + 0.5 * difficulty
    kind = str(rng.choice(["person", "pole", "box", "leaves"], p=[0.4, 0.2, 0.25, 0.15]))
    begin, drift = rng.uniform(-0.6, 1.6), rng.choice([-1, 1]) * rng.uniform(0.05, 0.35)
    extent, seed = float(rng.uniform(0.25, 0.9)), int(rng.integers(2**31))
    states = []
    for k in range(frames):
        turn = float(yaw + bend * (k / max(frames - 1, 1) - 0.5) + rng.normal(0, 0.04))
        along += speed * math.sin(camera.azimuth + turn)
        loose = rng.random() < 0.12 * difficulty  # an occasional gross detector error
        wander = 0.012 + 0.02 * difficulty + 0.07 * loose
        flash, defocus = float(np.exp(exposure + rng.normal(0, 0.03))), float(rng.exponential(0.2))
        states.append(
            FrameState(
                gait=Gait(float(phase + k * step), stride, stride * 0.9, arms, float(rng.normal(0.04, 0.02))),
                yaw=turn,
                zoom=float(zoom * np.exp(rng.normal(0, 0.02 + 0.12 * loose))),
                shift=(float(rng.normal(0, wander)), float(rng.normal(0, wander))),
                aspect=float(np.exp(rng.normal(0, 0.05))),
                position=float(np.clip(along, 0.5, LENGTH - 0.5)),
                bystanders=tuple(Bystander(one, float(x + k * go), float(y)) for one, x, y, go in others),
                occluder=Occluder(kind, float(begin + drift * k), extent, seed) if blocked else None,
                sensor=Sensor(flash, defocus, int(rng.integers(2**31))),
                light=light,
            )
        )
    return states
