"""Scores against the reference's numbers, against a plain reading of the rules, and where nothing changes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vkd.io.errors import VKDError
from vkd.metrics import ranking, scores

PROBLEMS = range(5)


@pytest.fixture(scope="module")
def problems() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[2] / "golden" / "evaluation.npz") as file:
        return dict(file)


def labels_in(problems, number) -> list[np.ndarray]:
    return [problems[f"prob{number}__{key}"] for key in ("q_pids", "g_pids", "q_camids", "g_camids")]


def by_the_rules(distmat, q_ids, g_ids, q_cams, g_cams) -> dict[str, np.ndarray]:
    """One query after the other, one rank after the other, with nothing clever."""
    out = {"map_trapezoid": [], "map_standard": [], "minp": [], "first_match": [], "nearest": []}
    for row, identity, camera in zip(distmat, q_ids, q_cams, strict=True):
        ranked = sorted(range(len(g_ids)), key=lambda item: (row[item], item))
        ranked = [g for g in ranked if not (g_ids[g] == identity != -1 and g_cams[g] == camera != -1)]
        hits = [g_ids[g] == identity != -1 for g in ranked]
        out["nearest"].append(ranked[0] if ranked else -1)
        precision, area, precisions, last, first = 1.0, 0.0, [], 0, 0
        for rank, hit in enumerate(hits, 1):
            earlier, precision = precision, sum(hits[:rank]) / rank
            if hit:
                area += (earlier + precision) / 2 / sum(hits)
                precisions.append(precision)
                first, last = first or rank, rank
        out["map_trapezoid"].append(area if first else np.nan)
        out["map_standard"].append(np.mean(precisions) if first else np.nan)
        out["minp"].append(sum(hits) / last if first else np.nan)
        out["first_match"].append(first)
    return {name: np.array(values) for name, values in out.items()}


def assert_same(ours: scores.Scores, theirs: dict[str, np.ndarray], tolerance: float = 1e-12) -> None:
    for name, values in theirs.items():
        each = ours.per_query[name] if name in ours.per_query else getattr(ours, name)
        np.testing.assert_allclose(each, values, rtol=0, atol=tolerance, err_msg=name)
    first = theirs["first_match"]
    assert ours.valid_queries == (first > 0).sum()
    curve = [((first > 0) & (first <= k)).sum() / (first > 0).sum() for k in range(1, ours.gallery + 1)]
    np.testing.assert_allclose(ours.cmc, curve, rtol=0, atol=tolerance)
    for metric in ("map_trapezoid", "map_standard", "minp"):
        assert ours[metric] == pytest.approx(np.nanmean(theirs[metric]), abs=tolerance)


@st.composite
def rankings(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Small rankings with ties, junk, distractors, unknown cameras and at least one valid query."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    queries, gallery = draw(st.integers(1, 8)), draw(st.integers(2, 90))
    identities, cameras = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    levels = draw(st.sampled_from([3, 1000, 10**9]))
    distmat = (generator.integers(0, levels, (queries, gallery)) / levels).astype(np.float32)
    q_ids, g_ids = (generator.integers(-1, identities, n) for n in (queries, gallery))
    q_cams, g_cams = (generator.integers(-1, cameras, n) for n in (queries, gallery))
    q_ids[0] = g_ids[0] = 0
    q_cams[0], g_cams[0] = -1, 0
    return distmat, q_ids, g_ids, q_cams, g_cams


@pytest.mark.parametrize("number", PROBLEMS)
def test_golden_distances(problems, number):
    def expected(name: str) -> np.ndarray:
        return problems[f"prob{number}__{name}"]

    ours = scores.score(expected("distmat"), *labels_in(problems, number))
    np.testing.assert_allclose(ours.cmc, expected("cmc_curve"), rtol=0, atol=1e-9)
    np.testing.assert_allclose([ours.top(k) for k in (1, 5, 10)], expected("cmc_1_5_10"), rtol=0, atol=1e-9)
    assert ours.map == ours["map_trapezoid"] == pytest.approx(float(expected("mAP")), abs=1e-9)
    assert ours["map_standard"] == pytest.approx(float(expected("map_standard")), abs=1e-9)
    assert ours["minp"] == pytest.approx(float(expected("mINP")), abs=1e-9)
    assert ours.valid_queries == int(expected("num_valid_queries"))
    wrong = np.flatnonzero(ours.first_match > 1)
    np.testing.assert_array_equal(np.stack([wrong, ours.nearest[wrong]], axis=1), expected("wrong_matches"))


@pytest.mark.parametrize("number", PROBLEMS)
@pytest.mark.parametrize("chunk_bytes", [1, 5000, 2**30])
def test_golden_embeddings(problems, number, chunk_bytes):
    query, gallery = (problems[f"prob{number}__{side}_feats"] for side in "qg")
    np.testing.assert_allclose(
        scores.distances(query, gallery), problems[f"prob{number}__distmat"], rtol=0, atol=1e-6
    )
    ours = scores.score_features(query, gallery, *labels_in(problems, number), chunk_bytes=chunk_bytes)
    assert ours["map_trapezoid"] == pytest.approx(float(problems[f"prob{number}__mAP"]), abs=1e-9)
    assert ours["minp"] == pytest.approx(float(problems[f"prob{number}__mINP"]), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(rankings(), st.sampled_from([0, 3, ranking.FEW_MATCHES]), st.sampled_from([1, 700, 2**20]))
def test_rules(problem, few, chunk_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "FEW_MATCHES", few)  # both ways of counting ranks
        assert_same(scores.score(*problem, chunk_bytes=chunk_bytes), by_the_rules(*problem))


@settings(max_examples=50, deadline=None)
@given(rankings())
def test_monotone_distances(problem):
    distmat, *labels = problem
    once = scores.score(distmat, *labels)
    again = scores.score(np.exp(3 * distmat.astype(np.float64)) - 7, *labels)
    np.testing.assert_array_equal(once.per_query["map_trapezoid"], again.per_query["map_trapezoid"])
    np.testing.assert_array_equal(once.first_match, again.first_match)


@settings(max_examples=50, deadline=None)
@given(rankings(), st.integers(0, 2**32))
def test_permutation(problem, seed):
    distmat, q_ids, g_ids, q_cams, g_cams = problem
    generator = np.random.default_rng(seed)
    distmat = np.argsort(generator.random(distmat.shape), axis=1).astype(np.float32)  # no ties
    once = scores.score(distmat, q_ids, g_ids, q_cams, g_cams)
    q, g = generator.permutation(len(q_ids)), generator.permutation(len(g_ids))
    again = scores.score(distmat[q][:, g], q_ids[q], g_ids[g], q_cams[q], g_cams[g])
    np.testing.assert_array_equal(once.per_query["map_standard"][q], again.per_query["map_standard"])
    np.testing.assert_array_equal(once.cmc, again.cmc)
    np.testing.assert_array_equal(
        np.where(once.nearest[q] < 0, -1, once.nearest[q]), np.append(g, -1)[again.nearest]
    )


@settings(max_examples=50, deadline=None)
@given(rankings())
def test_perfect_ranking(problem):
    distmat, q_ids, g_ids, q_cams, g_cams = problem
    perfect = distmat + 10 * (q_ids[:, None] != g_ids[None, :])
    ours = scores.score(perfect, q_ids, g_ids, q_cams, g_cams)
    assert ours["map_trapezoid"] == ours["map_standard"] == ours["minp"] == ours.top(1) == pytest.approx(1.0)
    imperfect = scores.score(distmat, q_ids, g_ids, q_cams, g_cams)
    assert 0 < imperfect["map_trapezoid"] <= imperfect["map_standard"] <= 1
    assert np.all(np.diff(imperfect.cmc) >= 0)
    assert imperfect.cmc[-1] == 1


@settings(max_examples=50, deadline=None)
@given(rankings(), st.integers(0, 90))
def test_junk_has_no_effect(problem, position):
    distmat, q_ids, g_ids, q_cams, g_cams = problem
    distmat, q_ids, q_cams = distmat[:1], np.array([1]), np.array([2])
    g_ids[0], g_cams[0] = 1, -1
    once = scores.score(distmat, q_ids, g_ids, q_cams, g_cams)
    place = position % len(g_ids)
    again = scores.score(
        np.insert(distmat, place, 0, axis=1),
        q_ids,
        np.insert(g_ids, place, 1),
        q_cams,
        np.insert(g_cams, place, 2),
    )
    np.testing.assert_array_equal(once.per_query["map_standard"], again.per_query["map_standard"])
    np.testing.assert_array_equal(once.first_match, again.first_match)


def test_junk_and_distractors():
    # One query (identity 1, camera 0): junk, distractor, match, other identity in the same camera, match.
    ours = scores.score([[0.0, 0.1, 0.2, 0.3, 0.4]], [1], [1, 0, 1, 2, 1], [0], [0, 0, 1, 0, 2])
    assert ours.first_match.tolist() == [2]
    assert ours.nearest.tolist() == [1]
    assert ours["map_standard"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert ours["map_trapezoid"] == pytest.approx(((0 / 1 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2)
    assert ours["minp"] == pytest.approx(2 / 4)


def test_unknown_labels():
    unknown = scores.score([[0.1, 0.2]], [1], [1, 2], [-1], [-1, -1])
    assert unknown.valid_queries == 1
    half = scores.score([[0.1, 0.2], [0.1, 0.2]], [-1, 1], [-1, 1], [-1, -1], [-1, -1])
    assert half.first_match.tolist() == [0, 2]


def test_ties():
    ids = [2, 1, 3, 1]
    assert scores.score([[0.5] * 4], [1], ids, [0], [1] * 4).first_match.tolist() == [2]
    assert scores.score([[0.5] * 4], [1], ids[::-1], [0], [1] * 4).first_match.tolist() == [1]


def test_small_gallery():
    ours = scores.score([[0.2, 0.1, 0.3]], [1], [1, 2, 1], [0], [1, 1, 1])
    assert ours.cmc.tolist() == [0, 1, 1]
    assert (ours.top(1), ours.top(5), ours.top(20)) == (0, 1, 1)
    with pytest.raises(VKDError, match="0"):
        ours.top(0)


def test_label():
    ours = scores.score(
        [[0.2, 0.1]], [1], [1, 2], [0], [1, 1], protocol="i2v", dataset="mars", queries_in_gallery=True
    )
    assert ours.label == "mars I2V, trapezoid AP, queries in the gallery"
    as_dict = ours.as_dict()
    told = ("dataset", "protocol", "ap", "queries_in_gallery", "queries", "valid_queries", "gallery")
    assert [as_dict[key] for key in told] == ["mars", "i2v", "trapezoid", True, 1, 1, 2]
    assert all(isinstance(number, float) for number in ours.numbers().values())
    other = scores.score([[0.2, 0.1]], [1], [1, 2], [0], [1, 1], convention="standard")
    assert other.label == "standard AP, queries not in the gallery"
    assert (other.map, ours.map) == (0.5, 0.25)
    assert other.ap == other.per_query["map_standard"]


@pytest.mark.parametrize("chunk_bytes", [1, 10_000])
def test_chunk_memory(chunk_bytes, monkeypatch):
    generator = np.random.default_rng(0)
    query, gallery = generator.random((50, 4)), generator.random((100, 4))
    sizes: list[int] = []
    compute = scores._distances
    monkeypatch.setattr(scores, "_distances", lambda q, *rest: sizes.append(len(q)) or compute(q, *rest))
    labels = np.zeros(50), np.zeros(100), np.zeros(50), np.ones(100)
    scores.score_features(query, gallery, *labels, chunk_bytes=chunk_bytes)
    assert sum(sizes) == 50
    assert max(sizes) == max(1, chunk_bytes // 400)


@pytest.mark.parametrize(
    ("q_ids", "g_ids", "q_cams", "g_cams", "reason"),
    [
        ([1, 2], [3, 4, 5], [0, 0], [1, 1, 1], "none of the identities of the 2 queries"),
        ([1, 2], [1, 2, 2], [0, 0], [0, 0, 0], "comes from the query's own camera.* camera −1"),
        ([-1, -1], [-1, 2, 2], [0, 0], [1, 1, 1], "none of the identities"),
        ([], [1, 2, 2], [], [0, 0, 0], "there are 0 queries and 3 gallery items"),
    ],
)
def test_no_valid_query(q_ids, g_ids, q_cams, g_cams, reason):
    with pytest.raises(VKDError, match=f"street I2V.*{reason}"):
        scores.score(
            np.zeros((len(q_ids), 3)), q_ids, g_ids, q_cams, g_cams, dataset="street", protocol="i2v"
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad):
    query, gallery = np.ones((3, 4)), np.ones((5, 4))
    labels = ([1] * 3, [1] * 5, [0] * 3, [1] * 5)
    distmat = np.ones((3, 5))
    query[2, 1] = gallery[4, 0] = distmat[1, 3] = bad
    with pytest.raises(VKDError, match="gallery item 4"):
        scores.score_features(np.ones((3, 4)), gallery, *labels)
    with pytest.raises(VKDError, match="query item 2"):
        scores.score_features(query, np.ones((5, 4)), *labels, chunk_bytes=1)
    with pytest.raises(VKDError, match="query 1"):
        scores.score(distmat, *labels)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: scores.distances(np.ones((2, 3)), np.ones((2, 4))), "widths 3 and 4"),
        (lambda: scores.distances(np.ones(3), np.ones((2, 3))), "query embeddings must be a matrix"),
        (lambda: scores.score(np.ones(3), [1], [1], [0], [1]), "matrix of queries × gallery"),
        (lambda: scores.score(np.ones((1, 2)), [1], [1], [0], [1]), "gallery identities must be 2"),
        (lambda: scores.score(np.ones((1, 2)), [1], [1, 1], [0, 0], [1, 1]), "query cameras must be 1"),
        (
            lambda: scores.score(np.ones((1, 1)), [1], [1], [0], [1], convention="area"),
            "'area'.*trapezoid",
        ),
    ],
)
def test_invalid_shapes(call, sentence):
    with pytest.raises(VKDError, match=sentence):
        call()


def test_cosine_distance():
    query, gallery = np.array([[0.0, 0.0], [3e-3, 4e-3]]), np.array([[30.0, 40.0], [-4.0, 3.0]])
    np.testing.assert_allclose(scores.distances(query, gallery), [[1, 1], [0, 1]], atol=1e-7)


def test_integer_distances():
    distmat = np.array([[0, 3, 1, 2], [2, 0, 3, 1]])
    labels = [1, 2], [1, 1, 2, 2], [0, 0], [0, 1, 0, 1]  # an item of each query is junk
    whole, floating = scores.score(distmat, *labels), scores.score(distmat.astype(float), *labels)
    assert np.array_equal(whole.per_query["map_trapezoid"], floating.per_query["map_trapezoid"])
    assert np.array_equal(whole.nearest, floating.nearest)
