"""What differs between two snapshots: the one definition of added, removed and changed, wherever it is told."""

from __future__ import annotations

import os
import re
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.blocks.sql_text import literal, parquet_files
from lookbook.blocks.workspace import scratch_folder
from lookbook.tasks.datasets.books import check_differences
from lookbook.tasks.datasets.manifest import TABLES, Manifest, local_table, read_removed
from lookbook.tasks.datasets.tags import find_snapshot
from lookbook.tasks.images.parquet import in_pieces

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: The tables of a snapshot by name: files, or tables in memory.
#: Tables by name, in memory or each in Parquet files, in the order of its rows.
Tables = Mapping[str, Sequence[Path] | pa.Table]

#: What DuckDB may hold; the rest goes to disk. Each of its threads takes a share.
MEMORY, MOST_THREADS = "450MB", 2
#: Rows whose values are looked at at once.
ROWS_AT_ONCE = 50_000
#: How a thing of one snapshot stands to the other, in the order in which they are told.
CHANGES = ("added", "removed", "changed")
#: Stands among an image's columns for what was drawn of it.
OUTPUTS = "outputs"
#: What the reasons of changes mean, for people.
WORDS = {
    "moved": "moved",
    "content": "new bytes",
    "outcome": "other outcome",
    "outputs": "drawn anew",
    "match": "matched otherwise",
    "described": "described otherwise",
    "image": "other image",
    "values": "other values",
}
#: Items that are read at once.
BATCH = 2000


@dataclass(frozen=True)
class Kind:
    """How the rows of one table are compared.

    Attributes:
        table: its name.
        one, many: what a row is called.
        keys: the columns that a row is known by in both snapshots. Rows that share them are numbered in their `order`.
        ignored: columns that are no difference by themselves.
        reasons: what it means that a column differs; all others mean `otherwise`.
        shown: columns that are told of each side of a change beside those that differ; empty: all.
        whole: whether all columns are told of what is in one snapshot alone.
        where: which rows are compared.
    """

    table: str
    one: str
    many: str
    keys: tuple[str, ...]
    reasons: Mapping[str, str]
    otherwise: str
    order: tuple[str, ...] = ()
    ignored: frozenset[str] = frozenset()
    shown: tuple[str, ...] = ()
    whole: bool = True
    where: str = "true"

    def why(self, columns: Sequence[str]) -> list[str]:
        """Return what it means that these columns differ."""
        return list(dict.fromkeys(self.reasons.get(name, self.otherwise) for name in columns))


_LINES = frozenset({"file", "line"})
KINDS = {
    "images": Kind(
        "images",
        "image",
        "images",
        ("key",),
        {"key": "moved", "sha256": "content", "outcome": "outcome", "rule": "outcome", OUTPUTS: "outputs"}
        | {"product_key": "match", "orphan": "match"},
        "described",
        # A listing's mark, a binary that follows from the pixels, and a score among all others, which moves with each.
        ignored=frozenset({"fingerprint", "signature", "odd_size_score"}),
        shown=("key", "outcome", "rule", "sha256", "bytes", "original_width", "original_height", "product_key"),
        whole=False,
    ),
    "rows": Kind(
        "products",
        "catalogue row",
        "catalogue rows",
        ("product_key",),
        {"outcome": "outcome", "missing_reason": "outcome", "image_key": "image", "sha256": "image"}
        | {"matched_by": "match", "file_name": "match", "candidates": "match"},
        "values",
        order=("outcome", "file", "line"),
        ignored=_LINES,
        shown=("product_key", "file", "line", "outcome", "image_key", "sha256"),
    ),
    "links": Kind(
        "image_links",
        "line of images.csv",
        "lines of images.csv",
        ("filename",),
        {},
        "values",
        order=("file", "line"),
        ignored=_LINES,
    ),
    # Images that were refused are told among the images.
    "rejects": Kind(
        "rejects",
        "reject",
        "other rejects",
        ("kind", "locator"),
        {"rule": "outcome", "message": "outcome"},
        "values",
        order=("reject_id",),
        ignored=frozenset({"reject_id"}),
        where="{kind} <> 'image'",
    ),
}


