"""Short names and colours of the networks of an evaluation, the same in tables and figures."""

import re
from collections import Counter
from collections.abc import Sequence

from vkd.evaluation.comparison import Comparison

COLOURS = 6
_STAGES = ("teacher", "student")
_MAX_LETTERS = 28  # of a name in a legend


def labels(results: Comparison) -> dict[str, str]:
    """Returns network → Teacher or Student where it is the only one, else a short name."""
    stages = Counter(info.stage for info in results.networks.values())
    short = short_names(list(results.networks))
    return {
        name: info.stage.capitalize() if info.stage in _STAGES and stages[info.stage] == 1 else short[name]
        for name, info in results.networks.items()
    }


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Returns the names without dates and common beginnings, as long as they stay different."""
    dateless = [re.sub(r"^\d{8}-\d{6}-", "", name) for name in names]
    words = [re.findall(r"[^-_. ]+[-_. ]*", name) for name in dateless]
    same = next((n for n, each in enumerate(zip(*words, strict=False)) if len(set(each)) > 1), 0)
    bare = ["".join(each[same:]) for each in words]
    cut = [
        name if len(name) <= _MAX_LETTERS else f"{name[:12]}…{name[-(_MAX_LETTERS - 13) :]}" for name in bare
    ]
    for shorter in (cut, bare, dateless):
        if all(shorter) and len(set(shorter)) == len(names) > 1:
            return dict(zip(names, shorter, strict=True))
    return {name: name for name in names}


def colours(results: Comparison) -> dict[str, int]:
    """Returns network → palette index: 0 of the only teacher, 1 of the only student, then the others."""
    names, own = labels(results), {"Teacher": 0, "Student": 1}
    taken = {own[label] for label in names.values() if label in own}
    free = [index for index in range(len(names) + len(own)) if index not in taken]
    return {name: own[label] if label in own else free.pop(0) % COLOURS for name, label in names.items()}


def css_parts(results: Comparison) -> dict[str, str]:
    """Returns network → the suffix of its CSS class: teacher, student, other-2 …"""
    return {
        name: _STAGES[index] if index < len(_STAGES) else f"other-{index}"
        for name, index in colours(results).items()
    }


def difference_label(results: Comparison, other: str, base: str) -> str:
    """Returns the label of a difference: the names of the two networks."""
    names = labels(results)
    return f"{names[other]} − {names[base]}"
