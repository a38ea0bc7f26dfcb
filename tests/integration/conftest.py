"""A trained teacher for whole runs."""

from pathlib import Path

import pytest

from tests.support.training import events_of, teacher_settings


@pytest.fixture(scope="session")
def teacher(small_street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    events_of(teacher_settings(small_street), folder)
    return folder


@pytest.fixture(scope="session")
def uninterrupted(small_street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs; tests go on with copies."""
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    events_of(teacher_settings(small_street, epochs=4), folder)
    return folder
