"""The rows of one catalogue file, of whatever kind, and which of its columns name products and images."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lookbook.tasks.datasets.catalogue_types import (
    OWN_FIELDS,
    RejectKind,
    SourceReject,
    clean_names,
    clean_text,
    converted,
    infer_column,
    parse_integer,
    plain_column,
)
from lookbook.tasks.datasets.csv_records import (
    BOMS,
    LINE_END,
    CsvRecord,
    LooksLikeRecord,
    guess_delimiter,
    record_at,
    value_of,
)
from lookbook.tasks.datasets.links import LONGEST_NAME, has_image_ending, names_in, short_name
from lookbook.tasks.datasets.workbooks import read_workbook


@dataclass
class Sheet:
    """What one catalogue file holds.

    Attributes:
        table: the own columns and then the values; the product key is null where there is no id.
        rejects: of kind ``row`` for a record, of kind ``file`` for the whole.
        found: records read.
    """

    table: pa.Table = field(default_factory=lambda: pa.schema(OWN_FIELDS).empty_table())
    rejects: list[SourceReject] = field(default_factory=list)
    found: int = 0


@dataclass(frozen=True)
class CatalogueRecord:
    """One record.

    Attributes:
        line: the physical line it starts on, from 1.
        start, stop: where its text stands, without the line's end.
        parts: what stands between the delimiters.
        fields: the values, without quotes and NUL characters.
        mended: whether a stray quote was taken as text, or a NUL character taken out.
    """

    line: int
    start: int
    stop: int
    parts: Sequence[bytes]
    fields: list[str]
    mended: bool


def decode(data: bytes) -> bytes:
    """Return text in UTF-8: of UTF-16 or UTF-32 with a byte order mark, and of cp1252 where it is not UTF-8.

    Each line is decoded on its own, so that one odd line does not spoil the others.

    Raises:
        UnicodeDecodeError: a byte order mark promises what the bytes do not keep.
    """
    encoding = next((found for mark, found in BOMS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
        return data if encoding == "utf-8" else text.encode()
    except UnicodeDecodeError:
        if encoding in ("utf-16", "utf-32"):
            raise
        return b"\n".join(map(_decode_line, data.removeprefix(BOM_UTF8).split(b"\n")))


def _decode_line(line: bytes) -> bytes:
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding).encode()
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1").encode()  # cp1252 leaves five bytes undefined.


def read_records(
    text: bytes, delimiter: bytes, looks_like_record: LooksLikeRecord, width: int | None = None
) -> Iterator[CatalogueRecord]:
    """Yield the records of a text that ends with a line's end; empty lines are none.

    A record that is well-formed as it stands and has `width` fields is taken so, whatever its quoted lines look like;
    any other is repaired.
    """
    position, line = 0, 1
    while position < len(text):
        record = record_at(text, position, delimiter, final=True, repair=lambda _: False)
        assert isinstance(record, CsvRecord)  # noqa: S101 - the data are final, and repaired
        if len(record.fields) != width or _is_stray(record):
            record = record_at(text, position, delimiter, final=True, repair=looks_like_record)
            assert isinstance(record, CsvRecord)  # noqa: S101 - as above
        raw = text[position : record.end].rstrip(b"\r\n")
        if raw:
            quoted, nul = b'"' in raw, b"\0" in raw
            values = list(map(value_of, record.fields)) if quoted else record.fields
            stray = quoted and _is_stray(record)
            fields = [(value.replace(b"\0", b"") if nul else value).decode() for value in values]
            yield CatalogueRecord(line, position, position + len(raw), record.fields, fields, stray or nul)
        line += len(LINE_END.findall(text, position, record.end))
        position = record.end


def _is_stray(record: CsvRecord) -> bool:
    """Return whether a quote that opens a field is taken as text."""
    return any(part.startswith(b'"') and value_of(part) == part for part in record.fields)


#: What collections call the column that names a product, and the one that names a file; the first one counts.
ID_NAMES = ("id", "product id", "article id", "item id", "style id", "sku", "asin", "product code", "article code")
FILE_NAMES = ("file name", "filename")
#: And what they call files, and other things as well: such a column counts where it leads to files.
LIKELY_FILE_NAMES = (
    *("image path", "image file", "image filename", "image name", "image", "images", "img path", "img", "image id"),
    *("path", "file path", "file", "photo", "picture", "thumbnail", "image url", "image link", "url", "link"),
)
#: The share of a column's values that lead to files, from which on it names files, whatever it is called.
FITTING = 0.5
#: The share of its values that differ from each other then.
DIFFERENT = 0.9
#: Columns of a JSON Lines file, at the most.
MOST_COLUMNS = 5000
#: Values of a column that are looked at.
SAMPLE = 1000
#: Records that are held as values of Python at once.
RECORDS_AT_ONCE = 20_000
#: Characters of what was refused that are kept.
RAW_CHARACTERS = 2000


def find_column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return the place of the first of the `wanted` names, whatever their capitals, separators and brackets."""
    plain = [_plain(name) for name in names]
    return next((plain.index(_plain(name)) for name in wanted if _plain(name) in plain), None)


