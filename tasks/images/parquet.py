"""Manifests and parts as Parquet files."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.tasks.images.items import MANIFEST_SCHEMA, PART_SCHEMA, Item, KnownContent, Locator, Outcome


def to_parquet(table: pa.Table, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a table as the bytes of a Parquet file, with `metadata` among its schema's."""
    if metadata:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def from_parquet(data: bytes, without: Collection[str] = ()) -> tuple[pa.Table, dict[str, str]]:
    """Return the table in the bytes of a Parquet file, and its schema's metadata.

    Args:
        data: the file.
        without: columns that are not read.

    Raises:
        pyarrow.ArrowInvalid: the bytes are not a whole Parquet file.
    """
    file = pq.ParquetFile(pa.BufferReader(data))
    columns = [name for name in file.schema_arrow.names if name not in without] if without else None
    table = file.read(columns, use_threads=False)
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    return table.replace_schema_metadata(None), metadata


def in_pieces(rows: Iterable[pa.RecordBatch], sizes: Iterable[int]) -> Iterator[pa.Table]:
    """Yield tables of so many rows each, the last one of what is left: batches of rows are of any size."""
    waiting: list[pa.RecordBatch] = []
    held, wanted = 0, iter(sizes)
    size = next(wanted, None)
    for batch in rows:
        left = batch
        while size is not None and held + len(left) >= size:
            yield pa.Table.from_batches([*waiting, left.slice(0, size - held)])
            left, waiting, held = left.slice(size - held), [], 0
            size = next(wanted, None)
        if len(left):
            waiting.append(left)
            held += len(left)
    if held:
        yield pa.Table.from_batches(waiting)


def manifest_table(items: Sequence[Item]) -> pa.Table:
    """Return the items of a batch as a table of `MANIFEST_SCHEMA`."""
    rows = [
        {
            "key": item.key,
            "fingerprint": item.fingerprint,
            **asdict(item.locator),
            "known": [asdict(content) for content in item.known],
            "measure_again": item.measure_again,
            "refused_rule": item.refused[0] if item.refused else None,
            "refused_message": item.refused[1] if item.refused else None,
        }
        for item in items
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def manifest_items(table: pa.Table) -> list[Item]:
    """Return the items in a table of `MANIFEST_SCHEMA`."""
    return [
        Item(
            key=row["key"],
            fingerprint=row["fingerprint"],
            locator=Locator(row["store"], row["path"], row["member"], row["offset"], row["size"]),
            known=tuple(KnownContent(known["sha256"], tuple(known["outputs"])) for known in row["known"]),
            measure_again=row["measure_again"],
            refused=(row["refused_rule"], row["refused_message"]) if row["refused_rule"] else None,
        )
        for row in table.to_pylist()
    ]


def part_table(outcomes: Sequence[Outcome]) -> pa.Table:
    """Return what became of each image of a batch, as a table of `PART_SCHEMA`."""
    rows = []
    for outcome in outcomes:
        row = vars(outcome)  # asdict would copy every value: most of a batch's time under the interpreter's lock
        rows.append(outcome.asset | row | {"drawn": [vars(drawn) for drawn in outcome.drawn]})
    return pa.Table.from_pylist(rows, schema=PART_SCHEMA)
