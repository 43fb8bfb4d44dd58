"""Rows as they are staged become rows that fit their table, or rejects: names, types, what the contract says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from lookbook.blocks.duckdb.queries import engine
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.sql_text import literal, quoted
from lookbook.blocks.sql_types import FLOAT, TEXT
from lookbook.tasks.tables.engine import make_view, memory_for, told_apart
from lookbook.tasks.tables.load.column_types import (
    INFERRED,
    as_canonical,
    canonical,
    dlt_name,
    fitted,
    is_fraction,
    padded,
    scale,
)
from lookbook.tasks.tables.load.job import LOAD_ID, LOADED_AT, TAG_COLUMNS
from lookbook.tasks.tables.spec.tasks import LoadSettings
from lookbook.tasks.tables.spec.values import snake_case
from lookbook.tasks.tables.staging import INPUT, LINE, REJECT_SCHEMA

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def column_name(name: str) -> str:
    """Return a column's name in a table: productDisplayName becomes product_display_name; ``__`` stays between levels.

    Raises:
        LookbookError: it has no letter, digit or sign of which a name could be made.
    """
    made = snake_case(name)
    if not made:
        raise LookbookError(f"A column is called {name!r}, of which no name can be made.", _RENAME)
    return made


def column_names(columns: Collection[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return for each column of the rows, its name in the table.

    Args:
        columns: as the rows have them.
        taken: names that the table has for other ends.

    Raises:
        LookbookError: two columns would get one name, or one gets a name that is taken.
    """
    names: dict[str, str] = {}
    owners = dict.fromkeys(taken, "")
    for column in columns:
        name = column_name(column)
        owner = owners.get(name)
        if owner is not None:
            other = f"as {owner!r} does" if owner else "which every row carries for its load"
            seen = told_apart(columns)
            shown = [each for each in (owner, column) if seen.get(each, each) != each]
            numbered = f"; there they are {' and '.join(map(seen.__getitem__, shown))}" if shown else ""
            raise LookbookError(
                f"The column {column!r} would get the name {name}, {other}.", f"{_RENAME[:-1]}{numbered}."
            )
        owners[name] = column
        names[column] = name
    return names


def named(settings: LoadSettings) -> LoadSettings:
    """Return the settings with the columns that they name as the table names them."""
    update: dict[str, Any] = {
        "primary_key": tuple(map(column_name, settings.primary_key)),
        "partition_by": tuple(map(column_name, settings.partition_by)),
        "dedup_sort": _keys(settings.dedup_sort),
        "fields": _keys(settings.fields),
        "hard_delete": column_name(settings.hard_delete) if settings.hard_delete else None,
    }
    return settings.model_copy(update=update)


def _keys(values: Mapping[str, Any]) -> dict[str, Any]:
    names = column_names(values)
    return {names[name]: value for name, value in values.items()}


_RENAME = "Give it another name in a sql task between extract and load."


#: The view over the staged files.
ROWS = "rows"
#: So many rows tell first which types a column can not have; they stand in a table.
SAMPLE, SAMPLED = 2000, "sampled"
#: Conditions that one statement counts: the engine plans them in time that grows with their square, deaf to signals.
CONDITIONS = 100


@dataclass(frozen=True)
class Incoming:
    """A column of the rows.

    Attributes:
        raw: its name in the view of the rows.
        name: its name in the table.
        type: its canonical type.
        value: SQL for its value, of that type.
        decimal: the decimal sign of the delimited files in which its texts stood: these have no types, and the values
            tell it; empty: its source has types.
    """

    raw: str
    name: str
    type: str
    value: str
    decimal: str = ""

    def text_for(self, kind: str) -> str:
        """Return SQL for its text as it is read for a type: of a number with a decimal comma, with a point."""
        if self.decimal != "," or not is_fraction(kind):
            return self.value
        return f"CASE WHEN NOT contains({self.value}, '.') THEN replace({self.value}, ',', '.') END"


