"""The catalogue as it is found: types, repairs, rejects, and the ways a file can be odd."""

from __future__ import annotations

import csv
import datetime
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lookbook.tasks.datasets.catalogue import Catalogue, read_catalogue
from lookbook.tasks.datasets.catalogue_types import SourceReject
from lookbook.tasks.datasets.sources.local import FolderSource, ZipSource

REAL = Path(__file__).parents[4] / "shared" / "data" / "fashion-small-1000.zip"
NAMES = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
SHORT = "id,year,productDisplayName"


def _read(folder: Path, **files: str | bytes) -> Catalogue:
    """Read the catalogue of a folder, after writing CSV files that are named by keyword into it."""
    for name, data in files.items():
        _write(folder, name + ".csv", data)
    return read_catalogue(list(FolderSource(folder).files()))


def _write(folder: Path, name: str, data: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def _column(catalogue: Catalogue, name: str) -> list[Any]:
    values: list[Any] = catalogue.rows[name].to_pylist()
    return values


def _balances(catalogue: Catalogue) -> bool:
    rows: int = catalogue.rows.num_rows
    return catalogue.rows_found == rows + sum(reject.kind == "row" for reject in catalogue.rejects)


def _rules(catalogue: Catalogue) -> list[tuple[str, str, str]]:
    return [(reject.kind, reject.locator, reject.rule) for reject in catalogue.rejects]


# styles.csv


def test_types_are_those_a_person_would_choose(tmp_path: Path) -> None:
    row = "1551,Unisex,Sporting Goods,Sports Equipment,Footballs,Orange,Fall,2012.0,,Puma 007"
    catalogue = _read(tmp_path, styles=f"{NAMES}\n{row}\n")
    assert catalogue.rows.schema.names == [
        *["file", "line", "product_key", "outcome", "repaired", "file_name"],
        *NAMES.split(","),
    ]
    assert catalogue.rows.schema.field("id").type == pa.int64()
    assert catalogue.rows.schema.field("year").type == pa.int64()
    (found,) = catalogue.rows.to_pylist()
    assert found == {
        "file": "styles.csv", "line": 2, "product_key": "1551", "outcome": "", "repaired": False, "file_name": None,
        "id": 1551, "gender": "Unisex", "masterCategory": "Sporting Goods", "subCategory": "Sports Equipment",
        "articleType": "Footballs", "baseColour": "Orange", "season": "Fall", "year": 2012, "usage": None,
        "productDisplayName": "Puma 007",
    }  # fmt: skip
    assert catalogue.files == ["styles.csv"]


@pytest.mark.parametrize(
    ("tail", "name"),
    [
        ("Nike Shoe, Blue", "Nike Shoe, Blue"),
        ("Nike Shoe ,  Blue ,, x", "Nike Shoe ,  Blue ,, x"),
        ('Nike "Air", Blue', 'Nike "Air", Blue'),
        ('"Nike, Air", Blue', '"Nike, Air", Blue'),
        ('Nike, "Air, Blue"', 'Nike, "Air, Blue"'),
        ('"Nike Air', '"Nike Air'),
        ('"Nike" Air', '"Nike" Air'),
        ('"Nike" Air, Blue', '"Nike" Air, Blue'),
    ],
)
def test_ragged_row_is_repaired_without_loss(tmp_path: Path, tail: str, name: str) -> None:
    catalogue = _read(tmp_path, styles=f"{SHORT}\n1,2011,{tail}\n2,2012,Next\n")
    assert _column(catalogue, "productDisplayName") == [name, "Next"]
    assert _column(catalogue, "repaired") == [True, False]
    assert catalogue.rejects == []


def test_overflow_goes_to_the_last_text_column_wherever_it_stands(tmp_path: Path) -> None:
    catalogue = _read(tmp_path, styles="id,productDisplayName,year\n1,Shoe, blue,2011\n")
    assert catalogue.rows.select(["productDisplayName", "year"]).to_pylist() == [
        {"productDisplayName": "Shoe, blue", "year": 2011}
    ]


def test_well_quoted_commas_quotes_and_lines_are_no_repair(tmp_path: Path) -> None:
    catalogue = _read(tmp_path, styles=f'{SHORT}\n1,2011,"Shoe, ""Air""\nsecond line"\n2,2012,Next\n')
    assert _column(catalogue, "productDisplayName") == ['Shoe, "Air"\nsecond line', "Next"]
    assert _column(catalogue, "line") == [2, 4]
    assert _column(catalogue, "repaired") == [False, False]


def test_lines_of_a_well_quoted_field_are_no_records_whatever_they_look_like(tmp_path: Path) -> None:
    text = f'{SHORT}\n1,2011,"Per 100 g:\n12,2012, sugar\n3,2013, salt"\n2,2012,"plain"\n'
    catalogue = _read(tmp_path, styles=text)
    assert _column(catalogue, "id") == [1, 2], "as RFC 4180 has it"
    assert _column(catalogue, "repaired") == [False, False]


@pytest.mark.parametrize("closing", ['4,2014,"Well quoted', '4,2014,30" by 40'])
def test_stray_quote_does_not_swallow_the_rows_after_it(tmp_path: Path, closing: str) -> None:
    text = f'{SHORT}\n1,2011,"Waist 30\n2,2012,Two\n3,2013,Three\n{closing}"\n5,2015,Five\n'
    catalogue = _read(tmp_path, styles=text)
    assert _column(catalogue, "id") == [1, 2, 3, 4, 5]
    assert _column(catalogue, "productDisplayName")[0] == '"Waist 30'
    assert _column(catalogue, "repaired")[0] is True


def test_rejected_rows_keep_line_and_raw_text(tmp_path: Path) -> None:
    bad = ["2,2012", "x,2012,No id", ",2012,Empty id", "5,soon,Bad year", "99999999999999999999,2012,Too big"]
    catalogue = _read(tmp_path, styles="\n".join([SHORT, "1,2011,Good", *bad, "", "9,,No year"]))
    assert _rules(catalogue) == [
        ("row", "styles.csv:3", "ragged_row"),
        ("row", "styles.csv:4", "bad_id"),
        ("row", "styles.csv:5", "bad_id"),
        ("row", "styles.csv:6", "bad_year"),
        ("row", "styles.csv:7", "bad_id"),
    ]
    assert [reject.raw for reject in catalogue.rejects] == bad
    assert _column(catalogue, "line") == [2, 9]
    assert _column(catalogue, "year") == [2011, None]
    assert catalogue.rows_found == 7


def test_first_of_rows_with_one_id_counts(tmp_path: Path) -> None:
    _write(tmp_path, "myntradataset/styles.csv", f"{SHORT}\n1,2011,Nested\n3,2013,Only nested\n")
    catalogue = _read(tmp_path, styles=f"{SHORT}\n1,2011,First\n2,2012,Two\n1.0,2011,Again\n")
    assert list(zip(_column(catalogue, "productDisplayName"), _column(catalogue, "outcome"), strict=True)) == [
        ("First", ""),
        ("Two", ""),
        ("Again", "duplicate"),
        ("Nested", "duplicate"),
        ("Only nested", ""),
    ]
    assert catalogue.files == ["styles.csv", "myntradataset/styles.csv"]
    assert catalogue.rows_found == 5


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    text = end.join([SHORT, "1,2011,Café – £5", "2,2012,Plain", ""])
    catalogue = _read(tmp_path, styles=text.encode(encoding))
    assert _column(catalogue, "productDisplayName") == ["Café – £5", "Plain"]
    assert _column(catalogue, "line") == [2, 3]
    assert _column(catalogue, "repaired") == [False, False]


def test_one_odd_line_does_not_spoil_the_others(tmp_path: Path) -> None:
    lines = [SHORT.encode(), "1,2011,Café".encode(), "2,2012,Café".encode("latin-1"), b"3,2013,\x81"]
    assert _column(_read(tmp_path, styles=b"\n".join(lines)), "productDisplayName") == ["Café", "Café", "\x81"]


def test_separators_that_are_no_line_ends_stay_in_the_text(tmp_path: Path) -> None:
    name = "a\x0bb\x0cc\x1cd\u2028e\x85f"
    assert _column(_read(tmp_path, styles=f"{SHORT}\n1,2011,{name}\n"), "productDisplayName") == [name]


def test_nul_characters_are_taken_out_and_marked(tmp_path: Path) -> None:
    catalogue = _read(tmp_path, styles=f"{SHORT}\n1,2011,Sh\0oe\n2,20\n\0,2012,x\n")
    assert _column(catalogue, "productDisplayName") == ["Shoe"]
    assert _column(catalogue, "repaired") == [True]
    assert [reject.raw for reject in catalogue.rejects] == ["2,20", r"\x00,2012,x"]


@pytest.mark.parametrize(
    ("data", "rules"),
    [
        (b"", ["empty_file"]),
        (b"\xef\xbb\xbf\r\n\r\n", ["empty_file"]),
        (f"{SHORT}\n".encode(), []),
        (SHORT.encode(), []),
        (b"name,year\nShoe,2011\n", ["no_id_column"]),
        (b"1551,2011,Shoe\n1552,2012,Boot\n", ["no_header"]),
        (b"\xff\xfei\x00d\x00", []),
        (b"\xff\xfe\x00\xd8i", ["bad_encoding"]),
    ],
)
def test_files_without_rows_have_a_defined_outcome(tmp_path: Path, data: bytes, rules: list[str]) -> None:
    catalogue = _read(tmp_path, styles=data)
    assert _rules(catalogue) == [("file", "styles.csv", rule) for rule in rules]
    assert (catalogue.rows.num_rows, catalogue.rows_found, catalogue.files) == (0, 0, ["styles.csv"])


def test_no_catalogue_at_all(tmp_path: Path) -> None:
    _write(tmp_path, "images/1.jpg", b"x")
    _write(tmp_path, "notes.csv", "when,what\n1,2\n")
    catalogue = _read(tmp_path)
    assert (catalogue.rows.num_rows, catalogue.files) == (0, [])
    told = [(reject.kind, reject.locator, reject.rule) for reject in catalogue.rejects]
    assert told == [("file", "notes.csv", "no_id_column")], "a table that nobody took is told"
    assert catalogue.rows.column_names[:3] == ["file", "line", "product_key"]


def test_semicolons_and_tabs_are_separators_too(tmp_path: Path) -> None:
    for delimiter in ";\t|":
        catalogue = _read(tmp_path, styles=f"{SHORT}\n1,2011,Shoe\n".replace(",", delimiter))
        assert _column(catalogue, "productDisplayName") == ["Shoe"]


def test_damaged_catalogue_in_an_archive_is_a_reject(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("styles.csv", f"{SHORT}\n1,2011,Shoe\n")
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    whole[whole.index(b"Shoe")] ^= 1
    (tmp_path / "a.zip").write_bytes(whole)
    assert _rules(read_catalogue(list(ZipSource(tmp_path / "a.zip").files()))) == [
        ("file", "styles.csv", "damaged_member")
    ]


def test_refused_catalogue_file_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "styles.csv").symlink_to("nowhere")
    assert _rules(_read(tmp_path)) == [("file", "styles.csv", "dangling_link")]


# images.csv and styles/<id>.json


def test_links_are_joined_by_the_stem_of_their_file(tmp_path: Path) -> None:
    links = "filename,link\n1.jpg,http://a.example/x,y\n3.jpg,http://a.example/3\n1.jpg,later\n,none\n4.jpg\n"
    catalogue = _read(tmp_path, styles=f"{SHORT}\n1,2011,One\n2,2012,Two\n", images=links)
    assert _column(catalogue, "link") == ["http://a.example/x,y", None]
    assert _column(catalogue, "file_name") == ["1.jpg", None]
    assert catalogue.links.to_pylist()[1] == {
        "file": "images.csv", "line": 3, "filename": "3.jpg", "link": "http://a.example/3",
    }  # fmt: skip
    assert catalogue.links.num_rows == 3
    assert _rules(catalogue) == [("link", "images.csv:6", "ragged_row"), ("link", "images.csv:5", "no_file_name")]
    assert _balances(catalogue)


def test_json_files_enrich_rows_in_kaggles_layout_or_flat(tmp_path: Path) -> None:
    about = {"description": {"value": "<p>Soft &amp; <b>warm</b></p><br/>Wash cold"}}
    data = {"price": 1299, "discountedPrice": "999.5", "brandName": "Nike", "ageGroup": "", "productDescriptors": about}
    _write(tmp_path, "styles/1.json", json.dumps({"notification": {}, "data": data}))
    _write(tmp_path, "styles/2.json", json.dumps({"brandName": "Pu\0ma\ud800", "description": "a < b"}))
    _write(tmp_path, "styles/99.json", "no row, never read")
    catalogue = _read(tmp_path, styles=f"{SHORT}\n1,2011,One\n2,2012,Two\n3,2013,Three\n")
    names = ["brandName", "price", "discountedPrice", "ageGroup", "description"]
    assert [tuple(row.values()) for row in catalogue.rows.select(names).to_pylist()] == [
        ("Nike", 1299.0, 999.5, None, "Soft & warm Wash cold"),
        ("Puma?", None, None, None, "a < b"),
        (None, None, None, None, None),
    ]
    assert catalogue.rejects == []


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"", b"[1]", b"\xff\xfe", b'{"data": 3}', b'{"price": "dear"}', b'{"price": NaN}', b'{"brandName": 7}',
        b"[" * 100_000, b'{"price": true}',
    ],
)  # fmt: skip
def test_malformed_json_is_a_reject_of_its_own_and_the_row_stays(tmp_path: Path, data: bytes) -> None:
    _write(tmp_path, "styles/1.json", data)
    catalogue = _read(tmp_path, styles=f"{SHORT}\n1,2011,One\n")
    assert _rules(catalogue) == [("style", "styles/1.json", "bad_json")]
    assert _column(catalogue, "brandName") == [None]
    assert _balances(catalogue)


