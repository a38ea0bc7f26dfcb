"""Things that a plugin adds: a registration is an assignment or a call, and is undone afterwards."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vkd.data.datasets import DATASETS
from vkd.metrics.ranking import METRICS
from vkd.models.backbones import BACKBONES
from vkd.training.objectives import LOSSES
from vkd.training.settings import STAGES

TABLES: tuple[dict[str, Any], ...] = (BACKBONES, DATASETS, LOSSES, METRICS)


@contextmanager
def registrations() -> Iterator[None]:
    """Puts the tables and the settings' fields back as they were."""
    tables = [dict(table) for table in TABLES]
    fields = {stage: set(model.model_fields) for stage, model in STAGES.items()}
    try:
        yield
    finally:
        for table, rows in zip(TABLES, tables, strict=True):
            table.clear()
            table.update(rows)
        for stage, model in STAGES.items():
            for name in set(model.model_fields) - fields[stage]:
                del model.model_fields[name], model.__annotations__[name]
            model.model_rebuild(force=True)


def micro(weights: Any) -> "OrderedDict[str, Any]":
    """Two convolutions: the stages of a backbone 8 wide."""
    from torch import nn

    def stage(before: int, after: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(before, after, 3, 4, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    return OrderedDict(stem=stage(3, 4), layer1=stage(4, 8))