@dataclass(frozen=True)
class _Set:
    """What differs in some rows: the columns; for redrawn images the digests of outputs on both sides."""

    columns: tuple[str, ...]
    outputs: tuple[dict[str, str], dict[str, str]] | None
    rows: int


@dataclass(frozen=True)
class Changes:
    """What became of the rows of one table.

    Attributes:
        before, after: rows of the two snapshots.
        unchanged, added, removed, changed: of these rows; a row that is in both counts once.
        sets: what differs in changed rows.
        places: a Parquet file: for each change the row in both tables (null where there is none) and its place in
            `sets`; added, removed, changed, each in the order of the keys; `ROWS_AT_ONCE` in a group.
    """

    before: int
    after: int
    unchanged: int
    added: int
    removed: int
    changed: int
    sets: tuple[_Set, ...]
    places: Path

    @property
    def counts(self) -> dict[str, int]:
        """Return all counts."""
        return {name: getattr(self, name) for name in ("before", "after", "unchanged", *CHANGES)}

    @cached_property
    def columns(self) -> dict[str, int]:
        """Return in how many changed rows a column differs, most first."""
        found: Counter[str] = Counter()
        for each in self.sets:
            found.update(dict.fromkeys(each.columns, each.rows))
        return dict(found.most_common())

    def why(self, kind: Kind) -> dict[str, int]:
        """Return how many rows changed for each reason; one may have several."""
        found: Counter[str] = Counter()
        for each in self.sets:
            found.update(dict.fromkeys(kind.why(each.columns), each.rows))
        return dict(found.most_common())

    def part(self, change: str | None) -> tuple[int, int]:
        """Return where one of `CHANGES` begins in `places`, and how many rows it has; of None all of them."""
        if change is None:
            return 0, count_rows([self.places])
        counts = [self.counts[name] for name in CHANGES]
        at = CHANGES.index(change)
        return sum(counts[:at]), counts[at]

    def some(self, start: int, rows: int) -> pa.Table:
        """Return some of the `places`."""
        with pq.ParquetFile(self.places) as file:
            groups = range(start // ROWS_AT_ONCE, -(-(start + rows) // ROWS_AT_ONCE))
            return file.read_row_groups(list(groups)).slice(start % ROWS_AT_ONCE, rows)


class Differences:
    """What differs between two snapshots, by the names of `KINDS`.

    Attributes:
        changes: counts, and where what differs stands: small, whatever the tables hold.
    """

    def __init__(self, before: Tables, after: Tables, folder: TemporaryDirectory[str] | None = None) -> None:
        """Compare them.

        Args:
            before: tables of `lookbook.tasks.datasets.manifest.TABLES`; what is missing is not compared.
            after: likewise.
            folder: holds what memory does not, and is removed with this object; None: one of the machine's.

        Raises:
            UnbalancedBooksError: what was found and what became of it do not add up.
        """
        folder = folder or TemporaryDirectory(prefix="diff-")
        weakref.finalize(self, folder.cleanup)
        self._tables, self._scratch = (before, after), folder.name
        self.changes: dict[str, Changes] = {}
        with self._opened() as connection:
            for name, kind in KINDS.items():
                if kind.table in before and kind.table in after:
                    places = Path(self._scratch, f"{name}-places.parquet")
                    self.changes[name] = _compare(connection, kind, before, after, places)
                    check_differences(kind.many, self.changes[name].counts)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds on disk."""
        return sum(each.places.stat().st_size for each in self.changes.values())

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Return the counts of each kind."""
        return {name: each.counts for name, each in self.changes.items()}

    @property
    def why(self) -> dict[str, dict[str, int]]:
        """Return for each kind how many changed for which reason."""
        return {name: each.why(KINDS[name]) for name, each in self.changes.items()}

    @property
    def columns(self) -> dict[str, dict[str, int]]:
        """Return for each kind in how many rows which column changed."""
        return {name: each.columns for name, each in self.changes.items()}

    def total(self, of: Sequence[str] = tuple(KINDS), change: str | None = None) -> int:
        """Return how many differences there are."""
        return sum(self.changes[name].part(change)[1] for name in of if name in self.changes)

    def items(
        self, of: Sequence[str] = tuple(KINDS), change: str | None = None, start: int = 0, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield differences with their values: kind by kind; added, removed, changed; in the order of their keys.

        Args:
            of: kinds.
            change: only one of `CHANGES`.
            start: differences that are passed over.
            limit: differences at the most.

        Yields:
            ``of``, ``kind`` (of `CHANGES`), ``key``, ``why``, ``columns`` that differ, and the sides ``before`` and
            ``after``, each with values by column, or None.
        """
        left = self.total(of, change) if limit is None else limit
        for name in of:
            if name not in self.changes:
                continue
            first, rows = self.changes[name].part(change)
            taken = max(0, min(rows - start, left))
            for at in range(0, taken, ROWS_AT_ONCE):
                yield from self._items(name, first + start + at, min(ROWS_AT_ONCE, taken - at))
            start, left = max(0, start - rows), left - taken

    def outputs_of(self, side: int, hashes: Sequence[str]) -> pa.Table:
        """Return the outputs of some contents in the former (0) or the latter (1) snapshot, as in its table."""
        with self._opened() as connection:
            source = PlacedRows(connection, "outputs", self._tables[side]["outputs"])
            connection.register("wanted", pa.table({"sha256": pa.array(sorted(set(hashes)), pa.string())}))
            chosen = ", ".join(f'{source.at(name)} AS "{name}"' for name in ("sha256", "output", "object_key", "bytes"))
            return connection.sql(
                f"SELECT {chosen} FROM outputs WHERE {source.at('sha256')} IN (SELECT sha256 FROM wanted)"  # noqa: S608
            ).to_arrow_table()

    def _items(self, name: str, start: int, limit: int) -> Iterator[dict[str, Any]]:
        kind, changes = KINDS[name], self.changes[name]
        places = changes.some(start, limit)
        with self._opened() as connection:
            sources = [
                PlacedRows(connection, table, tables[kind.table])
                for table, tables in zip(("a", "b"), self._tables, strict=True)
            ]
            differ = {column for at in places["set"].unique().to_pylist() if at is not None
                      for column in changes.sets[at].columns}  # fmt: skip
            # All values of what is in one snapshot alone; a wide table is not read for a name.
            whole = not kind.shown or (kind.whole and places["set"].null_count > 0)
            columns = [
                [column for column in source.names if whole or column in differ or column in kind.shown]
                for source in sources
            ]
            chosen = [
                f"{table}.{source.at(column)} AS {table}{at}"
                for table, source, listed in zip(("a", "b"), sources, columns, strict=True)
                for at, column in enumerate(listed)
            ]
            connection.register("wanted", places.append_column("n", pa.array(np.arange(len(places)))))
            rows = connection.sql(
                f'SELECT n, old, new, "set", {", ".join(chosen)} FROM wanted'  # noqa: S608 - names of ours
                " LEFT JOIN a ON a.place = old LEFT JOIN b ON b.place = new ORDER BY n"
            ).to_arrow_reader(BATCH)
            for batch in rows:
                for row in batch.to_pylist():
                    yield _told(name, changes, columns, row)

    @contextmanager
    def _opened(self) -> Iterator[DuckDBPyConnection]:
        import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

        with TemporaryDirectory(dir=self._scratch, prefix="diff-") as folder:
            config: dict[str, Any] = {"memory_limit": MEMORY, "temp_directory": f"{folder}/spill"}
            config |= {"threads": min(MOST_THREADS, os.cpu_count() or 1), "preserve_insertion_order": "false"}
            with duckdb.connect(config=config | {"autoload_known_extensions": "false"}) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                yield connection


def _told(name: str, changes: Changes, columns: list[list[str]], row: dict[str, Any]) -> dict[str, Any]:
    """Return one difference."""
    kind = KINDS[name]
    found = changes.sets[row["set"]] if row["set"] is not None else None
    differ = list(found.columns) if found else []
    shown = {*kind.shown, *differ} if kind.shown and (found or not kind.whole) else None
    sides: list[dict[str, Any] | None] = [
        {
            column: row[f"{table}{at}"]
            for at, column in enumerate(listed)
            if (shown is None or column in shown)
        }
        if row[place] is not None
        else None
        for table, place, listed in zip(("a", "b"), ("old", "new"), columns, strict=True)
    ]  # fmt: skip
    if found and found.outputs:
        for side, drawn in zip(sides, found.outputs, strict=True):
            if side is not None:
                side[OUTPUTS] = drawn
    some = sides[1] or sides[0] or {}
    return {
        "of": name,
        "kind": "changed" if found else "added" if sides[1] is not None else "removed",
        "key": " ".join(str(some[key]) for key in kind.keys if some.get(key) is not None) or None,
        "why": kind.why(differ),
        "columns": differ,
        "before": sides[0],
        "after": sides[1],
    }


class PlacedRows:
    """A view of a table: its columns as c0, c1 …, since names may differ in their case alone; and ``place``."""

    def __init__(self, connection: DuckDBPyConnection, name: str, table: Sequence[Path] | pa.Table) -> None:
        self.names: list[str] = schema_of(table).names
        columns = [f"c{at}" for at in range(len(self.names))]
        if not isinstance(table, pa.Table):
            # The option stumbles over a column of the same name; counting rows is slower.
            read = placed_files(table, columns, "place")
            if any(each.lower() == "file_row_number" for each in self.names):
                connection.execute("SET threads = 1")  # several would not keep the order
                files = f"{parquet_files(table)} AS file({', '.join(columns)})"
                read = f"SELECT *, row_number() OVER () - 1 AS place FROM {files}"  # noqa: S608 - names of ours
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS {read}")
        else:
            known = table.rename_columns(columns).append_column("place", pa.array(np.arange(len(table))))
            connection.register(name, known)
        types = connection.execute(f"DESCRIBE {name}").fetchall()
        self.types = {column: str(row[1]) for column, row in zip(self.names, types, strict=False)}

    def at(self, name: str, table: str = "") -> str:
        """Return SQL for a column; NULL where there is none of that name."""
        return f"{table}c{self.names.index(name)}" if name in self.names else "NULL"


def _compare(connection: DuckDBPyConnection, kind: Kind, before: Tables, after: Tables, places: Path) -> Changes:
    """Compare the rows of a table, and write where the changes stand.

    Rows are paired by key, and compared by hashes first: 64 bits of all columns, so that a join holds little of each
    row. Only where those differ, values are looked at, column by column.
    """
    sources = [
        PlacedRows(connection, f"{side}_all", tables[kind.table])
        for side, tables in zip(("a", "b"), (before, after), strict=True)
    ]
    images = kind is KINDS["images"]
    drawings = _drawings(connection, before, after) if images else []
    compared = _compared(kind, *sources)
    for at, source in enumerate(sources):
        _prepare(connection, kind, ("a", "b")[at], source, [pair[at] for pair in compared.values()], bool(drawings))
    _find_moves(connection)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE pairs AS SELECT coalesce(b.k, a.k) AS k, coalesce(b.n, a.n) AS n, a.place AS old,"
        " b.place AS new, became IS NOT NULL AS moved, a.h = b.h AS same,"
        " CASE WHEN a.drawn IS DISTINCT FROM b.drawn THEN a.drawn END AS drawn_a,"
        " CASE WHEN a.drawn IS DISTINCT FROM b.drawn THEN b.drawn END AS drawn_b FROM (SELECT a.* REPLACE"
        " (coalesce(became, k) AS k), became FROM a LEFT JOIN moves USING (place)) a"
        " FULL JOIN b ON a.k = b.k AND a.n = b.n"
    )
    names = [*compared, OUTPUTS, "key"]
    _find_columns(connection, kind, sources, compared)
    more = (
        f"CASE WHEN (drawn_a IS NOT NULL OR drawn_b IS NOT NULL) AND coalesce(gate, same) THEN {len(compared)} END,"
        f" CASE WHEN moved THEN {len(compared) + 1} END"
    )
    drawn = ", ".join(
        f"CASE WHEN list_contains(columns, {len(compared)}) THEN {name} END AS {name}"
        for name in ("drawn_a", "drawn_b")
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE found AS SELECT * REPLACE ({drawn}) FROM ("  # noqa: S608 - names of ours
        "SELECT k, n, old, new, drawn_a, drawn_b,"
        f" list_concat(coalesce(columns, []), list_filter([{more}]::USMALLINT[], lambda each: each IS NOT NULL))"
        " AS columns FROM pairs LEFT JOIN differing USING (new)"
        " WHERE old IS NULL OR new IS NULL OR NOT same OR moved OR drawn_a IS NOT NULL OR drawn_b IS NOT NULL)"
    )
    return _changes(connection, names, drawings, places)


def _changes(
    connection: DuckDBPyConnection, names: list[str], drawings: list[tuple[str, str]], places: Path
) -> Changes:
    """Return what the tables ``pairs`` and ``found`` say, and write where the changes stand."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE sets AS SELECT row_number() OVER () - 1 AS id, * FROM (SELECT columns, drawn_a,"
        " drawn_b, count(*) AS rows FROM found WHERE old IS NOT NULL AND new IS NOT NULL AND len(columns) > 0"
        " GROUP BY ALL)"
    )
    sets = connection.execute("SELECT columns, drawn_a, drawn_b, rows FROM sets ORDER BY id").fetchall()
    found = connection.sql(
        'SELECT old, new, id AS "set" FROM found LEFT JOIN sets ON found.columns = sets.columns'
        " AND old IS NOT NULL AND new IS NOT NULL"
        " AND found.drawn_a IS NOT DISTINCT FROM sets.drawn_a AND found.drawn_b IS NOT DISTINCT FROM sets.drawn_b"
        " WHERE old IS NULL OR new IS NULL OR len(found.columns) > 0"
        " ORDER BY CASE WHEN old IS NULL THEN 0 WHEN new IS NULL THEN 1 ELSE 2 END, k, n"
    ).to_arrow_reader(ROWS_AT_ONCE)
    with pq.ParquetWriter(places, found.schema, compression="zstd") as file:
        for some in in_pieces(found, repeat(ROWS_AT_ONCE)):
            file.write_table(some, row_group_size=ROWS_AT_ONCE)
    changed = sum(rows for *_, rows in sets)
    ((before, after, both, added, removed),) = connection.execute(
        "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b),"
        " count(*) FILTER (old IS NOT NULL AND new IS NOT NULL), count(*) FILTER (old IS NULL),"
        " count(*) FILTER (new IS NULL) FROM pairs"
    ).fetchall()
    return Changes(
        before,
        after,
        both - changed,
        added,
        removed,
        changed,
        sets=tuple(
            _Set(
                tuple(names[at] for at in listed),
                (_decoded(one, drawings), _decoded(other, drawings)) if one or other else None,
                rows,
            )
            for listed, one, other, rows in sets
        ),
        places=places,
    )


def _prepare(
    connection: DuckDBPyConnection, kind: Kind, side: str, source: PlacedRows, values: Sequence[str], drawn: bool
) -> None:
    """Make the table of the rows that are compared.

    Its columns: their ``place``, key ``k``, number ``n``, hash ``h``, content ``s``, and what was ``drawn`` of it.
    """
    key = " || chr(0) || ".join(f"coalesce({source.at(name)}::VARCHAR, '')" for name in kind.keys)
    where = kind.where.format(**{name: source.at(name) for name in kind.keys})
    if kind.order:
        # Of repeated rows, the first that is no duplicate comes first.
        order = ", ".join(f"{source.at(n)} = 'duplicate'" if n == "outcome" else source.at(n) for n in kind.order)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {side}_numbers AS FROM (SELECT place, row_number() OVER"  # noqa: S608
            f" (PARTITION BY {key} ORDER BY {order}, place) - 1 AS number FROM {side}_all WHERE {where})"
            " WHERE number > 0"
        )
    numbers = f" LEFT JOIN {side}_numbers USING (place)" if kind.order else ""
    content = _content(source) if "sha256" in source.names and not kind.order else "NULL::HUGEINT"
    hashed = ", ".join(value.format(t="") for value in values) or "0"
    contents = f" LEFT JOIN {side}_drawn USING (s)" if drawn else ""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {side} AS SELECT place, k, n, h, s, {'drawn' if drawn else 'NULL'} AS drawn"  # noqa: S608
        f" FROM (SELECT place, {key} AS k, {'coalesce(number, 0)' if numbers else '0'} AS n, hash({hashed}) AS h,"
        f" {content} AS s FROM {side}_all{numbers} WHERE {where}){contents}"
    )