# other catalogues


def test_other_csv_is_typed_as_a_person_would(tmp_path: Path) -> None:
    text = (
        "ID,code,price,when,sold,weight kg,Weight-kg,line,big,mixed\n"
        "7,00123,1.50,2024-02-29,true,1,2,a,99999999999999999999,1\n"
        "8,00124,2,2024-03-01,FALSE,,3.0,b,1,x\n"
    )
    catalogue = _read(tmp_path, products=text)
    table = catalogue.rows.drop_columns(["file", "line", "outcome", "repaired", "file_name"])
    assert {field.name: str(field.type) for field in table.schema} == {
        "product_key": "string", "ID": "int64", "code": "string", "price": "double", "when": "date32[day]",
        "sold": "bool", "weight_kg": "int64", "Weight_kg_": "int64", "line_": "string", "big": "string",
        "mixed": "string",
    }  # fmt: skip
    assert list(table.to_pylist()[1].values()) == [
        *["8", 8, "00124", 2.0, datetime.date(2024, 3, 1), False, None, 3, "b", "1", "x"]
    ]


def test_ids_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    catalogue = _read(tmp_path, products="id,name\n00123,a\n00124,b\n")
    assert _column(catalogue, "product_key") == _column(catalogue, "id") == ["00123", "00124"]


