"""Workbooks made by hand, as small as their readers take them."""

from __future__ import annotations

import datetime
import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
FIRST_DAY = datetime.date(1899, 12, 30)
Rows = Sequence[Sequence[Any]]


def packed(members: Mapping[str, str | bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def cell(value: object, place: str) -> str:
    """A cell as XML; a text that starts with `=` is a formula, and `formula|value` has a value; `#N/A` is an error."""
    kind, content = "", f"<v>{value}</v>"
    if value is None:
        return ""
    if isinstance(value, bool):
        kind, content = ' t="b"', f"<v>{int(value)}</v>"
    elif isinstance(value, datetime.date):
        kind, content = ' s="1"', f"<v>{(value - FIRST_DAY).days}</v>"
    elif isinstance(value, str) and value.startswith("#"):
        kind = ' t="e"'
    elif isinstance(value, str) and value.startswith("="):
        formula, _, result = value[1:].partition("|")
        kind, content = ' t="str"', f"<f>{formula}</f>" + (f"<v>{result}</v>" if result else "")
    elif isinstance(value, str):
        kind, content = ' t="inlineStr"', f"<is><t>{escape(value)}</t></is>"
    return f'<c r="{place}"{kind}>{content}</c>'


def sheet_xml(rows: Rows) -> str:
    """Rows from the first one on, columns from A to Z."""
    body = "".join(
        f'<row r="{number}">'
        + "".join(cell(value, f"{chr(65 + place)}{number}") for place, value in enumerate(row))
        + "</row>"
        for number, row in enumerate(rows, 1)
    )
    return f'<worksheet xmlns="{MAIN}"><sheetData>{body}</sheetData></worksheet>'


def xlsx(*sheets: Rows | str, hidden: Sequence[int] = (), more: Mapping[str, bytes] | None = None) -> bytes:
    """A workbook of Excel: of sheets as rows, or as XML; those at the places `hidden` are not shown."""
    numbers = range(1, len(sheets) + 1)
    entries = "".join(
        f'<sheet name="S{n}" sheetId="{n}" r:id="r{n}"' + (' state="hidden"/>' if n - 1 in hidden else "/>")
        for n in numbers
    )
    links = "".join(
        f'<Relationship Id="r{n}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
    )
    styles = f'<Relationship Id="styles" Type="{OFFICE}/styles" Target="styles.xml"/>'
    return packed(
        {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
            "_rels/.rels": f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r1" Type="{OFFICE}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{entries}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}">{links}{styles}</Relationships>',
            "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
            "</styleSheet>",
            **{
                f"xl/worksheets/sheet{number}.xml": sheet if isinstance(sheet, str) else sheet_xml(sheet)
                for number, sheet in enumerate(sheets, 1)
            },
            **(more or {}),
        }
    )


def ods(rows: Rows, *, encrypted: bool = False) -> bytes:
    """A workbook of LibreOffice."""
    spaces = " ".join(
        f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for short, name in (("office", "office"), ("table", "table"), ("text", "text"))
    )

    def one(value: object) -> str:
        if value is None:
            return "<table:table-cell/>"
        if isinstance(value, int | float):
            return f'<table:table-cell office:value-type="float" office:value="{value}"/>'
        return f'<table:table-cell office:value-type="string"><text:p>{escape(str(value))}</text:p></table:table-cell>'

    body = "".join(f"<table:table-row>{''.join(map(one, row))}</table:table-row>" for row in rows)
    content = (
        f"<office:document-content {spaces}><office:body><office:spreadsheet>"
        f'<table:table table:name="S">{body}</table:table></office:spreadsheet></office:body></office:document-content>'
    )
    manifest = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
    entry = '<manifest:encryption-data manifest:checksum="x"/>' if encrypted else ""
    return packed(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": content,
            "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="{manifest}">'
            f'<manifest:file-entry manifest:full-path="content.xml">{entry}</manifest:file-entry></manifest:manifest>',
        }
    )


def xlsb(rows: Rows) -> bytes:
    """A binary workbook of Excel 2007."""

    def record(kind: int, data: bytes = b"") -> bytes:
        head = bytes([kind]) if kind < 0x80 else bytes([kind & 0x7F | 0x80, kind >> 7])
        return head + bytes([len(data)]) + data

    def wide(text: str) -> bytes:
        return struct.pack("<I", len(text)) + text.encode("utf-16-le")

    body = record(129) + record(148, struct.pack("<IIII", 0, len(rows) - 1, 0, max(map(len, rows)) - 1)) + record(145)
    for line, row in enumerate(rows):
        body += record(0, struct.pack("<I", line) + bytes(13))
        for place, value in enumerate(row):
            at = struct.pack("<II", place, 0)
            if isinstance(value, int | float):
                body += record(5, at + struct.pack("<d", value))
            elif value is not None:
                body += record(6, at + wide(str(value)))
    sheets = record(143) + record(156, struct.pack("<II", 0, 1) + wide("r1") + wide("S")) + record(144)
    return packed(
        {
            "_rels/.rels": f'<Relationships xmlns="{PACKAGE}"/>',
            "xl/_rels/workbook.bin.rels": f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r1" '
            f'Type="{OFFICE}/worksheet" Target="worksheets/sheet1.bin"/></Relationships>',
            "xl/workbook.bin": record(131) + sheets + record(132),
            "xl/worksheets/sheet1.bin": body + record(146) + record(130),
        }
    )


def xls(rows: Rows) -> bytes:
    """A workbook of Excel 97."""

    def record(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    start, end = record(0x809, struct.pack("<HHHHII", 0x600, 5, 0, 0, 0, 0)), record(0x0A, b"")
    width = max(map(len, rows))
    body = record(0x809, struct.pack("<HHHHII", 0x600, 0x10, 0, 0, 0, 0))
    body += record(0x200, struct.pack("<IIHHH", 0, len(rows), 0, width, 0))
    for line, row in enumerate(rows):
        for place, value in enumerate(row):
            head = struct.pack("<HHH", line, place, 0)
            if isinstance(value, int | float):
                body += record(0x203, head + struct.pack("<d", value))
            elif value is not None:
                text = str(value).encode("utf-16-le")
                body += record(0x204, head + struct.pack("<HB", len(text) // 2, 1) + text)
    name = record(0x85, struct.pack("<IHBB", len(start) + 13 + len(end), 0, 1, 0) + b"S")
    return compound("Workbook", start + name + end + body + end)


def compound(name: str, data: bytes) -> bytes:
    """An OLE compound file of one stream."""
    data = data.ljust(-(-max(len(data), 4096) // 512) * 512, b"\0")  # a smaller one would lie elsewhere
    sectors, last, free = len(data) // 512, 0xFFFFFFFE, 0xFFFFFFFF

    def entry(called: str, kind: int, child: int, first: int, size: int) -> bytes:
        text = (called + "\0").encode("utf-16-le")
        head = text.ljust(64, b"\0") + struct.pack("<HBBIII", len(text), kind, 1, free, free, child)
        return head + bytes(36) + struct.pack("<IQ", first, size)

    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, 1, 1, 0, 4096, last, 0, last, 0)
    header += struct.pack("<109I", 0, *[free] * 108)
    table = [0xFFFFFFFD, last, *range(3, sectors + 2), last]
    folder = entry("Root Entry", 5, 1, last, 0) + entry(name, 2, free, 2, len(data)) + bytes(256)
    return header + struct.pack("<128I", *table, *[free] * (128 - len(table))) + folder + data
