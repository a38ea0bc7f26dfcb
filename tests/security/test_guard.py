"""Other web sites cannot use the app through a visitor's browser: hosts, origins, framing."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from vkd.ui import guard


def client(host: str = "127.0.0.1", on_space: bool = False) -> TestClient:
    async def answer(request):
        return PlainTextResponse("answered")

    routes = [Route("/{path:path}", answer, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])]
    middleware = [guard.middleware(host, on_space)]
    return TestClient(Starlette(routes=routes, middleware=middleware))


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:7860", "127.0.0.1:7860", "[::1]:7860", "[::1]", "LOCALHOST:1", "localhost."],
)
def test_loopback_names_are_answered(host: str) -> None:
    assert client().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["attacker.example", "attacker.example:7860", "127.0.0.1.attacker.example", "localhost.attacker.example",
     "10.0.0.7:7860", "0.0.0.0:7860", "localhost@attacker.example", "", "[::1", "localhost, attacker.example",
     "attacker.example#localhost", "2130706433"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_other_hosts_are_refused(host: str, method: str) -> None:
    answer = client().request(method, "/gradio_api/queue/join", headers={"Host": host})
    assert answer.status_code == 403
    assert "answered" not in answer.text


@pytest.mark.parametrize(
    "origin",
    ["https://attacker.example", "null", "http://localhost:7861", "http://127.0.0.1:7860", "file://localhost:7860",
     "http://localhost:7860.attacker.example", "http://user@localhost:7860x", ""],
)  # fmt: skip
@pytest.mark.parametrize(
    "path", ["/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/mcp/", "/login"]
)
def test_foreign_origins_are_refused(origin: str, path: str) -> None:
    headers = {"Host": "localhost:7860", "Origin": origin}
    assert client().post(path, headers=headers).status_code == 403


def test_the_page_itself_and_programs_are_answered() -> None:
    assert (
        client().post("/x", headers={"Host": "localhost:7860", "Origin": "http://localhost:7860"}).status_code
        == 200
    )
    assert client().post("/x", headers={"Host": "localhost:7860"}).status_code == 200
    # Reading needs no origin check: the browser's own policy keeps the answer from another site's page.
    headers = {"Host": "localhost:7860", "Origin": "https://attacker.example"}
    assert client().get("/x", headers=headers).status_code == 200


def test_hosts_that_the_app_was_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VKD_HOSTS", "vkd.example, Other.Example")
    monkeypatch.setenv("GRADIO_ROOT_PATH", "https://proxy.example/vkd")
    one = client("192.168.1.5")
    for host in ("192.168.1.5:7860", "vkd.example", "other.example:80", "proxy.example", "localhost"):
        assert one.get("/", headers={"Host": host}).status_code == 200, host
    assert one.get("/", headers={"Host": "192.168.1.6"}).status_code == 403
    proxied = {"Host": "vkd.example:7860", "Origin": "https://vkd.example"}
    assert one.post("/", headers=proxied).status_code == 200


def test_every_interface_answers_to_addresses_and_not_to_names() -> None:
    one = client("0.0.0.0")
    assert one.get("/", headers={"Host": "10.0.0.7:7860"}).status_code == 200
    assert one.get("/", headers={"Host": "attacker.example:7860"}).status_code == 403
    headers = {"Host": "10.0.0.7:7860", "Origin": "http://10.0.0.8:7860"}
    assert one.post("/", headers=headers).status_code == 403


def test_a_space_answers_to_its_own_name_and_is_framed_by_its_host_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPACE_HOST", "user-vkd.hf.space")
    answer = client("0.0.0.0", on_space=True).get("/", headers={"Host": "user-vkd.hf.space"})
    assert answer.status_code == 200
    assert (
        answer.headers["content-security-policy"]
        == "frame-ancestors https://huggingface.co https://*.hf.space"
    )
    assert "x-frame-options" not in answer.headers


def test_framing_is_refused() -> None:
    headers = client().get("/", headers={"Host": "localhost"}).headers
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"


def test_refused_requests_reach_nothing(tmp_path: Path) -> None:
    async def write(request):
        (tmp_path / "written").touch()
        return PlainTextResponse("")

    app = guard.Guard(
        Starlette(routes=[Route("/", write, methods=["POST"])]), guard.allowed_hosts("127.0.0.1")
    )
    TestClient(app).post("/", headers={"Host": "attacker.example"})
    assert not (tmp_path / "written").exists()
