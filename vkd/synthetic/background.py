"""Background of the synthetic street: ground, walls, shops, hedges, parked cars, railings."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vkd.synthetic.camera import Camera
from vkd.synthetic.geometry import Array
from vkd.synthetic.texture import grain

LENGTH, ABOVE, BELOW = 16.0, 3.4, 1.0  # extent along the street, above and below the feet, in metres


@lru_cache(128)
def render_background(camera: Camera, scale: int) -> Image.Image:
    """Renders a camera's background, LENGTH × (ABOVE + BELOW) metres at `scale` pixels per metre, sRGB."""
    rng = np.random.default_rng([camera.scene, 1])
    wide, high = int(LENGTH * scale), int((ABOVE + BELOW) * scale)
    x = np.broadcast_to(np.arange(wide, dtype=np.float32) / scale, (high, wide))
    z = np.broadcast_to((ABOVE - np.arange(high, dtype=np.float32) / scale)[:, None], (high, wide))
    tilt = max(math.sin(camera.elevation), 0.06)
    edge = min(rng.uniform(1.5, 8) * tilt, 2.4)  # where the ground meets the wall
    pixels = np.where((z < edge)[..., None], _ground(rng, x, z / tilt), _walls(rng, x, z - edge))
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    _draw_objects(rng, ImageDraw.Draw(image), scale, edge, tilt)
    image = image.filter(ImageFilter.GaussianBlur(scale * rng.uniform(0.004, 0.02)))
    lit = np.asarray(image, np.float32) * (1 + 0.05 * grain(x, z, 40) + 0.04 * grain(z, x, scale))[..., None]
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _tone(rng: np.random.Generator, *choices: tuple[float, float, float]) -> Array:
    return np.clip(np.array(choices[rng.integers(len(choices))]) * rng.uniform(0.75, 1.2), 0, 1).astype(
        np.float32
    )