def _plain(name: str) -> str:
    return re.sub(r"\(.*?\)|[\W_]+", "", name.casefold())


class Fit(NamedTuple):
    """The shares of a column's values that lead to files: such as end as images do, and all."""

    with_ending: float
    share: float
    telling: bool


@dataclass(frozen=True)
class Columns:
    """Which columns of a catalogue name the product and the image.

    Attributes:
        key: of the product, as the user says; None: found.
        image: of the image's file, as the user says; None: found.
        files: returns those of some names, by `short_name`, that images of the source bear.
    """

    key: str | None = None
    image: str | None = None
    files: Callable[[Collection[str]], Collection[str]] = lambda _: ()

    def find(self, names: Sequence[str], values: Callable[[int], Iterable[object]]) -> tuple[int | None, int | None]:
        """Return the places of the columns that name the product and the image; None where there is none.

        Args:
            names: of all columns.
            values: returns those of one column.
        """
        key = find_column(names, ID_NAMES) if self.key is None else _place_of(self.key, names)
        if self.image is not None:
            return key, _place_of(self.image, names)
        fits = {place: self._fit(values(place)) for place in range(len(names))}
        known = find_column(names, FILE_NAMES)
        likely = [known, *(find_column(names, (name,)) for name in LIKELY_FILE_NAMES)]
        fitting = (place for place in likely if place is not None and fits[place].share)
        found = max(fitting, key=fits.__getitem__, default=None)
        if found is None:
            of_key = fits[key].share if key is not None else 0.0
            least = max(FITTING, 2 * of_key)
            others = (place for place, fit in fits.items() if place != key and fit.telling and fit.share >= least)
            found = max(others, key=fits.__getitem__, default=known)
        return key, found

    def lacking(self, names: Sequence[str]) -> str:
        """Return which column that the user names is not among these, and which are there; "" where all are."""
        asked = (("--key", self.key), ("--image-column", self.image))
        gone = [f"{option} {name}" for option, name in asked if name is not None and _place_of(name, names) is None]
        return f"{' and '.join(gone)}: it has no such column; it has {', '.join(names)}" if gone else ""

    def written_ids(self, ids: pa.ChunkedArray, *, whole: bool = False) -> pa.ChunkedArray:
        """Return ids as they are written, but `1163` for `1163.0` where all are floats that whole numbers became.

        Where files are called `1163.0`, that is the id.

        Args:
            ids: of the rows.
            whole: all are whole numbers, written as floats or not.
        """
        texts = converted(ids, lambda text: (text or "").strip(), pa.string())
        if not whole and not pc.all(pc.match_substring_regex(texts, r"^-?[0-9]+\.0$")).as_py():
            return texts
        plain = pc.replace_substring_regex(texts, r"\.0*$", "")
        if plain.equals(texts):
            return texts
        return texts if self._fit(_values_of(texts)).share > self._fit(_values_of(plain)).share else plain

    def _fit(self, values: Iterable[object]) -> Fit:
        present = list(islice((text for value in values if (text := (image_name(value) or "").strip())), SAMPLE))
        if not present:
            return Fit(0.0, 0.0, telling=False)
        short = [text for text in present if len(text) <= LONGEST_NAME]
        names = {text: [short_name(name) for name in names_in(text)] for text in short}
        files = self.files({name for each in names.values() for name in each})
        hits = [text for text in short if any(name in files for name in names[text])]
        ending = sum(has_image_ending(text.partition("?")[0]) for text in hits)
        # A few values that come again and again are sizes or kinds, whatever files are called.
        telling = len(set(present)) >= DIFFERENT * len(present)
        return Fit(ending / len(present), len(hits) / len(present), telling=telling)


