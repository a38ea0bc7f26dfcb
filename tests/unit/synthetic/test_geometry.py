"""Rays meet rounded cones where a dense search along the ray says they do."""

import math

import numpy as np
import pytest

from vkd.synthetic.geometry import CameraSolids, Solids, Viewport, cast, to_camera


def one_solid(start, end, radius, scale=(1, 1, 1)) -> Solids:
    row = lambda value, kind=np.float32: np.array([value], kind)  # noqa: E731
    return Solids(row(start), row(end), row(radius), row((0.1, 1, 0.2)), row(scale), row((0, 0), np.intp),
                  row(2.0), row(0, np.intp), row(0.0))  # fmt: skip


def unmoved(solids: Solids, distance: float = math.inf) -> CameraSolids:
    return to_camera(solids, np.eye(3, dtype=np.float32), np.zeros(3, np.float32), distance)


def inside(point: np.ndarray, start, end, ra: float, rb: float) -> np.ndarray:
    """Is each point (m, 3) in one of the balls that a rounded cone is the union of?"""
    s = np.linspace(0, 1, 61)[:, None, None]
    centre = np.asarray(start) + s * (np.asarray(end) - np.asarray(start))
    return (((point - centre) ** 2).sum(-1) < (ra + s[..., 0] * (rb - ra)) ** 2).any(0)


@pytest.mark.parametrize("distance", [math.inf, 6.0])
@pytest.mark.parametrize(
    ("start", "end", "ra", "rb"),
    [
        ((0, 0, 0), (0.5, 0.1, 0.2), 0.2, 0.2),  # a capsule
        ((0, -0.3, 0), (0.1, 0.4, 0.3), 0.1, 0.3),  # a cone
        ((0.1, 0, 0), (0.1, 0, 1e-4), 0.4, 0.4),  # a ball
        ((0, 0, -0.5), (0.05, 0, 0.5), 0.3, 0.2),  # seen end on
    ],
)
def test_depths(start, end, ra, rb, distance):
    solids, viewport = one_solid(start, end, (ra, rb)), Viewport(18, 15, 9.0, 7.5, 9.0, distance)
    hits = cast(solids, unmoved(solids, distance), viewport)
    rows, columns = np.mgrid[0:18, 0:15]
    x, y = (
        (columns.ravel() + 0.5 - viewport.x) / viewport.scale,
        (viewport.y - rows.ravel() - 0.5) / viewport.scale,
    )
    depth = np.full(x.size, np.inf)
    for t in np.arange(-1, 1, 0.01)[::-1]:
        k = 1 + t / distance
        depth[inside(np.stack((x * k, y * k, np.full_like(x, t)), 1), start, end, ra, rb)] = t
    depths = np.full(x.size, np.inf)
    depths[hits.pixel] = hits.point[2]
    both = np.isfinite(depth) & np.isfinite(depths)
    assert both.sum() > 15
    assert (np.isfinite(depth) ^ np.isfinite(depths)).sum() <= 4  # rays that only graze
    assert np.quantile(np.abs(depth[both] - depths[both]), 0.9) < 0.02


def test_normals_of_a_ball():
    solids = one_solid((0.1, 0.2, 0), (0.1, 0.2, 1e-4), (0.5, 0.5))
    hits = cast(
        solids,
        unmoved(solids),
        Viewport(32, 32, 16, 16, 16),
    )
    away = (hits.point - np.array([[0.1], [0.2], [0]])) / 0.5
    np.testing.assert_allclose(hits.normal, away, atol=2e-3)
    assert (hits.normal[2] < 0).all(), "what is seen faces the camera"


def test_ellipsoid_scale():
    solids = one_solid((0, 0, 0), (0, 1e-4, 0), (0.5, 0.5), scale=(0.4, 1, 1))
    solids = solids._replace(front=np.array([[0, 0, 1]], np.float32))
    hits = cast(
        solids,
        unmoved(solids),
        Viewport(64, 64, 50, 32, 32),
    )
    wide, high = np.ptp(hits.point[0]), np.ptp(hits.point[1])
    assert wide == pytest.approx(0.4, abs=0.05)
    assert high == pytest.approx(1.0, abs=0.05)