def _content(source: PlacedRows) -> str:
    """Return SQL for what stands for a content: a fourth of the memory of its checksum as text."""
    return f"md5_number(nullif({source.at('sha256')}, ''))"


def _drawings(connection: DuckDBPyConnection, before: Tables, after: Tables) -> list[tuple[str, str]]:
    """Make for each side the table of what was drawn of a content: one bit for each output as it is defined.

    Returns:
        What the bits mean: name and digest of an output.
    """
    sources = []
    for side, tables in (("a", before), ("b", after)):
        if "outputs" not in tables:
            return []
        sources.append((side, PlacedRows(connection, f"{side}_outputs", tables["outputs"])))
    parts = [
        f"SELECT {s.at('output')} AS output, {s.at('output_digest')} AS digest FROM {side}_outputs"  # noqa: S608
        for side, s in sources
    ]
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE drawings AS"  # noqa: S608 - names of ours
        " SELECT *, (row_number() OVER (ORDER BY output, digest) - 1)::INTEGER AS id"
        f" FROM (SELECT DISTINCT * FROM ({' UNION ALL '.join(parts)}))"
    )
    drawings = connection.execute("SELECT output, digest FROM drawings ORDER BY id").fetchall()
    for side, source in sources if drawings else []:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {side}_drawn AS SELECT s, bits::VARCHAR AS drawn FROM (SELECT"  # noqa: S608
            f" {_content(source)} AS s, bit_or(set_bit(bitstring('0', {len(drawings)}), id, 1)) AS bits"
            f" FROM {side}_outputs JOIN drawings ON {source.at('output')} IS NOT DISTINCT FROM output"
            f" AND {source.at('output_digest')} IS NOT DISTINCT FROM digest GROUP BY 1)"
        )
    return drawings


