"""The public demo: what it refuses, how much and how often one visitor may ask, and how it says so."""

import functools
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio.context import LocalContext
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from vkd.io.errors import VKDError
from vkd.ui import state, theme
from vkd.ui.state import Places

P = ParamSpec("P")
R = TypeVar("R")

MOST_PICTURES = 16
"""Pictures of one query of a visitor."""
MOST_MEGABYTES = 20
"""Of one upload of a visitor."""


# ---- what is refused


def trains() -> bool:
    """Whether this app trains: one's own does, a public demo where its owner said so."""
    return not state.DEMO or state.TRAINING


def refuse(what: str) -> None:
    """In a public demo raise the sentence that says what it does not do; whoever asks, and however."""
    if state.DEMO:
        raise gr.Error(
            f"This is a public demo: {what}. Run the app on your own machine for that.",
            title="Not here",
            print_exception=False,
        )


def refuse_training() -> None:
    """The same for all that has to do with training, unless the demo's owner lets it train."""
    if not trains():
        refuse("it trains nothing")


def may_read(places: Places, path: str | Path) -> bool:
    """Whether a path may be read: in a public demo only inside the app's own data sets and checkpoints."""
    own = (places.data, places.checkpoints)
    folder = Path(path).expanduser().resolve()
    return not state.DEMO or any(folder.is_relative_to(one.resolve()) for one in own)


def require_own(places: Places, *paths: str | Path | None) -> None:
    """Raises ValueError for the first path that `may_read` refuses."""
    for path in paths:
        if path is not None and not may_read(places, path):
            raise VKDError(f"'{path}' is no folder of this demo: choose one inside data or checkpoints.")


# ---- how often


class Bucket:
    """Tokens by key: at most `most` of each, `rate` more every second, as many keys as are in use lately."""

    def __init__(self, most: float, rate: float, keys: int = 4096) -> None:
        self.most, self.rate, self.keys = most, rate, keys
        self.left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str, cost: float, now: float) -> float:
        """Seconds until so many tokens are there; 0: now."""
        return max(0.0, min(cost, self.most) - self._there(key, now)) / self.rate

    def take(self, key: str, cost: float, now: float) -> None:
        """Take them."""
        self.left[key] = (self._there(key, now) - min(cost, self.most), now)
        self.left.move_to_end(key)
        while len(self.left) > self.keys:
            self.left.popitem(last=False)

    def _there(self, key: str, now: float) -> float:
        left, then = self.left.get(key, (self.most, now))
        return min(self.most, left + (now - then) * self.rate)


class Doorkeeper:
    """Lets in what every one of its buckets has tokens for: a page's, an address's, everybody's."""

    def __init__(self, **buckets: Bucket) -> None:
        self.buckets = buckets
        self.lock = threading.Lock()

    def ask(self, keys: dict[str, str], cost: float = 1, now: float | None = None) -> float:
        """Seconds to wait before asking again; 0: let in, and counted."""
        now = time.monotonic() if now is None else now
        with self.lock:
            asked = [(bucket, keys.get(name, "")) for name, bucket in self.buckets.items()]
            wait = max(bucket.wait(key, cost, now) for bucket, key in asked)
            if not wait:
                for bucket, key in asked:
                    bucket.take(key, cost, now)
            return wait


CALLS = Doorkeeper(page=Bucket(12, 0.5), address=Bucket(40, 2), everybody=Bucket(80, 5))
"""Searches and heatmaps, each 0.1 to 0.5 s of two cores."""
UPLOADS = Doorkeeper(address=Bucket(200, 2), everybody=Bucket(800, 10))
"""Uploads, in megabytes."""


def address_of(client: str, forwarded: str) -> str:
    """Whose request it is. A Space stands behind a proxy, which tells the visitor's address.

    A visitor can lie in that header, and open many pages: the bucket that is everybody's holds for liars too.
    """
    told = forwarded.split(",")[0].strip() if os.environ.get("SYSTEM") == "spaces" else ""
    return told or client


def admit() -> None:
    """In a public demo: refuse a visitor who asks too often, and everybody while all together do."""
    request: Any = LocalContext.request.get(None) if state.DEMO else None
    if request is None:
        return
    client = getattr(request.client, "host", "") if request.client else ""
    keys = {
        "page": str(request.session_hash),
        "address": address_of(client, dict(request.headers).get("x-forwarded-for", "")),
    }
    if wait := CALLS.ask(keys):
        raise gr.Error(too_many(wait), title="One moment", print_exception=False)


def limited(callback: Callable[P, R]) -> Callable[P, R]:
    """A callback that runs networks, for admitted visitors."""

    @functools.wraps(callback)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        admit()
        return callback(*args, **kwargs)

    return wrapper


def too_many(wait: float) -> str:
    return f"Too many requests: wait {max(1, round(wait + 0.5))} s, then try again."


class UploadLimit:
    """Counts the megabytes that come in, before they are written to the disk."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/upload"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        length = headers.get("content-length", "")
        size = int(length) / 2**20 if length.isdecimal() else MOST_MEGABYTES
        client = (scope.get("client") or ("", 0))[0]
        wait = UPLOADS.ask({"address": address_of(client, headers.get("x-forwarded-for", ""))}, max(1, size))
        if not wait:
            await self.app(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass  # a browser listens once it has sent everything
        body = json.dumps({"detail": too_many(wait)}).encode()
        head = [(b"content-type", b"application/json"), (b"retry-after", str(round(wait + 0.5)).encode())]
        await send({"type": "http.response.start", "status": 429, "headers": head})
        await send({"type": "http.response.body", "body": body})


# ---- what the app is told


def launching() -> dict[str, Any]:
    """Arguments of `launch` that differ in a public demo."""
    if not state.DEMO:
        return {"max_file_size": "1gb"}
    return {"max_file_size": f"{MOST_MEGABYTES}mb", "app_kwargs": {"middleware": [Middleware(UploadLimit)]}}


def keeping() -> tuple[int, int]:
    """How often, and after how many seconds, what visitors uploaded and were given is deleted."""
    return (600, 3600) if state.DEMO else (3600, 86400)


def header() -> None:
    """The page's header; a Space has a button that duplicates it."""
    if not (state.DEMO and os.environ.get("SPACE_ID")):
        gr.HTML(theme.HEADER)
        return
    with gr.Row(elem_classes="vkd-top"):
        gr.HTML(theme.HEADER)
        gr.DuplicateButton("Duplicate this Space", elem_classes="vkd-duplicate")


def note(sentence: str) -> None:
    """What a tab of a public demo says in place of what it does not do; nothing elsewhere."""
    if state.DEMO:
        gr.HTML(f'<p class="vkd-note">{sentence}</p>')
