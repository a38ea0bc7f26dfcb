"""`vkd hub pull`, `push` and `card`. Tokens come from the login or HF_TOKEN, never from a flag."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from vkd.cli.options import argument, flag, parse, progress_bar, refuse
from vkd.io.files import write_text

if TYPE_CHECKING:
    from vkd.hub.push import Plan

ENDPOINT = "Address of another Hub; none: HF_ENDPOINT or huggingface.co. Your token goes there."
_TOKENS = "A private repository needs `hf auth login` or HF_TOKEN."


class PullFlags(pydantic.BaseModel):
    repo: str = argument("Repository, user/name.")
    root: Path = flag(Path("checkpoints"), "Folder that gets the checkpoint's folder.")
    revision: str | None = flag(None, "Branch, tag or commit; none: the main branch.")
    name: str | None = flag(None, "Name of the folder; none: the repository's.")
    pair: bool = flag(False, "Also download the teacher that its card names.")
    endpoint: str | None = flag(None, ENDPOINT)


def pull(argv: Sequence[str]) -> int:
    about = f"Download a checkpoint: pinned to a commit, checked, whole or not at all. {_TOKENS}"
    (flags,) = parse("vkd hub pull", about, argv, [PullFlags])
    from vkd.hub import pull as hub_pull

    with quiet_client():
        request = hub_pull.PullRequest(**flags.model_dump(exclude={"root"}))
        pulled = hub_pull.pull(request, flags.root, progress=progress_bar("B"))
    for each in pulled:
        how = ", already up to date" if each.unchanged else ""
        how += ", from the cache: the Hub is not reachable" if each.offline else ""
        print(f"{each.folder}: {each.repo} at {each.commit[:8]}{how}")
    return 0


class PushFlags(pydantic.BaseModel):
    folder: Path = argument("Folder of a checkpoint or a run.")
    repo: str = argument("Repository, user/name; created if it is missing.")
    public: bool = flag(False, "Create a public repository, or allow a push to one.")
    revision: str | None = flag(None, "Branch, created if it is missing; none: the main branch.")
    pull_request: bool = flag(False, "Propose the commit instead of making it.")
    teacher: str | None = flag(None, "Repository of a student's teacher; none: from the folders.")
    message: str | None = flag(None, "Title of the commit.")
    dry_run: bool = flag(False, "List the files to upload, and upload nothing.")
    endpoint: str | None = flag(None, ENDPOINT)


def push(argv: Sequence[str]) -> int:
    about = "Upload a checkpoint and its card. It needs `hf auth login` or HF_TOKEN."
    (flags,) = parse("vkd hub push", about, argv, [PushFlags])
    from vkd.hub import push as hub_push

    options = flags.model_dump(exclude={"public", "dry_run"})
    request = hub_push.PushRequest(private=not flags.public, **options)
    if flags.dry_run:
        _show(hub_push.preview(request), "Would upload")
        return 0
    with quiet_client():
        url = hub_push.push(request, on_plan=_show, progress=progress_bar("B"))
    print(url)
    return 0


class CardFlags(pydantic.BaseModel):
    folder: Path = argument("Folder of a checkpoint or a run.")
    repo: str | None = flag(None, "Repository of the card, user/name.")
    teacher: str | None = flag(None, "Repository of a student's teacher.")
    out: Path | None = flag(None, "Write the card to this file; none: print it.")


def card(argv: Sequence[str]) -> int:
    (flags,) = parse("vkd hub card", "Show the model card that a push would upload.", argv, [CardFlags])
    from vkd.hub import push as hub_push

    text = hub_push.card_text(flags.folder, flags.repo, teacher=flags.teacher)
    if flags.out is None:
        print(text.rstrip())
        return 0
    write_text(flags.out, text)
    print(flags.out)
    return 0


ACTIONS = {"pull": pull, "push": push, "card": card}


def hub(argv: Sequence[str]) -> int:
    """Runs one of the three; returns the exit code."""
    if argv and argv[0] in ACTIONS:
        return ACTIONS[argv[0]](argv[1:])
    usage = (
        "usage: vkd hub pull REPO | push FOLDER REPO | card FOLDER\n\nDownload or upload checkpoints "
        "on the Hugging Face Hub.\n\nvkd hub pull --help (push, card) explains the flags."
    )
    if argv and argv[0] in ("-h", "--help"):
        print(usage)
        return 0
    problem = f"there is no '{argv[0]}': " if argv else ""
    return refuse("vkd hub", f"{problem}choose pull, push or card")


def _show(plan: "Plan", verb: str = "Uploading") -> None:
    print(f"{verb} to {plan.repo}:")
    for each in plan.files:
        print(f"  {each.size:>12,}  {each.path}")
    if plan.not_uploaded:
        print(f"Not uploaded: {', '.join(plan.not_uploaded)}")
    sys.stdout.flush()


@contextmanager
def quiet_client() -> Iterator[None]:
    """Silences progress bars and warnings of huggingface_hub, which would repeat ours."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    level, bars = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity_error()
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            enable_progress_bars()
