"""Body model: appearance and gait to the solids of a person.

Person coordinates: x to the person's right, y to the front, z up, metres, ground at z = 0.
"""

import math
from typing import NamedTuple

import numpy as np

from vkd.synthetic.appearance import Appearance
from vkd.synthetic.geometry import Solids

SKIN, HAIR, TOP, BOTTOM, SHOE, SOLE, PACK, BAG, HAT, INNER, SCARF, SOCK = range(12)  # materials
PLAIN, CHEST, HEAD, LEFT_LEG, RIGHT_LEG, BACK, RIGHT_SHOULDER, LEFT_SHOULDER = range(
    8
)  # roles of solids that carry details


class Gait(NamedTuple):
    """Posture in a walk: `phase`; `stride`, `swing`: amplitudes of hips and arms; all in radians.

    `arms`: 0 swing, 1 the right hand holds a phone, 2 hands in the pockets. `lean` forwards in radians.
    """

    phase: float = 0.0
    stride: float = 0.45
    swing: float = 0.4
    arms: int = 0
    lean: float = 0.04


Point = tuple[float, float, float]


class _SolidTable:
    """Collects solids one by one, in shares of the person's height."""

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


def build_figure(person: Appearance, gait: Gait) -> Solids:
    """Builds the solids of a person at one time, feet on the ground."""
    parts = _SolidTable(math.tan(gait.lean))
    twist = 0.12 * math.sin(gait.phase) * gait.stride / 0.45
    knees, lowest = _legs(parts, person, gait)
    parts.front = (math.sin(twist), math.cos(twist), 0.0)
    hands = _arms(parts, person, gait, twist)
    _torso(parts, person, knees)
    parts.front = (0.0, 1.0, 0.0)
    _head(parts, person)
    _bags(parts, person, hands)
    return parts.solids(person.height, lowest)


def _legs(parts: _SolidTable, person: Appearance, gait: Gait) -> tuple[list[Point], float]:
    """Adds thighs, shins, shoes; returns the knees and the lowest sole, in shares of the height."""
    under = person.top == "dress" or person.bottom == "skirt"
    bare = under or person.bottom == "shorts"
    wide = 1 + 0.7 * (person.girth - 1)
    loose = 1.0 if bare else {"trousers": 1.35}.get(person.bottom, 1.05)
    skin = SOCK if person.tights and under else SKIN
    leg = skin if bare else BOTTOM
    stride = gait.stride * (0.75 if under or person.top == "coat" else 1)
    knees, lowest = [], 1.0
    for side, role in ((1, RIGHT_LEG), (-1, LEFT_LEG)):
        phase = gait.phase + (0 if side > 0 else math.pi)
        hip = stride * math.sin(phase) + 0.05
        bend = 0.06 + 1.7 * stride * max(0.0, math.cos(phase + 0.35)) ** 1.5
        a = (0.048 * side * person.girth, 0.0, 0.515)
        b = (0.044 * side, 0.238 * math.sin(hip), 0.515 - 0.238 * math.cos(hip))
        shin = hip - bend
        c = (0.042 * side, b[1] + 0.232 * math.sin(shin), b[2] - 0.232 * math.cos(shin))
        knees.append(b)
        thigh = (0.046 if bare else 0.05 + 0.012 * (loose - 1)) * wide
        parts.add(a, b, thigh, 0.033 * loose * wide, leg, role=role, scale=(1, 1.08, 1))
        if person.bottom == "shorts" and not under:
            hem = (a[0] * 0.3 + b[0] * 0.7, b[1] * 0.75, a[2] * 0.25 + b[2] * 0.75)
            parts.add(a, hem, 0.055 * wide, 0.052 * wide, BOTTOM, role=role, scale=(1, 1.08, 0.4))
        ankle = 0.93 if person.bottom == "slim" else 2.0
        parts.add(
            b, c, 0.034 * loose * wide, 0.023 * loose * wide, leg, skin, cut=ankle, role=role, base=0.238
        )
        lowest = min(lowest, _shoe(parts, side, c, shin * 0.5 - 0.1))  # the foot follows the shin half way
    return knees, lowest


def _shoe(parts: _SolidTable, side: int, ankle: Point, pitch: float) -> float:
    heel = (ankle[0], ankle[1] - 0.018, ankle[2] - 0.012)
    toe = (
        ankle[0] + 0.008 * side,
        ankle[1] + 0.085 * math.cos(pitch),
        ankle[2] - 0.018 + 0.085 * math.sin(pitch),
    )
    parts.add(heel, toe, 0.025, 0.019, SHOE, scale=(1.0, 0.95, 1.0))
    start, end = ((p[0], p[1], p[2] - 0.016) for p in (heel, toe))
    parts.add(start, end, 0.022, 0.02, SOLE, scale=(1.05, 0.55, 1.1))
    return min(heel[2], toe[2]) - 0.028


