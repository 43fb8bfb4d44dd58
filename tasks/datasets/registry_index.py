"""The current snapshot in the registry: written whole in one transaction, compared row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from lookbook.blocks.registry import Registry, copy_rows
from lookbook.tasks.datasets.manifest import Manifest

ASSET_COLUMNS = ["key", "outcome", "duplicate_of", "rule", "sha256", "bytes", "original_key", "product_key", "orphan"]
PRODUCT_COLUMNS = ["file", "line", "product_key", "outcome", "missing_reason", "image_key"]
REJECT_COLUMNS = ["reject_id", "kind", "locator", "rule", "message", "raw"]

#: Registry table → (table of the snapshot, columns, how many of them make the key).
INDEXED: dict[str, tuple[str, list[str], int]] = {
    "assets": ("images", ASSET_COLUMNS, 1),
    "products": ("products", PRODUCT_COLUMNS, 2),
    "rejects": ("rejects", REJECT_COLUMNS, 1),
}


def indexed_snapshot(registry: Registry, dataset: str) -> str | None:
    """Return the snapshot of `dataset` that the registry holds."""

    async def work(connection: Any) -> str | None:  # noqa: ANN401
        return await connection.fetchval(  # type: ignore[no-any-return]
            "SELECT snapshot_id FROM current_snapshots WHERE dataset = $1", dataset
        )

    return registry.run(work)


def index_snapshot(registry: Registry, manifest: Manifest, tables: Mapping[str, pa.Table]) -> None:
    """Replace what the registry holds of this dataset by a snapshot. Doing it twice changes nothing."""

    async def work(connection: Any) -> None:  # noqa: ANN401
        async with connection.transaction():
            for name, (table, columns, _) in INDEXED.items():
                await connection.execute(f"DELETE FROM {name} WHERE dataset = $1", manifest.dataset)  # noqa: S608
                rows = ((manifest.dataset, *row) for row in _rows(tables[table], columns))
                await copy_rows(connection, name, ["dataset", *columns], rows)
            await _note_snapshot(connection, manifest, tables)

    registry.run(work)


async def _note_snapshot(connection: Any, manifest: Manifest, tables: Mapping[str, pa.Table]) -> None:  # noqa: ANN401
    await connection.execute(
        "INSERT INTO snapshots (dataset, snapshot_id, digest, created_at, images, products)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (dataset, snapshot_id) DO NOTHING",
        manifest.dataset,
        manifest.snapshot_id,
        manifest.digest,
        manifest.created_at,
        len(tables["images"]),
        len(tables["products"]),
    )
    await connection.execute(
        "INSERT INTO current_snapshots (dataset, snapshot_id) VALUES ($1, $2)"
        " ON CONFLICT (dataset) DO UPDATE SET snapshot_id = excluded.snapshot_id",
        manifest.dataset,
        manifest.snapshot_id,
    )


def unannounced_snapshot(registry: Registry, dataset: str) -> str | None:
    """Return the snapshot that the registry holds, where it was not announced yet: its run was killed before."""

    async def work(connection: Any) -> str | None:  # noqa: ANN401
        return await connection.fetchval(  # type: ignore[no-any-return]
            "SELECT snapshot_id FROM current_snapshots WHERE dataset = $1 AND announced IS DISTINCT FROM snapshot_id",
            dataset,
        )

    return registry.run(work)


def note_announced(registry: Registry, dataset: str, snapshot_id: str) -> None:
    """Note that a snapshot was announced."""

    async def work(connection: Any) -> None:  # noqa: ANN401
        await connection.execute("UPDATE current_snapshots SET announced = $2 WHERE dataset = $1", dataset, snapshot_id)

    registry.run(work)


def registry_differences(registry: Registry, manifest: Manifest, tables: Mapping[str, pa.Table]) -> list[str]:
    """Return one line for each row that the registry lacks, has too many, or holds otherwise than the snapshot."""

    async def work(connection: Any) -> list[str]:  # noqa: ANN401
        lines: list[str] = []
        for name, (table, columns, key_width) in INDEXED.items():
            chosen = ", ".join(columns)
            held = await connection.fetch(
                f"SELECT {chosen} FROM {name} WHERE dataset = $1",  # noqa: S608 - names of our own
                manifest.dataset,
            )
            lines += _compare(name, key_width, _rows(tables[table], columns), (tuple(row) for row in held))
        return lines

    current = indexed_snapshot(registry, manifest.dataset)
    if current != manifest.snapshot_id:
        return [f"registry: it holds snapshot {current}, CURRENT is {manifest.snapshot_id}"]
    return registry.run(work)


def _compare(
    name: str, key_width: int, expected: Iterator[tuple[Any, ...]], held: Iterator[tuple[Any, ...]]
) -> list[str]:
    want = {row[:key_width]: row for row in expected}
    have = {row[:key_width]: row for row in held}
    said = dict.fromkeys(want.keys() - have.keys(), "is missing")
    said |= dict.fromkeys(have.keys() - want.keys(), "is not in the snapshot")
    said |= {key: "differs" for key in want.keys() & have.keys() if want[key] != have[key]}
    return [f"registry: {name} row {':'.join(map(str, key))} {what}" for key, what in sorted(said.items())]


def _rows(table: pa.Table, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield rows as PostgreSQL keeps them: its text holds no NUL."""
    for values in zip(*(table.column(name).to_pylist() for name in columns), strict=True):
        yield tuple(v.replace("\x00", "\ufffd") if isinstance(v, str) else v for v in values)
