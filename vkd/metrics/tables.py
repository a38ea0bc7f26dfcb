"""Results as tables: JSON and CSV in fractions for programs, Markdown and LaTeX in percent for people."""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vkd.io.errors import VKDError
from vkd.metrics.scores import Scores

CMC_SHOWN = 50  # ranks of the curve that go into a JSON file

Results = Mapping[str, Scores] | Mapping[str, Mapping[str, Scores | Mapping[str, Any]]]
"""Protocol → scores, or network → protocol → scores (or plain numbers by name, such as published ones)."""

PERCENT = {
    "map": "mAP",
    "map_trapezoid": "mAP (trapezoid)",
    "map_standard": "mAP (standard)",
    "minp": "mINP",
    "top1": "top-1",
    "top5": "top-5",
    "top10": "top-10",
}
WORDS = {
    "network": "network",
    "dataset": "data set",
    "protocol": "protocol",
    "queries_in_gallery": "queries in gallery",
    "queries": "queries",
    "valid_queries": "valid",
    "gallery": "gallery",
    "ap": "AP",
}


def rows(results: Results) -> list[dict[str, Any]]:
    """One flat row for each network and protocol, fractions in 0..1, the network first where it is named."""
    out: list[dict[str, Any]] = []
    for name, found in results.items():
        if isinstance(found, Scores):
            out.append(found.as_dict())
            continue
        for protocol, each in found.items():
            numbers = each.as_dict() if isinstance(each, Scores) else {"protocol": protocol, **each}
            out.append({"network": name, **numbers})
    return out


def markdown(results: Results) -> str:
    """A table of results, numbers in percent; what a row does not know (a published one) is a dash."""
    table = rows(results)
    titles = _titles(table)
    lines = [list(titles.values()), ["--:" if key in PERCENT else "---" for key in titles]]
    lines += [[_cell(key, row).replace("|", "\\|") for key in titles] for row in table]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(results: Results) -> str:
    """The same table as a LaTeX `tabular` (no package is needed), numbers in percent."""
    table = rows(results)
    titles = _titles(table)
    lines = [[_tex(title) for title in titles.values()]]
    lines += [[_tex(_cell(key, row)) for key in titles] for row in table]
    head, *body = (f"{' & '.join(line)} \\\\\n" for line in lines)
    columns = "".join("r" if key in PERCENT else "l" for key in titles)
    rule = "\\hline\n"
    return f"\\begin{{tabular}}{{{columns}}}\n{rule}{head}{rule}{''.join(body)}{rule}\\end{{tabular}}\n"


_TEX = {"\\": r"\textbackslash{}", "–": "--", "−": "$-$", "…": r"\ldots{}", "~": r"\textasciitilde{}"}
_TEX |= {"^": r"\textasciicircum{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}}


def _tex(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in text)


def _titles(table: list[dict[str, Any]]) -> dict[str, str]:
    return {key: title for key, title in (WORDS | PERCENT).items() if any(key in row for row in table)}


def _cell(key: str, row: Mapping[str, Any]) -> str:
    """One value in words; a difference carries its sign and its interval."""
    value = row.get(key)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key not in PERCENT:
        return (str(value).upper() if key == "protocol" else str(value)).replace("\n", " ")
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if low is None or high is None:
        return f"{100 * value:.2f}"
    return f"{100 * value:+.2f} ({100 * low:+.2f} … {100 * high:+.2f})"


def export(results: Results, path: str | Path) -> Path:
    """Write results as .json (with the head of the CMC curve), .csv, .md or .tex (in percent), by the suffix.

    The file appears whole or not at all. Raises ValueError for another suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise VKDError(f"Results cannot be written to {path}: choose a name in {', '.join(WRITERS)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(WRITERS[path.suffix.lower()](results), encoding="utf-8", newline="")
    return temporary.replace(path)


def _json(results: Results) -> str:
    table = rows(results)
    curves = [
        each.cmc[:CMC_SHOWN].tolist() if isinstance(each, Scores) else None
        for found in results.values()
        for each in ([found] if isinstance(found, Scores) else found.values())
    ]
    for row, curve in zip(table, curves, strict=True):
        if curve is not None:
            row["cmc"] = curve
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def _csv(results: Results) -> str:
    table = rows(results)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in table for key in row)), restval="")
    writer.writeheader()
    writer.writerows(table)
    return file.getvalue()


WRITERS: dict[str, Callable[[Results], str]] = {
    ".json": _json,
    ".csv": _csv,
    ".md": markdown,
    ".tex": latex,
}
"""Suffix → how the table is written."""