def _arms(parts: _SolidTable, person: Appearance, gait: Gait, twist: float) -> list[Point]:
    """Adds upper arms, forearms, hands; returns the positions of the right and the left hand."""
    thick = (1 + 0.7 * (person.girth - 1)) * (1.18 if person.top in ("jacket", "coat", "open") else 1.0)
    hands = []
    for side in (1, -1):
        swing = -gait.swing * math.sin(gait.phase + (0 if side > 0 else math.pi)) - 0.05
        bend, out = 0.35 + 0.5 * max(0.0, swing), 0.1 * person.girth
        if gait.arms == 1 and side > 0:
            swing, bend, out = 0.35, 1.7, 0.1
        elif gait.arms == 2:
            swing, bend, out = -0.3, 0.75, 0.32
        if person.bag == side and person.bag_kind == "hand":
            swing, bend = swing * 0.3, 0.12
        shoulder = (0.108 * side * person.girth * math.cos(twist), -0.108 * side * math.sin(twist), 0.79)
        elbow = (shoulder[0] + 0.165 * side * math.sin(out), shoulder[1] + 0.165 * math.sin(swing),
                 shoulder[2] - 0.165 * math.cos(swing) * math.cos(out))  # fmt: skip
        reach = swing + bend
        turn = -0.5 if gait.arms == 1 and side > 0 else -0.15
        wrist = (elbow[0] + 0.13 * side * math.sin(turn), elbow[1] + 0.13 * math.sin(reach),
                 elbow[2] - 0.13 * math.cos(reach))  # fmt: skip
        way = tuple((w - e) / 0.13 for w, e in zip(wrist, elbow, strict=True))
        hand = (wrist[0] + 0.035 * way[0], wrist[1] + 0.035 * way[1], wrist[2] + 0.035 * way[2])
        cloth = TOP if person.sleeve > 0.05 else SKIN
        parts.add(shoulder, elbow, 0.036 * thick, 0.027 * thick, cloth, SKIN, cut=person.sleeve * 2,
                  base=0.0, upper=True)  # fmt: skip
        long = person.sleeve > 0.55
        parts.add(elbow, wrist, 0.026 * (thick if long else 1), 0.018 * (thick if long else 1),
                  TOP if long else SKIN, SKIN, cut=2.0 if long else -1, base=0.165, upper=True)  # fmt: skip
        parts.add(wrist, hand, 0.017, 0.016, SKIN, scale=(0.75, 1.1, 1), upper=True)
        hands.append(hand)
    return hands


def _torso(parts: _SolidTable, person: Appearance, knees: list[Point]) -> None:
    """Adds hips, belly, chest, shoulders, neck, scarf and skirt."""
    g = person.girth
    puff = 1.14 if person.top in ("jacket", "coat", "open") else 1.0
    dressed = TOP if person.top == "dress" else BOTTOM
    belly = 0.078 + 0.05 * max(0.0, g - 1)
    parts.add((0, 0, 0.50), (0, 0, 0.565), 0.088 * g, 0.084 * g, dressed, scale=(1, 0.74, 0.45), base=0.5)
    parts.add((0, 0, 0.56), (0, 0, 0.68), belly * g * puff * 1.06, 0.082 * g * puff, TOP, role=CHEST,
              scale=(1, 0.74, 0.5), base=0.56, upper=True)  # fmt: skip
    parts.add((0, 0, 0.66), (0, 0, 0.765), 0.080 * g * puff, 0.092 * g * puff, TOP, role=CHEST,
              scale=(1, 0.70, 0.55), base=0.66, upper=True)  # fmt: skip
    for side, role in ((1, RIGHT_SHOULDER), (-1, LEFT_SHOULDER)):
        parts.add((0.02 * side, 0, 0.81), (0.1 * side * g, 0, 0.787), 0.034 * puff, 0.038 * puff, TOP,
                  scale=(1, 1.1, 1), role=role, upper=True)  # fmt: skip
    parts.add((0, -0.005, 0.79), (0, 0, 0.84), 0.075, 0.03, TOP, scale=(1, 0.7, 1), base=0.79, upper=True)
    parts.add((0, 0.0, 0.82), (0, 0.012, 0.89), 0.031, 0.029, SKIN, upper=True)
    if person.scarf:
        parts.add((0, 0.008, 0.825), (0, 0.01, 0.85), 0.05, 0.046, SCARF, scale=(1, 1, 0.6), upper=True)
    if person.top in ("coat", "dress") or person.bottom == "skirt":
        slot, hem = (TOP, person.hem) if person.top in ("coat", "dress") else (BOTTOM, person.hem)
        sway = 0.35 * (knees[0][1] + knees[1][1]) / 2
        spread = 0.5 * abs(knees[0][1] - knees[1][1])
        flare = (0.088 if person.top == "coat" else 0.1) * g
        parts.add((0, 0, 0.58), (0, sway, hem), 0.08 * g * puff, flare + 0.06 * spread, slot,
                  scale=(1, 0.8 + 3 * spread, 0.2), base=0.58, role=BACK)  # fmt: skip


