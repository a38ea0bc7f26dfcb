"""A student's run beside its teacher's, with all that such folders hold."""

from pathlib import Path

import pytest

from tests.support.student_run import make


@pytest.fixture
def student_run(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Path:
    return make(tmp_path / "runs", tiny_pair)
