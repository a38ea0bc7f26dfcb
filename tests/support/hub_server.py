"""A small Hugging Face Hub: it speaks the Hub's HTTP protocol to the unmodified `huggingface_hub` client.

Repositories live in memory, with commits, branches, tags, pull requests and large files. `Hub.fault` makes it
misbehave: refuse, break off in the middle, shorten files, or run a function before it answers.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.support import hub_repositories
from tests.support.hub_repositories import (
    Blob,
    Refusal,
    Repository,
    changed,
    entry,
    front,
    info,
    preupload,
)

KINDS = {"models": "model", "spaces": "space", "datasets": "dataset"}


class Cut(Response):
    """Promises the whole body, sends `share` of it and hangs up."""

    share = 0.5

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        part = bytes(self.body)[: int(len(self.body) * self.share)]
        await send({"type": "http.response.body", "body": part, "more_body": True})


class Request_(NamedTuple):  # noqa: N801 (Starlette's own name is taken)
    """What the client asked, for tests to look at."""

    method: str
    path: str
    authorized: bool


@dataclass
class Fault:
    on: str
    times: int
    status: int = 0
    cut: bool = False
    shorten: int = 0
    seconds: float = 0.0
    before: Callable[[], object] | None = None
    message: str = ""


class Hub:
    """`endpoint`, `token` (of user "user"), `reader` (theirs, may not write) and `other` (of "someone")."""

    def __init__(self) -> None:
        self.token, self.reader, self.other = (f"hf_{letter * 34}" for letter in "WRO")
        self.users = {self.token: "user", self.reader: "user", self.other: "someone"}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[Request_] = []
        self.faults: list[Fault] = []
        app = Starlette(routes=[Route("/{rest:path}", self._answer, methods=["GET", "HEAD", "POST", "PUT"])])
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.endpoint = ""

    def start(self) -> "Hub":
        self.thread.start()
        until = time.monotonic() + 20
        while not self.server.started:
            assert time.monotonic() < until, "the local Hub did not start"
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def stop(self) -> None:
        """From now on the connection is refused."""
        self.server.should_exit = True
        self.server.force_exit = True
        self.thread.join(10)

    def clear(self) -> None:
        """Forget repositories, requests and faults."""
        self.repositories.clear()
        self.large.clear()
        self.requests.clear()
        self.faults.clear()

    # What tests do from behind

    def put(self, repo: str, files: dict[str, bytes], *, ref: str = "main", kind: str = "models") -> str:
        """Make a public repository, or a new commit in it, that holds `files` and nothing else. → commit."""
        owner = repo.split("/")[0]
        repository = self.repositories.setdefault((kind, repo), Repository(owner))
        blobs = {
            path: Blob(content, path.endswith(hub_repositories.LARGE)) for path, content in files.items()
        }
        return repository.commit(blobs, ref)

    def files(self, repo: str, revision: str = "main", kind: str = "models") -> dict[str, bytes]:
        repository = self.repositories[kind, repo]
        held = repository.commits[repository.resolve(revision)]
        return {path: blob.content for path, blob in held.items() if path != ".gitattributes"}

    def fault(self, on: str, *, times: int = 1, **how: Any) -> None:
        """Misbehave the next `times` times that "METHOD path" holds `on`.

        `status=503`: refuse, with `message`. `cut=True`: break off in the middle. `shorten=n`: hold back the
        file's last n bytes, and say so. `seconds=s`: be slow. `before=f`: call f() first.
        """
        self.faults.append(Fault(on, times, **how))

    def asked(self, part: str) -> list[Request_]:
        """The requests whose "METHOD path" holds `part`."""
        return [each for each in self.requests if part in f"{each.method} {each.path}"]

    # Answers

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode().split("?")[0]
        self.requests.append(Request_(request.method, path, "authorization" in request.headers))
        fault = next((f for f in self.faults if f.times > 0 and f.on in f"{request.method} {path}"), None)
        if fault:
            fault.times -= 1
            await asyncio.sleep(fault.seconds)
            if fault.before:
                fault.before()
            if fault.status:
                return self._refuse(Refusal(fault.status, message=fault.message))
        try:
            words = [unquote(word) for word in path.strip("/").split("/")]
            response = await self._route(request, words, fault.shorten if fault else 0)
        except Refusal as refusal:
            response = self._refuse(refusal)
        if fault and fault.cut:
            return Cut(bytes(response.body), response.status_code, dict(response.headers))
        return response

    def _refuse(self, refusal: Refusal) -> Response:
        headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
        return JSONResponse(
            {"error": refusal.message}, refusal.status, {name: text for name, text in headers.items() if text}
        )

    def _user(self, request: Request) -> str | None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if given and given not in self.users:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        return self.users.get(given)

    def _writer(self, request: Request, owner: str) -> None:
        user = self._user(request)
        if user is None:
            raise Refusal(401, message="Invalid username or password.")
        if user != owner or self.reader in request.headers["authorization"]:
            raise Refusal(403, message="You don't have the rights to write here")

    def _repository(self, request: Request, kind: str, repo: str) -> Repository:
        user = self._user(request)
        found = self.repositories.get((kind, repo))
        if found is None or (found.private and user != found.owner):
            raise Refusal(404 if user else 401, "RepoNotFound", "Repository not found")
        return found

    async def _route(self, request: Request, words: list[str], shorten: int) -> Response:
        match words:
            case ["api", "whoami-v2"]:
                return self._whoami(request)
            case ["api", "repos", "create"]:
                return self._create(request, await request.json())
            case ["api", "validate-yaml"]:
                return self._validate(await request.json())
            case ["api", kind, owner, name, *rest] if kind in KINDS:
                repository = self._repository(request, kind, f"{owner}/{name}")
                return await self._api(request, kind, f"{owner}/{name}", repository, rest)
            case ["lfs", "verify"]:
                known = (await request.json())["oid"] in self.large
                return JSONResponse({}, 200 if known else 404)
            case ["lfs", oid]:
                return self._receive(oid, await request.body())
            case [*_, "info", "lfs", "objects", "batch"]:
                return self._batch(request, words, await request.json())
            case [("spaces" | "datasets") as kind, owner, name, "resolve", revision, *path]:
                pass
            case [owner, name, "resolve", revision, *path]:
                kind = "models"
            case _:
                raise Refusal(404, message="Sorry, we can't find the page you are looking for.")
        repository = self._repository(request, kind, f"{owner}/{name}")
        return self._resolve(request, repository, revision, "/".join(path), shorten)

    def _whoami(self, request: Request) -> Response:
        user = self._user(request)
        if user is None:
            raise Refusal(401, message="Invalid username or password.")
        role = "read" if self.reader in request.headers["authorization"] else "write"
        token = {"accessToken": {"displayName": "test", "role": role}}
        return JSONResponse({"type": "user", "name": user, "fullname": user, "orgs": [], "auth": token})

    def _create(self, request: Request, asked: dict[str, Any]) -> Response:
        user = self._user(request)
        owner = asked.get("organization") or user or ""
        self._writer(request, owner)
        kind = f"{asked.get('type') or 'model'}s"
        repo = f"{owner}/{asked['name']}"
        url = f"{self.endpoint}/{'' if kind == 'models' else kind + '/'}{repo}"
        if (kind, repo) in self.repositories:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        new = self.repositories[kind, repo] = Repository(owner, private)
        new.commit({".gitattributes": Blob(b"*.safetensors filter=lfs\n", False)}, title="initial commit")
        return JSONResponse({"url": url, "name": repo, "id": repo})

    def _validate(self, asked: dict[str, Any]) -> Response:
        try:
            front(asked["content"])
        except yaml.YAMLError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    async def _api(
        self, request: Request, kind: str, repo: str, repository: Repository, rest: list[str]
    ) -> Response:
        match rest:
            case []:
                return JSONResponse(info(repo, repository, "main"))
            case ["revision", revision]:
                return JSONResponse(info(repo, repository, revision))
            case ["tree", revision, *path]:
                files = repository.commits[repository.resolve(revision)]
                under = f"{path[0]}/" if path else ""
                return JSONResponse([entry(p, b) for p, b in files.items() if p.startswith(under)])
            case ["preupload", revision]:
                if not request.query_params.get("create_pr"):
                    self._writer(request, repository.owner)
                return JSONResponse(preupload(repository, revision, await request.json()))
            case ["branch", name]:
                self._writer(request, repository.owner)
                if name in repository.refs:
                    raise Refusal(409, message=f"Reference already exists: {name}")
                repository.refs[name] = repository.resolve("main")
                return JSONResponse({})
            case ["commit", revision]:
                proposal = bool(request.query_params.get("create_pr"))
                if not proposal:
                    self._writer(request, repository.owner)
                return self._commit(kind, repo, repository, revision, await request.body(), proposal)
            case _:
                if kind == "spaces" and request.method in ("POST", "GET"):
                    return JSONResponse({"stage": "BUILDING"})  # hardware, secrets, variables
                raise Refusal(404, message=f"no such endpoint: {rest}")

    def _batch(self, request: Request, words: list[str], asked: dict[str, Any]) -> Response:
        if self._user(request) is None:
            raise Refusal(401, message="Invalid username or password.")
        objects = []
        for each in asked["objects"]:
            upload = {
                "upload": {"href": f"{self.endpoint}/lfs/{each['oid']}"},
                "verify": {"href": f"{self.endpoint}/lfs/verify"},
            }
            objects.append(each | ({} if each["oid"] in self.large else {"actions": upload}))
        return JSONResponse({"transfer": "basic", "objects": objects})

    def _receive(self, oid: str, content: bytes) -> Response:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, message="The content is not what its name says")
        self.large[oid] = content
        return Response()

    def _commit(
        self, kind: str, repo: str, repository: Repository, revision: str, body: bytes, proposal: bool
    ) -> Response:
        parent = repository.resolve(revision)
        files, title = changed(repository.commits[parent], parent, body, self.large)
        number = 1 + sum(ref.startswith("refs/pr/") for ref in repository.refs)
        sha = repository.commit(files, f"refs/pr/{number}" if proposal else revision, title)
        page = f"{self.endpoint}/{'' if kind == 'models' else kind + '/'}{repo}"
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{page}/commit/{sha}", "hookOutput": ""}
        if proposal:
            answer["pullRequestUrl"] = f"{page}/discussions/{number}"
        return JSONResponse(answer)

    def _resolve(
        self, request: Request, repository: Repository, revision: str, path: str, shorten: int
    ) -> Response:
        sha = repository.resolve(revision)
        if path not in repository.commits[sha]:
            refusal = self._refuse(Refusal(404, "EntryNotFound", "Entry not found"))
            refusal.headers["X-Repo-Commit"] = sha
            return refusal
        blob = repository.commits[sha][path]
        content = blob.content[: len(blob.content) - shorten]
        headers = {"ETag": f'"{blob.etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if blob.large:
            headers |= {"X-Linked-ETag": f'"{blob.etag}"', "X-Linked-Size": str(len(content))}
        if request.method == "HEAD":
            return Response(headers=headers | {"Content-Length": str(len(content))})
        wanted = request.headers.get("range", "").removeprefix("bytes=")
        if not wanted:
            return Response(content, headers=headers, media_type="application/octet-stream")
        first, _, last = wanted.partition("-")
        start, end = int(first or 0), min(int(last or len(content)) + 1, len(content))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return Response(content[start:end], 206, headers, "application/octet-stream")
