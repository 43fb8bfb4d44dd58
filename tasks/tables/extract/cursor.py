"""Cursors: rows that are newer than those taken before, whatever the type of the column."""

from __future__ import annotations

import atexit
import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Context as DecimalContext
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.extract.pieces import InputReject, Piece, as_json, column_named, raw_of, shortened, text_of
from lookbook.tasks.tables.spec.tasks import Incremental
from lookbook.tasks.tables.staging import INPUT, LINE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: What a cursor counts: numbers, or microseconds since 1970 in UTC; a time without a zone counts as UTC.
CursorKind: TypeAlias = Literal["number", "time"]
#: The value of a cursor as it stands in its source, for those that can compare it themselves.
Exact: TypeAlias = int | float | Decimal | date | datetime


def kind_of(column: pa.ChunkedArray, name: str) -> CursorKind | None:
    """Return what a column counts; None: it has no value that tells.

    Raises:
        LookbookError: its type is none that grows.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_null(kind) or column.null_count == len(column):
        return None
    if not pa.types.is_string(kind):
        raise LookbookError(f"incremental.cursor {name} is of type {kind}.", "Name a number, a date or a time.")
    values = column.drop_null()
    parsed = {kind: len(values) - _of_text(values, kind).null_count for kind in ("number", "time")}
    if not any(parsed.values()):
        return None
    return "number" if parsed["number"] >= parsed["time"] else "time"


def keys_of(column: pa.ChunkedArray, kind: CursorKind) -> pa.Array:
    """Return the values as float64 (numbers) or int64 (times); null where there is none of this kind."""
    found = column.type
    if pa.types.is_string(found):
        return _of_text(column, kind)
    if pa.types.is_null(found):
        return pa.nulls(len(column), pa.float64() if kind == "number" else pa.int64())
    if pa.types.is_temporal(found) != (kind == "time"):
        raise LookbookError(
            f"incremental.cursor is of type {found}, and was a {kind} before.", "Name the column that it was."
        )
    if kind == "number":
        keys = _one(column.cast(pa.float64(), safe=False))
        return pc.if_else(pc.is_finite(keys), keys, pa.scalar(None, pa.float64()))
    if pa.types.is_date(found):
        column = column.cast(pa.date32())
    zone = column.type.tz if pa.types.is_timestamp(found) else None
    return _one(column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()))


def _of_text(column: pa.ChunkedArray, kind: CursorKind) -> pa.Array:
    value = "TRY_CAST(trim(v) AS DOUBLE)" if kind == "number" else "TRY_CAST(trim(v) AS TIMESTAMPTZ)"
    key = value if kind == "number" else f"epoch_us({value})"
    with _duckdb().cursor() as connection:
        connection.register("texts", pa.table({"v": column}))
        statement = f"SELECT CASE WHEN isfinite({value}) THEN {key} END AS k FROM texts"  # noqa: S608
        keys: pa.Table = connection.sql(statement).to_arrow_table()
        return _one(keys.column("k"))


@lru_cache(maxsize=1)
def _duckdb() -> DuckDBPyConnection:
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    atexit.register(_duckdb.cache_clear)  # what lives longer than the interpreter is called leaked on stderr
    return connection


def _one(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def exact_value(value: object) -> str | None:
    """Return a cursor's value as text from which `exact_of` makes it again; None of a text."""
    match value:
        case datetime():
            return f"datetime:{value.isoformat()}"
        case date():
            return f"date:{value.isoformat()}"
        case Decimal():
            return f"decimal:{value}"
        case bool():
            return None
        case int() | float():
            return f"{type(value).__name__}:{value!r}"
        case _:
            return None


def exact_of(text: str) -> Exact:
    """Return the value that `exact_value` wrote."""
    kind, _, value = text.partition(":")
    match kind:
        case "int":
            return int(value)
        case "float":
            return float(value)
        case "decimal":
            return Decimal(value)
        case "datetime":
            return datetime.fromisoformat(value)
        case _:
            return date.fromisoformat(value)


def behind(key: float | int, lag: timedelta | None, kind: CursorKind) -> float | int:
    """Return a key so far before another one; of a number, as many as the lag has seconds."""
    if lag is None:
        return key
    if kind == "number":
        return key - lag.total_seconds()
    return key - math.ceil(lag / timedelta(microseconds=1))


