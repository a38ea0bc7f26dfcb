"""One loop for both stages: settings in, events to callbacks. It neither prints nor logs.

Events are dicts with `kind`, `epoch` (whole epochs done) and `time` (seconds since 1970):

- `started`: epochs, steps in an epoch, identities, device, processes, resumed, notes for a person;
- `sanity_check` (`smoke` in files of 0.1.0): the scores of a very small evaluation before the first epoch;
- `step`: step, losses by name, images_per_second (twice a second at most; for progress bars);
- `epoch`: losses by name, learning_rate, images_per_second, memory_mb;
- `scores`: protocol → metric → value;
- `saved`: everything needed to resume is on disk;
- `finished` or `stopped`: the last one.

With several processes every one must call `train`; the first writes the files.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import skip_first_batches
from torch import Tensor

from vkd.data.datasets import Splits
from vkd.io.errors import VKDError
from vkd.training import settings as settings_io
from vkd.training.callbacks import Callback, Event, fan_out, never
from vkd.training.distributed import any_rank, device_name, explain_oom, rank
from vkd.training.settings import Settings
from vkd.training.trainer import Trainer

_STEP_SECONDS = 0.5
_LOWER = (
    "lower the views, the instances per identity or the identities per batch (gradient accumulation makes up "
    "for it), or compute in bf16; with other programs on the device, let them end, then resume"
)


def train(
    settings: Settings,
    folder: str | Path,
    callbacks: Sequence[Callback] = (),
    stop: Callable[[], bool] = never,
    *,
    splits: Splits | None = None,
) -> Event:
    """Trains in a run's folder, or resumes from the folder's training.pt; returns the last event.

    `stop` is called after every update of the weights; once it returns True, everything is saved and the last
    event is `stopped`. A run that is killed resumes from its last save; on a CPU it ends with the very
    weights of a run that was never interrupted. The caller holds the folder's lock (`vkd.jobs.runs.train`).
    `splits` is the dataset, if it was read before. Raises VKDError or OSError.
    """
    folder = Path(folder)
    splits = splits or settings.read_dataset()
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(settings, folder, splits)
    if rank() == 0:
        settings_io.save(settings, folder / "settings.json")
    try:
        return _Loop(trainer, fan_out(callbacks), stop).run()
    finally:
        trainer.close()


class _Loop:
    """Epochs, evaluations and saves of one call of `train`."""

    def __init__(self, trainer: Trainer, emit: Callback, stop: Callable[[], bool]) -> None:
        self.trainer, self.settings, self.progress = trainer, trainer.settings, trainer.progress
        self._emit, self._stop = emit, stop

    def emit(self, kind: str, **values: Any) -> Event:
        event = {"kind": kind, "epoch": self.progress.epoch, "time": time.time(), **values}
        self._emit(event)
        return event

    def stop(self) -> bool:
        """True if a stop was requested in any process."""
        return any_rank(self._stop(), self.trainer.device)

    def run(self) -> Event:
        trainer = self.trainer
        self.emit(
            "started",
            epochs=self.settings.epochs,
            steps=trainer.steps,
            step=self.progress.step,
            identities=len(trainer.labels),
            device=device_name(trainer.device),
            processes=trainer.accelerator.num_processes,
            resumed=trainer.resumed,
            notes=trainer.notes,
        )
        if trainer.resumed:
            trainer.save()  # a kill may have struck between training.pt and the checkpoint made from it
        elif rank() == 0:
            with explain_oom(trainer.device, "in a first small evaluation", "lower the test views"):
                scores = trainer.sanity_check()
            self.emit("sanity_check", scores=scores)
        while self.progress.epoch < self.settings.epochs:
            if self._epoch() or self._after_epoch():
                self._save()
                return self.emit("stopped", why="stop requested")
        return self.emit("finished", scores=self.progress.scores)

    def _epoch(self) -> bool:
        """Trains one pass over the identities, from where it stands; returns whether it was stopped in it."""
        trainer, progress = self.trainer, self.progress
        trainer.begin_epoch()
        trainer.loader.set_epoch(progress.epoch)
        batches = skip_first_batches(trainer.loader, progress.step) if progress.step else trainer.loader
        began, earlier, first = time.perf_counter(), progress.seconds, progress.step
        sums: dict[str, Tensor] = {}
        reported = began
        for step, (images, labels) in enumerate(batches, start=first):
            with explain_oom(trainer.device, f"in epoch {progress.epoch + 1}, step {step + 1}", _LOWER):
                losses = trainer.step(images, labels, step)
            sums = {name: sums[name] + value if sums else value.double() for name, value in losses.items()}
            now = time.perf_counter()
            if now - reported >= _STEP_SECONDS or step + 1 == trainer.steps:
                reported = now
                rate = trainer.images_per_step * (step + 1 - first) / (now - began)
                self.emit(
                    "step",
                    step=step + 1,
                    steps=trainer.steps,
                    losses=_finite(losses, progress.epoch + 1, step + 1),
                    images_per_second=rate,
                )
            if trainer.is_update_step(step) and self.stop() and step + 1 < trainer.steps:
                _finite(losses, progress.epoch + 1, step + 1)  # such weights must not replace the saved ones
                _add(progress.sums, sums)
                progress.step, progress.seconds = step + 1, earlier + time.perf_counter() - began
                return True
        _add(progress.sums, sums)
        self._end_epoch(earlier + time.perf_counter() - began)
        return False

    def _end_epoch(self, seconds: float) -> None:
        trainer, progress = self.trainer, self.progress
        means = {name: value / trainer.steps for name, value in progress.sums.items()}
        rate = trainer.rate()
        progress.epoch, progress.step, progress.sums, progress.seconds = progress.epoch + 1, 0, {}, 0.0
        self.emit(
            "epoch",
            losses=means,
            learning_rate=rate,
            images_per_second=trainer.images_per_step * trainer.steps / seconds,
            memory_mb=trainer.memory_mb(),
        )

    def _after_epoch(self) -> bool:
        """Evaluates and saves where due; returns whether to stop before the next epoch."""
        epoch, settings = self.progress.epoch, self.settings
        last = epoch == settings.epochs
        if last or (settings.evaluate_every and epoch % settings.evaluate_every == 0):
            self._evaluate()
        if last or epoch % settings.save_every == 0:
            self._save()
        return not last and self.stop()

    def _evaluate(self) -> None:
        trainer, progress = self.trainer, self.progress
        if rank() == 0:
            with explain_oom(
                trainer.device, f"in the evaluation after epoch {progress.epoch}", "lower the test views"
            ):
                progress.scores = trainer.evaluate()
            self.emit("scores", scores=progress.scores)
            value = progress.scores[self.settings.protocols[0]]["map"]
            if progress.best is None or value > progress.best:
                progress.best = value
                trainer.export("best")
        trainer.accelerator.wait_for_everyone()

    def _save(self) -> None:
        self.trainer.save()
        self.emit("saved", step=self.progress.step)


def _add(sums: dict[str, float], more: dict[str, Tensor]) -> None:
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + value.item()


def _finite(losses: dict[str, Tensor], epoch: int, step: int) -> dict[str, float]:
    """Returns the losses as numbers. Raises VKDError if one is not finite."""
    values = {name: value.item() for name, value in losses.items()}
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise VKDError(
            f"The losses {', '.join(wrong)} are no longer finite in epoch {epoch}, step {step}: lower the "
            "learning rate, or compute in fp32, and start from the last save or anew."
        )
    return values