def _values_of(texts: pa.ChunkedArray) -> Iterator[str]:
    for chunk in texts.chunks:
        yield from chunk.to_pylist()


def image_name(value: object) -> str | None:
    """Return the name of an image as a cell gives it: a text, an object with its path or address, or a list of such."""
    if isinstance(value, dict):
        named = [(name, text) for name, text in value.items() if isinstance(text, str) and text.strip()]
        wanted = (*FILE_NAMES, *LIKELY_FILE_NAMES, "src", "uri", "href", "name")
        place = find_column([name for name, _ in named], wanted)
        return None if place is None else clean_text(named[place][1])
    if isinstance(value, list):
        return json.dumps([name for each in value if (name := image_name(each))], ensure_ascii=False)
    return cell_text(value)


def cell_text(value: object) -> str | None:
    """Return a cell's value as text; None for none, and for NaN."""
    return None if value is None or value != value else clean_text(written(value))  # noqa: PLR0124 - NaN is unlike itself


class WrittenFloat(float):
    """A number that remembers how it was written: `1.10`."""

    def __init__(self, text: str) -> None:
        self.text = text


def written(value: object) -> str:
    """Return a value of a table as text: a number as it is written, or else a whole one without decimals."""
    if isinstance(value, WrittenFloat):
        return value.text
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _place_of(name: str, names: Sequence[str]) -> int | None:
    """Return the place of a column that the user names: as it is written, or else by its plain form."""
    return names.index(name) if name in names else find_column(names, (name,))


#: What is known of a record beside its fields: its line, where its text stands, and whether it was repaired.
PLACE_FIELDS = [
    pa.field("line", pa.int64()),
    pa.field("start", pa.int64()),
    pa.field("stop", pa.int64()),
    pa.field("repaired", pa.bool_()),
]


@dataclass
class DelimitedFile:
    """The records of a CSV or TSV file: of the header's width, or of more fields; shorter ones are rejects.

    Attributes:
        names: the header's names.
        text: of the file, in UTF-8.
        exact: records with as many values as names, in tables of `PLACE_FIELDS` and then the values, as texts.
        wide: records with more.
        found: data records read, also those rejected.
    """

    key: str
    delimiter: bytes
    names: list[str]
    text: bytes
    exact: list[pa.Table] = field(default_factory=list)
    wide: list[CatalogueRecord] = field(default_factory=list)
    rejects: list[SourceReject] = field(default_factory=list)
    found: int = 0

    def reject(self, kind: RejectKind, place: tuple[int, int, int], rule: str, why: str) -> None:
        """Keep a record as a reject: its line, and where its text starts and stops."""
        line, start, stop = place
        raw = self.text[start:stop].decode().replace("\0", r"\x00")
        self.rejects.append(SourceReject(kind, f"{self.key}:{line}", rule, why, raw))

    def add(self, rows: Sequence[tuple[CatalogueRecord, list[str], bool]]) -> None:
        """Add records with their values, and whether they were repaired, to the exact ones."""
        if rows:
            places = [(record.line, record.start, record.stop, repaired) for record, _, repaired in rows]
            own = [pa.array(values, f.type) for values, f in zip(zip(*places, strict=True), PLACE_FIELDS, strict=True)]
            values = [pa.array(column, pa.string()) for column in zip(*(texts for _, texts, _ in rows), strict=True)]
            columns = [*own, *values]
            self.exact.append(pa.Table.from_arrays(columns, [str(at) for at in range(len(columns))]))

    def values(self, place: int) -> Iterator[str]:
        """Yield the values of a column of the exact records."""
        for rows in self.exact:
            yield from rows.column(len(PLACE_FIELDS) + place).to_pylist()