def _ground(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Renders asphalt, slabs, bricks or grass, with bands along the street."""
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
        near, line = rng.uniform(-4, 6), rng.random() < 0.4
        deep = rng.uniform(0.1, 0.25) if line else rng.choice([0.3, 1.2, 2.5])
        if line:
            tone = _tone(rng, (0.78, 0.77, 0.74), (0.72, 0.62, 0.35))
        else:
            tone = _tone(rng, (0.30, 0.30, 0.31), (0.6, 0.58, 0.55), (0.33, 0.38, 0.22), (0.5, 0.48, 0.45))
        band = ((y > near) & (y < near + deep))[..., None]
        colour = np.where(band, tone * (1 + 0.1 * grain(x, y, 90))[..., None], colour)
    return colour


def _walls(rng: np.random.Generator, x: Array, z: Array) -> Array:
    """Renders facades side by side: brick, plaster, shop windows, shutters, hedges, distant views."""
    colour = np.zeros((*x.shape, 3), np.float32)
    left = 0.0
    while left < LENGTH:
        wide = rng.uniform(1.0, 3.6)
        columns = slice(*np.searchsorted(x[0], (left, left + wide)))
        u, v = x[:, columns] - left, z[:, columns]
        if u.size:
            colour[:, columns] = _facade(rng, u, v, wide)
        left += wide
    return colour


def _facade(rng: np.random.Generator, u: Array, v: Array, wide: float) -> Array:
    base = _tone(rng, (0.58, 0.36, 0.28), (0.78, 0.74, 0.66), (0.62, 0.63, 0.65), (0.42, 0.43, 0.46),
                 (0.72, 0.6, 0.45), (0.36, 0.42, 0.5), (0.85, 0.84, 0.82), (0.25, 0.24, 0.25))  # fmt: skip
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
    surface_colours = _tone(
        rng, (0.7, 0.15, 0.13), (0.15, 0.3, 0.6), (0.9, 0.88, 0.8), (0.1, 0.4, 0.25), (0.12, 0.12, 0.12)
    )
    sign = ((v > lintel + 0.05) & (v < lintel + 0.5))[..., None] & (kind == "shop")
    return np.where(inside[..., None], glass, np.where(sign, surface_colours, wall))


Box = Callable[..., None]
"""Draws a box: its left edge x and foot z, width and height in metres, fill, radius of its corners."""


def _draw_objects(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, scale: int, edge: float, tilt: float
) -> None:
    """Draws cars, poles, bins, doors and posters from far to near."""

    def box(x: float, z: float, wide: float, high: float, fill: Array, round_: float = 0.0) -> None:
        r = (x * scale, (ABOVE - z - high) * scale, (x + wide) * scale, (ABOVE - z) * scale)
        draw.rounded_rectangle(r, round_ * scale, fill=tuple(int(255 * v) for v in np.clip(fill, 0, 1)))

    for _ in range(rng.integers(2, 7)):
        _wall_object(rng, box, edge)
    for depth in sorted(rng.uniform(0.4, max(edge / tilt, 0.6), rng.integers(4, 11)), reverse=True):
        z, x, kind = depth * tilt, rng.uniform(0, LENGTH), rng.integers(4)
        (_car, _pole, _bin, _railing)[kind](rng, box, x, z)


def _wall_object(rng: np.random.Generator, box: Box, edge: float) -> None:
    """Draws a door or a poster."""
    fill = rng.uniform(0.08, 0.9, 3) * rng.uniform(0.5, 1)
    if rng.random() < 0.5:
        tone = np.full(3, fill[0] * 0.5) + fill * 0.2
        box(rng.uniform(0, LENGTH), edge, rng.uniform(0.8, 1.2), 2.05, tone)
    else:
        corner = rng.uniform(0, LENGTH), edge + rng.uniform(0.7, 1.3)
        box(*corner, rng.uniform(0.3, 0.8), rng.uniform(0.4, 1), fill)


def _car(rng: np.random.Generator, box: Box, x: float, z: float) -> None:
    """Draws a parked car from the side."""
    fill = _tone(
        rng, (0.1, 0.1, 0.11), (0.7, 0.71, 0.72), (0.88, 0.88, 0.88), (0.5, 0.1, 0.1), (0.15, 0.25, 0.45)
    )
    box(x + 0.1, z, 4.0, 0.12, np.full(3, 0.08))
    box(x + 0.9, z + 0.7, 2.3, 0.72, fill * 0.8, 0.3)
    box(x + 1.05, z + 0.85, 0.95, 0.42, np.full(3, 0.15), 0.1)
    box(x + 2.1, z + 0.85, 0.9, 0.42, np.full(3, 0.17), 0.1)
    box(x, z + 0.25, 4.2, 0.62, fill, 0.2)
    for wheel in (0.55, 3.05):
        box(x + wheel, z, 0.62, 0.62, np.full(3, 0.06), 0.31)
        box(x + wheel + 0.17, z + 0.17, 0.28, 0.28, np.full(3, 0.5), 0.14)


def _pole(rng: np.random.Generator, box: Box, x: float, z: float) -> None:
    box(x, z, rng.uniform(0.06, 0.2), 4, np.full(3, rng.uniform(0.12, 0.6)))


def _bin(rng: np.random.Generator, box: Box, x: float, z: float) -> None:
    wide, high = rng.uniform(0.35, 0.7), rng.uniform(0.7, 1.2)
    box(x, z, wide, high, _tone(rng, (0.2, 0.3, 0.22), (0.3, 0.3, 0.32), (0.6, 0.2, 0.15)), 0.05)


def _railing(rng: np.random.Generator, box: Box, x: float, z: float) -> None:
    tone = np.full(3, rng.uniform(0.1, 0.5))
    for post in np.arange(0, 2.2, 0.18):
        box(x + post, z, 0.03, 0.95, tone)
    box(x, z + 0.9, 2.2, 0.05, tone)
