"""The logical digest: equal for what is equal to a reader, another for anything that is not."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, LINKS_SCHEMA, OUTPUTS_SCHEMA, REJECTS_SCHEMA
from lookbook.tasks.datasets.snapshot import logical_digest
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from tests.support.desks import shared_desk
from tests.support.reports import PRODUCTS, image_row, output_row, product_row, reject_row, table

RECIPE = Recipe(outputs={"thumb": OutputDefinition(image_size=16), "grey": OutputDefinition(colour_mode="grey")})
COUNT = 4


@pytest.fixture
def snapshot() -> dict[str, pa.Table]:
    """A snapshot in which no column is empty in its first row."""
    images = [image_row(n, duplicate_of="images/0.jpg", rule="none", fingerprint=f"mtime:{n}") for n in range(COUNT)]
    outputs = [output_row(n) | {"output_digest": "d1", "width": 16, "height": 12} for n in range(COUNT)]
    filled = {field.name: f"some {field.name}" for field in PRODUCTS if field.type == pa.string()}
    products = [filled | product_row(n, missing_reason="none") for n in range(COUNT)]
    links = [{"file": "images.csv", "line": n, "filename": f"{n}.jpg", "link": f"http://x/{n}"} for n in range(COUNT)]
    return {
        "images": table(images, IMAGES_SCHEMA),
        "outputs": table(outputs, OUTPUTS_SCHEMA),
        "products": table(products, PRODUCTS),
        "image_links": table(links, LINKS_SCHEMA),
        "rejects": table([reject_row(n, raw="x") for n in range(COUNT)], REJECTS_SCHEMA),
    }


def digest(tables: dict[str, pa.Table], recipe: Recipe = RECIPE) -> str:
    return logical_digest(tables, recipe, shared_desk())


def changed(whole: pa.Table, column: str, value: Any = None) -> pa.Table:
    """The table with another value in the first row of a column."""
    place = whole.schema.get_field_index(column)
    field = whole.schema.field(place)
    values = whole.column(column).to_pylist()
    values[0] = value
    return whole.set_column(place, field, pa.array(values, field.type))


def test_the_order_of_rows_and_their_chunks_do_not_matter(snapshot: dict[str, pa.Table]) -> None:
    turned: dict[str, Any] = {
        name: pa.concat_tables([whole.slice(2), whole.slice(0, 2)]) for name, whole in snapshot.items()
    }
    assert digest(turned) == digest(snapshot)


CASES = [
    *(("images", column) for column in ("key", "outcome", "duplicate_of", "rule", "sha256", "product_key")),
    *(("outputs", column) for column in ("sha256", "output", "output_digest", "width", "height")),
    *(("rejects", column) for column in ("kind", "locator", "rule", "raw")),
    *(("products", column) for column in PRODUCTS.names),
    *(("image_links", column) for column in LINKS_SCHEMA.names),
]


@pytest.mark.parametrize(("name", "column"), CASES)
def test_each_column_that_a_reader_relies_on_matters(snapshot: dict[str, pa.Table], name: str, column: str) -> None:
    whole: pa.Table = snapshot[name]
    assert whole.column(column)[0].as_py() is not None
    tables: dict[str, Any] = {name: changed(whole, column)}
    assert digest(snapshot | tables) != digest(snapshot)


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("images", "fingerprint", "mtime:99"),
        ("images", "sharpness", 1e9),
        ("outputs", "output_sha256", "f" * 64),
        ("outputs", "bytes", 1),
        ("rejects", "reject_id", "r-99"),
    ],
)
def test_times_ids_and_file_bytes_do_not_matter(
    snapshot: dict[str, pa.Table], name: str, column: str, value: Any
) -> None:
    tables: dict[str, Any] = {name: changed(snapshot[name], column, value)}
    assert digest(snapshot | tables) == digest(snapshot)


def test_values_that_change_places_matter(snapshot: dict[str, pa.Table]) -> None:
    names = snapshot["products"].column("productDisplayName")
    place = snapshot["products"].schema.get_field_index("productDisplayName")
    turned = snapshot["products"].set_column(place, "productDisplayName", pc.take(names, pa.array([1, 0, 2, 3])))
    assert digest(snapshot | {"products": turned}) != digest(snapshot)


def test_a_row_more_or_twice_matters(snapshot: dict[str, pa.Table]) -> None:
    for name, whole in snapshot.items():
        for other in (whole.slice(1), pa.concat_tables([whole, whole.slice(0, 1)]), whole.slice(0, 0)):
            tables: dict[str, Any] = {name: other}
            assert digest(snapshot | tables) != digest(snapshot), name


def test_a_column_of_the_catalogue_more_or_renamed_matters(snapshot: dict[str, pa.Table]) -> None:
    renamed = snapshot["products"].rename_columns(
        ["colour" if name == "baseColour" else name for name in snapshot["products"].column_names]
    )
    for products in (renamed, snapshot["products"].append_column("price", pa.nulls(COUNT, pa.int64()))):
        assert digest(snapshot | {"products": products}) != digest(snapshot)


def test_numbers_are_not_texts(snapshot: dict[str, pa.Table]) -> None:
    place = snapshot["products"].schema.get_field_index("year")
    texts = snapshot["products"].set_column(place, "year", snapshot["products"].column("year").cast(pa.string()))
    assert digest(snapshot | {"products": texts}) != digest(snapshot)


def test_the_recipe_matters(snapshot: dict[str, pa.Table]) -> None:
    stricter = RECIPE.model_copy(update={"min_image_size": 5})
    assert digest(snapshot, stricter) != digest(snapshot)