def incoming_columns(
    connection: DuckDBPyConnection, names: Mapping[str, str], delimited: Mapping[str, str]
) -> list[Incoming]:
    """Return the columns of the view `ROWS` that have a name in the table.

    Args:
        connection: with the view.
        names: for columns of the view, their names in the table.
        delimited: columns of the view whose texts stood in delimited files, with their decimal sign.
    """
    described = connection.execute(f"DESCRIBE {ROWS}").fetchall()
    return [
        Incoming(raw, names[raw], canonical(found), as_canonical(quoted(raw), found), delimited.get(raw, ""))
        for raw, found, *_ in described
        if raw in names
    ]


def count(connection: DuckDBPyConnection, conditions: Iterable[str], source: str = ROWS) -> list[int]:
    """Return for each condition, how many rows meet it: `CONDITIONS` of them are counted in one look at the rows."""
    waiting, numbers = iter(conditions), []
    while some := list(islice(waiting, CONDITIONS)):
        counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in some)
        found = connection.execute(f"SELECT {counts} FROM {source}").fetchone()  # noqa: S608 - names are quoted
        numbers += [int(number) for number in found or ()]
    return numbers


def filled(connection: DuckDBPyConnection, columns: Iterable[Incoming]) -> dict[str, int]:
    """Return how many values each of some columns has that are not null."""
    asked = list(columns)
    found = count(connection, [f"{quoted(column.raw)} IS NOT NULL" for column in asked])
    return {column.name: number for column, number in zip(asked, found, strict=True)}


def inferred_types(
    connection: DuckDBPyConnection, columns: Iterable[Incoming], keys: Collection[str] = ()
) -> dict[str, str]:
    """Return the type of each of some columns; of delimited text, the one that all its values have.

    Args:
        connection: with the rows.
        columns: of the rows.
        keys: columns, as the table names them, that name a row: no double, since several texts are one double.
    """
    asked = list(columns)
    texts = [column for column in asked if column.type == TEXT and column.decimal]
    connection.execute(f"CREATE TEMP TABLE {SAMPLED} AS FROM {ROWS} LIMIT {SAMPLE}")
    sure = _possible(connection, dict.fromkeys(texts, INFERRED), SAMPLED)
    if count(connection, ["true"], SAMPLED) == [SAMPLE]:
        sure = _possible(connection, sure, ROWS)
    connection.execute(f"DROP TABLE {SAMPLED}")
    found = {column: kinds[0] for column, kinds in sure.items() if kinds}
    doubles = [column for column, kind in found.items() if kind == FLOAT]
    no_doubles = {*_padded(connection, doubles), *(column for column in doubles if column.name in keys)}
    types = {column.name: column.type for column in asked}
    return types | {column.name: kind for column, kind in found.items() if column not in no_doubles}


def _padded(connection: DuckDBPyConnection, columns: list[Incoming]) -> list[Incoming]:
    """Find the columns with texts such as 1.10 beside 1.1: two of them would be one double.

    Where all have as many digits behind the point, as prices do, they are one number each.
    """
    waiting, padded_ones = iter(columns), list[Incoming]()
    while some := list(islice(waiting, CONDITIONS)):
        texts = [column.text_for(FLOAT) for column in some]
        tests = ", ".join(f"bool_or({padded(text)}) AND count(DISTINCT {scale(text)}) > 1" for text in texts)
        found = connection.execute(f"SELECT {tests} FROM {ROWS}").fetchone() or ()  # noqa: S608 - names are quoted
        padded_ones += [column for column, several in zip(some, found, strict=True) if several]
    return padded_ones


def _possible(
    connection: DuckDBPyConnection, kinds: Mapping[Incoming, tuple[str, ...]], source: str
) -> dict[Incoming, tuple[str, ...]]:
    """Of the types that columns may have, those that no value contradicts."""
    pairs = [(column, kind) for column, possible in kinds.items() for kind in possible]
    against = [
        f"{quoted(column.raw)} IS NOT NULL AND {fitted(column.text_for(kind), TEXT, kind, strict=True)} IS NULL"
        for column, kind in pairs
    ]
    left: dict[Incoming, tuple[str, ...]] = dict.fromkeys(kinds, ())
    for (column, kind), number in zip(pairs, count(connection, against, source), strict=True):
        if not number:
            left[column] += (kind,)
    return left


