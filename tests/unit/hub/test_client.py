"""Errors of the Hub's client become sentences of the right type; a token is in none, nor anywhere else."""

import errno
import logging
from pathlib import Path

import pytest

from tests.support.hub_files import is_sentence
from tests.support.hub_server import Hub
from vkd.hub.client import AccessDeniedError, UnreachableError, is_unreachable, translate, translate_errors
from vkd.hub.pull import PullRequest, pull
from vkd.hub.push import PushRequest, push
from vkd.io.errors import CancelledError, MissingFileError, VKDError

TOKEN = "hf_" + "Secret" * 6


def answer(status: int, **headers: str) -> Exception:
    """The error that the client makes of an answer."""
    from huggingface_hub.utils import hf_raise_for_status, httpx

    request = httpx.Request("GET", "https://huggingface.co/api/models/user/repo")
    response = httpx.Response(
        status, request=request, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    with pytest.raises(Exception) as caught:
        hf_raise_for_status(response)
    return caught.value


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (401, {"X_Error_Message": "Invalid credentials in Authorization header"}, AccessDeniedError),
        (401, {}, MissingFileError),  # the Hub does not say whether a private repository exists
        (404, {"X_Error_Code": "RepoNotFound"}, MissingFileError),
        (404, {"X_Error_Code": "RevisionNotFound"}, MissingFileError),
        (404, {"X_Error_Code": "EntryNotFound"}, MissingFileError),
        (403, {"X_Error_Code": "GatedRepo"}, AccessDeniedError),
        (403, {"X_Error_Message": "Access to this resource is disabled."}, AccessDeniedError),
        (403, {}, AccessDeniedError),
        (400, {"X_Error_Message": f"no {TOKEN}"}, VKDError),
        (409, {}, VKDError),
        (412, {}, VKDError),
        (413, {}, VKDError),
        (429, {}, UnreachableError),
        (500, {}, UnreachableError),
        (504, {}, UnreachableError),
        (451, {}, VKDError),
    ],
)
def test_status(status: int, headers: dict[str, str], kind: type[Exception]):
    error = answer(status, **headers)
    translated = translate(error, "user/repo", "v1", TOKEN)
    assert type(translated) is kind
    assert is_sentence(str(translated))
    assert is_sentence(str(translate(error)))  # without knowing the repository
    assert is_unreachable(error) == (status >= 500)


def test_types_are_python_s_too():
    assert issubclass(AccessDeniedError, PermissionError)
    assert issubclass(UnreachableError, ConnectionError)


def test_cause_beneath_the_client_s_wrappers():
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import httpx

    cancelled = CancelledError("cancelled")
    for wrapper in (LocalEntryNotFoundError("not here"), RuntimeError("Error while uploading")):
        wrapper.__cause__ = httpx.ConnectError(f"refused for {TOKEN}")
        assert type(translate(wrapper)) is UnreachableError
        assert is_unreachable(wrapper)
        wrapper.__cause__ = cancelled
        assert translate(wrapper) is cancelled


def test_full_disk():
    sentence = str(translate(OSError(errno.ENOSPC, "No space left on device"), "user/repo"))
    assert "disk is full" in sentence


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"x={TOKEN}&y",
        f"Bearer {TOKEN}",
        "authorization: bearer Secret.def",
        f"https://user:{TOKEN}@host/x",
        "oauth-Secret-jwt",  # the token that was used, whatever its form
    ],
)
def test_tokens_are_redacted(text: str):
    with pytest.raises(VKDError, match="failed") as caught, translate_errors(token="oauth-Secret-jwt"):
        raise OSError(f"failed: {text}")
    assert "Secret" not in str(caught.value)


def test_token_is_left_nowhere(
    hub: Hub, tmp_path: Path, tiny_pair: tuple[Path, Path], caplog, monkeypatch: pytest.MonkeyPatch
):
    """Neither in files (the client's cache included) nor in logs or output, whatever happens."""
    caplog.set_level(logging.DEBUG)
    for logger in ("huggingface_hub", "httpx2", "vkd"):
        monkeypatch.setattr(logging.getLogger(logger), "propagate", True)
    access = {"token": hub.token, "endpoint": hub.endpoint}
    push(PushRequest(tiny_pair[0], "user/tiny", **access))
    request = PullRequest("user/tiny", **access)
    assert hub.token not in repr(request)
    pull(request, tmp_path / "checkpoints")
    hub.fault("/", times=99, status=500, message=f"what is {hub.token}")
    for call in (
        lambda: pull(PullRequest("user/new", **access), tmp_path),
        lambda: push(PushRequest(tiny_pair[0], "user/new", **access)),
    ):
        with pytest.raises(UnreachableError) as caught:
            call()
        assert hub.token not in str(caught.value)
    assert any(each.authorized for each in hub.requests)
    for path in (*tmp_path.rglob("*"), *tiny_pair[0].rglob("*")):
        assert not path.is_file() or hub.token.encode() not in path.read_bytes(), path
    # The HTTP library's own trace holds what the server says, and this server repeats the token.
    logged = [each.getMessage() for each in caplog.records if not each.name.startswith("httpcore")]
    assert logged
    assert hub.token not in "".join(logged)
