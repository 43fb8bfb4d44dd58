"""Every input that was handed to us gives what is right for it, by the real command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.cases import CATALOGUES, FOLDER, PUBLIC
from tests.support.command import lookbook_several
from tests.support.pipeline import photo, write_collection

#: The fast set has them by the functions that the command calls: in test_matching.py, and in tests/tasks/images.
pytestmark = [
    pytest.mark.full,
    pytest.mark.integration,
    pytest.mark.skipif(not FOLDER.exists(), reason="the shared cases are not here"),
]

WANTED = {
    "images": "key, outcome, rule, exif, decode_warnings, is_damaged_issue",
    "products": "product_key, image_key, outcome, missing_reason",
}


@dataclass(frozen=True)
class Ingested:
    """All cases, as the command tells of them, by dataset."""

    home: Path
    summaries: dict[str, dict[str, Any]]
    images: dict[str, list[dict[str, Any]]]
    products: dict[str, list[dict[str, Any]]]
    drawn: list[dict[str, Any]]
    headers: list[dict[str, Any]]

    def matched(self, dataset: str) -> dict[str, str | None]:
        return {row["product_key"]: row["image_key"] for row in self.products[dataset]}

    def picture(self, key: str) -> dict[str, Any]:
        """One of the pictures that stand alone."""
        (row,) = [row for row in self.images["case-pictures"] if row["key"] == key]
        return row

    def pixel(self, key: str, across: int, down: int) -> list[int]:
        """A pixel of its standard output of 512x512."""
        (row,) = [row for row in self.drawn if row["key"] == key]
        with Image.open(self.home / "lake" / row["object_key"]) as image:
            return [int(level) for level in np.asarray(image)[down, across]]


def dataset(case: str) -> str:
    return f"case-{case.removesuffix('.zip')}"


@pytest.fixture(scope="module")
def ingested(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """Each catalogue in a dataset, and all single pictures in another one; then what the warehouse says of them."""
    folder = tmp_path_factory.mktemp("sources")
    sources = {dataset(case): FOLDER / case for case in CATALOGUES}
    for name, (catalogue, text, right) in PUBLIC.items():
        photos = {key: photo(number) for number, key in enumerate(right.values())}
        sources[dataset(name)] = write_collection(folder / name, photos | {catalogue: text.encode()})
    pictures = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".zip"}
    sources["case-pictures"] = write_collection(folder / "pictures", pictures)
    told = lookbook_several(
        shared_home,
        *(["ingest", str(path), "--dataset", name, "--reject-limit", "1", "--json"] for name, path in sources.items()),
        *(
            ["query", f"SELECT dataset, {columns} FROM warehouse.{table} WHERE dataset LIKE 'case-%'", "--json"]
            for table, columns in WANTED.items()
        ),
        [
            "query",
            "SELECT key, object_key FROM warehouse.images JOIN warehouse.outputs USING (dataset, sha256)"
            " WHERE dataset = 'case-pictures' AND output = 'standard'",
            "--json",
        ],
        ["query", 'SELECT 商品名, Größe, Цвет FROM lake."case-m-headers".products ORDER BY line', "--json"],
    )
    assert [code for code, _ in told] == [0] * len(told), told
    *summaries, images, products, drawn, headers = [json.loads(text) for _, text in told]
    return Ingested(
        shared_home,
        dict(zip(sources, summaries, strict=True)),
        {name: [row for row in images if row["dataset"] == name] for name in sources},
        {name: [row for row in products if row["dataset"] == name] for name in sources},
        drawn,
        headers,
    )


RIGHT = CATALOGUES | {name: right for name, (_, _, right) in PUBLIC.items()}


@pytest.mark.parametrize("case", RIGHT)
def test_each_row_has_its_own_photo_or_none(ingested: Ingested, case: str) -> None:
    right, summary = RIGHT[case], ingested.summaries[dataset(case)]
    assert ingested.matched(dataset(case)) == right
    rows = {"found": len(right), "matched": sum(map(bool, right.values()))}
    assert summary["rows"] == dict.fromkeys(summary["rows"], 0) | rows | {"missing_image": len(right) - rows["matched"]}
    assert summary["images"]["rejected"] == 0


def test_a_photo_that_is_not_there_is_missed_and_no_other_taken(ingested: Ingested) -> None:
    (lost,) = [row for row in ingested.products["case-a-basename"] if row["image_key"] is None]
    assert (lost["product_key"], lost["outcome"], lost["missing_reason"]) == ("C300", "missing_image", "no_image")


def test_headers_in_any_script_are_names_of_columns(ingested: Ingested) -> None:
    assert ingested.headers == [
        {"商品名": "靴", "Größe": "M", "Цвет": "красный"},
        {"商品名": "帽子", "Größe": "L", "Цвет": "синий"},
    ]


def test_litter_is_counted(ingested: Ingested) -> None:
    assert ingested.summaries["case-s-checkpoints"]["ignored"] == {"litter": 2}


#: By picture: where a pixel of its standard output lies, and its colour.
PIXELS = {
    "avif_p3.avif": (2, 2, (217, 42, 52)),
    "badcrc_text.png": (2, 2, (20, 220, 20)),
    "cicp_p3.png": (2, 2, (217, 42, 52)),
    "exif_utf8.jpg": (2, 2, (20, 220, 20)),
    "g16_trns.png": (2, 2, (255, 255, 255)),
    "g_f32_255.tif": (256, 256, (128, 128, 128)),
    "itxt_big.png": (2, 2, (20, 220, 20)),
    "ori6_byte.jpg": (2, 2, (40, 91, 200)),
    "ori_xmp_only.jpg": (2, 2, (20, 220, 20)),
    "rgb16_trns.png": (2, 2, (255, 255, 255)),
}


@pytest.mark.parametrize("key", PIXELS)
def test_a_picture_is_drawn_as_it_should_look(ingested: Ingested, key: str) -> None:
    assert ingested.picture(key)["outcome"] == "loaded"
    across, down, colour = PIXELS[key]
    assert np.abs(np.subtract(ingested.pixel(key, across, down), colour)).max() <= 2


def test_a_kind_that_is_not_read_is_called_so(ingested: Ingested) -> None:
    assert (ingested.picture("la16.tif")["outcome"], ingested.picture("la16.tif")["rule"]) == (
        "rejected",
        "unsupported",
    )


def test_texts_are_read_in_their_encoding(ingested: Ingested) -> None:
    assert json.loads(ingested.picture("exif_utf8.jpg")["exif"])["Make"] == "Ricoh Café"


DAMAGED = ("jpeg_damaged_accepted.jpg", "no_eoi.jpg")


@pytest.mark.parametrize("key", DAMAGED)
def test_a_damaged_picture_is_loaded_and_flagged(ingested: Ingested, key: str) -> None:
    picture = ingested.picture(key)
    assert (picture["outcome"], picture["decode_warnings"], picture["is_damaged_issue"]) == ("loaded", 1, True)


def test_no_picture_is_left_out_here(ingested: Ingested) -> None:
    assert {row["key"] for row in ingested.images["case-pictures"]} == {*PIXELS, "la16.tif", *DAMAGED}
