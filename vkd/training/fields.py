"""Parts of settings and flags: a field with title and help, a choice from a table, errors as sentences."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic
from pydantic_core import core_schema

from vkd.io.errors import VKDError

GROUPS = ("data", "network", "views", "schedule", "losses", "machine")


@dataclass(frozen=True)
class Choice:
    """A key of a table (or of what a function returns), looked up when a value is checked or listed."""

    table: Callable[[], Iterable[str]] | Iterable[str]
    besides: tuple[str, ...] = ()

    def keys(self) -> list[str]:
        return [*self.besides, *(self.table() if callable(self.table) else self.table)]

    def check(self, value: str) -> str:
        if value not in (keys := self.keys()):
            raise VKDError(f"'{value}' is not one of {', '.join(keys)}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


def setting(
    default: Any, group: str, title: str, text: str, *, resumable: bool = False, **bounds: Any
) -> Any:
    """A setting. `resumable`: may differ when a run is resumed (everything else must stay as it was)."""
    extra = {"group": group, "resumable": resumable}
    return pydantic.Field(default, title=title, description=text, json_schema_extra=extra, **bounds)


def sentences(error: pydantic.ValidationError, names: Mapping[str, str] | None = None) -> str:
    """Describes a validation error in one line: field (by its name in `names`), problem, value."""
    lines = []
    for item in error.errors():
        field = "".join(str(part) for part in item["loc"][:1])
        context = item.get("ctx", {})
        what = {
            "too_short": f"give at least {context.get('min_length')}",
            "too_long": f"give at most {context.get('max_length')}",
        }.get(item["type"], item["msg"].removeprefix("Value error, "))
        what = what[:1].lower() + what[1:] if field else what
        if item["type"] not in ("value_error", "too_short", "too_long", "extra_forbidden"):
            what += f", not {item['input']!r}"
        lines.append(f"{(names or {}).get(field, field)}: {what}" if field else what)
    return "; ".join(lines)
