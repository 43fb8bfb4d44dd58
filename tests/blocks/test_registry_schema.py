"""One database for several lakes: each has its books in a schema of its own; old books go to the lake they are of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import IDENTITY, FolderLake, Lake
from lookbook.blocks.migrations import script
from lookbook.blocks.registry import Address, Registry
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.tasks.datasets.manifest import snapshot_folder
from tests.support.registries import Place, Servers, execute, place


@pytest.fixture
def fresh(registry_servers: Servers) -> Iterator[Place]:
    """A database without any schema of ours, on the embedded server."""
    with place(registry_servers, "embedded") as found:
        yield found


@pytest.fixture
def lakes(tmp_path: Path) -> list[Lake]:
    return [FolderLake(root=tmp_path / "first"), FolderLake(root=tmp_path / "second")]


def ask(registry: Registry, sql: str, *values: Any) -> Any:
    return registry.run(lambda connection: connection.fetchval(sql, *values))


def owner(place: Place) -> Any:
    """Whose the schema lookbook is."""
    return ask(place.registry(), "SELECT id FROM lake")


def watch(registry: Registry, name: str) -> None:
    ask(registry, "INSERT INTO watches (dataset, source, seen, changed_at) VALUES ($1, 's', 'x', now())", name)


WATCHED = "SELECT array_agg(dataset ORDER BY dataset) FROM watches"


def test_two_lakes_see_nothing_of_each_other(empty: Place, lakes: list[Lake]) -> None:
    """Through a pooler as well: which schema a transaction is in does not stay on the connection."""
    registries = [empty.registry().of_lake(lake) for lake in lakes]
    for registry in registries:
        assert ask(registry, WATCHED) is None
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: watch(registries[n % 2], f"{n}"), range(8)))
    assert [ask(registry, WATCHED) for registry in registries] == [["0", "2", "4", "6"], ["1", "3", "5", "7"]]
    assert owner(empty) == lakes[0].id


def test_who_comes_second_never_takes_the_first_schema_and_finds_its_own_again(
    fresh: Place, lakes: list[Lake], tmp_path: Path
) -> None:
    for lake in lakes:
        watch(fresh.registry().of_lake(lake), "shoes")
    again = FolderLake(root=tmp_path / "second")
    own = f"lookbook_{str(again.id)[:16]}"
    assert ask(fresh.registry().of_lake(again), "SELECT current_schema()") == own
    execute(fresh.url, "DELETE FROM lookbook.lake")
    assert ask(fresh.registry().of_lake(again), "SELECT current_schema()") == own
    assert owner(fresh) is None
    assert ask(fresh.registry().of_lake(lakes[0]), WATCHED) == ["shoes"]
    assert owner(fresh) == lakes[0].id
    execute(fresh.url, f"SET search_path TO {own}; DELETE FROM lake; {SNAPSHOT}")
    assert ask(fresh.registry().of_lake(again), "SELECT current_schema()") == own, "by its name, whatever stands there"


def test_lakes_that_come_at_once_agree_who_is_the_first(fresh: Place, lakes: list[Lake]) -> None:
    start = threading.Barrier(6)

    def come(number: int) -> tuple[int, str]:
        registry = fresh.registry(connections=6).of_lake(FolderLake(root=Path(lakes[number % 2].uri("x")).parent))
        start.wait(60)
        return number % 2, ask(registry, "SELECT current_schema()")

    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(come, range(6)))
    first = next(number for number, schema in found if schema == "lookbook")
    assert found == {(first, "lookbook"), (1 - first, f"lookbook_{str(lakes[1 - first].id)[:16]}")}
    assert owner(fresh) == lakes[first].id


def old(place: Place, rows: str) -> None:
    """Books as they were before lakes had ids."""
    steps = script(None, "0005")
    execute(place.url, f"CREATE SCHEMA lookbook; SET search_path TO lookbook; {steps}; {rows}")


RUN = "INSERT INTO runs (run_id, dataset, source, status, owner) VALUES ('r1', 'shoes', 's', 'completed', 'o:1:1')"
SNAPSHOT = "INSERT INTO snapshots VALUES ('shoes', 's-1', 'd', now(), 1, 1)"
RUNS = "SELECT count(*) FROM runs"


def test_the_first_lake_that_comes_to_old_books_takes_them_with_their_rows(fresh: Place, lakes: list[Lake]) -> None:
    old(fresh, RUN)
    assert [ask(fresh.registry().of_lake(lake), RUNS) for lake in lakes] == [1, 0]
    assert owner(fresh) == lakes[0].id


def test_old_books_wait_for_the_lake_that_holds_one_of_their_snapshots(fresh: Place, lakes: list[Lake]) -> None:
    old(fresh, f"{RUN}; {SNAPSHOT}")
    other, theirs = lakes
    other.put(f"{snapshot_folder('shoes', 's-2')}/manifest.json", b"{}")
    theirs.put(f"{snapshot_folder('shoes', 's-1')}/manifest.json", b"{}")
    for lake, rows in ((other, 0), (theirs, 1), (other, 0)):
        assert ask(fresh.registry().of_lake(lake), RUNS) == rows
    assert owner(fresh) == theirs.id


def test_a_registry_of_no_lake_works_in_the_first_schema_whoevers_it_is(fresh: Place, lakes: list[Lake]) -> None:
    watch(fresh.registry(), "before")
    assert owner(fresh) is None
    watch(fresh.registry().of_lake(lakes[0]), "after")
    assert ask(fresh.registry().of_lake(lakes[1]).of_lake(None), WATCHED) == ["after", "before"]


def test_a_lake_that_is_read_only_sees_old_books_and_is_not_mixed_with_anothers(
    fresh: Place, lakes: list[Lake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old(fresh, RUN)

    def refuse(*_: Any) -> None:
        raise LookbookError("The lake cannot be written.")

    with monkeypatch.context() as patched:
        patched.setattr(FolderLake, "swap", refuse)
        assert ask(fresh.registry().of_lake(lakes[0]), RUNS) == 1
        assert owner(fresh) is None
    assert ask(fresh.registry().of_lake(lakes[1]), RUNS) == 1
    with monkeypatch.context() as patched:
        patched.setattr(FolderLake, "swap", refuse)
        with pytest.raises(LookbookError, match=r"books of another lake, and .*lake\.json cannot be written") as caught:
            ask(fresh.registry().of_lake(FolderLake(root=tmp_path / "first")), RUNS)
        assert "somebody who may write" in caught.value.way_out


def test_who_never_asks_the_registry_reads_no_id(tmp_path: Path) -> None:
    workspace = local_workspace(tmp_path / "home")
    assert isinstance(workspace, Workspace)
    assert list((tmp_path / "home" / "lake").iterdir()) == []


def test_a_damaged_id_is_told_before_the_registry_is_asked(
    lakes: list[Lake], fresh: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Address:
        raise AssertionError("asked")

    lakes[0].put(IDENTITY, b'{"id": "x; DROP SCHEMA lookbook"}')
    monkeypatch.setattr("lookbook.blocks.registry.connect", never)
    with pytest.raises(LookbookError, match=r"lake\.json does not hold the lake's id"):
        ask(fresh.registry().of_lake(lakes[0]), "SELECT 1")


def test_a_temporary_table_does_not_hide_one_of_ours(fresh: Place, lakes: list[Lake]) -> None:
    registry = fresh.registry().of_lake(lakes[0])
    watch(registry, "shoes")

    async def work(connection: Any) -> Any:
        await connection.execute("CREATE TEMPORARY TABLE watches (x int) ON COMMIT DROP")
        return await connection.fetchval("SELECT count(dataset) FROM watches")

    assert registry.run(work) == 1


def test_no_table_of_ours_has_a_name_of_postgresqls_own(fresh: Place) -> None:
    names = "SELECT relname FROM pg_class WHERE relnamespace = '{}'::regnamespace"
    ours = f"SELECT count(*) FROM ({names.format('lookbook')})"
    assert ask(fresh.registry(), f"{ours} AS ours") > 10
    assert ask(fresh.registry(), f"{ours} AS ours JOIN ({names.format('pg_catalog')}) AS own USING (relname)") == 0
