"""Errors whose message is a sentence that may be shown to a person."""


class VKDError(ValueError):
    """Base of the errors that this package raises: the message names the fault, its location and a remedy."""


class MissingFileError(VKDError, FileNotFoundError):
    """A file or folder does not exist."""


class CancelledError(VKDError):
    """The work was cancelled; nothing of it was saved."""