def _decoded(bits: str | None, drawings: list[tuple[str, str]]) -> dict[str, str]:
    return {output: digest for bit, (output, digest) in zip(bits or "", drawings, strict=False) if bit == "1"}


def _find_moves(connection: DuckDBPyConnection) -> None:
    """Make the table of former rows with their new keys: where one image is gone, and one of its content has come."""
    for side, other in (("a", "b"), ("b", "a")):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {side}_alone AS SELECT s, any_value(place) AS place FROM {side}"  # noqa: S608
            f" ANTI JOIN {other} ON {side}.k = {other}.k WHERE s IS NOT NULL GROUP BY s HAVING count(*) = 1"
        )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE moves AS SELECT a_alone.place, b.k AS became"
        " FROM a_alone JOIN b_alone USING (s) JOIN b ON b.place = b_alone.place"
    )


def _compared(kind: Kind, before: PlacedRows, after: PlacedRows) -> dict[str, tuple[str, str]]:
    """Return the columns that are compared: SQL for the value on both sides, with ``{t}`` for the table."""
    compared = {}
    for name in dict.fromkeys((*before.names, *after.names)):
        if name in kind.ignored or name in kind.keys:
            continue
        types = {source.types[name] for source in (before, after) if name in source.names}
        values = [source.at(name, "{t}") for source in (before, after)]
        if kind is KINDS["images"] and types == {"VARCHAR"}:  # a part says "" where the table says nothing
            values = [f"nullif({each}, '')" for each in values]
        if len(types) > 1:
            common = "DOUBLE" if all(_is_number(each) for each in types) else "VARCHAR"
            values = [f"CAST({each} AS {common})" for each in values]
        compared[name] = (values[0], values[1])
    return compared


