"""Position of a similarity among the genuine and impostor pairs of a gallery."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from vkd.io.errors import VKDError
from vkd.metrics.verification import BINS, PairScores, Threshold
from vkd.retrieval.gallery import Hit
from vkd.ui.html import render

FPRS = {"10 %": 0.1, "1 %": 0.01, "0.1 %": 0.001}
"""False-positive rates that a decision threshold may have."""
DEFAULT = "1 %"
_WIDTH, _HEIGHT = 400, 46  # of the figure, in its own units


class Distribution(NamedTuple):
    """Pairs of one gallery and model, and the decision threshold at the chosen false-positive rate."""

    pairs: PairScores
    fpr: str
    threshold: Threshold


def distribution_at(pairs: PairScores, fpr: str) -> Distribution | None:
    """Returns the distribution, None for a gallery without identities. Raises VKDError for an unknown FPR."""
    if fpr not in FPRS:
        raise VKDError(f"'{fpr}' is not a false-positive rate of the list: choose one of {', '.join(FPRS)}.")
    return Distribution(pairs, fpr, pairs.threshold(FPRS[fpr])) if pairs.impostor.sum() else None


def false_positive_rate(distribution: Distribution, similarity: float) -> float:
    """Returns the share of the impostor pairs that are at least this similar."""
    start = int(np.clip(np.floor((similarity + 1) * (BINS / 2)), 0, BINS - 1))
    impostor = distribution.pairs.impostor
    return float(impostor[start:].sum() / impostor.sum())


def fpr_text(distribution: Distribution | None, similarity: float) -> str:
    """Returns 'FPR 1.3e-4', or a bound where no impostor pair is as similar; "" without a distribution."""
    if distribution is None:
        return ""
    share = false_positive_rate(distribution, similarity)
    if share == 0:
        return f"FPR < {_scientific(1 / int(distribution.pairs.impostor.sum()))}"
    return f"FPR {100 * share:.2g} %" if 0.001 <= share < 0.995 else f"FPR {_scientific(share)}"


def _scientific(share: float) -> str:
    if share >= 0.995:
        return "100 %"
    digits, _, exponent = f"{share:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def as_data(distribution: Distribution | None) -> dict[str, float | str] | None:
    """Returns the threshold as JSON; rates are fractions."""
    if distribution is None:
        return None
    threshold = distribution.threshold
    return {
        "fpr": distribution.fpr,
        "similarity": round(threshold.similarity, 4),
        "measured_fpr": round(threshold.fpr, 6),
        "measured_tpr": round(threshold.tpr, 4),
    }


def figure(distribution: Distribution | None, hits: Sequence[Hit]) -> Markup:
    """Renders both distributions, the threshold and the hits, with the same as a caption."""
    if distribution is None:
        return render("distribution.html.j2", curves=None)
    middles, genuine, impostor = distribution.pairs.shares(200)
    genuine, impostor = _smooth(genuine), _smooth(impostor)
    similarities = [hit.similarity for hit in hits]
    filled = np.flatnonzero((genuine > 1e-4) | (impostor > 1e-4))
    low, high = max(0, filled[0] - 3), min(len(middles), filled[-1] + 4)
    low = min(low, int((min(similarities, default=1) + 1) * 100))
    high = min(len(middles), max(high, int((max(similarities, default=-1) + 1) * 100) + 2))
    left, right = float(middles[low]), float(middles[high - 1])
    top = max(genuine.max(), impostor.max(), 1e-9)

    def x(similarity: float) -> str:
        return f"{float(np.clip((similarity - left) / max(right - left, 1e-6), 0, 1)) * _WIDTH:.1f}"

    return render(
        "distribution.html.j2",
        curves={"impostor": _area(impostor[low:high] / top), "genuine": _area(genuine[low:high] / top)},
        width=_WIDTH,
        height=_HEIGHT,
        ticks=[(hit.verdict, x(hit.similarity)) for hit in hits],
        cut=x(distribution.threshold.similarity),
        left=left,
        right=right,
        threshold=distribution.threshold,
        fpr=distribution.fpr,
        has_genuine=bool(distribution.pairs.genuine.sum()),
    )


def _area(heights: np.ndarray) -> str:
    """Returns a closed SVG path under the curve of these heights (0..1)."""
    x = np.linspace(0, _WIDTH, len(heights))
    y = _HEIGHT - (_HEIGHT - 3) * heights
    points = " ".join(f"L{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return f"M0 {_HEIGHT} {points} L{_WIDTH} {_HEIGHT}Z"


def _smooth(shares: np.ndarray) -> np.ndarray:
    """Returns a narrow triangular mean: few pairs make ragged histograms."""
    return np.convolve(shares, [1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9], mode="same")
