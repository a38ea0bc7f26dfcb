"""Actions of the Hub tab: pull, preview and push, cancel, the card as a file.

A token is in the request that the thread of a job holds while it works, and nowhere else. The Hub's address
comes from the environment of the app, never from a visitor. A public demo pulls nothing and pushes with the
visitor's own login.
"""

import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from vkd.hub import pull as hub_pull
from vkd.hub import push as hub_push
from vkd.hub.pull import PullRequest
from vkd.hub.push import PushRequest
from vkd.io.errors import VKDError
from vkd.jobs import background
from vkd.jobs.background import BackgroundJob
from vkd.ui import components, limits, mode, state
from vkd.ui.errors import error, show_errors
from vkd.ui.html import escape
from vkd.ui.hub import views
from vkd.ui.state import AppPaths

ENDPOINT = os.environ.get("HF_ENDPOINT") or None
TICK = 0.3
"""Seconds between two updates of a job."""
KINDS = ("pull", "push")


def _key(paths: AppPaths, kind: str, request: gr.Request | None) -> tuple[object, ...]:
    """Returns the key of a job: one for all pages of a local app, one per visitor of a public demo."""
    visitor = str(request.session_hash) if request is not None and mode.DEMO else ""
    return paths.checkpoints, kind, visitor


def _steps(paths: AppPaths, kind: str, job: BackgroundJob) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields HTML and data of a job until it ends. Raises an error where it failed."""
    for _ in job.ticks(TICK):
        yield views.progress_html(kind, job), views.job_data(job)
    if job.state == "failed":
        text = job.error
        for folder in {str(paths.checkpoints), str(paths.checkpoints.absolute())}:
            text = text.replace(f"{folder}/", "")
        raise error(escape(text), "Invalid input")
    yield views.ended_html(kind, job), views.job_data(job) | views.result_data(kind, job)


def _on_page(kind: str, steps: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[tuple[Any, Any]]:
    """Yields the page's status and its answer (pulled checkpoints, or the preview, which goes once sent).

    An error stands in the status.
    """
    other = "" if kind == "pull" else gr.skip()
    try:
        for html, data in steps:
            if data["state"] != "done":
                yield html, other
            else:
                yield ("", html) if kind == "pull" else (html, "")
    except gr.Error as wrong:
        yield views.error_html(wrong.message), other


def watch(paths: AppPaths, kind: str, request: gr.Request | None = None) -> Iterator[tuple[Any, Any]]:
    """Shows a job that runs already to a page that is opened meanwhile."""
    job = background.current(_key(paths, kind, request))
    if job is None or job.state != "running":
        yield gr.skip(), gr.skip()
        return
    yield from _on_page(kind, _steps(paths, kind, job))


def _required(repo: str) -> str:
    if not (repo or "").strip():
        raise VKDError("No repository is given: write it as user/name.")
    return repo


def _secret(transfer: PullRequest | PushRequest) -> str | None:
    return transfer.token if isinstance(transfer.token, str) else None


# ---- pull


@show_errors
def pull(
    paths: AppPaths,
    repo: str,
    revision: str = "",
    pair: bool = False,
    token: str = "",
    name: str = "",
    request: gr.Request | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pull a checkpoint from the Hub into the folder of checkpoints; every tab can use it then.

    `repo` is user/name, `revision` a branch, tag or commit (empty: main), `pair` brings the teacher too that
    a student's card names, `token` is for private repositories and is not stored, `name` is the local folder
    (empty: same as the repository). Answers repeatedly with state, done and total (bytes), at last with
    `pulled`: for each its checkpoint, repo, commit, offline (from this machine's cache), there (it was here
    already), stage, backbone, dataset, files (sizes) and card. Leaving does not end the work, `hub_cancel`
    does.
    """
    limits.refuse("pulling from the Hub is disabled")
    transfer = PullRequest(_required(repo), revision, name, bool(pair), token=token, endpoint=ENDPOINT)
    job = background.start(
        _key(paths, "pull", request),
        f"Pull of {transfer.repo}",
        lambda job: hub_pull.pull(transfer, paths.checkpoints, progress=job.progress),
        secret=_secret(transfer),
    )
    yield from _steps(paths, "pull", job)


def pull_page(paths: AppPaths, request: gr.Request | None, *values: Any) -> Iterator[tuple[Any, Any]]:
    """Runs `pull` for the page."""
    yield from _on_page("pull", pull(paths, *values, request=request))


# ---- preview and push


