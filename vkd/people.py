"""A look and a moment of a walk become solids, and a surface point becomes a colour.

Person coordinates: x to the person's right, y to the front, z up, metres, ground at z = 0. All that is drawn on
the clothes is drawn in the coordinates of the solid that carries it, so it moves with the body.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vkd.bodies import Array, Hits, Solids
from vkd.looks import BLOCK, CAMOUFLAGE, CHECKS, PINSTRIPES, PLAID, PRINT, STRIPES, Look

SKIN, HAIR, TOP, BOTTOM, SHOE, SOLE, PACK, BAG, HAT, INNER, SCARF, SOCK = range(
    12
)  # what a surface is made of
PLAIN, CHEST, HEAD, LEFT_LEG, RIGHT_LEG, BACK, RIGHT_SHOULDER, LEFT_SHOULDER = range(
    8
)  # the solids on which something is drawn


class Gait(NamedTuple):
    """One moment of a walk: `phase` in radians; `stride`, `swing` the amplitudes of hips and arms in radians.

    `arms`: 0 swing, 1 the right hand holds a phone, 2 hands in the pockets. `lean` forwards in radians.
    """

    phase: float = 0.0
    stride: float = 0.45
    swing: float = 0.4
    arms: int = 0
    lean: float = 0.04


Point = tuple[float, float, float]


class _Sheet:
    """Solids written down one by one, in shares of the person's height."""

    def __init__(self, lean: float) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.front: Point = (0.0, 1.0, 0.0)
        self.lean = lean

    def add(
        self, start: Point, end: Point, ra: float, rb: float, slot: int, other: int = -1, *, cut: float = 2.0,
        scale: Point = (1, 1, 1), role: int = PLAIN, base: float = 0.0, upper: bool = False,
    ) -> None:  # fmt: skip
        if upper:  # everything above the hips leans with the body
            start = (start[0], start[1] + self.lean * (start[2] - 0.53), start[2])
            end = (end[0], end[1] + self.lean * (end[2] - 0.53), end[2])
        self.rows.append(
            (*start, *end, ra, rb, *self.front, *scale, slot, slot if other < 0 else other, cut, role, base)
        )

    def solids(self, height: float, ground: float) -> Solids:
        table = np.array(self.rows, np.float32)
        table[:, (2, 5)] -= ground
        table[:, :8] *= height
        whole = table[:, 14:].astype(np.intp)
        return Solids(
            table[:, 0:3], table[:, 3:6], table[:, 6:8], table[:, 8:11], table[:, 11:14],
            whole[:, 0:2], table[:, 16], whole[:, 3], table[:, 18] * height,
        )  # fmt: skip


def figure(look: Look, gait: Gait) -> Solids:
    """The solids of one person at one moment, feet on the ground."""
    sheet = _Sheet(math.tan(gait.lean))
    twist = 0.12 * math.sin(gait.phase) * gait.stride / 0.45
    knees, lowest = _legs(sheet, look, gait)
    sheet.front = (math.sin(twist), math.cos(twist), 0.0)
    hands = _arms(sheet, look, gait, twist)
    _trunk(sheet, look, knees)
    sheet.front = (0.0, 1.0, 0.0)
    _head(sheet, look)
    _luggage(sheet, look, hands)
    return sheet.solids(look.height, lowest)


