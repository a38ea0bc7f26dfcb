"""Galleries built in the app: from folders and zips, watched, cancelled, refused."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.support.zips import jpeg, pack
from tests.ui.test_app import free_port, load_app
from vkd.ui import mode, state
from vkd.ui.retrieve import build as retrieve_build
from vkd.ui.retrieve import gallery_jobs
from vkd.ui.state import AppPaths


@pytest.fixture
def paths(tiny_pair: tuple[Path, Path], tmp_path: Path) -> AppPaths:
    root = tmp_path / "checkpoints"
    for folder in tiny_pair:
        shutil.copytree(folder, root / folder.name)
    return AppPaths.of(root)


@pytest.fixture
def client(paths: AppPaths) -> Iterator[Client]:
    app = load_app()
    page = app.build(paths.checkpoints)
    yield Client(app.launch(page, paths.checkpoints, "127.0.0.1", free_port()), verbose=False)
    page.close()


def build(client: Client, folder: str = "", archive: Path | None = None, name: str = "") -> dict[str, Any]:
    given = handle_file(archive) if archive else None
    return client.predict(folder, given, name, "tiny-teacher", "tiny-student", api_name="/gallery_build")[1]


def test_a_street_becomes_a_gallery_that_can_be_searched(
    client: Client, paths: AppPaths, small_street: Path
) -> None:
    told = build(client, str(small_street), name="my-street")
    assert (told["state"], told["left_out"]) == ("done", 0)
    assert [folder.name for folder in state.gallery_folders(paths)] == ["my-street"]
    query = next((small_street / "bbox_test").rglob("*.jpg"))
    _, data = client.predict(
        [{"image": handle_file(query), "caption": None}], "my-street", "tiny-teacher", "tiny-student",
        3, [], False, "1 in 100", api_name="/search",
    )  # fmt: skip
    assert len(data["teacher"]["hits"]) == 3


def test_a_zip_becomes_a_gallery_with_its_names(client: Client, paths: AppPaths, tmp_path: Path) -> None:
    entries = {f"mine/{who}/{n}.jpg": jpeg() for who in ("anna", "bert") for n in range(3)}
    told = build(client, archive=pack(tmp_path / "My Pictures.zip", {**entries, "mine/anna/bad.jpg": b"x"}))
    assert told | {"step": ""} == {
        "name": "my-pictures-gallery", "state": "done", "step": "", "done": told["done"],
        "total": told["total"], "items": 6, "left_out": 1, "wrong": "",
    }  # fmt: skip
    gallery = state.load_gallery(paths.checkpoints / "my-pictures-gallery")
    assert {gallery.search("tiny-teacher", row, 1)[0].name for row in gallery.embeddings("tiny-teacher")} <= {
        "anna", "bert",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "name", "sentence"),
    [
        ("", "", "Give either a folder"),
        ("/nowhere/at/all", "", "does not exist"),
        (".", "../outside", "cannot name a gallery"),
        (".", "tiny-teacher", "already"),
    ],
)
def test_wrong_wishes_are_refused_with_a_sentence(
    client: Client, folder: str, name: str, sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        build(client, folder, name=name)


def test_a_bad_zip_leaves_nothing_behind(client: Client, paths: AppPaths, tmp_path: Path) -> None:
    before = sorted(path.name for path in paths.checkpoints.iterdir())
    told = build(client, archive=pack(tmp_path / "bad.zip", {"../../evil.jpg": jpeg()}))
    assert told["state"] == "failed"
    assert "leads out of its folder" in told["wrong"]
    assert sorted(path.name for path in paths.checkpoints.iterdir()) == before
    assert not (tmp_path / "evil.jpg").exists()


def slowly(progress: Callable[..., Iterable[Any]]) -> Callable[..., Iterable[Any]]:
    def wrapper(*args: Any) -> Iterator[Any]:
        for item in progress(*args):
            time.sleep(0.05)
            yield item

    return wrapper


def test_a_build_can_be_cancelled_and_nothing_of_it_is_kept(
    paths: AppPaths, small_street: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_jobs.Job, "progress", slowly(gallery_jobs.Job.progress))
    watched = retrieve_build.build_gallery(paths, str(small_street), None, "mine", "tiny-teacher", None)
    page, data = next(watched)
    assert data["state"] == "building"
    assert "step 1 of 2" in page
    with pytest.raises(Exception, match="mine is being built"):
        next(retrieve_build.build_gallery(paths, str(small_street), None, "other", "tiny-teacher", None))
    assert "Stopping" in retrieve_build.cancel_gallery(paths, "mine")
    *_, (_, last) = watched
    assert last["state"] == "cancelled"
    assert sorted(path.name for path in paths.checkpoints.iterdir()) == ["tiny-student", "tiny-teacher"]
    with pytest.raises(Exception, match="is being built"):
        retrieve_build.cancel_gallery(paths)


def test_a_public_demo_builds_nothing(paths: AppPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "DEMO", True)
    with pytest.raises(Exception, match="public demo"):
        next(retrieve_build.build_gallery(paths, "/tmp", None, "mine", "tiny-teacher", None))
    with pytest.raises(Exception, match="public demo"):
        retrieve_build.cancel_gallery(paths)
