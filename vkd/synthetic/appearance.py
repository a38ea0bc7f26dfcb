"""Appearance of the people of the synthetic street, and groups of look-alikes.

A group shares clothes; its members differ in details that only some views show: a logo on the chest, a
backpack on the back, a bag or a stripe on one side, hair, sleeves, shoes.
So no single view tells all members apart.
"""

from dataclasses import dataclass, replace

import numpy as np

Colour = tuple[float, float, float]  # sRGB, 0..1

PLAIN, STRIPES, PINSTRIPES, CHECKS, BLOCK, CAMOUFLAGE, PRINT, PLAID = range(8)  # patterns of cloth

# everyday clothes are mostly dark, white or blue: (colour, weight)
CLOTH: tuple[tuple[Colour, float], ...] = (
    ((0.09, 0.09, 0.10), 9), ((0.20, 0.20, 0.22), 6), ((0.40, 0.41, 0.43), 5), ((0.62, 0.62, 0.63), 4),
    ((0.90, 0.90, 0.88), 8), ((0.12, 0.15, 0.28), 6), ((0.22, 0.33, 0.55), 5), ((0.45, 0.62, 0.80), 4),
    ((0.70, 0.11, 0.13), 5), ((0.40, 0.08, 0.13), 3), ((0.14, 0.36, 0.20), 3), ((0.36, 0.38, 0.22), 3),
    ((0.76, 0.68, 0.52), 4), ((0.42, 0.29, 0.19), 3), ((0.88, 0.56, 0.64), 3), ((0.90, 0.76, 0.18), 3),
    ((0.88, 0.42, 0.12), 3), ((0.42, 0.22, 0.52), 3), ((0.12, 0.52, 0.54), 3), ((0.62, 0.80, 0.45), 2),
)  # fmt: skip
LEGWEAR: tuple[tuple[Colour, float], ...] = (
    ((0.09, 0.09, 0.11), 9), ((0.15, 0.18, 0.30), 7), ((0.26, 0.34, 0.50), 7), ((0.48, 0.58, 0.72), 3),
    ((0.24, 0.24, 0.26), 5), ((0.48, 0.47, 0.46), 4), ((0.70, 0.62, 0.48), 4), ((0.86, 0.85, 0.82), 2),
    ((0.36, 0.27, 0.20), 3), ((0.30, 0.33, 0.22), 2), ((0.50, 0.12, 0.14), 1),
)  # fmt: skip
SKIN_TONES: tuple[tuple[Colour, float], ...] = (
    ((0.93, 0.76, 0.66), 5), ((0.87, 0.68, 0.55), 6), ((0.76, 0.57, 0.43), 4),
    ((0.60, 0.42, 0.30), 3), ((0.44, 0.29, 0.21), 2), ((0.30, 0.20, 0.15), 2),
)  # fmt: skip
HAIR: tuple[tuple[Colour, float], ...] = (
    ((0.06, 0.05, 0.05), 8), ((0.17, 0.11, 0.08), 6), ((0.33, 0.22, 0.13), 4), ((0.66, 0.52, 0.30), 3),
    ((0.52, 0.50, 0.49), 2), ((0.80, 0.79, 0.77), 1), ((0.48, 0.20, 0.10), 1),
)  # fmt: skip
BRIGHT: tuple[Colour, ...] = (
    (0.92, 0.91, 0.88), (0.84, 0.14, 0.15), (0.95, 0.80, 0.15), (0.15, 0.42, 0.80), (0.10, 0.58, 0.30),
    (0.07, 0.07, 0.08), (0.93, 0.50, 0.12), (0.88, 0.40, 0.62), (0.45, 0.75, 0.85),
)  # fmt: skip


