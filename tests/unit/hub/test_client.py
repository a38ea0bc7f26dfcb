"""Errors of the Hub's client become sentences, and a token is in none of them, nor anywhere else."""

import errno
import logging
from pathlib import Path

import pytest

from tests.support.hub_server import Hub
from tests.unit.hub.test_pull import is_sentence
from vkd.hub import client
from vkd.hub import pull as hubs

TOKEN = "hf_" + "Secret" * 6


def answered(status: int, **headers: str) -> Exception:
    """The error that the client makes of an answer."""
    from huggingface_hub.utils import hf_raise_for_status, httpx

    asked = httpx.Request("GET", "https://huggingface.co/api/models/user/repo")
    response = httpx.Response(
        status, request=asked, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    with pytest.raises(Exception) as caught:
        hf_raise_for_status(response)
    return caught.value


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (401, {"X_Error_Message": "Invalid credentials in Authorization header"}, PermissionError),
        (401, {}, FileNotFoundError),  # the Hub does not say whether a private repository exists
        (404, {"X_Error_Code": "RepoNotFound"}, FileNotFoundError),
        (404, {"X_Error_Code": "RevisionNotFound"}, FileNotFoundError),
        (404, {"X_Error_Code": "EntryNotFound"}, FileNotFoundError),
        (403, {"X_Error_Code": "GatedRepo"}, PermissionError),
        (403, {"X_Error_Message": "Access to this resource is disabled."}, PermissionError),
        (403, {}, PermissionError),
        (400, {"X_Error_Message": f"no {TOKEN}"}, ValueError),
        (409, {}, ValueError),
        (412, {}, ValueError),
        (429, {}, ConnectionError),
        (500, {}, ConnectionError),
        (504, {}, ConnectionError),
        (451, {}, OSError),
    ],
)
def test_an_answer_becomes_a_sentence(status: int, headers: dict[str, str], kind: type[Exception]):
    error = answered(status, **headers)
    found = client.refusal(error, "user/repo", "v1", TOKEN)
    assert type(found) is kind
    assert is_sentence(str(found))
    assert TOKEN not in str(found)
    assert hubs.describe(error)  # without knowing the repository


def test_what_lies_beneath_is_told():
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import httpx

    for wrapper in (LocalEntryNotFoundError("not here"), RuntimeError("Error while uploading")):
        wrapper.__cause__ = httpx.ConnectError(f"refused for {TOKEN}")
        assert "cannot be reached" in hubs.describe(wrapper)


def test_a_full_disk_is_told():
    assert "the disk is full" in hubs.describe(OSError(errno.ENOSPC, "No space left on device"))


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"x={TOKEN}&y",
        f"Bearer {TOKEN}",
        "authorization: bearer abc.def",
        f"https://user:{TOKEN}@host/x",
    ],
)
def test_tokens_are_redacted(text: str):
    found = hubs.describe(Exception(f"failed: {text}"))
    assert "Secret" not in found
    assert "abc.def" not in found
    assert "failed" in found


def test_a_token_of_another_form_is_redacted_too():
    odd = "oauth-jwt-eyJhbGciOi"
    assert odd not in str(client.refusal(OSError(f"failed with {odd}"), "user/repo", None, odd))


def test_a_token_is_left_nowhere(
    hub: Hub, tmp_path: Path, tiny_pair: tuple[Path, Path], caplog, monkeypatch: pytest.MonkeyPatch
):
    """Neither in files (the client's cache included) nor in logs or output, whatever happens."""
    caplog.set_level(logging.DEBUG)
    for logger in ("huggingface_hub", "httpx2", "vkd"):
        monkeypatch.setattr(logging.getLogger(logger), "propagate", True)
    options = {"token": hub.token, "endpoint": hub.endpoint}
    hubs.push(tiny_pair[0], "user/tiny", **options)
    hubs.pull("user/tiny", tmp_path / "checkpoints", **options)
    hub.fault("/", times=99, status=500, message=f"what is {hub.token}")
    for call in (
        lambda: hubs.pull("user/new", tmp_path, **options),
        lambda: hubs.push(tiny_pair[0], "user/new", **options),
    ):
        with pytest.raises(ConnectionError) as caught:
            call()
        assert hub.token not in str(caught.value)
    assert any(each.authorized for each in hub.requests)
    for path in (*tmp_path.rglob("*"), *tiny_pair[0].rglob("*")):
        assert not path.is_file() or hub.token.encode() not in path.read_bytes(), path
    # The HTTP library's own trace holds what the server says, and this server repeats the token.
    logged = [each.getMessage() for each in caplog.records if not each.name.startswith("httpcore")]
    assert logged
    assert hub.token not in "".join(logged)
