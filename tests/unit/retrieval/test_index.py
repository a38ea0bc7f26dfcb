"""Indexes rank as brute force does, alone, among chosen items, after a round trip, and from many threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vkd.io.errors import MissingFileError, VKDError
from vkd.retrieval import index
from vkd.retrieval.gallery import index_rows, nearest
from vkd.retrieval.index import normalise


def features(count=300, width=16, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def brute_force(rows, query, count, among=None):
    cosines = normalise(rows) @ normalise(query[None])[0]
    items = np.arange(len(rows)) if among is None else among
    return items[np.argsort(-cosines[items])[:count]], cosines


@pytest.mark.parametrize("kind", index.INDEXES)
@pytest.mark.parametrize("count", [1, 7, 300, 1000])
def test_nearest(kind, count):
    rows, query = features(), features(1, seed=1)[0]
    items, cosines = nearest(index.make(rows, kind), query, count)
    expected, all_cosines = brute_force(rows, query, count)
    if kind == "exact":
        assert list(items) == list(expected)
    assert len(set(items)) == len(items) == min(count, 300)
    assert len(set(items) & set(expected)) >= 0.9 * len(expected)
    np.testing.assert_allclose(cosines, all_cosines[items], atol=1e-6)
    assert (np.diff(cosines) <= 1e-6).all()


@pytest.mark.parametrize("kind", index.INDEXES)
def test_among(kind):
    """A graph or a few cells may hold few of them: the search must not come back with less than there is."""
    rows, query = features(2000), features(1, seed=1)[0]
    among = np.flatnonzero(brute_force(rows, query, 0)[1] < -0.3)  # far from where the search begins
    items, _ = nearest(index.make(rows, kind), query, 10, among)
    assert len(items) == 10
    assert set(items) <= set(among)
    if kind != "hnsw":
        assert list(items) == list(brute_force(rows, query, 10, among)[0])


def test_among_nothing():
    items, cosines = nearest(index.make(features()), features(1)[0], 5, np.array([], np.int64))
    assert len(items) == len(cosines) == 0


@pytest.mark.parametrize("kind", index.INDEXES)
@pytest.mark.parametrize("count", [1, 3, 500])
def test_round_trip(kind, count, tmp_path):
    rows, path = features(count), tmp_path / "ein Näme.faiss"
    index.write(index.make(rows, kind), path)
    again = index.read(path, items=count, width=16, sha256=index.checksum(path))
    np.testing.assert_allclose(index_rows(again), normalise(rows), atol=1e-6)
    np.testing.assert_allclose(index_rows(again, np.array([count - 1])), normalise(rows[-1:]), atol=1e-6)
    assert nearest(again, rows[0], 1)[0][0] == 0


def test_threads():
    rows, queries = features(3000), features(64, seed=5)
    for kind in index.INDEXES:
        found = index.make(rows, kind)
        alone = [nearest(found, query, 10)[0].tolist() for query in queries]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda query, f=found: nearest(f, query, 10)[0].tolist(), queries))
        assert together == alone


def test_unknown_kind():
    with pytest.raises(VKDError, match="exact, ivf, hnsw"):
        index.make(features(), "tree")


def test_damaged_file(tmp_path):
    path = tmp_path / "a.faiss"
    with pytest.raises(MissingFileError, match=r"a\.faiss"):
        index.read(path, items=300, width=16, sha256="")
    index.write(index.make(features()), path)
    good = index.checksum(path)
    for items, width in ((299, 16), (300, 15)):
        with pytest.raises(VKDError, match="300 rows of 16"):
            index.read(path, items=items, width=width, sha256=good)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(VKDError, match="damaged"):
        index.read(path, items=300, width=16, sha256=good)
    path.write_bytes(b"not an index at all" * 100)
    with pytest.raises(VKDError, match="cannot be read"):
        index.read(path, items=300, width=16, sha256=index.checksum(path))


def test_few_rows_print_nothing(capfd):
    index.make(np.eye(6, 8, dtype=np.float32), "ivf")
    assert "".join(capfd.readouterr()) == ""
