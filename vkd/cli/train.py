"""`vkd train teacher` and `vkd train student`: settings from flags, a progress bar, a record for others."""

import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import pydantic
from pydantic import Field

from vkd.cli.options import parse, refuse
from vkd.jobs import runs
from vkd.training import settings as asked
from vkd.training.callbacks import Callback, Event
from vkd.training.presets import PRESETS
from vkd.training.settings import STAGES, Settings, StudentSettings

STOPPED = 3  # exit code of a run that was asked to stop by another process; a signal gives 128 + its number

_ABOUT = {
    "teacher": "Stage 1: train a teacher on the views of one tracklet.",
    "student": "Stage 2: train a student that sees few views with a teacher that sees many.",
}


class RunFlags(pydantic.BaseModel):
    """What concerns the run's folder and not the training."""

    folder: Path | None = Field(
        None,
        description="Folder of the run. One that exists goes on where it stands, with its own settings for "
        "every flag that is not given; none: a new one under --checkpoints",
    )
    checkpoints: Path = Field(Path("checkpoints"), description="Folder in which new runs are made")
    detach: bool = Field(
        False, description="Train in a process of its own and return at once; output goes to log.txt"
    )
    wait: bool = Field(
        False,
        description="Wait until the runs that began earlier in the same folder of runs have left the device; "
        "runs that are started detached or in the app always do",
    )


class GenerationFlags(pydantic.BaseModel):
    generations: int = Field(
        1,
        ge=1,
        le=20,
        description="Train this many students, one after another, each the teacher of the next",
    )


def train(argv: Sequence[str]) -> int:
    """The verb; → exit code."""
    if not argv or argv[0] not in STAGES:
        return _choose_stage(argv)
    stage, argv = argv[0], list(argv[1:])
    prog = f"vkd train {stage}"
    settings, run, generations = _asked(prog, stage, argv)
    if isinstance(settings, StudentSettings) and settings.teacher is None:
        refuse(prog, "a student needs a teacher: give --teacher FOLDER")
    if run.folder is None and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        refuse(prog, "several processes must know one folder: give --folder")
    if run.detach:
        return _detach(settings, run, prog, generations)
    return _chain(settings, run, generations)


def _choose_stage(argv: Sequence[str]) -> int:
    wanted = bool(argv) and argv[0] in ("-h", "--help")
    lines = [f"  {stage:<9}{about}" for stage, about in _ABOUT.items()]
    usage = "usage: vkd train {teacher,student} [OPTIONS]\n\n" + "\n".join(lines)
    presets = "\n".join(f"  {name}" for name in PRESETS)
    more = "\n\nEach has its own --help. Presets (--preset NAME):\n" + presets
    if wanted:
        print(usage + more)
        return 0
    named = f"'{argv[0]}' is no stage" if argv else "say which stage"
    print(f"vkd train: {named}\n{usage}", file=sys.stderr)
    return 2


def _asked(prog: str, stage: str, argv: list[str]) -> tuple[Settings, RunFlags, int]:
    """Settings from, in this order: flags; the preset; the folder's settings.json; the defaults."""
    preset, folder = _peek(argv, "--preset"), _peek(argv, "--folder")
    defaults: dict[str, Any] = {}
    if folder and not preset and (kept := Path(folder) / "settings.json").is_file():
        old = asked.load(kept)
        if old.stage != stage:
            refuse(prog, f"{folder} is the run of a {old.stage}: use vkd train {old.stage}")
        defaults = old.model_dump()
    if preset:
        row = PRESETS.get(preset)
        if row is None or row.stage != stage:
            names = ", ".join(name for name, other in PRESETS.items() if other.stage == stage)
            refuse(prog, f"'{preset}' is no preset of a {stage}; choose one of {names}")
        defaults = row.settings().model_dump()
    models: list[type[pydantic.BaseModel]] = [STAGES[stage], RunFlags]
    if stage == "student":
        models.append(GenerationFlags)
    about = f"{_ABOUT[stage]} The same command on the same folder goes on where it stopped."
    settings, run, *rest = parse(prog, about, argv, models, defaults)
    generations = rest[0].generations if rest and isinstance(rest[0], GenerationFlags) else 1
    assert isinstance(settings, Settings)
    assert isinstance(run, RunFlags)
    return settings, run, generations


def _peek(argv: Sequence[str], flag: str) -> str | None:
    """The value of one flag, before the others can be read: it decides their defaults."""
    for place, word in enumerate(argv):
        if word == flag:
            return argv[place + 1] if place + 1 < len(argv) else None
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return None


def _detach(settings: Settings, run: RunFlags, prog: str, generations: int) -> int:
    if generations > 1:
        refuse(prog, "--detach trains one generation at a time")
    if run.folder is None:
        folder = runs.start(settings, run.checkpoints)
    else:
        runs.check(run.folder)
        run.folder.mkdir(parents=True, exist_ok=True)
        _keep(settings, run.folder)
        folder = runs.start(folder=run.folder)
    print(folder)
    return 0