@pytest.mark.parametrize("name", ["file_name", "filename", "File_Name"])
def test_metadata_csv_names_products_by_their_file(tmp_path: Path, name: str) -> None:
    _write(tmp_path, "train/metadata.csv", f'{name},text\nimages/a.jpg,"A cat,\n3 years, old"\nb.png,"B\n,nothing\n')
    catalogue = _read(tmp_path)
    assert _column(catalogue, "product_key") == ["a", "b"]
    assert _column(catalogue, "file_name") == ["images/a.jpg", "b.png"]
    assert _column(catalogue, "text") == ["A cat,\n3 years, old", '"B']
    assert _rules(catalogue) == [("row", "train/metadata.csv:5", "no_file_name")]
    assert _balances(catalogue)


def test_files_of_one_name_in_two_folders_are_two_products(tmp_path: Path) -> None:
    for folder, label in (("train", "1"), ("test", "many")):
        _write(tmp_path, f"{folder}/metadata.csv", f"file_name,label\n1.jpg,{label}\n")
    catalogue = _read(tmp_path)
    assert sorted(_column(catalogue, "product_key")) == ["test/1", "train/1"]
    assert _column(catalogue, "outcome") == ["", ""]
    assert sorted(_column(catalogue, "label")) == ["1", "many"]