def _head(parts: _SolidTable, person: Appearance) -> None:
    """Adds skull, hair and hat. Short hair is part of the skull's texture, the rest are solids."""
    top: Point = (0, 0.012, 0.935)
    parts.add(
        top,
        (top[0], top[1], top[2] + 1e-4),
        0.066,
        0.066,
        SKIN,
        scale=(0.69, 0.85, 1.0),
        role=HEAD,
        upper=True,
    )
    parts.add(
        (0, 0.03, 0.90), (0, 0.03, 0.9001), 0.032, 0.032, SKIN, scale=(0.95, 1, 0.9), role=HEAD, upper=True
    )
    back = (0, -0.008, 0.945)
    hair = "short" if person.hat == "hood" and person.hair != "bald" else person.hair
    if hair != "bald":
        full = {"short": 0.062, "medium": 0.068, "long": 0.067, "tail": 0.065, "bun": 0.065}[hair]
        parts.add(back, (0, back[1], 0.9451), full, full, HAIR, scale=(0.8, 0.82, 0.92), upper=True)
    if hair == "medium":
        parts.add((0, -0.022, 0.935), (0, -0.03, 0.875), 0.056, 0.046, HAIR, scale=(1, 0.7, 0.7), upper=True)
    elif hair == "long":
        parts.add((0, -0.02, 0.935), (0, -0.055, 0.77), 0.058, 0.052, HAIR, scale=(1, 0.55, 0.6), upper=True)
    elif hair == "tail":
        parts.add((0, -0.075, 0.95), (0, -0.09, 0.83), 0.024, 0.014, HAIR, upper=True)
    elif hair == "bun":
        parts.add((0, -0.062, 0.985), (0, -0.062, 0.9851), 0.03, 0.03, HAIR, upper=True)
    if person.hat == "cap":
        parts.add(
            (0, 0.004, 0.965), (0, 0.004, 0.9651), 0.066, 0.066, HAT, scale=(0.82, 0.95, 0.72), upper=True
        )
        parts.add((0, 0.05, 0.962), (0, 0.085, 0.955), 0.045, 0.038, HAT, scale=(1, 0.12, 0.8), upper=True)
    elif person.hat == "beanie":
        parts.add(
            (0, -0.002, 0.962), (0, -0.008, 0.9921), 0.066, 0.052, HAT, scale=(0.82, 0.92, 0.8), upper=True
        )
    elif person.hat == "hood":
        parts.add(
            (0, -0.012, 0.942), (0, -0.014, 0.9421), 0.078, 0.078, TOP, scale=(0.82, 0.85, 1), upper=True
        )


def _bags(parts: _SolidTable, person: Appearance, hands: list[Point]) -> None:
    if person.backpack:
        k = person.backpack_size
        y = -0.075 * person.girth - 0.038
        parts.add((0, y, 0.765 - 0.15 * k), (0, y, 0.755), 0.082 * k, 0.07 * k, PACK, scale=(1, 0.62, 0.45),
                  role=BACK, upper=True)  # fmt: skip
        parts.add((0, y - 0.038, 0.765 - 0.15 * k), (0, y - 0.034, 0.77 - 0.1 * k), 0.058 * k, 0.052 * k,
                  PACK, scale=(1, 0.5, 0.5), upper=True)  # fmt: skip
    if person.bag and person.bag_kind == "shoulder":
        x = person.bag * (0.105 * person.girth + 0.03)
        parts.add((x, -0.012, 0.50), (x, -0.012, 0.56), 0.075, 0.07, BAG, scale=(0.36, 1, 0.5))
        parts.add((x, 0.0, 0.57), (0.085 * person.bag, -0.01, 0.815), 0.007, 0.007, BAG, upper=True)
    elif person.bag:
        x, y, z = hands[0 if person.bag > 0 else 1]
        parts.add((x, y, z - 0.115), (x, y, z - 0.075), 0.085, 0.07, BAG, scale=(0.3, 1, 0.5))
        parts.add((x, y + 0.04, z - 0.06), (x, y, z), 0.006, 0.006, BAG)
        parts.add((x, y - 0.04, z - 0.06), (x, y, z), 0.006, 0.006, BAG)
