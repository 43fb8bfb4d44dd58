"""The four shipped pipelines bring what their files say, by readings of those files that know nothing of ours."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import networkx
import pytest

from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.load import open_rejects
from tests.support.example_readings import lines, objects, publications, trips
from tests.support.example_runs import Examples, examples
from tests.support.pipeline import photo, request, row, run, write_collection

JANUARY, FEBRUARY = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC)


@pytest.fixture
def shipped(workspace: Workspace, tmp_path: Path) -> Examples:
    return examples(workspace, tmp_path / "pipelines")


def test_taxi_appends_a_month_once_and_makes_a_star_of_all(shipped: Examples) -> None:
    expected = Counter(trips(shipped.folder, "2026-01"))
    shipped.run("taxi", JANUARY)
    sql = "SELECT taxi, pickup_at, pickup_zone, payment, total FROM feeds.trips"
    assert Counter(tuple(one.values()) for one in shipped.rows(sql)) == expected

    rejects = open_rejects(shipped.workspace.registry, "taxi")
    assert [(one["rule"], one["input"].rpartition("/")[2]) for one in rejects] == [("data_type", "yellow_2026-01.csv")]
    assert '"n/a"' in rejects[0]["raw"]
    with (shipped.folder / "taxi/yellow_2026-01.csv").open(encoding="utf-8") as file:
        assert "n/a" in file.readlines()[rejects[0]["line"] - 1]

    again = shipped.run("taxi", JANUARY)
    assert not again.worked
    shipped.run("taxi", FEBRUARY)
    expected += Counter(trips(shipped.folder, "2026-02"))
    assert Counter(tuple(one.values()) for one in shipped.rows(sql)) == expected
    (ragged,) = [one for one in open_rejects(shipped.workspace.registry, "taxi") if one["rule"] != "data_type"]
    assert ragged["raw"] == "1,2026-02-28 12:00:00,2026-02-28 12:"

    sums = "sum(trips) AS trips, sum(total) AS total, count(zone_key) AS zoned, count(*) AS facts"
    (star,) = shipped.rows(f"SELECT {sums} FROM feeds.fact_trip")
    assert star["trips"] == expected.total()
    assert star["total"] == sum(total * count for (*_, total), count in expected.items())
    assert 0 < star["zoned"] < star["facts"]  # zone 265 is in no table
    by_zone = Counter({zone: 0 for *_, zone, _, _ in expected if zone})
    for (_, _, zone, _, _), count in expected.items():
        if zone:
            by_zone[zone] += count
    sums = "SELECT zone, sum(trips) AS trips FROM feeds.fact_trip JOIN feeds.dim_zone USING (zone_key) GROUP BY 1"
    assert {one["zone"]: one["trips"] for one in shipped.rows(sums)} == dict(by_zone)


def test_events_become_a_table_each_and_files_that_come_later_are_taken_once(shipped: Examples) -> None:
    late = shipped.folder / "events/2026-03-01-02.json"
    content = late.read_bytes()
    late.unlink()
    shipped.run("events")
    assert not shipped.run("events").worked
    late.write_bytes(content)
    shipped.run("events")

    by_event: dict[str, set[int]] = {}
    for event in objects(shipped.folder):
        by_event.setdefault(event["event"] or "", set()).add(event["id"])
    tables = {name: name.lower().replace(" ", "_") for name in by_event if name}
    assert len(tables) == 4
    for name, table in tables.items():
        assert [one["id"] for one in shipped.rows(f"SELECT id FROM feeds.{table} ORDER BY id")] == sorted(
            by_event[name]
        )
    posts = {e["id"]: e["attributes"]["post"] for e in objects(shipped.folder) if e["event"] == "Post Created"}
    sql = "SELECT id, attributes__post__title AS title, attributes__post__author__id AS author FROM feeds.post_created"
    assert {one["id"]: (one["title"], one["author"]) for one in shipped.rows(sql)} == {
        key: (post["title"], post["author"]["id"]) for key, post in posts.items()
    }
    (tags,) = shipped.rows("SELECT DISTINCT attributes__tags AS tags FROM feeds.user_created")
    assert json.loads(tags["tags"]) == ["new"]
    (nameless,) = open_rejects(shipped.workspace.registry, "events")
    assert nameless["input"].endswith("2026-03-01-03.json")


def test_mentions_of_drugs_give_a_graph_and_the_journals_that_name_most(shipped: Examples) -> None:
    report = shipped.run("mentions")
    expected = publications(shipped.folder)
    sql = "SELECT id, title, date, journal FROM feeds.publications"
    loaded = {one["id"]: one for one in shipped.rows(sql)}
    assert loaded.keys() == expected.keys()
    assert all(one["date"] is not None for one in loaded.values())  # written in three ways
    assert loaded["T-006"]["journal"] == "ZÃ¼rcher Hefte"  # broken before it came: kept as it stands
    rules = Counter(one["rule"] for one in open_rejects(shipped.workspace.registry, "mentions"))
    assert rules["not_null"] == 4  # without an id or a title
    assert rules["no_key"] == 1  # a publication without a journal, which the graph leaves out
    assert sum(rules.values()) == 6  # and the line that is no UTF-8

    drugs = {one["code"]: one["drug"] for one in lines(shipped.folder / "mentions/drugs.csv")}
    mentions = {
        (code, key)
        for code, drug in drugs.items()
        for key, (title, _) in expected.items()
        if re.search(rf"(?<!\w){re.escape(drug)}(?!\w)", title.replace("\xa0", " "), re.IGNORECASE)
    }
    result = report.results["graph"]
    document = json.loads(shipped.workspace.lake.get(result.keys["graph"]))
    graph = networkx.node_link_graph(document)
    found = {
        tuple(sorted((graph.nodes[a]["key"], graph.nodes[b]["key"])))
        for a, b, data in graph.edges(data=True)
        if data["kind"] == "mention"
    }
    assert found == {tuple(sorted(pair)) for pair in mentions}
    reached: dict[str, set[str]] = {journal: set() for _, journal in expected.values() if journal}
    for code, key in mentions:
        if journal := expected[key][1]:
            reached[journal].add(code)
    counted = {key: len(codes) for key, codes in reached.items()}
    rows = json.loads(shipped.workspace.lake.get(result.keys["queries.drugs_by_journal"]))["rows"]
    assert {one["key"]: one["count"] for one in rows} == counted


def test_prices_are_merged_by_day_and_stand_beside_the_products_of_a_dataset(shipped: Examples, tmp_path: Path) -> None:
    ids = range(10_000, 10_005)
    source = write_collection(
        tmp_path / "photos", {f"images/{key}.jpg": photo(key) for key in ids}, [row(key) for key in ids]
    )
    run(request(shipped.workspace, source))
    shipped.run("prices")

    newest: dict[tuple[str, str], tuple[str, str]] = {}
    for price in lines(shipped.folder / "prices/prices.csv"):
        if price["productId"] and price["price"] != "free":
            key, value = (price["productId"], price["day"]), (price["updatedAt"], price["price"])
            newest[key] = max(newest.get(key, value), value)
    sql = "SELECT product_id, day, price FROM feeds.prices"
    assert {(str(one["product_id"]), str(one["day"])): one["price"] for one in shipped.rows(sql)} == {
        key: Decimal(price) for key, (_, price) in newest.items()
    }
    latest = dict(sorted(newest))
    found = shipped.rows("SELECT dataset, product_id, day, price FROM feeds.product_price")
    assert {(one["dataset"], one["product_id"], str(one["day"]), one["price"]) for one in found} == {
        ("things", key, latest[str(key)], Decimal(newest[str(key), latest[str(key)]][1]))
        for key in ids
        if str(key) in latest
    }
    assert Counter(one["rule"] for one in open_rejects(shipped.workspace.registry, "prices")) == {
        "data_type": 1,
        "not_null": 1,
    }

    # A correction that came late, of a day that is long past: the highest time that was seen counts, less an hour.
    with (shipped.folder / "prices/prices.csv").open("a", encoding="utf-8") as file:
        file.write("10002,2026-04-02,77.70,EUR,2026-04-03T09:31:30Z\n")
    shipped.run("prices")
    late = "SELECT price FROM feeds.prices WHERE product_id = 10002 AND day = DATE '2026-04-02'"
    assert shipped.rows(late) == [{"price": Decimal("77.70")}]
