"""Hidden folders where something is made before it appears under its name; what a kill left of them is swept.

Whoever works in one holds a lock on it, which dies with the process, whatever ended it: what nobody holds is
a leftover, and the next one to make something of the same kind in the same place removes it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vkd.io import locks


@contextmanager
def workplace(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder `<parent>/<prefix>…`, held while it is worked in; gone at the end unless it was renamed.

    Leftovers with that prefix go first. It is readable as any other folder, not private.
    """
    folder = _open(parent)
    try:
        with suppress(OSError):  # a file system without locks: nothing is held, and nothing is swept
            fcntl.flock(folder, fcntl.LOCK_EX)  # nobody sweeps between the making of a folder and its lock
            _sweep(parent, prefix)
        work = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        descriptor = _open(work)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(folder)
    locks.keep(descriptor)
    try:
        work.chmod(0o755)  # temporary folders are made private
        yield work
    finally:
        locks.close(descriptor)
        shutil.rmtree(work, ignore_errors=True)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove the folders of that prefix that nobody holds."""
    for path in parent.iterdir():
        if not path.name.startswith(prefix) or path.is_symlink() or not path.is_dir():
            continue
        with suppress(OSError):
            descriptor = _open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held: BlockingIOError, an OSError
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
