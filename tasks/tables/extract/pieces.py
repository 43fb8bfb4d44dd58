"""What the reading of an input gives: rows, their columns and types, and beside them what could not be read."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import simplejson

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.engine import unified
from lookbook.tasks.tables.spec.values import snake_case
from lookbook.tasks.tables.staging import INPUT, LINE, REJECT_SCHEMA

SEPARATOR = "__"


class AmbiguousNameError(ValueError):
    """Two values of one object get the same name."""


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an object by their names; an object in it gives its values, and none of its own.

    Raises:
        AmbiguousNameError: as for ``{"a": {"b": 1}, "a__b": 2}``.
        RecursionError: nested too deep.
    """
    for value in record.values():
        if isinstance(value, dict | list):
            break
    else:
        return dict(record)
    row: dict[str, Any] = {}
    _flatten(record, "", row)
    return row


def _flatten(record: Mapping[str, Any], prefix: str, row: dict[str, Any]) -> None:
    for name, value in record.items():
        column = prefix + name
        if isinstance(value, dict):
            _flatten(value, column + SEPARATOR, row)
            continue
        if column in row:
            raise AmbiguousNameError(column)
        row[column] = as_json(value) if isinstance(value, list) else value


def as_json(value: Any) -> str:  # noqa: ANN401 - whatever JSON can say
    """Return a value as JSON, without blanks; decimals are numbers with all their digits."""
    return str(
        simplejson.dumps(
            value, ensure_ascii=False, separators=(",", ":"), default=str, use_decimal=True, allow_nan=True
        )
    )


#: What becomes text: Arrow would take it as something else, or not at all.
_AS_TEXT = (dict, list, tuple, set, frozenset, UUID, timedelta)
_NUMBERS = {int, float, Decimal}
_FAULTS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError, ValueError)


def to_array(values: Sequence[Any], wanted: pa.DataType | None = None) -> pa.Array:
    """Return the values as an array.

    Args:
        values: of a column; None is a missing one.
        wanted: the type that the source names; where a value does not fit it, none does.

    Raises:
        UnicodeEncodeError: a text is no Unicode.
    """
    if wanted is not None:
        try:
            return pa.array(values, wanted)
        except UnicodeEncodeError:
            raise
        except _FAULTS:
            pass
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) > 1 and Decimal in kinds and kinds <= _NUMBERS:
        values, kinds = [_decimal(value) for value in values], {Decimal}
    if len(kinds) > 1 and not kinds <= {int, float}:
        return pa.array([text_of(value) for value in values], pa.string())
    if any(issubclass(kind, _AS_TEXT) for kind in kinds):
        return pa.array([text_of(value) for value in values], pa.string())
    return _inferred(values, kinds)


def _decimal(value: float | Decimal | None) -> Decimal | None:
    """Make a number a decimal: of a float, the digits that it is written with."""
    return value if value is None or isinstance(value, Decimal) else Decimal(repr(value))


def _inferred(values: Sequence[Any], kinds: set[type]) -> pa.Array:
    if kinds == {memoryview}:
        values = [None if value is None else bytes(value) for value in values]
    try:
        found = _of_times(values) if kinds == {datetime} else pa.array(values)
    except UnicodeEncodeError:
        raise
    except _FAULTS:
        return pa.array([text_of(value) for value in values], pa.string())
    if pa.types.is_uint64(found.type) or pa.types.is_decimal256(found.type):
        return pa.array([text_of(value) for value in values], pa.string())
    return found


def _of_times(values: Sequence[datetime | None]) -> pa.Array:
    """Return times of one kind: without a zone, or in UTC."""
    zoned = {value.tzinfo is not None for value in values if value is not None}
    if len(zoned) > 1:
        raise TypeError("times with and without a zone")
    return pa.array(values, pa.timestamp("us", "UTC" if zoned == {True} else None))


