"""The types that columns of tables have, and how a value of one becomes one of another without loss.

All types are in DuckDB's words. Every function gives SQL for an expression whose type is known.
"""

from __future__ import annotations

import re

from lookbook.blocks.sql_types import (
    BINARY,
    BOOL,
    DATE,
    DATETIME,
    FLOAT,
    INSTANT,
    INTEGER,
    JSON,
    TEXT,
    TIME,
    TYPES,
)

#: Each type as dlt names it: variant columns carry that name.
DLT_NAMES = {type_.duckdb: type_.spec for type_ in TYPES} | {DATETIME: "timestamp"}

#: What the values of a column of delimited text may be, if all of them are: tried in this order.
INFERRED = (INTEGER, FLOAT, BOOL, DATE, INSTANT, DATETIME)

_PLAIN = {
    **{name: name for name in DLT_NAMES},
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"), INTEGER),
    "UBIGINT": "DECIMAL(20, 0)",
    "HUGEINT": "DECIMAL(38, 0)",
    "UHUGEINT": "DECIMAL(38, 0)",
    "FLOAT": FLOAT,
}
_DECIMAL = re.compile(r"DECIMAL\((\d+), ?(\d+)\)")

#: Digits behind the point that numbers are compared by: as many again may stand before it.
_SCALE = 18
_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
_CLOCK = r"\d{2}:\d{2}(:\d{2}(\.\d{1,6}0*)?)?"
_DAY = r"\d{4}-\d{2}-\d{2}"
_ZONE = r"(Z|[+-]\d{2}(:?\d{2})?)"
#: The texts that are values of a type, whichever way they were written.
_LENIENT = {
    INTEGER: r"[+-]?\d+",
    FLOAT: rf"{_NUMBER}|[+-]?(nan|inf|infinity)",
    BOOL: r"true|false|t|f|yes|no|y|n|1|0",
    DATE: _DAY,
    INSTANT: rf"{_DAY}([T ]{_CLOCK} ?{_ZONE}?)?",
    DATETIME: rf"{_DAY}([T ]{_CLOCK})?",
    TIME: _CLOCK,
}
#: Those that come back as they were: no zeros in front that would be lost, no zone that would be guessed.
_STRICT = _LENIENT | {
    INTEGER: r"0|-?[1-9]\d*",
    FLOAT: r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?",  # see _same_number
    BOOL: r"true|false",
    INSTANT: rf"{_DAY}[T ]{_CLOCK} ?{_ZONE}",
    DATETIME: rf"{_DAY}[T ]{_CLOCK}",
}


def canonical(found: str) -> str:
    """Return the type that a table gets for a type of DuckDB: one of those that a spec can declare."""
    if found in _PLAIN:
        return _PLAIN[found]
    if decimal := _DECIMAL.fullmatch(found):
        return f"DECIMAL({decimal[1]}, {decimal[2]})"
    if found.startswith("TIMESTAMP"):  # of seconds, milliseconds or nanoseconds
        return DATETIME
    nested = found.endswith("]") or found.startswith(("STRUCT", "MAP", "UNION"))
    return JSON if nested else TEXT


def dlt_name(type_: str) -> str:
    """Return a type as dlt names it."""
    return DLT_NAMES.get(type_, "decimal")


def is_fraction(type_: str) -> bool:
    """Return whether numbers of a type have a decimal sign."""
    return type_ == FLOAT or _DECIMAL.fullmatch(type_) is not None


def as_canonical(value: str, found: str) -> str:
    """Return a value of any type of DuckDB as one of its canonical type."""
    wanted = canonical(found)
    if wanted == found:
        return value
    if wanted == JSON:
        return f"to_json({value})"
    return f"CAST({value} AS {wanted})"