def _legs(sheet: _Sheet, look: Look, gait: Gait) -> tuple[list[Point], float]:
    """Thighs, shins, shoes; the knees and the lowest sole, in shares of the height."""
    wide = look.girth * (1.12 if look.bottom == "trousers" else 1.0)
    loose = {"trousers": 1.35, "slim": 1.0}.get(look.bottom, 0.95)
    covered = {"trousers": 2.0, "slim": 0.93, "shorts": -1.0, "skirt": -1.0}[look.bottom]
    if look.top == "dress":
        covered = -1.0
    bare = SOCK if look.tights else SKIN
    leg = BOTTOM if covered > 0 else bare
    knees, lowest = [], 1.0
    for side, role in ((1, RIGHT_LEG), (-1, LEFT_LEG)):
        phase = gait.phase + (0 if side > 0 else math.pi)
        hip = gait.stride * math.sin(phase) + 0.05
        bend = 0.06 + 1.7 * gait.stride * max(0.0, math.cos(phase + 0.35)) ** 1.5
        a = (0.052 * side * look.girth, 0.0, 0.515)
        b = (0.046 * side, 0.238 * math.sin(hip), 0.515 - 0.238 * math.cos(hip))
        shin = hip - bend
        c = (0.042 * side, b[1] + 0.232 * math.sin(shin), b[2] - 0.232 * math.cos(shin))
        knees.append(b)
        upper = BOTTOM if covered > 0 or look.bottom == "shorts" else bare
        cut = 0.8 if look.bottom == "shorts" and look.top != "dress" else 2.0
        sheet.add(a, b, 0.052 * wide, (0.047 if cut < 1 else 0.036 * loose) * wide, upper, bare, cut=cut,
                  role=role, scale=(1, 1.08, 1), base=0.0)  # fmt: skip
        sheet.add(
            b, c, 0.035 * loose * wide, 0.024 * loose * wide, leg, bare, cut=covered, role=role, base=0.238
        )
        pitch = shin * 0.5 - 0.1  # the foot follows the shin half way
        heel = (c[0], c[1] - 0.018, c[2] - 0.012)
        toe = (c[0] + 0.008 * side, c[1] + 0.085 * math.cos(pitch), c[2] - 0.018 + 0.085 * math.sin(pitch))
        sheet.add(heel, toe, 0.025, 0.019, SHOE, role=PLAIN, scale=(1.0, 0.95, 1.0))
        sole = 0.016
        sheet.add((heel[0], heel[1], heel[2] - sole), (toe[0], toe[1], toe[2] - sole), 0.022, 0.02, SOLE,
                  scale=(1.05, 0.55, 1.1))  # fmt: skip
        lowest = min(lowest, heel[2] - 0.028, toe[2] - 0.028)
    return knees, lowest


def _arms(sheet: _Sheet, look: Look, gait: Gait, twist: float) -> list[Point]:
    """Upper arms, forearms, hands; returns where the right and the left hand are."""
    thick = look.girth * (1.25 if look.top in ("jacket", "coat", "open") else 1.0)
    hands = []
    for side in (1, -1):
        swing = -gait.swing * math.sin(gait.phase + (0 if side > 0 else math.pi)) - 0.05
        bend, out = 0.35 + 0.5 * max(0.0, swing), 0.1 * look.girth
        if gait.arms == 1 and side > 0:
            swing, bend, out = 0.35, 1.7, 0.1
        elif gait.arms == 2:
            swing, bend, out = -0.3, 0.75, 0.32
        if look.bag == side and look.bag_kind == "hand":
            swing, bend = swing * 0.3, 0.12
        shoulder = (0.108 * side * look.girth * math.cos(twist), -0.108 * side * math.sin(twist), 0.79)
        elbow = (shoulder[0] + 0.165 * side * math.sin(out), shoulder[1] + 0.165 * math.sin(swing),
                 shoulder[2] - 0.165 * math.cos(swing) * math.cos(out))  # fmt: skip
        reach = swing + bend
        turn = -0.5 if gait.arms == 1 and side > 0 else -0.15
        wrist = (elbow[0] + 0.13 * side * math.sin(turn), elbow[1] + 0.13 * math.sin(reach),
                 elbow[2] - 0.13 * math.cos(reach))  # fmt: skip
        way = tuple((w - e) / 0.13 for w, e in zip(wrist, elbow, strict=True))
        hand = (wrist[0] + 0.035 * way[0], wrist[1] + 0.035 * way[1], wrist[2] + 0.035 * way[2])
        cloth = TOP if look.sleeve > 0.05 else SKIN
        sheet.add(shoulder, elbow, 0.036 * thick, 0.027 * thick, cloth, SKIN, cut=look.sleeve * 2,
                  base=0.0, upper=True)  # fmt: skip
        long = look.sleeve > 0.55
        sheet.add(elbow, wrist, 0.026 * (thick if long else 1), 0.018 * (thick if long else 1),
                  TOP if long else SKIN, SKIN, cut=2.0 if long else -1, base=0.165, upper=True)  # fmt: skip
        sheet.add(wrist, hand, 0.017, 0.016, SKIN, scale=(0.75, 1.1, 1), upper=True)
        hands.append(hand)
    return hands


