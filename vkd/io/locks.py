"""Locks of a process: they die with it, whatever ended it, and its forked children do not keep them alive."""

import os

_held: set[int] = set()


def keep(descriptor: int) -> None:
    """From now on the open file is a lock of this very process: a forked child (a reader of pictures) closes
    its copy, or the lock would outlive its owner.
    """
    _held.add(descriptor)


def close(descriptor: int) -> None:
    """Close the file, kept or not, and with it the lock."""
    _held.discard(descriptor)
    os.close(descriptor)


def _let_go() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
