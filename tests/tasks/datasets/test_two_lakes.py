"""Two workspaces with a lake each and one registry: neither is misled by the books of the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LeaseLostError
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.registry import Registry, unfenced
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.deployments.api.access import create_key, list_keys
from lookbook.tasks.datasets.follow import catch_up, indexed_snapshot
from lookbook.tasks.datasets.manifest import require_published
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.datasets.watching import Watch, read_watch, write_watch
from lookbook.tasks.runs.lease import LeaseHeldError, lease, living_owners, this_process, warehouse_lease
from lookbook.tasks.runs.records import list_runs, start_run
from lookbook.tasks.tables import ledger
from lookbook.tasks.tables.catalogue import list_tables
from lookbook.tasks.tables.load.duckdb_tables import DuckDBTables
from tests.support.feeds import context, load_rows, table_rows
from tests.support.pipeline import photo, request, row, run, write_collection


@pytest.fixture
def two(workspace: Workspace, tmp_path: Path, registry: Registry) -> Iterator[tuple[Workspace, Workspace]]:
    """Two workspaces; the first has come to the registry before."""
    other = replace(local_workspace(tmp_path / "other"), registry=registry)
    for place in (workspace, other):
        list_runs(place.registry, None)
    yield workspace, other
    name = str(other.lake.id)[:16]

    async def drop(connection: Any) -> None:
        await connection.execute(f"DROP SCHEMA lookbook_{name} CASCADE; DROP SCHEMA IF EXISTS feeds_{name} CASCADE")

    registry.run(drop)


@pytest.fixture
def held(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Which leases of the first schema, which all lakes see, were held at each load into a warehouse."""
    found: list[set[str]] = []
    for kind, name in ((DuckDBWarehouse, "load_snapshot"), (DuckDBTables, "load")):
        load = getattr(kind, name)

        def told(*given: Any, load: Any = load) -> Any:
            found.append(set(living_owners(registry)))
            return load(*given)

        monkeypatch.setattr(kind, name, told)
    return found


def test_a_dataset_of_one_name_in_both_has_books_of_its_own_in_each(
    two: tuple[Workspace, Workspace], tmp_path: Path, held: list[set[str]]
) -> None:
    for number, place in enumerate(two):
        images = {f"{n}.jpg": photo(n) for n in range(1, 3 + number)}
        source = write_collection(tmp_path / f"in-{number}", images, [row(n) for n in range(1, 3 + number)])
        asked = request(place, source)
        start_run(place.registry, f"run-{number}", "things", str(source))
        assert run(asked)["published"]
    for number, place in enumerate(two):
        assert catch_up(place, "things") == []
        assert verify(place, "things").differences == []
        published = require_published(place.lake, "things").manifest.snapshot_id
        assert indexed_snapshot(place.registry, "things") == published
        assert [one["run_id"] for one in list_runs(place.registry, None)] == [f"run-{number}"]
    assert held == [{"warehouse"}] * 2, "also of the further lake: the warehouse may be that of both"


@pytest.mark.parametrize("target", ["warehouse", "registry", "lake"])
@pytest.mark.parametrize("settings", [{}, {"write_disposition": "merge", "primary_key": "id"}], ids=["append", "merge"])
def test_a_pipeline_of_one_name_loads_in_both_and_knows_what_each_has_taken(
    two: tuple[Workspace, Workspace], target: str, settings: dict[str, Any], held: list[set[str]]
) -> None:
    """Also into a table that is called as one of ours."""
    date = datetime(2026, 3, 1, tzinfo=UTC)
    for number, place in enumerate(two):
        assert ledger.read_states(place.registry, "feed") == {}, "nothing is taken yet: the other took it"
        entry = ledger.start_run(place.registry, "feed", date, "", f"run-{number}")
        assert entry.generation == 0
        rows = [{"id": n} for n in range(1 + number)]
        assert load_rows(context(place, target=target, table="leases", **settings), rows).rows == 1 + number
        ledger.commit_run(place.registry, entry, "completed", {}, {"extract": {"seen": number}})
    for number, place in enumerate(two):
        assert ledger.read_states(place.registry, "feed") == {"extract": {"seen": number}}
        if target != "lake":
            assert table_rows(place, target, "leases") == [{"id": n} for n in range(1 + number)]
        (listed,) = [one for one in list_tables(place) if one["name"].endswith("leases")]
        assert (listed["place"], listed["note"]) == (target, "not registered")
    assert held == ([{"warehouse", "feeds:warehouse:leases"}] * 2 if target == "warehouse" else [])


def test_leases_watches_and_keys_of_one_are_not_seen_in_the_other(two: tuple[Workspace, Workspace]) -> None:
    first, other = two
    key = create_key(first.registry, "app", ["read"])
    assert key
    assert [one.name for one in list_keys(first.registry)] == ["app"]
    assert list_keys(other.registry) == []
    with lease(first.registry, "dataset/things"), lease(other.registry, "dataset/things"):
        assert living_owners(other.registry) == {"dataset/things": this_process()}
    write_watch(first.registry, "s", "things", Watch("a" * 64))
    assert [read_watch(place.registry, "s", "things") for place in two] == [Watch("a" * 64), Watch()]


def test_who_ends_the_server_sees_the_leases_of_all_lakes(two: tuple[Workspace, Workspace], registry: Registry) -> None:
    with lease(two[0].registry, "dataset/one"), lease(two[1].registry, "dataset/two"):
        assert set(living_owners(registry, of_all_lakes=True)) == {"dataset/one", "dataset/two"}


def test_lakes_that_share_a_warehouse_wait_for_each_other_to_load_into_it(two: tuple[Workspace, Workspace]) -> None:
    with (
        warehouse_lease(two[1].registry),
        pytest.raises(LeaseHeldError),
        lease(two[0].registry.of_lake(None), "warehouse"),
    ):
        pytest.fail("two load into it")


@pytest.mark.parametrize("shared", [False, True])
def test_a_lease_that_was_lost_keeps_the_second_lake_from_writing_too(
    two: tuple[Workspace, Workspace], shared: bool
) -> None:
    """One of its own, and one of the warehouse, which lies in the first schema."""
    books = two[1].registry
    kept = books.of_lake(None) if shared else books

    async def lose(connection: Any) -> None:
        await connection.execute("DELETE FROM leases")

    with lease(kept, "warehouse"):
        list_runs(books, None)
        with unfenced():
            kept.run(lose)
        with pytest.raises(LeaseLostError, match="warehouse"):
            list_runs(books, None)


def test_another_lake_for_a_workspace_takes_other_books(two: tuple[Workspace, Workspace], tmp_path: Path) -> None:
    first, other = two
    start_run(first.registry, "run-1", "things", "s")
    assert list_runs(replace(first, lake=other.lake).registry, None) == []
    assert len(list_runs(replace(other, lake=FolderLake(root=tmp_path / "home" / "lake")).registry, None)) == 1
