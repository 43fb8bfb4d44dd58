"""Rows and their photos, from the listing to the snapshot: catalogues as real collections have them."""

from __future__ import annotations

import gzip
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import UsageError
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.tasks.datasets.inventory import take_inventory
from lookbook.tasks.datasets.manifest import read_table, require_published
from lookbook.tasks.datasets.publish import finalize
from lookbook.tasks.datasets.schemas import PRODUCTS_SCHEMA
from lookbook.tasks.exports.filters import read_conditions
from lookbook.tasks.exports.plan import resolve, select
from lookbook.tasks.exports.request import read_request
from lookbook.tasks.exports.rows import read_rows
from lookbook.tasks.images.batch import process_batch
from tests.support.cases import CATALOGUES, PUBLIC, image_case
from tests.support.pipeline import photo, request, write_collection

Found = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace whose registry and warehouse nobody asks: all ends at CURRENT."""
    return local_workspace(tmp_path / "home")


def ingested(place: Workspace, source: Path, **options: Any) -> Found:
    """Return the summary, and the rows of the products table."""
    asked = request(place, source, **options)
    inventory = take_inventory(asked)
    for batch in inventory.batches:
        process_batch(place.lake, batch, threads=2)
    summary = finalize(asked, inventory, datetime.now(UTC)).summary
    products = read_table(place.lake, require_published(place.lake, "things").manifest, "products")
    return summary, products.to_pylist()


def matched(found: Found) -> dict[str, str | None]:
    return {row["product_key"]: row["image_key"] for row in found[1]}


def collection(folder: Path, names: list[str], catalogue: str, name: str = "products.csv") -> Path:
    write_collection(folder, {name: photo(number) for number, name in enumerate(names)})
    (folder / name).write_text(catalogue, encoding="utf-8")
    return folder


@pytest.mark.parametrize(("case", "right"), CATALOGUES.items())
def test_each_product_of_a_case_has_its_own_photo(place: Workspace, case: str, right: dict[str, str | None]) -> None:
    summary, rows = ingested(place, image_case(case))
    assert matched((summary, rows)) == right
    assert summary["rows"]["found"] == len(rows) == len(right)
    assert sum(summary["matched_by"].values()) == summary["rows"]["matched"] == sum(map(bool, right.values()))


def test_a_row_that_several_files_fit_is_ambiguous_and_names_them(place: Workspace, tmp_path: Path) -> None:
    source = collection(tmp_path / "in", ["a/front.jpg", "b/front.jpg"], "id,file_name\n1,front.jpg\n")
    summary, (row,) = ingested(place, source)
    assert summary["rows"]["ambiguous_image"] == 1
    assert (row["outcome"], row["missing_reason"], row["image_key"]) == ("ambiguous_image", "several_files", None)
    assert (row["file_name"], row["candidates"]) == ("front.jpg", "a/front.jpg, b/front.jpg")


def test_rows_and_cells_may_name_several_images_of_a_product(place: Workspace, tmp_path: Path) -> None:
    names = ["1a.jpg", "1b.jpg", "2a.jpg", "2b.jpg"]
    found = ingested(
        place,
        collection(tmp_path / "in", names, 'id,image\n1,"1a.jpg,1b.jpg"\n2,2a.jpg\n2,2b.jpg\n3,"2a.jpg,gone.jpg"\n'),
    )
    images = read_table(place.lake, require_published(place.lake, "things").manifest, "images").to_pylist()
    assert {image["key"]: image["product_key"] for image in images} == {name: name[0] for name in names}
    assert [row["outcome"] for row in found[1]] == ["matched", "matched", "duplicate", "matched"]
    assert [row["missing_reason"] for row in found[1]] == [None, None, None, "no_image:gone.jpg"]


def test_a_name_of_several_that_several_files_fit_is_ambiguous_and_not_absent(place: Workspace, tmp_path: Path) -> None:
    names = ["1.jpg", "x/2.jpg", "y/2.jpg", "3/b.jpg", "4/b.jpg", "3/c.jpg", "4/c.jpg"]
    rows = 'id,file_name\n1,"1.jpg,2.jpg,gone.jpg"\n2,"b.jpg,c.jpg"\n'
    _, (partly, wholly) = ingested(place, collection(tmp_path / "in", names, rows))
    assert (partly["outcome"], partly["image_key"]) == ("matched", "1.jpg")
    assert partly["missing_reason"] == "no_image:gone.jpg; several_files:2.jpg"
    assert partly["candidates"] == "x/2.jpg, y/2.jpg"
    assert (wholly["outcome"], wholly["missing_reason"]) == ("ambiguous_image", "several_files")
    assert wholly["candidates"] == "3/b.jpg, 4/b.jpg, 3/c.jpg, 4/c.jpg"


@pytest.mark.parametrize("packed", ["nothing", "all", "beyond"])
def test_a_file_beyond_the_limit_makes_a_name_ambiguous_unless_it_is_a_copy(
    place: Workspace, tmp_path: Path, packed: str
) -> None:
    names = ["a/1.jpg", "b/2.jpg", "c/3.jpg", "d/deep/1.jpg", "d/deep/2.jpg", "e/deep/9.jpg", "f/deep/9.jpg"]
    files = dict(zip(names, (photo(number) for number in (1, 2, 3, 1, 4, 5, 6)), strict=True))
    for name in ("b/2.jpg", "d/deep/2.jpg"):  # of one size
        files[name] = files[name].ljust(2000, b"\0")
    files["products.csv"] = b"id,file_name\n1,1.jpg\n2,2.jpg\n3,3.jpg\n9,e/deep/9.jpg\n"
    inside = [name for name in names if packed == "all" or (packed == "beyond" and "/deep/" in name)]
    source = tmp_path / "in"
    write_collection(source, {name: data for name, data in files.items() if name not in inside})
    if inside:
        with zipfile.ZipFile(source / "z.zip", "w") as archive:
            for name in inside:
                archive.writestr(name, files[name])
    _, rows = ingested(place, source, limit=3)
    assert [row["missing_reason"] for row in rows] == [None, "several_files", None, "beyond_limit"]
    key = {name: f"z.zip/{name}" if name in inside else name for name in names}
    assert rows[0]["image_key"] == key["a/1.jpg"]
    assert rows[1]["candidates"] == f"{key['b/2.jpg']}, {key['d/deep/2.jpg']}"


JSON_LINES = """{"id": 1.10, "score": 1.50, "image": {"path": "p/1.jpg", "bytes": null}}
{"id": 1.1, "score": 2, "image": {"src": "https://shop.example/p/2.jpg?v=1", "width": 300}}
{"id": 1.2, "score": 2.25, "image": [{"url": "3.jpg"}, {"url": "4.jpg"}]}
{"id": "A-1", "score": null, "image": null}
"""


def test_ids_of_json_lines_are_as_written_and_images_may_be_objects(place: Workspace, tmp_path: Path) -> None:
    names = ["p/1.jpg", "p/2.jpg", "p/3.jpg", "p/4.jpg"]
    _, rows = ingested(place, collection(tmp_path / "in", names, JSON_LINES, "products.jsonl"))
    assert [row["product_key"] for row in rows] == ["1.10", "1.1", "1.2", "A-1"]
    assert [row["id"] for row in rows] == ["1.10", "1.1", "1.2", "A-1"]
    assert [row["score"] for row in rows] == [1.5, 2, 2.25, None]
    assert [row["image_key"] for row in rows] == ["p/1.jpg", "p/2.jpg", "p/3.jpg", None]
    assert [row["file_name"] for row in rows] == [
        "p/1.jpg",
        "https://shop.example/p/2.jpg?v=1",
        '["3.jpg", "4.jpg"]',
        None,
    ]
    assert '"width": 300' in rows[1]["image"]


def test_images_of_parquet_may_be_objects(place: Workspace, tmp_path: Path) -> None:
    source = collection(tmp_path / "in", ["p/1.jpg", "p/2.jpg"], "")
    (source / "products.csv").unlink()
    images = [{"url": "p/2.jpg", "width": 3}, {"url": None, "width": 4}]
    pq.write_table(pa.table({"sku": [2.0, 3.0], "image": images}), source / "products.parquet")
    _, rows = ingested(place, source)
    assert [(row["product_key"], row["image_key"]) for row in rows] == [("2", "p/2.jpg"), ("3", None)]
    assert rows[1]["image"] == '{"url": null, "width": 4}'


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("products.csv", "id,name\n1.0,a\n2.0,b\n"),
        ("styles.csv", "id,name\n1.0,a\n2.0,b\n"),
        ("products.jsonl", '{"id": 1.0, "name": "a"}\n{"id": 2.0, "name": "b"}\n'),
    ],
)
@pytest.mark.parametrize("ending", [".0", ""])
def test_ids_with_decimals_are_those_that_files_are_called_by(
    place: Workspace, tmp_path: Path, name: str, rows: str, ending: str
) -> None:
    keys = [f"1{ending}", f"2{ending}"]
    found = ingested(place, collection(tmp_path / "in", [f"{key}.jpg" for key in keys], rows, name))
    assert matched(found) == {key: f"{key}.jpg" for key in keys}
    assert [row["id"] for row in found[1]] == [1, 2]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_catalogue_of_a_public_collection_needs_no_option(place: Workspace, tmp_path: Path, name: str) -> None:
    catalogue, text, right = PUBLIC[name]
    found = ingested(place, collection(tmp_path / "in", list(right.values()), text, catalogue))
    assert matched(found) == right


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("article_id,product_type", "article_id"),
        ("SKU,name", "SKU"),
        ("label,bild", "bild"),
        ("Image Path,label", "Image Path"),
        ("filename,id", "id"),
    ],
)
def test_the_columns_are_found_by_known_names_and_by_what_fits(
    place: Workspace, tmp_path: Path, header: str, column: str
) -> None:
    at = header.split(",").index(column)
    rows = ["".join(f"{number if at == place else 'x'}," for place in range(2))[:-1] for number in ("00107", "00108")]
    found = ingested(place, collection(tmp_path / "in", ["00107.jpg", "00108.jpg"], "\n".join([header, *rows])))
    assert matched(found) == {"00107": "00107.jpg", "00108": "00108.jpg"}


@pytest.mark.parametrize(
    ("names", "catalogue", "right"),
    [
        (["1.jpg", "2.jpg", "IMG7.jpg"], "id,size\nA1,1\nA2,2\nA3,1\n", [None, None, None]),
        (["shoe.jpg", "hat.jpg"], "sku,label\nx,shoe\ny,hat\nz,shoe\n", [None, None, None]),
        (["1.jpg", "2.jpg", "a.jpg"], "sku,photo,link\nx,a.jpg,https://s/1\ny,no.jpg,https://s/2\n", ["a.jpg", None]),
        (
            ["100.jpg", "101.jpg", "102.jpg", "103.jpg"],
            "id,code\n100,102\n9,100\n8,101\n7,103\n",
            ["102.jpg", "100.jpg", "101.jpg", "103.jpg"],
        ),
        (["a.jpg"], "id,filename,image\n1,m1.pdf,a.jpg\n", ["a.jpg"]),
        (["a.jpg", "a.png"], "image,label\na.jpg,x\na.png,y\n", ["a.jpg", "a.png"]),
        (["1.1.jpg", "1.10.jpg"], "image,label\n1.1,x\n1.10,y\n", ["1.1.jpg", "1.10.jpg"]),
        (["here.jpg"], "id,image\n1,gone.jpg\n1,here.jpg\n", ["here.jpg", "here.jpg"]),
        (["a.jpg"], "image,label\n.,x\na.jpg,y\n[],z\n", [None, "a.jpg", None]),
    ],
    ids=[
        "sizes are no files",
        "labels are no files",
        "a page is no photo",
        "a key that fits by chance",
        "a known name that fits nothing",
        "endings tell products apart",
        "decimals tell products apart",
        "a further row helps",
        "no name at all",
    ],
)
def test_no_column_is_taken_for_what_it_is_not(
    place: Workspace, tmp_path: Path, names: list[str], catalogue: str, right: list[str | None]
) -> None:
    _, rows = ingested(place, collection(tmp_path / "in", names, catalogue))
    assert [row["image_key"] for row in rows] == right


@pytest.mark.parametrize("header", ["image,label", "sku,label"])
def test_a_table_that_is_called_styles_and_is_none_is_read_as_any_other(
    place: Workspace, tmp_path: Path, header: str
) -> None:
    value = "a.jpg" if header.startswith("image") else "a"
    found = ingested(place, collection(tmp_path / "in", ["a.jpg"], f"{header}\n{value},x\n", "styles.csv"))
    assert matched(found) == {"a": "a.jpg"}


@pytest.mark.parametrize(
    "text", [b"\xff\xfe{", b'{"\\ud800": 1, "id": 1}\n', b"no\nnor this\n", b'{"id": [], "image": []}\n', b""]
)
def test_a_hostile_json_lines_file_is_an_outcome_and_no_crash(place: Workspace, tmp_path: Path, text: bytes) -> None:
    source = write_collection(tmp_path / "in", {"1.jpg": photo(1), "metadata.jsonl": text, "secret": b"x"})
    (source / "secret").chmod(0)
    summary, _ = ingested(place, source)
    assert summary["files"]["found"] == 3
    assert summary["images"]["loaded"] == 1


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_may_be_named(place: Workspace, tmp_path: Path, kind: str) -> None:
    source = write_collection(tmp_path / "in", {"1.jpg": photo(1), "2.jpg": photo(2)})
    table = pa.table({"id": ["1", "2"], "Best Shot": ["2.jpg", "1.jpg"], "ours": ["x", "y"]})
    if kind == "csv":
        table.to_pandas().to_csv(source / "p.csv", index=False)
    else:
        pq.write_table(table, source / "p.parquet")
    assert matched(ingested(place, source)) == {"1": "1.jpg", "2": "2.jpg"}, "what it finds by itself"
    assert matched(ingested(place, source, key="ours", image_column="best shot")) == {"x": "2.jpg", "y": "1.jpg"}
    with pytest.raises(UsageError, match=r"--key nope: it has no such column; it has id, Best Shot, ours"):
        ingested(place, source, key="nope")


HF = """{"file_name": "1.jpg", "label": "1.10", "n": 1}
{"file_name": "2.jpg", "n": 2, "tags": ["a"]}
no
[1]
{"n": 3}
"""


def test_json_lines_are_a_catalogue_whose_texts_stay_texts(place: Workspace, tmp_path: Path) -> None:
    summary, rows = ingested(place, collection(tmp_path / "in", ["1.jpg", "2.jpg"], HF, "metadata.jsonl"))
    assert [(row["image_key"], row["label"], row["n"], row["tags"], row["line"]) for row in rows] == [
        ("1.jpg", "1.10", 1, None, 1),
        ("2.jpg", None, 2, '["a"]', 2),
    ]
    assert (summary["rows"]["found"], summary["rows"]["rejected"]) == (5, 3)


@pytest.mark.parametrize("packed", [b"id,name\n1,a\n", b'{"id": 1, "name": "a"}\n'])
def test_a_catalogue_may_be_packed(place: Workspace, tmp_path: Path, packed: bytes) -> None:
    source = write_collection(tmp_path / "in", {"1.jpg": photo(1)})
    name = "rows.csv.gz" if packed.startswith(b"id") else "rows.jsonl.gz"
    (source / name).write_bytes(gzip.compress(packed))
    assert matched(ingested(place, source)) == {"1": "1.jpg"}
    (source / name).write_bytes(gzip.compress(packed)[:-9])
    summary, _ = ingested(place, source)
    assert summary["files"]["rejected"] == 1, "half a file is told"


def test_a_run_of_which_hardly_a_row_is_matched_says_why_and_what_to_do(place: Workspace, tmp_path: Path) -> None:
    rows = "".join(f"{number},shoe\n" for number in range(20))
    summary, _ = ingested(place, collection(tmp_path / "in", ["5.jpg", "IMG_77.jpg"], f"id,name\n{rows}"))
    assert summary["hint"].startswith("1 of 20 catalogue rows found their image. products.csv asks for '0', and files ")
    assert "--key and --image-column" in summary["hint"]
    summary, _ = ingested(place, collection(tmp_path / "two", ["1.jpg", "2.jpg"], "id\n1\n2\n3\n"))
    assert summary["hint"] == ""


def test_headers_in_any_script_stay_readable_and_can_be_filtered(place: Workspace) -> None:
    _, rows = ingested(place, image_case("m-headers"))
    names = [name for name in rows[0] if name not in PRODUCTS_SCHEMA.names]
    assert {"商品名", "Größe", "Цвет"} <= set(names)
    asked = read_request(
        {"dataset": "things", "filter": read_conditions(["Größe=M"], None, [], None), "label": "商品名"}
    )
    manifest = require_published(place.lake, "things").manifest
    found = read_rows(place.lake, manifest)
    chosen = select(found, resolve(asked, manifest, found, found.table)).table
    assert chosen.select(["product_key", "Цвет"]).to_pylist() == [{"product_key": "1", "Цвет": "красный"}]


def test_whole_numbers_that_a_float_column_wrote_are_ids(place: Workspace, tmp_path: Path) -> None:
    found = ingested(place, collection(tmp_path / "in", ["1163.jpg", "7.jpg"], "id,name\n1163.0,a\n7.0,b\n"))
    assert matched(found) == {"1163": "1163.jpg", "7": "7.jpg"}


def test_a_column_of_the_catalogue_is_kept_whatever_ours_are_called(place: Workspace, tmp_path: Path) -> None:
    _, (row,) = ingested(place, collection(tmp_path / "in", ["1.jpg"], "id,sha256,matched_by,outcome\n1,a,b,c\n"))
    assert (row["sha256_"], row["matched_by_"], row["outcome_"]) == ("a", "b", "c")


def test_litter_is_no_image_and_no_catalogue_but_counted(place: Workspace, tmp_path: Path) -> None:
    source = collection(tmp_path / "in", ["1.jpg", "@eaDir/2.jpg", ".thumbnails/3.jpg", ".4.jpg"], "id\n1\n")
    (source / ".ipynb_checkpoints").mkdir()
    collection(source / ".ipynb_checkpoints", [], "id\n5\n")
    summary, rows = ingested(place, source)
    assert (summary["images"]["found"], len(rows), summary["ignored"]) == (1, 1, {"litter": 4})


def test_a_kind_of_image_that_is_not_read_is_named(place: Workspace, tmp_path: Path) -> None:
    source = collection(tmp_path / "in", ["1.jpg"], "id\n1\n")
    write_collection(source, {"2.jxl": b"\xff\x0a" + bytes(40), "3.psd": b"8BPS" + bytes(40)})
    ingested(place, source)
    rejects = read_table(place.lake, require_published(place.lake, "things").manifest, "rejects").to_pylist()
    assert [(row["kind"], row["locator"], row["rule"], row["message"]) for row in rejects] == [
        ("ignored", "2.jxl", "unsupported", "JPEG XL is not read"),
        ("ignored", "3.psd", "unsupported", "Photoshop is not read"),
    ]


def test_every_file_of_a_source_ends_in_one_outcome(place: Workspace, tmp_path: Path) -> None:
    source = collection(tmp_path / "in", ["1.jpg", "2.jpg", "pic"], "id,name\n1,a\n", "styles.csv")
    write_collection(source, {"styles/1.json": b"{}", "styles/9.json": b"{}", "more.csv": b"id\n1\n", "a.zip": b"PK"})
    write_collection(source, {"notes.doc": b"text", ".DS_Store": b"x", "broken.jpg": b"x"})
    summary, _ = ingested(place, source, limit=3)
    assert summary["files"] == {
        "found": 11, "images": 3, "beyond_limit": 1, "catalogue": 2, "rejected": 0, "ignored": 5
    }  # fmt: skip
    assert summary["ignored"] == {"damaged_archive": 1, "litter": 1, "not_an_image": 1, "not_of_the_catalogue": 2}


def test_a_folder_with_its_images_in_archives_is_a_dataset_of_their_images(place: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "styles.csv").write_text("id,name\n1,a\n2,b\n3,c\n")
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        archive.writestr("2.jpg", photo(2))
    with zipfile.ZipFile(source / "images.zip", "w") as archive:
        archive.writestr("images/1.jpg", photo(1))
        archive.write(tmp_path / "old.zip", "old.zip")
    (source / "more.7z").write_bytes(b"7z")
    summary, rows = ingested(place, source)
    assert matched((summary, rows)) == {"1": "images.zip/images/1.jpg", "2": "images.zip/old.zip/2.jpg", "3": None}
    assert summary["files"] == {
        "found": 4, "images": 2, "beyond_limit": 0, "catalogue": 1, "rejected": 0, "ignored": 1
    }  # fmt: skip
    again, _ = ingested(place, source)
    assert (again["published"], again["images"]["unchanged"]) == (False, 2)


def test_archives_whose_names_hold_both_separators_keep_both_files(place: Workspace, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a\\1.jpg", photo(1))
        archive.writestr("a/1.jpg", photo(2))
    summary, _ = ingested(place, tmp_path / "a.zip")
    assert summary["images"]["loaded"] == 2
