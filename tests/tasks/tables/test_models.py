from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from sqlglot import exp

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.sql_text import read_select, said
from lookbook.blocks.warehouse import STAGING_KEYS, STANDING_COLUMNS, SnapshotLoad, StarModel
from lookbook.tasks.datasets.schemas import (
    IMAGES_SCHEMA,
    LINKS_SCHEMA,
    OUTPUTS_SCHEMA,
    PRODUCTS_SCHEMA,
    REJECTS_SCHEMA,
    STYLES_FIELDS,
    load_models,
)
from tests.support.snapshots import products_with, snapshot_load

MODELS = load_models()
DIMENSIONS = {
    "category": ["masterCategory", "subCategory", "articleType"],
    "colour": ["baseColour"],
    "season": ["season", "year"],
    "gender": ["gender"],
    "usage": ["usage"],
}


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> tuple[DuckDBWarehouse, SnapshotLoad]:
    """Two datasets with the same products, so that a join which mixes them gives too many rows."""
    folder = tmp_path_factory.mktemp("star")
    warehouse = DuckDBWarehouse(path=folder / "lookbook.duckdb")
    warehouse.load_snapshot(snapshot_load(folder, "other"), MODELS)
    load = snapshot_load(folder)
    warehouse.load_snapshot(load, MODELS)
    return warehouse, load


@pytest.fixture
def tables(star: tuple[DuckDBWarehouse, SnapshotLoad]) -> dict[str, pd.DataFrame]:
    """What the models make of dataset fashion."""
    return {m.name: frame(star[0], f"SELECT * FROM warehouse.{m.name} WHERE dataset = 'fashion'") for m in MODELS}


@pytest.fixture
def products(star: tuple[DuckDBWarehouse, SnapshotLoad]) -> pd.DataFrame:
    """The products as pandas reads them from the file, without repeated rows."""
    found: pd.DataFrame = pq.read_table(star[1].tables["products"]).to_pandas()
    return found[found["outcome"] != "duplicate"]


@pytest.fixture
def images(star: tuple[DuckDBWarehouse, SnapshotLoad]) -> pd.DataFrame:
    found: pd.DataFrame = pq.read_table(star[1].tables["images"]).to_pandas()
    return found


def frame(warehouse: DuckDBWarehouse, sql: str) -> pd.DataFrame:
    found: pd.DataFrame = warehouse.query(sql).to_pandas()
    return found


def counts(table: pd.DataFrame, by: list[str], *values: str) -> dict[tuple[object, ...], tuple[int, ...]]:
    """The values of each group; what is not known is None."""
    plain = table.astype(object).where(table.notna(), None)
    return {tuple(row[c] for c in by): tuple(int(row[v]) for v in values) for _, row in plain.iterrows()}


def expected_counts(products: pd.DataFrame, by: list[str]) -> dict[tuple[object, ...], tuple[int, ...]]:
    text = [name for name in by if name != "year"]
    known = products.assign(**{name: products[name].fillna("Unknown") for name in text})
    known = known.assign(with_image=known["outcome"] == "matched")
    found = known.groupby(by, dropna=False)["with_image"].agg(["count", "sum"]).reset_index()
    return counts(found, by, "count", "sum")


def test_every_fact_finds_its_dimensions(tables: dict[str, pd.DataFrame], products: pd.DataFrame) -> None:
    fact = tables["fact_product"]
    assert sorted(fact["product_key"]) == sorted(products["product_key"])
    for name in DIMENSIONS:
        joined = fact.merge(tables[f"dim_{name}"], on=f"{name}_key", validate="many_to_one")
        assert len(joined) == len(fact), name


@pytest.mark.parametrize("name", DIMENSIONS)
def test_dimensions_hold_what_the_products_have(
    tables: dict[str, pd.DataFrame], products: pd.DataFrame, name: str
) -> None:
    columns = dict(zip(DIMENSIONS[name], _snake_case(DIMENSIONS[name]), strict=True))
    joined = tables["fact_product"].merge(tables[f"dim_{name}"], on=f"{name}_key")
    joined = joined.merge(products, left_on="product_key", right_on="product_key", suffixes=("", "_file"))
    for source, column in columns.items():
        original = joined[source if source != column else f"{source}_file"]
        missing = "Unknown" if source != "year" else -1
        assert joined[column].fillna(missing).tolist() == original.fillna(missing).tolist(), column
    assert len(tables[f"dim_{name}"]) == len(products[DIMENSIONS[name]].drop_duplicates())


