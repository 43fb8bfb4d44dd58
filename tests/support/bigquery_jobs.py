"""Jobs of the BigQuery stand-in: load, query and copy. Each runs at once, and is told of as DONE, or a little later."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from tests.support import bigquery_engine as engine
from tests.support.bigquery_bytes import BILLED_AT_LEAST, MEGABYTE, bytes_read
from tests.support.bigquery_catalog import Catalog, Refused, quoted
from tests.support.bigquery_parsing import Statement, parse
from tests.support.bigquery_types import Field, rest_fields

#: The objects that a ``gs://`` address names, by address; it may hold one ``*``.
Fetch = Callable[[str], Mapping[str, bytes]]

_BAD_CHARACTERS = re.compile(r"[!\"$()*,./;?@\[\\\]^`{}~]")


@dataclass
class Job:
    """A job's resource, and what its query gave."""

    resource: dict[str, Any]
    rows: pa.Table = field(default_factory=lambda: pa.table({}))
    fields: list[Field] = field(default_factory=list)
    polls_left: int = 0

    @property
    def error(self) -> dict[str, str] | None:
        """Its error result, if it failed."""
        found: dict[str, str] | None = self.resource["status"].get("errorResult")
        return found

    def told(self) -> dict[str, Any]:
        """The resource as it is told now: RUNNING for as many times as the test wants."""
        if self.polls_left > 0:
            self.polls_left -= 1
            return self.resource | {"status": {"state": "RUNNING"}}
        return self.resource


