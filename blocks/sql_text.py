"""One SELECT, read by sqlglot: which tables it names, and how it is said elsewhere or in another dialect.

Every run comes by here for a name in quotes; sqlglot, which few need, is imported by those that do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lookbook.blocks.errors import LookbookError

if TYPE_CHECKING:
    import sqlglot
    from sqlglot import exp

#: The schemas that models read.
SCHEMAS = ("feeds", "warehouse")

#: The parts of a table's name, outermost first, where a warehouse has it: given the schema and the name in the SELECT.
Place = Callable[[str, str], tuple[str, ...]]


def quoted(name: str) -> str:
    """Return a name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def parquet_files(paths: Iterable[object]) -> str:
    """Return the relation of one table that lies in some Parquet files.

    A folder named a=b on their way is no partition, and would become a column.
    """
    return f"read_parquet([{', '.join(literal(str(path)) for path in paths)}], hive_partitioning = false)"


def read_select(sql: str) -> exp.Query:
    """Return the SELECT of a model or of a check.

    Raises:
        ValueError: it is no SQL, or not exactly one SELECT, or it reads what is no table.
    """
    import sqlglot  # noqa: PLC0415
    from sqlglot import exp  # noqa: PLC0415

    writes = (exp.DML, exp.DDL, exp.Drop, exp.Command, exp.Into, exp.Alter, exp.Set, exp.Attach, exp.Copy)
    try:
        trees = [tree for tree in sqlglot.parse(sql, read="duckdb") if tree is not None]
    except sqlglot.errors.SqlglotError as error:
        raise ValueError(f"it is no SQL of DuckDB: {_plain(error)}") from None
    if len(trees) != 1:
        raise ValueError(f"it is {len(trees)} statements where one SELECT is asked for")
    tree = trees[0]
    written = next((node for node in tree.walk() if isinstance(node, writes) and not isinstance(node, exp.Query)), None)
    if not isinstance(tree, exp.Query) or written is not None:
        raise ValueError(f"it is no SELECT but {(written or tree).key.upper()}")
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier | exp.GenerateSeries):
            read = table.this.sql("duckdb")[:60]
            raise ValueError(f"it reads {read}: only tables are read, no files or functions")  # noqa: TRY004 - of SQL
    return tree


def _plain(error: sqlglot.errors.SqlglotError) -> str:
    """Line and cause, without the excerpt that sqlglot underlines."""
    found: dict[str, Any] = next(iter(getattr(error, "errors", ())), {})  # only a fault of the grammar has them
    return f"line {found['line']}: {found['description']}" if found.get("line") else str(error).splitlines()[0]


def tables_named(tree: exp.Expr) -> Iterator[exp.Table]:
    """Yield the tables that a SELECT reads, as nodes of the tree: not its own common table expressions."""
    from sqlglot import exp  # noqa: PLC0415
    from sqlglot.optimizer.scope import traverse_scope  # noqa: PLC0415

    seen = set()
    for scope in traverse_scope(tree):
        for source in scope.sources.values():
            if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier) and id(source) not in seen:
                seen.add(id(source))
                yield source


def names_read(sql: str) -> set[str]:
    """Return the names of the tables that a SELECT reads, as they stand there: ``feeds.trips``, ``dim_zone``."""
    return {".".join(part.name for part in table.parts) for table in tables_named(read_select(sql))}


def duplicate_columns(tree: exp.Query) -> list[str]:
    """Return names that a SELECT gives to two of its columns, as far as it spells them out."""
    names = [name.lower() for name in tree.named_selects if name != "*"]
    return sorted({name for name in names if name and names.count(name) > 1})


def placed(sql: str, place: Place, dialect: str = "duckdb") -> str:
    """Return a SELECT in a warehouse's dialect, with its tables named as they are called there.

    Raises:
        LookbookError: the dialect has no words for it.
    """
    from sqlglot import exp  # noqa: PLC0415

    tree = read_select(sql)
    for table in list(tables_named(tree)):
        parts = place(table.db, table.name)
        alias = table.alias or table.name
        names = [exp.to_identifier(part, quoted=True) for part in parts]
        for slot, name in zip(("this", "db", "catalog"), [*reversed(names), None, None], strict=False):
            table.set(slot, name)
        if not table.args.get("alias") and alias != parts[-1]:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    return said(tree, dialect)


def said(tree: exp.Expr, dialect: str) -> str:
    """Return a tree as SQL of a dialect.

    Raises:
        LookbookError: the dialect has no words for it.
    """
    import sqlglot  # noqa: PLC0415

    try:
        return tree.sql(dialect, unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False)
    except sqlglot.errors.UnsupportedError as error:
        raise LookbookError(
            f"{dialect} has no words for a part of a model: {str(error).splitlines()[0]}",
            "Say it otherwise: what both DuckDB and the warehouse know.",
        ) from error


def needed(names: Collection[str], reads: Mapping[str, Collection[str]]) -> set[str]:
    """Return the models `names`, and all that they are made of."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in reads and name not in found:
            found.add(name)
            waiting += reads[name]
    return found
