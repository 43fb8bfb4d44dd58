"""A one-off import is a pipeline of its own for each source, table and place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lookbook.blocks.errors import UsageError
from lookbook.tasks.tables.orchestrations import UNDATED, import_date, import_pipeline
from lookbook.tasks.tables.spec.pipeline import ImportSettings, Pipeline
from lookbook.tasks.tables.spec.tasks import ExtractTask, LoadTask

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)


def made(**settings: Any) -> Pipeline:
    return import_pipeline(ImportSettings.model_validate({"source": "/data/a.csv", "table": "prices"} | settings))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/data/*.csv", {"type": "file", "path": "/data/*.csv"}),
        ("lake://raw/a.parquet", {"type": "file", "path": "lake://raw/a.parquet"}),
        ("inbox://a.csv", {"type": "file", "path": "inbox://a.csv"}),
        ("https://host/a.csv?x=1", {"type": "http", "url": "https://host/a.csv?x=1"}),
        ("connector:shop/public.orders", {"type": "sql", "connector": "shop", "table": "public.orders"}),
    ],
)
def test_the_source_tells_its_kind(source: str, expected: dict[str, str]) -> None:
    extract = made(source=source).tasks["extract"]
    assert isinstance(extract, ExtractTask)
    assert expected.items() <= extract.source.model_dump().items()


@pytest.mark.parametrize("source", ["/data/a.csv", "https://host/a.csv"])
def test_how_delimited_files_are_read_is_told_to_the_source(source: str) -> None:
    extract = made(source=source, skip=2, decimal=",").tasks["extract"]
    assert isinstance(extract, ExtractTask)
    assert {"skip": 2, "decimal": ","}.items() <= extract.source.model_dump()["csv"].items()


@pytest.mark.parametrize("source", ["ftp://host/a", "connector:shop/a b", "connector:Shop/orders", "gs://bucket/a"])
def test_a_source_that_cannot_be_meant_is_refused(source: str) -> None:
    with pytest.raises(UsageError):
        made(source=source)


def test_options_that_do_not_go_together_are_refused_in_the_words_of_specs() -> None:
    with pytest.raises(UsageError, match="merge needs a primary_key"):
        made(write_disposition="merge")
    load = made(write_disposition="merge", primary_key=["sku", "day"], to="registry").tasks["load"]
    assert isinstance(load, LoadTask)
    assert (load.primary_key, load.target) == (("sku", "day"), "registry")


def test_the_same_source_is_one_batch_and_another_one_is_another() -> None:
    names = {made().name, made(source="/data/b.csv").name, made(to="lake").name, made(table="other").name}
    assert len(names) == 4
    assert made().name == made(write_disposition="replace").name
    assert all(len(made(table=name).name) <= 63 for name in ("a", "a" * 63))


def test_an_import_has_a_date_only_where_its_source_names_one() -> None:
    plain, dated = (ImportSettings(source=source, table="t") for source in ("a.csv", "a/{year}.csv"))
    assert import_date(plain, None, NOW) == UNDATED
    assert import_date(dated, None, NOW) == datetime(2026, 3, 4, tzinfo=UTC)
    given = datetime(2025, 1, 1, tzinfo=UTC)
    assert import_date(plain, given, NOW) == import_date(dated, given.replace(tzinfo=None), NOW) == given
