"""Helpers of tests that talk to the app: a free port, a served page, the message of a refusal."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from vkd.ui.state import AppPaths


def free_port() -> int:
    """Returns a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(paths: AppPaths) -> Iterator[Client]:
    """Serves the whole app over `paths`; yields a client of its endpoints."""
    from vkd.ui import app

    page = app.build(paths.checkpoints, paths.gallery)
    try:
        yield Client(app.launch(page, paths.checkpoints, "127.0.0.1", free_port()), verbose=False)
    finally:
        page.close()


def error_of(call: Callable[..., Any], *args: Any, **more: Any) -> str:
    """Returns the message that the page or a program is refused with."""
    with pytest.raises((AppError, gr.Error)) as refused:
        call(*args, **more)
    return getattr(refused.value, "message", str(refused.value))


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Returns the first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return value
