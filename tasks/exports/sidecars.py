"""The sidecar files of an export: counts, card, COCO, Croissant, contact sheet, and what every format brings."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import yaml
from PIL import Image

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.exports.build import (
    SHEET,
    THUMBNAIL,
    DonePart,
    ExportFolder,
    Metadata,
    class_numbers,
    read_parts,
)
from lookbook.tasks.exports.drawing import THUMBNAIL_EDGE
from lookbook.tasks.exports.plan import NAMED_BY, Part, Resolved
from lookbook.tasks.images.decode import decode, open_image
from lookbook.tasks.images.recipe import Recipe

FILES_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("crc32", pa.int64()),
    ]
)
_CHUNK = 2**20


class Sidecars:
    """Writes sidecar files into an export's folder, and notes the checksum of every file of the export.

    Args:
        place: where the export is built.
        scratch: a folder for files that grow.
    """

    def __init__(self, place: ExportFolder, scratch: Path) -> None:
        self._place = place
        self._scratch = scratch
        self._sums = (scratch / "SHA256SUMS").open("w", encoding="utf-8", newline="\n")
        self._list = pq.ParquetWriter(scratch / "files.parquet", FILES_SCHEMA, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def note(self, files: list[dict[str, Any]]) -> None:
        """Note files that stand there."""
        for file in files:
            self._sums.write(f"{file['sha256']}  {file['name']}\n")
        self._waiting += files
        if len(self._waiting) >= 1000:  # noqa: PLR2004 - rows of a row group
            self._flush()

    def write(self, name: str, data: bytes) -> str:
        """Write a paper; its SHA-256."""
        self._place.lake.replace(self._place.file(name), data)
        digest = hashlib.sha256(data).hexdigest()
        self.note([{"name": name, "size": len(data), "sha256": digest, "crc32": zlib.crc32(data)}])
        return digest

    def open(self, name: str) -> IO[bytes]:
        """Return a file in the scratch folder that becomes a paper of this name by `take`."""
        path = self._scratch / hashlib.sha256(name.encode()).hexdigest()
        return path.open("wb")

    def take(self, name: str) -> str:
        """Take what was written under this name; its SHA-256."""
        path = self._scratch / hashlib.sha256(name.encode()).hexdigest()
        size, digest, crc = path.stat().st_size, hashlib.sha256(), 0
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                digest.update(data)
                crc = zlib.crc32(data, crc)
        move_into(self._place, path, self._place.file(name))
        self.note([{"name": name, "size": size, "sha256": digest.hexdigest(), "crc32": crc}])
        return digest.hexdigest()

    def close(self) -> bytes:
        """Write SHA256SUMS, and the list of all files, which is no part of the export; the bytes of that list."""
        self._sums.close()
        sums = (self._scratch / "SHA256SUMS").read_bytes()
        self._place.lake.replace(self._place.file("SHA256SUMS"), sums)
        listed = {"name": "SHA256SUMS", "size": len(sums), "sha256": hashlib.sha256(sums).hexdigest()}
        self._waiting.append(listed | {"crc32": zlib.crc32(sums)})
        self._flush()
        self._list.close()
        data = (self._scratch / "files.parquet").read_bytes()
        self._place.lake.replace(f"{self._place.folder}files.parquet", data)
        return data

    def _flush(self) -> None:
        self._list.write_table(pa.Table.from_pylist(self._waiting, schema=FILES_SCHEMA))
        self._waiting = []


def move_into(place: ExportFolder, path: Path, key: str) -> None:
    """Move a file into a place: in a folder without reading it."""
    if not isinstance(place.lake, FolderLake):
        place.lake.replace(key, path.read_bytes())
        return
    target = Path(place.lake.uri(key))
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.aside")
    shutil.move(path, aside)
    aside.replace(target)


def scratch_folder(parent: Path | None) -> tempfile.TemporaryDirectory[str]:
    """Return a folder for files that grow, which goes away."""
    if parent:
        parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="lookbook-export-", dir=parent)


#: How texts begin that spreadsheets take for formulas (OWASP, CSV Injection).
FORMULA = re.compile(r"^[=+\-@\t\r\n]")


@dataclass(frozen=True)
class Built:
    """An export whose parts are all done.

    Attributes:
        place: where it is built.
        resolved: its request.
        metadata: what is told of each file.
        schema: of the rows in which that is told.
        parts: in order.
        extensions: of the files of images.
    """

    place: ExportFolder
    resolved: Resolved
    metadata: Metadata
    schema: pa.Schema
    parts: list[Part]
    extensions: list[str]


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


def write_metadata(sidecars: Sidecars, built: Built) -> tuple[Counts, str]:
    """Write ``metadata.csv``; for an image folder ``metadata.parquet`` beside the images of each side as well.

    Hugging Face's datasets guess the types of a CSV's columns from each file and each ten thousand lines, and refuse
    sides of which they guess unlike: beside the images stands a file that says its types.

    Returns:
        The books, and the SHA-256 of ``metadata.csv``.
    """
    request = built.resolved.request
    counts = Counts(samples=dict.fromkeys(request.sides, 0))
    beside = request.format == "imagefolder"
    tables: dict[str, pq.ParquetWriter] = {}
    with ExitStack() as stack:
        file = stack.enter_context(sidecars.open("metadata.csv"))
        told = partial(_write_csv, file, quote=request.quote_formulas)
        told(built.schema.empty_table(), header=True)
        for part, done in zip(built.parts, read_parts(built.place, built.parts), strict=True):
            _count(counts, part.side, done)
            sidecars.note(done.files)
            told(done.rows, header=False)
            if beside and done.rows.num_rows:
                below = _below(done.rows, part.side)
                name = f"{part.side}/metadata.parquet"
                if name not in tables:
                    sink = stack.enter_context(sidecars.open(name))
                    tables[name] = stack.enter_context(pq.ParquetWriter(sink, below.schema, compression="zstd"))
                tables[name].write_table(below)
    for name in tables:
        sidecars.take(name)
    return counts, sidecars.take("metadata.csv")


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


def write_left_out(sidecars: Sidecars, built: Built, left_out: pa.Table) -> None:
    """Write ``left_out.csv``: each row that was chosen and is not exported, with the reason.

    Args:
        sidecars: writes it.
        built: the export.
        left_out: `NAMED_BY` and the reason of those that are not in its plan.
    """
    told = _without_formula if built.resolved.request.quote_formulas else lambda value: value
    with sidecars.open("left_out.csv") as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*NAMED_BY, "reason", "message"])
        for some in left_out.to_batches(1000):
            for row in some.to_pylist():
                writer.writerow([*map(told, row.values()), ""])
        for done in read_parts(built.place, built.parts):
            for refused in done.refused:
                writer.writerow(map(told, refused.values()))
    sidecars.take("left_out.csv")


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


LOADING = {
    "imagefolder": 'from datasets import load_dataset\n\ndataset = load_dataset("imagefolder", data_dir=".")',
    "parquet": 'from datasets import load_dataset\n\ndataset = load_dataset(".")',
    "webdataset": (
        "import webdataset\n\ndataset = webdataset.WebDataset({shards!r}, shardshuffle=False).decode({decoder})"
    ),
    "coco": 'from pycocotools.coco import COCO\n\ncoco = COCO("annotations/instances_{side}.json")',
    "csv": 'import pandas\n\nrows = pandas.read_csv("metadata.csv")  # url: where each image lies',
}
_SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))


def dataset_card(resolved: Resolved, metadata: Metadata, books: dict[str, Any], shards: dict[str, int]) -> bytes:
    """Return the card.

    Args:
        resolved: the request.
        metadata: what is told of each file.
        books: as they stand in export.json.
        shards: how many each side has.
    """
    front = yaml.safe_dump(_front_matter(resolved, metadata, books), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{_text(resolved, metadata, books, shards)}".encode()


def _front_matter(resolved: Resolved, metadata: Metadata, books: dict[str, Any]) -> dict[str, Any]:
    request = resolved.request
    total = sum(books["images"].values())
    front: dict[str, Any] = {"pretty_name": request.dataset, "tags": ["lookbook", request.format]}
    if metadata.label:
        front["task_categories"] = ["image-classification"]
    front["size_categories"] = [next((name for most, name in _SIZES if total < most), "n>10M")]
    patterns = {"imagefolder": "{side}/**", "parquet": "data/{side}-*.parquet", "webdataset": "{side}-*.tar"}
    pattern = patterns.get(request.format)
    if pattern:
        files = [{"split": side, "path": pattern.format(side=side)} for side, count in books["images"].items() if count]
        front["configs"] = [{"config_name": "default", "data_files": files}]
    return front


def _text(resolved: Resolved, metadata: Metadata, books: dict[str, Any], shards: dict[str, int]) -> str:
    request, side = resolved.request, next(iter(resolved.request.sides))
    last = shards.get(side, 1) - 1
    pattern = f"{side}-{{000000..{last:06}}}.tar" if last else f"{side}-000000.tar"
    is_array = bool(resolved.recipe and resolved.recipe.encode_format == "npy")
    loading = LOADING[request.format].format(shards=pattern, side=side, decoder="" if is_array else '"pil"')
    made = "steps on the fly, in export.json" if resolved.recipe else f"stored files: {request.recipe}"
    lines = [
        f"# {request.dataset}",
        "",
        f"Export `{resolved.id}` by Lookbook. The same request of the same snapshot gives the same bytes.",
        "",
        f"![some of the images](contact-sheet.jpg)\n\n```python\n{loading}\n```\n",
        "| side | images |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in books["images"].items()),
        "",
        f"{books['selected']:,} rows were chosen: {books['exported']:,} exported"
        + "".join(f", {count:,} {reason}" for reason, count in books["left_out"].items())
        + ". `left_out.csv` names those that are not here.",
        "",
        f"- Images: {made}.",
        f"- Seed: {request.seed}.",
        "- No product is on two sides: images of one product, its colourways and near duplicates are one `leak_group`.",
    ]
    if metadata.label:
        lines.append(
            f"- Class: `{metadata.label_name}`, of the column `{metadata.label}`, {len(metadata.classes)} classes."
        )
    if request.quote_formulas:
        lines.append(
            "- Texts that a spreadsheet would take for formulas (`=`, `+`, `-`, `@` at their beginning) have an "
            "apostrophe before them in `metadata.csv` and `left_out.csv` (`quote_formulas`)."
        )
    lines.append("- Columns: " + ", ".join(f"`{name}`" for name in metadata.columns) + ".")
    return "\n".join(lines) + "\n"


def write_annotations(sidecars: Sidecars, built: Built) -> None:
    """Write ``annotations/instances_<side>.json`` for each side, image by image."""
    number = 1
    for side in built.resolved.request.sides:
        name = f"annotations/instances_{side}.json"
        with sidecars.open(name) as file:
            start = number
            file.write(b'{"images": [\n')
            number = _write_all(file, (image for image, _ in _described(built, side, start)), start)
            file.write(b'], "annotations": [\n')
            _write_all(file, (annotation for _, annotation in _described(built, side, start)), start)
            categories = [{"id": at, "name": each, "supercategory": ""} for at, each in enumerate(_names(built), 1)]
            file.write(b'], "categories": ' + json.dumps(categories, ensure_ascii=False).encode() + b"}\n")
        sidecars.take(name)


def _names(built: Built) -> list[str]:
    """Return the categories; one where the catalogue has none."""
    return built.metadata.classes or ["image"]


def _write_all(file: IO[bytes], documents: Iterator[dict[str, Any]], number: int) -> int:
    """Write documents with commas between them; one past the number of the last, if they are counted from `number`."""
    for count, document in enumerate(documents):
        file.write((b",\n" if count else b"") + json.dumps(document, ensure_ascii=False).encode())
        number += 1
    return number


def _described(built: Built, side: str, number: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each image of a side, and its annotation."""
    for done in read_parts(built.place, [part for part in built.parts if part.side == side]):
        rows = done.rows
        label = built.metadata.label_name if built.metadata.label else None
        categories = class_numbers(built.metadata, rows[label]).to_pylist() if label else [0] * rows.num_rows
        kept = [name for name in ("product_key", "sha256") if name in rows.column_names]
        told = rows.select(["file_name", "width", "height", *kept]).to_pylist()
        for row, category in zip(told, categories, strict=True):
            width, height = row["width"], row["height"]
            annotation = {
                "id": number,
                "image_id": number,
                "category_id": category + 1,
                "bbox": [0, 0, width, height],
                "area": width * height,
                "segmentation": [[0, 0, width, 0, width, height, 0, height]],
                "iscrowd": 0,
            }
            yield {"id": number} | row, annotation
            number += 1


CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
IMAGES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "npy": "application/octet-stream",
}
PACKS = {"webdataset": ("*.tar", "application/x-tar"), "parquet": ("data/*.parquet", "application/x-parquet")}


def croissant(resolved: Resolved, schema: pa.Schema, metadata_sha256: str, extensions: list[str]) -> bytes:
    """Return the document.

    Args:
        resolved: the request.
        schema: of ``metadata.csv``.
        metadata_sha256: its checksum.
        extensions: of the files of images.
    """
    request = resolved.request
    table = {
        "@type": "cr:FileObject",
        "@id": "metadata.csv",
        "name": "metadata.csv",
        "contentUrl": "metadata.csv",
        "encodingFormat": "text/csv",
        "sha256": metadata_sha256,
    }
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": request.dataset,
        "description": f"Images of the dataset {request.dataset}, export {resolved.id} by Lookbook.",
        "version": "1.0.0",
        "distribution": [table, *_file_sets(request.format, extensions)],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "images",
                "name": "images",
                "field": [_field(field) for field in schema],
            }
        ],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _file_sets(format_: str, extensions: list[str]) -> list[dict[str, Any]]:
    sets = [PACKS[format_]] if format_ in PACKS else []
    if format_ in {"imagefolder", "coco"}:
        sets = [(f"*/*.{extension}", IMAGES.get(extension, f"image/{extension}")) for extension in extensions]
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"files-{number}",
            "name": f"files-{number}",
            "encodingFormat": kind,
            "includes": pattern,
        }
        for number, (pattern, kind) in enumerate(sets, 1)
    ]


