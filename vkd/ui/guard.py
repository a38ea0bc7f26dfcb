"""Guards the server against other web sites: allowed hosts, same-origin requests only, no framing.

A page of any site can let its own name point at 127.0.0.1 (DNS rebinding) and then talk to this server as if
it were its own. Such a request carries that name in its Host header, and a page of another site that talks to
the server's true address carries its own in Origin: both are refused, on every route.
"""

import ipaddress
import os
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_WILDCARDS = frozenset({"", "0.0.0.0", "::"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def host_name(netloc: str) -> str:
    """Returns the host of `host[:port]` in lowercase, IPv6 without brackets; '' where it is malformed."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    """Returns whether `host` is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def allowed_hosts(host: str) -> frozenset[str]:
    """Returns the names that this server answers to when it listens on `host`.

    These are the loopback names, `host`, the names in VKD_HOSTS (separated by commas), the host of
    GRADIO_ROOT_PATH, a Space's own name, and this machine's names where it listens on every interface.
    """
    names = [host, urlsplit(os.environ.get("GRADIO_ROOT_PATH", "")).netloc, os.environ.get("SPACE_HOST", "")]
    names += os.environ.get("VKD_HOSTS", "").split(",")
    if host in _WILDCARDS:
        names += [socket.gethostname(), socket.getfqdn()]
    return LOOPBACK | {host_name(name.strip()) for name in names if name.strip() not in _WILDCARDS} - {""}


class Guard:
    """ASGI middleware that refuses unknown hosts and foreign origins, and forbids framing.

    `hosts` are names in lowercase. `any_address` also admits every IP address, which no foreign name can
    stand for: for a server that listens on every interface. `framed_by`: the sites that may embed the page.
    """

    def __init__(
        self, app: ASGIApp, hosts: Iterable[str], any_address: bool = False, framed_by: str = "'none'"
    ) -> None:
        self.app, self.hosts, self.any_address = app, frozenset(hosts), any_address
        self.policy = f"frame-ancestors {framed_by}"

    def refusal(self, scope: Scope) -> str:
        """Returns why a request is refused, '' for one that is admitted."""
        headers = Headers(scope=scope)
        netlocs = headers.getlist("host")
        host = host_name(netlocs[0]) if len(netlocs) == 1 else ""
        if not host or not (host in self.hosts or (self.any_address and is_address(host))):
            return (
                "This host name is not allowed. To allow it, add it to the environment "
                "variable VKD_HOSTS and restart the app."
            )
        origins = headers.getlist("origin")
        # Websockets send GET, and are not held back by the browser's same-origin policy.
        if not origins or (scope["type"] == "http" and scope["method"] in _SAFE):
            return ""
        origin = urlsplit(origins[0])
        same = origin.netloc.lower() == netlocs[0].lower()
        # Behind a proxy that ends TLS or changes the port only the name can be compared.
        proxied = host_name(origin.netloc) in self.hosts - LOOPBACK
        if len(origins) == 1 and origin.scheme in ("http", "https") and (same or proxied):
            return ""
        return "Requests of other web sites are refused."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if reason := self.refusal(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await PlainTextResponse(reason, 403)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.append("Content-Security-Policy", self.policy)
                if self.policy.endswith("'none'"):
                    headers["X-Frame-Options"] = "DENY"
            await send(message)

        await self.app(scope, receive, send_with_headers)


def middleware(host: str, on_space: bool) -> Middleware:
    """Returns the guard of a server that listens on `host`."""
    framed_by = "https://huggingface.co https://*.hf.space" if on_space else "'none'"
    return Middleware(Guard, allowed_hosts(host), any_address=host in _WILDCARDS, framed_by=framed_by)