def _trunk(sheet: _Sheet, look: Look, knees: list[Point]) -> None:
    """Hips, belly, chest, shoulders, neck, and what hangs from the waist."""
    g = look.girth
    puff = 1.14 if look.top in ("jacket", "coat", "open") else 1.0
    dressed = TOP if look.top == "dress" else BOTTOM
    belly = 0.078 + 0.05 * max(0.0, g - 1)
    sheet.add((0, 0, 0.50), (0, 0, 0.565), 0.088 * g, 0.084 * g, dressed, scale=(1, 0.74, 0.45), base=0.5)
    sheet.add((0, 0, 0.56), (0, 0, 0.68), belly * g * puff * 1.06, 0.082 * g * puff, TOP, role=CHEST,
              scale=(1, 0.74, 0.5), base=0.56, upper=True)  # fmt: skip
    sheet.add((0, 0, 0.66), (0, 0, 0.765), 0.080 * g * puff, 0.092 * g * puff, TOP, role=CHEST,
              scale=(1, 0.70, 0.55), base=0.66, upper=True)  # fmt: skip
    for side, role in ((1, RIGHT_SHOULDER), (-1, LEFT_SHOULDER)):
        sheet.add((0.02 * side, 0, 0.81), (0.1 * side * g, 0, 0.787), 0.034 * puff, 0.038 * puff, TOP,
                  scale=(1, 1.1, 1), role=role, upper=True)  # fmt: skip
    sheet.add((0, -0.005, 0.79), (0, 0, 0.84), 0.075, 0.03, TOP, scale=(1, 0.7, 1), base=0.79, upper=True)
    sheet.add((0, 0.0, 0.82), (0, 0.012, 0.89), 0.031, 0.029, SKIN, upper=True)
    if look.scarf:
        sheet.add((0, 0.008, 0.825), (0, 0.01, 0.85), 0.05, 0.046, SCARF, scale=(1, 1, 0.6), upper=True)
    if look.top in ("coat", "dress") or look.bottom == "skirt":
        slot, hem = (TOP, look.hem) if look.top in ("coat", "dress") else (BOTTOM, look.hem)
        sway = 0.35 * (knees[0][1] + knees[1][1]) / 2
        spread = 0.5 * abs(knees[0][1] - knees[1][1])
        flare = (0.088 if look.top == "coat" else 0.1) * g
        sheet.add((0, 0, 0.58), (0, sway, hem), 0.08 * g * puff, flare + 0.06 * spread, slot,
                  scale=(1, 0.8 + 3 * spread, 0.2), base=0.58, role=BACK)  # fmt: skip


def _head(sheet: _Sheet, look: Look) -> None:
    """Skull, hair and hat. Hair that lies on the skull is painted on, the rest are solids of its own."""
    top: Point = (0, 0.012, 0.935)
    sheet.add(
        top,
        (top[0], top[1], top[2] + 1e-4),
        0.066,
        0.066,
        SKIN,
        scale=(0.69, 0.85, 1.0),
        role=HEAD,
        upper=True,
    )
    sheet.add(
        (0, 0.03, 0.90), (0, 0.03, 0.9001), 0.032, 0.032, SKIN, scale=(0.95, 1, 0.9), role=HEAD, upper=True
    )
    back = (0, -0.008, 0.945)
    hair = "short" if look.hat == "hood" and look.hair != "bald" else look.hair
    if hair != "bald":
        full = {"short": 0.062, "medium": 0.068, "long": 0.067, "tail": 0.065, "bun": 0.065}[hair]
        sheet.add(back, (0, back[1], 0.9451), full, full, HAIR, scale=(0.8, 0.82, 0.92), upper=True)
    if hair == "medium":
        sheet.add((0, -0.022, 0.935), (0, -0.03, 0.875), 0.056, 0.046, HAIR, scale=(1, 0.7, 0.7), upper=True)
    elif hair == "long":
        sheet.add((0, -0.02, 0.935), (0, -0.055, 0.77), 0.058, 0.052, HAIR, scale=(1, 0.55, 0.6), upper=True)
    elif hair == "tail":
        sheet.add((0, -0.075, 0.95), (0, -0.09, 0.83), 0.024, 0.014, HAIR, upper=True)
    elif hair == "bun":
        sheet.add((0, -0.062, 0.985), (0, -0.062, 0.9851), 0.03, 0.03, HAIR, upper=True)
    if look.hat == "cap":
        sheet.add(
            (0, 0.004, 0.965), (0, 0.004, 0.9651), 0.066, 0.066, HAT, scale=(0.82, 0.95, 0.72), upper=True
        )
        sheet.add((0, 0.05, 0.962), (0, 0.085, 0.955), 0.045, 0.038, HAT, scale=(1, 0.12, 0.8), upper=True)
    elif look.hat == "beanie":
        sheet.add(
            (0, -0.002, 0.962), (0, -0.008, 0.9921), 0.066, 0.052, HAT, scale=(0.82, 0.92, 0.8), upper=True
        )
    elif look.hat == "hood":
        sheet.add(
            (0, -0.012, 0.942), (0, -0.014, 0.9421), 0.078, 0.078, TOP, scale=(0.82, 0.85, 1), upper=True
        )


