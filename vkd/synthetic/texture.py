"""Surface colours of people: cloth and its patterns, skin, hair, prints.

Textures are functions of the solids' own coordinates, so they move with the body.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vkd.synthetic.appearance import BLOCK, CAMOUFLAGE, CHECKS, PINSTRIPES, PLAID, PRINT, STRIPES, Appearance
from vkd.synthetic.body import (
    BOTTOM,
    CHEST,
    HAIR,
    HEAD,
    INNER,
    LEFT_LEG,
    LEFT_SHOULDER,
    RIGHT_LEG,
    RIGHT_SHOULDER,
    SKIN,
    TOP,
)
from vkd.synthetic.geometry import Array, Hits, Solids


@lru_cache(1)
def _grain() -> NDArray[np.float32]:
    """Returns a tile (256, 256) of 1/f noise with mean 0 and deviation 1."""
    rng = np.random.default_rng(20200704)
    size = 256
    wave = np.fft.fftfreq(size)
    radius = np.hypot(wave[:, None], wave[None]) + 1 / size
    tile = np.fft.ifft2(
        np.fft.fft2(rng.normal(size=(size, size))) * radius**-1.3 * (radius > 1.6 / size)
    ).real
    return (tile / tile.std()).astype(np.float32)


def grain(u: Array, v: Array, texels: float) -> Array:
    """Samples periodic noise at (u, v) metres, `texels` per metre."""
    where = ((u * np.float32(texels)).astype(np.int32) & 255) << 8
    where |= (v * np.float32(texels)).astype(np.int32) & 255
    return np.take(_grain(), where)


def surface_colours(person: Appearance, solids: Solids, hits: Hits) -> tuple[Array, Array]:
    """Returns linear colours (m, 3) of surface points, and the height (m,) of folds (about 0 ± 1)."""
    first, second, pattern = _palette(person)
    whole = np.take(np.vstack((solids.slot.T, solids.role)), hits.solid, axis=1)
    cut, base = np.take(np.vstack((solids.cut, solids.base)), hits.solid, axis=1)
    slot, role = np.where(hits.along > cut, whole[1], whole[0]), whole[2]
    x, y, z = hits.local
    z = z + base
    for shoulder, side in ((RIGHT_SHOULDER, 1), (LEFT_SHOULDER, -1)):
        i = np.flatnonzero(
            role == shoulder
        )  # its axis lies across, its own x points down (right) or up (left)
        x[i], z[i] = side * (z[i] + 0.02 * person.height), 0.8 * person.height - side * x[i]
    _draw_parts(person, slot, role, x, y, z)
    colour = np.take(first, slot, axis=0)
    turn = np.arctan2(x, y) * np.float32(0.13)  # an angle as metres on a surface of a usual radius
    kind = pattern[slot]
    for each in set(kind[kind > 0].tolist()):
        i = np.flatnonzero(kind == each)
        share = _pattern(each, turn[i], z[i], person)[:, None]
        colour[i] += share * (second[slot[i]] - colour[i])
    _draw_details(person, colour, slot, role, x, y, z)
    shift = (person.weave % 251 + role * 0.37).astype(np.float32)
    folds = 0.9 * grain(x + 0.6 * y + shift, 0.5 * z, 80) + 0.4 * grain(z + shift, turn, 260)
    return colour, folds * (slot != SKIN)


def _palette(person: Appearance) -> tuple[Array, Array, NDArray[np.intp]]:
    """Returns colours (12, 3) of the materials, their second colours, and their patterns (12,)."""
    dark = (0.08, 0.07, 0.08)
    first = np.array(
        [person.skin, person.hair_colour, person.top_colours[0], person.bottom_colours[0], person.shoe,
         person.sole, person.backpack or dark, person.bag_colour, person.hat_colour, person.inner,
         person.scarf or dark, dark],
        np.float32,
    )  # fmt: skip
    second = first.copy()
    second[TOP], second[BOTTOM] = person.top_colours[1], person.bottom_colours[1]
    pattern = np.zeros(12, np.intp)
    pattern[TOP], pattern[BOTTOM] = person.top_pattern, person.bottom_pattern
    return first**2.2, second**2.2, pattern


def _pattern(kind: int, u: Array, v: Array, person: Appearance) -> Array:
    """Returns the share 0..1 of the second colour at (u, v) metres on the cloth."""
    k = 2 * math.pi / person.pitch
    if kind == STRIPES:
        return (np.sin(v * k) > 0).astype(np.float32)
    if kind == PINSTRIPES:
        return (np.sin(u * k * 1.6) > 0.5).astype(np.float32)
    if kind == CHECKS:
        return (np.sin(u * k) * np.sin(v * k) > 0).astype(np.float32)
    if kind == PLAID:
        return 0.5 * (np.sin(u * k) > 0.2) + 0.5 * (np.sin(v * k) > 0.2)
    if kind == BLOCK:
        return (v < person.height * 0.69).astype(np.float32)
    if kind == CAMOUFLAGE:
        return np.clip(2.5 * grain(u + person.weave % 97, v, 110) + 0.5, 0, 1)
    if kind == PRINT:
        return np.clip(4 * grain(u + person.weave % 89, v, 420) - 1.5, 0, 1)
    return np.zeros_like(u)


def _draw_parts(
    person: Appearance, slot: NDArray[np.intp], role: NDArray[np.intp], x: Array, y: Array, z: Array
) -> None:
    """Sets the materials of solids that have two: open jacket, neckline, hair on the skull (in place)."""
    h = person.height
    chest = np.flatnonzero((role == CHEST) & (y > 0))
    cx, cz = np.abs(x[chest]), z[chest] / h
    if person.top == "open":
        slot[chest[cx < (0.022 + 0.02 * (cz < 0.66)) * h]] = INNER
    elif person.top in ("jacket", "coat"):
        slot[chest[(cx < 0.05 * h) & (cx < (cz - 0.72) * 0.5 * h)]] = INNER
    head = np.flatnonzero(role == HEAD)
    if person.hair != "bald":
        slot[head[z[head] > (0.036 + 0.5 * y[head] / h) * h]] = HAIR
    if person.beard:
        slot[head[(z[head] < -0.02 * h) & (y[head] > 0.01 * h)]] = HAIR


def _draw_details(
    person: Appearance,
    colour: Array,
    slot: NDArray[np.intp],
    role: NDArray[np.intp],
    x: Array,
    y: Array,
    z: Array,
) -> None:
    """Draws the print on the chest, a stripe down one leg, face and zip (in place)."""
    h = person.height
    if person.logo:
        i = np.flatnonzero((role == CHEST) & (slot == TOP) & (y > 0.02))
        size = person.logo_size * h
        column = np.floor((x[i] / size + 0.5) * 5).astype(np.intp)
        row = np.floor((z[i] - 0.66 * h) / size * 5).astype(np.intp)
        inside = (column >= 0) & (column < 5) & (row >= 0) & (row < 5)
        bit = np.abs(column.clip(0, 4)) + 5 * row.clip(0, 4)
        colour[i[inside & ((person.logo >> bit) & 1 == 1)]] = np.array(person.logo_colour, np.float32) ** 2.2
    elif person.top == "jacket":
        colour[(role == CHEST) & (y > 0) & (np.abs(x) < 0.006 * h)] *= 0.4
    if person.stripe:
        leg = role == (RIGHT_LEG if person.stripe > 0 else LEFT_LEG)
        # a leg's axis points down, so its own x points to the person's left
        i = leg & (slot == BOTTOM) & (x * person.stripe < 0) & (np.abs(y) < 0.014 * h)
        colour[i] = np.array(person.stripe_colour, np.float32) ** 2.2
    face = np.flatnonzero((role == HEAD) & (slot == SKIN) & (y > 0.02 * h))
    fx, fz = np.abs(x[face]) / h, z[face] / h
    eyes = (np.abs(fz - 0.008) < 0.009) & (np.abs(fx - 0.019) < 0.012)
    mouth = (np.abs(fz + 0.032) < 0.005) & (fx < 0.014)
    colour[face[eyes]] *= 0.35
    colour[face[mouth]] *= np.array((0.75, 0.45, 0.45), np.float32)