def _find_columns(
    connection: DuckDBPyConnection, kind: Kind, sources: Sequence[PlacedRows], compared: Mapping[str, tuple[str, str]]
) -> None:
    """Make the table of the columns that differ, by the new place, where hashes do; a part of the rows at once."""
    images, gate = kind is KINDS["images"], "true"
    if images:
        # An image of other bytes is described otherwise, and so is one that is refused now: that is no news.
        outcome = [f"({source.at('outcome', f'{t}.')} = 'rejected')" for source, t in zip(sources, "ab", strict=True)]
        gate = f"(a.s IS NOT DISTINCT FROM b.s AND {outcome[0]} IS NOT DISTINCT FROM {outcome[1]})"
    listed = []
    for at, (name, (one, other)) in enumerate(compared.items()):
        gated = images and kind.reasons.get(name, kind.otherwise) == kind.otherwise
        differs = f"{one.format(t='a.')} IS DISTINCT FROM {other.format(t='b.')}"
        listed.append(f"CASE WHEN {f'{gate} AND ' if gated else ''}{differs} THEN {at} END")
    connection.execute("CREATE OR REPLACE TEMP TABLE differing (new BIGINT, columns USMALLINT[], gate BOOLEAN)")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE wanted AS SELECT old, new, row_number() OVER (ORDER BY new) - 1 AS n FROM pairs"
        " WHERE NOT same"
    )
    ((rows,),) = connection.execute("SELECT count(*) FROM wanted").fetchall()
    for start in range(0, rows, ROWS_AT_ONCE):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE part AS SELECT old, new FROM wanted WHERE n >= {start}"  # noqa: S608
            f" AND n < {start + ROWS_AT_ONCE}"
        )
        for source, t, place in zip(sources, "ab", ("old", "new"), strict=True):
            connection.execute(  # one table after the other: each scan takes memory
                f"CREATE OR REPLACE TEMP TABLE {t}_part AS SELECT *, {_content(source) if images else 'NULL'} AS s"  # noqa: S608
                f" FROM {t}_all SEMI JOIN part ON place = {place}"
            )
        connection.execute(
            f"INSERT INTO differing SELECT new, list_filter([{', '.join(listed) or 'NULL'}]::USMALLINT[],"  # noqa: S608
            f" lambda each: each IS NOT NULL), {gate} FROM part"
            " JOIN a_part a ON a.place = old JOIN b_part b ON b.place = new"
        )