def fitted(value: str, before: str, after: str, *, strict: bool) -> str:
    """Return a value of canonical type `before` as one of type `after`; null where it does not fit.

    Args:
        value: an SQL expression.
        before: its type.
        after: the type wanted.
        strict: a text must come back as it was: of a column that nobody declared. Else what is meant counts.
    """
    if before == after:
        return value
    if before in (TEXT, JSON) and after != TEXT:
        text = value if before == TEXT or after == JSON else f"({value} ->> '$')"
        return _from_text(text, after, strict=strict)
    always = {TEXT: f"CAST({value} AS VARCHAR)", BINARY: f"encode(CAST({value} AS VARCHAR))", JSON: f"to_json({value})"}
    if after in always:
        return always[after]
    # What comes back as it was has lost nothing on the way. Of a double, its digits count: 1.1 is a decimal.
    there = f"TRY_CAST({_digits(value, before, after)} AS {after})"
    return f"CASE WHEN TRY_CAST({_digits(there, after, before)} AS {before}) = {value} THEN {there} END"


def _digits(value: str, before: str, after: str) -> str:
    through = before == FLOAT and _DECIMAL.fullmatch(after)
    return f"CAST({value} AS VARCHAR)" if through else value


def _from_text(value: str, after: str, *, strict: bool) -> str:
    if after == BINARY:
        return f"encode({value})"
    if after == JSON:
        return f"CASE WHEN json_valid({value}) THEN CAST({value} AS JSON) END"
    text = value if strict else f"trim({value})"
    there = f"TRY_CAST({text} AS {after})"
    if decimal := _DECIMAL.fullmatch(after):
        pattern = rf"[+-]?\d*(\.\d{{0,{decimal[2]}}}0*)?"
        # As JSON writes small and large numbers: of so few digits, no two are the same double.
        power = rf"regexp_full_match({text}, '[+-]?\d(\.\d{{1,14}})?[eE][+-]?\d+')"
        same = f"CAST({there} AS DOUBLE) = TRY_CAST({text} AS DOUBLE)"
        return f"CASE WHEN regexp_full_match({text}, '{pattern}') OR ({power} AND {same}) THEN {there} END"
    pattern = (_STRICT if strict else _LENIENT)[after]
    fits = f"regexp_full_match({text}, '{pattern}', 'i')"
    if after == FLOAT:  # 1e999 is no infinity
        fits += f" AND (isfinite({there}) OR NOT regexp_matches({text}, '\\d'))"
        fits += f" AND {_same_number(text, there) if strict else _same_integer(text, there)}"
    return f"CASE WHEN {fits} THEN {there} END"


def _same_number(text: str, double: str) -> str:
    """Return a condition: a text is the number that a double is written as; so no digit is lost, and 12E5 is none."""
    plain = rf"regexp_full_match({text}, '-?\d+(\.\d{{1,{_SCALE}}})?')"
    exact = f"DECIMAL(38, {_SCALE})"
    same = f"coalesce(TRY_CAST({text} AS {exact}) = TRY_CAST(CAST({double} AS VARCHAR) AS {exact}), false)"
    return f"({text} = CAST({double} AS VARCHAR) OR ({plain} AND {same}))"


def _same_integer(text: str, double: str) -> str:
    """Return a condition: a double is equal to a text that is an integer; of others, the nearest one is meant."""
    same = f"coalesce(TRY_CAST({text} AS HUGEINT) = TRY_CAST({double} AS HUGEINT), false)"
    return f"({same} OR NOT regexp_full_match({text}, '[+-]?\\d+'))"


def padded(value: str) -> str:
    """Return a condition: a text ends with zeros that a double would not be written with, such as 1.10."""
    written = f"CAST(TRY_CAST({value} AS DOUBLE) AS VARCHAR)"
    return f"(contains({value}, '.') AND ends_with({value}, '0') AND {value} <> {written})"


def scale(value: str) -> str:
    """Write the SQL that counts a text's digits behind the point; null without one."""
    return f"CASE WHEN contains({value}, '.') THEN length(split_part({value}, '.', 2)) END"
