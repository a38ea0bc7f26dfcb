"""The junk rule, on numbers and on arrays."""

import numpy as np
import pytest

from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY, is_junk


@pytest.mark.parametrize(
    ("query", "item", "junk"),
    [
        ((5, 1), (5, 1), True),
        ((5, 1), (5, 2), False),
        ((5, 1), (6, 1), False),
        ((5, UNKNOWN_CAMERA), (5, UNKNOWN_CAMERA), False),
        ((UNKNOWN_IDENTITY, 1), (UNKNOWN_IDENTITY, 1), False),
    ],
)
def test_is_junk(query: tuple[int, int], item: tuple[int, int], junk: bool):
    assert is_junk(*query, *item) is junk
    identities, cameras = np.array([item[0], 99]), np.array([item[1], 1])
    assert is_junk(*query, identities, cameras).tolist() == [junk, False]
    columns = np.array([query[0]])[:, None], np.array([query[1]])[:, None]
    assert is_junk(*columns, identities, cameras).tolist() == [[junk, False]]
