"""Placeholders in paths and addresses: parts of the logical date, and params."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from string import Formatter

from pydantic import JsonValue

from lookbook.blocks.errors import LookbookError

#: Placeholders of the logical date, each with how it is written.
DATE_PARTS = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "date": "%Y-%m-%d"}
#: What a param may put into a path or an address: nothing that begins another part of it, and no pattern.
_VALUE = re.compile(r"(?!\.)[\w.-]+(?: [\w.-]+)*")
MAX_LENGTH = 200


def placeholders(template: str) -> set[str]:
    """Return the names of the placeholders; ``{{`` and ``}}`` are braces.

    Raises:
        LookbookError: a brace is not closed, or one holds more than a name.
    """
    return {name for _, name in _parts(template) if name is not None}


def render(template: str, logical_date: datetime, params: Mapping[str, JsonValue]) -> str:
    """Return the template with values in place of its placeholders.

    Args:
        template: as in ``prices/{year}-{month}.csv``.
        logical_date: of the run.
        params: of the run. A value is a text of letters, digits, ``_``, ``-``, ``.`` and blanks in between, that
            does not start with a dot, a number, or a truth value.

    Raises:
        LookbookError: a placeholder is not known, or a value does not stay within its part of the path.
    """
    known = _known(logical_date, params)
    text = ""
    for literal, name in _parts(template):
        text += literal
        if name is None:
            continue
        if name not in known:
            raise LookbookError(
                f"{template}: there is no placeholder {{{name}}}.",
                f"There are {', '.join('{' + one + '}' for one in known)}; a brace itself is written twice.",
            )
        text += known[name] if name in DATE_PARTS else _checked(name, params[name])
    return text


def _known(logical_date: datetime, params: Mapping[str, JsonValue]) -> dict[str, str]:
    both = [name for name in params if name in DATE_PARTS]
    if both:
        raise LookbookError(
            f"params.{both[0]} has the name of a part of the logical date.",
            "Give it another name: templates know both.",
        )
    # strftime writes years before 1000 with fewer than four digits.
    year = f"{logical_date.year:04}"
    parts = {name: logical_date.strftime(form.replace("%Y", year)) for name, form in DATE_PARTS.items()}
    return parts | dict.fromkeys(params, "")


def _checked(name: str, value: JsonValue) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float | str) else ""
    if len(text) > MAX_LENGTH or ".." in text or not _VALUE.fullmatch(text):
        raise LookbookError(
            f"params.{name} has a value that does not fit into a path or an address.",
            f"It may have letters, digits, _, -, single dots and blanks between them: {MAX_LENGTH} at the most.",
        )
    return text


def _parts(template: str) -> list[tuple[str, str | None]]:
    """Literal texts, each with the name of the placeholder behind it."""
    try:
        found = list(Formatter().parse(template))
    except ValueError as error:
        raise LookbookError(f"{template}: {error}.", "A brace that is no placeholder is written twice: {{.") from error
    parts: list[tuple[str, str | None]] = []
    for literal, name, form, conversion in found:
        if name is not None and (form or conversion or not name.isidentifier()):
            raise LookbookError(f"{template}: {{{name}}} is no placeholder.", "One is a name in braces: {year}.")
        parts.append((literal, name))
    return parts