class Jobs:
    """Runs jobs, and keeps them by their ids for good, as BigQuery does for half a year.

    Attributes:
        polls: how often a job that is begun from now on is told of as RUNNING.
        failing: what the next jobs fail of, one each.
    """

    def __init__(self, catalog: Catalog, fetch: Fetch) -> None:
        self.catalog, self.fetch = catalog, fetch
        self.by_id: dict[str, Job] = {}
        self.polls = 0
        self.failing: list[Refused] = []

    def insert(self, resource: Mapping[str, Any], upload: bytes | None = None) -> Job:
        """Run a job; refused where one of that id stands. A job that fails is a job with an error result."""
        reference, configuration = resource["jobReference"], resource["configuration"]
        job_id = reference["jobId"]
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,1024}", job_id):
            raise Refused(400, "invalid", f"Invalid job ID {job_id!r}")
        location = reference.get("location", "US")
        dry = configuration.get("dryRun", False)
        if job_id in self.by_id and not dry:
            raise Refused(409, "duplicate", f"Already Exists: Job {self.catalog.project}:{location}.{job_id}")
        job = Job(self._begun(reference, configuration, location), polls_left=self.polls)
        try:
            self._run(job, upload)
        except Refused as refused:
            if dry:
                raise
            job.resource["status"] |= {"errorResult": refused.result, "errors": [refused.result]}
        if not dry:
            self.by_id[job_id] = job
        return job

    def get(self, job_id: str, location: str | None) -> Job:
        """A job; where it does not lie in the US or EU, only who names its location finds it."""
        here = self.catalog.location.upper()
        found = here in {"US", "EU"} if location is None else location.upper() == here
        if job_id not in self.by_id or not found:
            raise Refused(404, "notFound", f"Not found: Job {self.catalog.project}:{location or 'US'}.{job_id}")
        return self.by_id[job_id]

    def _begun(self, reference: Mapping[str, Any], configuration: dict[str, Any], location: str) -> dict[str, Any]:
        now = str(int(time.time() * 1000))
        project = self.catalog.project
        kind = next(name for name in ("load", "query", "copy") if name in configuration)
        return {
            "kind": "bigquery#job",
            "id": f"{project}:{location}.{reference['jobId']}",
            "jobReference": {"projectId": project, "jobId": reference["jobId"], "location": location},
            "configuration": {**configuration, "jobType": kind.upper()},
            "statistics": {"creationTime": now, "startTime": now, "endTime": now},
            "status": {"state": "DONE"},
        }

    def _run(self, job: Job, upload: bytes | None) -> None:
        configuration, location = job.resource["configuration"], job.resource["jobReference"]["location"]
        if location.upper() != self.catalog.location.upper():
            raise Refused(404, "notFound", f"Not found: Dataset was not found in location {location}")
        if self.failing and not configuration.get("dryRun"):
            raise self.failing.pop(0)
        if "load" in configuration:
            job.resource["statistics"]["load"] = self._load(configuration["load"], upload)
        elif "copy" in configuration:
            self._copy(configuration["copy"])
        else:
            self._query(job, configuration["query"], dry=configuration.get("dryRun", False))

    def _load(self, load: Mapping[str, Any], upload: bytes | None) -> dict[str, str]:
        if load.get("sourceFormat") != "PARQUET":
            raise Refused(400, "invalid", f"the stand-in loads PARQUET, not {load.get('sourceFormat')}")
        files = [upload] if upload is not None else self._fetched(load["sourceUris"])
        try:
            tables = [pq.read_table(io.BytesIO(data)) for data in files]
        except pa.ArrowInvalid as error:
            raise Refused(400, "invalid", f"Error while reading data, error message: {error}") from error
        rows = _as_loaded(pa.concat_tables(tables, promote_options="permissive"), load)
        target = load["destinationTable"]
        self._write(target["datasetId"], target["tableId"], rows, load)
        size = sum(len(data) for data in files)
        counts = {"outputRows": len(rows), "inputFiles": len(files), "inputFileBytes": size, "outputBytes": rows.nbytes}
        return {name: str(count) for name, count in counts.items()} | {"badRecords": "0"}

    def _fetched(self, uris: list[str]) -> list[bytes]:
        found: list[bytes] = []
        for uri in uris:
            if uri.count("*") > 1:
                raise Refused(400, "invalid", f"Invalid wildcard in {uri}: at most one '*' may be used")
            objects = self.fetch(uri)
            if not objects:
                raise Refused(404, "notFound", f"Not found: URI {uri}")
            found += objects.values()
        return found

    def _write(self, dataset: str, name: str, rows: pa.Table, into: Mapping[str, Any]) -> None:
        self.catalog.dataset(dataset)
        disposition = into.get("writeDisposition", "WRITE_APPEND")
        properties = dict(into.get("destinationTableProperties", {}))
        standing = self.catalog.has(dataset, name) and self.catalog.fields(dataset, name)
        if not standing or disposition == "WRITE_TRUNCATE":
            self.catalog.fill(dataset, name, rows, properties)
            return
        if disposition == "WRITE_EMPTY":
            raise Refused(409, "duplicate", f"Already Exists: Table {self.catalog.project}:{dataset}.{name}")
        kinds = {field["name"]: field["type"] for field in standing}
        for field_ in rest_fields(rows.schema):
            if kinds.get(field_["name"]) != field_["type"]:
                message = f"Provided Schema does not match Table {dataset}.{name}. Field {field_['name']} differs"
                raise Refused(400, "invalid", message)
        self.catalog.duckdb.register("__rows", rows)
        self.catalog.duckdb.execute(f"INSERT INTO {quoted(dataset, name)} BY NAME SELECT * FROM __rows")
        self.catalog.duckdb.unregister("__rows")

    def _copy(self, copy: Mapping[str, Any]) -> None:
        sources = copy.get("sourceTables") or [copy["sourceTable"]]
        for source in sources:
            self.catalog.table(source["datasetId"], source["tableId"])
        names = [quoted(source["datasetId"], source["tableId"]) for source in sources]
        rows = self.catalog.rows(" UNION ALL ".join(f"SELECT * FROM {name}" for name in names))
        target = copy["destinationTable"]
        into = {"writeDisposition": "WRITE_EMPTY", **copy}
        self._write(target["datasetId"], target["tableId"], rows, into)

    def _query(self, job: Job, query: Mapping[str, Any], *, dry: bool) -> None:
        default = (query.get("defaultDataset") or {}).get("datasetId")
        statements = parse(self.catalog, query["query"], default)
        kind = statements[0].kind if len(statements) == 1 else "SCRIPT"
        limit = int(query.get("maximumBytesBilled") or 0)
        counted = limit or dry or kind == "SELECT"  # of other statements no test asks how much they read
        read = sum(bytes_read(self.catalog, statement) for statement in statements) if counted else 0
        tables = {key for statement in statements for key in statement.tables if self.catalog.has(*key)}
        billed = _billed(read, len(tables)) if kind not in {"CREATE_TABLE", "CREATE_VIEW"} else 0
        if limit and billed > limit and not dry:
            message = f"Query exceeded limit for bytes billed: {limit}. {billed} or higher required."
            raise Refused(400, "bytesBilledLimitExceeded", message)
        statistics: dict[str, Any] = {
            "statementType": kind,
            "totalBytesProcessed": str(read),
            "totalBytesBilled": "0" if dry else str(billed),
            "referencedTables": [
                {"projectId": self.catalog.project, "datasetId": dataset, "tableId": name}
                for dataset, name in sorted(tables)
            ],
        }
        job.resource["statistics"] |= {"query": statistics, "totalBytesProcessed": str(read)}
        if dry:
            self._dry(statements, statistics)
            return
        for outcome in engine.run_script(self.catalog, statements):
            if outcome.rows is not None:
                job.rows, job.fields = outcome.rows, rest_fields(outcome.rows.schema)
                statistics["schema"] = {"fields": job.fields}
            if outcome.dml is not None:
                statistics["dmlStats"] = {name: str(count) for name, count in outcome.dml.items()}
                statistics["numDmlAffectedRows"] = str(sum(outcome.dml.values()))

    def _dry(self, statements: list[Statement], statistics: dict[str, Any]) -> None:
        for statement in statements:
            if not isinstance(statement.tree, (exp.Create, exp.Drop)):
                for key in statement.tables:
                    self.catalog.table(*key)
            if statement.kind == "SELECT":
                fields = engine.select_fields(self.catalog, statement.tree)
                statistics["schema"] = {"fields": fields}


def _billed(read: int, tables: int) -> int:
    """On demand: whole megabytes, and 10 of them at least for each table that is read."""
    return max(-(-read // MEGABYTE) * MEGABYTE, BILLED_AT_LEAST * tables)


def _as_loaded(rows: pa.Table, load: Mapping[str, Any]) -> pa.Table:
    """Columns as BigQuery makes them of a Parquet file's: wide types, names without characters that it forbids."""
    flexible = load.get("columnNameCharacterMap") == "V2"
    lists = load.get("parquetOptions", {}).get("enableListInference", False)
    names, columns = [], []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if pa.types.is_list(column.type) and not lists:
            raise Refused(
                400, "invalid", f"column {name}: a list needs enableListInference, or it is a record of records"
            )
        names.append(_BAD_CHARACTERS.sub("_", name) if flexible else re.sub(r"\W", "_", name, flags=re.ASCII))
        columns.append(column.cast(_loaded_type(column.type)))
    lower = [name.lower() for name in names]
    twice = sorted({name for name in lower if lower.count(name) > 1})
    if twice:
        raise Refused(400, "invalid", f"Duplicate field name: {twice[0]}")
    return pa.Table.from_arrays(columns, names=names)


def _loaded_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    return kind