#: The rules by which a row is set aside.
NEW_COLUMN, DATA_TYPE, NOT_NULL = "new_column", "data_type", "not_null"
#: A value in a message is cut here.
SHOWN = 200


@dataclass(frozen=True)
class RejectRule:
    """Rows that are set aside: by which rule, and SQL for the condition (never null) and the message."""

    name: str
    condition: str
    message: str


@dataclass
class RowShape:
    """How rows become those of the table.

    Attributes:
        columns: for each of the table's columns that the rows fill, SQL for its value.
        types: of the same.
        rules: by which rows are set aside, the first that holds counts.
        discarded: how many values were dropped, by column, where the contract says discard_value.
    """

    columns: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    rules: list[RejectRule] = field(default_factory=list)
    discarded: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, type_: str, value: str) -> None:
        """Add a column."""
        self.columns[name], self.types[name] = value, type_

    def discard(self, name: str, values: int) -> None:
        """Note values that are dropped."""
        if values:
            self.discarded[name] = values


def shape_rows(
    connection: DuckDBPyConnection,
    columns: list[Incoming],
    settings: LoadSettings,
    standing: Mapping[str, str] | None,
) -> RowShape:
    """Return how the rows of the view `ROWS` become those of the table.

    Args:
        connection: with the view.
        columns: of the rows.
        settings: of the load, with names as the table has them.
        standing: the table's columns as it stands, with their types; None: there is no table.

    Raises:
        LookbookError: the contract freezes what does not fit, or the spec contradicts the table or the rows.
    """
    declared = {name: spec.sql_type for name, spec in settings.fields.items()}
    _check(settings, declared, standing, {column.name for column in columns})
    known = dict(standing or {}) | declared
    new = [column for column in columns if column.name not in known]
    shape = RowShape()
    types = known | _new_types(connection, new, shape, settings, brand_new=standing is None)
    misfits = {
        column.name: f"({quoted(column.raw)} IS NOT NULL AND {_value(column, types, declared)} IS NULL)"
        for column in columns
        if known.get(column.name, TEXT) not in (TEXT, column.type)
    }
    found = dict(zip(misfits, count(connection, misfits.values()), strict=True))
    for column in columns:
        if column.name in types:
            shape.add(column.name, types[column.name], _value(column, types, declared))
        if found.get(column.name):
            _misfit(connection, shape, settings, column, misfits[column.name], found[column.name])
    for name, type_ in declared.items():
        if name not in shape.columns:
            shape.add(name, type_, f"CAST(NULL AS {type_})")
    _not_null(connection, shape, settings)
    return shape


def mandatory(settings: LoadSettings) -> set[str]:
    """Return the columns that no row may lack."""
    return {*settings.primary_key, *(name for name, spec in settings.fields.items() if not spec.nullable)}


def _value(column: Incoming, types: Mapping[str, str], declared: Mapping[str, str]) -> str:
    wanted = types[column.name]
    value = column.text_for(wanted) if column.type == TEXT else column.value
    return fitted(value, column.type, wanted, strict=column.name not in declared)


def _check(
    settings: LoadSettings, declared: Mapping[str, str], standing: Mapping[str, str] | None, present: set[str]
) -> None:
    """Raise LookbookError where the spec contradicts the table, or names what is nowhere."""
    if standing is None and settings.contract.tables == "freeze":
        raise LookbookError(
            f"There is no table {settings.table}, and its schema_contract says tables: freeze.",
            "Make the table, or let the contract say tables: evolve.",
        )
    for name, type_ in declared.items():
        if standing and standing.get(name, type_) != type_:
            raise LookbookError(
                f"The table {settings.table} has the column {name} as {dlt_name(standing[name])}; "
                f"its fields say {settings.fields[name].type}.",
                "A column's type is not changed in silence: load into another table, or correct fields.",
            )
    for what, names in {"primary_key": settings.primary_key, "dedup_sort": settings.dedup_sort}.items():
        for name in names:
            if name not in present and (what == "primary_key" or name not in {**(standing or {}), **declared}):
                raise LookbookError(
                    f"The rows for {settings.table} have no column {name}, which {what} names.",
                    f"They have {', '.join(sorted(present))}.",
                )


