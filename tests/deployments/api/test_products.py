"""Products: what filters find, compared with a query of DuckDB over the same files; pages that fit together."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import duckdb
import pytest

from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.models import ProductDetail, ProductPage
from lookbook.deployments.api.problems import encoded
from lookbook.tasks.datasets.manifest import require_published
from tests.support import pipeline
from tests.support.api import Api, problem, running


def rows(api: Api, **parameters: Any) -> list[dict[str, Any]]:
    """All products that are found, page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.json(f"/datasets/shoes/products?{urlencode(parameters | cursor, doseq=True)}")
        ProductPage.model_validate(page)
        found += page["items"]
        if not page["next"]:
            assert page["total"] == len(found)
            return found
        cursor = {"cursor": page["next"]}


def asked(api: Api, sql: str) -> list[Any]:
    """The first column of a query over the products of the current snapshot, joined with their images."""
    lake = api.workspace.lake
    manifest = require_published(lake, "shoes").manifest
    files = {name: lake.uri(*manifest.keys(name)) for name in ("products", "images")}
    joined = f"FROM '{files['products']}' p LEFT JOIN '{files['images']}' i ON i.key = p.image_key"
    found = duckdb.sql(sql.format(joined=joined))
    assert found is not None
    return [row[0] for row in found.fetchall()]


@pytest.mark.parametrize(
    ("parameters", "condition"),
    [
        ({}, "true"),
        ({"gender": "Women"}, "gender = 'Women'"),
        ({"gender": ["Women", "Men"], "season": "Summer"}, "gender IN ('Women', 'Men') AND season = 'Summer'"),
        ({"brandName": ""}, "brandName IS NULL"),
        ({"where": ["year>=2012", "season in Summer,Fall"]}, "year >= 2012 AND season IN ('Summer', 'Fall')"),
        ({"q": "shoes women"}, "productDisplayName ILIKE '%women%' AND productDisplayName ILIKE '%shoes%'"),
        (
            {"filter": json.dumps({"or": [{"column": "year", "op": "<", "value": 2010}, {"ids": ["10001"]}]})},
            "year < 2010 OR p.product_key = '10001'",
        ),
        ({"where": "blurry_score<0.9"}, "i.blurry_score < 0.9"),
        ({"is_dark_issue": "true"}, "i.is_dark_issue"),
        ({"gender": "Nobody"}, "gender = 'Nobody'"),
    ],
)
def test_a_filter_finds_what_the_same_condition_finds_in_sql(
    api: Api, parameters: dict[str, Any], condition: str
) -> None:
    found = [row["product_key"] for row in rows(api, **(parameters | {"further": "false"}), limit=7)]
    wanted = asked(api, f"SELECT p.product_key {{joined}} WHERE {condition} ORDER BY p.product_key")
    assert Counter(found) == Counter(wanted)


def test_an_order_is_that_of_sql_with_missing_values_last(api: Api) -> None:
    found = rows(api, further="false", sort="-year,productDisplayName,catalogue_line", limit=500)
    order = "year DESC NULLS LAST, productDisplayName NULLS LAST, p.line"
    assert [row["product_key"] for row in found] == asked(api, f"SELECT p.product_key {{joined}} ORDER BY {order}")


def test_facets_count_without_the_condition_of_their_own_column(api: Api) -> None:
    page = api.json("/datasets/shoes/products?gender=Women&further=false&facets=gender,season&limit=0")
    for column, condition in (("gender", "true"), ("season", "gender = 'Women'")):
        wanted = Counter(asked(api, f"SELECT {column} {{joined}} WHERE {condition}"))
        assert {each["value"]: each["count"] for each in page["facets"][column]["values"]} == wanted
    assert page["items"] == []
    assert page["next"] is None


def test_pages_of_a_cursor_stay_with_their_snapshot_while_another_is_published(workspace: Workspace) -> None:
    pipeline.run(pipeline.request(workspace, "sample://20", dataset="shoes", batch_size=50))
    with running(workspace) as api:
        first = api.json("/datasets/shoes/products?limit=5&columns=product_key")
        before = rows(api, columns="product_key")
        pipeline.run(pipeline.request(workspace, "sample://40", dataset="shoes", batch_size=50))
        api.app.state.services.snapshots._currents._values.clear()  # a second later
        assert api.json("/datasets/shoes")["snapshot"] != first["snapshot"]
        found, cursor = list(first["items"]), first["next"]
        while cursor:
            page = api.json(f"/datasets/shoes/products?limit=5&columns=product_key&cursor={cursor}")
            assert page["snapshot"] == first["snapshot"]
            found, cursor = found + page["items"], page["next"]
        assert found == before
        assert api.json("/datasets/shoes/products")["total"] > len(found)
        for row in found[:3]:
            for href in row["images"].values():
                assert api.http.get(href).status_code == 200, "images of an older page are found"


