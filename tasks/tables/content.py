"""The digest of a table's content, in which the order of rows and columns does not count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def content_digest(path: Path, leave_out: Sequence[str] = ()) -> int:
    """Return the sum of the MD5 hashes of a Parquet file's rows, each as JSON with its columns sorted.

    Nulls count like missing columns do: a file with a column more that holds nothing has the same digest.

    Args:
        path: of the file.
        leave_out: columns that do not count.

    Returns:
        A number of 128 bits. The digests of several files are added (modulo 2^128).
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    schema = pq.read_schema(path)
    places = [f"column_{number}" for number in range(len(schema.names))]  # SQL takes code and Code for one name
    values = {
        # JSON's functions read numbers as doubles.
        field.name: f"CAST({place} AS VARCHAR)" if pa.types.is_decimal(field.type) else place
        for field, place in zip(schema, places, strict=True)
        if field.name not in leave_out
    }
    pairs = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}', {values[name]}" for name in sorted(values))
    row = f"json_merge_patch('{{}}', json_object({pairs}))"
    with duckdb.connect() as connection:
        halves = connection.execute(
            f"WITH hashed AS (SELECT md5_number(CAST({row} AS VARCHAR)) AS h"  # noqa: S608 - names are quoted
            f" FROM read_parquet($1) AS file({', '.join(places)}))"
            " SELECT coalesce(sum((h >> 64)::HUGEINT), 0), coalesce(sum((h & 18446744073709551615)::HUGEINT), 0)"
            " FROM hashed",
            [str(path)],
        ).fetchone()
    assert halves is not None  # noqa: S101 - an aggregate has a row
    return ((int(halves[0]) << 64) + int(halves[1])) % (1 << 128)