def test_keys_are_the_checksum_of_dataset_and_members(tables: dict[str, pd.DataFrame]) -> None:
    """So they stay the same from load to load, and are the same in every warehouse."""
    found = tables["dim_season"].set_index(["season", "year"])["season_key"]
    assert found[("Summer", 2012)] == hashlib.md5(b"fashion\x1fSummer\x1f2012", usedforsecurity=False).hexdigest()
    unknown = hashlib.md5(b"fashion\x1fUnknown", usedforsecurity=False).hexdigest()
    assert unknown in set(tables["dim_colour"]["colour_key"])


def test_keys_are_those_of_one_dataset_alone(star: tuple[DuckDBWarehouse, SnapshotLoad]) -> None:
    for name in DIMENSIONS:
        found = frame(star[0], f"SELECT {name}_key AS key FROM warehouse.dim_{name}")
        assert found["key"].is_unique, name


def test_a_product_carries_the_measures_of_its_image(
    tables: dict[str, pd.DataFrame], products: pd.DataFrame, images: pd.DataFrame
) -> None:
    fact = tables["fact_product"].set_index("product_key").sort_index()
    expected = products.merge(images, left_on="image_key", right_on="key", how="left").set_index("product_key_x")
    expected = expected.sort_index()
    matched = expected["outcome_x"] == "matched"
    assert fact["has_image"].tolist() == matched.tolist()
    for column in ("original_width", "original_height", "brightness", "contrast", "sharpness", "dominant_colour"):
        pd.testing.assert_series_equal(
            fact[column], expected[column].where(matched), check_names=False, check_dtype=False
        )
    assert fact.loc["6", "shares_image"]
    assert fact["sha256"].to_dict()["6"] == fact["sha256"].to_dict()["1"]
    assert fact.loc["7", "missing_reason"] == "image_rejected:truncated"
    assert fact.loc["2", "display_name"] == "Product 2"
    assert fact["id"].tolist() == [int(key) for key in fact.index]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("agg_products_by_category", "category"),
        ("agg_products_by_season_year", "season"),
        ("agg_products_by_colour", "colour"),
    ],
)
def test_products_are_counted_as_pandas_counts_them(
    tables: dict[str, pd.DataFrame], products: pd.DataFrame, model: str, name: str
) -> None:
    by = DIMENSIONS[name]
    found = counts(tables[model], _snake_case(by), "products", "with_image")
    assert found == expected_counts(products, by)


def test_sizes_count_each_content_once(tables: dict[str, pd.DataFrame], images: pd.DataFrame) -> None:
    loaded = images[images["outcome"] == "loaded"]
    by = ["original_width", "original_height"]
    expected = loaded.groupby(by)["bytes"].agg(["count", "min", "max", "sum"]).reset_index()
    found = counts(tables["agg_image_sizes"], by, "images", "least_bytes", "most_bytes", "total_bytes")
    assert found == counts(expected, by, "count", "min", "max", "sum")


def test_every_loaded_image_is_in_one_bin_of_each_measure(
    tables: dict[str, pd.DataFrame], images: pd.DataFrame
) -> None:
    loaded = images[images["outcome"] == "loaded"]
    for measure, bins in tables["agg_image_quality"].groupby("measure"):
        values = loaded[str(measure)]
        for _, row in bins.iterrows():
            upper = row["bin_to"] if pd.notna(row["bin_to"]) else float("inf")
            assert row["images"] == ((values >= row["bin_from"]) & (values < upper)).sum(), (measure, row)
        assert bins["images"].sum() == len(values)


def test_the_borders_of_the_bins(tmp_path: Path) -> None:
    values = [0.0, 0.1, 0.99, 1.0, None]
    sharpness = [0.0, 1.0, 9.99, 10000.0, None]
    names = [field.name for field in IMAGES_SCHEMA]
    images = [
        dict.fromkeys(names) | {"outcome": "loaded", "brightness": value, "contrast": value, "sharpness": sharp}
        for value, sharp in zip(values, sharpness, strict=True)
    ]
    load = snapshot_load(tmp_path)
    pq.write_table(pa.Table.from_pylist(images, schema=IMAGES_SCHEMA), load.tables["images"][0])
    pq.write_table(IMAGES_SCHEMA.empty_table(), load.tables["images"][1])
    warehouse = DuckDBWarehouse(path=tmp_path / "lookbook.duckdb")
    warehouse.load_snapshot(load, MODELS)
    found = frame(warehouse, "SELECT * FROM warehouse.agg_image_quality")
    tenths = {(0.0, 0.1): 1, (0.1, 0.2): 1, (0.9, 1.0): 2}
    powers = {(0.0, 1.0): 1, (1.0, 10.0): 2, (10000.0, None): 1}
    for measure, expected in (("brightness", tenths), ("contrast", tenths), ("sharpness", powers)):
        part = found[found["measure"] == measure]
        assert counts(part, ["bin_from", "bin_to"], "images") == {k: (n,) for k, n in expected.items()}


