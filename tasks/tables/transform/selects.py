"""The SQL of a transform: one SELECT, what it names, and types that a table can have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.engine import quoted

if TYPE_CHECKING:
    import sqlglot.expressions as exp

#: Types that Parquet has not, or not as they are, each with the one that it gets.
_CASTS = {"HUGEINT": "BIGINT", "UHUGEINT": "BIGINT", "BIGNUM": "VARCHAR", "TIMESTAMP_S": "TIMESTAMP"}
_CASTS |= dict.fromkeys(("INTERVAL", "UUID", "BIT", "TIME WITH TIME ZONE"), "VARCHAR") | {"TIMESTAMP_MS": "TIMESTAMP"}
_NESTED = ("STRUCT(", "MAP(", "UNION(", "ENUM(", "JSON", "VARIANT")


@dataclass(frozen=True)
class Select:
    """One SELECT.

    Attributes:
        file: that it stands in.
        sql: its text, without a semicolon, on the lines of the file.
        tree: as sqlglot parses it; None: it cannot, though DuckDB may.
    """

    file: str
    sql: str
    tree: exp.Query | None

    def columns(self, table: str, known: Mapping[str, Collection[str]]) -> list[str]:
        """Return the columns that it takes from a table, or may.

        Args:
            table: its name.
            known: the columns of other tables: where one of these has a name, it is taken from there.
        """
        import sqlglot.expressions as exp  # noqa: PLC0415 - slow

        columns: dict[str, str] = {}
        for select in self.tree.find_all(exp.Select) if self.tree is not None else ():
            for name in _taken(select, table, known):
                columns.setdefault(name.lower(), name)
        return list(columns.values())


def _taken(select: exp.Select, table: str, known: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield the columns that one SELECT takes from a table, if it stands in its FROM."""
    import sqlglot.expressions as exp  # noqa: PLC0415 - slow

    joins = select.args.get("joins") or []
    parts = [select.args.get("from_") or select.args.get("from"), *joins]
    sources = [part.this for part in parts if part is not None and isinstance(part.this, exp.Table)]
    aliases = {source.alias_or_name.lower() for source in sources if source.name.lower() == table.lower()}
    if not aliases:
        return
    others = {column.lower() for source in sources for column in known.get(source.name.lower(), ())}
    for column in select.find_all(exp.Column):
        if column.table:
            own = column.table.lower() in aliases
        else:
            own = column.find_ancestor(exp.Select) is select and column.name.lower() not in others
        if own and column.name:
            yield column.name
    for join in joins:
        yield from (one.name for one in join.args.get("using") or ())


def read_select(file: str, sql: str) -> Select:
    """Return the one SELECT of a file.

    Raises:
        LookbookError: it has another statement, several, or none.
    """
    import sqlglot  # noqa: PLC0415 - slow
    import sqlglot.expressions as exp  # noqa: PLC0415
    from sqlglot.errors import ParseError, SqlglotError  # noqa: PLC0415
    from sqlglot.tokenizer_core import TokenType  # noqa: PLC0415

    try:
        tokens = sqlglot.tokenize(sql, read="duckdb")
        end = next((token.start for token in tokens if token.token_type == TokenType.SEMICOLON), len(sql))
        more = [token for token in tokens if token.start > end and token.token_type != TokenType.SEMICOLON]
        parsed = sqlglot.parse(sql[:end], read="duckdb") if tokens else []
    except ParseError:
        return Select(file, sql[:end], None)  # DuckDB may know better, or says where
    except SqlglotError as error:
        raise LookbookError(f"{file}: {str(error).splitlines()[0]}.", "Correct the SQL.") from error
    if more or len(parsed) != 1 or not isinstance(parsed[0], exp.Query):
        raise LookbookError(f"{file} is not one SELECT.", "Write one, with a WITH before it if need be.")
    return Select(file, sql[:end], parsed[0])


def storable(sql: str, types: Sequence[tuple[str, str]]) -> str:
    """Return a SELECT whose columns have types that a table can have: nested ones as JSON.

    Args:
        sql: of one SELECT.
        types: of its columns by their names, as DuckDB calls them. Names may be equal, or differ in case only.
    """
    places = [f"column_{number}" for number in range(len(types))]
    parts = [_storable(place, kind) for place, (_, kind) in zip(places, types, strict=True)]
    if parts == places:
        return sql
    chosen = ", ".join(f"{part} AS {quoted(name)}" for part, (name, _) in zip(parts, types, strict=True))
    return f"SELECT {chosen} FROM ({sql}\n) AS result({', '.join(places)})"  # noqa: S608 - names are quoted


def _storable(column: str, kind: str) -> str:
    if kind.endswith("]") or kind.startswith(_NESTED):
        return f"CAST({column} AS VARCHAR)" if kind.startswith(("ENUM(", "JSON")) else f"to_json({column})::VARCHAR"
    return f"CAST({column} AS {_CASTS[kind]})" if kind in _CASTS else column
