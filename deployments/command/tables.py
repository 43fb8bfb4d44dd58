"""The commands ``lookbook tables`` and ``lookbook describe``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from cyclopts import Parameter

from lookbook.deployments.command.options import Debug, Json, with_checked_options
from lookbook.tasks.runs.parameters import WorkspaceName

TableName = Annotated[str, Parameter(help='As "lookbook tables" names it, or its last part: feeds.prices, prices.')]

_COLUMNS = ("name", "place", "kind", "rows", "bytes", "fresh_at")


@with_checked_options
def tables(*, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False) -> None:
    """List the tables of warehouse, lake and registry."""
    from lookbook.deployments.command.output import print_json, print_rows

    place = _workspace(workspace, debug)
    from lookbook.tasks.tables.catalogue import list_tables

    rows = list_tables(place)
    if json:
        print_json(rows)
        return
    columns = [*_COLUMNS, *(["note"] if any(row["note"] for row in rows) else [])]
    print_rows(columns, ([_shown(row[column]) for column in columns] for row in rows), "No tables yet.")


@with_checked_options
def describe(
    table: TableName, /, *, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False
) -> None:
    """Show a table's columns, partitions, rows, freshness, and origin."""
    from lookbook.deployments.command.output import print_json

    place = _workspace(workspace, debug)
    from lookbook.tasks.tables.catalogue import describe as look_up

    found = look_up(place, table)
    print_json(found) if json else _print(found)


def _workspace(name: str, debug: bool) -> Any:  # noqa: ANN401 - Workspace, which is slow to import
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.server import environment

    environment.prepare(read_settings().home, debug=debug)
    from lookbook.blocks.workspace import load_workspace

    return load_workspace(name)


def _print(found: dict[str, Any]) -> None:
    from lookbook.deployments.command.output import print_rows, printable

    lineage = found["lineage"]
    facts = [(name, found[name]) for name in ("place", "kind", "rows", "bytes", "fresh_at", "note")]
    facts += [("run", lineage["run_id"]), ("load", lineage["load_id"])]
    facts += [("input", _source(source)) for source in lineage["inputs"]]
    sys.stdout.write(printable(found["name"]) + "\n")
    for name, value in facts:
        if value not in (None, ""):
            sys.stdout.write(f"  {name:<9} {printable(str(_shown(value)))}\n")
    sys.stdout.write("\n")
    print_rows(["column", "type"], ([column["name"], column["type"]] for column in found["columns"]), "No columns.")
    if found["partitions"]:
        sys.stdout.write("\n")
        names = list(found["partitions"][0])
        print_rows(names, ([partition[name] for name in names] for partition in found["partitions"]))
    if lineage["loads"]:
        sys.stdout.write("\n")
        names = ["loaded_at", "pipeline", "task", "rows", "rejected", "load_id", "run_id"]
        print_rows(names, ([load[name] for name in names] for load in lineage["loads"]))


def _source(source: Any) -> str:  # noqa: ANN401 - an address, or what is said of a dataset
    if not isinstance(source, dict):
        return str(source)
    rows = f", {source['rows']:,} rows" if isinstance(source.get("rows"), int) else ""
    return f"{source['dataset']}: snapshot {source['snapshot']} of {source['source']}{rows}"


def _shown(value: Any) -> Any:  # noqa: ANN401 - any value
    return f"{value:,}" if isinstance(value, int) else value
