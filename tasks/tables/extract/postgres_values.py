"""Values of PostgreSQL for which Python has no word: they come as PostgreSQL writes them. Imports psycopg2 late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: PostgreSQL's numbers of types with those of their arrays (pg_type.dat), and what psycopg2 makes of their values.
_LOSSY = {
    "DATE": (1082, 1182, "PYDATE"),
    "TIMESTAMP": (1114, 1115, "PYDATETIME"),
    "TIMESTAMPTZ": (1184, 1185, "PYDATETIMETZ"),
    "TIME": (1083, 1183, "PYTIME"),
    "TIMETZ": (1266, 1270, None),  # Arrow's times have no zone
    "INTERVAL": (1186, 1187, None),  # Python's know no months
    "TSRANGE": (3908, 3909, None),
    "TSTZRANGE": (3910, 3911, None),
    "DATERANGE": (3912, 3913, None),
}
#: psycopg2 takes these for the last and the first day that Python knows, and for midnight at the day's beginning.
_TAKEN_FOR_OTHERS = ("infinity", "-infinity", "24:00")

Cast = Callable[[str | None, Any], Any]


def keep_exact(connection: Any, _record: object = None) -> None:  # noqa: ANN401 - psycopg2 has no types
    """Let a connection of psycopg2 give dates, times and intervals that Python cannot hold as their text."""
    from psycopg2 import DataError, extensions  # noqa: PLC0415 - only PostgreSQL needs it

    faults = (DataError, ValueError, OverflowError)  # before the year 1, after 9999
    for name, (number, array, known) in _LOSSY.items():
        cast = _exact(getattr(extensions, known), faults) if known else _as_written
        one = extensions.new_type((number,), name, cast)
        for kind in (one, extensions.new_array_type((array,), f"{name}[]", one)):
            extensions.register_type(kind, connection)


def _as_written(value: str | None, _cursor: object) -> str | None:
    return value


def _exact(known: Cast, faults: tuple[type[Exception], ...]) -> Cast:
    def cast(value: str | None, cursor: object) -> Any:  # noqa: ANN401 - a date, a time, or text
        if value is None or value.startswith(_TAKEN_FOR_OTHERS):
            return value
        try:
            return known(value, cursor)
        except faults:
            return value

    return cast
