"""The digest of a table's content, in which the order of rows and columns does not count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq


def content_digest(path: Path, leave_out: Sequence[str] = ()) -> int:
    """The sum of the MD5 hashes of all rows of a Parquet file, each as JSON with its columns in alphabetical order.

    Nulls count like missing columns do: a file with a column more that holds nothing has the same digest.

    Args:
        path: of the file.
        leave_out: columns that do not count.

    Returns:
        A number of 128 bits. The digests of several files are added (modulo 2^128).
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    columns = sorted(name for name in pq.read_schema(path).names if name not in leave_out)
    pairs = ", ".join(
        f"'{name.replace(chr(39), chr(39) * 2)}': \"{name.replace(chr(34), chr(34) * 2)}\"" for name in columns
    )
    row = f"json_merge_patch('{{}}', to_json({{{pairs}}}))"
    with duckdb.connect() as connection:
        halves = connection.execute(
            f"WITH hashed AS (SELECT md5_number(CAST({row} AS VARCHAR)) AS h FROM read_parquet($1))"  # noqa: S608
            " SELECT coalesce(sum((h >> 64)::HUGEINT), 0), coalesce(sum((h & 18446744073709551615)::HUGEINT), 0)"
            " FROM hashed",
            [str(path)],
        ).fetchone()
    assert halves is not None  # noqa: S101 - an aggregate has a row
    return ((int(halves[0]) << 64) + int(halves[1])) % (1 << 128)