def test_other_catalogues_are_left_alone_beside_a_styles_csv(tmp_path: Path) -> None:
    assert _read(tmp_path, styles=f"{SHORT}\n1,2011,One\n", other="id,name\n5,x\n").files == ["styles.csv"]


def test_overflow_of_a_typed_catalogue_goes_to_its_text(tmp_path: Path) -> None:
    catalogue = _read(tmp_path, products="id,title,label\n1,one,3\n2,two, too,4\n")
    assert _column(catalogue, "title") == ["one", "two, too"]
    assert _column(catalogue, "label") == [3, 4]
    assert _column(catalogue, "repaired") == [False, True]
    without_text = _read(tmp_path, products="id,label\n1,3\n2,4,5\n")
    assert _rules(without_text) == [("row", "products.csv:3", "ragged_row")]
    assert _balances(without_text)


def test_parquet_keeps_its_types_and_leaves_out_embedded_images(tmp_path: Path) -> None:
    table = pa.table(
        {
            "file_name": ["a.jpg", None, "c.jpg"],
            "label": pa.array([1, 2, 3], pa.int16()),
            "tags": [["x"], [], None],
            "image": [{"bytes": b"\xff\xd8", "path": "a"}] * 3,
            "kind": pa.array(["s", "s", "t"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    catalogue = _read(tmp_path)
    assert catalogue.rows.select(["line", "product_key", "file_name", "label", "tags", "kind"]).to_pylist() == [
        {"line": 1, "product_key": "a", "file_name": "a.jpg", "label": 1, "tags": '["x"]', "kind": "s"},
        {"line": 3, "product_key": "c", "file_name": "c.jpg", "label": 3, "tags": None, "kind": "t"},
    ]
    assert "image" not in catalogue.rows.column_names
    assert catalogue.rows.schema.field("label").type == pa.int16()
    assert _rules(catalogue) == [("row", "data.parquet:2", "bad_id")]
    assert _balances(catalogue)


def test_unreadable_parquet_is_a_reject(tmp_path: Path) -> None:
    _write(tmp_path, "data.parquet", b"PAR1 cut off")
    assert _rules(_read(tmp_path)) == [("file", "data.parquet", "bad_parquet")]


# for any input

# Shorter than any record of ten fields: a line in quotes that looks like a record is taken for one, on purpose.
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)
_MESSY = st.text(st.sampled_from('",\n\r \t;ax1'), max_size=10)


def _in_memory(name: str, data: bytes) -> Catalogue:
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), name, data)
        return _read(Path(folder))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 10**6), *[_TEXT | _MESSY] * 3), max_size=8))
