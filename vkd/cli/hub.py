"""`vkd hub pull`, `push` and `card`. Tokens come from the client's login or HF_TOKEN, never from a flag."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from vkd.cli.options import argument, flag, parse, refuse

if TYPE_CHECKING:
    from vkd.hub.pull import Plan, Progress

ENDPOINT = "Address of another Hub; none: HF_ENDPOINT or huggingface.co. Your token goes there."
_TOKENS = "A private repository needs `hf auth login` or HF_TOKEN."


class PullFlags(pydantic.BaseModel):
    repo: str = argument("Repository, user/name.")
    root: Path = flag(Path("checkpoints"), "Folder that gets the checkpoint's folder.")
    revision: str | None = flag(None, "Branch, tag or commit; none: the main branch.")
    name: str | None = flag(None, "Name of the folder; none: the repository's.")
    pair: bool = flag(False, "Bring the teacher that its card names too.")
    endpoint: str | None = flag(None, ENDPOINT)


def pull(argv: Sequence[str]) -> int:
    about = f"Bring a checkpoint from the Hub: pinned to a commit, checked, whole or not at all. {_TOKENS}"
    (flags,) = parse("vkd hub pull", about, argv, [PullFlags])
    from vkd.hub import pull as hub_pull

    with quiet_client(), _bar() as progress:
        found = hub_pull.pull(progress=progress, **flags.model_dump())
    for each in found:
        how = ", there already" if each.there else ""
        how += ", from the cache: the Hub is out of reach" if each.offline else ""
        print(f"{each.folder}: {each.repo} at {each.commit[:8]}{how}")
    return 0


class PushFlags(pydantic.BaseModel):
    folder: Path = argument("Folder of a checkpoint or a run.")
    repo: str = argument("Repository, user/name; made if it is missing.")
    public: bool = flag(False, "A new repository is public; an old one may be.")
    revision: str | None = flag(None, "Branch, made if it is missing; none: the main branch.")
    pull_request: bool = flag(False, "Propose the commit instead of making it.")
    teacher: str | None = flag(None, "Repository of a student's teacher; none: as far as folders tell.")
    message: str | None = flag(None, "Title of the commit.")
    dry_run: bool = flag(False, "Show what would be sent, and send nothing.")
    endpoint: str | None = flag(None, ENDPOINT)


def push(argv: Sequence[str]) -> int:
    about = "Send a checkpoint and its card to the Hub. It needs `hf auth login` or HF_TOKEN."
    (flags,) = parse("vkd hub push", about, argv, [PushFlags])
    from vkd.hub import pull as hub_pull

    if flags.dry_run:
        _show(hub_pull.plan(flags.folder, flags.repo, teacher=flags.teacher), "Would send")
        return 0
    options = flags.model_dump(exclude={"folder", "repo", "public", "dry_run"})
    with quiet_client(), _bar() as progress:
        url = hub_pull.push(
            flags.folder, flags.repo, private=not flags.public, preview=_show, progress=progress, **options
        )
    print(url)
    return 0


class CardFlags(pydantic.BaseModel):
    folder: Path = argument("Folder of a checkpoint or a run.")
    repo: str | None = flag(None, "Repository that it will stand in, user/name.")
    teacher: str | None = flag(None, "Repository of a student's teacher.")
    out: Path | None = flag(None, "Write the card to this file; none: print it.")


def card(argv: Sequence[str]) -> int:
    (flags,) = parse("vkd hub card", "Show the card that a push would send.", argv, [CardFlags])
    from vkd.hub import pull as hub_pull

    text = hub_pull.card_of(flags.folder, flags.repo, teacher=flags.teacher)
    if flags.out is None:
        print(text.rstrip())
        return 0
    flags.out.write_text(text, encoding="utf-8")
    print(flags.out)
    return 0


DEEDS = {"pull": pull, "push": push, "card": card}


def hub(argv: Sequence[str]) -> int:
    """One of the three; → exit code."""
    if argv and argv[0] in DEEDS:
        return DEEDS[argv[0]](argv[1:])
    usage = (
        "usage: vkd hub pull REPO | push FOLDER REPO | card FOLDER\n\nBring checkpoints from the Hugging "
        "Face Hub, or take them there.\n\nvkd hub pull --help (push, card) explains the flags."
    )
    if argv and argv[0] in ("-h", "--help"):
        print(usage)
        return 0
    wrong = f"there is no '{argv[0]}': " if argv else ""
    return refuse("vkd hub", f"{wrong}choose pull, push or card")


def _show(found: "Plan", verb: str = "Sending") -> None:
    print(f"{verb} to {found.repo}:")
    for each in found.files:
        print(f"  {each.size:>12,}  {each.path}")
    if found.left:
        print(f"Stays here: {', '.join(found.left)}")
    sys.stdout.flush()


@contextmanager
def quiet_client() -> Iterator[None]:
    """Inside, the client shows no bars and no warnings of its own: ours say what there is to say."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    level, shown = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity_error()
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            enable_progress_bars()


@contextmanager
def _bar() -> "Iterator[Progress]":
    """A progress bar over bytes, on a terminal only."""
    from tqdm import tqdm

    with tqdm(
        leave=False, disable=not sys.stderr.isatty(), dynamic_ncols=True, unit="B", unit_scale=True
    ) as shown:

        def told(done: int, total: int, name: str) -> None:
            shown.total = total
            shown.set_description(name, refresh=False)
            shown.update(done - shown.n)

        yield told
