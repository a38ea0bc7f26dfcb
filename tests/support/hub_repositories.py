"""Repositories as the Hub of the tests keeps them: files, commits, and names of commits."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

LARGE = (".safetensors", ".png", ".jpg", ".onnx", ".faiss")  # kept as large files, as the Hub does


class Blob(NamedTuple):
    """A file of a commit."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        head = b"version https://git-lfs.github.com/spec/v1\n"
        return head + f"oid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()

    @property
    def blob_id(self) -> str:
        """What git calls the file: the SHA-1 of its content, of the pointer where it is large."""
        stored = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.blob_id


@dataclass
class Repository:
    """Commits are never forgotten; branches, tags and pull requests are names of commits."""

    owner: str
    private: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, Blob], ref: str = "main", title: str = "") -> str:
        name = f"{len(self.commits)}{ref}{sorted((path, blob.etag) for path, blob in files.items())}"
        sha = hashlib.sha1(name.encode()).hexdigest()
        self.commits[sha], self.refs[ref], self.titles[sha] = files, sha, title
        return sha

    def resolve(self, revision: str) -> str:
        sha = self.refs.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha


class Refusal(Exception):  # noqa: N818 (an answer, not a fault of the program)
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


def front(text: str) -> dict[str, Any]:
    """The metadata at the top of a README.md."""
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return {}
    found = yaml.safe_load(text[4:].split("\n---", 1)[0])
    return found if isinstance(found, dict) else {}


def large(blob: Blob) -> dict[str, Any]:
    return {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}


def entry(path: str, blob: Blob) -> dict[str, Any]:
    found = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.blob_id}
    return found | ({"lfs": large(blob)} if blob.large else {})


def info(repo: str, repository: Repository, revision: str) -> dict[str, Any]:
    """What the Hub tells of a repository at a revision."""
    sha = repository.resolve(revision)
    files = repository.commits[sha]
    siblings = [
        {"rfilename": path, "size": len(blob.content), "blobId": blob.blob_id}
        | ({"lfs": large(blob) | {"sha256": blob.sha256}} if blob.large else {})
        for path, blob in files.items()
    ]
    readme = files.get("README.md")
    try:
        data = front(readme.content.decode()) if readme else {}
    except yaml.YAMLError:
        data = {}
    return {
        "_id": repo,
        "id": repo,
        "modelId": repo,
        "author": repository.owner,
        "sha": sha,
        "private": repository.private,
        "disabled": False,
        "gated": False,
        "tags": data.get("tags") or [],
        "downloads": 0,
        "likes": 0,
        "library_name": data.get("library_name"),
        "pipeline_tag": data.get("pipeline_tag"),
        "cardData": data,
        "siblings": siblings,
    }


def preupload(repository: Repository, revision: str, asked: dict[str, Any]) -> dict[str, Any]:
    """How each file that is to come should be sent."""
    files = repository.commits[repository.resolve(revision)]
    return {
        "files": [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": files[file["path"]].etag if file["path"] in files else None,
            }
            for file in asked["files"]
        ]
    }


def changed(
    before: dict[str, Blob], parent: str, body: bytes, sent: dict[str, bytes]
) -> tuple[dict[str, Blob], str]:
    """The files after a commit whose operations are the lines of `body`, and its title."""
    files, title = dict(before), ""
    for line in body.splitlines():
        operation = json.loads(line)
        value = operation["value"]
        match operation["key"]:
            case "header":
                title = value["summary"]
                if value.get("parentCommit", parent) != parent:
                    raise Refusal(412, message="A commit has happened since: refresh")
            case "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            case "lfsFile":
                if value["oid"] not in sent:
                    raise Refusal(400, message=f"{value['path']} was never uploaded")
                files[value["path"]] = Blob(sent[value["oid"]], True)
            case "deletedFile":
                del files[value["path"]]
            case "deletedFolder":
                files = {p: b for p, b in files.items() if not p.startswith(value["path"].rstrip("/") + "/")}
    return files, title
