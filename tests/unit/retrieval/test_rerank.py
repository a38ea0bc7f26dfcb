"""k-reciprocal re-ranking equals the definitions written out with sets, and finds what it is meant to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vkd.io.errors import VKDError
from vkd.retrieval.index import normalise
from vkd.retrieval.rerank import rerank


def by_definition(query, gallery, k1=20, k2=6, weight=0.3):
    """arXiv 1701.08398 with sets and loops, in float64."""
    points = np.concatenate([query, gallery]).astype(np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    total = len(points)
    distance = np.maximum(2 - 2 * points @ points.T, 0)
    np.fill_diagonal(distance, -1)  # a point is its own nearest
    ranking = np.argsort(distance, axis=1)
    np.fill_diagonal(distance, 0)
    distance /= distance.max(axis=1, keepdims=True)

    def nearest(point, k):
        return set(ranking[point, : k + 1])

    def reciprocal(point, k):
        return {other for other in nearest(point, k) if point in nearest(other, k)}

    encoding = np.zeros((total, total))
    for point in range(total):
        own = reciprocal(point, k1)
        grown = set(own)
        for other in own:
            half = reciprocal(other, max(1, round(k1 / 2)))
            if len(own & half) >= 2 / 3 * len(half) - 1e-12:
                grown |= half
        for other in grown:
            encoding[point, other] = np.exp(-distance[point, other])
        encoding[point] /= encoding[point].sum()
    encoding = np.stack([encoding[ranking[point, :k2]].mean(axis=0) for point in range(total)])
    answer = np.zeros((len(query), len(gallery)))
    for row in range(len(query)):
        for column in range(len(gallery)):
            one, two = encoding[row], encoding[len(query) + column]
            jaccard = 1 - np.minimum(one, two).sum() / np.maximum(one, two).sum()
            answer[row, column] = (1 - weight) * jaccard + weight * distance[row, len(query) + column]
    return answer


@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 5),
    items=st.integers(1, 60),
    k1=st.integers(1, 30),
    k2=st.integers(1, 12),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    chunk=st.sampled_from([1, 7, 1024]),
)
@settings(max_examples=25, deadline=None)
def test_definition(seed, queries, items, k1, k2, weight, chunk):
    rng = np.random.default_rng(seed)
    query, gallery = rng.standard_normal((queries, 12)), rng.standard_normal((items, 12))
    ours = rerank(query, gallery, k1=k1, k2=k2, weight=weight, chunk=chunk)
    np.testing.assert_allclose(ours, by_definition(query, gallery, k1, k2, weight), atol=2e-6)


def test_top_of_all():
    rng = np.random.default_rng(1)
    query, gallery = rng.standard_normal((3, 8)), rng.standard_normal((40, 8))
    within = rerank(query, gallery, top=40)
    for row in range(3):
        np.testing.assert_allclose(within[row], by_definition(query[row : row + 1], gallery)[0], atol=2e-6)


def test_items_below_the_top():
    rng = np.random.default_rng(2)
    query, gallery = rng.standard_normal((2, 8)), rng.standard_normal((50, 8))
    first = np.argsort(-normalise(query) @ normalise(gallery).T, axis=1)
    then = np.argsort(rerank(query, gallery, top=10), axis=1)
    for row in range(2):
        assert set(then[row, :10]) == set(first[row, :10])
        assert list(then[row, 10:]) == list(first[row, 10:])


def test_match_through_neighbours():
    """Ten views on an arc, each close to the next; strangers are nearer to the first view than the end is."""
    rng = np.random.default_rng(3)
    angles = np.linspace(0, 1.2, 10)
    arc = np.stack([np.cos(angles), np.sin(angles), *np.zeros((6, 10))], axis=1)
    strangers = rng.standard_normal((40, 8)) * 0.8
    strangers[:, 0] = 1
    gallery = np.concatenate([arc[1:], strangers])
    cosine = np.argsort(-(normalise(arc[:1]) @ normalise(gallery).T)[0])
    ranked = np.argsort(rerank(arc[:1], gallery, k1=6, k2=3)[0])
    assert np.mean([list(ranked).index(view) for view in range(9)]) < np.mean(
        [list(cosine).index(view) for view in range(9)]
    )


def test_copies_and_zeros():
    same = np.ones((30, 4))
    assert np.isfinite(rerank(same[:1], same)).all()
    assert np.isfinite(rerank(same[:1], np.zeros((5, 4)))).all()


def test_empty_side():
    assert rerank(np.ones((2, 4)), np.zeros((0, 4))).shape == (2, 0)
    assert rerank(np.zeros((0, 4)), np.ones((3, 4))).shape == (0, 3)


@pytest.mark.parametrize("wrong", [{"k1": 0}, {"k2": 0}, {"weight": 1.5}, {"top": 0}])
def test_invalid_parameters(wrong):
    with pytest.raises(VKDError, match="k1="):
        rerank(np.ones((1, 4)), np.ones((3, 4)), **wrong)


def test_invalid_embeddings():
    with pytest.raises(VKDError, match="4 and 5"):
        rerank(np.ones((1, 4)), np.ones((3, 5)))
    with pytest.raises(VKDError, match="not finite"):
        rerank(np.full((1, 4), np.nan), np.ones((3, 4)))
    with pytest.raises(VKDError, match="matrix"):
        rerank(np.ones(4), np.ones((3, 4)))
