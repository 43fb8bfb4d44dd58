"""SQL files of a spec: one SELECT each, over tables that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lookbook.tasks.tables.spec.problems import did_you_mean

if TYPE_CHECKING:
    from sqlglot import exp

#: Line, column and what is wrong there.
Fault = tuple[int, int, str]


def check_task_sql(text: str, after: Sequence[str], values: Sequence[str]) -> Iterator[Fault]:
    """Yield what is wrong with the SQL of a task.

    Args:
        text: of the file.
        after: the tasks whose results it may name as tables.
        values: names that it may use as $name.
    """
    found = _one_select(text)
    if isinstance(found, list):
        yield from found
        return
    for table, schema in _tables(found):
        if schema or table.casefold() not in after:
            whole = ".".join(filter(None, (schema, table)))
            nearest = did_you_mean(table, after) or f"; there are {', '.join(after)}"
            yield (*_place(text, table), f"the table {whole} is no task in after{nearest}")
    for name in _parameters(found):
        if name not in values:
            nearest = did_you_mean(name, values) or f"; there are {', '.join(values)}"
            yield (*_place(text, f"${name}"), f"nothing is known of ${name}{nearest}")


def _one_select(text: str) -> exp.Query | list[Fault]:
    import sqlglot  # noqa: PLC0415 - slow to import
    from sqlglot import errors, exp  # noqa: PLC0415

    try:
        found = [each for each in sqlglot.parse(text, dialect="duckdb") if each is not None]
    except errors.ParseError as error:
        return [_parse_fault(each) for each in error.errors]
    except (errors.TokenError, RecursionError) as error:
        return [(1, 1, f"this is no SQL: {str(error).splitlines()[0]}")]
    if len(found) != 1 or not isinstance(found[0], exp.Query):
        return [(1, 1, "one SELECT is asked for, and nothing else")]
    writes = found[0].find(exp.DML, exp.DDL, exp.Command, exp.Into)
    if writes is not None and not isinstance(writes, exp.Query):
        return [(1, 1, "one SELECT is asked for, and nothing that writes")]
    return found[0]


def _parse_fault(said: Mapping[str, Any]) -> Fault:
    message = str(said["description"]).partition(" but got <Token")[0]
    return int(said["line"] or 1), int(said["col"] or 1), f"this is no SQL: {message}"


def _tables(select: exp.Query) -> Iterator[tuple[str, str]]:
    """The tables that a SELECT reads, each once, with their schemas; what it defines itself and functions are none."""
    from sqlglot import exp  # noqa: PLC0415

    own = {each.alias.casefold() for each in select.find_all(exp.CTE)}
    seen = set()
    for table in select.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            continue
        name = (table.name, ".".join(filter(None, (table.catalog, table.db))))
        if name not in seen and (name[1] or table.name.casefold() not in own):
            seen.add(name)
            yield name


def _parameters(select: exp.Query) -> Iterator[str]:
    from sqlglot import exp  # noqa: PLC0415

    found = [*select.find_all(exp.Parameter), *select.find_all(exp.Placeholder)]
    yield from dict.fromkeys(each.name for each in found)


def _place(text: str, word: str) -> tuple[int, int]:
    """Return where a word stands first in a text."""
    found = re.search(rf"(?<![\w$]){re.escape(word)}\b", text, re.IGNORECASE)
    position = found.start() if found else 0
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