def read_delimited(key: str, data: bytes, kind: RejectKind) -> DelimitedFile | SourceReject:
    """Read a CSV or TSV file; a reject if not even its header can be read."""
    try:
        text = decode(data).removeprefix(BOM_UTF8)
    except UnicodeDecodeError as error:
        return _bad_encoding(key, error)
    if not text.endswith((b"\r", b"\n")):
        text += b"\n"
    delimiter = guess_delimiter(text.lstrip(b"\r\n"))
    header = next(read_records(text, delimiter, lambda _: True), None)
    if header is None:
        return SourceReject("file", key, "empty_file", "it is empty")
    file = DelimitedFile(key, delimiter, header.fields, text)
    width = len(header.fields)
    column = find_column(header.fields, (*ID_NAMES, *FILE_NAMES, *LIKELY_FILE_NAMES)) or 0

    def looks_like_record(line: bytes) -> bool:
        fields = line.split(delimiter)
        if len(fields) < width:
            return False
        value = fields[column].decode()
        return parse_integer(value) is not None or has_image_ending(value)

    records = read_records(text, delimiter, looks_like_record, width)
    next(records)
    while some := list(islice(records, RECORDS_AT_ONCE)):
        file.found += len(some)
        for record in some:
            if len(record.fields) < width:
                why = f"{len(record.fields)} fields where the header has {width}"
                file.reject(kind, (record.line, record.start, record.stop), "ragged_row", why)
            elif len(record.fields) > width:
                file.wide.append(record)
        file.add([(record, record.fields, record.mended) for record in some if len(record.fields) == width])
    return file


def _bad_encoding(key: str, error: UnicodeDecodeError) -> SourceReject:
    return SourceReject("file", key, "bad_encoding", f"its byte order mark says {error.encoding}, but it is not")


def mended_rows(file: DelimitedFile, column: int | None, kind: RejectKind) -> Iterator[pa.Table]:
    """Yield the records with as many values as the header has names, as `DelimitedFile.exact` has them.

    The overflow of others goes into `column`, the last one of text, as its text stands; without one they are rejected.
    """
    width, mended = len(file.names), []
    for record in file.wide:
        if column is not None:
            last = column + len(record.fields) - width
            joined = file.delimiter.join(record.parts[column : last + 1]).replace(b"\0", b"").decode()
            mended.append((record, [*record.fields[:column], joined, *record.fields[last + 1 :]], True))
        else:
            why = f"{len(record.fields)} fields where the header has {width}"
            file.reject(kind, (record.line, record.start, record.stop), "ragged_row", why)
    if mended:
        file.add(mended)
        file.exact = [pa.concat_tables(file.exact).sort_by("0")]
    for rows in file.exact:
        for start in range(0, len(rows), RECORDS_AT_ONCE):
            yield rows.slice(start, RECORDS_AT_ONCE)


def csv_sheet(key: str, data: bytes, columns: Columns, *, is_styles: bool) -> Sheet | None:
    """Return the sheet of a CSV or TSV file; None if it is no catalogue, because no column names a product or an image.

    In a `styles.csv` (`is_styles`) id and year are whole numbers, the rest is text, and there have to be ids.
    """
    file = read_delimited(key, data, "row")
    if isinstance(file, SourceReject):
        return Sheet(rejects=[file]) if is_styles or file.rule != "empty_file" else None
    if lacking := columns.lacking(file.names):
        return Sheet(rejects=[SourceReject("file", key, "no_such_column", lacking)])
    id_column, name_column = columns.find(file.names, file.values)
    if is_styles and id_column is None:
        return Sheet(rejects=[_without_ids(file)])
    if id_column is None and name_column is None:
        return None
    whole = {id_column, find_column(file.names, ("year",))} - {None} if is_styles else set()
    column = _overflow_column(file, {id_column, name_column}, whole, is_styles=is_styles)
    kept = _without_faults(file, column, id_column, name_column, whole)
    texts: list[pa.ChunkedArray | None] = kept.columns[len(PLACE_FIELDS) :]
    rows = Rows(key, kept.column(0), kept.column(len(PLACE_FIELDS) - 1))
    # What is matched is the text as written: a type would take its zeros.
    ids = None if id_column is None else columns.written_ids(texts[id_column], whole=is_styles)
    names = None
    if name_column is not None:
        names = converted(texts[name_column], lambda text: (text or "").strip() or None, pa.string())
    del kept
    file.exact = []
    typed = []
    for place in range(len(texts)):
        typed.append(_column(texts[place], place in whole, is_styles))
        texts[place] = None  # memory holds one kind of it at a time
    return Sheet(rows.table(file.names, typed, name_column, ids, names), file.rejects, file.found)


