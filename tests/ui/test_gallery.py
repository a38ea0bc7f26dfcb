"""Galleries built in the app: from folders and zips, with progress, cancelled, refused."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.support.app import error_of
from tests.support.images import image_value, search
from tests.support.zips import jpeg, pack
from vkd.jobs.background import BackgroundJob
from vkd.ui import mode, state
from vkd.ui.retrieve import build
from vkd.ui.state import AppPaths

PAIR = ("tiny-teacher", "tiny-student")


@pytest.fixture(autouse=True)
def clean(app_paths: AppPaths) -> Iterator[None]:
    before = set(app_paths.checkpoints.iterdir())
    yield
    for added in set(app_paths.checkpoints.iterdir()) - before:
        shutil.rmtree(added)


def build_gallery(
    client: Client, folder: str = "", archive: Path | None = None, name: str = ""
) -> dict[str, Any]:
    file = handle_file(archive) if archive else None
    return client.predict(folder, file, name, *PAIR, api_name="/gallery_build")[1]


def test_dataset_becomes_gallery(app_client: Client, app_paths: AppPaths, small_street: Path) -> None:
    job = build_gallery(app_client, str(small_street), name="my-street")
    assert (job["state"], job["left_out"], job["error"]) == ("done", 0, "")
    assert "my-street" in [folder.name for folder in state.gallery_folders(app_paths)]
    query = next((small_street / "bbox_test").rglob("*.jpg"))
    _, data = search(app_client, image_value(query), gallery="my-street", top_k=3)
    assert len(data["teacher"]["hits"]) == 3


def test_zip_becomes_gallery_with_names(app_client: Client, app_paths: AppPaths, tmp_path: Path) -> None:
    entries = {f"mine/{who}/{n}.jpg": jpeg() for who in ("anna", "bert") for n in range(3)}
    packed = pack(tmp_path / "My Images.zip", {**entries, "mine/anna/bad.jpg": b"x"})
    job = build_gallery(app_client, archive=packed)
    assert [job[key] for key in ("name", "state", "items", "left_out")] == ["my-images-gallery", "done", 6, 1]
    gallery = state.load_gallery(app_paths.checkpoints / "my-images-gallery")
    names = {gallery.search("tiny-teacher", row, 1)[0].name for row in gallery.embeddings("tiny-teacher")}
    assert names <= {"anna", "bert"}


@pytest.mark.parametrize(
    ("folder", "name", "value"),
    [
        ("", "", "folder"),
        ("/nowhere/at/all", "", "/nowhere/at/all"),
        (".", "../outside", "../outside"),
        (".", "tiny-teacher", "tiny-teacher"),
    ],
    ids=["nothing", "missing", "name", "taken"],
)
def test_invalid_requests(app_client: Client, folder: str, name: str, value: str) -> None:
    with pytest.raises(AppError) as refused:
        build_gallery(app_client, folder, name=name)
    assert value in str(refused.value)


def test_malicious_zip_leaves_nothing(app_client: Client, app_paths: AppPaths, tmp_path: Path) -> None:
    before = sorted(app_paths.checkpoints.iterdir())
    job = build_gallery(app_client, archive=pack(tmp_path / "bad.zip", {"../../evil.jpg": jpeg()}))
    assert job["state"] == "failed"
    assert "bad.zip" in job["error"]
    assert sorted(app_paths.checkpoints.iterdir()) == before
    assert not (tmp_path / "evil.jpg").exists()


def test_cancel_keeps_nothing(paths: AppPaths, small_street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, report = threading.Event(), BackgroundJob.progress

    def slow(job: BackgroundJob, *step: Any) -> None:
        go_on.wait(20)
        report(job, *step)

    monkeypatch.setattr(BackgroundJob, "progress", slow)
    watched = build.build_gallery(paths, str(small_street), None, "mine", "tiny-teacher", None)
    page, data = next(watched)
    assert data["state"] == "running"
    assert 'role="progressbar"' in page
    other = build.build_gallery(paths, str(small_street), None, "other", "tiny-teacher", None)
    assert "mine" in error_of(next, other)
    assert next(build.watch_again(paths))[1]["name"] == "mine"
    assert "Cancelling" in build.cancel_gallery(paths, "mine")
    go_on.set()
    *_, (_, last) = watched
    assert last["state"] == "cancelled"
    assert sorted(path.name for path in paths.checkpoints.iterdir()) == sorted(PAIR)
    assert "No gallery" in error_of(build.cancel_gallery, paths)


def test_demo_builds_nothing(paths: AppPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "DEMO", True)
    for refused in (
        lambda: next(build.build_gallery(paths, "/tmp", None, "mine", "tiny-teacher", None)),
        lambda: build.cancel_gallery(paths),
    ):
        assert "public demo" in error_of(refused)
