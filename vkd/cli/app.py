"""`vkd app`: opens the app."""

from collections.abc import Sequence


def app(argv: Sequence[str]) -> int:
    """Serves the app until Ctrl-C; returns the exit code."""
    from vkd.ui.app import main

    main(list(argv))
    return 0
