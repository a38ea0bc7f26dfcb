"""Tables of results: JSON and CSV in fractions, Markdown and LaTeX in percent."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkd.io.errors import VKDError
from vkd.io.files import write_text
from vkd.metrics.ranking import METRICS, metric_value
from vkd.metrics.scores import Scores

if TYPE_CHECKING:
    from pandas import DataFrame

CMC_RANKS = 50  # of the curve in a JSON file

Results = Mapping[str, Scores] | Mapping[str, Mapping[str, Scores | Mapping[str, Any]]]
"""Protocol → scores, or network → protocol → scores (or plain numbers by name, such as published ones)."""

COLUMNS = {
    "network": "model",
    "dataset": "dataset",
    "protocol": "protocol",
    "queries_in_gallery": "queries in gallery",
    "queries": "queries",
    "valid_queries": "valid",
    "gallery": "gallery",
    "ap": "AP",
}
"""Key → title of the columns before the metrics."""


def rows(results: Results) -> list[dict[str, Any]]:
    """Returns a row for each network and protocol, fractions in 0..1, the network's name first if any."""
    out: list[dict[str, Any]] = []
    for name, scores in results.items():
        if isinstance(scores, Scores):
            out.append(scores.as_dict())
            continue
        for protocol, each in scores.items():
            numbers = each.as_dict() if isinstance(each, Scores) else {"protocol": protocol, **each}
            out.append({"network": name, **numbers})
    return out


def frame(results: Results) -> "DataFrame":
    """Returns the table for people: text in every cell, a dash where a row has no value."""
    from pandas import DataFrame

    table = rows(results)
    titles = COLUMNS | {key: metric.title for key, metric in METRICS.items() if metric.listed}
    titles = {key: title for key, title in titles.items() if any(key in row for row in table)}
    cells = [[_cell(key, row) for key in titles] for row in table]
    return DataFrame(cells, columns=list(titles.values()), dtype=object)


def _cell(key: str, row: Mapping[str, Any]) -> str:
    """Formats one value; a difference carries its sign and its interval."""
    value = row.get(key)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key not in METRICS:
        return (str(value).upper() if key == "protocol" else str(value)).replace("\n", " ")
    if f"{key}_low" not in row:
        return metric_value(key, value)
    value, low, high = (metric_value(key, row[name]) for name in (key, f"{key}_low", f"{key}_high"))
    value, low, high = (text if text.startswith("-") else f"+{text}" for text in (value, low, high))
    return f"{value} ({low} … {high})"


def _numeric(titles: list[str]) -> list[bool]:
    return [title not in COLUMNS.values() for title in titles]


def markdown(results: Results) -> str:
    """Returns the table as Markdown (pandas would need the package tabulate for it)."""
    table = frame(results)
    titles = list(table.columns)
    lines = [titles, ["--:" if each else "---" for each in _numeric(titles)]]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in table.to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(results: Results) -> str:
    """Returns the table as a LaTeX `tabular` that needs no package."""
    table = frame(results)
    style = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    columns = "".join("r" if each else "l" for each in _numeric(list(table.columns)))
    text: str = style.to_latex(column_format=columns, hrules=True)  # pyright: ignore[reportAttributeAccessIssue]
    for sign, command in {"–": "--", "−": "$-$", "…": r"\ldots{}"}.items():
        text = text.replace(sign, command)
    for rule in ("toprule", "midrule", "bottomrule"):  # which are of the package booktabs
        text = text.replace(f"\\{rule}", r"\hline")
    return text


def _json(results: Results) -> str:
    table = rows(results)
    scores = [
        each
        for value in results.values()
        for each in ([value] if isinstance(value, Scores) else value.values())
    ]
    for row, each in zip(table, scores, strict=True):
        if isinstance(each, Scores):
            row["cmc"] = each.cmc[:CMC_RANKS].tolist()
    # Not by pandas, which rounds to 15 digits.
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def _csv(results: Results) -> str:
    from pandas import DataFrame

    # Of objects: a column of whole numbers stays one where a row has none.
    return DataFrame(rows(results), dtype=object).to_csv(index=False, lineterminator="\n")


WRITERS: dict[str, Callable[[Results], str]] = {
    ".json": _json,
    ".csv": _csv,
    ".md": markdown,
    ".tex": latex,
}
"""Suffix → how the table is written."""


def export(results: Results, path: str | Path) -> Path:
    """Writes results as .json (with the head of the CMC curve), .csv, .md or .tex, by the suffix.

    The file appears whole or not at all. Raises VKDError for another suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise VKDError(f"Results cannot be written to {path}: choose a name in {', '.join(WRITERS)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_text(path, WRITERS[path.suffix.lower()](results))
