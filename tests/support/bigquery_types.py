"""Types and values of the BigQuery stand-in: Arrow on one side, BigQuery's REST schema and rows on the other."""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

Field = dict[str, Any]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

#: BigQuery's types by the names of REST, with SQL's names beside them, and DuckDB's.
DUCKDB_TYPES = {
    "STRING": "VARCHAR",
    "INTEGER": "BIGINT",
    "INT64": "BIGINT",
    "FLOAT": "DOUBLE",
    "FLOAT64": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "BOOL": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
    "DATETIME": "TIMESTAMP",
    "DATE": "DATE",
    "TIME": "TIME",
    "BYTES": "BLOB",
    "NUMERIC": "DECIMAL(38, 9)",
    "BIGNUMERIC": "DECIMAL(38, 18)",
    "JSON": "JSON",
}

#: Digits of a NUMERIC before the point, and behind it.
NUMERIC_WHOLE, NUMERIC_SCALE = 29, 9

#: What BigQuery coerces without being told to, in INSERT and UPDATE.
COERCIONS = {
    "INTEGER": {"NUMERIC", "BIGNUMERIC", "FLOAT"},
    "NUMERIC": {"BIGNUMERIC", "FLOAT"},
    "BIGNUMERIC": {"FLOAT"},
}


def rest_fields(schema: pa.Schema) -> list[Field]:
    """An Arrow schema as BigQuery's."""
    return [rest_field(field.name, field.type) for field in schema]


def rest_field(name: str, kind: pa.DataType) -> Field:
    """An Arrow field as BigQuery's: integers of any width are INTEGER, a list is a repeated field."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return rest_field(name, kind.value_type) | {"mode": "REPEATED"}
    if pa.types.is_struct(kind):
        return {"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": rest_fields(pa.schema(list(kind)))}
    digits = {}
    if pa.types.is_decimal(kind) and kind.scale > NUMERIC_SCALE:
        digits = {"precision": str(kind.precision), "scale": str(kind.scale)}
    return {"name": name, "type": _rest_type(kind), "mode": "NULLABLE", **digits}


def _rest_type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        # DuckDB sums integers into HUGEINT, which Arrow calls decimal(38, 0).
        return "INTEGER" if kind.scale == 0 else "NUMERIC" if kind.scale <= NUMERIC_SCALE else "BIGNUMERIC"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP" if kind.tz else "DATETIME"
    checks = {
        "STRING": lambda k: pa.types.is_string(k) or pa.types.is_large_string(k) or pa.types.is_string_view(k),
        "INTEGER": lambda k: pa.types.is_integer(k) or pa.types.is_null(k),
        "FLOAT": pa.types.is_floating,
        "BOOLEAN": pa.types.is_boolean,
        "DATE": pa.types.is_date,
        "TIME": pa.types.is_time,
        "BYTES": lambda k: pa.types.is_binary(k) or pa.types.is_large_binary(k),
    }
    for name, check in checks.items():
        if check(kind):
            return name
    raise NotImplementedError(f"the stand-in has no type for {kind}")


def duckdb_type(field: Mapping[str, Any]) -> str:
    """DuckDB's type for a field of a REST schema."""
    if field["type"] in {"RECORD", "STRUCT"}:
        inner = ", ".join(f'"{part["name"]}" {duckdb_type(part)}' for part in field["fields"])
        kind = f"STRUCT({inner})"
    else:
        kind = DUCKDB_TYPES[field["type"]]
        if "precision" in field:
            kind = f"DECIMAL({field['precision']}, {field['scale']})"
    return f"{kind}[]" if field.get("mode") == "REPEATED" else kind


def sql_type(field: Mapping[str, Any]) -> str:
    """A field's type in the words of BigQuery's SQL, for messages."""
    names = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
    name = names.get(field["type"], field["type"])
    return f"ARRAY<{name}>" if field.get("mode") == "REPEATED" else name


def coerces(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether BigQuery takes a value of one field's type for another's."""
    if given.get("mode") == "REPEATED" or wanted.get("mode") == "REPEATED":
        return sql_type(given) == sql_type(wanted)
    if given.get("untyped"):
        return True
    one, other = (_rest_name(field["type"]) for field in (given, wanted))
    return one == other or other in COERCIONS.get(one, set())


def _rest_name(name: str) -> str:
    return {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}.get(name, name)


def rest_rows(table: pa.Table, fields: Sequence[Field], *, int64_timestamps: bool) -> list[dict[str, Any]]:
    """Rows as REST sends them: every value a string, by position."""
    columns = [
        [_cell(value, field, int64_timestamps) for value in column.to_pylist()]
        for column, field in zip(table.columns, fields, strict=True)
    ]
    return [{"f": [{"v": value} for value in row]} for row in zip(*columns, strict=True)]


def _cell(value: Any, field: Field, int64_timestamps: bool) -> Any:
    if field.get("mode") == "REPEATED":
        single = field | {"mode": "NULLABLE"}
        return [{"v": _cell(item, single, int64_timestamps)} for item in value or ()]
    if value is None:
        return None
    if field["type"] == "RECORD":
        return {"f": [{"v": _cell(value[part["name"]], part, int64_timestamps)} for part in field["fields"]]}
    if field["type"] == "TIMESTAMP":
        micros = (value - _EPOCH) // dt.timedelta(microseconds=1)
        return str(micros) if int64_timestamps else repr(micros / 1e6)
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        names = {math.inf: "Infinity", -math.inf: "-Infinity"}
        return "NaN" if math.isnan(value) else names.get(value, repr(value))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        text = format(value, "f")  # normalize() would round to 28 digits
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)
