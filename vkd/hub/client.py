"""Client of the Hugging Face Hub: checks addresses and names, retries calls, translates errors."""

import errno
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from vkd.io.errors import MissingFileError, VKDError
from vkd.io.files import slug
from vkd.io.redact import redact
from vkd.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB = "https://huggingface.co"
WAITS = (1.0, 3.0)  # seconds before another try where the Hub is unreachable
PATIENCE = 20.0  # … but not after this many: some calls of the client have waited by themselves
TIMEOUT = 10.0
_REVISION = re.compile(r"(?!.*(?:\.\.|//))[A-Za-z0-9_](?:[A-Za-z0-9_./-]{0,198}[A-Za-z0-9_-])?")
_NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_NO_TOKEN = "The Hub needs an access token: log in (hf auth login), set HF_TOKEN, or enter a token."

T = TypeVar("T")


class AccessDeniedError(VKDError, PermissionError):
    """The Hub requires another token, or one with more permissions."""


class UnreachableError(VKDError, ConnectionError):
    """The Hub does not answer, or answers with an error of its own."""


def connect(endpoint: str | None, token: str | bool | None) -> "HfApi":
    """Makes the Hub's client. Raises VKDError for an endpoint that is not a plain address."""
    # The client takes half a second to import, and most of this package never needs it.
    from huggingface_hub import HfApi

    if endpoint is not None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise VKDError(
                f"'{redact(endpoint)}' is not the address of a Hub: use https://host, without password."
            )
        endpoint = endpoint.rstrip("/")
    token = token or None if token is not False else False
    return HfApi(endpoint=endpoint, token=token, library_name="vkd", library_version=__version__)


def check_token(api: "HfApi") -> None:
    """Raises AccessDeniedError where no token is given and nobody is logged in."""
    from huggingface_hub import get_token

    if api.token is False or not (api.token or get_token()):
        raise AccessDeniedError(_NO_TOKEN)


def cache_dir(api: "HfApi") -> Path:
    """Returns the client's cache; one of its own for each other Hub, since names of repositories repeat."""
    from huggingface_hub import constants

    path = Path(constants.HF_HUB_CACHE)
    return path if api.endpoint == HUB else path.with_name(f"{path.name}-{slug(api.endpoint)}")


def check_repo(repo: str) -> str:
    """Returns the name of a repository. Raises VKDError for one that is not user/name."""
    from huggingface_hub.utils import validate_repo_id

    with translate_errors(str(repo)):
        validate_repo_id(repo)
    if repo.count("/") != 1:
        raise VKDError(f"'{repo}' is not a repository: use user/name.")
    return repo


def check_revision(revision: str | None) -> str | None:
    """Returns the revision, None for an empty one. Raises VKDError for one that git would not take."""
    if revision and not _REVISION.fullmatch(revision):
        raise VKDError(f"'{revision}' is not a revision: use a branch, tag or commit.")
    return revision or None


def with_retries(call: Callable[[], T]) -> T:
    """Retries a call after `WAITS` while the Hub is unreachable, within `PATIENCE` seconds."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    began = time.monotonic()
    for wait in WAITS:
        try:
            return call()
        except Exception as error:
            hopeless = isinstance(error, OfflineModeIsEnabled) or not is_unreachable(error)
            if hopeless or time.monotonic() - began > PATIENCE:
                raise
            time.sleep(wait)
    return call()


@contextmanager
def translate_errors(
    repo: str = "", revision: str | None = None, token: str | bool | None = None
) -> Iterator[None]:
    """Turns what the client raises into a VKDError without tokens; one that was raised passes unchanged."""
    try:
        yield
    except Exception as error:
        # The client raises its own errors, httpx's, those of its storage library and plain ones.
        raise translate(error, repo, revision, token) from None


def translate(
    error: BaseException, repo: str = "", revision: str | None = None, token: str | bool | None = None
) -> VKDError:
    """Returns the VKDError that corresponds to an error of the client."""
    error = _cause(error)
    if isinstance(error, VKDError):  # a check of ours, or a cancellation raised by a progress callback
        return error
    kind, sentence = _explain(error, repo or str(getattr(error, "repo_id", None) or "The Hub"), revision)
    return kind(redact(sentence, token))


def is_unreachable(error: BaseException) -> bool:
    """True if the Hub did not answer or has an error of its own: then a retry or the cache may serve."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    error = _cause(error)
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError | errors.OfflineModeIsEnabled)


def _cause(error: BaseException) -> BaseException:
    """Returns the error beneath the client's wrappers."""
    from huggingface_hub import errors

    wrappers = (RuntimeError, errors.LocalEntryNotFoundError, errors.RevisionResolutionError)
    while isinstance(error, wrappers) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _explain(error: BaseException, repo: str, revision: str | None) -> tuple[type[VKDError], str]:
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    status, said = 0, str(error)
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        said = error.response.headers.get("X-Error-Message") or said
    first = next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)
    unreachable = f"{repo}: the Hub cannot be reached: check the connection and try again."
    cases: tuple[tuple[bool, type[VKDError], str], ...] = (
        (status == 401 and "Invalid credentials" in said, AccessDeniedError,
         "The Hub does not accept this token: log in again (hf auth login), or set a new HF_TOKEN."),
        (isinstance(error, errors.GatedRepoError), AccessDeniedError,
         f"{repo} is gated: accept its conditions on its page on the Hub, then log in."),
        (isinstance(error, errors.RevisionNotFoundError), MissingFileError,
         f"{repo} has no revision '{revision or 'main'}': use a branch, tag or commit that it has."),
        (isinstance(error, errors.LocalEntryNotFoundError), MissingFileError,
         f"{repo}: the Hub cannot be reached, and the cache holds only a part of it: try again online."),
        (isinstance(error, errors.EntryNotFoundError), MissingFileError,
         f"{repo} lacks a file that it should have: check the revision."),
        (isinstance(error, errors.RepositoryNotFoundError), MissingFileError,
         f"{repo} is not on the Hub, or is private: check its name, or log in with access to it."),
        (status == 401 or isinstance(error, errors.LocalTokenNotFoundError), AccessDeniedError, _NO_TOKEN),
        (status in (402, 403), AccessDeniedError,
         f"{repo}: this token has no permission for that ({status}): use another token or repository."),
        (status == 409, VKDError, f"{repo}: the name is taken, or another change is under way: try again."),
        (status == 412, VKDError, f"{repo} was changed meanwhile by another commit: check it and try again."),
        (status == 429 or status >= 500, UnreachableError,
         f"{repo}: the Hub is overloaded or has an internal error ({status}): try again in some minutes."),
        (isinstance(error, errors.OfflineModeIsEnabled), UnreachableError,
         f"{repo}: HF_HUB_OFFLINE is set: unset it to go online."),
        (isinstance(error, httpx.TransportError), UnreachableError, unreachable),
        (isinstance(error, errors.HFValidationError), VKDError,
         f"'{repo}' is not a repository: use user/name, of letters, digits, '-', '_' and '.'."),
        (isinstance(error, OSError) and error.errno in _NO_SPACE, VKDError,
         f"{repo}: the disk is full: free some space, then try again."),
    )  # fmt: skip
    for applies, kind, sentence in cases:
        if applies:
            return kind, sentence
    return VKDError, f"{repo}: {first[:300].rstrip('.')}."