def test_issues_count_each_content_once_and_not_what_was_never_looked_at(
    tables: dict[str, pd.DataFrame], images: pd.DataFrame
) -> None:
    loaded = images[images["outcome"] == "loaded"]
    found = tables["agg_image_issues"].set_index("issue")
    assert set(found.index) == {"dark", "light"}  # of the other issues this snapshot knows nothing
    for issue, row in found.iterrows():
        flags = loaded[f"is_{issue}_issue"].astype(bool)
        assert (row["images"], row["share"]) == (flags.sum(), pytest.approx(flags.mean()))
    assert found["images"].to_dict()["dark"] > 0


def test_what_is_missing_is_counted_by_reason(tables: dict[str, pd.DataFrame]) -> None:
    assert counts(tables["agg_missing_images"], ["kind", "reason"], "occurrences") == {
        ("missing_image", "no_image"): (1,),
        ("missing_image", "image_rejected:truncated"): (1,),
        ("orphan_image", "loaded"): (1,),
        ("rejected_image", "truncated"): (1,),
    }


def test_near_duplicates_are_grouped_by_their_canonical_image(tables: dict[str, pd.DataFrame]) -> None:
    (group,) = tables["near_duplicate_groups"].to_dict("records")
    assert (group["canonical_key"], group["images"]) == ("images/1.jpg", 3)
    assert list(group["members"]) == ["images/2.jpg", "images/3.jpg"]


def test_catalogues_whose_columns_are_of_other_types_get_a_star(tmp_path: Path) -> None:
    columns = {
        "id": pa.array(["a-1", "2", None]),
        "year": pa.array(["2012", "soon", None]),
        "gender": pa.array([0, 1, None]),
        "baseColour": pa.array([True, False, None]),
    }
    warehouse = DuckDBWarehouse(path=tmp_path / "lookbook.duckdb")
    load = snapshot_load(tmp_path, products=products_with(columns))
    warehouse.load_snapshot(load, MODELS)
    found = frame(
        warehouse,
        """SELECT f.id, s.year, g.gender, l.base_colour FROM warehouse.fact_product f
           JOIN warehouse.dim_season s USING (season_key) JOIN warehouse.dim_gender g USING (gender_key)
           JOIN warehouse.dim_colour l USING (colour_key) ORDER BY f.product_key""",
    )
    assert found.astype(object).where(found.notna(), None).to_numpy().tolist() == [
        [None, 2012, "0", "true"],
        [2, None, "1", "false"],
        [None, None, "Unknown", "Unknown"],
    ]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_rows_have_the_key_that_the_model_names(tables: dict[str, pd.DataFrame], model: StarModel) -> None:
    table = tables[model.name]
    assert len(table) > 0
    assert not table.duplicated(list(model.key)).any()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_each_model_is_one_select_that_bigquery_can_parse(model: StarModel) -> None:
    translated = said(read_select(model.sql), "bigquery")
    assert isinstance(sqlglot.parse_one(translated, read="bigquery"), exp.Query)
    assert "VARCHAR" not in translated.upper()


def test_keys_are_hexadecimal_in_bigquery_too() -> None:
    assert "TO_HEX(MD5(" in said(read_select("SELECT md5(x) FROM t"), "bigquery")


def test_models_read_the_snapshot_and_models_before_them() -> None:
    known = set(STAGING_KEYS)
    for model in MODELS:
        tree = sqlglot.parse_one(model.sql, read="duckdb")
        own = {cte.alias for cte in tree.find_all(exp.CTE)}
        assert {table.name for table in tree.find_all(exp.Table)} - own <= known, model.name
        known.add(model.name)


def test_each_file_is_a_model_and_says_what_a_row_is() -> None:
    folder = resources.files("lookbook.tasks.datasets") / "models"
    assert {entry.name for entry in folder.iterdir()} == {f"{model.name}.sql" for model in MODELS}
    for model in MODELS:
        assert model.sql.startswith("-- One row: "), model.name


def test_the_schemas_are_what_the_warehouse_expects() -> None:
    schemas = {
        "products": PRODUCTS_SCHEMA,
        "image_links": LINKS_SCHEMA,
        "images": IMAGES_SCHEMA,
        "outputs": OUTPUTS_SCHEMA,
        "rejects": REJECTS_SCHEMA,
    }
    for table, key in STAGING_KEYS.items():
        assert set(key) <= set(schemas[table].names), table
    types = {pa.int64(): "BIGINT", pa.string(): "VARCHAR"}
    assert STANDING_COLUMNS["products"] == {field.name: types[field.type] for field in STYLES_FIELDS}


def _snake_case(names: list[str]) -> list[str]:
    return ["".join(f"_{c.lower()}" if c.isupper() else c for c in name) for name in names]