def exact_behind(value: Exact, lag: timedelta | None) -> Exact:
    """Return the same of an exact value."""
    if lag is None:
        return value
    if isinstance(value, datetime):
        return value - lag
    if isinstance(value, date):
        return (datetime.combine(value, datetime.min.time(), UTC) - lag).date()
    seconds = lag.total_seconds()
    if isinstance(value, int):
        return math.floor(value - Decimal(seconds))
    return value - Decimal(seconds) if isinstance(value, Decimal) else value - seconds


#: Different rows with the highest value of the cursor that are remembered, at the most.
MAX_BOUNDARY = 100_000
_DIGITS = 20
#: As many digits as Arrow's largest decimals have.
_EXACT = DecimalContext(prec=80)


@dataclass
class Watermark:
    """The highest value of a cursor that was taken.

    Attributes:
        kind: of the cursor.
        key: of the value.
        shown: the value, for people.
        exact: the value, for sources that compare it themselves; None: they cannot.
        boundary: without a lag: digests of the rows that have this value and were taken, each with how often.
    """

    kind: CursorKind
    key: float | int
    shown: str
    exact: str | None
    boundary: Counter[str] = field(default_factory=Counter)

    def as_state(self) -> dict[str, Any]:
        """Return what is kept of it."""
        return {
            "kind": self.kind,
            "key": repr(self.key),
            "watermark": self.shown,
            "exact": self.exact,
            "boundary": dict(sorted(self.boundary.items())),
        }

    def name(self, values: pa.ChunkedArray) -> None:
        """Show the highest of some values with this key, if it is not shown yet."""
        value = values[0].as_py() if pa.types.is_string(values.type) else pc.max(values).as_py()
        exact = exact_value(value)
        if not self.shown or (exact and self.exact and exact_of(self.exact) < exact_of(exact)):  # type: ignore[operator]
            self.shown, self.exact = str(text_of(value)), exact

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Watermark:
        """Return the one that was kept."""
        key = float(state["key"]) if state["kind"] == "number" else int(state["key"])
        return cls(state["kind"], key, state["watermark"], state.get("exact"), Counter(state.get("boundary") or {}))