def _keep(settings: Settings, folder: Path) -> None:
    """settings.json for a folder that has none; one that is there belongs to the run (`train` compares)."""
    if not (folder / "settings.json").exists():
        asked.save(settings, folder / "settings.json")


def _chain(settings: Settings, run: RunFlags, generations: int) -> int:
    """Train; each generation in a folder of its own (name, name-g1, …) with the last student as teacher."""
    first = run.folder or runs.create(run.checkpoints, settings)
    code, folder = _one(settings, first, run.wait), first
    for generation in range(1, generations):
        if code:
            break
        assert isinstance(settings, StudentSettings)
        settings = settings.changed(teacher=folder, start=None, generation=settings.generation + 1)
        folder = first.with_name(f"{first.name}-g{generation}")
        code = _one(settings, folder, run.wait)
    return code


def _one(settings: Settings, folder: Path, wait: bool = False) -> int:
    """Trains one run in its folder and shows it; returns the exit code."""
    caught: list[int] = []
    runs.check(folder)  # before anything is written there
    folder.mkdir(parents=True, exist_ok=True)
    first = int(os.environ.get("RANK", 0)) == 0
    with _signals(caught), _shown(folder) if first else nullcontext() as show:
        last = runs.train(settings, folder, [show] if show else [], lambda: bool(caught), wait=wait)
    if last["kind"] == "finished":
        return 0
    return 128 + caught[0] if caught else STOPPED


@contextmanager
def _signals(caught: list[int]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM is noted, the second takes its usual effect.

    Set before readers of pictures are forked, so that a Ctrl-C in the terminal does not kill them.
    """

    def note(number: int, frame: object) -> None:
        caught.append(number)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shown(folder: Path) -> Iterator[Callback]:
    """Yields a callback that shows a progress bar on a terminal, and lines elsewhere and in log.txt."""
    from tqdm import tqdm

    epochs = steps = 0
    live = sys.stderr.isatty()
    with tqdm(unit="step", disable=not live, dynamic_ncols=True) as bar, _log(folder) as log:

        def show(event: Event) -> None:
            nonlocal epochs, steps
            if event["kind"] == "started":
                epochs, steps = event["epochs"], event["steps"]
                bar.reset(total=epochs * steps)
                bar.initial = bar.n = event["epoch"] * steps + event["step"]
            elif event["kind"] == "step":
                bar.set_postfix_str(
                    f"{_losses(event)}, {event['images_per_second']:.0f} images/s", refresh=False
                )
                bar.update(event["epoch"] * steps + event["step"] - bar.n)
            line = _line(event, folder, epochs)
            if line and not (live and event["kind"] == "epoch"):
                with _output_errors_ignored():
                    tqdm.write(line)
                    sys.stdout.flush()
            if line and log is not None:
                with _output_errors_ignored():
                    log.write(line + "\n")
                    log.flush()

        yield show


@contextmanager
def _output_errors_ignored() -> Iterator[None]:
    """Ignores a full disk and a closed pipe: they cost a line, and not the run."""
    try:
        yield
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 (until the process ends)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            raise


@contextmanager
def _log(folder: Path) -> Iterator[TextIO | None]:
    """log.txt to write to, or None where what is printed goes there already (see `runs.start`)."""
    with (folder / "log.txt").open("a", encoding="utf-8") as file:
        try:
            already = os.path.sameopenfile(sys.stdout.fileno(), file.fileno())
        except (OSError, ValueError):
            already = False
        yield None if already else file


def _losses(event: Event) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in event["losses"].items())


def _line(event: Event, folder: Path, epochs: int) -> str:
    """What a person reads of an event; empty for those that need no words."""
    kind, epoch = event["kind"], event["epoch"]
    if kind == "started":
        several = f", {event['processes']} processes" if event["processes"] > 1 else ""
        going = f"Going on in {folder} after epoch {epoch}" if event["resumed"] else f"Training in {folder}"
        facts = (
            f"{event['identities']} identities, {event['steps']} steps an epoch, {event['device']}{several}"
        )
        return "\n".join([f"{going}: {facts}.", *event["notes"]])
    if kind == "waiting":
        return f"Waiting for {', '.join(event['ahead'])} to leave the device ({event['device']})."
    if kind == "sanity_check":
        return "A small evaluation before the first epoch went well."
    if kind == "epoch":
        pace = f"lr {event['learning_rate']:.1e}, {event['images_per_second']:.0f} images/s"
        return f"epoch {epoch}/{epochs}: {_losses(event)}, {pace}, {event['memory_mb']:.0f} MiB"
    if kind == "scores":
        parts = [
            f"{protocol.upper()} mAP {100 * values['map']:.2f} %, top-1 {100 * values['top1']:.2f} %"
            for protocol, values in event["scores"].items()
        ]
        return f"epoch {epoch}/{epochs}: {'; '.join(parts)}"
    if kind == "finished":
        return f"Finished: {folder}"
    if kind == "probes" and event["why"]:
        return f"The probe pictures could not be looked at: {event['why']}"
    if kind == "stopped":
        return f"Stopped after epoch {epoch} and saved; the same command on {folder} goes on."
    return ""