def text_of(value: Any) -> str | None:  # noqa: ANN401, PLR0911 - any value, a line for each kind
    """Return a value as text: as JSON says it where JSON knows it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return as_json(value)
    if isinstance(value, set | frozenset):
        return as_json(sorted(value, key=str))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _clock(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    return str(value)


def _clock(value: timedelta) -> str:
    """Write a time as MySQL does, whose times reach from -838 hours to 838: ``-100:00:01``, ``10:11:12.345000``."""
    seconds, fraction = divmod(abs(value) // timedelta(microseconds=1), 1_000_000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    text = f"{'-' if value < timedelta() else ''}{hours:02}:{minutes:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}" if fraction else text


_SIGN = re.compile("[A-Za-z0-9]")
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")


def column_named(columns: Sequence[str], wanted: str) -> str | None:
    """Return the column of this very name, or else the one that gets it at the load."""
    if wanted in columns:
        return wanted
    return next((column for column in columns if snake_case(column) == snake_case(wanted)), None)


def group_of(value: str) -> str | None:
    """Return the name of the table for a value that rows are split by; None: it makes none."""
    if not _SIGN.search(value):
        return None  # it would be called x
    name = snake_case(value)
    return name if _TABLE.fullmatch(name) else None


#: A record of a text file has no more bytes: what is longer is a reject.
MAX_RECORD = 16 * 2**20
#: So many characters are kept of what could not be read.
MAX_RAW = 64 * 2**10


@dataclass(frozen=True)
class InputReject:
    """What could not be read.

    Attributes:
        rule: its name.
        message: why.
        raw: the line or record as it stands.
        input: address of what it stands in.
        line: where; None: nobody knows.
    """

    rule: str
    message: str
    raw: str
    input: str
    line: int | None = None


@dataclass(frozen=True)
class Piece:
    """Rows that were read together.

    Attributes:
        rows: with the columns `INPUT` and `LINE` as the last ones; None where there are none.
        rejects: what could not be read.
        group: that the rows belong to, as a table's name; empty: to none.
        delimited: columns whose texts stood in a delimited file, which knows no types, with its decimal sign.
    """

    rows: pa.Table | None = None
    rejects: Sequence[InputReject] = ()
    group: str = ""
    delimited: Mapping[str, str] = field(default_factory=dict)


@dataclass
class TakenInput:
    """A file that a source of type objects has taken.

    Attributes:
        input: its address.
        fingerprint: another one when it changed.
        modified: when it was changed.
    """

    input: str
    fingerprint: str
    modified: datetime | None = None


@dataclass
class Notes:
    """What the reading of a source finds out beside its rows; complete when all pieces were taken.

    Attributes:
        inputs: addresses of what was read.
        state: what the source is to know at the next run.
        taken: files that are not to be taken again; None of a source that takes them at each run.
        unchanged: the source says that nothing changed; there are no pieces then.
    """

    inputs: list[str] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    taken: list[TakenInput] | None = None
    unchanged: bool = False


class UnreadableError(Exception):
    """A file that cannot be read, or not to its end.

    Args:
        rule: as of a reject.
        message: why.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def for_user(self, address: str) -> LookbookError:
        """Return the error that names the file."""
        return LookbookError(
            f"{address} cannot be read ({self.rule}): {self.message}.", "Mend the file or what says how to read it."
        )


def rejects_table(rejects: Sequence[InputReject]) -> pa.Table:
    """Return rejects as rows of `REJECT_SCHEMA`."""
    columns = [
        [reject.rule for reject in rejects],
        [reject.message for reject in rejects],
        [reject.raw for reject in rejects],
        [reject.input for reject in rejects],
        [reject.line for reject in rejects],
    ]
    return pa.Table.from_arrays(
        [pa.array(column, kind.type) for column, kind in zip(columns, REJECT_SCHEMA, strict=True)],
        schema=REJECT_SCHEMA,
    )


def raw_of(row: Mapping[str, Any]) -> str:
    """Return a row as it is kept among the rejects: JSON."""
    return as_json({name: text_of(value) for name, value in row.items() if name not in (INPUT, LINE)})


def shortened(raw: str) -> str:
    """Return as much of a raw record as is kept."""
    return raw if len(raw) <= MAX_RAW else raw[:MAX_RAW] + "…"


def located(rows: pa.Table, address: str, lines: pa.Array) -> pa.Table:
    """Return rows with their address and lines as last columns; columns of theirs with these names get others."""
    names = unique_names(rows.column_names, taken=(INPUT, LINE))
    told = pa.DictionaryArray.from_arrays(pa.array([0] * rows.num_rows, pa.int8()), pa.array([address], pa.string()))
    return (
        rows.rename_columns(names)
        .append_column(pa.field(INPUT, pa.string()), told.cast(pa.string()))
        .append_column(pa.field(LINE, pa.int64()), lines.cast(pa.int64()))
    )


