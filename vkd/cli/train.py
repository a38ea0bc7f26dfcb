"""`vkd train teacher` and `vkd train student`: settings from flags, a progress bar, a record for others."""

import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import pydantic
from pydantic import Field

from vkd.cli.options import parse, refuse
from vkd.jobs import runs, turns
from vkd.training import resume
from vkd.training import settings as asked
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
        resume.check(run.folder)
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


def _is_first() -> bool:
    """Whether this process writes the files; accelerate's launcher numbers them before anything starts."""
    return int(os.environ.get("RANK", 0)) == 0


def _one(settings: Settings, folder: Path, wait: bool = False) -> int:
    """One run in its folder: lock, train, write down, show; → exit code."""
    from vkd.explain.snapshots import watched
    from vkd.training.loop import train as events_of

    caught: list[int] = []
    resume.check(folder)  # before anything is written there
    folder.mkdir(parents=True, exist_ok=True)
    with _signals(caught), runs.lock(folder) if _is_first() else nullcontext(), _cleared(folder):

        def stop() -> bool:
            return bool(caught) or runs.stop_asked(folder)

        events: Iterator[dict[str, Any]] = events_of(settings, folder, stop)
        if not _is_first():
            return _code([event["kind"] for event in events], caught)
        events = turns.in_turn(events, folder, turns.device_name(settings.device), stop, wait=wait)
        events = runs.record(folder, watched(events, folder, settings))
        if settings.tensorboard:
            events = _boarded(folder, events)
        return _code(_shown(folder, events), caught)


@contextmanager
def _cleared(folder: Path) -> Iterator[None]:
    """A run that fails before it started leaves nothing behind, unless its folder held something before."""
    new = _is_first() and not ({path.name for path in folder.iterdir()} - {"lock", "settings.json"})
    try:
        yield
    except (ValueError, OSError):
        if new and not any(event["kind"] == "started" for event in runs.read(folder)[0]):
            shutil.rmtree(folder)
        raise


def _code(kinds: Sequence[str], caught: Sequence[int]) -> int:
    if kinds and kinds[-1] == "finished":
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


def _boarded(folder: Path, events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same events, their numbers also written for TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for event in events:
            if event["kind"] in ("epoch", "scores"):
                for name, value in runs.numbers(event).items():
                    writer.add_scalar(name, value, event["epoch"])
            yield event


def _shown(folder: Path, events: Iterator[dict[str, Any]]) -> list[str]:
    """A progress bar on a terminal, lines elsewhere and always in log.txt; → the kinds of the events seen."""
    from tqdm import tqdm

    kinds: list[str] = []
    epochs = steps = 0
    live = sys.stderr.isatty()
    with tqdm(unit="step", disable=not live, dynamic_ncols=True) as bar, _log(folder) as log:
        for event in events:
            kinds.append(event["kind"])
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
            with _full_disk_passed_over():
                if line and not (live and event["kind"] == "epoch"):
                    tqdm.write(line)
                    sys.stdout.flush()
                if line and log is not None:
                    log.write(line + "\n")
                    log.flush()
    return kinds


@contextmanager
def _full_disk_passed_over() -> Iterator[None]:
    """A full disk costs the log a line and not the run its life: the next save says what is wrong."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
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


def _losses(event: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in event["losses"].items())


def _line(event: dict[str, Any], folder: Path, epochs: int) -> str:
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