@example([(1, '"', "\r", "a,b"), (0, "\r0,", "", "")])
def test_values_written_by_the_csv_module_come_back(rows: list[tuple[int, str, str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(NAMES.split(","))
    writer.writerows([number, *[first] * 4, second, second, 2012, "", third] for number, first, second, third in rows)
    catalogue = _in_memory("styles.csv", text.getvalue().encode())
    columns = [_column(catalogue, name) for name in ("id", "gender", "season", "productDisplayName")]
    found = [(number, *[value or "" for value in values]) for number, *values in zip(*columns, strict=True)]
    assert found == rows
    assert not any(_column(catalogue, "repaired"))
    assert catalogue.rejects == []
    assert catalogue.rows_found == len(rows)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["styles.csv", "metadata.csv", "x.tsv"]),
    st.binary(max_size=80)
    | st.lists(st.sampled_from([b"1", b",", b'"', b"\n", b"\r", b"x.jpg", b"\0", b"\xe9"])).map(b"".join),
)
def test_books_balance_for_any_bytes(name: str, data: bytes) -> None:
    header = b"id\tyear\ttext\n" if name.endswith("tsv") else b"id,year,text\n"
    assert _balances(_in_memory(name, header + data))
    assert _balances(_in_memory(name, data))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_books_balance_for_a_damaged_file_and_other_lines_stay(data: st.DataObject) -> None:
    good = b"".join(b"%d,2011,Shoe number %d\r\n" % (i, i) for i in range(1, 40))
    place = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:place] + data.draw(st.binary(min_size=1, max_size=3)) + good[place + 1 :]
    catalogue = _in_memory("styles.csv", SHORT.encode() + b"\r\n" + damaged)
    assert _balances(catalogue)
    intact = {row["productDisplayName"] for row in catalogue.rows.to_pylist()}
    assert sum(f"Shoe number {i}" in intact for i in range(1, 40)) >= 37, "at most two lines are touched"


