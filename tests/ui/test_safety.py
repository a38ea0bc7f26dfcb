"""Visitors do not see each other, nothing leaves the machine, and MCP says what it needs."""

import hashlib
import http.client
import ipaddress
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client
from PIL import Image

from tests.ui.test_app import ask, checkpoints, free_port, load_app, picture
from vkd.io.images import read_image
from vkd.ui import html

__all__ = ["checkpoints"]  # a fixture


@pytest.fixture(scope="module")
def address(checkpoints: Path) -> Iterator[str]:
    app = load_app()
    page = app.build(checkpoints)
    yield app.launch(page, checkpoints, "127.0.0.1", free_port())
    page.close()


def shown(path: Path) -> str:
    """The data URI under which a page shows this picture."""
    return html.array_uri(read_image(path).permute(1, 2, 0).numpy(), height=144)


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


def use_everything(client: Client, shown: list[Any], street: Path) -> None:
    """Every action of Retrieve and Explain once."""
    networks = ("tiny-teacher", "tiny-student")
    _, data = ask(client, shown)
    item = data["teacher"]["hits"][0]["item"]
    searched = (shown, "street-gallery", *networks, 3, [], True, "1 in 100")
    client.predict(*searched, api_name="/search_table")
    client.predict(*searched, api_name="/search_picture")
    client.predict(shown, "street-gallery", item, *networks, api_name="/explain_match")
    explained = (shown, shown, "second picture", "layercam", *networks)
    client.predict(*explained, api_name="/explain")
    client.predict(*explained, api_name="/explain_picture")
    client.predict(str(street), None, "built-here", *networks, api_name="/gallery_build")


def test_the_process_talks_to_this_machine_only(
    checkpoints: Path, small_street: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (32, 64), "teal").save(tmp_path / "a.png")
    root = tmp_path / "checkpoints"
    shutil.copytree(checkpoints, root)
    sys.addaudithook(watch)
    WATCHING.append(True)
    try:
        app = load_app()
        page = app.build(root)
        client = Client(app.launch(page, root, "127.0.0.1", free_port()), verbose=False)
        use_everything(client, picture(tmp_path / "a.png"), small_street)
        page.close()
    finally:
        WATCHING.clear()
    assert (root / "built-here" / "gallery.json").is_file()
    hosts = {host.decode() if isinstance(host, bytes) else str(host) for host in ASKED if host}
    assert hosts, "the hook heard nothing"
    assert {
        host for host in hosts if host != "localhost" and not ipaddress.ip_address(host).is_loopback
    } == set()


def test_a_visitors_files_are_found_by_nobody_who_was_not_told_where(address: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 64), "purple").save(tmp_path / "secret.png")
    secret = (tmp_path / "secret.png").read_bytes()
    client = Client(address, verbose=False)
    ask(client, picture(tmp_path / "secret.png"))
    asked = (picture(tmp_path / "secret.png"), "street-gallery", "tiny-teacher", "", 3, [], False, "1 in 10")
    client.predict(*asked, api_name="/search_table")
    kept = Path(get_upload_folder())
    paths = {path.parent.name for path in kept.rglob("secret.png") if path.read_bytes() == secret}
    # Not under a name that could be worked out by somebody who has, or guesses, the picture itself.
    assert paths
    assert hashlib.sha256(secret).hexdigest() not in paths
    digest = hashlib.sha256(secret).hexdigest()
    for guess in (kept, kept / digest, kept / digest / "secret.png", kept / "*" / "secret.png"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}gradio_api/file={quote(str(guess))}")
        assert refused.value.code in (403, 404)


def test_a_strangers_session_hears_nothing_of_anothers_search(address: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 64), "purple").save(tmp_path / "secret.png")

    def listen(session: str) -> str:
        try:
            with urllib.request.urlopen(
                f"{address}gradio_api/queue/data?session_hash={session}", timeout=5
            ) as stream:
                return stream.read(100_000).decode()
        except (OSError, http.client.HTTPException) as error:  # it hangs up on strangers
            return str(error)

    client = Client(address, verbose=False)
    with ThreadPoolExecutor(2) as pool:
        heard = pool.submit(listen, "somebodyelse")
        for _ in range(5):
            ask(client, picture(tmp_path / "secret.png"))
        again = pool.submit(listen, client.session_hash)  # what was told once is told to nobody again
    for stream in (heard.result(), again.result()):
        assert "secret" not in stream
        assert "hits" not in stream


def test_mcp_says_what_to_install(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = load_app()
    find = app.importlib.util.find_spec
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None if name == "mcp" else find(name))
    with pytest.raises(SystemExit):
        app.main(["--mcp", "--checkpoints", str(checkpoints)])
    assert "pip install 'gradio[mcp]'" in capsys.readouterr().err