@dataclass(frozen=True)
class Appearance:
    """Body, clothes and details of a person. Colours are sRGB in 0..1, lengths metres."""

    height: float = 1.72
    girth: float = 1.0
    skin: Colour = SKIN_TONES[1][0]
    hair_colour: Colour = HAIR[1][0]
    hair: str = "short"  # bald short medium long tail bun
    hat: str = ""  # '' cap beanie hood
    hat_colour: Colour = CLOTH[0][0]
    beard: bool = False
    top: str = "shirt"  # shirt jacket open coat dress
    top_colours: tuple[Colour, Colour] = (CLOTH[6][0], CLOTH[4][0])
    top_pattern: int = PLAIN
    inner: Colour = CLOTH[4][0]
    sleeve: float = 1.0  # 0 bare arms, 0.45 short, 1 long
    bottom: str = "trousers"  # trousers slim shorts skirt
    bottom_colours: tuple[Colour, Colour] = (LEGWEAR[1][0], LEGWEAR[0][0])
    bottom_pattern: int = PLAIN
    hem: float = 0.30  # bottom of a coat, dress or skirt, share of the height
    pitch: float = 0.07  # width of one repeat of a pattern
    tights: bool = False
    shoe: Colour = CLOTH[0][0]
    sole: Colour = CLOTH[4][0]
    logo: int = 0  # 25 bits of a 5x5 print on the chest, 0 = none
    logo_colour: Colour = BRIGHT[0]
    logo_size: float = 0.10
    backpack: Colour | None = None
    backpack_size: float = 1.0
    bag: int = 0  # -1 left, 1 right, 0 none
    bag_kind: str = "shoulder"  # shoulder hand
    bag_colour: Colour = CLOTH[13][0]
    stripe: int = 0  # a stripe down one leg: -1 left, 1 right
    stripe_colour: Colour = BRIGHT[0]
    scarf: Colour | None = None
    weave: int = 0  # where the cloth's noise is read


def _pick(rng: np.random.Generator, table: tuple[tuple[Colour, float], ...]) -> Colour:
    weight = np.array([w for _, w in table])
    return table[int(rng.choice(len(table), p=weight / weight.sum()))][0]


