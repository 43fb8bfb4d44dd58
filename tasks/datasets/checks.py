"""Checks before publication: SQL that returns no rows over a new snapshot and the former one; kept with a dataset."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from lookbook.blocks.duckdb.queries import engine
from lookbook.blocks.errors import SwapConflictError
from lookbook.blocks.lake import Lake
from lookbook.blocks.sql_text import names_read, parquet_files
from lookbook.blocks.workspace import Workspace, scratch_folder
from lookbook.tasks.datasets.manifest import TABLES, DamagedSnapshotError, Manifest, local_table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: What the tables of the former snapshot are called: ``former_products`` beside ``products``.
FORMER = "former_"
READABLE = (*TABLES, *(f"{FORMER}{name}" for name in TABLES))
#: Seconds that one check may take; what it may hold in memory is the engine's.
SECONDS = 300.0
#: Of the rows that a check returns, so many are shown; columns of each, and characters of a value.
SHOWN, SHOWN_COLUMNS, SHOWN_CHARACTERS = 10, 20, 200
#: Rows that are fetched at once.
ROWS = 10_000
#: Failed checks that an error names.
NAMED = 5
#: How DuckDB tells the line of a fault.
_LINE = re.compile(r"\nLINE (\d+):")
#: So often it is tried again where others set the checks of the dataset meanwhile.
TRIES = 50


class Check(BaseModel):
    """A condition on a snapshot, told by the rows that break it.

    Attributes:
        name: by which errors and reports call it.
        sql: one SELECT of DuckDB over images, outputs, products, image_links and rejects of the new snapshot, and over
            former_images, former_outputs … of the published one. The check passes if it returns no rows.
        says: what is wrong if it returns rows, in words.
        level: what happens then. stop: nothing is published. warn: it is told, and the snapshot published.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    sql: Annotated[str, Field(min_length=1, max_length=20_000)]
    says: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    level: Literal["stop", "warn"] = "stop"

    @field_validator("sql")
    @classmethod
    def _reads_only_the_snapshots(cls, sql: str) -> str:
        if fault := _grammar_fault(sql):
            raise ValueError(f"it is no SQL of DuckDB: {fault}")
        try:
            names = names_read(sql)
        except ValueError:
            raise
        except Exception as error:  # noqa: BLE001 - sqlglot falls in many ways over what it does not know
            raise ValueError(f"it cannot be read: {_why(error)}") from None
        unknown = sorted(name for name in names if name.lower() not in READABLE)
        if unknown:
            raise ValueError(f"it reads {unknown[0][:60]}; there are {', '.join(READABLE)}")
        return sql


