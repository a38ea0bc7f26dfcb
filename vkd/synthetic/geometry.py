"""Ray casting of rounded cones, the solids of the synthetic street.

Every part of a body is one kind of solid: the convex hull of two spheres (a rounded cone; a capsule when the
radii are equal, an ellipsoid when the ends coincide), stretched along its own three axes. The intersection is
analytic: with ends 0 and L·w and radii ra and rb, the hull is
{p : min over s in [0, 1] of |p - s·L·w|² - (ra + s·(rb - ra))² <= 0}, whose side is quadratic in p.

Person coordinates: x to the person's right, y to the front, z up, metres, ground at z = 0.
Camera coordinates: x right, y up in the image, z away from the camera, origin at the focus point.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Index = NDArray[np.integer]


class Solids(NamedTuple):
    """n rounded cones in person coordinates."""

    start: Array  # (n, 3) centre of the first sphere, metres
    end: Array  # (n, 3) centre of the second, never quite the first
    radius: Array  # (n, 2)
    front: Array  # (n, 3) a direction that becomes the solid's own y axis
    scale: Array  # (n, 3) stretch of the solid along its own x, y and axis
    slot: NDArray[np.intp]  # (n, 2) material before and after `cut`
    cut: Array  # (n,) share of the axis where the material changes
    role: NDArray[np.intp]  # (n,) body part, for details (texture.py)
    base: Array  # (n,) height added to the axis coordinate, so that patterns run on from solid to solid


class Hits(NamedTuple):
    """m visible surface points."""

    pixel: NDArray[np.intp]  # (m,) flat index into the image
    solid: Index  # (m,)
    point: Array  # (3, m) camera coordinates, metres
    normal: Array  # (3, m) unit, camera coordinates
    local: Array  # (3, m) the solid's own coordinates, metres
    along: Array  # (m,) share of the axis, 0..1


class Viewport(NamedTuple):
    """Projection of an image: `scale` pixels per metre, (`x`, `y`) the pixel of the origin.

    `distance` is the camera's to the origin in metres; without one the rays are parallel (the sun's).
    """

    height: int
    width: int
    scale: float
    x: float
    y: float
    distance: float = math.inf


class CameraSolids(NamedTuple):
    """n solids in camera coordinates."""

    axes: Array  # (n, 3, 3) own axes in rows
    start: Array  # (n, 3)
    length: Array  # (n,)
    box: Array  # (n, 4) bounding box in the image: left, bottom, right, top, metres at the origin's distance


def cross(a: Array, b: Array) -> Array:
    """Returns the cross products of rows (n, 3); NumPy's own is slow on few rows."""
    x, y, z = a.T
    u, v, w = b.T
    return np.stack((y * w - z * v, z * u - x * w, x * v - y * u), 1)


def to_camera(solids: Solids, rotation: Array, shift: Array, distance: float = math.inf) -> CameraSolids:
    """Moves solids to camera coordinates by p -> rotation·p + shift; `distance` as in Viewport."""
    axis = solids.end - solids.start
    length = np.sqrt((axis * axis).sum(1, keepdims=True))
    w = axis / length
    x = cross(solids.front, w)
    x /= np.sqrt((x * x).sum(1, keepdims=True))
    axes = np.stack((x, cross(w, x), w), 1) @ rotation.T
    reach = np.sqrt(((axes * solids.scale[:, :, None]) ** 2).sum(1))
    extent = solids.radius[:, :, None] * reach[:, None, :]
    start = (solids.start @ rotation.T + shift).astype(np.float32)
    end = start + axes[:, 2] * length
    low = np.minimum(start - extent[:, 0], end - extent[:, 1])
    high = np.maximum(start + extent[:, 0], end + extent[:, 1])
    box = np.concatenate((low[:, :2], high[:, :2]), 1)
    if not math.isinf(distance):
        near, far = distance / (distance + low[:, 2:]), distance / (distance + high[:, 2:])
        box[:, :2] = np.minimum(low[:, :2] * near, low[:, :2] * far)
        box[:, 2:] = np.maximum(high[:, :2] * near, high[:, :2] * far)
    return CameraSolids(axes.astype(np.float32), start, length[:, 0], box)


def _pairs(box: Array, viewport: Viewport) -> tuple[Index, Index, Index, Index]:
    """Lists (solid, pixel) with the pixel in the solid's box: pairs per solid; solid, column, row of each."""
    left = np.clip(np.floor(box[:, 0] * viewport.scale + viewport.x), 0, viewport.width).astype(np.intp)
    right = np.clip(np.ceil(box[:, 2] * viewport.scale + viewport.x), 0, viewport.width).astype(np.intp)
    top = np.clip(np.floor(viewport.y - box[:, 3] * viewport.scale), 0, viewport.height).astype(np.intp)
    bottom = np.clip(np.ceil(viewport.y - box[:, 1] * viewport.scale), 0, viewport.height).astype(np.intp)
    wide = np.maximum(right - left, 0)
    count = wide * np.maximum(bottom - top, 0)
    whole = np.stack((np.arange(len(box)), np.cumsum(count) - count, wide, left, top)).astype(np.int32)
    solid, before, span, first, above = np.repeat(whole, count, axis=1)
    offset = np.arange(len(solid), dtype=np.int32) - before
    down = offset // span
    return count, solid, offset - down * span + first, down + above