def _luggage(sheet: _Sheet, look: Look, hands: list[Point]) -> None:
    if look.backpack:
        k = look.backpack_size
        y = -0.075 * look.girth - 0.038
        sheet.add((0, y, 0.765 - 0.15 * k), (0, y, 0.755), 0.082 * k, 0.07 * k, PACK, scale=(1, 0.62, 0.45),
                  role=BACK, upper=True)  # fmt: skip
        sheet.add((0, y - 0.038, 0.765 - 0.15 * k), (0, y - 0.034, 0.77 - 0.1 * k), 0.058 * k, 0.052 * k, PACK,
                  scale=(1, 0.5, 0.5), upper=True)  # fmt: skip
    if look.bag and look.bag_kind == "shoulder":
        x = look.bag * (0.105 * look.girth + 0.03)
        sheet.add((x, -0.012, 0.50), (x, -0.012, 0.56), 0.075, 0.07, BAG, scale=(0.36, 1, 0.5))
        sheet.add((x, 0.0, 0.57), (0.085 * look.bag, -0.01, 0.815), 0.007, 0.007, BAG, upper=True)
    elif look.bag:
        x, y, z = hands[0 if look.bag > 0 else 1]
        sheet.add((x, y, z - 0.115), (x, y, z - 0.075), 0.085, 0.07, BAG, scale=(0.3, 1, 0.5))
        sheet.add((x, y + 0.04, z - 0.06), (x, y, z), 0.006, 0.006, BAG)
        sheet.add((x, y - 0.04, z - 0.06), (x, y, z), 0.006, 0.006, BAG)


@lru_cache(1)
def _grain() -> NDArray[np.float32]:
    """A tile (256, 256) of soft noise with mean 0 and deviation 1, and the finer octaves that cloth shows."""
    rng = np.random.default_rng(20200704)
    size = 256
    wave = np.fft.fftfreq(size)
    radius = np.hypot(wave[:, None], wave[None]) + 1 / size
    tile = np.fft.ifft2(
        np.fft.fft2(rng.normal(size=(size, size))) * radius**-1.3 * (radius > 1.6 / size)
    ).real
    return (tile / tile.std()).astype(np.float32)


def grain(u: Array, v: Array, texels: float) -> Array:
    """Noise read at (u, v) metres, `texels` to the metre, repeating."""
    where = ((u * np.float32(texels)).astype(np.int32) & 255) << 8
    where |= (v * np.float32(texels)).astype(np.int32) & 255
    return np.take(_grain(), where)


def paint(look: Look, solids: Solids, hits: Hits) -> tuple[Array, Array]:
    """Linear colours (m, 3) of surface points, and the height (m,) of folds in the cloth (about 0 ± 1)."""
    first, second, pattern = _palette(look)
    whole = np.take(np.vstack((solids.slot.T, solids.role)), hits.solid, axis=1)
    cut, base = np.take(np.vstack((solids.cut, solids.base)), hits.solid, axis=1)
    slot, role = np.where(hits.along > cut, whole[1], whole[0]), whole[2]
    x, y, z = hits.local
    z = z + base
    for shoulder, side in ((RIGHT_SHOULDER, 1), (LEFT_SHOULDER, -1)):
        i = np.flatnonzero(role == shoulder)  # its axis lies across, its own x points down (right) or up (left)
        x[i], z[i] = side * (z[i] + 0.02 * look.height), 0.8 * look.height - side * x[i]
    _draw_parts(look, slot, role, x, y, z)
    colour = np.take(first, slot, axis=0)
    turn = np.arctan2(x, y) * np.float32(0.13)  # an angle as metres on a surface of a usual radius
    kind = pattern[slot]
    for each in set(kind[kind > 0].tolist()):
        i = np.flatnonzero(kind == each)
        share = _pattern(each, turn[i], z[i], look)[:, None]
        colour[i] += share * (second[slot[i]] - colour[i])
    _draw_details(look, colour, slot, role, x, y, z)
    shift = (look.weave % 251 + role * 0.37).astype(np.float32)
    folds = 0.9 * grain(x + 0.6 * y + shift, 0.5 * z, 80) + 0.4 * grain(z + shift, turn, 260)
    return colour, folds * (slot != SKIN)


