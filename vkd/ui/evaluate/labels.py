"""What the networks of a comparison are called and coloured as, wherever they are shown."""

import re
from collections import Counter
from collections.abc import Sequence

from vkd.evaluation.comparison import Comparison

COLOURS = 6
_STAGES = ("teacher", "student")
_MOST = 28  # letters of a name in a legend


def labels(found: Comparison) -> dict[str, str]:
    """Network → Teacher or Student where it is the only one, else the part of its name that tells it from
    the others.
    """
    stages = Counter(known.stage for known in found.networks.values())
    short = _short(list(found.networks))
    return {
        name: known.stage.capitalize() if known.stage in _STAGES and stages[known.stage] == 1 else short[name]
        for name, known in found.networks.items()
    }


def _short(names: Sequence[str]) -> dict[str, str]:
    """Names without their dates and without what they all begin with, as long as they stay different."""
    dateless = [re.sub(r"^\d{8}-\d{6}-", "", name) for name in names]
    words = [re.findall(r"[^-_. ]+[-_. ]*", name) for name in dateless]
    same = next((n for n, each in enumerate(zip(*words, strict=False)) if len(set(each)) > 1), 0)
    bare = ["".join(each[same:]) for each in words]
    cut = [name if len(name) <= _MOST else f"{name[:12]}…{name[-(_MOST - 13) :]}" for name in bare]
    for shorter in (cut, bare, dateless):
        if all(shorter) and len(set(shorter)) == len(names) > 1:
            return dict(zip(names, shorter, strict=True))
    return {name: name for name in names}


def colours(found: Comparison) -> dict[str, int]:
    """Network → place in the palette: 0 the only teacher's, 1 the only student's, then the others'."""
    called = labels(found)
    own = {"Teacher": 0, "Student": 1}
    taken = {own[label] for label in called.values() if label in own}
    free = [place for place in range(len(called) + len(own)) if place not in taken]
    return {name: own[label] if label in own else free.pop(0) % COLOURS for name, label in called.items()}


def parts_of(found: Comparison) -> dict[str, str]:
    """Network → what its style is called: teacher, student, other-2 …"""
    return {
        name: _STAGES[place] if place < len(_STAGES) else f"other-{place}"
        for name, place in colours(found).items()
    }


def minus(found: Comparison, other: str, base: str) -> str:
    """What a difference is of, in words: student − teacher."""
    called = labels(found)
    words = [
        called[name].lower() if called[name].lower() in _STAGES else called[name] for name in (other, base)
    ]
    return " − ".join(words)
