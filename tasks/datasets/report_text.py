"""How values read in a report: harmless, bounded and with thousands marked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

#: Invisible, but part of how emoji and some scripts are written.
JOINERS = "\u200c\u200d"

#: Characters of one cell. File names may be thousands long, and a raw row a whole file.
LONGEST = 240


def printable(value: Any) -> Any:
    """A text without control characters, reversals of direction and broken code points; others unchanged.

    Escaping against markup is left to the template engine, which does it for everything.
    """
    if value is None:
        return "—"
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(_printable_character(character) for character in value)


def _printable_character(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"


def shorten(value: Any, limit: int = LONGEST) -> str:
    """A text of at most `limit` characters; what is cut is cut from the middle, where names differ least."""
    text = "" if value is None else str(value)
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def count(number: float | None) -> str:
    """A number with its thousands marked, to one decimal where it has a fraction."""
    if number is None:
        return "—"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def size(number: float | None) -> str:
    """Bytes in decimal units, as shops and file managers state them."""
    if number is None:
        return "—"
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(number) < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"


def moment(when: datetime) -> str:
    """A point in time for a person to read, in UTC where the time zone is known."""
    if when.tzinfo is None:
        return f"{when.day} {when:%B %Y, %H:%M}"
    when = when.astimezone(UTC)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"
