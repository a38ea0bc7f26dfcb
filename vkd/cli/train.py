"""`vkd train teacher` and `vkd train student`: settings from flags, a progress bar, lines in log.txt."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import pydantic

from vkd.cli.options import flag, parse, refuse
from vkd.jobs import runs
from vkd.metrics.ranking import METRICS, headlines, metric_value
from vkd.training import settings as settings_io
from vkd.training.callbacks import Callback, Event
from vkd.training.presets import PRESETS
from vkd.training.settings import STAGES, Settings, StudentSettings

STOPPED = 3  # exit code of a run that was asked to stop by another process; a signal gives 128 + its number

_ABOUT = {
    "teacher": "Stage 1: train a teacher on the views of one tracklet.",
    "student": "Stage 2: train a student on few views, with a teacher on many.",
}


class RunFlags(pydantic.BaseModel):
    """Flags of the run's folder."""

    folder: Path | None = flag(
        None,
        "Folder of the run. An existing run is resumed, with its own settings for every flag that is not "
        "given; none: a new folder under --checkpoints.",
    )
    checkpoints: Path = flag(Path("checkpoints"), "Folder in which new runs are created.")
    detach: bool = flag(False, "Train in a process of its own and return at once; output goes to log.txt.")
    wait: bool = flag(
        False,
        "Queue behind the runs of the same folder that started earlier on the device; detached runs and runs "
        "started in the app always do.",
    )


class GenerationFlags(pydantic.BaseModel):
    generations: int = flag(
        1, "Train this many students, one after another, each the teacher of the next.", ge=1, le=20
    )


def train(argv: Sequence[str]) -> int:
    """Runs the verb; returns the exit code."""
    if not argv or argv[0] not in STAGES:
        return _choose_stage(argv)
    stage, argv = argv[0], list(argv[1:])
    prog = f"vkd train {stage}"
    settings, run, generations = _settings(prog, stage, argv)
    if isinstance(settings, StudentSettings) and settings.teacher is None:
        refuse(prog, "a student needs a teacher: give --teacher FOLDER")
    if run.folder is None and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        refuse(prog, "several processes need one folder: give --folder")
    if run.detach:
        return _detach(settings, run, prog, generations)
    return _chain(settings, run, generations)


def _choose_stage(argv: Sequence[str]) -> int:
    lines = [f"  {stage:<9}{about}" for stage, about in _ABOUT.items()]
    usage = "usage: vkd train {teacher,student} [OPTIONS]\n\n" + "\n".join(lines)
    presets = "\n".join(f"  {name}" for name in PRESETS)
    more = "\n\nEach has its own --help. Presets (--preset NAME):\n" + presets
    if argv and argv[0] in ("-h", "--help"):
        print(usage + more)
        return 0
    problem = f"'{argv[0]}' is not a stage" if argv else "a stage is missing"
    print(f"vkd train: {problem}\n{usage}", file=sys.stderr)
    return 2


def _settings(prog: str, stage: str, argv: list[str]) -> tuple[Settings, RunFlags, int]:
    """Settings from flags, else the preset, else the folder's settings.json, else the defaults."""
    preset, folder = _peek(argv, "--preset"), _peek(argv, "--folder")
    defaults: dict[str, Any] = {}
    if folder and not preset and (file := Path(folder) / "settings.json").is_file():
        old = settings_io.load(file)
        if old.stage != stage:
            refuse(prog, f"{folder} is the run of a {old.stage}: use vkd train {old.stage}")
        defaults = old.model_dump(by_alias=False)
    if preset:
        row = PRESETS.get(preset)
        if row is None or row.stage != stage:
            names = ", ".join(name for name, other in PRESETS.items() if other.stage == stage)
            refuse(prog, f"'{preset}' is not a preset of a {stage}; choose one of {names}")
        defaults = row.settings().model_dump(by_alias=False)
    models: list[type[pydantic.BaseModel]] = [STAGES[stage], RunFlags]
    if stage == "student":
        models.append(GenerationFlags)
    about = f"{_ABOUT[stage]} The same command on the same folder resumes the run."
    settings, run, *rest = parse(prog, about, argv, models, defaults)
    generations = rest[0].generations if rest and isinstance(rest[0], GenerationFlags) else 1
    assert isinstance(settings, Settings)
    assert isinstance(run, RunFlags)
    return settings, run, generations


