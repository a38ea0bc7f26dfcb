"""The junk rule, on numbers and on arrays, and the valid queries that follow from it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkd.data.tracklets import UNKNOWN_CAMERA, UNKNOWN_IDENTITY, Tracklet, is_junk, valid_queries


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


cameras = st.integers(UNKNOWN_CAMERA, 2)
items = st.lists(st.builds(Tracklet, st.just(("x.jpg",)), st.integers(0, 3), cameras), max_size=8)


@given(items, items)
def test_valid_queries(queries: list[Tracklet], gallery: list[Tracklet]):
    def matches(query: Tracklet, item: Tracklet) -> bool:
        return query.identity == item.identity and not query.camera == item.camera != UNKNOWN_CAMERA

    assert valid_queries(queries, gallery) == sum(any(matches(q, g) for g in gallery) for q in queries)


def test_unknown_identities_match_nothing():
    alone = [Tracklet(("a.jpg",), -1, 0)]
    assert valid_queries(alone, [Tracklet(("b.jpg",), -1, 1)]) == 0
