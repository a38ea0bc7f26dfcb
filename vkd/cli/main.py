"""python -m vkd VERB: the command line. Nothing heavy is imported before a verb is known.

Exit codes: 0 done, 1 the work failed (one sentence on stderr), 2 invalid arguments, 3 a run stopped on
request, 130 or 143 stopped by Ctrl-C or SIGTERM after saving.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence

from vkd.io.errors import VKDError
from vkd.version import __version__


def _app(argv: Sequence[str]) -> int:
    from vkd.cli.app import app

    return app(argv)


def _street(argv: Sequence[str]) -> int:
    from vkd.cli.street import street

    return street(argv)


def _train(argv: Sequence[str]) -> int:
    from vkd.cli.train import train

    return train(argv)


def _evaluate(argv: Sequence[str]) -> int:
    from vkd.cli.evaluate import evaluate

    return evaluate(argv)


def _index(argv: Sequence[str]) -> int:
    from vkd.cli.gallery import index

    return index(argv)


def _search(argv: Sequence[str]) -> int:
    from vkd.cli.gallery import search

    return search(argv)


def _explain(argv: Sequence[str]) -> int:
    from vkd.cli.explain import explain

    return explain(argv)


def _hub(argv: Sequence[str]) -> int:
    from vkd.cli.hub import hub

    return hub(argv)


def _import(argv: Sequence[str]) -> int:
    from vkd.cli.convert import import_

    return import_(argv)


def _export(argv: Sequence[str]) -> int:
    from vkd.cli.convert import export

    return export(argv)


VERBS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "app": (_app, "Open the app in the browser."),
    "street": (_street, "Generate the synthetic street: a dataset to try everything with."),
    "train": (_train, "Train a teacher or a student."),
    "evaluate": (_evaluate, "Score one model, or compare a teacher with its student."),
    "index": (_index, "Build a gallery from a dataset or a folder of images."),
    "search": (_search, "Search a gallery with images."),
    "explain": (_explain, "Write the heatmaps of a whole split."),
    "hub": (_hub, "Download or upload checkpoints on the Hugging Face Hub."),
    "import": (_import, "Convert models of the reference implementation into checkpoints."),
    "export": (_export, "Write a model as ONNX or for torch.export."),
}


def usage() -> str:
    """Returns the list of verbs."""
    verbs = "\n".join(f"  {verb:<10}{about}" for verb, (_, about) in VERBS.items())
    return (
        "usage: vkd VERB [OPTIONS]\n\nRobust re-identification by multiple-views knowledge distillation "
        f"(arXiv 2007.04174).\n\n{verbs}\n\nvkd VERB --help explains a verb and its flags."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # consoles of Windows know few characters (cp1252)
            stream.reconfigure(errors="replace")
    try:
        return _answer(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:
        return 0
    finally:
        _flush()


def _flush() -> None:
    """Writes what is left; nothing if the reader of a pipe has enough (`vkd search … | head`)."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answer(words: Sequence[str]) -> int:
    if words and words[0] in ("-h", "--help"):
        return _print(usage())
    if words and words[0] == "--version":
        return _print(f"vkd {__version__}")
    if not words or words[0] not in VERBS:
        problem = f"there is no verb '{words[0]}'" if words else "a verb is missing"
        print(f"vkd: {problem}\n{usage()}", file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def _print(text: str) -> int:
    print(text)
    return 0


def _run(verb: str, argv: Sequence[str]) -> int:
    try:
        return VERBS[verb][0](argv)
    except KeyboardInterrupt:
        return _fail(f"vkd {verb}: interrupted", 130)
    except BrokenPipeError:
        raise
    except (VKDError, OSError) as error:
        # These carry a sentence for a person; anything else is a defect and shows its traceback.
        return _fail(f"vkd {verb}: {_sentence(error)}", 1)


def _sentence(error: Exception) -> str:
    """Formats an error as one line; system errors (`[Errno 13] …: 'x'`) without their number."""
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return f"{error.strerror}."
        return f"{error.filename} cannot be used: {error.strerror.lower()}."
    return " ".join(str(error).split())


def _fail(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code
