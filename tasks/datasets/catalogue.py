"""The catalogue of a source: one table of its products' rows, whatever files it comes from."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lookbook.tasks.datasets.catalogue_rows import Sheet, csv_sheet, parquet_sheet
from lookbook.tasks.datasets.catalogue_styles import LINK_SCHEMA, STYLE_FIELDS, read_links, read_style, stem
from lookbook.tasks.datasets.catalogue_types import OWN_FIELDS, clean_names, stack_tables
from lookbook.tasks.datasets.rejects import Reject
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.images.locators import UnreadableMemberError, read_bytes

_STYLES = re.compile(r"styles(#[0-9]+)?\.csv", re.IGNORECASE)  # An archive may hold it twice under one name.
_LINKS = re.compile(r"images(#[0-9]+)?\.csv", re.IGNORECASE)
_OTHER = re.compile(r"[^.].*\.(csv|tsv|parquet)", re.IGNORECASE)
_STYLE = re.compile(r"(?:.*/)?styles/([^/]+)\.json", re.IGNORECASE)


@dataclass(frozen=True)
class Catalogue:
    """What a source's catalogue files hold.

    Attributes:
        rows: one row for each record that was not rejected: the columns of `OWN_FIELDS`, then the values.
        links: the rows of `images.csv`, with the columns of `LINK_SCHEMA`.
        rejects: of kind ``row``, ``link``, ``style`` or ``file``.
        rows_found: records read: as many as there are `rows` and rejects of kind ``row``.
        files: keys of the files of rows and links, in the order they were read.
    """

    rows: pa.Table
    links: pa.Table
    rejects: list[Reject]
    rows_found: int
    files: list[str]


def read_catalogue(files: Sequence[SourceFile]) -> Catalogue:
    """Read the catalogue among the files of a source.

    Every `styles.csv` is read, the one in the uppermost folder first; without any, every other CSV, TSV or Parquet
    file with a column ``id``, ``file_name`` or ``filename``. Of rows with one id the first counts, and the others
    have the outcome ``duplicate``. `images.csv` adds file names and links, `styles/<id>.json` prices and such.

    Raises:
        OSError: a file could not be read: worth another attempt.
    """
    tables = sorted(
        (
            file
            for file in files
            if _OTHER.fullmatch(posixpath.basename(file.key)) and "__MACOSX" not in file.key.split("/")
        ),
        key=_place,
    )
    rejects: list[Reject] = []
    keys: list[str] = []
    links = _read_all_links([file for file in tables if _LINKS.fullmatch(_name(file))], rejects, keys)
    sheets = list(_sheets(tables, links is not None))
    for file, sheet in sheets:
        rejects.extend(sheet.rejects)
        keys.append(file.key)
    if not keys:  # a table that nobody could take is told: the user may think that it is the catalogue
        rejects.extend(Reject("file", file.key, "no_id_column", _NO_CATALOGUE) for file in tables)
    rows = stack_tables([pa.schema(OWN_FIELDS).empty_table(), *[sheet.table for _, sheet in sheets]])
    rows = _with_outcomes(_with_product_keys(rows))
    if links is not None:
        rows = _with_links(rows, links)
    rows = _with_styles(rows, files, rejects)
    found = sum(sheet.found for _, sheet in sheets)
    return Catalogue(rows, LINK_SCHEMA.empty_table() if links is None else links, rejects, found, keys)


_NO_CATALOGUE = "It has no column id, filename or file_name, so that it is taken for no catalogue."


def _place(file: SourceFile) -> tuple[int, str]:
    return file.key.count("/"), file.key


def _name(file: SourceFile) -> str:
    return posixpath.basename(file.key)


def _read(file: SourceFile) -> bytes | Reject:
    if file.refused is not None:
        return Reject("file", file.key, *file.refused)
    try:
        return read_bytes(file.locator)
    except UnreadableMemberError as error:
        return Reject("file", file.key, error.rule, error.message)


def _read_all_links(files: list[SourceFile], rejects: list[Reject], keys: list[str]) -> pa.Table | None:
    tables = []
    for file in files:
        data = _read(file)
        table, faults = (LINK_SCHEMA.empty_table(), [data]) if isinstance(data, Reject) else read_links(file.key, data)
        if any(fault.rule == "no_link_columns" for fault in faults):
            continue  # Not the links but perhaps a catalogue that is called images.csv.
        tables.append(table)
        rejects.extend(faults)
        keys.append(file.key)
    return pa.concat_tables(tables) if tables else None


def _sheets(tables: list[SourceFile], has_links: bool) -> Iterator[tuple[SourceFile, Sheet]]:
    styles = [file for file in tables if _STYLES.fullmatch(_name(file))]
    others = [file for file in tables if not (has_links and _LINKS.fullmatch(_name(file)))]
    for file in styles or others:
        data = _read(file)
        if isinstance(data, Reject):
            yield file, Sheet(rejects=[data])
            continue
        if file.key.lower().endswith(".parquet"):
            sheet = parquet_sheet(file.key, data)
        else:
            sheet = csv_sheet(file.key, data, is_styles=bool(styles))
        if sheet is not None:
            yield file, sheet


def _with_product_keys(rows: pa.Table) -> pa.Table:
    """Name the products that have no id after their file: its stem, or its whole path where stems are not unique."""
    keys = rows["product_key"].to_pylist()
    named = zip(keys, rows["file"].to_pylist(), rows["file_name"].to_pylist(), strict=True)
    paths = [
        posixpath.normpath(posixpath.join(posixpath.dirname(file), name)) if key is None else None
        for key, file, name in named
    ]
    different = {path for path in paths if path is not None}
    by_stem = len({stem(path) for path in different}) == len(different)
    filled = [
        key if path is None else stem(path) if by_stem else posixpath.splitext(path)[0]
        for key, path in zip(keys, paths, strict=True)
    ]
    return _replaced(rows, "product_key", pa.array(filled, pa.string()))


def _with_outcomes(rows: pa.Table) -> pa.Table:
    seen: set[str] = set()
    outcomes = []
    for key in rows["product_key"].to_pylist():
        outcomes.append("duplicate" if key in seen else "")
        seen.add(key)
    return _replaced(rows, "outcome", pa.array(outcomes, pa.string()))


def _with_links(rows: pa.Table, links: pa.Table) -> pa.Table:
    """Join the links by the stem of their file name, which is the product's key; the first of several counts."""
    first: dict[str, tuple[str, str | None]] = {}
    for name, link in zip(links["filename"].to_pylist(), links["link"].to_pylist(), strict=True):
        first.setdefault(stem(name), (name, link))
    found = [first.get(key, (None, None)) for key in rows["product_key"].to_pylist()]
    names = [own or name for own, (name, _) in zip(rows["file_name"].to_pylist(), found, strict=True)]
    rows = _replaced(rows, "file_name", pa.array(names, pa.string()))
    (column,) = clean_names(["link"], rows.column_names)
    return rows.append_column(column, pa.array([link for _, link in found], pa.string()))


def _with_styles(rows: pa.Table, files: Sequence[SourceFile], rejects: list[Reject]) -> pa.Table:
    """Add the values of the products' JSON files, read one at a time. Files of unknown products are not read."""
    keys = rows["product_key"].to_pylist()
    wanted = set(keys)
    chosen: dict[str, SourceFile] = {}
    for file in files:
        match = _STYLE.fullmatch(file.key)
        if match and match[1] in wanted and (match[1] not in chosen or _place(file) < _place(chosen[match[1]])):
            chosen[match[1]] = file
    if not chosen:
        return rows
    values = {}
    for key, file in sorted(chosen.items()):
        data = _read(file)
        value = data if isinstance(data, Reject) else read_style(file.key, data)
        if isinstance(value, Reject):
            rejects.append(Reject("style", value.locator, value.rule, value.message, value.raw))
        else:
            values[key] = value
    names = clean_names([field.name for field in STYLE_FIELDS], rows.column_names)
    for name, field in zip(names, STYLE_FIELDS, strict=True):
        column = [values[key][field.name] if key in values else None for key in keys]
        rows = rows.append_column(name, pa.array(column, field.type))
    return rows


def _replaced(rows: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)
