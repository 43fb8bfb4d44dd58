"""Connector blocks of prefect-sqlalchemy as they are saved on a server: feeds read databases by their names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import temporary_settings
from prefect_sqlalchemy import AsyncSqlAlchemyConnector, ConnectionComponents, SqlAlchemyConnector

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.extract import extract
from tests.support.extracting import context_of, values_of
from tests.support.prefect_processes import Server

pytestmark = pytest.mark.integration


@pytest.fixture
def shop(prefect: Server, tmp_path: Path) -> Iterator[Path]:
    """A database, and this process talking to the server, as a run does."""
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE prices (sku TEXT, price REAL)")
        connection.execute("INSERT INTO prices VALUES ('a', 1.5), ('b', NULL)")
    with temporary_settings(prefect.settings):
        yield path


def save(connector: Any, name: str) -> None:
    connector.save(name, overwrite=True, _sync=True)


@pytest.mark.parametrize("driver", ["sqlite+pysqlite", "sqlite+aiosqlite"])
def test_a_saved_connector_is_read_whether_it_waits_in_a_loop_or_not(
    shop: Path, workspace: Workspace, tmp_path: Path, driver: str
) -> None:
    kind = AsyncSqlAlchemyConnector if "aio" in driver else SqlAlchemyConnector
    name = f"feeds-{driver.rpartition('+')[2]}"
    save(kind(connection_info=ConnectionComponents(driver=driver, database=str(shop))), name)
    task = {"source": {"type": "sql", "connector": name, "table": "prices"}}
    staged = extract(context_of(workspace, tmp_path, {"extract": task}), "extract")
    assert values_of(workspace, staged) == [{"sku": "a", "price": 1.5}, {"sku": "b"}]


@pytest.mark.usefixtures("shop")
def test_a_connector_that_nobody_saved_is_named(workspace: Workspace, tmp_path: Path) -> None:
    task = {"source": {"type": "sql", "connector": "no-such-shop", "table": "prices"}}
    with pytest.raises(LookbookError, match="no-such-shop is saved"):
        extract(context_of(workspace, tmp_path, {"extract": task}), "extract")