def _overflow_column(
    file: DelimitedFile, keys: set[int | None], whole: set[int | None], *, is_styles: bool
) -> int | None:
    """Return the last column of text that is no key."""
    for place in reversed(range(len(file.names) if file.wide else 0)):
        if place in keys or place in whole:
            continue
        chunks = [chunk for rows in file.exact for chunk in rows.column(len(PLACE_FIELDS) + place).chunks]
        if is_styles or pa.types.is_string(infer_column(pa.chunked_array(chunks, pa.string())).type):
            return place
    return None


def _without_faults(
    file: DelimitedFile, column: int | None, id_column: int | None, name_column: int | None, whole: set[int | None]
) -> pa.Table:
    """Return the records that can be taken, as `DelimitedFile.exact` has them; the others are rejected."""
    first, kept = len(PLACE_FIELDS), []
    for rows in mended_rows(file, column, "row"):
        looked_at = {place for place in (*whole, id_column, name_column) if place is not None}
        values = {place: rows.column(first + place).to_pylist() for place in looked_at}
        faults = [
            _fault({place: texts[row] for place, texts in values.items()}, file.names, id_column, name_column, whole)
            for row in range(len(rows))
        ]
        for row, fault in enumerate(faults):
            if fault is not None:
                line, start, stop = (rows.column(at)[row].as_py() for at in range(3))
                file.reject("row", (line, start, stop), *fault)
        good = [fault is None for fault in faults]
        kept.append(rows if all(good) else rows.filter(pa.array(good, pa.bool_())))
    if kept:
        return pa.concat_tables(kept)
    names = [str(at) for at in range(first + len(file.names))]
    types = [*(each.type for each in PLACE_FIELDS), *(pa.string() for _ in file.names)]
    return pa.schema(list(zip(names, types, strict=True))).empty_table()


def _fault(
    values: Mapping[int, str], names: list[str], id_column: int | None, name_column: int | None, whole: set[int | None]
) -> tuple[str, str] | None:
    for place in sorted(place for place in whole if place is not None):
        if parse_integer(values[place]) is None and (values[place].strip() or place == id_column):
            rule = "bad_id" if place == id_column else "bad_year"
            return rule, f"{names[place].strip()} is {values[place]!r}, not a whole number"
    if id_column is not None and not values[id_column].strip():
        return "bad_id", "it has no id"
    if id_column is None and name_column is not None and not values[name_column].strip():
        return "no_file_name", "it names no file"
    return None


def _column(values: pa.ChunkedArray, is_whole: bool, is_styles: bool) -> pa.ChunkedArray:
    if is_whole:
        return converted(values, lambda text: parse_integer(text or ""), pa.int64())
    if is_styles:
        return pc.if_else(pc.equal(values, ""), None, values)
    return infer_column(values)


