"""The cameras of the synthetic street: where they stand, what is behind the people, and what the sensor makes of it.

Scene coordinates: x to the right of the picture, y away from the camera, z up, metres.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vkd.bodies import Array
from vkd.people import grain

LENGTH, ABOVE, BELOW = 16.0, 3.4, 1.0  # metres of scenery along the street, above and below the feet
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """One camera: angles in radians, lengths in metres, colours as linear RGB factors."""

    azimuth: float  # from where it sees a walker: 0 from the front, π/2 the walker's left side... grows anticlockwise
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
    blur: float  # Gaussian radius in pixels of a 128-pixel-high picture
    detail: float  # share of the resolution that survives
    quality: int  # JPEG
    scene: int  # seed of the background

    def axes(self) -> Array:
        """Scene to camera: rows right, up, forward."""
        s, c = math.sin(self.elevation), math.cos(self.elevation)
        return np.array([[1, 0, 0], [0, s, c], [0, c, -s]], np.float32)

    def to_sun(self) -> Array:
        c = math.cos(self.sun_elevation)
        return np.array(
            [c * math.sin(self.sun_azimuth), c * math.cos(self.sun_azimuth), math.sin(self.sun_elevation)],
            np.float32,
        )


def cameras(count: int, seed: int, difficulty: float = 0.5) -> list[Camera]:
    """`count` cameras around the street, further apart in light and quality as `difficulty` grows from 0 to 1."""
    rng = np.random.default_rng([seed, 77])
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


@lru_cache(32)
def scenery(camera: Camera, scale: int) -> Image.Image:
    """The whole background of a camera, `scale` pixels a metre, LENGTH × (ABOVE + BELOW) metres, sRGB."""
    rng = np.random.default_rng([camera.scene, 1])
    wide, high = int(LENGTH * scale), int((ABOVE + BELOW) * scale)
    x = np.broadcast_to(np.arange(wide, dtype=np.float32) / scale, (high, wide))
    z = np.broadcast_to((ABOVE - np.arange(high, dtype=np.float32) / scale)[:, None], (high, wide))
    tilt = max(math.sin(camera.elevation), 0.06)
    edge = min(rng.uniform(1.5, 8) * tilt, 2.4)  # where the ground meets the wall
    picture = np.where((z < edge)[..., None], _ground(rng, x, z / tilt), _walls(rng, x, z - edge))
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    _furniture(rng, ImageDraw.Draw(image), scale, edge, tilt)
    image = image.filter(ImageFilter.GaussianBlur(scale * rng.uniform(0.004, 0.02)))
    lit = np.asarray(image, np.float32) * (1 + 0.05 * grain(x, z, 40) + 0.04 * grain(z, x, scale))[..., None]
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _tone(rng: np.random.Generator, *choices: tuple[float, float, float]) -> Array:
    return np.clip(np.array(choices[rng.integers(len(choices))]) * rng.uniform(0.75, 1.2), 0, 1).astype(
        np.float32
    )


def _ground(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Asphalt, slabs, bricks or grass, with bands along the street."""
    base = _tone(
        rng, (0.42, 0.42, 0.43), (0.55, 0.53, 0.50), (0.62, 0.60, 0.56), (0.5, 0.42, 0.37), (0.33, 0.33, 0.35)
    )
    colour = np.broadcast_to(base, (*x.shape, 3)) * (1 + 0.07 * grain(x, y * 0.4, 60))[..., None]
    kind = rng.integers(4)
    if kind:  # slabs: darker joints, each slab its own shade
        a, b = rng.uniform(0.25, 0.9), rng.uniform(0.25, 0.9)
        row = np.floor(y / b)
        column = np.floor(x / a + 0.5 * (row % 2) * (kind > 1))
        shade = 0.06 * np.sin(row * 12.9898 + column * 78.233 + kind)
        joint = (np.abs(y / b - row - 0.5) > 0.47) | (
            np.abs((x / a + 0.5 * (row % 2) * (kind > 1)) % 1 - 0.5) > 0.48
        )
        colour = colour * (1 + shade - 0.22 * joint)[..., None]
    for _ in range(rng.integers(0, 4)):  # road, kerb, grass, a painted line
        near, deep = rng.uniform(-4, 6), rng.choice([0.12, 0.3, 1.2, 2.5])
        tone = _tone(
            rng,
            (0.30, 0.30, 0.31),
            (0.78, 0.77, 0.74),
            (0.33, 0.38, 0.22),
            (0.8, 0.72, 0.3),
            (0.5, 0.48, 0.45),
        )
        band = ((y > near) & (y < near + deep))[..., None]
        colour = np.where(band, tone * (1 + 0.1 * grain(x, y, 90))[..., None], colour)
    return colour


