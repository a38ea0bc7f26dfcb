"""Limits of the public demo: refused actions, rates of requests and uploads, readable folders."""

import functools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from gradio.context import LocalContext
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from vkd.io.errors import VKDError
from vkd.ui import mode
from vkd.ui.errors import error
from vkd.ui.state import AppPaths

P = ParamSpec("P")
R = TypeVar("R")

MAX_IMAGES = 16
"""Images of one query of a visitor."""
MAX_MEGABYTES = 20
"""Size of one upload of a visitor."""


# ---- refused actions


def training_allowed() -> bool:
    """Returns whether this app trains: a local one does, a public demo where its owner enabled it."""
    return not mode.DEMO or mode.TRAINING


def refuse(what: str) -> None:
    """Raises an error with the sentence `what` in a public demo; does nothing elsewhere."""
    if mode.DEMO:
        text = f"This is a public demo: {what}. Run the app on your own machine for that."
        raise error(text, "Public demo")


def refuse_training() -> None:
    """Does the same for everything about training, unless the demo's owner enabled it."""
    if not training_allowed():
        refuse("training is disabled")


def may_read(paths: AppPaths, path: str | Path) -> bool:
    """Returns whether a path may be read: in a public demo only inside its own datasets and checkpoints."""
    folder = Path(path).expanduser().resolve()
    own = (paths.data.resolve(), paths.checkpoints.resolve())
    return not mode.DEMO or any(folder.is_relative_to(one) for one in own)


def require_readable(paths: AppPaths, *folders: str | Path | None) -> None:
    """Raises VKDError for the first folder that `may_read` refuses."""
    for folder in folders:
        if folder is not None and not may_read(paths, folder):
            raise VKDError(f"'{folder}' is not part of this demo: choose a folder in data or checkpoints.")


# ---- rates


class RateLimiter:
    """Admits a request if every one of its limits (of a page, of an address, of all together) admits it.

    A limit is written as `12/24 second`: at most 12 within any 24 seconds.
    """

    def __init__(self, **limits: str) -> None:
        self.limits: dict[str, RateLimitItem] = {name: parse(text) for name, text in limits.items()}
        self.window = MovingWindowRateLimiter(MemoryStorage())
        self.lock = threading.Lock()

    def check(self, keys: dict[str, str], cost: int = 1) -> float:
        """Returns 0 for an admitted request, which is counted, or the seconds to wait before the next try.

        `keys` has the identity of the requester for each limit. A cost above a limit counts as that limit.
        """
        with self.lock:
            request = [
                (item, keys.get(name, ""), min(cost, item.amount)) for name, item in self.limits.items()
            ]
            full = [one[:2] for one in request if not self.window.test(*one[:2], cost=one[2])]
            if full:
                resets = [self.window.get_window_stats(*one).reset_time for one in full]
                return max(0.1, max(resets) - time.time())
            for item, key, amount in request:
                self.window.hit(item, key, cost=amount)
            return 0.0


CALLS = RateLimiter(page="12/24 second", address="40/20 second", everybody="80/16 second")
"""Searches and heatmaps, each 0.1 to 0.5 s of two cores."""
UPLOADS = RateLimiter(address="200/100 second", everybody="800/80 second")
"""Uploads, in megabytes."""


def client_address(client: str, forwarded: str) -> str:
    """Returns the visitor's address. A Space stands behind a proxy, which forwards it in a header.

    A visitor can forge that header, and open many pages: the limit for everybody holds for those, too.
    """
    first = forwarded.split(",")[0].strip() if os.environ.get("SYSTEM") == "spaces" else ""
    return first or client


def check_rate() -> None:
    """Raises an error in a public demo if a visitor, or all together, exceed the rate."""
    request: Any = LocalContext.request.get(None) if mode.DEMO else None
    if request is None:
        return
    client = getattr(request.client, "host", "") if request.client else ""
    keys = {
        "page": str(request.session_hash),
        "address": client_address(client, dict(request.headers).get("x-forwarded-for", "")),
    }
    if wait := CALLS.check(keys):
        raise error(too_many(wait), "Too many requests")


def rate_limited(callback: Callable[P, R]) -> Callable[P, R]:
    """Wraps a callback that runs models with `check_rate`."""

    @functools.wraps(callback)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        check_rate()
        return callback(*args, **kwargs)

    return wrapper


def too_many(wait: float) -> str:
    """Returns the sentence for a visitor who has to wait."""
    return f"Too many requests: wait {max(1, round(wait + 0.5))} s, then try again."


class UploadLimit:
    """ASGI middleware that counts the megabytes of uploads before they are written to the disk."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/upload"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        length = headers.get("content-length", "")
        megabytes = round(int(length) / 2**20) if length.isdecimal() else MAX_MEGABYTES
        client = (scope.get("client") or ("", 0))[0]
        address = client_address(client, headers.get("x-forwarded-for", ""))
        wait = UPLOADS.check({"address": address}, max(1, megabytes))
        if not wait:
            await self.app(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass  # a browser listens once it has sent everything
        body = json.dumps({"detail": too_many(wait)}).encode()
        head = [(b"content-type", b"application/json"), (b"retry-after", str(round(wait + 0.5)).encode())]
        await send({"type": "http.response.start", "status": 429, "headers": head})
        await send({"type": "http.response.body", "body": body})


# ---- arguments of the app


def launch_arguments(*middleware: Middleware) -> dict[str, Any]:
    """Returns the arguments of `launch` for `middleware`, and for the limits of a public demo."""
    if not mode.DEMO:
        return {"max_file_size": "1gb", "app_kwargs": {"middleware": [*middleware]}}
    limited = [*middleware, Middleware(UploadLimit)]
    return {"max_file_size": f"{MAX_MEGABYTES}mb", "app_kwargs": {"middleware": limited}}


def delete_cache() -> tuple[int, int]:
    """Returns how often, and after how many seconds, visitors' uploads and downloads are deleted."""
    return (600, 3600) if mode.DEMO else (3600, 86400)
