"""Heat over images, and the share of heat on the subject."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vkd.explain.overlay import COLOURS, on_subject, overlay

GREY = np.full((8, 6, 3), 120, np.uint8)


@pytest.mark.parametrize("colours", COLOURS)
def test_cold_places_stay_a_photograph_and_hot_ones_are_tinted(colours):
    heat = np.zeros((8, 6), np.float32)
    heat[:, 3:] = 1
    shown = overlay(GREY, heat, colours=colours)
    assert shown.dtype == np.uint8
    assert shown.shape == GREY.shape
    np.testing.assert_array_equal(shown[:, :3], GREY[:, :3])
    assert (np.abs(shown[:, 3:].astype(int) - 120).max(axis=2) > 30).all()


def test_the_hottest_place_of_turbo_is_red_not_blue():
    red, _, blue = overlay(GREY, np.ones((8, 6)))[4, 3]
    assert red > blue


def test_heat_of_any_size_and_kind_fits_the_picture():
    small = torch.tensor([[0.0, 1.0]])
    shown = overlay(GREY, small).astype(int)
    assert (np.diff(np.abs(shown - 120).sum(axis=2)[0]) >= 0).all()  # warmer to the right
    np.testing.assert_array_equal(overlay(GREY, np.full((2, 2), np.nan)), GREY)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_strength_goes_from_nothing_to_covering(strength):
    shown = overlay(GREY, np.ones((8, 6)), strength=strength)
    assert (shown == GREY).all() == (strength == 0)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ((GREY / 255, np.ones((8, 6))), "uint8"),
        ((GREY[..., 0], np.ones((8, 6))), "uint8"),
        ((GREY, np.ones((1, 8, 6))), "must be a matrix"),
    ],
)
def test_what_is_not_a_picture_or_a_heatmap_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        overlay(*wrong)
    with pytest.raises(ValueError, match="turbo, inferno, viridis"):
        overlay(GREY, np.ones((8, 6)), colours="jet")


@given(
    heat=arrays.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)),
    mask=arrays.arrays(np.bool_, (3, 4)),
)
def test_the_share_on_the_subject_and_the_share_beside_it_are_everything(heat, mask):
    on, beside = on_subject(heat, mask), on_subject(heat, ~mask)
    if heat.astype(np.float64).sum() == 0:
        assert np.isnan([on, beside]).all()
    else:
        assert on + beside == pytest.approx(1)
        assert on == pytest.approx(heat.astype(np.float64)[mask].sum() / heat.astype(np.float64).sum())


def test_a_mask_of_another_size_counts_by_area():
    mask = np.zeros((64, 32), np.uint8)
    mask[:, :8] = 255  # a quarter of the picture: half of the left cell
    assert on_subject(np.array([[1.0, 0.0]]), mask) == pytest.approx(0.5)
    assert on_subject(np.ones((16, 8)), mask) == pytest.approx(0.25)
    several = on_subject(np.ones((2, 16, 8)), np.stack([mask, np.full_like(mask, 255)]))
    assert several == pytest.approx(0.625)
    with pytest.raises(ValueError, match="do not belong together"):
        on_subject(np.ones((2, 16, 8)), mask)