def _walls(rng: np.random.Generator, x: Array, z: Array) -> Array:
    """Fronts side by side: brick, plaster, shop windows, shutters, hedges, a view into the distance."""
    colour = np.zeros((*x.shape, 3), np.float32)
    left = 0.0
    while left < LENGTH:
        wide = rng.uniform(1.0, 3.6)
        columns = slice(*np.searchsorted(x[0], (left, left + wide)))
        u, v = x[:, columns] - left, z[:, columns]
        if u.size:
            colour[:, columns] = _front(rng, u, v, wide)
        left += wide
    return colour


def _front(rng: np.random.Generator, u: Array, v: Array, wide: float) -> Array:
    base = _tone(rng, (0.58, 0.36, 0.28), (0.78, 0.74, 0.66), (0.62, 0.63, 0.65), (0.42, 0.43, 0.46), (0.72, 0.6, 0.45),
                 (0.36, 0.42, 0.5), (0.85, 0.84, 0.82), (0.25, 0.24, 0.25))  # fmt: skip
    wall = np.broadcast_to(base, (*u.shape, 3)) * (1 + 0.06 * grain(u + base[0] * 99, v, 50))[..., None]
    kind = rng.choice(["brick", "plaster", "shop", "shop", "windows", "shutter", "hedge", "far"])
    if kind == "brick":
        row = np.floor(v / 0.075)
        joint = ((v / 0.075) % 1 < 0.15) | ((u / 0.22 + 0.5 * (row % 2)) % 1 < 0.06)
        return wall * (1 + 0.08 * np.sin(row * 7 + np.floor(u / 0.22) * 13) - 0.25 * joint)[..., None]
    if kind == "shutter":
        return wall * (0.9 + 0.16 * np.sin(v * 2 * math.pi / 0.11))[..., None]
    if kind == "hedge":
        leaf = grain(u + rng.uniform(0, 9), v, 75) + 0.7 * grain(v, u, 230)
        green = np.array((0.20, 0.31, 0.12), np.float32) * rng.uniform(0.7, 1.3)
        tree = green * np.clip(1 + 0.5 * leaf, 0.15, 2.4)[..., None]
        return np.where((v < rng.uniform(0.8, 4) + 0.1 * leaf)[..., None], tree, wall)
    if kind == "far":
        sky = np.array((0.78, 0.83, 0.88), np.float32) * rng.uniform(0.75, 1.1)
        return sky * np.clip(0.55 + 0.16 * v + 0.1 * grain(u, v * 0.5, 25), 0.25, 1.1)[..., None]
    if kind == "plaster":
        return wall * (1 - 0.35 * (v < rng.uniform(0, 0.5)))[..., None]
    sill, lintel = (rng.uniform(0.0, 0.5), rng.uniform(2.0, 2.6)) if kind == "shop" else (0.9, 2.3)
    pane = rng.uniform(0.5, 1.3)
    inside = (v > sill) & (v < lintel) & (np.abs(u / pane % 1 - 0.5) < 0.44) & (u > 0.1) & (u < wide - 0.1)
    glow = _tone(
        rng, (0.14, 0.16, 0.19), (0.3, 0.34, 0.38), (0.75, 0.68, 0.52), (0.1, 0.1, 0.12), (0.55, 0.6, 0.66)
    )
    glass = glow * (1 + 0.25 * grain(u + glow[0] * 70, v * 0.7, 45) + 0.2 * np.sin(u * 2.1 + v))[..., None]
    sign = ((v > lintel + 0.05) & (v < lintel + 0.5))[..., None] & (kind == "shop")
    return np.where(inside[..., None], glass, np.where(sign, _tone(rng, (0.7, 0.15, 0.13), (0.15, 0.3, 0.6),
                    (0.9, 0.88, 0.8), (0.1, 0.4, 0.25), (0.12, 0.12, 0.12), (0.92, 0.7, 0.2)), wall))  # fmt: skip


