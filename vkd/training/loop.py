"""One loop for both stages: settings in, a generator of events out. It neither prints nor logs.

Events are dicts with `kind`, `epoch` (whole epochs done) and `time` (seconds since 1970):

- `started`: epochs, steps in an epoch, identities, device, processes, resumed, notes for a person;
- `sanity_check` (`smoke` in files of 0.1.0): the scores of a very small evaluation before the first epoch;
- `step`: step, losses by name, images_per_second (twice a second at most; for a progress bar only);
- `epoch`: losses by name, learning_rate, images_per_second, memory_mb;
- `scores`: protocol → metric → value;
- `saved`: everything needed to go on is on disk (`best`: and these are the best weights so far);
- `finished` or `stopped`: the last word. An error is raised; `runs.record` makes `failed` of it.

With several processes every one must run the generator to its end; the first writes the files.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from accelerate import skip_first_batches
from torch import Tensor

from vkd.data import datasets
from vkd.io.errors import VKDError
from vkd.training import settings as asked
from vkd.training.distributed import any_rank, device_name, explain_oom, rank
from vkd.training.settings import Settings
from vkd.training.trainer import Trainer

Event = dict[str, Any]
_STEP_SECONDS = 0.5
_LOWER = (
    "lower the views, the samples per identity or the identities per batch (accumulate makes up for those), "
    "or compute in bf16; with other programs on the device, let them end and go on from the last save"
)


def never() -> bool:
    return False


def train(settings: Settings, folder: str | Path, stop: Callable[[], bool] = never) -> Iterator[Event]:
    """Train what the settings ask in a run's folder, or go on where the folder's training.pt stands.

    `stop` is asked after every update of the weights; once it says yes, everything is saved and the last
    event is `stopped`. A run that is killed goes on from its last save; on a CPU it ends with the very
    weights of a run that was never interrupted. Whoever calls this holds `runs.lock` of the folder.

    Raises ValueError, FileNotFoundError or OSError with a sentence that a person can act on.
    """
    folder = Path(folder)
    splits = datasets.read(settings.dataset, settings.root, **settings.reader_options)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(settings, folder, splits)
    if rank() == 0:
        asked.save(settings, folder / "settings.json")
    try:
        yield _started(trainer)
        if trainer.resumed:
            trainer.save()  # a kill may have struck between training.pt and the checkpoint made from it
        elif rank() == 0:
            with explain_oom(trainer.device, "in a first small evaluation", "lower the test views"):
                scores = trainer.sanity_check()
            yield _event(trainer, "sanity_check", scores=scores)
        while trainer.progress.epoch < settings.epochs:
            stopped = yield from _epoch(trainer, stop)
            if not stopped:
                stopped = yield from _after_epoch(trainer, stop)
            if stopped:
                yield from _save(trainer)
                yield _event(trainer, "stopped", why="asked to stop")
                return
        yield _event(trainer, "finished", scores=trainer.progress.scores)
    finally:
        trainer.close()


def _event(trainer: Trainer, kind: str, **values: Any) -> Event:
    return {"kind": kind, "epoch": trainer.progress.epoch, "time": time.time(), **values}


def _started(trainer: Trainer) -> Event:
    return _event(
        trainer,
        "started",
        epochs=trainer.settings.epochs,
        steps=trainer.steps,
        step=trainer.progress.step,
        identities=len(trainer.labels),
        device=device_name(trainer.device),
        processes=trainer.accelerator.num_processes,
        resumed=trainer.resumed,
        notes=trainer.notes,
    )


def _epoch(trainer: Trainer, stop: Callable[[], bool]) -> Generator[Event, None, bool]:
    """One pass over the identities, from where it stands; → whether it was stopped in the middle."""
    progress = trainer.progress
    trainer.begin_epoch()
    trainer.loader.set_epoch(progress.epoch)
    batches = skip_first_batches(trainer.loader, progress.step) if progress.step else trainer.loader
    began, earlier, first = time.perf_counter(), progress.seconds, progress.step
    sums: dict[str, Tensor] = {}
    shown = began
    for step, (images, labels) in enumerate(batches, start=first):
        with explain_oom(trainer.device, f"in epoch {progress.epoch + 1}, step {step + 1}", _LOWER):
            found = trainer.step(images, labels, step)
        sums = {name: sums[name] + value if sums else value.double() for name, value in found.items()}
        now = time.perf_counter()
        if now - shown >= _STEP_SECONDS or step + 1 == trainer.steps:
            shown = now
            losses = _checked(found, progress.epoch + 1, step + 1)
            rate = trainer.images_per_step * (step + 1 - first) / (now - began)
            yield _event(
                trainer, "step", step=step + 1, steps=trainer.steps, losses=losses, images_per_second=rate
            )
        if trainer.is_update_step(step) and any_rank(stop(), trainer.device) and step + 1 < trainer.steps:
            _checked(found, progress.epoch + 1, step + 1)  # such weights must not replace those saved before
            _add(progress.sums, sums)
            progress.step, progress.seconds = step + 1, earlier + time.perf_counter() - began
            return True
    _add(progress.sums, sums)
    seconds = earlier + time.perf_counter() - began
    losses = {name: value / trainer.steps for name, value in progress.sums.items()}
    rate = trainer.rate()
    progress.epoch, progress.step, progress.sums, progress.seconds = progress.epoch + 1, 0, {}, 0.0
    yield _event(
        trainer,
        "epoch",
        losses=losses,
        learning_rate=rate,
        images_per_second=trainer.images_per_step * trainer.steps / seconds,
        memory_mb=trainer.memory_mb(),
    )
    return False


def _after_epoch(trainer: Trainer, stop: Callable[[], bool]) -> Generator[Event, None, bool]:
    """The evaluation and the save that are due; → whether to stop before the next epoch."""
    epoch, settings = trainer.progress.epoch, trainer.settings
    last = epoch == settings.epochs
    if last or (settings.evaluate_every and epoch % settings.evaluate_every == 0):
        yield from _evaluate(trainer)
    if last or epoch % settings.save_every == 0:
        yield from _save(trainer)
    return not last and any_rank(stop(), trainer.device)


def _evaluate(trainer: Trainer) -> Iterator[Event]:
    progress = trainer.progress
    if rank() == 0:
        with explain_oom(
            trainer.device, f"in the evaluation after epoch {progress.epoch}", "lower the test views"
        ):
            progress.scores = trainer.evaluate()
        yield _event(trainer, "scores", scores=progress.scores)
        value = progress.scores[trainer.settings.protocols[0]]["map"]
        if progress.best is None or value > progress.best:
            progress.best = value
            trainer.export("best")
    trainer.accelerator.wait_for_everyone()


def _save(trainer: Trainer) -> Iterator[Event]:
    trainer.save()
    yield _event(trainer, "saved", step=trainer.progress.step)


def _add(sums: dict[str, float], more: dict[str, Tensor]) -> None:
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + value.item()


def _checked(found: dict[str, Tensor], epoch: int, step: int) -> dict[str, float]:
    """The losses as numbers; raises ValueError if one is not finite."""
    losses = {name: value.item() for name, value in found.items()}
    wrong = [name for name, value in losses.items() if not math.isfinite(value)]
    if wrong:
        raise VKDError(
            f"The losses {', '.join(wrong)} are no longer finite in epoch {epoch}, step {step}: lower the "
            "learning rate, or compute in fp32, and start from the last save or anew."
        )
    return losses
