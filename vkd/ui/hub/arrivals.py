"""What the Hub tab does to bring checkpoints here: pull, and cancel what is under way.

A public demo pulls nothing.
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from vkd.hub import pull as hub_pull
from vkd.io.errors import VKDError
from vkd.ui import limits
from vkd.ui.errors import show_errors
from vkd.ui.hub import hub_jobs, views
from vkd.ui.hub.hub_jobs import Job
from vkd.ui.state import AppPaths


@show_errors
def _begin_pull(
    paths: AppPaths, repo: str, revision: str, pair: bool, token: str, name: str, visitor: str
) -> Job:
    limits.refuse("it pulls nothing from the Hub")
    if not hub_jobs.given(repo):
        raise VKDError("No repository is given: write it as user/name.")
    secret = hub_jobs.given(token)
    request = hub_pull.PullRequest(repo, revision, name, bool(pair), token=secret, endpoint=hub_jobs.ENDPOINT)

    def work(job: Job) -> None:
        job.pulled = hub_pull.pull(request, paths.checkpoints, progress=job.progress)

    return hub_jobs.start(paths, Job("pull", request.repo), work, visitor, secret)


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
    a student's card names, `token` is for what is private and is kept nowhere, `name` that of the folder here
    (empty: that of the repository). Answers again and again with state, done and total (bytes), at last with
    `pulled`: for each its checkpoint, repo, commit, offline (from this machine's cache), there (it was here
    already), stage, backbone, dataset, files (sizes) and card. Leaving does not end the work, `hub_cancel`
    does.
    """
    job = _begin_pull(paths, repo, revision, pair, token, name, hub_jobs.visitor(request))
    for _ in job.ticks():
        yield views.progress_html(job), job.as_data()
    hub_jobs.raise_wrong(job)
    yield _pull_shown(job)[1], job.as_data() | {"pulled": views.pulled_data(job.pulled)}


def pull_now(
    paths: AppPaths,
    repo: str,
    revision: str,
    pair: bool,
    token: str,
    name: str,
    request: gr.Request | None = None,
) -> Iterator[tuple[Any, Any]]:
    """`pull` for the page: what went wrong stands where the answer would be, and no older answer."""
    try:
        job = _begin_pull(paths, repo, revision, pair, token, name, hub_jobs.visitor(request))
    except gr.Error as wrong:
        yield views.refusal(wrong.message), ""
        return
    yield from _watch_pull(job)


def watch_pull(paths: AppPaths, request: gr.Request | None = None) -> Iterator[tuple[Any, Any]]:
    """A page that is opened while something is pulled shows how far it is."""
    job = hub_jobs.current(paths, "pull", hub_jobs.visitor(request))
    if job is None or job.state != "working":
        yield gr.skip(), gr.skip()
        return
    yield from _watch_pull(job)


def _watch_pull(job: Job) -> Iterator[tuple[Any, Any]]:
    for _ in job.ticks():
        yield views.progress_html(job), ""
    yield _pull_shown(job)


@show_errors
def _pull_shown(job: Job) -> tuple[str, str]:
    if job.state == "done":
        return "", views.pulled_html(job.pulled)
    return views.ended_html(job), ""


@show_errors
def cancel(paths: AppPaths, kind: str, request: gr.Request | None = None) -> str:
    """Ask the `pull` or the `push` that is under way to end (`kind` says which); nothing of it is kept."""
    if kind == "pull":
        limits.refuse("it pulls nothing from the Hub")
    if kind not in hub_jobs.KINDS:
        raise VKDError(f"'{kind}' is neither pull nor push.")
    return views.progress_html(hub_jobs.cancel(paths, kind, hub_jobs.visitor(request)))