def _new_types(
    connection: DuckDBPyConnection, new: list[Incoming], shape: RowShape, settings: LoadSettings, *, brand_new: bool
) -> dict[str, str]:
    """Return the types of columns that the table does not have and is to get. One without any value is none."""
    values = filled(connection, new)
    some = [column for column in new if values[column.name]]
    mode = "evolve" if brand_new else settings.contract.columns
    if mode == "evolve":
        return inferred_types(connection, some, settings.primary_key)
    for column in some:
        condition = f"({quoted(column.raw)} IS NOT NULL)"
        if mode == "freeze":
            _freeze(connection, settings, column, condition, "is a column that the table does not have")
        elif mode == "discard_row":
            shape.rules.append(
                RejectRule(NEW_COLUMN, condition, literal(f"{column.name}: the table has no such column"))
            )
        else:
            shape.discard(column.name, values[column.name])
    return {}


def _misfit(
    connection: DuckDBPyConnection,
    shape: RowShape,
    settings: LoadSettings,
    column: Incoming,
    condition: str,
    values: int,
) -> None:
    """Apply the contract to values that their column cannot take."""
    wanted = dlt_name(shape.types[column.name])
    mode = settings.contract.data_type
    if mode == "freeze":
        _freeze(connection, settings, column, condition, f"is no {wanted}")
    elif mode == "discard_row" or column.name in mandatory(settings):
        shown = f"left(CAST({quoted(column.raw)} AS VARCHAR), {SHOWN})"
        message = f"concat({literal(column.name + ': ')}, {shown}, {literal(f' is no {wanted}')})"
        shape.rules.append(RejectRule(DATA_TYPE, condition, message))
    elif mode == "discard_value":
        shape.discard(column.name, values)
    else:
        name = f"{column.name}__v_{dlt_name(column.type)}"
        if name in shape.columns:
            raise LookbookError(
                f"Values of {column.name} that are no {wanted} would go to the column {name}, which the rows have.",
                "Give that column another name in a sql task between extract and load.",
            )
        shape.add(name, column.type, f"CASE WHEN {condition} THEN {column.value} END")


def _freeze(
    connection: DuckDBPyConnection, settings: LoadSettings, column: Incoming, condition: str, fault: str
) -> None:
    """Raise LookbookError with the first value that the contract does not let in."""
    described = {name for name, *_ in connection.execute(f"DESCRIBE {ROWS}").fetchall()}
    place = ", ".join(quoted(name) if name in described else "NULL" for name in (INPUT, LINE))
    found = connection.execute(
        f"SELECT left(CAST({quoted(column.raw)} AS VARCHAR), {SHOWN}), {place} FROM {ROWS}"  # noqa: S608 - quoted
        f" WHERE {condition} LIMIT 1"
    ).fetchone()
    value, source, line = found or ("", None, None)
    where = f" in {source}" + (f" line {line}" if line is not None else "") if source else ""
    subject = (
        f"the value {value!r} of {column.name} {fault}"
        if fault.startswith("is no ")
        else (f"{column.name} {fault}; its first value is {value!r}")
    )
    raise LookbookError(
        f"{settings.table}: {subject}{where}, and its schema_contract freezes that.",
        "Correct the source, or let the contract evolve or discard; nothing was loaded.",
    )


def _not_null(connection: DuckDBPyConnection, shape: RowShape, settings: LoadSettings) -> None:
    """Set rows aside that lack what no row may lack."""
    asked = [name for name in shape.columns if name in mandatory(settings)]
    conditions = [f"({shape.columns[name]} IS NULL)" for name in asked]
    for name, condition, number in zip(asked, conditions, count(connection, conditions), strict=True):
        if number:
            shape.rules.append(RejectRule(NOT_NULL, condition, literal(f"{name}: no value, and the column needs one")))