class Cursor:
    """Takes the rows of an extract that are new.

    Without a lag those above the watermark, and those at it that were not taken; with one those from so far behind it.

    Args:
        incremental: what is asked for.
        state: of the extract at its last commit.
    """

    def __init__(self, incremental: Incremental, state: Mapping[str, Any]) -> None:
        self.incremental = incremental
        saved = state.get("cursor")
        self.before = Watermark.of_state(saved) if saved else None
        self._high: Watermark | None = None
        self._kind: CursorKind | None = self.before.kind if self.before else None
        self._known = Counter(self.before.boundary) if self.before else Counter()

    @property
    def lowest(self) -> Exact | None:
        """The lowest value that is asked of a source that compares; None: it is asked for all."""
        if self.before is None or self.before.exact is None:
            return None
        return exact_behind(exact_of(self.before.exact), self.incremental.lag)

    def take(self, piece: Piece) -> Piece:
        """Return the part of a piece that is new; values that say nothing become rejects.

        Raises:
            LookbookError: a row has no value, and none may be missing.
        """
        rows = piece.rows
        if rows is None or not rows.num_rows:
            return piece
        name = column_named(rows.column_names, self.incremental.cursor)
        column = rows.column(name) if name else pa.chunked_array([pa.nulls(rows.num_rows)])
        self._kind = self._kind or kind_of(column, self.incremental.cursor)
        keys = keys_of(column, self._kind or "number")
        missing = column.is_null().combine_chunks()
        self._check_missing(rows, missing)
        bad = pc.and_(keys.is_null(), pc.invert(missing))
        taken = self._wanted(rows, keys)
        if self.incremental.on_missing == "include":
            taken = pc.or_(taken, missing)
        self._note(rows, column, keys, taken)
        rejects = [*piece.rejects, *_rejects(rows.filter(bad), self.incremental.cursor)]
        return replace(piece, rows=rows.filter(taken), rejects=rejects)

    def state(self) -> dict[str, Any]:
        """Return the part of the extract's state that is to be kept, once all pieces were seen."""
        found = self._highest()
        if found is None:
            return {}
        if len(found.boundary) > MAX_BOUNDARY:
            raise LookbookError(
                f"incremental.cursor {self.incremental.cursor}: more than {MAX_BOUNDARY} rows have the highest value, "
                f"{found.shown}.",
                "Take a column that grows in smaller steps, or give it a lag and merge.",
            )
        return {"cursor": found.as_state()}

    def _highest(self) -> Watermark | None:
        """Return the watermark of all that was ever taken."""
        before, high = self.before, self._high
        if before is None or high is None or high.key < before.key:
            return high if before is None else before
        if high.key > before.key:
            return high
        highest = max(high, before, key=lambda mark: _exact(mark) or 0)
        return replace(highest, boundary=before.boundary + high.boundary)

    def _check_missing(self, rows: pa.Table, missing: pa.Array) -> None:
        if self.incremental.on_missing != "raise" or not missing.true_count:
            return
        first = rows.select([INPUT, LINE]).filter(missing).slice(0, 1).to_pylist()[0]
        raise LookbookError(
            f"{first[INPUT]} line {first[LINE]} has no value in {self.incremental.cursor}, the incremental.cursor; its "
            f"columns are {', '.join(name for name in rows.column_names if name not in (INPUT, LINE))}.",
            "Correct incremental.cursor, or say on_missing: include or exclude.",
        )

    def _wanted(self, rows: pa.Table, keys: pa.Array) -> pa.Array:
        """Return which rows are new."""
        if self.before is None:
            return keys.is_valid()
        border = pa.scalar(behind(self.before.key, self.incremental.lag, self.before.kind), keys.type)
        wanted = pc.fill_null(pc.greater_equal(keys, border), False)
        if self.incremental.lag is not None:
            return wanted
        at_border = pc.fill_null(pc.equal(keys, border), False)
        if not at_border.true_count:
            return wanted
        again = iter([self._is_known(digest) for digest in digests(rows.filter(at_border))])
        drop = [at and next(again) for at in at_border.to_pylist()]
        return pc.and_not(wanted, pa.array(drop, pa.bool_()))

    def _is_known(self, digest: str) -> bool:
        """Return whether such a row was taken; each counts once."""
        known = self._known[digest] > 0
        self._known[digest] -= known
        return known

    def _note(self, rows: pa.Table, column: pa.ChunkedArray, keys: pa.Array, taken: pa.Array) -> None:
        """Remember the highest value so far, and the rows that were taken with it."""
        counted = pc.if_else(taken, keys, pa.scalar(None, keys.type))
        high = pc.max(counted).as_py()
        if high is None or self._kind is None or (self._high is not None and high < self._high.key):
            return
        at_high = pc.fill_null(pc.equal(counted, pa.scalar(high, keys.type)), False)
        if self._high is None or high > self._high.key:
            self._high = Watermark(self._kind, high, "", None)
        self._high.name(column.filter(at_high))
        if self.incremental.lag is None:
            self._high.boundary.update(digests(rows.filter(at_high)))


def digests(rows: pa.Table) -> list[str]:
    """Return a digest of each row's values by their names, whatever their order; missing ones do not count."""
    values = rows.drop_columns([INPUT, LINE]).to_pylist()
    return [_digest({name: value for name, value in sorted(row.items()) if value is not None}) for row in values]


def _digest(row: Mapping[str, Any]) -> str:
    text = as_json([[name, _stable(value)] for name, value in row.items()])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def _stable(value: Any) -> str | None:  # noqa: ANN401 - any value
    """Return a value as text; a number is the same in a column of another type."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        return str(number.normalize(_EXACT)) if number.is_finite() else str(number)
    return text_of(value)


def _exact(mark: Watermark) -> Any:  # noqa: ANN401 - of one kind in both
    return exact_of(mark.exact) if mark.exact else None


def _rejects(rows: pa.Table, cursor: str) -> list[InputReject]:
    why = f"the value of {cursor}, by which new rows are told, is no number, date or time like the others"
    told = rows.to_pylist()
    return [InputReject("bad_cursor", why, shortened(raw_of(row)), str(row[INPUT]), row[LINE]) for row in told]
