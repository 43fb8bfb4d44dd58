"""The flow of a one-off import: a source becomes a table, with the parts and the ledger of pipelines."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State

from lookbook.flows.endings import end_pipeline
from lookbook.flows.pipeline import PipelineRun, run_pipeline
from lookbook.tasks.runs.parameters import RejectLimit, WorkspaceName, described
from lookbook.tasks.tables.orchestrations import import_date, import_pipeline
from lookbook.tasks.tables.spec.pipeline import ImportSettings
from lookbook.tasks.tables.spec.tasks import DecimalSign, FileFormat
from lookbook.tasks.tables.spec.values import Target, TaskName, WriteDisposition

TableSource = Annotated[
    str,
    described(
        "Source",
        "A path that the worker can read, with or without wildcards; an address with http or https; lake://key, "
        "inbox://name; or connector:block/table for a database.",
        min_length=1,
    ),
]
Table = Annotated[TaskName, described("Table", "Name of the table: lower-case letters, digits and _.")]
Place = Annotated[Target, described("To", "Where the table is: in the warehouse, the registry or the lake.")]
Disposition = Annotated[
    WriteDisposition,
    described("Write disposition", "append, replace, or merge by the primary key."),
]
PrimaryKey = Annotated[list[str] | None, described("Primary key", "The columns that name a row.")]
Format = Annotated[FileFormat, described("Format", "Of the files; auto: by their names.")]
Skip = Annotated[int, described("Skip", "Lines before the header of delimited files.", ge=0, le=10_000)]
Decimal = Annotated[DecimalSign, described("Decimal", "The sign before the fraction of a number in delimited files.")]
AllowPrivate = Annotated[bool, described("Allow private", "Take addresses of private networks, too.")]
ImportDate = Annotated[
    datetime | None, described("Date", "What {year}, {month}, {day}, {date} in the source stand for. None: today.")
]


@flow(name="import-table", flow_run_name="import-{table}", on_cancellation=[end_pipeline])
def import_table(
    source: TableSource,
    table: Table,
    to: Place = "warehouse",
    write_disposition: Disposition = "append",
    primary_key: PrimaryKey = None,
    format: Format = "auto",  # noqa: A002 - what users call it
    skip: Skip = 0,
    decimal: Decimal = ".",
    allow_private: AllowPrivate = False,
    reject_limit: RejectLimit = 0.1,
    date: ImportDate = None,
    workspace: WorkspaceName = "local",
) -> dict[str, Any] | State[Any]:
    """Import a table once, without a spec.

    Importing the same source again takes the place of what it had brought; another one adds to the table.

    Returns:
        The summary, as of a pipeline.
    """
    settings = ImportSettings(
        source=source,
        table=table,
        to=to,
        write_disposition=write_disposition,
        primary_key=tuple(primary_key or ()),
        format=format,
        skip=skip,
        decimal=decimal,
        allow_private=allow_private,
        reject_limit=reject_limit,
    )
    spec = import_pipeline(settings)
    return run_pipeline(PipelineRun(spec, Path.cwd(), import_date(settings, date, datetime.now(UTC)), {}, workspace))
