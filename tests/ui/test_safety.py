"""Visitors do not see each other, and nothing leaves the machine."""

import hashlib
import http.client
import ipaddress
import shutil
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client
from PIL import Image

from tests.support.app import served
from tests.support.images import image_value, search, write_noise
from vkd.io.images import read_image
from vkd.ui import html
from vkd.ui.state import AppPaths


def view_of(path: Path) -> str:
    """Returns the data URI under which a page shows this query image."""
    return html.array_uri(read_image(path).permute(1, 2, 0).numpy(), height=144)


def test_visitors_get_their_own_images(app_client: Client, tmp_path: Path) -> None:
    files = [write_noise(tmp_path / f"visitor-{visitor}.png", visitor) for visitor in range(4)]

    def visit(visitor: int) -> list[str]:
        client = Client(app_client.src, verbose=False)
        return [search(client, image_value(files[visitor]))[0] for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(visit, range(4)))
    for visitor, answers in enumerate(pages):
        for page in answers:
            assert [view_of(file) in page for file in files] == [other == visitor for other in range(4)]


HOSTS: list[Any] = []
WATCHING: list[bool] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: it cannot be taken off again, so it is switched."""
    if WATCHING and event in ("socket.connect", "socket.getaddrinfo"):
        HOSTS.append(arguments[1][0] if event == "socket.connect" else arguments[0])


def use_everything(client: Client, query: list[Any], street: Path) -> None:
    """Uses every action of Retrieve and Explain once."""
    pair = ("tiny-teacher", "tiny-student")
    _, data = search(client, query)
    item = data["teacher"]["hits"][0]["item"]
    searched = (query, "street-gallery", *pair, 3, [], True, "1 %")
    client.predict(*searched, api_name="/search_table")
    client.predict(*searched, api_name="/search_picture")
    client.predict(query, "street-gallery", item, *pair, api_name="/explain_match")
    explained = (query, query, "second image", "layercam", *pair)
    client.predict(*explained, api_name="/explain")
    client.predict(*explained, api_name="/explain_picture")
    client.predict(str(street), None, "built-here", *pair, api_name="/gallery_build")


def test_process_connects_to_this_machine_only(
    app_paths: AppPaths, small_street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does an app that is opened, which is why this one is its own."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    sys.addaudithook(watch)
    WATCHING.append(True)
    try:
        with served(app_paths) as client:
            use_everything(client, image_value(write_noise(tmp_path / "a.png")), small_street)
    finally:
        WATCHING.clear()
    shutil.rmtree(app_paths.checkpoints / "built-here")
    hosts = {host.decode() if isinstance(host, bytes) else str(host) for host in HOSTS if host}
    assert hosts, "the hook heard nothing"
    assert not [host for host in hosts - {"localhost"} if not ipaddress.ip_address(host).is_loopback]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 64), "purple").save(tmp_path / "secret.png")
    return tmp_path / "secret.png"


def test_uploads_have_unguessable_paths(app_client: Client, secret: Path) -> None:
    client = Client(app_client.src, verbose=False)
    search(client, image_value(secret))
    values = (image_value(secret), "street-gallery", "tiny-teacher", "", 3, [], False, "10 %")
    client.predict(*values, api_name="/search_table")
    root, content = Path(get_upload_folder()), secret.read_bytes()
    folders = {path.parent.name for path in root.rglob("secret.png") if path.read_bytes() == content}
    # Not under a name that could be worked out by somebody who has, or guesses, the image itself.
    digest = hashlib.sha256(content).hexdigest()
    assert folders
    assert digest not in folders
    for guess in (root, root / digest, root / digest / "secret.png", root / "*" / "secret.png"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{app_client.src}gradio_api/file={quote(str(guess))}")
        assert refused.value.code in (403, 404)


def test_other_sessions_hear_nothing(app_client: Client, secret: Path) -> None:
    def listen(session: str) -> str:
        try:
            url = f"{app_client.src}gradio_api/queue/data?session_hash={session}"
            with urllib.request.urlopen(url, timeout=5) as stream:
                return stream.read(100_000).decode()
        except (OSError, http.client.HTTPException) as error:  # it hangs up on others
            return str(error)

    client = Client(app_client.src, verbose=False)
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(listen, "somebodyelse")
        for _ in range(5):
            search(client, image_value(secret))
        again = pool.submit(listen, client.session_hash)  # what was sent once is sent to nobody again
    for stream in (other.result(), again.result()):
        assert "secret" not in stream
        assert "hits" not in stream


# ---- pages of other web sites


def status(app_client: Client, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    """Returns the status and the headers (lowercase) of one raw request."""
    server = urlsplit(app_client.src)
    connection = http.client.HTTPConnection(server.hostname or "", server.port, timeout=20)
    try:
        connection.request(method, f"/{path}", body=b"{}" if method == "POST" else None, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


ROUTES = ("", "config", "gradio_api/info", "gradio_api/file=x", "gradio_api/queue/data?session_hash=x")
WRITES = (
    "gradio_api/upload",
    "gradio_api/queue/join",
    "gradio_api/component_server",
    "gradio_api/call/train_delete",
    "gradio_api/run/hub_push",
    "gradio_api/cancel",
    "login",
)


@pytest.mark.parametrize("path", ROUTES + WRITES)
def test_foreign_host_is_refused(app_client: Client, path: str) -> None:
    method = "POST" if path in WRITES else "GET"
    assert status(app_client, method, path, Host="attacker.example")[0] == 403


@pytest.mark.parametrize("origin", ["https://attacker.example", "null", "http://localhost:1"])
@pytest.mark.parametrize("path", WRITES)
def test_foreign_origin_is_refused(app_client: Client, path: str, origin: str) -> None:
    assert status(app_client, "POST", path, Origin=origin)[0] == 403


def test_page_is_compressed_and_not_framed(app_client: Client) -> None:
    code, headers = status(app_client, "GET", "", **{"Accept-Encoding": "gzip"})
    assert code == 200
    assert headers["content-encoding"] == "gzip"
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
