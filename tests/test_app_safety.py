"""Visitors do not see each other, nothing leaves the machine, and MCP says what it needs."""

import ipaddress
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from tests.test_app import ask, checkpoints, free_port, load_app, picture
from vkd.pictures import read_picture
from vkd.ui import cards

__all__ = ["checkpoints"]  # a fixture


@pytest.fixture(scope="module")
def address(checkpoints: Path) -> Iterator[str]:
    app = load_app()
    page = app.build(checkpoints)
    yield app.launch(page, checkpoints, "127.0.0.1", free_port())
    page.close()


def shown(path: Path) -> str:
    """The data URI under which a page shows this picture."""
    return cards.picture_uri(read_picture(path).permute(1, 2, 0).numpy(), height=144)


def test_no_visitor_is_ever_answered_with_anothers_picture(address: str, tmp_path: Path) -> None:
    files = []
    for visitor in range(4):
        pixels = np.random.default_rng(visitor).integers(0, 255, (64, 32, 3), np.uint8)
        files.append(tmp_path / f"visitor-{visitor}.png")
        Image.fromarray(pixels).save(files[-1])

    def visit(visitor: int) -> list[str]:
        client = Client(address, verbose=False)
        return [ask(client, picture(files[visitor]))[0] for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(visit, range(4)))
    for visitor, answers in enumerate(pages):
        for page in answers:
            assert [shown(file) in page for file in files] == [other == visitor for other in range(4)]


ASKED: list[Any] = []
WATCHING: list[bool] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: it cannot be taken off again, so it is switched."""
    if WATCHING and event in ("socket.connect", "socket.getaddrinfo"):
        ASKED.append(arguments[1][0] if event == "socket.connect" else arguments[0])


def test_the_process_talks_to_this_machine_only(checkpoints: Path, tmp_path: Path) -> None:
    Image.new("RGB", (32, 64), "teal").save(tmp_path / "a.png")
    sys.addaudithook(watch)
    WATCHING.append(True)
    try:
        app = load_app()
        page = app.build(checkpoints)
        client = Client(app.launch(page, checkpoints, "127.0.0.1", free_port()), verbose=False)
        ask(client, picture(tmp_path / "a.png"))
        page.close()
    finally:
        WATCHING.clear()
    hosts = {host.decode() if isinstance(host, bytes) else str(host) for host in ASKED if host}
    assert hosts, "the hook heard nothing"
    assert {
        host for host in hosts if host != "localhost" and not ipaddress.ip_address(host).is_loopback
    } == set()


def test_mcp_says_what_to_install(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = load_app()
    find = app.importlib.util.find_spec
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None if name == "mcp" else find(name))
    with pytest.raises(SystemExit):
        app.main(["--mcp", "--checkpoints", str(checkpoints)])
    assert "pip install 'gradio[mcp]'" in capsys.readouterr().err