def _is_number(kind: str) -> bool:
    """Return whether DuckDB compares a type with other numbers; an id that became a text is compared as one."""
    return kind.endswith(("INT", "INTEGER")) or kind in {"DOUBLE", "FLOAT"} or kind.startswith("DECIMAL")


def compare_snapshots(lake: Lake, scratch: Path, before: Manifest, after: Manifest) -> Differences:
    """Compare two snapshots of a lake.

    Args:
        lake: where they are.
        scratch: a folder of this machine, for what memory does not hold, and for copies of a bucket's objects.
        before: the former snapshot.
        after: the latter one.

    Raises:
        DamagedSnapshotError: a table is missing, or is not the one that its manifest lists.
        LookbookError: the folder for scratch cannot be used.
    """
    with ExitStack() as stack:
        folder = scratch_folder(scratch, "diff-")
        stack.callback(folder.cleanup)
        sides = [
            {name: local_table(lake, manifest, name, Path(folder.name)) for name in TABLES}
            for manifest in (before, after)
        ]
        found = Differences(sides[0], sides[1], folder)
        stack.pop_all()
    return found


def choose_snapshots(lake: Lake, dataset: str, before: str | None, after: str | None) -> tuple[Manifest, Manifest]:
    """Return the snapshots that are to be compared: by default the current one (`after`) with the one before it.

    Raises:
        LookbookError: there is no such dataset, or none before the current one.
        UsageError: there is no such snapshot.
    """
    new = find_snapshot(lake, dataset, after)
    before = before or read_removed(lake, dataset)[0].followed_by(new)
    if before is None:
        raise LookbookError(
            f"{dataset}: there is no snapshot before {new.snapshot_id}: nothing to compare it with.",
            "Ingest the source again once it has changed, or name two snapshots.",
        )
    return find_snapshot(lake, dataset, before), new


