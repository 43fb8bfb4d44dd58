"""Surrogate keys: a number made of a key's values, the same in every run and in every warehouse.

It is the first 60 bits of the MD5 of the values as texts, each with its length before it: ``2:QX5:Bronx``. The texts
are made so that DuckDB and BigQuery write them alike, and that a whole number is the same whatever its type. Of ten
million keys two have one number with a chance of 1 to 20,000; a build in which that happens fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from lookbook.blocks.errors import LookbookError

#: Hexadecimal digits of the hash that count: with 16, BigQuery's INT64 would overflow.
DIGITS = 15
#: Whole numbers below this are written without a point.
_WHOLE = "1e15"

_DUCKDB: dict[str, str] = {
    "VARCHAR|UUID|BOOLEAN|DATE|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|ENUM.*": "CAST({0} AS VARCHAR)",
    r"DECIMAL\(\d+,\s*0\)": "CAST({0} AS VARCHAR)",
    r"DECIMAL\(.*\)": "rtrim(rtrim(CAST({0} AS VARCHAR), '0'), '.')",
    "DOUBLE|FLOAT": "CASE WHEN {0} = trunc({0}) AND abs({0}) < " + _WHOLE + " THEN CAST(CAST({0} AS BIGINT) AS VARCHAR)"
    " ELSE CAST({0} AS VARCHAR) END",
    "TIMESTAMP.*|TIME": "CAST(epoch_us({0}) AS VARCHAR)",
    "BLOB": "lower(hex({0}))",
}
_BIGQUERY: dict[str, str] = {
    "STRING|INT64|BOOL|DATE": "CAST({0} AS STRING)",
    "NUMERIC|BIGNUMERIC": "CASE WHEN STRPOS(CAST({0} AS STRING), '.') > 0"
    " THEN RTRIM(RTRIM(CAST({0} AS STRING), '0'), '.') ELSE CAST({0} AS STRING) END",
    "FLOAT64": "CASE WHEN {0} = TRUNC({0}) AND ABS({0}) < " + _WHOLE + " THEN CAST(CAST({0} AS INT64) AS STRING)"
    " ELSE CAST({0} AS STRING) END",
    "TIMESTAMP": "CAST(UNIX_MICROS({0}) AS STRING)",
    "DATETIME": "CAST(UNIX_MICROS(TIMESTAMP({0})) AS STRING)",
    "TIME": "CAST(TIME_DIFF({0}, TIME '00:00:00', MICROSECOND) AS STRING)",
    "BYTES": "TO_HEX({0})",
}


def duckdb_expression(key: Sequence[str], columns: Mapping[str, str], quoted: Callable[[str], str]) -> str:
    """Return the surrogate key in DuckDB's SQL; null where a part of the key is.

    Raises:
        LookbookError: a column of the key has a type that no key is made of.
    """
    parts = [f"CAST(length({text}) AS VARCHAR) || ':' || {text}" for text in _texts(key, columns, quoted, _DUCKDB)]
    return f"CAST('0x' || substr(md5({' || '.join(parts)}), 1, {DIGITS}) AS BIGINT)"


def bigquery_expression(key: Sequence[str], columns: Mapping[str, str], quoted: Callable[[str], str]) -> str:
    """Return the same in BigQuery's SQL, for columns with its types."""
    parts = [f"CAST(LENGTH({text}) AS STRING) || ':' || {text}" for text in _texts(key, columns, quoted, _BIGQUERY)]
    return f"CAST('0x' || SUBSTR(TO_HEX(MD5({' || '.join(parts)})), 1, {DIGITS}) AS INT64)"


def _texts(
    key: Sequence[str], columns: Mapping[str, str], quoted: Callable[[str], str], words: Mapping[str, str]
) -> list[str]:
    kinds = {name.lower(): type_ for name, type_ in columns.items()}
    texts = []
    for name in key:
        type_ = kinds[name.lower()]
        text = next((text for kind, text in words.items() if re.fullmatch(kind, type_)), None)
        if text is None:
            raise LookbookError(
                f"A surrogate key cannot be made of {name}, which is {type_}.",
                "Cast it to text in the model's SELECT, or name other columns as its key.",
            )
        texts.append(text.format(quoted(name)))
    return texts
