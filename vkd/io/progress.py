"""Progress callbacks of long work."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

Progress = Callable[[int, int, str], object]
"""Called with (items done, items in all or 0 if unknown, what is being done). May raise to end the work."""


def silent(done: int, total: int, what: str) -> None:
    """Ignores progress."""


def track(items: Iterable[T], progress: Progress, what: str) -> Iterator[T]:
    """Yields `items` and reports each one that the caller has finished with."""
    total = len(items) if hasattr(items, "__len__") else 0  # type: ignore[arg-type]
    progress(0, total, what)
    for done, item in enumerate(items, start=1):
        yield item
        progress(done, total, what)
