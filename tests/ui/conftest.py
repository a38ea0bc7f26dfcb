"""One app for the session, over a checkpoints folder as it ships: an untrained pair, a gallery, examples."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client

from tests.support.app import served
from tests.support.demo import build_demo
from vkd.ui.state import AppPaths


@pytest.fixture(scope="session", autouse=True)
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Uploads of this session's own: apps that share a folder of uploads delete each other's at their end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        yield


def copied(pair: tuple[Path, Path], folder: Path) -> AppPaths:
    for checkpoint in pair:
        shutil.copytree(checkpoint, folder / "checkpoints" / checkpoint.name)
    return AppPaths.of(folder / "checkpoints")


@pytest.fixture
def paths(tiny_pair: tuple[Path, Path], tmp_path: Path) -> AppPaths:
    """Folders of a test that needs no page: a checkpoints folder with a copy of the pair."""
    return copied(tiny_pair, tmp_path)


@pytest.fixture(scope="session")
def app_paths(
    small_street: Path, tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> AppPaths:
    """Folders of the session's app. Whoever adds a checkpoint or a gallery removes it."""
    paths = copied(tiny_pair, tmp_path_factory.mktemp("app"))
    pair = [paths.checkpoints / checkpoint.name for checkpoint in tiny_pair]
    build_demo(small_street, *pair, paths.checkpoints, identities=8, queries=4)
    return paths


@pytest.fixture(scope="session")
def app_client(app_paths: AppPaths) -> Iterator[Client]:
    """A client of the session's app."""
    with served(app_paths) as client:
        yield client