def parquet_sheet(key: str, data: bytes, columns: Columns) -> Sheet | None:
    """Return the sheet of a Parquet file; None if no column names a product or an image.

    Columns of raw bytes, such as embedded images, are left out.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = [field.name for field in file.schema_arrow if "binary" not in str(field.type)]
        first = next(file.iter_batches(SAMPLE, columns=names), None)
        if lacking := columns.lacking(names):
            return Sheet(rejects=[SourceReject("file", key, "no_such_column", lacking)])
        id_column, name_column = columns.find(names, lambda place: first.column(place).to_pylist() if first else [])
        place = name_column if id_column is None else id_column
        if place is None:
            return None
        table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        return Sheet(rejects=[SourceReject("file", key, "bad_parquet", f"it cannot be read as Parquet: {error}")])
    lines = range(1, table.num_rows + 1)
    return _typed_sheet(key, table, lines, columns, (id_column, name_column), lambda place: table[place].to_pylist())


def json_lines_sheet(key: str, data: bytes, columns: Columns) -> Sheet | None:
    """Return the sheet of a JSON Lines file, an object a line; None if no column names a product or an image."""
    objects: list[dict[str, Any]] = []
    lines, rejects = [], []
    try:
        text = decode(data)
    except UnicodeDecodeError as error:
        return Sheet(rejects=[_bad_encoding(key, error)])
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                objects.append(_object(json.loads(line, parse_float=WrittenFloat, parse_constant=no_number)))
                lines.append(number)
            except (ValueError, RecursionError) as error:
                raw = line[:RAW_CHARACTERS].decode("utf-8", "replace").replace("\0", r"\x00")
                rejects.append(SourceReject("row", f"{key}:{number}", "bad_json", str(error) or "nested too deep", raw))
    names = list(dict.fromkeys(name for each in objects for name in each))
    if len(names) > MOST_COLUMNS or (rejects and not objects):
        why = f"it has {len(names)} columns, more than {MOST_COLUMNS}" if objects else "no line of it is an object"
        return Sheet(rejects=[SourceReject("file", key, "bad_json", why)])
    if lacking := columns.lacking(names):
        return Sheet(rejects=[SourceReject("file", key, "no_such_column", lacking)])
    id_column, name_column = columns.find(names, lambda place: (each.get(names[place]) for each in objects[:SAMPLE]))
    if id_column is None and name_column is None:
        return None
    values = [[each.get(name) for each in objects] for name in names]
    table = pa.Table.from_arrays(list(map(_json_column, values)), [clean_text(name) for name in names])
    sheet = _typed_sheet(key, table, lines, columns, (id_column, name_column), values.__getitem__)
    return Sheet(sheet.table, [*rejects, *sheet.rejects], len(rejects) + len(objects))


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - bad data, not a bad call
    return value


def _json_column(values: Sequence[Any]) -> pa.Array:
    """Return values with the type that all have in common, else as JSON text; a text stays the text that it is."""
    plain = [clean_text(value) if isinstance(value, str) else value for value in values]
    if not any(isinstance(value, dict | list) for value in plain):
        try:
            return pa.array(plain)
        except (pa.ArrowException, OverflowError):
            pass
    return pa.array(
        [None if value is None else clean_text(_json_text(value)) for value in plain],
        pa.string(),
    )


def _json_text(value: object) -> str:
    return written(value) if isinstance(value, str | WrittenFloat) else json.dumps(value)


def workbook_sheet(key: str, data: bytes, columns: Columns) -> Sheet | None:
    """Return the sheet of an Excel or LibreOffice workbook: of its first one with a column that names what is needed.

    None if there is no such sheet. Texts stay texts, whatever they look like, but for dates.
    """
    found = read_workbook(data)
    if isinstance(found, tuple):
        return Sheet(rejects=[SourceReject("file", key, *found)])
    lacking = [columns.lacking(sheet.names) for sheet in found]
    if lacking and all(lacking):
        return Sheet(rejects=[SourceReject("file", key, "no_such_column", lacking[0])])
    for sheet, lacks in zip(found, lacking, strict=True):
        id_column, name_column = columns.find(sheet.names, sheet.columns.__getitem__)
        if not lacks and (id_column is not None or name_column is not None):
            table = pa.Table.from_arrays(list(map(_workbook_column, sheet.columns)), sheet.names)
            places = (id_column, name_column)
            return _typed_sheet(key, table, sheet.lines, columns, places, sheet.columns.__getitem__)
    return None


def _workbook_column(values: Sequence[Any]) -> pa.Array:
    column = _json_column(values)
    texts = pa.chunked_array([pc.fill_null(column, "")]) if pa.types.is_string(column.type) else None
    dates = column if texts is None else infer_column(texts)
    return dates if pa.types.is_date(dates.type) else column


def _typed_sheet(
    key: str,
    table: pa.Table,
    lines: Sequence[int],
    columns: Columns,
    places: tuple[int | None, int | None],
    values: Callable[[int], Sequence[Any]],
) -> Sheet:
    """Return the sheet of rows that have types; one without product and image is a reject.

    Args:
        key: of the file.
        table: all values.
        lines: where each row stands.
        columns: what is asked for.
        places: of the columns that name the product and the image.
        values: returns those of one column as they are written.
    """
    names = table.column_names
    id_column, name_column = places
    ids = [] if id_column is None else list(map(cell_text, values(id_column)))
    named = [] if name_column is None else list(map(image_name, values(name_column)))
    place = name_column if id_column is None else id_column
    assert place is not None  # noqa: S101 - without either there is no sheet
    present = [(text or "").strip() not in {"", "[]"} for text in (named if id_column is None else ids)]
    rejects = []
    for row, there in enumerate(present):
        if not there:
            raw = json.dumps(_row(table, row), default=str)
            rejects.append(SourceReject("row", f"{key}:{lines[row]}", "bad_id", f"it has no {names[place]}", raw))
    typed = [plain_column(column) for column in table.filter(pa.array(present, pa.bool_())).columns]
    stands = pa.chunked_array([list(compress(lines, present))], pa.int64())
    rows = Rows(key, stands, pa.chunked_array([[False] * sum(present)], pa.bool_()))
    own = pa.chunked_array([[text or "" for text in compress(ids, present)]], pa.string())
    if id_column is not None and not any(isinstance(value, str) for value in values(id_column)):
        own = columns.written_ids(own)
    # An object says more of an image than its name.
    told = name_column is not None and any(map(_has_object, values(name_column)))
    return Sheet(
        rows.table(
            names,
            typed,
            None if told else name_column,
            None if id_column is None else converted(own, lambda text: (text or "").strip(), pa.string()),
            None if name_column is None else pa.chunked_array([list(compress(named, present))], pa.string()),
        ),
        rejects,
        table.num_rows,
    )


def _has_object(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_object, value)))


def _row(table: pa.Table, row: int) -> dict[str, object]:
    return {name: table.column(index)[row].as_py() for index, name in enumerate(table.column_names)}


@dataclass(frozen=True)
class Rows:
    """Where the rows of a sheet stand.

    Attributes:
        key: of the file.
        lines: on which each begins.
        repaired: whether each was.
    """

    key: str
    lines: pa.ChunkedArray
    repaired: pa.ChunkedArray

    def table(
        self,
        names: Sequence[str],
        columns: Sequence[pa.Array | pa.ChunkedArray],
        name_column: int | None,
        ids: pa.ChunkedArray | None,
        files: pa.ChunkedArray | None,
    ) -> pa.Table:
        """Return the own columns, and the values of all columns but the one that names the file."""
        count = len(self.lines)
        own = [
            pa.repeat(self.key, count),
            self.lines,
            pa.nulls(count, pa.string()) if ids is None else ids,
            pa.repeat("", count),
            self.repaired,
            pa.nulls(count, pa.string()) if files is None else files,
        ]
        values = [place for place in range(len(names)) if place != name_column]
        cleaned = clean_names([names[place] for place in values])
        return pa.table([*own, *[columns[place] for place in values]], [*[own.name for own in OWN_FIELDS], *cleaned])


def _without_ids(file: DelimitedFile) -> SourceReject:
    shown = file.delimiter.decode().join(file.names)
    if any(parse_integer(name) is not None for name in file.names):
        return SourceReject("file", file.key, "no_header", "its first line is no header but a record", shown)
    return SourceReject("file", file.key, "no_id_column", "its header has no column that names a product", shown)


def no_number(name: str) -> float:
    """Refuse NaN and infinities, which Python would read."""
    raise ValueError(f"{name} is not JSON")