def cast(solids: Solids, posed: CameraSolids, viewport: Viewport) -> Hits:
    """Casts a ray through the middle of every pixel; returns the first surface that each one meets."""
    axes, start, length, box = posed
    count, solid, column, row = _pairs(box, viewport)
    x = (column.astype(np.float32) + np.float32(0.5 - viewport.x)) * np.float32(1 / viewport.scale)
    y = (np.float32(viewport.y - 0.5) - row.astype(np.float32)) * np.float32(1 / viewport.scale)
    # in a solid's own stretched space it is a plain rounded cone from the origin along its third axis
    into = axes / solids.scale[:, :, None]
    zero = -np.einsum("nij,nj->ni", into, start)
    span = length / solids.scale[:, 2]
    ra, rb = solids.radius.T
    taper = 1 / np.maximum(span * span - (rb - ra) ** 2, 1e-9)
    cones = np.stack((span, taper, ra * (rb - ra), ra * ra, rb * rb))
    table = np.concatenate((into.transpose(2, 1, 0).reshape(9, -1), zero.T, cones))
    seen, t, s = _intersect_pairs(table, count, x, y, np.float32(1 / viewport.distance))
    # nearest of several: depth in the high bits, pair in the low bits, so one minimum settles both
    key = ((t + np.float32(64)) * np.float32(2**22)).astype(np.int64) << 24
    key |= np.arange(len(seen))
    nearest = np.full(viewport.height * viewport.width, _NOTHING)
    np.minimum.at(nearest, row[seen] * viewport.width + column[seen], key)
    pixel = np.flatnonzero(nearest != _NOTHING)
    first = nearest[pixel] & (2**24 - 1)
    winner, t, s = seen[first], t[first], s[first]
    x, y, part = x[winner], y[winner], solid[winner]
    rows = np.take(table[:13], part, axis=1)
    stretch = 1 + t * np.float32(1 / viewport.distance)
    point = np.stack((x * stretch, y * stretch, t))
    own = rows[0:3] * point[0] + rows[3:6] * point[1] + rows[6:9] * t + rows[9:12]
    gradient = own.copy()
    gradient[2] -= s * rows[12]
    normal = (rows[:9].reshape(3, 3, -1) * gradient).sum(1)
    normal /= np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + np.float32(1e-9)
    return Hits(pixel, part, point, normal, own * np.take(solids.scale.T, part, axis=1), s)


_NOTHING = np.iinfo(np.int64).max
_BLOCK = 8192  # pairs at a time: what stays in a core's own cache


def _intersect_pairs(
    table: Array, count: Index, x: Array, y: Array, near: np.float32
) -> tuple[Index, Array, Array]:
    """Returns the intersecting (solid, pixel) pairs: indices, depths, shares of the axis."""
    last = np.cumsum(count)
    block = last // _BLOCK
    parts = []
    for each in range(int(block[-1]) + 1):
        solids = np.flatnonzero(block == each)
        if len(solids):
            low, high = last[solids[0]] - count[solids[0]], last[solids[-1]]
            rows = np.repeat(table[:, solids[0] : solids[-1] + 1], count[solids], axis=1)
            depth, along = _intersect(rows, x[low:high], y[low:high], near)
            seen = np.flatnonzero(depth < 1e3)
            parts.append((seen + low, depth[seen], along[seen]))
    seen, depth, along = (np.concatenate(part) for part in zip(*parts, strict=True))
    return seen, depth, along


def _intersect(rows: Array, x: Array, y: Array, near: np.float32) -> tuple[Array, Array]:
    """Intersects rays o + t·d with rounded cones: t (inf for a miss) and the share of the axis."""
    d = rows[0:3] * x
    d += rows[3:6] * y
    o = d + rows[9:12]
    d *= near
    d += rows[6:9]
    span, taper, lift, aa, bb = rows[12:]
    dd = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    od = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    oo = o[0] * o[0] + o[1] * o[1] + o[2] * o[2]
    begin = od * od - dd * (oo - aa)
    q, sd = span * o[2], span * d[2]
    od_b = od - sd
    finish = od_b * od_b - dd * (oo + span * span - 2 * q - bb)
    q += lift
    bend = taper * sd
    a = dd - bend * sd
    b = od - bend * q
    side = b * b - a * (oo - aa - taper * q * q)
    depth = np.full(len(dd), np.inf, np.float32)
    along = np.zeros(len(dd), np.float32)
    i = np.flatnonzero((side > 0) & (a > 1e-6))
    t = (-b[i] - np.sqrt(side[i])) / a[i]
    s = (q[i] + t * sd[i]) * taper[i]
    good = (s >= 0) & (s <= 1)
    depth[i[good]], along[i[good]] = t[good], s[good]
    for share, gap, middle in ((0.0, begin, od), (1.0, finish, od_b)):
        i = np.flatnonzero(gap > 0)
        t = (-middle[i] - np.sqrt(gap[i])) / dd[i]
        nearer = t < depth[i]
        depth[i[nearer]], along[i[nearer]] = t[nearer], share
    return depth, along