def test_reject_ids_depend_on_what_and_where() -> None:
    reject = SourceReject("row", "styles.csv:3", "ragged_row", "why", "1,2")
    assert reject.reject_id == SourceReject("row", "styles.csv:3", "ragged_row", "another reason", "1,2").reject_id
    others = [
        SourceReject("link", "styles.csv:3", "ragged_row", "", "1,2"),
        SourceReject("row", "styles.csv:4", "ragged_row", "", "1,2"),
    ]
    assert len({reject.reject_id, *[other.reject_id for other in others]}) == 3
    assert reject.reject_id.startswith("r-")
    assert len(reject.reject_id) == 14


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.exists(), reason="the real photos are not here")
def test_real_catalogue() -> None:
    catalogue = read_catalogue(list(ZipSource(REAL).files()))
    with zipfile.ZipFile(REAL) as archive:
        expected = list(csv.DictReader(io.StringIO(archive.read("styles.csv").decode())))
    assert (catalogue.rows_found, catalogue.rows.num_rows, catalogue.rejects) == (1000, 1000, [])
    assert set(_column(catalogue, "outcome")) == {""}
    for found, row in zip(catalogue.rows.to_pylist(), expected, strict=True):
        assert found["id"] == int(row["id"])
        assert found["year"] == (int(float(row["year"])) if row["year"] else None)
        assert (found["productDisplayName"] or "") == row["productDisplayName"]


def test_forty_thousand_rows_of_a_kaggle_file(tmp_path: Path) -> None:
    row = "Men,Apparel,Topwear,Tshirts,Grey,Fall,2010,Casual"
    lines = [f"{i},{row},Brand Tshirt {i}" + (", blue" if i % 1000 == 0 else "") for i in range(44_000)]
    catalogue = _read(tmp_path, styles="\n".join([NAMES, *lines]))
    assert catalogue.rows.num_rows == catalogue.rows_found == 44_000
    assert sum(_column(catalogue, "repaired")) == 44
    assert _column(catalogue, "productDisplayName")[-1] == "Brand Tshirt 43999"