def _push_request(
    paths: AppPaths,
    checkpoint: str,
    repo: str,
    teacher: str,
    private: bool,
    revision: str,
    pull_request: bool,
    token: str | None = None,
) -> PushRequest:
    """Returns the form's values as a request. Raises VKDError for invalid names."""
    return PushRequest(
        state.checkpoint_folder(paths, checkpoint), _required(repo), private=bool(private), revision=revision,
        pull_request=bool(pull_request), teacher=teacher, token=token, endpoint=ENDPOINT,
    )  # fmt: skip


@limits.rate_limited
@show_errors
def preview(
    paths: AppPaths,
    checkpoint: str,
    repo: str,
    teacher: str = "",
    private: bool = True,
    revision: str = "",
    pull_request: bool = False,
) -> tuple[str, dict[str, Any]]:
    """Preview a push: files with their sizes, what is not uploaded, the card. Sends nothing.

    `checkpoint` is a folder's name, `repo` and `teacher` (of a student, may be empty) are user/name. The
    answer's `previewed` is an argument of `hub_push`.
    """
    request = _push_request(paths, checkpoint, repo, teacher, private, revision, pull_request)
    plan = hub_push.preview(request)
    return views.plan_html(plan, request), views.plan_data(plan)


def preview_page(paths: AppPaths, *values: Any) -> tuple[Any, str, Any]:
    """Runs `preview` for the page; an error replaces the answer."""
    try:
        plan, data = preview(paths, *values)
    except gr.Error as wrong:
        return "", views.error_html(wrong.message), None
    return plan, "", data


def can_log_in(environ: Mapping[str, str]) -> bool:
    """True on a Space with logins enabled, where the packages that they need are installed."""
    ready = environ.get("SYSTEM") == "spaces" and environ.get("SPACE_ID") and environ.get("OAUTH_CLIENT_ID")
    return bool(ready) and all(importlib.util.find_spec(name) for name in ("authlib", "itsdangerous"))


def _token(typed: str, login: gr.OAuthToken | None) -> str | None:
    """Returns the token of a push: in a public demo the visitor's login alone, never the Space's own."""
    if mode.DEMO:
        if login is None:
            raise VKDError("Log in with Hugging Face first: a demo pushes to your own account only.")
        return login.token
    return (typed or "").strip() or (login.token if login else None)


@show_errors
def push(
    paths: AppPaths,
    checkpoint: str,
    repo: str,
    teacher: str = "",
    private: bool = True,
    revision: str = "",
    pull_request: bool = False,
    token: str = "",
    previewed: str = "",
    request: gr.Request | None = None,
    login: gr.OAuthToken | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Push a checkpoint to the Hub in one commit, exactly as `hub_preview` showed it.

    The first six arguments as there, `previewed` from its answer. `token` needs write access and is not
    stored; empty: the login of the app's machine. A missing repository is created, private by default.
    Answers repeatedly with state, done and total (bytes), at last with the `url` of the commit or pull
    request. Leaving does not end the work, `hub_cancel` does.
    """
    limits.check_rate()
    if not previewed:
        raise VKDError("Preview the push first.")
    transfer = _push_request(
        paths, checkpoint, repo, teacher, private, revision, pull_request, _token(token, login)
    )
    job = background.start(
        _key(paths, "push", request),
        f"Push of {transfer.repo}",
        lambda job: hub_push.push(transfer, digest=previewed, progress=job.progress),
        secret=_secret(transfer),
    )
    yield from _steps(paths, "push", job)


def push_page(
    paths: AppPaths, request: gr.Request | None, login: gr.OAuthToken | None, *values: Any
) -> Iterator[tuple[Any, Any]]:
    """Runs `push` for the page."""
    yield from _on_page("push", push(paths, *values, request=request, login=login))


# ---- cancel, card


@show_errors
def cancel(paths: AppPaths, kind: str, request: gr.Request | None = None) -> str:
    """Cancel the `pull` or the `push` that runs (`kind`); nothing of it is saved."""
    if kind == "pull":
        limits.refuse("pulling from the Hub is disabled")
    if kind not in KINDS:
        raise VKDError(f"'{kind}' is neither pull nor push.")
    job = background.current(_key(paths, kind, request))
    if job is None or job.state != "running":
        raise VKDError(f"No {kind} is running: there is nothing to cancel.")
    job.cancel()
    return views.progress_html(kind, job)


@limits.rate_limited
@show_errors
def card_file(paths: AppPaths, checkpoint: str, repo: str = "", teacher: str = "") -> str:
    """Return the model card of a checkpoint as a file, README.md, as `hub_preview` shows it; sends nothing.

    `checkpoint` is a folder's name; `repo` and `teacher` (user/name) may be empty.
    """
    folder = state.checkpoint_folder(paths, checkpoint)
    text = hub_push.card_text(folder, (repo or "").strip() or None, teacher=(teacher or "").strip() or None)
    return components.download_path(text.encode("utf-8"), "README.md")
