"""Catalogues in workbooks of Excel and LibreOffice."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lookbook.blocks.errors import UsageError
from lookbook.tasks.datasets import workbooks
from lookbook.tasks.datasets.catalogue import Catalogue, read_catalogue
from lookbook.tasks.datasets.catalogue_sheets import Columns
from lookbook.tasks.datasets.sources.local import FolderSource
from tests.support.workbooks import MAIN, compound, ods, packed, xls, xlsb, xlsx

ROWS: list[list[Any]] = [["id", "name", "price"], [1163, "Boots", 10.5], [1164, "Bag", None]]


def read(folder: Path, data: bytes, name: str = "products.xlsx", columns: Columns | None = None) -> Catalogue:
    (folder / name).write_bytes(data)
    return read_catalogue(list(FolderSource(folder).files()), columns)


def column(catalogue: Catalogue, name: str) -> list[Any]:
    values: list[Any] = catalogue.rows[name].to_pylist()
    return values


def rules(catalogue: Catalogue) -> list[tuple[str, str, str]]:
    return [(reject.kind, reject.locator, reject.rule) for reject in catalogue.rejects]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("products.xlsx", xlsx(ROWS)),
        ("products.XLSM", xlsx(ROWS)),
        ("products.ods", ods(ROWS)),
        ("products.xlsb", xlsb(ROWS)),
        ("products.xls", xls(ROWS)),
        ("an-export.csv", xlsx(ROWS)),
        ("an-export.xls", b"id\tname\tprice\n1163\tBoots\t10.5\n1164\tBag\t\n"),
    ],
)
def test_a_workbook_is_known_by_its_first_bytes_and_read_whatever_its_kind(
    tmp_path: Path, name: str, data: bytes
) -> None:
    catalogue = read(tmp_path, data, name)
    assert column(catalogue, "product_key") == ["1163", "1164"]
    assert column(catalogue, "price") == [10.5, None]
    assert (column(catalogue, "line"), catalogue.rows_found, catalogue.files) == ([2, 3], 2, [name])


def test_cells_have_the_types_that_a_person_sees(tmp_path: Path) -> None:
    day = datetime.date(2024, 2, 29)
    header = ["id", "code", "when", "sum", "sold", "mixed", "lost"]
    first: list[Any] = ["00123", "1.10", day, "=A1|sum", True, 5, "#N/A"]
    catalogue = read(tmp_path, xlsx([header, first, ["00124", "1.1", None, "=A1", False, "five", "#REF!"]]))
    assert column(catalogue, "product_key") == ["00123", "00124"]
    assert column(catalogue, "code") == ["1.10", "1.1"]
    assert column(catalogue, "when") == [day, None]
    assert column(catalogue, "sum") == ["sum", None]
    assert column(catalogue, "sold") == [True, False]
    assert column(catalogue, "mixed") == ["5", "five"]
    assert column(catalogue, "lost") == [None, None]


def test_ids_that_are_numbers_of_a_workbook_have_no_decimals(tmp_path: Path) -> None:
    catalogue = read(tmp_path, xlsx([["sku", "n"], [1163.0, 1], [12345678901234, 2], [1.5, 3], ["A-7", 4]]))
    assert column(catalogue, "product_key") == ["1163", "12345678901234", "1.5", "A-7"]


def test_titles_and_empty_rows_stand_above_the_header(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        [],
        ["Spring 2024", None, None, None],
        [],
        [None, "id", "name", "File Name"],
        [None, 1, "a", "1.jpg"],
        [],
    ]
    catalogue = read(tmp_path, xlsx([*rows, [None, 2, "b", "2.jpg"]]))
    assert column(catalogue, "file_name") == ["1.jpg", "2.jpg"]
    assert column(catalogue, "line") == [5, 7]


def test_the_first_sheet_that_is_a_catalogue_is_taken_one_that_is_hidden_last(tmp_path: Path) -> None:
    sheets: Sequence[Any] = ([["Read me"], ["Nothing here"]], [], [["id", "x"], [1, 1]], [["id", "x"], [2, 1]])
    assert column(read(tmp_path, xlsx(*sheets)), "product_key") == ["1"]
    assert column(read(tmp_path, xlsx(*sheets, hidden=[2])), "product_key") == ["2"]


def test_a_row_without_an_id_is_a_reject_with_its_number(tmp_path: Path) -> None:
    catalogue = read(tmp_path, xlsx([*ROWS, [None, "Total", 10.5]]))
    assert rules(catalogue) == [("row", "products.xlsx:4", "bad_id")]
    assert "Total" in catalogue.rejects[0].raw
    assert catalogue.rows_found == 3


def test_a_column_that_the_user_names_is_looked_for_in_every_sheet(tmp_path: Path) -> None:
    data = xlsx([["a"], ["x"]], [["artikel"], ["y"]])
    assert column(read(tmp_path, data, columns=Columns(key="artikel")), "product_key") == ["y"]
    with pytest.raises(UsageError, match="--key gone: it has no such column; it has a"):
        read(tmp_path, data, columns=Columns(key="gone"))


BEYOND = f'<worksheet xmlns="{MAIN}"><sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="1048576">'


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (xlsx(ROWS)[:-200], "bad_workbook"),
        (xlsx("<worksheet"), "bad_workbook"),
        (packed({"word/document.xml": "<w/>"}), "bad_workbook"),
        (compound("Anything", b"x"), "bad_workbook"),
        (compound("EncryptedPackage", b"x"), "encrypted"),
        (ods(ROWS, encrypted=True), "encrypted"),
        (xlsx(f'{BEYOND}<c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>'), "archive_bomb"),
    ],
)
def test_what_cannot_be_read_is_a_named_reject_and_the_other_catalogue_counts(
    tmp_path: Path, data: bytes, rule: str
) -> None:
    (tmp_path / "other.csv").write_text("id,x\n1,2\n")
    catalogue = read(tmp_path, data)
    assert rules(catalogue) == [("file", "products.xlsx", rule)]
    assert column(catalogue, "product_key") == ["1"]


def test_a_workbook_that_unpacks_to_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "Renderer", None)  # no process is started for it
    large = xlsx(ROWS, more={f"{number}": bytes(64 * 1024**2) for number in range(17)})
    catalogue = read(tmp_path, large)
    assert rules(catalogue) == [("file", "products.xlsx", "archive_bomb")]


def test_a_document_and_the_lock_of_an_open_workbook_are_no_catalogue(tmp_path: Path) -> None:
    (tmp_path / "~$products.xlsx").write_bytes(b"\x05Me" + bytes(162))
    (tmp_path / "letter.docx").write_bytes(packed({"word/document.xml": "<w/>"}))
    catalogue = read(tmp_path, xlsx(ROWS))
    assert catalogue.files == ["products.xlsx"]
    assert not catalogue.rejects
    assert pa.types.is_float64(catalogue.rows["price"].type)
