"""What ships beside the demo pair: queries spread over people; no folder of something else is replaced."""

import json
from pathlib import Path

import numpy as np
import pytest

from vkd.cli.demo_gallery import VIEWS, build_demo, choose_queries, write_queries
from vkd.data.tracklets import Tracklet
from vkd.retrieval.gallery import Gallery


def walkers(people: int, cameras: int, frames: int = 8) -> list[Tracklet]:
    return [
        Tracklet(tuple(f"/street/{person}-{camera}-{frame}.jpg" for frame in range(frames)), person, camera)
        for person in range(1, people + 1)
        for camera in range(cameras)
    ]


def test_queries_are_spread_over_people_and_cameras() -> None:
    shown = choose_queries(walkers(12, 3), dict.fromkeys(range(1, 13), 7), 6)
    assert [query.tracklet.identity for query in shown] == [1, 3, 5, 7, 9, 11]
    assert [query.tracklet.camera for query in shown] == [0, 1, 2, 0, 1, 2]
    assert [query.pictures for query in shown] == [1, VIEWS, 1, VIEWS, 1, VIEWS]
    assert {query.group for query in shown} == {7}


def test_fewer_people_give_fewer_queries() -> None:
    assert len(choose_queries(walkers(2, 2), {}, 8)) == 2
    with pytest.raises(ValueError, match="write a larger one"):
        choose_queries([], {}, 8)


def test_queries_are_frames_that_the_gallery_did_not_take(tmp_path: Path) -> None:
    street = tmp_path / "street"
    street.mkdir()
    frames = tuple(str(street / f"{frame}.jpg") for frame in range(8))
    for frame in frames:
        Path(frame).write_bytes(b"picture")
    shown = choose_queries([Tracklet(frames, 5, 2)], {5: 1}, 1)
    for _ in range(2):  # the second time they replace the first
        folder = write_queries(tmp_path / "queries", shown)
    assert json.loads((folder / "queries.json").read_text()) == [
        {"file": "1.jpg", "identity": 5, "camera": 2, "group": 1}
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["1.jpg", "queries.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["queries", "street"]  # nothing half made


def test_queries_never_replace_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(ValueError, match="not a set of queries"):
        write_queries(tmp_path, [])
    assert (tmp_path / "precious.txt").read_text() == "keep"


def test_a_street_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        build_demo(tmp_path / "nowhere", tmp_path, tmp_path, tmp_path)


def test_what_ships_can_be_searched_and_does_not_tell_where_it_was_made(
    tmp_path: Path, small_street: Path, tiny_pair: tuple[Path, Path]
) -> None:
    gallery, queries = build_demo(small_street, *tiny_pair, tmp_path, identities=4, queries=2)

    assert str(small_street.parent) not in (gallery / "gallery.json").read_text(encoding="utf-8")
    rows = json.loads((queries / "queries.json").read_text(encoding="utf-8"))
    assert {row["file"] for row in rows} == {path.name for path in queries.glob("*.jpg")}
    assert {path.stem for path in (queries / "masks").iterdir()} == {Path(row["file"]).stem for row in rows}
    found = Gallery.load(gallery)
    assert set(found.networks) == {folder.name for folder in tiny_pair}
    assert all(
        frame.startswith(f"{small_street.name}/")
        for frame in found.search(found.networks[0], np.ones(32))[0].frames
    )
