"""python -m vkd VERB: the command line. Nothing heavy is imported before a verb is known.

Exit codes: 0 done, 1 the work failed (one sentence on stderr), 2 wrong arguments, 3 a run stopped by request,
130 or 143 stopped by Ctrl-C or SIGTERM after saving.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from vkd.version import __version__

VERBS = {
    "street": ("cli.evaluate", "Write the synthetic street: a data set to try everything with."),
    "train": ("cli.train", "Train a teacher or a student."),
    "evaluate": ("cli.evaluate", "Score one network, or compare a teacher with its student."),
    "index": ("cli.gallery", "Build a gallery to search from a data set or a folder of pictures."),
    "search": ("cli.gallery", "Search a gallery with pictures."),
    "explain": ("cli.gallery", "Write heatmaps of a whole split as pictures."),
    "hub": ("cli.hub", "Bring checkpoints from the Hugging Face Hub, or take them there."),
    "import": ("cli.convert", "Turn networks of the paper's authors into checkpoints of ours."),
    "export": ("cli.convert", "Write a network as ONNX, for torch.export, or in the authors' layout."),
}


def usage() -> str:
    verbs = "\n".join(f"  {verb:<10}{about}" for verb, (_, about) in VERBS.items())
    return (
        "usage: vkd VERB [OPTIONS]\n\nRobust re-identification by multiple-views knowledge distillation "
        f"(arXiv 2007.04174).\n\n{verbs}\n\nvkd VERB --help explains a verb and its flags."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; → exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words and words[0] == "--version":
        print(f"vkd {__version__}")
        return 0
    if not words or words[0] not in VERBS:
        wrong = f"there is no verb '{words[0]}'" if words else "say what to do"
        print(f"vkd: {wrong}\n{usage()}", file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def _run(verb: str, argv: Sequence[str]) -> int:
    try:
        module = import_module(f"vkd.{VERBS[verb][0]}")
        return getattr(module, f"{verb}_" if verb == "import" else verb)(argv)
    except KeyboardInterrupt:
        return _quiet(f"vkd {verb}: interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        # These carry a sentence for a person; anything else is our fault and shows its traceback.
        return _quiet(f"vkd {verb}: {_sentence(error)}", 1)


def _sentence(error: Exception) -> str:
    """One line. The system's own complaints (`[Errno 13] Permission denied: 'x'`) are made a sentence too."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename} cannot be used: {error.strerror.lower()}."
    return " ".join(str(error).split())


def _quiet(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code