def raw_row(columns: Mapping[str, str]) -> str:
    """Return SQL for a row as it stood, as JSON.

    Args:
        columns: of the rows, each with its name in the view.
    """
    pairs = ", ".join(f"{literal(column)}, {quoted(name)}" for column, name in columns.items())
    return f"CAST(json_object({pairs}) AS VARCHAR)"


#: Megabytes that the engine may hold, and more for each column; it is one of two in this process.
MEMORY = 256
#: Columns of a load, at the most: the time of a load grows with them, whatever the rows.
MOST_COLUMNS = 2000
#: An accepted file begins anew when it has about so many bytes.
FILE_BYTES = 64 * 1024 * 1024
#: What scd2 adds to a table.
ROW_HASH, VALID_FROM, VALID_TO = "_row_hash", "valid_from", "valid_to"


@dataclass(frozen=True)
class Batch:
    """What is to be prepared, and how every row of it is tagged; texts of `delimited` columns may get other types."""

    files: Sequence[Path]
    settings: LoadSettings
    load_id: str
    loaded_at: datetime
    delimited: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedRows:
    """Rows that fit their table, and those that do not.

    Attributes:
        columns: of the accepted files, with types in DuckDB's words; tags are the last ones.
        files: the accepted rows; for a merge in the order in which they came.
        rows: in them.
        rejects: a Parquet file of `REJECT_SCHEMA`; None: there are none.
        discarded: values that the contract drops, by column.
        replaced: values in which the place writes U+FFFD for NUL, by column.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Path] = ()
    rows: int = 0
    rejects: Path | None = None
    rejected: int = 0
    discarded: Mapping[str, int] = field(default_factory=dict)
    replaced: Mapping[str, int] = field(default_factory=dict)


def prepare(batch: Batch, standing: Mapping[str, str] | None, scratch: Path) -> PreparedRows:
    """Make rows fit their table.

    Args:
        batch: the rows, with the settings' names as the table has them.
        standing: the table's columns as it stands, with their types; None: there is no table.
        scratch: a folder of this machine that stays until the load is done.

    Raises:
        LookbookError: there are too many columns, the contract freezes what does not fit, columns collide, or the spec
            contradicts the table.
    """
    files = [path for path in batch.files if pq.ParquetFile(path).metadata.num_rows]
    if not files:
        return PreparedRows(columns=_columns_of_no_rows(batch.settings, standing))
    columns = {name for path in files for name in pq.read_schema(path).names if name not in (INPUT, LINE)}
    if len(columns) > MOST_COLUMNS:
        raise LookbookError(
            f"{batch.settings.table}: the rows have {len(columns)} columns, and a load takes {MOST_COLUMNS}.",
            "Select fewer in a sql task between extract and load, or turn columns into rows by UNPIVOT.",
        )
    with engine(scratch, files, memory_for(MEMORY, len(columns))) as (connection, folder):
        seen = make_view(connection, ROWS, files)
        own = {column: name for column, name in seen.items() if column not in (INPUT, LINE)}
        named = column_names(own, taken=_taken(batch.settings))
        delimited = {own[column]: sign for column, sign in batch.delimited.items() if column in own}
        incoming = incoming_columns(connection, {own[column]: name for column, name in named.items()}, delimited)
        shape = shape_rows(connection, incoming, batch.settings, standing)
        rows = _write_accepted(connection, shape, batch, folder / "accepted")
        accepted = _moved(folder / "accepted", scratch) if rows else []
        rejected = _write_rejects(connection, shape, own, scratch / "rejects.parquet") if shape.rules else 0
    return PreparedRows(
        columns=shape.types | TAG_COLUMNS,
        files=accepted,
        rows=rows,
        rejects=scratch / "rejects.parquet" if rejected else None,
        rejected=rejected,
        discarded=shape.discarded,
    )


def _taken(settings: LoadSettings) -> list[str]:
    history = [ROW_HASH, VALID_FROM, VALID_TO] if settings.strategy == "scd2" else []
    return [*TAG_COLUMNS, *history]


def _columns_of_no_rows(settings: LoadSettings, standing: Mapping[str, str] | None) -> dict[str, str]:
    """Return the columns that a table needs where no row says any: those declared, and those that it has."""
    known = {name: type_ for name, type_ in (standing or {}).items() if name not in _taken(settings)}
    declared = {name: spec.sql_type for name, spec in settings.fields.items()}
    return known | declared | TAG_COLUMNS


def _write_accepted(connection: DuckDBPyConnection, shape: RowShape, batch: Batch, folder: Path) -> int:
    """Write the rows that no rule sets aside, and say how many they are."""
    tags = {LOAD_ID: literal(batch.load_id), LOADED_AT: f"TIMESTAMPTZ {literal(batch.loaded_at.isoformat())}"}
    selected = ", ".join(f"{value} AS {quoted(name)}" for name, value in (shape.columns | tags).items())
    kept = f" WHERE NOT ({_any_rule(shape)})" if shape.rules else ""
    target, files = literal(str(folder)), f", FILE_SIZE_BYTES {FILE_BYTES}, FILENAME_PATTERN 'rows_{{i}}'"
    if batch.settings.write_disposition == "merge":
        # Of rows with one key the last wins: into several files threads write as they come, into one in order.
        folder.mkdir()
        target, files = literal(str(folder / "rows_0.parquet")), ""
    written = connection.execute(
        f"COPY (SELECT {selected} FROM {ROWS}{kept}) TO {target} (FORMAT parquet, COMPRESSION snappy{files})"  # noqa: S608 - names are quoted
    ).fetchone()
    return int(written[0]) if written else 0


def _moved(folder: Path, scratch: Path) -> list[Path]:
    """Take files out of the engine's folder, under names in their order."""
    files = sorted(folder.iterdir(), key=lambda path: int(re.sub(r"\D", "", path.stem)))
    return [path.rename(scratch / f"{number:05}.parquet") for number, path in enumerate(files)]


