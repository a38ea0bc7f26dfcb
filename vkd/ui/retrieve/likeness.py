"""A similarity's place among the gallery's own pairs: how many strangers are as alike as this."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vkd.io.errors import VKDError
from vkd.metrics.verification import BINS, PairScores, Threshold
from vkd.retrieval.gallery import Hit
from vkd.ui.html import escape

RATES = {"1 in 10": 0.1, "1 in 100": 0.01, "1 in 1000": 0.001}
"""Shares of strangers that a threshold may let pass."""
DEFAULT = "1 in 100"
_WIDTH, _HEIGHT = 400, 46  # of the drawing, in its own units


class Likeness(NamedTuple):
    """The pairs of one gallery and network, and the threshold at the chosen share of strangers."""

    pairs: PairScores
    rate: str
    threshold: Threshold


def of(pairs: PairScores, rate: str) -> Likeness | None:
    """Raises ValueError for an unknown rate; None where the gallery does not know who is who."""
    if rate not in RATES:
        raise VKDError(f"'{rate}' is not a share of strangers: choose one of {', '.join(RATES)}.")
    return Likeness(pairs, rate, pairs.threshold(RATES[rate])) if pairs.impostor.sum() else None


def passing(likeness: Likeness, similarity: float) -> float:
    """Share of false pairs of the gallery that are at least this alike."""
    place = int(np.clip(np.floor((similarity + 1) * (BINS / 2)), 0, BINS - 1))
    return float(likeness.pairs.impostor[place:].sum() / likeness.pairs.impostor.sum())


def rarity(likeness: Likeness, similarity: float) -> str:
    """'1 in 250 strangers is at least this alike' in words; never rarer than the pairs that were counted."""
    share, counted = passing(likeness, similarity), int(likeness.pairs.impostor.sum())
    if share == 0:
        return f"none of {counted:,} pairs of strangers is this alike"
    if share > 0.5:
        return f"{100 * share:.0f} % of strangers are at least this alike"
    return f"1 in {round(1 / share):,} strangers is at least this alike"


def short(likeness: Likeness, similarity: float) -> str:
    """The same for a card."""
    share = passing(likeness, similarity)
    if share == 0:
        return f"< 1 in {int(likeness.pairs.impostor.sum()):,} strangers"
    return f"1 in {round(1 / share):,} strangers" if share <= 0.5 else f"{100 * share:.0f} % of strangers"


def as_data(likeness: Likeness | None) -> dict[str, float | str] | None:
    """The threshold as JSON; shares are fractions."""
    if likeness is None:
        return None
    at = likeness.threshold
    return {
        "strangers": likeness.rate,
        "similarity": round(at.similarity, 4),
        "fpr": round(at.fpr, 6),
        "tpr": round(at.tpr, 4),
    }


def _area(heights: np.ndarray, low: int, high: int) -> str:
    """A closed SVG path over the bins from `low` to `high`."""
    part = heights[low:high]
    x = np.linspace(0, _WIDTH, len(part))
    y = _HEIGHT - (_HEIGHT - 3) * part
    points = " ".join(f"L{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return f"M0 {_HEIGHT} {points} L{_WIDTH} {_HEIGHT}Z"


def figure(likeness: Likeness | None, hits: Sequence[Hit]) -> str:
    """The two distributions, the threshold and where the hits stand, with a sentence that says the same."""
    if likeness is None:
        return (
            '<p class="vkd-likeness-note">This gallery does not say who is who, so there is no telling how '
            "alike strangers are.</p>"
        )
    at = likeness.threshold
    middles, true, false = likeness.pairs.shares(200)
    true, false = _smooth(true), _smooth(false)
    alike = [hit.similarity for hit in hits]
    filled = np.flatnonzero((true > 1e-4) | (false > 1e-4))
    low, high = max(0, filled[0] - 3), min(len(middles), filled[-1] + 4)
    low = min(low, int((min(alike, default=1) + 1) * 100))
    high = min(len(middles), max(high, int((max(alike, default=-1) + 1) * 100) + 2))
    left, right = middles[low], middles[high - 1]

    def place(similarity: float) -> float:
        return float(np.clip((similarity - left) / max(right - left, 1e-6), 0, 1)) * _WIDTH

    ticks = "".join(
        f'<path class="vkd-tick vkd-{escape(hit.verdict)}" d="M{place(hit.similarity):.1f} {_HEIGHT}v-9"/>'
        for hit in hits
    )
    cut = place(at.similarity)
    top = max(true.max(), false.max(), 1e-9)
    caught = f", and {100 * at.tpr:.0f} % of the pairs of one person" if likeness.pairs.genuine.sum() else ""
    return (
        f'<figure class="vkd-likeness"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" '
        'aria-hidden="true" focusable="false">'
        f'<path class="vkd-strangers" d="{_area(false / top, low, high)}"/>'
        f'<path class="vkd-same" d="{_area(true / top, low, high)}"/>'
        f'<path class="vkd-cut" d="M{cut:.1f} 0V{_HEIGHT}"/>{ticks}</svg>'
        f'<figcaption><span class="vkd-ends"><span>{left:.2f}</span>'
        '<span class="vkd-pairs"><span><i class="vkd-strangers"></i>strangers</span>'
        '<span><i class="vkd-same"></i>one person</span></span>'
        f"<span>{right:.2f}</span></span>"
        f"At <b>{at.similarity:.2f}</b>, {escape(likeness.rate)} strangers would pass{caught}."
        "</figcaption></figure>"
    )


def _smooth(shares: np.ndarray) -> np.ndarray:
    """A narrow triangular mean: few pairs make ragged histograms."""
    return np.convolve(shares, [1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9], mode="same")