def test_a_product_tells_what_the_files_hold(api: Api) -> None:
    key = rows(api, image_outcome="loaded", limit=1)[0]["product_key"]
    product = api.json(f"/datasets/shoes/products/{key}")
    ProductDetail.model_validate(product)
    assert [
        asked(api, f"SELECT {column} {{joined}} WHERE p.product_key = '{key}'")[0]
        for column in ("gender", "i.width", "i.phash", "i.blurry_score")
    ] == [
        product["rows"][0]["gender"],
        *(product["images"][0]["measures"][name] for name in ("width", "phash", "blurry_score")),
    ]
    assert product["images"][0]["exif"] == json.loads(
        asked(api, f"SELECT i.exif {{joined}} WHERE p.product_key = '{key}'")[0]
    )
    assert {drawn["output"] for drawn in product["images"][0]["outputs"]} == {"standard", "grey", "thumb"}
    for drawn in product["images"][0]["outputs"]:
        assert len(api.http.get(drawn["href"]).content) == drawn["bytes"]


def test_near_duplicates_and_copies_of_an_image_are_told_with_it(api: Api) -> None:
    sql = "SELECT p.product_key {joined} WHERE i.near_duplicate_of IS NOT NULL OR i.duplicate_of IS NOT NULL"
    keys = asked(api, sql)
    assert keys
    for key in keys:
        image = api.json(f"/datasets/shoes/products/{key}")["images"][0]
        original = image["measures"]["near_duplicate_of"] or image["measures"]["duplicate_of"]
        assert original in {row["values"]["image_key"] for row in image["near_duplicates"]}
        assert image["image_key"] not in {row["values"]["image_key"] for row in image["near_duplicates"]}


def test_the_history_goes_back_over_the_snapshots_and_marks_changes(api: Api) -> None:
    snapshots = [each["id"] for each in api.json("/datasets/shoes/snapshots")["items"]]
    old = api.json(f"/datasets/shoes/products?snapshot={snapshots[1]}&limit=500")["items"]
    known = {row["product_key"] for row in old}
    new = next(row["product_key"] for row in rows(api) if row["product_key"] and row["product_key"] not in known)
    history = api.json(f"/datasets/shoes/products/{new}")["history"]
    assert [each["snapshot"] for each in history] == snapshots
    assert [each["outcome"] is None for each in history] == [False, True]
    assert history[0]["changed"]
    old_key = next(row["product_key"] for row in old if row["values"]["row_outcome"] == "matched")
    assert [each["changed"] for each in api.json(f"/datasets/shoes/products/{old_key}")["history"]] == [False, True]


@pytest.mark.parametrize(
    ("query", "status", "name"),
    [
        ("nothing=1", 422, "invalid-request"),
        ("where=gender", 422, "invalid-request"),
        ("where=gender%3D1%3B+DROP+TABLE+x", 200, ""),
        ("sort=nothing", 422, "invalid-request"),
        ("sort=" + ",".join(["year", "gender", "season", "usage", "baseColour"]), 422, "invalid-request"),
        ("facets=nothing", 422, "invalid-request"),
        ("facets=blurry_score", 422, "invalid-request"),
        ("columns=nothing", 422, "invalid-request"),
        ("year=x", 422, "invalid-request"),
        ("filter={", 422, "invalid-request"),
        ("filter=[]", 422, "invalid-request"),
        ("filter=" + '{"not":' * 30 + '{"ids":["1"]}' + "}" * 30, 422, "invalid-request"),
        ("filter=" + "[" * 5000, 422, "too-deep"),
        ("limit=-1", 422, "invalid-request"),
        ("limit=501", 422, "invalid-request"),
        ("limit=99999999999999999999999", 422, "invalid-request"),
        ("cursor=AAAA", 400, "bad-cursor"),
        ("cursor=..%2F..", 422, "invalid-request"),
        ("snapshot=20200101T000000000Z-00000000", 404, "no-snapshot"),
        ("snapshot=..%2F..%2Fetc", 422, "invalid-request"),
        ("&".join(f"gender={n}" for n in range(201)), 422, "invalid-request"),
        ("q=%00", 422, "invalid-request"),
        ("gender=%ff%fe", 200, ""),
    ],
)
def test_what_cannot_be_meant_is_told_by_name(api: Api, query: str, status: int, name: str) -> None:
    answer = api.get(f"/datasets/shoes/products?{query}")
    if status == 200:
        assert answer.status_code == 200
        assert answer.json()["total"] == 0
    else:
        problem(answer, status, name)


def test_a_cursor_of_another_query_or_snapshot_is_refused(api: Api) -> None:
    cursor = api.json("/datasets/shoes/products?limit=3")["next"]
    problem(api.get(f"/datasets/shoes/products?cursor={cursor}&gender=Women"), 400, "bad-cursor")
    older = api.json("/datasets/shoes/snapshots")["items"][1]["id"]
    problem(api.get(f"/datasets/shoes/products?cursor={cursor}&snapshot={older}"), 400, "bad-cursor")
    problem(api.get("/datasets/none/products"), 404, "no-dataset")


def test_decimals_have_all_their_digits() -> None:
    values = [Decimal("12345678901234567.89"), Decimal("1.10"), Decimal("1E+400")]
    assert json.loads(encoded({"values": [*values, Decimal("NaN")]}), parse_float=Decimal) == {
        "values": [*values, None]
    }