def unique_names(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return the names with a number behind each that is empty or stands there already."""
    used = set(taken)
    unique: list[str] = []
    wanted = {name for name in names if name}
    for number, name in enumerate(names, 1):
        base = name or f"column_{number}"
        result, count = base, 1
        while result in used or (result != name and result in wanted):
            count += 1
            result = f"{base}_{count}"
        used.add(result)
        unique.append(result)
    return unique


#: A table of more columns is none: most likely values stand where names should.
MAX_COLUMNS = 5000
_LAST = (INPUT, LINE)


def check_width(what: str, names: Collection[str]) -> None:
    """See that a table has no more columns than one may have.

    Raises:
        LookbookError: it has.
    """
    if len(names) > MAX_COLUMNS:
        raise LookbookError(
            f"{what}: more than {MAX_COLUMNS} columns, {list(names)[-1][:80]!r} among them.",
            "Values stand where names should: bring the rows into another form by a Python function.",
        )


class ColumnTypes:
    """Columns and their types so far; types only get wider.

    Args:
        what: has them, for messages.
        types: columns that are known before.
    """

    def __init__(self, what: str, types: Mapping[str, pa.DataType] | None = None) -> None:
        self._what = what
        self._types = dict(types or {})

    def fit(self, table: pa.Table) -> pa.Table:
        """Return the table with all columns so far, its own included; those that it lacks are null.

        Raises:
            LookbookError: that are too many.
        """
        own = [name for name in table.column_names if name not in _LAST]
        wider = unified([pa.schema(list(self._types.items())), table.select(own).schema])
        check_width(self._what, list(wider))
        self._types = {name: kind or pa.string() for name, kind in wider.items()}
        columns = {name: self._column(table, name) for name in self._types}
        last = {name: table.column(name) for name in _LAST if name in table.column_names}
        return pa.table(columns | last)

    def _column(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        wanted = self._types[name]
        if name not in table.column_names:
            return pa.chunked_array([pa.nulls(table.num_rows, wanted)])
        column = table.column(name)
        if column.type.equals(wanted):
            return column
        if not pa.types.is_string(wanted):
            try:
                return column.cast(wanted)
            except pa.ArrowInvalid:  # an integer that no float is equal to
                self._types[name] = pa.string()
        return pa.chunked_array([pa.array([text_of(value) for value in column.to_pylist()], pa.string())])


def split(piece: Piece, by: str) -> tuple[dict[str, pa.Table], list[InputReject]]:
    """Return the rows by the table that their value names; columns without any value there are left out.

    Values that make the same name share a table. Rows without a value, or with one that makes no name of a table,
    become rejects.
    """
    rows, rejects = piece.rows, list(piece.rejects)
    groups: dict[str, list[pa.Table]] = {}
    if rows is None or not rows.num_rows:
        return {}, rejects
    name = column_named(rows.column_names, by)
    column = rows.column(name).combine_chunks() if name else pa.nulls(rows.num_rows)
    for value in pc.unique(column):
        part = rows.filter(pc.equal(column, value) if value.is_valid else column.is_null())
        group = group_of(str(text_of(value.as_py()))) if value.is_valid else None
        if group is None:
            rejects += _rejects(part, by, known=value.is_valid)
        else:
            groups.setdefault(group, []).append(part)
    return {group: _without_empty(pa.concat_tables(parts)) for group, parts in groups.items()}, rejects


def _without_empty(rows: pa.Table) -> pa.Table:
    """Return the rows without columns that are there for other groups only."""
    kept = [
        name
        for name, column in zip(rows.column_names, rows.columns, strict=True)
        if column.null_count < rows.num_rows or name in (INPUT, LINE)
    ]
    return rows.select(kept)


def _rejects(rows: pa.Table, by: str, *, known: bool) -> list[InputReject]:
    rule = "bad_group" if known else "no_group"
    why = f"its {by} makes no name of a table" if known else f"it has no {by}, by which rows are split"
    return [InputReject(rule, why, shortened(raw_of(row)), str(row[INPUT]), row[LINE]) for row in rows.to_pylist()]
