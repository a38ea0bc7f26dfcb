"""Rendered frames: unchanged pixels, exact masks, visible details, look-alike groups."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vkd.synthetic.appearance import Appearance, lookalike_group
from vkd.synthetic.camera import Camera, camera_ring
from vkd.synthetic.motion import FrameState, Occluder, sample_walk
from vkd.synthetic.render import render

BLOCKS, PIXELS = (
    [
        [152.4, 109.0, 70.8, 58.8],
        [105.7, 94.8, 94.0, 72.4],
        [87.7, 84.8, 78.1, 75.6],
        [95.7, 108.5, 84.2, 78.9],
    ],
    2411,
)


@pytest.fixture(scope="module")
def front() -> Camera:
    """A camera that sees walkers from the front, without sun (so no shadow gives a detail away)."""
    return replace(camera_ring(6, 0)[0], azimuth=0.0, elevation=0.1, sun=0.0)


def seen_from(camera: Camera, degrees: float) -> Camera:
    return replace(camera, azimuth=np.radians(degrees))


def test_pixels_are_unchanged():
    """Seeds name images: block means of one frame as version 0.1.0 rendered it."""
    rng = np.random.default_rng(4)
    person, camera = lookalike_group(rng, 1)[0], camera_ring(3, 4)[1]
    image, mask = render(person, camera, sample_walk(rng, camera, 1)[0])
    blocks = image.reshape(4, 32, 4, 16, 3).mean((1, 3, 4))
    np.testing.assert_allclose(blocks, BLOCKS, atol=0.3)
    assert mask.sum() == pytest.approx(PIXELS, abs=3)


@pytest.mark.parametrize("size", [(64, 32), (128, 64), (256, 128), (96, 96)])
def test_sizes(front, size):
    image, mask = render(Appearance(), front, FrameState(), size)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == size
    assert mask.dtype == bool
    assert 0.08 < mask.mean() < 0.5


def test_mask_is_what_the_person_covers(front):
    sunny = replace(front, sun=0.6)
    image, mask = render(Appearance(), sunny, FrameState(), sensor=False)
    empty, _ = render(Appearance(), sunny, FrameState(), sensor=False, subject=False)
    changed = (image != empty).any(-1)
    near = np.array(Image.fromarray(mask).resize(mask.shape[::-1]))  # the mask and the pixels around it
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        near |= np.roll(mask, step, axis)
    assert not (changed & ~near).any(), "pixels beyond the person's edge changed"
    assert changed[mask].mean() > 0.97


def test_occluder_is_not_in_the_mask(front):
    _, whole = render(Appearance(), front, FrameState())
    _, cut = render(Appearance(), front, FrameState(occluder=Occluder("pole", 0.5, 0.9, 1)))
    assert (whole & ~cut)[:, 32].sum() > 20
    assert not (cut & ~whole).any()


@pytest.mark.parametrize(
    ("detail", "visible", "hidden"),
    [
        ({"logo": 2**25 - 1, "logo_colour": (0.9, 0.1, 0.1)}, 0, 180),
        ({"backpack": (0.9, 0.1, 0.1)}, 180, 0),
        ({"bag": 1, "bag_colour": (0.9, 0.1, 0.1)}, 90, 270),
        ({"bag": -1, "bag_colour": (0.9, 0.1, 0.1)}, 270, 90),
        ({"stripe": 1, "stripe_colour": (0.9, 0.1, 0.1)}, 90, 270),
    ],
)
def test_details_show_from_their_own_side(front, detail, visible, hidden):
    def changed(degrees: float) -> int:
        camera = seen_from(front, degrees)
        plain, detailed = (
            render(person, camera, FrameState(), sensor=False)[0].astype(int)
            for person in (Appearance(), replace(Appearance(), **detail))
        )
        return int((np.abs(plain - detailed).max(-1) > 25).sum())

    assert changed(visible) > 25
    assert changed(hidden) <= 0.15 * changed(visible)


def test_logo_is_invisible_from_behind(front):
    behind = seen_from(front, 180)
    plain, printed = (
        render(replace(Appearance(), logo=logo), behind, FrameState())[0] for logo in (0, 2**25 - 1)
    )
    assert (plain == printed).all()


def test_walk(front):
    states = sample_walk(np.random.default_rng(0), front, 8)
    assert len({state.gait.phase for state in states}) == 8
    assert np.ptp([state.yaw for state in states]) < np.radians(60), "a camera sees about one side"


def test_group_shares_clothes_and_differs_in_details():
    people = lookalike_group(np.random.default_rng(1), 5, difficulty=1.0)
    assert len({(person.top, person.bottom, person.top_pattern) for person in people}) == 1
    assert len({(person.logo, person.backpack is None, person.bag, person.stripe) for person in people}) == 5


def test_difficulty_makes_groups_more_alike():
    def colours(difficulty: float) -> float:
        groups = [lookalike_group(np.random.default_rng(seed), 5, difficulty) for seed in range(20)]
        return float(
            np.mean([np.std([person.top_colours[0] for person in group], 0).mean() for group in groups])
        )

    assert colours(0.0) > 1.5 * colours(0.5)
    assert colours(0.5) > 1.5 * colours(1.0)


def test_difficulty_makes_cameras_differ():
    spread = [np.std([camera.exposure for camera in camera_ring(9, 0, d)]) for d in (0.0, 0.5, 1.0)]
    assert spread == sorted(spread)