def _furniture(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, scale: int, edge: float, tilt: float
) -> None:
    """Cars, poles, bins, doors, posters, drawn from far to near."""

    def box(x: float, z: float, wide: float, high: float, fill: Array, round_: float = 0.0) -> None:
        r = (x * scale, (ABOVE - z - high) * scale, (x + wide) * scale, (ABOVE - z) * scale)
        draw.rounded_rectangle(r, round_ * scale, fill=tuple(int(255 * v) for v in np.clip(fill, 0, 1)))

    for _ in range(rng.integers(2, 7)):  # doors and posters on the wall
        fill = rng.uniform(0.08, 0.9, 3) * rng.uniform(0.5, 1)
        if rng.random() < 0.5:
            box(
                rng.uniform(0, LENGTH),
                edge,
                rng.uniform(0.8, 1.2),
                2.05,
                np.full(3, fill[0] * 0.5) + fill * 0.2,
            )
        else:
            box(
                rng.uniform(0, LENGTH),
                edge + rng.uniform(0.7, 1.3),
                rng.uniform(0.3, 0.8),
                rng.uniform(0.4, 1),
                fill,
            )
    for depth in sorted(rng.uniform(0.4, max(edge / tilt, 0.6), rng.integers(4, 11)), reverse=True):
        z, x, kind = depth * tilt, rng.uniform(0, LENGTH), rng.integers(4)
        if kind == 0:  # a parked car, side on
            fill = _tone(
                rng,
                (0.1, 0.1, 0.11),
                (0.7, 0.71, 0.72),
                (0.88, 0.88, 0.88),
                (0.5, 0.1, 0.1),
                (0.15, 0.25, 0.45),
            )
            box(x + 0.1, z, 4.0, 0.12, np.full(3, 0.08))
            box(x + 0.9, z + 0.7, 2.3, 0.72, fill * 0.8, 0.3)
            box(x + 1.05, z + 0.85, 0.95, 0.42, np.full(3, 0.15), 0.1)
            box(x + 2.1, z + 0.85, 0.9, 0.42, np.full(3, 0.17), 0.1)
            box(x, z + 0.25, 4.2, 0.62, fill, 0.2)
            for wheel in (0.55, 3.05):
                box(x + wheel, z, 0.62, 0.62, np.full(3, 0.06), 0.31)
                box(x + wheel + 0.17, z + 0.17, 0.28, 0.28, np.full(3, 0.5), 0.14)
        elif kind == 1:  # pole
            box(x, z, rng.uniform(0.06, 0.2), 4, np.full(3, rng.uniform(0.12, 0.6)))
        elif kind == 2:  # bin or box
            box(
                x,
                z,
                rng.uniform(0.35, 0.7),
                rng.uniform(0.7, 1.2),
                _tone(rng, (0.2, 0.3, 0.22), (0.3, 0.3, 0.32), (0.6, 0.2, 0.15)),
                0.05,
            )
        else:  # railing
            tone = np.full(3, rng.uniform(0.1, 0.5))
            for post in np.arange(0, 2.2, 0.18):
                box(x + post, z, 0.03, 0.95, tone)
            box(x, z + 0.9, 2.2, 0.05, tone)


class Sensor(NamedTuple):
    """What differs from frame to frame on the way from light to file."""

    exposure: float = 1.0
    blur: float = 0.0
    seed: int = 0


@lru_cache(32)
def _curve(gamma: float) -> NDArray[np.float32]:
    """Grey levels (4096,) of linear light 0..1.5, with a soft shoulder."""
    light = np.linspace(0, 1.5, 4096)
    return (
        255
        * np.clip(np.where(light < 0.8, light, 0.8 + 0.2 * np.tanh((light - 0.8) / 0.2)), 0, 1) ** (1 / gamma)
    ).astype(np.float32)


def develop(light: Array, camera: Camera, sensor: Sensor) -> Picture:
    """Linear light (H, W, 3), 1 = white in full light, to the picture (H, W, 3) that the camera delivers."""
    high, wide = light.shape[:2]
    warm = np.array((1 + camera.warmth, 1.0, 1 - camera.warmth), np.float32)
    gain = camera.exposure * sensor.exposure * np.array(camera.cast, np.float32) * warm
    light = light * gain + np.float32(camera.haze)
    grey = light @ np.array((0.3, 0.59, 0.11), np.float32)
    light = grey[..., None] + np.float32(camera.saturation) * (light - grey[..., None])
    level = _curve(camera.gamma)[np.clip(light * np.float32(4095 / 1.5), 0, 4095).astype(np.int16)]
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
    """Sensor noise (512, 512, 3) to cut pictures' noise from: mostly grey, some colour."""
    rng = np.random.default_rng(20200705)
    noise = rng.standard_normal((512, 512, 1), np.float32) + 0.5 * rng.standard_normal(
        (512, 512, 3), np.float32
    )
    soft = (
        noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
    )  # as after demosaicing
    return (0.5 * noise + 0.35 * soft).astype(np.float32)
