"""Files and folders of checkpoints as tests of the Hub need them, and the faults of a Hub in one table."""

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.hub_server import Hub
from vkd.hub.client import AccessDeniedError, UnreachableError
from vkd.io.errors import MissingFileError, VKDError
from vkd.models import checkpoint


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def card(base: str = "") -> bytes:
    return f"---\nlibrary_name: vkd\n{f'base_model: {base}' if base else ''}\n---\n# Card\n".encode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_clean(root: Path) -> bool:
    """No checkpoint is listed, and nothing hidden is left."""
    return checkpoint.find(root) == [] and (not root.exists() or list(root.iterdir()) == [])


def is_sentence(text: str) -> bool:
    """One line for a person, without a token."""
    return bool(re.fullmatch(r"[^\n]{10,400}\.", text)) and "hf_" not in text.replace("hf_…", "")


class Fault(NamedTuple):
    """What goes wrong with a pull and with a push: `arrange(hub)` returns changed arguments, if any."""

    arrange: Callable[[Hub], Any]
    error: type[VKDError]
    on: str = "pull push"


def _private(hub: Hub) -> None:
    hub.repositories["models", "user/tiny-teacher"].private = True


def _elsewhere(hub: Hub) -> dict[str, Any]:
    return {"endpoint": f"http://127.0.0.1:{free_port()}"}


def _public(hub: Hub) -> None:
    hub.put("user/tiny", {"README.md": b"mine"})


def _foreign(hub: Hub) -> dict[str, Any]:
    hub.put("user/tiny", {"README.md": b"---\nlibrary_name: transformers\n---\n", "config.json": b"{}"})
    return {"private": False}


def _of_somebody(hub: Hub) -> dict[str, Any]:
    hub.put("someone/tiny", {"README.md": b""})
    return {"repo": "someone/tiny", "private": False}


FAULTS: dict[str, Fault] = {
    "no token": Fault(lambda h: {"token": None}, AccessDeniedError, "push"),
    "token off": Fault(lambda h: {"token": False}, AccessDeniedError, "push"),
    "wrong token": Fault(lambda h: {"token": "hf_" + "W" * 20}, AccessDeniedError),
    "reading token": Fault(lambda h: {"token": h.reader}, AccessDeniedError, "push"),
    "somebody's name": Fault(lambda h: {"repo": "someone/new"}, AccessDeniedError, "push"),
    "somebody's repository": Fault(_of_somebody, AccessDeniedError, "push"),
    "payment": Fault(lambda h: h.fault("/api", times=9, status=402), AccessDeniedError),
    "missing repository": Fault(lambda h: {"repo": "user/gone"}, MissingFileError, "pull"),
    "missing for a proposal": Fault(lambda h: {"pull_request": True}, MissingFileError, "push"),
    "private repository": Fault(_private, MissingFileError, "pull"),
    "missing revision": Fault(lambda h: {"revision": "v9"}, MissingFileError, "pull"),
    "connection refused": Fault(_elsewhere, UnreachableError),
    "listing cut": Fault(lambda h: h.fault("GET /api", times=9, cut=True), UnreachableError),
    "download cut": Fault(lambda h: h.fault("GET /user", times=999, cut=True), UnreachableError, "pull"),
    "server error": Fault(lambda h: h.fault("/", times=99, status=503), UnreachableError),
    "error at a file": Fault(lambda h: h.fault("GET /user", times=99, status=500), UnreachableError, "pull"),
    "too many requests": Fault(lambda h: h.fault("/api", times=9, status=429), UnreachableError),
    "upload fails": Fault(lambda h: h.fault("PUT /lfs", times=99, status=500), UnreachableError, "push"),
    "commit fails": Fault(lambda h: h.fault("/commit/", times=99, status=500), UnreachableError, "push"),
    "commit cut": Fault(lambda h: h.fault("/commit/", cut=True), UnreachableError, "push"),
    "teapot": Fault(lambda h: h.fault("/api", times=9, status=418, message="I am a teapot"), VKDError),
    "truncated": Fault(lambda h: h.fault("model.safe", times=99, shorten=9), VKDError, "pull"),
    "short body": Fault(lambda h: h.fault("GET /user", times=99, shorten=9), VKDError, "pull"),
    "too large": Fault(lambda h: h.fault("/commit/", status=413), VKDError, "push"),
    "conflict": Fault(lambda h: h.fault("repos/create", status=409), VKDError, "push"),
    "public repository": Fault(_public, VKDError, "push"),
    "other kind of model": Fault(_foreign, VKDError, "push"),
    "odd repository": Fault(lambda h: {"repo": "x/y/z"}, VKDError),
    "odd revision": Fault(lambda h: {"revision": "-"}, VKDError),
    "odd teacher": Fault(lambda h: {"teacher": "x"}, VKDError, "push"),
}


def faults(on: str) -> list[str]:
    """Names of the faults of a pull or of a push."""
    return [name for name, fault in FAULTS.items() if on in fault.on]
