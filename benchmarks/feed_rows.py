"""Rows to load: a million, and half a million of which half are in the million."""

from __future__ import annotations

from pathlib import Path

#: Rows that stand in the table, and those that are merged into it.
ROWS, MERGED = 1_000_000, 500_000
#: Rows of a file, as staging writes them.
FILE_ROWS = 250_000
BASE, CHANGES = "base", "changes"


def make(folder: Path, scale: float = 1.0) -> None:
    """Write both sets as Parquet files of eight columns, in folders called `BASE` and `CHANGES`."""
    import duckdb  # noqa: PLC0415

    rows, merged = int(ROWS * scale), int(MERGED * scale)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, first, last in ((BASE, 0, rows), (CHANGES, rows - merged // 2, rows + merged // 2)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number, start in enumerate(range(first, last, FILE_ROWS)):
                connection.execute(
                    f"COPY (SELECT i AS id, 'sku-' || (i * 7919 % 1000003) AS sku, "  # noqa: S608 - numbers
                    f"(hash(i + {first}) % 100000) / 100.0::DOUBLE AS price,"
                    " 'A product called ' || md5(CAST(i AS VARCHAR)) AS title, i % 7 = 0 AS active,"
                    " TIMESTAMPTZ '2024-01-01 00:00:00+00' + i % 86400 * INTERVAL 1 SECOND AS updated_at"
                    f" FROM range({start}, {min(start + FILE_ROWS, last)}) t(i))"
                    f" TO '{folder / name / f'{number:05}.parquet'}' (FORMAT parquet, COMPRESSION zstd)",
                )


def files(folder: Path, name: str) -> list[Path]:
    """The files of one set."""
    return sorted((folder / name).glob("*.parquet"))
