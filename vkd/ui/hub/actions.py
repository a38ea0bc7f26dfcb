"""What the Hub tab does to send checkpoints: preview, push of what was previewed, the card as a file.

A public demo pushes with the visitor's own login and nothing else.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from vkd.hub import push as hub_push
from vkd.hub.push import PushRequest
from vkd.io.errors import VKDError
from vkd.ui import components, limits, mode, state
from vkd.ui.errors import show_errors
from vkd.ui.hub import hub_jobs, views
from vkd.ui.hub.hub_jobs import Job
from vkd.ui.state import AppPaths

# ---- preview


def _request(
    paths: AppPaths,
    checkpoint: str,
    repo: str,
    teacher: str,
    private: bool,
    revision: str,
    pull_request: bool,
    token: str | None = None,
) -> PushRequest:
    """The form as a request. Raises VKDError for names that cannot be."""
    if not hub_jobs.given(repo):
        raise VKDError("No repository is given: write it as user/name.")
    return PushRequest(
        state.checkpoint_folder(paths, checkpoint),
        repo,
        private=bool(private),
        revision=revision,
        pull_request=bool(pull_request),
        teacher=teacher,
        token=token,
        endpoint=hub_jobs.ENDPOINT,
    )


def _terms(request: PushRequest) -> str:
    """How it would go, in sentences."""
    how = "As a pull request" if request.pull_request else "In one commit"
    where = f" on the branch {request.revision}" if request.revision else ""
    new = (
        "" if request.pull_request else f" A new repository is {'private' if request.private else 'public'}."
    )
    return f"{how}{where}.{new}"


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
    """What a push would send: files with their sizes, what stays here, the card. Sends nothing.

    `checkpoint` is a folder's name, `repo` and `teacher` (of a student, may be empty) are user/name. The
    answer's `previewed` is what `hub_push` asks for.
    """
    request = _request(paths, checkpoint, repo, teacher, private, revision, pull_request)
    plan = hub_push.preview(request)
    return views.plan_html(plan, _terms(request)), views.plan_data(plan)


def preview_now(paths: AppPaths, *asked: Any) -> tuple[Any, str, Any]:
    """`preview` for the page: what went wrong stands where the answer would be."""
    try:
        shown, data = preview(paths, *asked)
    except gr.Error as wrong:
        return "", views.refusal(wrong.message), None
    return shown, "", data


# ---- push


def can_log_in(given: Mapping[str, str]) -> bool:
    """Whether visitors can log in here: on a Space whose card asks for it, with the packages it takes."""
    there = given.get("SYSTEM") == "spaces" and given.get("SPACE_ID") and given.get("OAUTH_CLIENT_ID")
    return bool(there) and all(importlib.util.find_spec(name) for name in ("authlib", "itsdangerous"))


def _token_for_push(token: str, login: gr.OAuthToken | None) -> str | None:
    """Whose right a push uses: in a public demo the visitor's login alone, never the Space's own."""
    if mode.DEMO:
        if login is None:
            raise VKDError("Log in with Hugging Face first: a demo pushes to your own account only.")
        return login.token
    return hub_jobs.given(token) or (login.token if login else None)


@limits.rate_limited
@show_errors
def _begin_push(
    paths: AppPaths,
    asked: Sequence[Any],
    token: str,
    previewed: str,
    visitor: str,
    login: gr.OAuthToken | None,
) -> Job:
    if not previewed:
        raise VKDError("Nothing was previewed yet: look at what would be sent, then push.")
    hub_request = _request(paths, *asked, token=_token_for_push(token, login))

    def work(job: Job) -> None:
        job.url = hub_push.push(hub_request, digest=previewed, progress=job.progress)

    return hub_jobs.start(paths, Job("push", hub_request.repo), work, visitor, _secret(hub_request))


def _secret(request: PushRequest) -> str | None:
    return request.token if isinstance(request.token, str) else None


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
    """Send a checkpoint to the Hub in one commit, exactly as `hub_preview` showed it.

    The first six arguments as there, `previewed` from its answer. `token` may write to the repository and is
    kept nowhere; empty: the login of the app's machine. A missing repository is made, private unless told
    otherwise. Answers again and again with state, done and total (bytes), at last with the `url` of the
    commit or pull request. Leaving does not end the work, `hub_cancel` does.
    """
    asked = (checkpoint, repo, teacher, private, revision, pull_request)
    job = _begin_push(paths, asked, token, previewed, hub_jobs.visitor(request), login)
    for _ in job.ticks():
        yield views.progress_html(job), job.as_data()
    hub_jobs.raise_wrong(job)
    yield views.ended_html(job), job.as_data() | {"url": job.url}


def push_now(
    paths: AppPaths,
    checkpoint: str,
    repo: str,
    teacher: str,
    private: bool,
    revision: str,
    pull_request: bool,
    token: str,
    previewed: str,
    request: gr.Request | None = None,
    login: gr.OAuthToken | None = None,
) -> Iterator[tuple[Any, Any]]:
    """`push` for the page: what went wrong stands where the answer would be, and what was sent is no longer
    previewed.
    """
    asked = (checkpoint, repo, teacher, private, revision, pull_request)
    try:
        job = _begin_push(paths, asked, token, previewed, hub_jobs.visitor(request), login)
    except gr.Error as wrong:
        yield views.refusal(wrong.message), gr.skip()
        return
    for told in _watch_push(job):
        yield told, gr.skip()
    if job.state == "done":
        yield views.ended_html(job), ""


def watch_push(paths: AppPaths, request: gr.Request | None = None) -> Iterator[Any]:
    """A page that is opened while something is pushed shows how far it is."""
    job = hub_jobs.current(paths, "push", hub_jobs.visitor(request))
    if job is None or job.state != "working":
        yield gr.skip()
        return
    yield from _watch_push(job)


def _watch_push(job: Job) -> Iterator[str]:
    for _ in job.ticks():
        yield views.progress_html(job)
    yield views.ended_html(job)


# ---- the card alone


@limits.rate_limited
@show_errors
def card_file(paths: AppPaths, checkpoint: str, repo: str = "", teacher: str = "") -> str:
    """The model card of a checkpoint as a file, README.md, as `hub_preview` shows it; nothing is sent.

    `checkpoint` is a folder's name; `repo` and `teacher` (user/name) may be empty.
    """
    folder = state.checkpoint_folder(paths, checkpoint)
    text = hub_push.card_text(folder, hub_jobs.given(repo), teacher=hub_jobs.given(teacher))
    return components.download_path(text.encode("utf-8"), "README.md")
