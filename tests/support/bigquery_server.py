"""A stand-in for BigQuery's REST API on the loopback, over DuckDB: strict where the documentation says so.

https://cloud.google.com/bigquery/docs/reference/rest. What it does not enforce: permissions, quotas, slots.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from tests.support import bigquery_engine as engine
from tests.support.bigquery_catalog import Catalog, Refused, quoted
from tests.support.bigquery_jobs import Fetch, Job, Jobs
from tests.support.bigquery_parsing import parse
from tests.support.bigquery_types import rest_rows
from tests.support.loopback import LoopbackServer, Request, Response, Route, json_response

_PROJECT = "/bigquery/v2/projects/([^/]+)"
_DATASET = f"{_PROJECT}/datasets/([^/]+)"
_TABLE = f"{_DATASET}/tables/([^/]+)"
_UPLOADS = "/(?:resumable/)?upload/bigquery/v2/projects/([^/]+)/jobs"
_PAGE = 100_000


class BigQueryServer(LoopbackServer):
    """BigQuery of one project.

    Args:
        project: whose it is; others are refused.
        location: where its datasets and jobs lie.
        catalog: what stands there already.
        fetch: the objects that a ``gs://`` address names.
        seed: of the faults' chances.
    """

    def __init__(
        self,
        project: str = "test-project",
        location: str = "EU",
        catalog: Catalog | None = None,
        fetch: Fetch = lambda _: {},
        seed: int = 0,
    ) -> None:
        self.catalog = catalog or Catalog(project, location)
        self.jobs = Jobs(self.catalog, fetch)
        self._uploads: dict[str, tuple[dict[str, Any], bytearray]] = {}
        super().__init__(self._routes(), seed)

    def _routes(self) -> list[Route]:
        table = [
            ("datasets.list", "GET", f"{_PROJECT}/datasets", self._list_datasets),
            ("datasets.insert", "POST", f"{_PROJECT}/datasets", self._insert_dataset),
            ("datasets.get", "GET", _DATASET, self._get_dataset),
            ("datasets.patch", "PATCH|PUT", _DATASET, self._patch_dataset),
            ("datasets.delete", "DELETE", _DATASET, self._delete_dataset),
            ("tables.list", "GET", f"{_DATASET}/tables", self._list_tables),
            ("tables.insert", "POST", f"{_DATASET}/tables", self._insert_table),
            ("tables.get", "GET", _TABLE, self._get_table),
            ("tables.patch", "PATCH|PUT", _TABLE, self._patch_table),
            ("tables.delete", "DELETE", _TABLE, self._delete_table),
            ("tabledata.list", "GET", f"{_TABLE}/data", self._list_rows),
            ("jobs.insert", "POST", f"{_PROJECT}/jobs", self._insert_job),
            ("jobs.get", "GET", f"{_PROJECT}/jobs/([^/]+)", self._get_job),
            ("jobs.cancel", "POST", f"{_PROJECT}/jobs/([^/]+)/cancel", self._cancel_job),
            ("jobs.upload", "POST", _UPLOADS, self._upload),
            ("jobs.uploadChunk", "PUT", _UPLOADS, self._upload_chunk),
            ("jobs.query", "POST", f"{_PROJECT}/queries", self._query),
            ("jobs.getQueryResults", "GET", f"{_PROJECT}/queries/([^/]+)", self._query_results),
        ]
        return [Route(name, method, path, self._guarded(answer)) for name, method, path, answer in table]

    def _guarded(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def guarded(request: Request) -> Response:
            with self.lock:
                try:
                    self._check_project(request.parts[0])
                    return answer(request)
                except Refused as refused:
                    return _error(refused)
                except Exception as error:  # noqa: BLE001 - a fault of the stand-in's own is to be seen in the test
                    where = traceback.format_exc()
                    return _error(Refused(400, "invalid", f"the stand-in failed: {error!r}\n{where}"))

        return guarded

    def _check_project(self, project: str) -> None:
        if project != self.catalog.project:
            raise Refused(404, "notFound", f"Not found: Project {project}")

    def run(self, sql: str) -> None:
        """Run a script of BigQuery's SQL behind the client's back."""
        with self.lock:
            for statement in parse(self.catalog, sql, None):
                engine.run(self.catalog, statement)

    # Datasets

    def _dataset_resource(self, name: str) -> dict[str, Any]:
        reference = {"projectId": self.catalog.project, "datasetId": name}
        return {"id": f"{self.catalog.project}:{name}", "datasetReference": reference} | self.catalog.dataset(name)

    def _list_datasets(self, _: Request) -> Response:
        return json_response({"datasets": [self._dataset_resource(name) for name in self.catalog.datasets]})

    def _insert_dataset(self, request: Request) -> Response:
        body = request.json()
        name = body.pop("datasetReference")["datasetId"]
        self.catalog.create_dataset(name, body)
        return json_response(self._dataset_resource(name))

    def _get_dataset(self, request: Request) -> Response:
        return json_response(self._dataset_resource(request.parts[1]))

    def _patch_dataset(self, request: Request) -> Response:
        self.catalog.dataset(request.parts[1]).update(request.json())
        return json_response(self._dataset_resource(request.parts[1]))

    def _delete_dataset(self, request: Request) -> Response:
        self.catalog.drop_dataset(request.parts[1], contents=request.query.get("deleteContents") == "true")
        return Response(204)

    # Tables

    def _table_resource(self, dataset: str, name: str) -> dict[str, Any]:
        table = self.catalog.table(dataset, name)
        reference = {"projectId": self.catalog.project, "datasetId": dataset, "tableId": name}
        counted = {}
        if table.query is None:
            (row,) = self.catalog.rows(f"SELECT count(*) AS n FROM {quoted(dataset, name)}").to_pylist()
            counted = {"numRows": str(row["n"])}
        return (
            table.properties
            | counted
            | {
                "id": f"{self.catalog.project}:{dataset}.{name}",
                "tableReference": reference,
                "type": "TABLE" if table.query is None else "VIEW",
                "creationTime": str(table.created),
                "location": self.catalog.location,
                "schema": {"fields": self.catalog.fields(dataset, name)},
            }
        )

    def _list_tables(self, request: Request) -> Response:
        _, dataset = request.parts
        self.catalog.dataset(dataset)
        names = sorted(name for where, name in self.catalog.tables if where == dataset)
        shown, following = _page(request, names)
        listed = [self._table_resource(dataset, name) for name in shown]
        for resource in listed:
            resource.pop("schema")
        token = {"nextPageToken": following["pageToken"]} if following else {}
        return json_response({"tables": listed, "totalItems": len(names)} | token)

    def _insert_table(self, request: Request) -> Response:
        body, (_, dataset) = request.json(), request.parts
        name = body.pop("tableReference")["tableId"]
        fields = body.pop("schema", {}).get("fields", [])
        self.catalog.create_table(dataset, name, fields, body)
        return json_response(self._table_resource(dataset, name))

    def _get_table(self, request: Request) -> Response:
        dataset, name = request.parts[1:]
        rows = {} if self.catalog.table(dataset, name).query else {"numRows": str(self.catalog.count(dataset, name))}
        return json_response(self._table_resource(dataset, name) | rows)

    def _patch_table(self, request: Request) -> Response:
        dataset, name = request.parts[1:]
        changes = request.json()
        if int(changes.get("expirationTime") or sys.maxsize) < time.time() * 1000:
            raise Refused(400, "invalid", "Expiration time must be in the future")
        self.catalog.table(dataset, name).properties.update(changes)
        return json_response(self._table_resource(dataset, name))

    def _delete_table(self, request: Request) -> Response:
        self.catalog.drop(*request.parts[1:])
        return Response(204)

    def _list_rows(self, request: Request) -> Response:
        dataset, name = request.parts[1:]
        if self.catalog.table(dataset, name).query is not None:
            raise Refused(400, "invalid", f"Cannot list a table of type VIEW: {dataset}.{name}")
        rows = self.catalog.rows(f'SELECT * FROM "{dataset}"."{name}"')
        return json_response(_rows_page(request, rows, self.catalog.fields(dataset, name)))

    # Jobs

    def _insert_job(self, request: Request) -> Response:
        return json_response(self.jobs.insert(request.json()).told())

    def _get_job(self, request: Request) -> Response:
        return json_response(self.jobs.get(request.parts[1], request.query.get("location")).told())

    def _cancel_job(self, request: Request) -> Response:
        return json_response({"job": self.jobs.get(request.parts[1], request.query.get("location")).resource})

    def _upload(self, request: Request) -> Response:
        if request.query.get("uploadType") == "multipart":
            resource, data = _parts(request)
            return json_response(self.jobs.insert(resource, data).told())
        key = uuid.uuid4().hex
        self._uploads[key] = (request.json(), bytearray())
        return Response(200, headers={"Location": f"{self.url}{request.path}?uploadType=resumable&upload_id={key}"})

    def _upload_chunk(self, request: Request) -> Response:
        resource, data = self._uploads[request.query["upload_id"]]
        matched = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers["content-range"])
        if matched is None or (matched[1] and int(matched[1]) != len(data)):
            raise Refused(400, "invalid", f"Content-Range {request.headers['content-range']} at {len(data)}")
        data += request.body
        if matched[3] == "*" or int(matched[3]) > len(data):
            return Response(308, headers={"Range": f"bytes=0-{len(data) - 1}"} if data else {})
        return json_response(self.jobs.insert(resource, bytes(data)).told())

    def _query(self, request: Request) -> Response:
        body = request.json()
        names = ("query", "defaultDataset", "maximumBytesBilled", "useLegacySql")
        configuration = {"query": {name: body[name] for name in names if name in body}}
        configuration |= {name: body[name] for name in ("dryRun", "labels") if name in body}
        reference = {"jobId": uuid.uuid4().hex, "location": body.get("location", self.catalog.location)}
        job = self.jobs.insert({"jobReference": reference, "configuration": configuration})
        if job.error:
            raise Refused(_status(job), job.error["reason"], job.error["message"])
        exact = str(body.get("formatOptions", {}).get("useInt64Timestamp", False))
        asked = {name: str(body[name]) for name in ("maxResults",) if name in body}
        asked["formatOptions.useInt64Timestamp"] = exact
        return json_response(self._results(job, dataclasses.replace(request, query=asked)))

    def _query_results(self, request: Request) -> Response:
        job = self.jobs.get(request.parts[1], request.query.get("location"))
        if job.told()["status"]["state"] != "DONE":
            return json_response({"jobReference": job.resource["jobReference"], "jobComplete": False})
        if job.error:
            raise Refused(_status(job), job.error["reason"], job.error["message"])
        return json_response(self._results(job, request))

    def _results(self, job: Job, request: Request) -> dict[str, Any]:
        statistics = job.resource["statistics"]["query"]
        told = {
            "jobReference": job.resource["jobReference"],
            "jobComplete": True,
            "totalBytesProcessed": statistics["totalBytesProcessed"],
            "cacheHit": False,
            "schema": {"fields": job.fields},
        }
        if "numDmlAffectedRows" in statistics:
            return told | {"numDmlAffectedRows": statistics["numDmlAffectedRows"]}
        return told | _rows_page(request, job.rows, job.fields)


def _rows_page(request: Request, rows: Any, fields: list[dict[str, Any]]) -> dict[str, Any]:
    """A page of rows. With ``maxResults=0`` there are no rows in it: an empty list would end the client's reading."""
    told: dict[str, Any] = {"totalRows": str(len(rows))}
    if request.query.get("maxResults") == "0":
        return told
    numbers, following = _page(request, range(len(rows)))
    exact = request.query.get("formatOptions.useInt64Timestamp", "").lower() == "true"
    part = rows.slice(numbers.start, len(numbers))
    return told | {"rows": rest_rows(part, fields, int64_timestamps=exact)} | following


def _page(request: Request, items: Any) -> tuple[Any, dict[str, str]]:
    size = int(request.query.get("maxResults") or _PAGE)
    start = int(request.query.get("pageToken") or request.query.get("startIndex") or 0)
    end = min(start + size, len(items))
    return items[start:end], {"pageToken": str(end)} if end < len(items) else {}


def _parts(request: Request) -> tuple[dict[str, Any], bytes]:
    """The two parts of a multipart upload: the job, and the file."""
    boundary = re.search(r"boundary=\"?([^\";]+)", request.headers["content-type"])
    if boundary is None:
        raise Refused(400, "invalid", "multipart upload without a boundary")
    pieces = request.body.split(b"--" + boundary[1].encode().strip(b"'"))[1:3]
    resource, data = (piece.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for piece in pieces)
    return json.loads(resource), data


def _status(job: Job) -> int:
    reasons: Mapping[str, int] = {"notFound": 404, "accessDenied": 403, "duplicate": 409}
    return reasons.get((job.error or {}).get("reason", ""), 400)


def _error(refused: Refused) -> Response:
    one = refused.result | {"domain": "global"}
    content = {"error": {"code": refused.status, "message": refused.message, "errors": [one]}}
    return json_response(content, refused.status)
