"""VKD: robust re-identification by multiple-views knowledge distillation (arXiv 2007.04174).

The chain of the project is tracklet → views → feature map → embedding. Importing this package costs nothing:
a name of `__all__` loads what it needs when it is first used.
"""

from typing import TYPE_CHECKING, Any

from vkd.version import __version__

if TYPE_CHECKING:
    from vkd.api import (
        Checkpoint,
        Comparison,
        Gallery,
        Hit,
        ReIDModel,
        StudentSettings,
        TeacherSettings,
        Tracklet,
        VKDError,
        evaluate,
        generate_street,
        heatmaps,
        load,
        read_dataset,
        train,
    )

__all__ = [
    "Checkpoint",
    "Comparison",
    "Gallery",
    "Hit",
    "ReIDModel",
    "StudentSettings",
    "TeacherSettings",
    "Tracklet",
    "VKDError",
    "__version__",
    "evaluate",
    "generate_street",
    "heatmaps",
    "load",
    "read_dataset",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vkd' has no attribute '{name}'")
    from vkd import api

    globals()[name] = value = getattr(api, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
