"""Errors on the page: library errors as their message, anything else as one neutral sentence."""

import functools
import html
import inspect
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

import gradio as gr

from vkd.io.errors import VKDError
from vkd.io.redact import redact

LOG = logging.getLogger("vkd.app")
INTERNAL_ERROR = "Internal error (see server log)."

P = ParamSpec("P")
R = TypeVar("R")

_TEMPORARY = re.compile(re.escape(tempfile.gettempdir()) + r"[/\\]\S*[/\\]")


def message(error: BaseException) -> str:
    """Returns the error's text as safe HTML, without tokens and without the server's temporary folders."""
    return html.escape(_TEMPORARY.sub("", redact(str(error))), quote=False)


def error(text: str, title: str) -> gr.Error:
    """Builds the error that Gradio shows; `text` is safe HTML. Nothing is printed to the server's log."""
    return gr.Error(text, title=title, print_exception=False)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except (gr.Error, GeneratorExit):
        raise
    except VKDError as wrong:
        raise error(message(wrong), "Invalid input") from None
    except Exception:
        LOG.exception("%s failed", name)
        raise error(INTERNAL_ERROR, "Internal error") from None


def show_errors(callback: Callable[P, R]) -> Callable[P, R]:
    """Shows library errors (VKDError) to the user; logs any other exception and shows a generic message.

    Wraps functions and generator functions.
    """
    name = getattr(callback, "__name__", "callback")

    @functools.wraps(callback)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with _translated(name):
            return callback(*args, **kwargs)

    @functools.wraps(callback)
    def generator(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        with _translated(name):
            yield from cast("Iterator[Any]", callback(*args, **kwargs))

    return cast("Callable[P, R]", generator) if inspect.isgeneratorfunction(callback) else wrapper
