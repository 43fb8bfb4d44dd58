"""The books of an export, and its tables: the metadata of each file, and each row that was left out."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.exports.build import THUMBNAIL, DonePart, Place, read_parts
from lookbook.tasks.exports.metadata_table import metadata_rows
from lookbook.tasks.exports.packing import SAMPLES_SCHEMA, Packer
from lookbook.tasks.exports.papers import Papers

#: How texts begin that spreadsheets take for formulas (OWASP, CSV Injection).
FORMULA = re.compile(r"^[=+\-@\t\r\n]")


@dataclass
class Counts:
    """The books of an export as they are added up, part by part.

    Attributes:
        files: files of images or shards.
        size: bytes of them.
        samples: images, by side.
        rows: rows that gave images.
        refused: rows that could not be drawn, by rule.
        thumbnails: small pictures of some.
    """

    files: int = 0
    size: int = 0
    rows: int = 0
    samples: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    thumbnails: list[bytes] = field(default_factory=list)


def write_metadata(papers: Papers, place: Place, packer: Packer) -> tuple[Counts, str]:
    """Write ``metadata.csv``; for an image folder ``metadata.parquet`` beside the images of each side as well.

    Hugging Face's datasets guess the types of a CSV's columns from each file and each ten thousand lines, and refuse
    sides of which they guess unlike: beside the images stands a file that says its types.

    Returns:
        The books, and the SHA-256 of ``metadata.csv``.
    """
    counts = Counts(samples=dict.fromkeys(packer.resolved.request.sides, 0))
    beside = packer.resolved.request.format == "imagefolder"
    tables: dict[str, pq.ParquetWriter] = {}
    with ExitStack() as stack:
        file = stack.enter_context(papers.open("metadata.csv"))
        told = partial(_write_csv, file, quote=packer.resolved.request.quote_formulas)
        told(_rows(packer, SAMPLES_SCHEMA.empty_table()), header=True)
        for part, done in zip(packer.plan.parts, read_parts(place, packer.plan.parts), strict=True):
            _count(counts, part.side, done)
            papers.note(done.files)
            rows = _rows(packer, done.samples)
            told(rows, header=False)
            if beside and rows.num_rows:
                below = _below(rows, part.side)
                name = f"{part.side}/metadata.parquet"
                if name not in tables:
                    sink = stack.enter_context(papers.open(name))
                    tables[name] = stack.enter_context(pq.ParquetWriter(sink, below.schema, compression="zstd"))
                tables[name].write_table(below)
    for name in tables:
        papers.take(name)
    return counts, papers.take("metadata.csv")


def _rows(packer: Packer, samples: pa.Table) -> pa.Table:
    if packer.resolved.request.format == "csv" and "url" not in samples.column_names:
        samples = samples.append_column("url", pa.nulls(samples.num_rows, pa.string()))
    return metadata_rows(packer.metadata, packer.plan, samples)


def _below(rows: pa.Table, side: str) -> pa.Table:
    """Return the rows with their files' names below the folder of the side."""
    names = pc.utf8_slice_codeunits(rows["file_name"], len(side) + 1)
    return rows.set_column(0, "file_name", names)


def _write_csv(file: IO[bytes], rows: pa.Table, *, quote: bool, header: bool) -> None:
    table = _plain(rows)
    if quote:
        table = _without_formulas(table)
    pacsv.write_csv(table, file, pacsv.WriteOptions(include_header=header, quoting_style="needed"))


def _without_formulas(rows: pa.Table) -> pa.Table:
    for place, name in enumerate(rows.column_names):
        if pa.types.is_string(rows.schema.field(name).type):
            quoted = pc.replace_substring_regex(rows[name], FORMULA.pattern, r"'\0")
            rows = rows.set_column(place, name, quoted)
    return rows.rename_columns([_without_formula(name) for name in rows.column_names])


def _plain(rows: pa.Table) -> pa.Table:
    """Return the rows in types that CSV can tell: lists (embeddings) as JSON."""
    for place, name in enumerate(rows.column_names):
        if pa.types.is_nested(rows.schema.field(name).type):
            texts = [None if value is None else json.dumps(value) for value in rows[name].to_pylist()]
            rows = rows.set_column(place, name, pa.array(texts, pa.string()))
    return rows


def _count(counts: Counts, side: str, done: DonePart) -> None:
    counts.files += len(done.files)
    counts.size += sum(file["size"] for file in done.files)
    counts.rows += len(pc.unique(done.samples["row"]))
    counts.samples[side] += done.samples.num_rows
    for refused in done.refused:
        counts.refused[refused["rule"]] = counts.refused.get(refused["rule"], 0) + 1
    counts.thumbnails += done.samples[THUMBNAIL].drop_null().to_pylist()


def write_left_out(papers: Papers, place: Place, packer: Packer, left_out: pa.Table) -> None:
    """Write ``left_out.csv``: each row that was chosen and is not exported, with the reason."""
    plan = packer.plan
    told = _without_formula if packer.resolved.request.quote_formulas else lambda value: value
    with papers.open("left_out.csv") as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*left_out.column_names, "message"])
        for row in left_out.to_pylist():
            writer.writerow([*map(told, row.values()), ""])
        for done in read_parts(place, plan.parts):
            for refused in done.refused:
                row = plan.table.slice(refused["row"], 1).select(left_out.column_names[:-1]).to_pylist()[0]
                writer.writerow(map(told, [*row.values(), refused["rule"], refused["message"]]))
    papers.take("left_out.csv")


def _without_formula(value: Any) -> Any:  # noqa: ANN401 - the value of a cell
    return FORMULA.sub(r"'\g<0>", value) if isinstance(value, str) else value


def check_books(selected: int, left_out: int, planned: int, counts: Counts) -> None:
    """See that each chosen row was exported, or left out with a reason.

    Raises:
        LookbookError: they do not add up.
    """
    refused = sum(counts.refused.values())
    if selected != planned + left_out or planned != counts.rows + refused:
        raise LookbookError(
            f"The books of the export do not balance: {selected} rows chosen, {counts.rows} exported, "
            f"{left_out + refused} left out.",
            "Please report it.",
        )