def _write_rejects(connection: DuckDBPyConnection, shape: RowShape, columns: Mapping[str, str], path: Path) -> int:
    """Write the rows that a rule sets aside, and say how many they are."""
    present = {name for name, *_ in connection.execute(f"DESCRIBE {ROWS}").fetchall()}
    place = ", ".join(f"{quoted(name) if name in present else 'NULL'} AS {quoted(name)}" for name in (INPUT, LINE))
    rules = " ".join(f"WHEN {rule.condition} THEN {literal(rule.name)}" for rule in shape.rules)
    messages = " ".join(f"WHEN {rule.condition} THEN {rule.message}" for rule in shape.rules)
    found = connection.sql(
        f"SELECT CASE {rules} END AS rule, CASE {messages} END AS message, {raw_row(columns)} AS raw, {place}"  # noqa: S608 - names are quoted
        f" FROM {ROWS} WHERE {_any_rule(shape)}"
    )
    rows = 0
    assert found is not None  # noqa: S101 - a SELECT gives rows
    with pq.ParquetWriter(path, REJECT_SCHEMA, compression="zstd") as writer:
        for chunk in found.to_arrow_reader(10_000):
            writer.write_batch(chunk.cast(REJECT_SCHEMA))
            rows += chunk.num_rows
    return rows


def _any_rule(shape: RowShape) -> str:
    return " OR ".join(rule.condition for rule in shape.rules)


def balance(staged: int, prepared: PreparedRows, table: str) -> None:
    """Raise LookbookError unless every staged row is accepted or rejected."""
    if staged != prepared.rows + prepared.rejected:
        raise LookbookError(
            f"{table}: of {staged} rows, {prepared.rows} fit and {prepared.rejected} do not: the books do not balance.",
            "Nothing was loaded. This is a fault of Lookbook: please report it.",
        )