def _near(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """Returns a random shade of a colour."""
    tint = np.clip(
        np.array(colour) * (1 + spread * rng.normal()) + 0.4 * spread * rng.normal(size=3), 0.03, 0.96
    )
    return float(tint[0]), float(tint[1]), float(tint[2])


def _cloth(rng: np.random.Generator) -> Colour:
    return _near(rng, _pick(rng, CLOTH), 0.07)


def _clothes(rng: np.random.Generator) -> Appearance:
    """Samples the clothes that a group shares."""
    female = rng.random() < 0.5
    top = str(rng.choice(["shirt", "jacket", "open", "coat", "dress"], p=[0.5, 0.18, 0.14, 0.1, 0.08]))
    if top == "dress" and not female:
        top = "shirt"
    bottom = str(rng.choice(["trousers", "slim", "shorts", "skirt"], p=[0.42, 0.27, 0.16, 0.15]))
    if bottom == "skirt" and not female:
        bottom = "trousers"
    first, second = _cloth(rng), _cloth(rng)
    if np.abs(np.subtract(first, second)).sum() < 0.5:
        second = (0.9, 0.89, 0.86) if sum(first) < 1.5 else (0.1, 0.11, 0.16)
    pattern = int(rng.choice(8, p=[0.46, 0.12, 0.05, 0.07, 0.1, 0.05, 0.07, 0.08]))
    return Appearance(
        height=float(rng.normal(1.64 if female else 1.75, 0.05)),
        girth=float(np.clip(rng.normal(0.95 if female else 1.05, 0.1), 0.8, 1.4)),
        hair=str(
            rng.choice(["medium", "long", "tail", "bun"] if female else ["short", "short", "medium", "bald"])
        ),
        beard=bool(not female and rng.random() < 0.2),
        top=top,
        top_colours=(first, second),
        top_pattern=pattern,
        inner=_cloth(rng),
        sleeve=1.0
        if top in ("jacket", "open", "coat")
        else float(rng.choice([0.0, 0.42, 0.42, 0.5, 1.0, 1.0])),
        bottom=bottom,
        bottom_colours=(_near(rng, _pick(rng, LEGWEAR), 0.07), _cloth(rng)),
        bottom_pattern=int(
            rng.choice([PLAIN, PLAID, STRIPES, PINSTRIPES, PRINT], p=[0.86, 0.05, 0.02, 0.03, 0.04])
        ),
        hem=float(rng.uniform(0.22, 0.40) if top == "coat" else rng.uniform(0.26, 0.36)),
        pitch=float(rng.uniform(0.04, 0.13)),
        tights=bool(rng.random() < 0.4),
        skin=_pick(rng, SKIN_TONES),
        hair_colour=_near(rng, _pick(rng, HAIR), 0.1),
        shoe=_near(rng, _pick(rng, CLOTH), 0.05),
        sole=(0.88, 0.87, 0.84) if rng.random() < 0.5 else (0.12, 0.11, 0.10),
    )


def _details(
    rng: np.random.Generator, person: Appearance, difficulty: float
) -> tuple[Appearance, tuple[int, ...]]:
    """Samples a member of the group, and the key of the details that differ from the other members."""
    keep = 0.35 + 0.5 * difficulty  # probability that a detail visible in every view is the group's
    bright = [BRIGHT[i] for i in rng.permutation(len(BRIGHT))]
    logo = int(rng.integers(1, 2**25)) | 0b00100_01110 << 10 if rng.random() < 0.6 else 0
    pack = rng.random() < 0.5
    bag = int(rng.choice([-1, 0, 1], p=[0.3, 0.4, 0.3]))
    stripe = (
        int(rng.choice([-1, 0, 1], p=[0.2, 0.6, 0.2]))
        if person.bottom in ("trousers", "slim", "shorts")
        else 0
    )
    hat = str(rng.choice(["cap", "beanie", "hood"])) if rng.random() < 0.22 else ""
    member = replace(
        person,
        logo=logo,
        logo_colour=bright[0],
        logo_size=float(rng.uniform(0.07, 0.15)),
        backpack=_near(rng, bright[1] if rng.random() < 0.6 else _pick(rng, CLOTH), 0.05) if pack else None,
        backpack_size=float(rng.uniform(0.85, 1.15)),
        bag=bag,
        bag_kind=str(rng.choice(["shoulder", "hand"])),
        bag_colour=_near(rng, bright[2] if rng.random() < 0.4 else _pick(rng, CLOTH), 0.05),
        stripe=stripe,
        stripe_colour=bright[3],
        hat=hat,
        hat_colour=_cloth(rng),
        scarf=_cloth(rng) if person.top in ("coat", "jacket") and rng.random() < 0.3 else None,
        weave=int(rng.integers(2**16)),
    )
    shade = 0.12 * (1 - difficulty) + 0.02
    member = replace(
        member,
        height=float(person.height + rng.normal(0, 0.03)),
        girth=float(np.clip(person.girth + rng.normal(0, 0.05), 0.8, 1.4)),
        top_colours=(_near(rng, person.top_colours[0], shade), _near(rng, person.top_colours[1], shade)),
        bottom_colours=(_near(rng, person.bottom_colours[0], shade), person.bottom_colours[1]),
        shoe=person.shoe if rng.random() < keep else _cloth(rng),
        hair_colour=person.hair_colour if rng.random() < keep else _near(rng, _pick(rng, HAIR), 0.1),
        sleeve=person.sleeve
        if person.sleeve == 1 or rng.random() < keep
        else float(rng.choice([0.0, 0.42, 1.0])),
        skin=person.skin if rng.random() < keep + 0.1 else _pick(rng, SKIN_TONES),
    )
    return member, (logo, int(pack), bag, stripe)


def lookalike_group(rng: np.random.Generator, size: int, difficulty: float = 0.5) -> list[Appearance]:
    """Samples `size` people in the same clothes with distinct details; some differ below difficulty 1."""
    shared, members, keys = _clothes(rng), [], set[tuple[int, ...]]()
    for _ in range(200 * size):
        own = _clothes(rng) if rng.random() < 0.5 * (1 - difficulty) ** 2 else shared
        person, key = _details(rng, own, difficulty)
        if key not in keys:
            keys.add(key)
            members.append(person)
        if len(members) == size:
            break
    return members
