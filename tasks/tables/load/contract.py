"""What becomes of columns that a table does not have, and of values that a column cannot take: dlt's contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.engine import quoted, text
from lookbook.tasks.tables.load.column_types import TEXT, dlt_name, fitted
from lookbook.tasks.tables.load.incoming import ROWS, Incoming, count, filled, inferred_types
from lookbook.tasks.tables.spec.loading import LoadSettings
from lookbook.tasks.tables.staging import INPUT, LINE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: The rules by which a row is set aside.
NEW_COLUMN, DATA_TYPE, NOT_NULL = "new_column", "data_type", "not_null"
#: A value in a message is cut here.
SHOWN = 200


@dataclass(frozen=True)
class Rule:
    """Rows that are set aside: by which rule, and SQL for the condition (never null) and the message."""

    name: str
    condition: str
    message: str


@dataclass
class Shape:
    """How rows become those of the table.

    Attributes:
        columns: for each of the table's columns that the rows fill, SQL for its value.
        types: of the same.
        rules: by which rows are set aside, the first that holds counts.
        discarded: how many values were dropped, by column, where the contract says discard_value.
    """

    columns: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
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
) -> Shape:
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
    shape = Shape()
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
    """Raises LookbookError where the spec contradicts the table, or names what is nowhere."""
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
    connection: DuckDBPyConnection, new: list[Incoming], shape: Shape, settings: LoadSettings, *, brand_new: bool
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
            shape.rules.append(Rule(NEW_COLUMN, condition, text(f"{column.name}: the table has no such column")))
        else:
            shape.discard(column.name, values[column.name])
    return {}


def _misfit(
    connection: DuckDBPyConnection, shape: Shape, settings: LoadSettings, column: Incoming, condition: str, values: int
) -> None:
    """Apply the contract to values that their column cannot take."""
    wanted = dlt_name(shape.types[column.name])
    mode = settings.contract.data_type
    if mode == "freeze":
        _freeze(connection, settings, column, condition, f"is no {wanted}")
    elif mode == "discard_row" or column.name in mandatory(settings):
        shown = f"left(CAST({quoted(column.raw)} AS VARCHAR), {SHOWN})"
        message = f"concat({text(column.name + ': ')}, {shown}, {text(f' is no {wanted}')})"
        shape.rules.append(Rule(DATA_TYPE, condition, message))
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
    """Raises LookbookError with the first value that the contract does not let in."""
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


def _not_null(connection: DuckDBPyConnection, shape: Shape, settings: LoadSettings) -> None:
    """Set rows aside that lack what no row may lack."""
    asked = [name for name in shape.columns if name in mandatory(settings)]
    conditions = [f"({shape.columns[name]} IS NULL)" for name in asked]
    for name, condition, number in zip(asked, conditions, count(connection, conditions), strict=True):
        if number:
            shape.rules.append(Rule(NOT_NULL, condition, text(f"{name}: no value, and the column needs one")))


def raw_row(columns: Mapping[str, str]) -> str:
    """SQL for a row as it stood, as JSON.

    Args:
        columns: of the rows, each with its name in the view.
    """
    pairs = ", ".join(f"{text(column)}, {quoted(name)}" for column, name in columns.items())
    return f"CAST(json_object({pairs}) AS VARCHAR)"
