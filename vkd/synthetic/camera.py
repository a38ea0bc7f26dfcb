"""Cameras of the synthetic street: pose, light and sensor model.

Scene coordinates: x to the right of the image, y away from the camera, z up, metres.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vkd.synthetic.geometry import Array

ImageArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """One camera: angles in radians, lengths in metres, colours as linear RGB factors."""

    azimuth: float  # of a walker's course: 0 seen from the front, π/2 from the right side
    elevation: float
    distance: float
    sun_azimuth: float
    sun_elevation: float
    sun: float  # direct light as a share of all light, 0 overcast
    warmth: float  # colour temperature, about -0.2 … 0.2
    cast: tuple[float, float, float]
    exposure: float
    gamma: float
    saturation: float
    haze: float
    noise: float  # deviation in grey levels
    blur: float  # Gaussian radius in pixels of a 128-pixel-high image
    detail: float  # share of the resolution that survives
    quality: int  # JPEG
    scene: int  # seed of the background

    def axes(self) -> Array:
        """Returns the rotation from scene to camera: rows right, up, forward."""
        s, c = math.sin(self.elevation), math.cos(self.elevation)
        return np.array([[1, 0, 0], [0, s, c], [0, c, -s]], np.float32)

    def to_sun(self) -> Array:
        """Returns the unit vector to the sun in scene coordinates."""
        c = math.cos(self.sun_elevation)
        return np.array(
            [c * math.sin(self.sun_azimuth), c * math.cos(self.sun_azimuth), math.sin(self.sun_elevation)],
            np.float32,
        )


def camera_ring(count: int, seed: int, difficulty: float = 0.5, ring: int = 0) -> list[Camera]:
    """Samples `count` cameras around the street, more different at higher `difficulty` (0..1).

    The `ring`s of one seed share no camera.
    """
    rng = np.random.default_rng([seed, 77, ring] if ring else [seed, 77])
    turn, made = rng.uniform(0, 2 * math.pi), []
    d = 0.4 + 1.2 * difficulty
    for k in range(count):
        warmth = float(0.11 * d * rng.normal())
        made.append(
            Camera(
                azimuth=float(turn + 2 * math.pi * k / count + rng.normal(0, 0.12)),
                elevation=float(np.radians(rng.uniform(4, 27))),
                distance=float(rng.uniform(5, 13)),
                sun_azimuth=float(rng.uniform(0, 2 * math.pi)),
                sun_elevation=float(np.radians(rng.uniform(25, 65))),
                sun=float(rng.choice([0.0, 0.2, 0.45, 0.65])),
                warmth=warmth,
                cast=tuple(float(v) for v in np.exp(0.07 * d * rng.normal(size=3))),  # type: ignore[arg-type]
                exposure=float(np.exp(0.12 + 0.2 * d * rng.normal())),
                gamma=float(2.2 * np.exp(0.10 * d * rng.normal())),
                saturation=float(np.clip(1 + 0.2 * d * rng.normal(), 0.45, 1.2)),
                haze=float(max(0.0, 0.035 * d * rng.normal())),
                noise=float(rng.uniform(0.5, 1.5 + 3 * d)),
                blur=float(rng.uniform(0.2, 0.4 + 0.6 * d)),
                detail=float(rng.uniform(1 - 0.45 * d, 1)),
                quality=int(rng.integers(int(82 - 25 * d), 95)),
                scene=int(rng.integers(2**31)),
            )
        )
    return made


class Sensor(NamedTuple):
    """Sensor parameters that vary from frame to frame."""

    exposure: float = 1.0
    blur: float = 0.0
    seed: int = 0


@lru_cache(128)
def _tone_curve(gamma: float) -> NDArray[np.float32]:
    """Returns grey levels (4096,) of linear light 0..1.5, with a soft shoulder."""
    light = np.linspace(0, 1.5, 4096)
    return (
        255
        * np.clip(np.where(light < 0.8, light, 0.8 + 0.2 * np.tanh((light - 0.8) / 0.2)), 0, 1) ** (1 / gamma)
    ).astype(np.float32)


def apply_sensor(light: Array, camera: Camera, sensor: Sensor) -> ImageArray:
    """Converts linear light (H, W, 3), 1 = white in full light, to the camera's image (H, W, 3)."""
    high, wide = light.shape[:2]
    warm = np.array((1 + camera.warmth, 1.0, 1 - camera.warmth), np.float32)
    gain = camera.exposure * sensor.exposure * np.array(camera.cast, np.float32) * warm
    light = light * gain + np.float32(camera.haze)
    grey = light @ np.array((0.3, 0.59, 0.11), np.float32)
    light = grey[..., None] + np.float32(camera.saturation) * (light - grey[..., None])
    level = _tone_curve(camera.gamma)[np.clip(light * np.float32(4095 / 1.5), 0, 4095).astype(np.int16)]
    image = Image.fromarray((level + 0.5).astype(np.uint8))
    radius = math.hypot(camera.blur, sensor.blur) * high / 128
    if radius > 0.15:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    if camera.detail < 0.95:
        small = (max(8, round(wide * camera.detail)), max(16, round(high * camera.detail)))
        image = image.resize(small, Image.Resampling.BILINEAR).resize((wide, high), Image.Resampling.BICUBIC)
    left, top = sensor.seed % (512 - wide), sensor.seed // 512 % (512 - high)
    noise = _noise()[top : top + high, left : left + wide]
    level = np.asarray(image) + np.float32(camera.noise) * noise
    return np.minimum(np.maximum(level, 0), 255).astype(np.uint8)


@lru_cache(1)
def _noise() -> Array:
    """Returns sensor noise (512, 512, 3) to crop from: mostly grey, some colour."""
    rng = np.random.default_rng(20200705)
    noise = rng.standard_normal((512, 512, 1), np.float32) + 0.5 * rng.standard_normal(
        (512, 512, 3), np.float32
    )
    soft = (
        noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
    )  # as after demosaicing
    return (0.5 * noise + 0.35 * soft).astype(np.float32)
