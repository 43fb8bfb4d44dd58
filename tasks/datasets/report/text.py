"""How values read in a report: harmless, bounded and with thousands marked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from unicodedata import east_asian_width

from markupsafe import Markup

#: Invisible, but part of how emoji and some scripts are written.
JOINERS = "\u200c\u200d"

UNITS = ("bytes", "kB", "MB", "GB", "TB")

#: Characters of one cell. File names may be thousands long, and a raw row a whole file.
LONGEST = 240


def printable(value: object) -> object:
    """Return what the report writes for a value: a text cleaned, a dash for nothing, all else as it is.

    Escaping against markup is left to the template engine, which does it for everything.
    """
    if value is None:
        return "—"
    return cleaned(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def cleaned(text: str) -> str:
    """Return a text without line ends, control characters, reversals of direction and broken code points."""
    if text.isprintable():
        return text
    return "".join(_printable_character(character) for character in text)


def _printable_character(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"


def shorten(value: object, limit: int = LONGEST) -> str:
    """Return a text of at most `limit` characters; what is cut is cut from the middle, where names differ least."""
    text = "" if value is None else str(value)
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def fit(value: str, width: int) -> str:
    """Return a label of at most `width` columns, where a Chinese, Japanese or Korean character takes two."""
    limit = width
    while sum(2 if east_asian_width(character) in "WF" else 1 for character in shorten(value, limit)) > width:
        limit -= 1
    return shorten(value, limit)


def count(number: float | None) -> str:
    """Return a number with its thousands marked, to one decimal where it has a fraction."""
    if number is None:
        return "—"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def size(number: float | None) -> str:
    """Return bytes in decimal units, as shops and file managers state them."""
    if number is None:
        return "—"
    power = min(max(len(str(int(number))) - 1, 0) // 3, len(UNITS) - 1)
    return f"{number / 1000**power:,.{min(power, 1)}f} {UNITS[power]}"


def outcomes(counts: Mapping[str, int]) -> str:
    """Return counts on one line, each with its name."""
    return "  ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items())


def moment(when: datetime) -> str:
    """Return a point in time for a person to read, in UTC where the time zone is known."""
    if when.tzinfo is None:
        return f"{when.day} {when:%B %Y, %H:%M}"
    when = when.astimezone(UTC)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"
