"""The solids of the synthetic street, rounded cones, and the rays that are cast at them.

One solid serves for everything: the convex hull of two spheres (a rounded cone; a capsule when the radii are
equal, an ellipsoid when the ends coincide), stretched along its own three axes. A ray meets it analytically: the
hull is {p : min over s in [0, 1] of |p - s·L·w|² - (ra + s·(rb - ra))² <= 0}, whose side is quadratic in p.

Person coordinates: x to the person's right, y to the front, z up, metres, ground at z = 0.
Camera coordinates: x right, y up on the picture, z away from the camera, origin at the point looked at.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Solids(NamedTuple):
    """n rounded cones in person coordinates."""

    start: Array  # (n, 3) centre of the first sphere, metres
    end: Array  # (n, 3) centre of the second, never quite the first
    radius: Array  # (n, 2)
    front: Array  # (n, 3) a direction that becomes the solid's own y axis
    scale: Array  # (n, 3) stretch of the solid along its own x, y and axis
    slot: NDArray[np.intp]  # (n, 2) material before and after `cut`
    cut: Array  # (n,) share of the axis where the material changes
    role: NDArray[np.intp]  # (n,) what is drawn on it (people.py)
    base: Array  # (n,) height added to the axis coordinate, so that patterns run on from solid to solid


class Hits(NamedTuple):
    """m visible surface points."""

    pixel: NDArray[np.intp]  # (m,) flat index into the picture
    solid: NDArray[np.intp]  # (m,)
    point: Array  # (3, m) camera coordinates, metres
    normal: Array  # (3, m) unit, camera coordinates
    local: Array  # (3, m) the solid's own coordinates, metres
    along: Array  # (m,) share of the axis, 0..1


class Frame(NamedTuple):
    """A picture's geometry: `scale` pixels a metre, (`x`, `y`) the pixel that looks at the origin, `distance` to it.

    Without a distance the rays are parallel (the light's picture, for shadows).
    """

    height: int
    width: int
    scale: float
    x: float
    y: float
    distance: float = math.inf


class Placed(NamedTuple):
    """n solids in camera coordinates."""

    axes: Array  # (n, 3, 3) own axes in rows
    start: Array  # (n, 3)
    length: Array  # (n,)
    box: Array  # (n, 4) rectangle on the picture: left, bottom, right, top, metres at the origin's distance


def place(solids: Solids, rotation: Array, shift: Array, distance: float = math.inf) -> Placed:
    """Solids moved into camera coordinates by p -> rotation·p + shift, with a camera at `distance` to the origin."""
    axis = solids.end - solids.start
    length = np.sqrt((axis * axis).sum(1, keepdims=True))
    w = axis / length
    x = np.cross(solids.front, w)
    x /= np.sqrt((x * x).sum(1, keepdims=True))
    axes = np.stack((x, np.cross(w, x), w), 1) @ rotation.T
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
    return Placed(axes.astype(np.float32), start, length[:, 0], box)


def _pairs(box: Array, frame: Frame) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Every (solid, pixel) whose rectangle covers the pixel: solid, column and row of each pair."""
    left = np.clip(np.floor(box[:, 0] * frame.scale + frame.x), 0, frame.width).astype(np.intp)
    right = np.clip(np.ceil(box[:, 2] * frame.scale + frame.x), 0, frame.width).astype(np.intp)
    top = np.clip(np.floor(frame.y - box[:, 3] * frame.scale), 0, frame.height).astype(np.intp)
    bottom = np.clip(np.ceil(frame.y - box[:, 1] * frame.scale), 0, frame.height).astype(np.intp)
    wide = np.maximum(right - left, 0)
    count = wide * np.maximum(bottom - top, 0)
    solid = np.repeat(np.arange(len(box)), count)
    offset = np.arange(len(solid)) - np.repeat(np.cumsum(count) - count, count)
    down, across = np.divmod(offset, np.repeat(wide, count))
    return solid, across + np.repeat(left, count), down + np.repeat(top, count)


def cast(solids: Solids, placed: Placed, frame: Frame) -> Hits:
    """One ray through the middle of every pixel of `frame`: the first surface each one meets."""
    axes, start, length, box = placed
    solid, column, row = _pairs(box, frame)
    x = ((column + 0.5 - frame.x) / frame.scale).astype(np.float32)
    y = ((frame.y - row - 0.5) / frame.scale).astype(np.float32)
    # in a solid's own stretched space it is a plain rounded cone from the origin along its third axis
    into = axes / solids.scale[:, :, None]
    zero = -np.einsum("nij,nj->ni", into, start)
    first = [into[solid, i, 0] * x + into[solid, i, 1] * y for i in range(3)]
    o = [first[i] + zero[solid, i] for i in range(3)]
    d = [first[i] * np.float32(1 / frame.distance) + into[solid, i, 2] for i in range(3)]
    span = (length / solids.scale[:, 2])[solid]
    depth, along = _enter(o, d, span, solids.radius[solid, 0], solids.radius[solid, 1])
    seen = np.flatnonzero(depth < 1e3)
    pixel = row[seen] * frame.width + column[seen]
    # nearest of several: depth in the high bits, pair in the low bits, so one minimum settles both
    key = ((depth[seen] + 64.0) * 2**22).astype(np.int64) << 24 | np.arange(len(seen))
    nearest = np.full(frame.height * frame.width, np.iinfo(np.int64).max)
    np.minimum.at(nearest, pixel, key)
    hit = np.flatnonzero(nearest != np.iinfo(np.int64).max)
    winner = seen[nearest[hit] & (2**24 - 1)]
    t, part, s = depth[winner], solid[winner], along[winner]
    own = np.stack([o[i][winner] + t * d[i][winner] for i in range(3)])
    gradient = own.copy()
    gradient[2] -= s * span[winner]
    normal = np.einsum("mij,im->jm", into[part], gradient)
    normal /= np.sqrt((normal * normal).sum(0)) + 1e-9
    stretch = 1 + t / np.float32(frame.distance)
    point = np.stack((x[winner] * stretch, y[winner] * stretch, t))
    return Hits(hit, part, point, normal, own * solids.scale[part].T, s)


def _enter(o: list[Array], d: list[Array], span: Array, ra: Array, rb: Array) -> tuple[Array, Array]:
    """Where rays o + t·d enter rounded cones: t (inf for a miss) and the share of the axis of the sphere touched."""
    dd = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    od = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    oo = o[0] * o[0] + o[1] * o[1] + o[2] * o[2]
    slope = rb - ra
    g = 1 / np.maximum(span * span - slope * slope, 1e-9)
    q = span * o[2] + ra * slope
    sd = span * d[2]
    a = dd - g * sd * sd
    b = od - g * sd * q
    side = b * b - a * (oo - ra * ra - g * q * q)
    od_b = od - sd
    begin = od * od - dd * (oo - ra * ra)
    finish = od_b * od_b - dd * (oo + span * (span - 2 * o[2]) - rb * rb)
    depth = np.full(len(dd), np.inf, np.float32)
    along = np.zeros(len(dd), np.float32)
    i = np.flatnonzero((side > 0) & (a > 1e-6))
    t = (-b[i] - np.sqrt(side[i])) / a[i]
    s = (q[i] + t * sd[i]) * g[i]
    good = (s >= 0) & (s <= 1)
    depth[i[good]], along[i[good]] = t[good], s[good]
    for share, gap, middle in ((0.0, begin, od), (1.0, finish, od_b)):
        i = np.flatnonzero(gap > 0)
        t = (-middle[i] - np.sqrt(gap[i])) / dd[i]
        nearer = t < depth[i]
        depth[i[nearer]], along[i[nearer]] = t[nearer], share
    return depth, along