def _grammar_fault(sql: str) -> str:
    """Return what DuckDB's own grammar says against a text; nothing where all is right."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    with duckdb.connect() as connection:
        try:
            connection.extract_statements(sql)
        except duckdb.Error as error:
            found = _LINE.search(str(error))
            return f"line {found[1] if found else 1}: {_why(error)}"
    return ""


class Checks(BaseModel):
    """What has to hold before a snapshot of a dataset is published.

    Attributes:
        checks: each with a name of its own; they are run in this order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    checks: Annotated[list[Check], Field(min_length=1, max_length=100)]

    @field_validator("checks")
    @classmethod
    def _names_differ(cls, checks: list[Check]) -> list[Check]:
        names = [check.name for check in checks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {twice[0]} is there twice")
        return checks


class _Kept(Checks):
    """The content of the object."""

    format_version: int = 1
    set_at: datetime


def checks_key(dataset: str) -> str:
    """Return the object with the checks of a dataset: whoever ingests it, by whichever way, finds them there."""
    return f"datasets/{dataset}/checks.json"


def read_checks(lake: Lake, dataset: str) -> list[Check]:
    """Return the checks of a dataset, in their order; none where none were set.

    Raises:
        LookbookError: their object is damaged: nothing is taken to be checked that is not.
    """
    way_out = f'"lookbook checks {dataset} --set FILE" replaces them, --remove removes them.'
    found, _ = lake.read_swapped(checks_key(dataset), _Kept, f"{dataset}: its checks in", way_out)
    return found.checks if found else []


def set_checks(lake: Lake, dataset: str, checks: Checks | None) -> None:
    """Let these checks hold for each later ingest of a dataset, in place of all others; None: no checks.

    The dataset need not be there yet. A run that is publishing meanwhile may still go by the former ones.
    """
    key = checks_key(dataset)
    if checks is None:
        lake.remove(key)
        return
    text = _Kept(checks=checks.checks, set_at=datetime.now(UTC)).model_dump_json(indent=1).encode()
    for tried in range(TRIES):
        found = lake.read_version(key)
        try:
            lake.swap(key, text, found[1] if found else None)
        except SwapConflictError:
            if tried == TRIES - 1:
                raise
        else:
            return


def run_checks(
    workspace: Workspace, checks: Sequence[Check], tables: Mapping[str, Sequence[Path]], former: Manifest | None
) -> list[dict[str, Any]]:
    """Run checks over the tables of a new snapshot and those of the former one.

    The SQL is a user's: it runs in a DuckDB that reaches nothing else, in bounded memory and time.

    Args:
        workspace: of the dataset.
        checks: to be run.
        tables: of the new snapshot, as Parquet files by the names of `TABLES`.
        former: the published snapshot; None: its tables are empty, with the columns of the new ones.

    Returns:
        For each check, as JSON knows it: ``name``, ``level`` and ``says``; ``outcome``, which is passed, warned or
        failed; ``rows`` that it returned and the ``first`` of them; ``error``, why it could not be run, which is a
        failure whatever its level.
    """
    if not checks:
        return []
    named = {name.lower() for check in checks for name in names_read(check.sql)}
    tables_named = sorted({name.removeprefix(FORMER) for name in named})
    formers = [name for name in tables_named if FORMER + name in named]
    with scratch_folder(workspace.scratch, "checks-") as folder:
        paths, faults = _former_files(workspace.lake, former, formers, Path(folder))
        new = {name: tables[name] for name in tables_named}
        with engine(Path(folder), [*chain(*paths.values(), *new.values())]) as (connection, _):
            for name, files in new.items():
                connection.execute(f"CREATE VIEW {name} AS FROM {parquet_files(files)}")
            for name in formers:
                if name not in faults:
                    faults |= _make_former(connection, name, paths.get(name))
            return [_run(connection, check, faults) for check in checks]


def _former_files(
    lake: Lake, former: Manifest | None, names: Sequence[str], folder: Path
) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Return the files of some tables of the former snapshot, and what is wrong with those that have none."""
    paths, faults = dict[str, list[Path]](), dict[str, str]()
    if former is None:
        return paths, faults
    for name in names:
        try:
            paths[name] = local_table(lake, former, name, folder)
        except DamagedSnapshotError as error:
            faults[FORMER + name] = error.problem
    return paths, faults


def _make_former(connection: DuckDBPyConnection, name: str, files: Sequence[Path] | None) -> dict[str, str]:
    """Make the view of a table of the former snapshot; a column that it lacks is null, without files it has no rows.

    Returns:
        What is wrong with it, by its name; nothing where it was made.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    rows = f"SELECT * FROM {name} WHERE false"  # noqa: S608 - our own names
    if files is not None:
        rows = f"SELECT * FROM {parquet_files(files)} UNION ALL BY NAME {rows}"  # noqa: S608
    try:
        connection.execute(f"CREATE VIEW {FORMER}{name} AS {rows}")
    except duckdb.Error as error:
        return {FORMER + name: _why(error)}
    return {}


def _run(connection: DuckDBPyConnection, check: Check, faults: Mapping[str, str]) -> dict[str, Any]:
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    result: dict[str, Any] = {"name": check.name, "level": check.level, "says": check.says}
    late = threading.Event()
    error = next((faults[name] for name in sorted(map(str.lower, names_read(check.sql))) if name in faults), None)
    if error is None:
        try:
            with _limited(connection, late):
                rows, first = _fetch(connection, check.sql)
        except (duckdb.Error, pa.ArrowException, OSError) as fault:
            error = f"it took longer than {SECONDS:g} seconds" if late.is_set() else _why(fault)
    if error is not None:
        return result | {"outcome": "failed", "rows": None, "first": [], "error": error}
    outcome = "passed" if not rows else "failed" if check.level == "stop" else "warned"
    return result | {"outcome": outcome, "rows": rows, "first": first, "error": None}


@contextmanager
def _limited(connection: DuckDBPyConnection, late: threading.Event) -> Iterator[None]:
    """Interrupt what the block asks of DuckDB when its time is over, and note that it was."""

    def interrupt() -> None:
        late.set()
        connection.interrupt()

    timer = threading.Timer(SECONDS, interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _fetch(connection: DuckDBPyConnection, sql: str) -> tuple[int, list[dict[str, Any]]]:
    """Return how many rows a SELECT gives, and the first of them; the others are only counted."""
    total, first = 0, list[dict[str, Any]]()
    for batch in connection.sql(sql).to_arrow_reader(ROWS):
        if total < SHOWN:
            shown = batch.slice(0, SHOWN - total).select(list(range(min(batch.num_columns, SHOWN_COLUMNS))))
            first += [{_text(name): _shown(value) for name, value in row.items()} for row in shown.to_pylist()]
        total += batch.num_rows
    return total, first


def _shown(value: object) -> object:
    """Return a value as all who read JSON know it, and not longer than people read."""
    is_number = (isinstance(value, float) and math.isfinite(value)) or (isinstance(value, int) and abs(value) < 2**63)
    return value if value is None or is_number else _text(value)


def _text(value: object) -> str:
    text = str(value).replace("\x00", "\ufffd")  # which PostgreSQL takes in no JSON
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _why(error: Exception) -> str:
    """Return what DuckDB says, without the excerpt of the statement that it underlines."""
    return " ".join(str(error).replace("\x00", "\ufffd").partition("\n\nLINE ")[0].split())[:500]


def failed(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the checks because of which nothing is published."""
    return [result["name"] for result in results if result["outcome"] == "failed"]


def told(result: Mapping[str, Any]) -> str:
    """Say on one line what a check found."""
    rows = result["rows"]
    found = f"{rows:,} row{'' if rows == 1 else 's'}" if rows is not None else f"not run: {result['error']}"
    says = f": {result['says'].rstrip('.')}" if result["says"] and rows else ""
    return " ".join(f"{result['name']} ({found}{says})".split())


def told_failures(results: Sequence[Mapping[str, Any]]) -> str:
    """Say in one line which checks failed, and why the first of them."""
    found = [told(result) for result in results if result["outcome"] == "failed"]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{len(found)} check{'' if len(found) == 1 else 's'} failed: {', '.join(found[:NAMED])}{more}"