def _palette(look: Look) -> tuple[Array, Array, NDArray[np.intp]]:
    """Colours (12, 3) of the materials, their second colours, and their patterns (12,)."""
    dark = (0.08, 0.07, 0.08)
    first = np.array(
        [look.skin, look.hair_colour, look.top_colours[0], look.bottom_colours[0], look.shoe, look.sole,
         look.backpack or dark, look.bag_colour, look.hat_colour, look.inner, look.scarf or dark, dark],
        np.float32,
    )  # fmt: skip
    second = first.copy()
    second[TOP], second[BOTTOM] = look.top_colours[1], look.bottom_colours[1]
    pattern = np.zeros(12, np.intp)
    pattern[TOP], pattern[BOTTOM] = look.top_pattern, look.bottom_pattern
    return first**2.2, second**2.2, pattern


def _pattern(kind: int, u: Array, v: Array, look: Look) -> Array:
    """Share 0..1 of the second colour at (u, v) metres on the cloth."""
    k = 2 * math.pi / look.pitch
    if kind == STRIPES:
        return (np.sin(v * k) > 0).astype(np.float32)
    if kind == PINSTRIPES:
        return (np.sin(u * k * 1.6) > 0.5).astype(np.float32)
    if kind == CHECKS:
        return (np.sin(u * k) * np.sin(v * k) > 0).astype(np.float32)
    if kind == PLAID:
        return 0.5 * (np.sin(u * k) > 0.2) + 0.5 * (np.sin(v * k) > 0.2)
    if kind == BLOCK:
        return (v < look.height * 0.69).astype(np.float32)
    if kind == CAMOUFLAGE:
        return np.clip(2.5 * grain(u + look.weave % 97, v, 110) + 0.5, 0, 1)
    if kind == PRINT:
        return np.clip(4 * grain(u + look.weave % 89, v, 420) - 1.5, 0, 1)
    return np.zeros_like(u)


def _draw_parts(
    look: Look, slot: NDArray[np.intp], role: NDArray[np.intp], x: Array, y: Array, z: Array
) -> None:
    """Where one solid shows two materials: an open jacket, a neckline, hair on the skull, a hem (in place)."""
    h = look.height
    chest = np.flatnonzero((role == CHEST) & (y > 0))
    cx, cz = np.abs(x[chest]), z[chest] / h
    if look.top == "open":
        slot[chest[cx < (0.022 + 0.02 * (cz < 0.66)) * h]] = INNER
    elif look.top in ("jacket", "coat"):
        slot[chest[(cx < 0.05 * h) & (cx < (cz - 0.72) * 0.5 * h)]] = INNER
    head = np.flatnonzero(role == HEAD)
    if look.hair != "bald":
        slot[head[z[head] > (0.036 + 0.5 * y[head] / h) * h]] = HAIR
    if look.beard:
        slot[head[(z[head] < -0.02 * h) & (y[head] > 0.01 * h)]] = HAIR


def _draw_details(
    look: Look, colour: Array, slot: NDArray[np.intp], role: NDArray[np.intp], x: Array, y: Array, z: Array
) -> None:
    """The print on the chest, a stripe down one leg, face, zip: colours set in place."""
    h = look.height
    if look.logo:
        i = np.flatnonzero((role == CHEST) & (slot == TOP) & (y > 0.02))
        size = look.logo_size * h
        column = np.floor((x[i] / size + 0.5) * 5).astype(np.intp)
        row = np.floor((z[i] - 0.66 * h) / size * 5).astype(np.intp)
        inside = (column >= 0) & (column < 5) & (row >= 0) & (row < 5)
        bit = np.abs(column.clip(0, 4)) + 5 * row.clip(0, 4)
        colour[i[inside & ((look.logo >> bit) & 1 == 1)]] = np.array(look.logo_colour, np.float32) ** 2.2
    elif look.top == "jacket":
        colour[(role == CHEST) & (y > 0) & (np.abs(x) < 0.006 * h)] *= 0.4
    if look.stripe:
        leg = role == (RIGHT_LEG if look.stripe > 0 else LEFT_LEG)
        i = leg & (slot == BOTTOM) & (x * look.stripe > 0) & (np.abs(y) < 0.014 * h)
        colour[i] = np.array(look.stripe_colour, np.float32) ** 2.2
    face = np.flatnonzero((role == HEAD) & (slot == SKIN) & (y > 0.02 * h))
    fx, fz = np.abs(x[face]) / h, z[face] / h
    eyes = (np.abs(fz - 0.008) < 0.009) & (np.abs(fx - 0.019) < 0.012)
    mouth = (np.abs(fz + 0.032) < 0.005) & (fx < 0.014)
    colour[face[eyes]] *= 0.35
    colour[face[mouth]] *= np.array((0.75, 0.45, 0.45), np.float32)
