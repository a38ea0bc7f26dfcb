"""What the Hub's client complains of, as one sentence for a person, without a token."""

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SECRETS = re.compile(r"hf_[A-Za-z0-9_]+|(?i:bearer)\s+[^\s'\"]+|(?<=://)[^/\s@]+@")
_LONGEST = 300

Progress = Callable[[int, int, str], None]
"""Bytes done, bytes in all, file."""


def redact(text: str, token: str | bool | None = None) -> str:
    """`text` without tokens: those that look like one, what follows Bearer, and `token` itself."""
    if isinstance(token, str) and token:
        text = text.replace(token, "hf_…")
    return _SECRETS.sub("hf_…", text)


def describe(error: BaseException) -> str:
    """Any error of the client as one sentence without a token."""
    return str(refusal(error))


@contextmanager
def told(repo: str = "", revision: str | None = None, token: str | bool | None = None) -> Iterator[None]:
    """Around calls of the client: what they raise becomes `refusal`."""
    try:
        yield
    except Exception as error:
        # The client raises its own errors, httpx's, those of its storage library and plain ones.
        raise refusal(error, repo, revision, token) from None


class Aside(BaseException):
    """What a caller's progress raised, on its way out through the client, which it is none of."""


@contextmanager
def minding(progress: Progress | None) -> Iterator[Progress | None]:
    """`progress` for calls of the client: what it raises (a cancelled pull) comes out as it was raised."""

    def heard(done: int, total: int, name: str) -> None:
        if progress:
            try:
                progress(done, total, name)
            except Exception as error:
                raise Aside(error) from None

    try:
        yield heard if progress else None
    except Aside as aside:
        raised = aside.args[0]  # the client takes the cause off
    else:
        return
    raise raised


def refusal(
    error: BaseException, repo: str = "", revision: str | None = None, token: str | bool | None = None
) -> OSError | ValueError:
    """The error to raise instead: Permission-, FileNotFound- or ConnectionError, OSError or ValueError."""
    error = _cause(error)
    repo = repo or str(getattr(error, "repo_id", None) or "The repository")
    kind, sentence = _known(error, repo, revision) or (OSError, "")
    if not sentence:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        kind = ValueError if isinstance(error, ValueError) else OSError
        sentence = f"{repo}: the Hub's client gave up: {first[:_LONGEST].rstrip('.')}."
    return kind(redact(sentence, token))


def out_of_reach(error: BaseException) -> bool:
    """Whether the Hub did not answer, or has trouble of its own: then the cache may serve."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    error = _cause(error)
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError | errors.OfflineModeIsEnabled)


def _cause(error: BaseException) -> BaseException:
    """What lies beneath the client's wrappers."""
    from huggingface_hub import errors

    wrappers = (RuntimeError, errors.LocalEntryNotFoundError, errors.RevisionResolutionError)
    while isinstance(error, wrappers) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _known(error: BaseException, repo: str, revision: str | None) -> tuple[type[Any], str] | None:
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    if isinstance(error, errors.HfHubHTTPError):
        return _answered(error, repo, revision)
    if isinstance(error, errors.LocalTokenNotFoundError):
        return PermissionError, NO_TOKEN
    if isinstance(error, errors.HFValidationError):
        return (
            ValueError,
            f"'{repo}' names no repository: write it as user/name, with letters, digits, - _ and .",
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            ConnectionError,
            f"{repo}: the Hub is not asked while HF_HUB_OFFLINE is set: unset it to go online.",
        )
    if isinstance(error, httpx.TimeoutException):
        return ConnectionError, f"{repo}: the Hub did not answer in time: try again later."
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return ConnectionError, f"{repo}: the Hub cannot be reached: check the connection, then try again."
    if isinstance(error, httpx.TransportError):
        return ConnectionError, f"{repo}: the connection to the Hub was cut: try again."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OSError, f"{repo}: the disk is full: make room, then try again."
    if isinstance(error, OSError) and str(error).startswith("Consistency check failed"):
        return ConnectionError, f"{repo}: a file arrived incomplete: try again."
    return None


NO_TOKEN = "The Hub needs to know who you are: log in with `hf auth login`, or set HF_TOKEN to a token."


def _answered(error: Any, repo: str, revision: str | None) -> tuple[type[Any], str] | None:
    from huggingface_hub import errors

    status = error.response.status_code
    message = error.response.headers.get("X-Error-Message", "")
    if status == 401 and "Invalid credentials" in message:
        wrong = "The Hub does not know this token: log in again with `hf auth login`, or set HF_TOKEN anew."
        return PermissionError, wrong
    if isinstance(error, errors.GatedRepoError):
        return PermissionError, f"{repo} has conditions: accept them on its page on the Hub, and log in."
    if isinstance(error, errors.DisabledRepoError):
        return PermissionError, f"{repo} has been disabled by the Hub: take another repository."
    if isinstance(error, errors.RevisionNotFoundError):
        asked = f"the revision '{revision}'" if revision else "such a revision"
        return (
            FileNotFoundError,
            f"{repo} does not have {asked}: give a branch, a tag or a commit that it has.",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return (
            FileNotFoundError,
            f"{repo} does not have a file that it should have: check the revision.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        lost = (
            f"{repo} is not on the Hub, or is private: check its name, or log in as somebody who may read it."
        )
        return FileNotFoundError, lost
    if status == 401:
        return PermissionError, NO_TOKEN
    found = _STATUS.get(status) or (_STATUS[500] if status >= 500 else None)
    return (found[0], found[1].format(repo=repo, status=status)) if found else None


_STATUS: dict[int, tuple[type[Any], str]] = {
    402: (PermissionError, "{repo}: the Hub asks for payment: see the account's settings on the Hub."),
    403: (PermissionError, "{repo}: this token may not do that: take one that may write there, or a "
          "repository of your own."),
    409: (ValueError, "{repo}: the name is taken on the Hub, or another change is under way: choose another "
          "name, or try again."),
    412: (ValueError, "{repo} was changed by somebody else in the meantime: look at it, then try again."),
    413: (ValueError, "{repo}: the Hub takes no file as large as this."),
    429: (ConnectionError, "{repo}: the Hub asks for fewer requests: try again in some minutes."),
    500: (ConnectionError, "{repo}: the Hub has trouble of its own ({status}): try again in some minutes."),
}  # fmt: skip