def _peek(argv: Sequence[str], name: str) -> str | None:
    """Reads one flag before the others, whose defaults depend on it."""
    for index, word in enumerate(argv):
        if word == name:
            return argv[index + 1] if index + 1 < len(argv) else None
        if word.startswith(name + "="):
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
        if not (run.folder / "settings.json").exists():  # one that exists belongs to the run
            settings_io.save(settings, run.folder / "settings.json")
        folder = runs.start(folder=run.folder)
    print(folder)
    return 0


def _chain(settings: Settings, flags: RunFlags, generations: int) -> int:
    """Trains all generations, each in its own folder (name, name-g1, …), taught by the last student."""
    first = flags.folder or runs.create(flags.checkpoints, settings)
    code, folder = _code(*run(settings, first, flags.wait)), first
    for generation in range(1, generations):
        if code:
            break
        assert isinstance(settings, StudentSettings)
        settings = settings.changed(teacher=folder, start=None, generation=settings.generation + 1)
        folder = first.with_name(f"{first.name}-g{generation}")
        code = _code(*run(settings, folder, flags.wait))
    return code


def _code(last: Event, signals: Sequence[int]) -> int:
    if last["kind"] == "finished":
        return 0
    return 128 + signals[0] if signals else STOPPED


def run(settings: Settings, folder: Path, wait: bool = False) -> tuple[Event, list[int]]:
    """Trains one run in its folder, printing progress; returns the last event and the signals caught.

    The first Ctrl-C or SIGTERM stops the run after saving. Raises VKDError as `vkd.jobs.runs.train`.
    """
    runs.check(folder)  # before anything is written there
    folder.mkdir(parents=True, exist_ok=True)
    first = int(os.environ.get("RANK", 0)) == 0
    with _signals() as caught, _printer(folder) if first else nullcontext() as show:
        last = runs.train(settings, folder, [show] if show else [], lambda: bool(caught), wait=wait)
    return last, caught


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the first Ctrl-C or SIGTERM; the second takes its usual effect.

    Set before DataLoader workers are forked, so that a Ctrl-C in the terminal does not kill them.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, frame: object) -> None:
        caught.append(number)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _printer(folder: Path) -> Iterator[Callback]:
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
    """Opens log.txt; yields None where stdout is that file already (see `runs.start`)."""
    with (folder / "log.txt").open("a", encoding="utf-8") as file:
        try:
            already = os.path.sameopenfile(sys.stdout.fileno(), file.fileno())
        except (OSError, ValueError):
            already = False
        yield None if already else file


def _losses(event: Event) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in event["losses"].items())


def _scores(values: Mapping[str, float]) -> str:
    keys = headlines(values)
    return ", ".join(f"{METRICS[key].title} {metric_value(key, values[key], unit=' %')}" for key in keys)


def _line(event: Event, folder: Path, epochs: int) -> str:
    """Formats an event as one or more lines; empty for events that are not printed."""
    kind, epoch = event["kind"], event["epoch"]
    if kind == "started":
        several = f", {event['processes']} processes" if event["processes"] > 1 else ""
        going = f"Resuming {folder} after epoch {epoch}" if event["resumed"] else f"Training in {folder}"
        facts = (
            f"{event['identities']} identities, {event['steps']} steps an epoch, {event['device']}{several}"
        )
        return "\n".join([f"{going}: {facts}.", *event["notes"]])
    if kind == "waiting":
        return f"Queued behind {', '.join(event['ahead'])} ({event['device']} busy)."
    if kind == "sanity_check":
        return "The sanity check before the first epoch passed."
    if kind == "epoch":
        pace = f"lr {event['learning_rate']:.1e}, {event['images_per_second']:.0f} images/s"
        return f"epoch {epoch}/{epochs}: {_losses(event)}, {pace}, {event['memory_mb']:.0f} MiB"
    if kind == "scores":
        parts = [f"{protocol.upper()} {_scores(values)}" for protocol, values in event["scores"].items()]
        return f"epoch {epoch}/{epochs}: {'; '.join(parts)}"
    if kind == "finished":
        return f"Finished: {folder}"
    if kind == "probes" and event["why"]:
        return f"No Grad-CAM snapshot: {event['why']}"
    if kind == "stopped":
        return f"Stopped after epoch {epoch} and saved; the same command on {folder} resumes it."
    return ""
