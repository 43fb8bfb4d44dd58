"""What a statement names, and whether it only reads."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lookbook.blocks.errors import LookbookError

#: Of DuckDB's kinds of statement those that read. MULTI is what a PIVOT without IN is turned into.
_READING = frozenset({"SELECT", "EXPLAIN", "MULTI"})
#: What writes files. DuckDB takes COPY as a part of a SELECT (WITH x AS (COPY …)), and of EXPLAIN ANALYZE.
_WRITING = frozenset({"copy", "export"})
_WORD = re.compile(r"\w+")
_PART = re.compile(r'"(?:[^"]|"")*"|[^.]+')


def check_reads_only(sql: str) -> None:
    """Refuse a statement that could write.

    A connection that reaches files reaches them for writing, too: COPY … TO with USE_TMP_FILE false goes over a file
    that it may only have read, whatever the connection's settings are.

    Raises:
        LookbookError: it is no SELECT, or one with a part that writes.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    with duckdb.connect() as connection:
        try:
            kinds = [statement.type.name for statement in connection.extract_statements(sql)]
        except duckdb.Error:
            return  # whoever runs it hears what is wrong with it
    for kind in kinds:
        if kind not in _READING:
            raise LookbookError(f"A query only reads: this is {kind}.", "One SELECT is asked for.")
    for word in _bare_words(sql):
        if word.lower() in _WRITING:
            raise LookbookError(
                f"A query only reads: {word.upper()} writes.",
                f'If it is the name of a column or table, put it into double quotes: "{word}".',
            )


def _bare_words(sql: str) -> Iterator[str]:
    """Yield the words outside quotes and comments."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    data = sql.encode()  # offsets are of bytes
    for offset, kind in duckdb.tokenize(sql):
        if kind.name in ("keyword", "identifier") and (found := _WORD.match(data[offset:].decode(errors="replace"))):
            yield found[0]


def tables_named(sql: str, dialect: str = "duckdb") -> set[tuple[str, ...]]:
    """Return the tables that a statement names, each as the parts of its name; common table expressions are none.

    Args:
        sql: the statement.
        dialect: ``duckdb``, or ``bigquery``, where `p.d.t` in backticks is a name of three parts.

    Returns:
        None of a statement that cannot be read: whoever runs it hears what is wrong with it.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    with duckdb.connect() as connection:
        try:
            found = connection.get_table_names(sql, qualified=True)
        except duckdb.Error:  # several statements, a PIVOT, another dialect
            return _tables_by_sqlglot(sql, dialect)
    names = {name_parts(name) for name in found}
    return {tuple(".".join(name).split(".")) for name in names} if dialect == "bigquery" else names


def name_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a name: schema and table, without the quotes."""
    return tuple(_unquoted(part) for part in _PART.findall(name))


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _tables_by_sqlglot(sql: str, dialect: str) -> set[tuple[str, ...]]:
    import sqlglot  # noqa: PLC0415 - late: importing the tasks is to be quick
    from sqlglot import exp  # noqa: PLC0415

    try:
        trees = [tree for tree in sqlglot.parse(sql, read=dialect) if tree is not None]
    except sqlglot.errors.SqlglotError:
        return set()
    own = {cte.alias for tree in trees for cte in tree.find_all(exp.CTE)}
    tables = [table for tree in trees for table in tree.find_all(exp.Table)]
    named = {tuple(part for part in (table.catalog, table.db, table.name) if part) for table in tables}
    return {name for name in named if name and not (len(name) == 1 and name[0] in own)}