def differing_making(before: Manifest, after: Manifest) -> dict[str, dict[str, list[Any]]]:
    """Return what the two snapshots were made by and from, where it differs: [former, latter] by name."""
    recipes = [manifest.recipe.model_dump(mode="json", exclude={"outputs"}) for manifest in (before, after)]
    sides = {
        "source": ({"source": before.source}, {"source": after.source}),
        "recipe": (recipes[0], recipes[1]),
        "outputs": (before.output_digests, after.output_digests),
        "versions": (before.versions, after.versions),
    }
    return {
        part: {
            name: [old.get(name), new.get(name)]
            for name in dict.fromkeys([*old, *new])
            if old.get(name) != new.get(name)
        }
        for part, (old, new) in sides.items()
    }


def value_text(value: object) -> str:
    """Return a value as people read it: of a checksum its beginning, of outputs their names with that."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {str(digest)[:8]}" for name, digest in value.items())
    text = "–" if value in (None, "") else str(value)
    return f"{text[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text


#: Names that a report tells of each kind of change.
MOST_NAMES = 24


@dataclass(frozen=True)
class ImageChanges:
    """What a report tells of the images that differ from the last snapshot.

    Attributes:
        previous: id of the last snapshot, None where this is the first.
        counts: by `CHANGES`. In a first snapshot all images are added.
        first: the first `MOST_NAMES` keys of each, in their order; in a first snapshot none.
    """

    previous: str | None
    counts: Mapping[str, int]
    first: Mapping[str, Sequence[str]]


def changes_between(previous: Tables | None, current: Tables, previous_id: str | None) -> ImageChanges:
    """Compare the images of two snapshots: tables ``images`` and ``outputs``; None stands for no snapshot."""
    if previous is None:
        return ImageChanges(None, dict.fromkeys(CHANGES, 0) | {"added": count_rows(current["images"])}, {})
    found = Differences(previous, current)
    images = found.changes["images"]
    first = {kind: [str(row["key"]) for row in found.items(("images",), kind, limit=MOST_NAMES)] for kind in CHANGES}
    return ImageChanges(previous_id, {kind: images.counts[kind] for kind in CHANGES}, first)


def schema_of(table: Sequence[Path] | pa.Table) -> pa.Schema:
    """Return the columns of a table, in files or in memory."""
    return table.schema if isinstance(table, pa.Table) else pq.read_schema(table[0])


def count_rows(table: Sequence[Path] | pa.Table) -> int:
    """Return how many rows a table has."""
    return len(table) if isinstance(table, pa.Table) else sum(pq.read_metadata(file).num_rows for file in table)


def placed_files(files: Sequence[Path], columns: Sequence[str], place: str) -> str:
    """Return SQL for the rows of a table, each with its place among all of them, counted from 0.

    Args:
        files: that it lies in.
        columns: what its columns are to be called, as SQL takes it.
        place: likewise.
    """
    listed, names = ", ".join(columns), [literal(str(file)) for file in files]
    read = f"read_parquet([{', '.join(names)}], hive_partitioning = false, file_row_number = true"
    if len(files) == 1:
        return f"SELECT {listed}, {_IN_FILE} AS {place} FROM {read}) AS file({listed}, {_IN_FILE})"  # noqa: S608 - quoted
    # One scan of all: a UNION of hundreds would hold buffers of each.
    begins = accumulate((count_rows([file]) for file in files), initial=0)
    rows = ", ".join(f"({name}, {begin})" for name, begin in zip(names, begins, strict=False))
    return (
        f"SELECT {listed}, {_IN_FILE} + {_BEGIN} AS {place} FROM {read}, filename = ':file')"  # noqa: S608 - quoted
        f" AS file({listed}, {_IN_FILE}, {_FILE}) JOIN (VALUES {rows}) AS begins({_FILE}, {_BEGIN}) USING ({_FILE})"
    )


#: A row's place in its file, the file, and the place of its first row; no catalogue's column has a colon.
_IN_FILE, _FILE, _BEGIN = '":in_file"', '":file"', '":begin"'


def batches_of(table: Sequence[Path] | pa.Table, columns: list[str], rows: int = 10_000) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a table, so many rows at once."""
    if isinstance(table, pa.Table):
        yield from table.select(columns).to_batches(rows)
        return
    for path in table:
        with pq.ParquetFile(path) as file:
            yield from (batch.select(columns) for batch in file.iter_batches(rows, columns=columns))