def _field(field: pa.Field) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"images/{field.name}",
        "name": field.name,
        "dataType": _type(field.type),
        "source": {"fileObject": {"@id": "metadata.csv"}, "extract": {"column": field.name}},
    }


def _type(kind: pa.DataType) -> str:
    kinds = [
        (pa.types.is_boolean, "sc:Boolean"),
        (pa.types.is_integer, "sc:Integer"),
        (pa.types.is_floating, "sc:Float"),
        (pa.types.is_date, "sc:Date"),
        (pa.types.is_timestamp, "sc:DateTime"),
    ]
    return next((name for test, name in kinds if test(kind)), "sc:Text")


_COLUMNS_OF_SHEET = 8


def contact_sheet(thumbnails: list[bytes]) -> bytes:
    """Return small pictures side by side, as a JPEG."""
    shown = thumbnails[:SHEET]
    lines = max(1, -(-len(shown) // _COLUMNS_OF_SHEET))
    sheet = Image.new("RGB", (_COLUMNS_OF_SHEET * THUMBNAIL_EDGE, lines * THUMBNAIL_EDGE), "white")
    for place, data in enumerate(shown):
        corner = (place % _COLUMNS_OF_SHEET * THUMBNAIL_EDGE, place // _COLUMNS_OF_SHEET * THUMBNAIL_EDGE)
        sheet.paste(decode(open_image(data, Recipe()), data, 1).image, corner)
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=85)
    return file.getvalue()
