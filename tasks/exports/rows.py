"""What an export chooses from: the images of a snapshot beside the catalogue's values, one table for filters."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.differences import PlacedRows, batches_of, schema_of
from lookbook.tasks.datasets.manifest import Manifest, local_table, read_table
from lookbook.tasks.datasets.report.data import catalogue_columns, named_column
from lookbook.tasks.datasets.report.pictures import GROUP_COLUMNS, NAME_COLUMNS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Large, and of no use to a filter; the EXIF fields are read where a filter names them.
NEVER_READ = ("signature", "fingerprint", "error_message")
EXIF = "exif"

#: The columns of every row, before the catalogue's and the image's: what they are called in the two tables.
OF_PRODUCT = {
    "product_key": "product_key",
    "row_outcome": "outcome",
    "missing_reason": "missing_reason",
    "matched_by": "matched_by",
    "repaired": "repaired",
    "catalogue_file": "file",
    "catalogue_line": "line",
}
OF_IMAGE = {"image_key": "key", "sha256": "sha256", "image_outcome": "outcome"}

#: What the columns of an export's own are called.
_OF_FILES = ("file_name", "split", "copy", "class_label", "leak_group", "image", "array", "url")
RESERVED = ("further", *_OF_FILES, "predicted_label", "predicted_score", "embedding")


#: Columns that choosing, splitting and naming look at.
ALWAYS = (
    *("product_key", "row_outcome", "image_key", "sha256", "image_outcome", "catalogue_file", "catalogue_line"),
    *("duplicate_of", "near_duplicate_of"),
)
#: Memory of what reads the others for rows, by one thread: a row group of a million takes a third of it for each. And
#: rows that are handed on at once.
MEMORY = "400MB"
ROWS_AT_ONCE = 5000
#: Rows of a file that are read at once, and rows whose columns are put in order at once.
FILE_ROWS, SORTED_ROWS = 50_000, 200_000


@dataclass(frozen=True)
class DatasetRows:
    """The rows that a filter chooses from.

    Attributes:
        table: a row for each catalogue row with its image, if it has one, and for each image that no catalogue row
            was matched with; in the order of the products' keys, orphans last.
        catalogue: the catalogue's own columns in it.
        display_name: the one of them that names a product, if there is one.
        label: the one that classes are taken from, if there is one.
        others: the columns that are not in the table, read where they are needed; None: all are in it.
    """

    table: pa.Table
    catalogue: list[str]
    display_name: str | None
    label: str | None
    others: OtherColumns | None = None

    @property
    def schema(self) -> pa.Schema:
        """All columns, those that are not in the table among them."""
        return all_columns(self.table, self.others)


#: Which row of the two tables a row is of, and of the outputs; no catalogue's column has a colon.
IMAGE_ROW, PRODUCT_ROW, OUTPUT_ROW = ":image_row", ":product_row", ":output_row"


@dataclass(frozen=True)
class OtherColumns:
    """Columns of rows that stay in their files: of a million images they take gigabytes.

    Attributes:
        files: of the tables ``images``, ``products`` and ``outputs``, as far as columns are of them.
        sources: for each column its table and what it is called there, in the order of all columns.
        schema: of them.
        folder: where the files lie, if they were copied, and what is sorted meanwhile.
    """

    files: dict[str, list[Path]]
    sources: dict[str, tuple[str, str]]
    schema: pa.Schema
    folder: tempfile.TemporaryDirectory[str]

    def read(self, rows: pa.Table, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Yield columns of rows, in the order of these: they have `IMAGE_ROW` and `PRODUCT_ROW`.

        The files are looked through once for each `SORTED_ROWS`: all of the rows would not be sorted in its memory.
        """
        wanted = pa.schema([self.schema.field(name) for name in columns])
        for start in range(0, rows.num_rows, SORTED_ROWS):
            for batch in self._read(rows.slice(start, SORTED_ROWS), columns):
                yield pa.RecordBatch.from_arrays(
                    [column.cast(field.type) for column, field in zip(batch.columns, wanted, strict=True)],
                    schema=wanted,
                )

    def _read(self, rows: pa.Table, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
        with self._joined(rows) as (connection, sources):
            chosen = ", ".join(f"{self._value(sources, name)} AS v{n}" for n, name in enumerate(columns))
            found = connection.sql(f"SELECT {chosen} FROM {_joins(sources)} ORDER BY nth")  # noqa: S608 - names of ours
            yield from found.to_arrow_reader(ROWS_AT_ONCE)

    def with_values(self, rows: pa.Table) -> set[str]:
        """Return the names of columns in which one of these rows has a value."""
        found = set[str]()
        with self._joined(rows) as (connection, sources):
            for table in sources:
                names = [name for name, (of, _) in self.sources.items() if of == table]
                counts = ", ".join(["count(*)", *(f"count({self._value(sources, name)})" for name in names)])
                wanted = f"FROM {table} WHERE place IN (SELECT of_{table} FROM wanted)"  # noqa: S608 - names of ours
                ((_, *values),) = connection.execute(f"SELECT {counts} {wanted}").fetchall()
                found.update(name for name, count in zip(names, values, strict=True) if count)
        return found

    def with_outputs(
        self, rows: pa.Table, lake: Lake, manifest: Manifest, output: str
    ) -> tuple[pa.Table, OtherColumns]:
        """Return the rows with the row of an output of each, `OUTPUT_ROW`; null where its image has none."""
        path = local_table(lake, manifest, "outputs", Path(self.folder.name))
        known = replace(self, files={name: each for name, each in self.files.items() if name != "outputs"})
        with known._joined(rows) as (connection, sources):
            outputs = PlacedRows(connection, "outputs", path)
            found = connection.sql(
                f"SELECT min(outputs.place) FROM {_joins(sources)} LEFT JOIN outputs"  # noqa: S608 - names of ours
                f" ON outputs.{outputs.at('sha256')} = images.{sources['images'].at('sha256')}"
                f" AND outputs.{outputs.at('output')} = ? GROUP BY nth ORDER BY nth",
                params=[output],
            ).to_arrow_table()
        return rows.append_column(OUTPUT_ROW, found.column(0)), replace(self, files=self.files | {"outputs": path})

    def renamed(self, table: str, columns: Mapping[str, str]) -> OtherColumns:
        """Return these with some columns of a table under names of their own, in place of others of that name."""
        there = schema_of(self.files[table])
        fields = {field.name: field for field in self.schema}
        fields |= {name: there.field(old).with_name(name) for name, old in columns.items()}
        sources = self.sources | {name: (table, old) for name, old in columns.items()}
        return replace(self, sources=sources, schema=pa.schema(list(fields.values())))

    def _value(self, sources: Mapping[str, PlacedRows], name: str) -> str:
        table, column = self.sources[name]
        return sources[table].at(column, f"{table}.")

    @contextmanager
    def _joined(self, rows: pa.Table) -> Iterator[tuple[DuckDBPyConnection, dict[str, PlacedRows]]]:
        with _connected(self.folder.name) as connection:
            sources = {name: PlacedRows(connection, name, path) for name, path in self.files.items()}
            places = {"nth": np.arange(rows.num_rows)}
            places |= {name: rows[row] for name, row in _ROWS.items() if name in sources}
            connection.register("wanted", pa.table(places).rename_columns(["nth", *(f"of_{each}" for each in sources)]))
            yield connection, sources


#: Which column says which row of a table a row is of.
_ROWS = {"images": IMAGE_ROW, "products": PRODUCT_ROW, "outputs": OUTPUT_ROW}


def _joins(tables: Iterable[str]) -> str:
    """Return SQL for the rows that are wanted, each beside its rows of the tables."""
    return " ".join(["wanted", *(f"LEFT JOIN {name} ON {name}.place = wanted.of_{name}" for name in tables)])


def all_columns(table: pa.Table, others: OtherColumns | None) -> pa.Schema:
    """Return the columns of a table and others, in the order that they have where all are in the table."""
    if others is None:
        return table.schema
    there = {field.name: field for field in table.schema}
    first = [there.pop(name, None) or others.schema.field(name) for name in others.schema.names]
    return pa.schema([*first, *there.values()])


def read_rows(
    lake: Lake,
    manifest: Manifest,
    *,
    with_exif: bool = False,
    only: Callable[[DatasetRows], Collection[str]] | None = None,
    scratch: Path | None = None,
) -> DatasetRows:
    """Return the rows of a snapshot.

    Args:
        lake: where it is.
        manifest: of the snapshot.
        with_exif: read the images' EXIF fields, too.
        only: returns, of rows that are none, the columns that the table is to have beside `ALWAYS`; the others stay
            in their files. None: it has all.
        scratch: a folder for copies of those; None: the system's.

    Raises:
        DamagedSnapshotError: a table is missing or damaged.
    """
    never = NEVER_READ if with_exif else (*NEVER_READ, EXIF)
    if only is None:
        return join_rows(read_table(lake, manifest, "images", never), read_table(lake, manifest, "products"))
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(prefix="lookbook-rows-", dir=scratch)
    files = {name: local_table(lake, manifest, name, Path(folder.name)) for name in ("images", "products")}
    empty = {name: schema_of(of).remove_metadata().empty_table() for name, of in files.items()}
    empty["images"] = empty["images"].drop_columns([name for name in never if name in empty["images"].column_names])
    renamed = _catalogue_names(empty["images"], empty["products"])
    nothing = _beside(empty["images"], empty["products"], pa.array([], pa.bool_()), renamed)
    shape = DatasetRows(nothing, *_named(empty["products"].column_names, renamed))
    sources = _sources(empty["images"], empty["products"])
    wanted = {*ALWAYS, *only(shape)}
    places = _places(files["images"], files["products"], folder.name)
    found = []
    for table, row, always in (("images", IMAGE_ROW, ["product_key"]), ("products", PRODUCT_ROW, [])):
        columns = [name for new, (of, name) in sources.items() if of == table and new in wanted]
        columns = list(dict.fromkeys([*columns, *always]))
        fields = pa.schema([schema_of(files[table]).field(name) for name in columns])
        parts = (batch.replace_schema_metadata(None) for batch in batches_of(files[table], columns, FILE_ROWS))
        found.append(pa.Table.from_batches(parts, fields).take(places[row]))
        pa.default_memory_pool().release_unused()
    table = _beside(found[0], found[1], places["further"], renamed)
    table = table.append_column(PRODUCT_ROW, places[PRODUCT_ROW]).append_column(IMAGE_ROW, places[IMAGE_ROW])
    return replace(shape, table=table, others=OtherColumns(files, sources, nothing.schema, folder))


def _sources(images: pa.Table, products: pa.Table) -> dict[str, tuple[str, str]]:
    """Return for each column of the rows of two tables which one it is of, and what it is called there."""
    found = {new: ("products", old) for new, old in OF_PRODUCT.items() if old in products.column_names}
    found |= {new: ("images", old) for new, old in OF_IMAGE.items()}
    found |= {new: ("products", old) for old, new in _catalogue_names(images, products).items()}
    taken = {*OF_IMAGE.values(), "product_key"}
    return found | {name: ("images", name) for name in images.column_names if name not in taken}


def join_rows(images: pa.Table, products: pa.Table) -> DatasetRows:
    """Return the rows of an images table and a products table of a snapshot.

    A column of the catalogue that is named like one of an image's, or of an export's, is called ``catalogue_<name>``.
    """
    places, renamed = _places(images, products, tempfile.gettempdir()), _catalogue_names(images, products)
    beside = images.take(places[IMAGE_ROW]), products.take(places[PRODUCT_ROW])
    return DatasetRows(_beside(*beside, places["further"], renamed), *_named(products.column_names, renamed))


def _places(images: Sequence[Path] | pa.Table, products: Sequence[Path] | pa.Table, folder: str) -> pa.Table:
    """Return the rows of two tables that stand beside each other, in the order of `DatasetRows`.

    Args:
        images: of a snapshot.
        products: likewise.
        folder: for what memory does not hold.

    Returns:
        `IMAGE_ROW` and `PRODUCT_ROW`, each null where there is none; and whether the image is a ``further`` one, which
        no catalogue row was matched with: beside it stands the first row of its product.
    """
    with _connected(folder) as connection:
        image, product = (PlacedRows(connection, name, of) for name, of in (("images", images), ("products", products)))
        key, of_product = image.at("key", "images."), image.at("product_key", "images.")
        image_key, product_key = product.at("image_key", "products."), product.at("product_key", "products.")
        found = connection.sql(
            "SELECT i, p, further FROM ("  # noqa: S608 - names of ours
            f" SELECT images.place AS i, products.place AS p, false AS further, {product_key} AS product_key"
            f" FROM products LEFT JOIN images ON {key} = {image_key} UNION ALL"
            f" SELECT images.place, first.p, true, {of_product} FROM images"
            f" ANTI JOIN products ON {key} = {image_key}"
            f" LEFT JOIN (SELECT {product_key} AS product_key, min(place) AS p FROM products GROUP BY 1) first"
            f" ON first.product_key = {of_product}"
            ") LEFT JOIN images ON images.place = i LEFT JOIN products ON products.place = p"
            f" ORDER BY product_key, further, {image.at('sha256', 'images.')}, {key},"
            f" {product.at('file', 'products.')}, {product.at('line', 'products.')}, p, i"
        ).to_arrow_table()
    return found.rename_columns([IMAGE_ROW, PRODUCT_ROW, "further"])


@contextmanager
def _connected(folder: str) -> Iterator[DuckDBPyConnection]:
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    config: dict[str, Any] = {"memory_limit": MEMORY, "threads": 1, "temp_directory": folder}
    with duckdb.connect(config=config | {"preserve_insertion_order": "false"}) as connection:
        yield connection


def _beside(images: pa.Table, products: pa.Table, further: pa.ChunkedArray, renamed: Mapping[str, str]) -> pa.Table:
    """Return rows of the two tables, one beside the other.

    Args:
        images: in the order of the rows; of some columns.
        products: likewise.
        further: see `_places`.
        renamed: what the catalogue's columns are called.
    """
    # Snapshots of earlier versions lack a column.
    columns = {name: products[old] for name, old in OF_PRODUCT.items() if old in products.column_names}
    columns = {"matched_by": pa.nulls(len(products), pa.string())} | columns
    # An orphan has no catalogue row, but may be named by a product that this run's limit left out.
    columns["product_key"] = pc.if_else(further, images["product_key"], products["product_key"])
    columns |= {name: images[old] for name, old in OF_IMAGE.items()} | {"further": further}
    columns |= {new: products[old] for old, new in renamed.items() if old in products.column_names}
    taken = {*OF_IMAGE.values(), "product_key"}
    return pa.table(columns | {name: images[name] for name in images.column_names if name not in taken})


def _named(products: Sequence[str], renamed: Mapping[str, str]) -> tuple[list[str], str | None, str | None]:
    """Return what the catalogue's columns are called; the one of them that names a product, and that of classes."""
    name, label = (named_column(products, columns) for columns in (NAME_COLUMNS, GROUP_COLUMNS))
    return list(renamed.values()), renamed.get(name or ""), renamed.get(label or "")


def _catalogue_names(images: pa.Table, products: pa.Table) -> dict[str, str]:
    """Return what the catalogue's columns are called among the rows."""
    taken = {name.lower() for name in (*images.column_names, *OF_PRODUCT, *OF_IMAGE, *RESERVED)}
    names: dict[str, str] = {}
    for name in catalogue_columns(products.column_names):
        new = name
        while new.lower() in taken:
            new = f"catalogue_{new}"
        taken.add(new.lower())
        names[name] = new
    return names
