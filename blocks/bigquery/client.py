"""BigQuery as the warehouse uses it: jobs run once whatever breaks, tables, and faults that a user can act on."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lookbook.blocks.bigquery.sql import OLD_NAMES, quoted
from lookbook.blocks.errors import LookbookError, OutOfReachError, needs_extra

with needs_extra("gcp", "A warehouse in BigQuery"):
    from google.api_core import exceptions as api
    from google.api_core.retry import Retry, if_exception_type
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.bigquery import DEFAULT_RETRY, Client, LoadJob, QueryJob, QueryJobConfig, Table
    from requests import RequestException

if TYPE_CHECKING:
    from google.cloud.bigquery import SchemaField

# Reasons and statuses: https://cloud.google.com/bigquery/docs/error-messages.

#: Reasons of a failed job that may pass: the same job may be run again, under another id.
PASSING = frozenset(
    {
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "rateLimitExceeded",
        "tableUnavailable",
    }
)

#: What a statement, and a transaction, is told that met another one in a table.
_CONCURRENT = ("Could not serialize access", "Transaction is aborted due to concurrent update")

_WAYS_OUT = {
    "accessDenied": "The account needs BigQuery Job User on the project, BigQuery Data Editor on both datasets, and"
    " Storage Object Viewer on the lake's bucket.",
    "billingNotEnabled": "Link a billing account to the project: the sandbox has no DML, and its tables expire.",
    "billingTierLimitExceeded": "Ask for less at once.",
    "bytesBilledLimitExceeded": "Name fewer columns, or raise maximum_bytes_billed of the warehouse's block.",
    "quotaExceeded": "Wait until the quota is free again, or have it raised; then run again: it goes on from here.",
    "rateLimitExceeded": "Wait a little, then run again: it goes on from here.",
    "notFound": "See that the name is right, and that everything lies in the warehouse's location.",
    "invalidQuery": 'BigQuery reads GoogleSQL; "lookbook query SQL --dry-run" checks a statement for nothing.',
}


class JobFailedError(Exception):
    """A job has failed; `result` is its `errorResult`."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        super().__init__(result.get("message", ""))
        self.reason: str = result.get("reason", "")
        self.message: str = result.get("message", "")

    @property
    def may_pass(self) -> bool:
        """Tell whether a job may succeed if run again: the service was busy, or another load changed the table."""
        return self.reason in PASSING or any(words in self.message for words in _CONCURRENT)


@contextmanager
def named_faults(project: str) -> Iterator[None]:
    """Turn what the client raises, and what jobs fail of, into errors of ours.

    Raises:
        OutOfReachError: the service did not answer, or only with faults of its own, for as long as it was tried.
        LookbookError: anything else, by the reason that BigQuery gives.
    """
    try:
        yield
    except JobFailedError as error:
        raise _named(project, error.reason, error.message) from error
    except TransportError as error:
        raise _out_of_reach(project, error) from error
    except (GoogleAuthError, api.Unauthorized) as error:
        raise LookbookError(
            f"BigQuery project {project}: the credentials cannot be used: {type(error).__name__}.",
            "Renew the key of the warehouse's credentials block, or sign in: gcloud auth application-default login.",
        ) from error
    except (api.RetryError, api.ServerError, RequestException, ConnectionError, TimeoutError) as error:
        reason, message = told(error)
        if reason == "bytesBilledLimitExceeded":  # the client takes a reason that it does not know for a 500
            raise _named(project, reason, message) from error
        raise _out_of_reach(project, error) from error
    except api.GoogleAPICallError as error:
        raise _named(project, *told(error)) from error


def told(error: Exception) -> tuple[str, str]:
    """Return reason and message of what the client raised; both empty where BigQuery gave none."""
    if isinstance(error, api.RetryError):
        return told(error.cause) if error.cause else ("", str(error))
    if not isinstance(error, api.GoogleAPICallError):
        return "", str(error)
    first = error.errors[0] if error.errors else {}
    plain = first if isinstance(first, Mapping) else {}
    message = plain.get("message") or re.sub(r"^[A-Z]+ \S+: ", "", str(error.message))
    return plain.get("reason", ""), message


def _named(project: str, reason: str, message: str) -> LookbookError:
    if reason in PASSING:
        return OutOfReachError(f"BigQuery project {project}: {message}", _WAYS_OUT.get(reason, "Run again."))
    if reason == "notFound" and message.startswith("Not found: Project"):
        return LookbookError(
            f"BigQuery project {project}: there is none of this name, or it is not yours to see.",
            "Name another one in the workspace's warehouse block; it is the project's id, not its title.",
        )
    return LookbookError(f"BigQuery project {project}: {message}", _WAYS_OUT.get(reason, ""))


def _out_of_reach(project: str, error: Exception) -> OutOfReachError:
    _, message = told(error)
    return OutOfReachError(
        f"BigQuery project {project}: the service does not answer as it should: {message or type(error).__name__}",
        "What readers see is unchanged. Run again: what was done already is found and not done twice.",
    )


# A job's id is made of what it does. Who is killed and starts anew asks for the same job, is told that it exists (409),
# and waits for it: nothing is loaded twice. https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid

#: Seconds that one request may take to answer.
REQUEST_SECONDS = 60.0
#: Jobs that are waited for at once.
THREADS = 8

_Job = TypeVar("_Job", LoadJob, QueryJob)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Store:
    """A project's datasets, and how they are asked.

    Attributes:
        location: where datasets and jobs lie.
        retry_seconds: how long a request is tried again while the service has faults.
        job_seconds: how long a job is waited for.
        maximum_bytes_billed: no statement may bill more; None: no limit.
    """

    client: Client
    staging: str
    warehouse: str
    location: str
    labels: Mapping[str, str]
    maximum_bytes_billed: int | None
    retry_seconds: float
    job_seconds: float

    @property
    def retry(self) -> Retry:
        """The client's own rule of what is tried again, with a bound that a person can wait for: not ten minutes."""
        return DEFAULT_RETRY.with_delay(initial=0.2, maximum=10.0, multiplier=2.0).with_timeout(self.retry_seconds)

    def address(self, dataset: str, table: str) -> str:
        """Return a table as SQL names it."""
        return quoted(f"{self.client.project}.{dataset}.{table}")

    def query_config(self, *, dry_run: bool = False) -> QueryJobConfig:
        """Return how statements are run."""
        config = QueryJobConfig(dry_run=dry_run, use_query_cache=not dry_run, labels=dict(self.labels))
        if self.maximum_bytes_billed is not None and not dry_run:
            config.maximum_bytes_billed = self.maximum_bytes_billed
        return config

    def execute(self, sql: str, name: str | None = None) -> QueryJob:
        """Run a statement to its end: once for each `name`, however often it is asked for; without one, anew."""

        def submit(job_id: str) -> QueryJob:
            return self.client.query(
                sql,
                job_config=self.query_config(),
                job_id=job_id,
                location=self.location,
                retry=self.retry,
                timeout=REQUEST_SECONDS,
                job_retry=None,
            )

        return self.once(name or f"lookbook-{uuid.uuid4().hex}", submit)

    def dry_run(self, sql: str) -> QueryJob:
        """Return what BigQuery says of a statement without running it; it bills nothing."""
        config = self.query_config(dry_run=True)
        return self.client.query(
            sql, job_config=config, location=self.location, retry=self.retry, timeout=REQUEST_SECONDS, job_retry=None
        )

    def once(self, name: str, submit: Callable[[str], _Job]) -> _Job:
        """Run a job once, and wait for its end.

        Args:
            name: what it does; its id is this, and a number that counts the tries that failed.
            submit: starts it under an id.

        Raises:
            JobFailedError: it failed for a reason that will not pass.
            OutOfReachError: it did not end in time; it goes on, and is found by who asks for it again.
        """
        deadline, tries = time.monotonic() + self.retry_seconds, 0
        while True:
            job, found = self._submitted(f"{name}-{tries}", submit)
            self._wait(job)
            if job.error_result is None:
                return job
            failed = JobFailedError(job.error_result)
            if not found:
                if not failed.may_pass or time.monotonic() >= deadline:
                    raise failed
                time.sleep(min(2.0**tries / 4, 10.0))
            tries += 1  # a job of an earlier run that failed is not the last word: its cause may have been mended

    def _submitted(self, job_id: str, submit: Callable[[str], _Job]) -> tuple[_Job, bool]:
        try:
            return submit(job_id), False
        except api.Conflict:
            # Just behind a 409 the job may still be unknown: https://github.com/googleapis/python-bigquery/issues/2134
            patient = Retry(predicate=if_exception_type(api.NotFound), initial=0.2, timeout=self.retry_seconds)
            found = patient(self.client.get_job)(
                job_id, location=self.location, retry=self.retry, timeout=REQUEST_SECONDS
            )
            return cast("_Job", found), True

    def _wait(self, job: LoadJob | QueryJob) -> None:
        deadline, pause = time.monotonic() + self.job_seconds, 0.1
        while job.state != "DONE":
            if time.monotonic() >= deadline:
                raise OutOfReachError(
                    f"BigQuery's job {job.job_id} has not ended within {self.job_seconds:g} s.",
                    "It goes on. Run again later: it is found and not started anew.",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)
            job.reload(retry=self.retry, timeout=REQUEST_SECONDS)

    def table(self, dataset: str, name: str) -> Table | None:
        """Return a table or view; None where there is none."""
        try:
            return self.client.get_table(
                f"{self.client.project}.{dataset}.{name}", retry=self.retry, timeout=REQUEST_SECONDS
            )
        except api.NotFound as error:
            if "Not found: Project" in str(error):
                raise
            return None

    def names(self, dataset: str) -> list[str]:
        """Return the names of a dataset's tables and views; none where there is no such dataset."""
        address = f"{self.client.project}.{dataset}"
        try:
            found = self.client.list_tables(address, retry=self.retry, timeout=REQUEST_SECONDS)
            return [table.table_id for table in found]
        except api.NotFound as error:
            if "Not found: Project" in str(error):
                raise
            return []

    def tables(self, dataset: str, names: Iterable[str]) -> dict[str, Table | None]:
        """Return several tables or views at once."""
        names = list(names)
        return dict(zip(names, at_once(lambda name: self.table(dataset, name), names), strict=True))

    def create(self, table: Table) -> None:
        """Make a table with the warehouse's labels, unless it is there."""
        table.labels = dict(self.labels)
        self.client.create_table(table, exists_ok=True, retry=self.retry, timeout=REQUEST_SECONDS)

    def drop(self, dataset: str, name: str) -> None:
        """Drop a table, if there is one."""
        table = f"{self.client.project}.{dataset}.{name}"
        self.client.delete_table(table, not_found_ok=True, retry=self.retry, timeout=REQUEST_SECONDS)


def at_once(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Return the results of `work` on each item, several at a time; the first fault is raised once all have ended.

    Each holds the leases that are held here.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(copy_context().run, work, item) for item in items]
        return [one.result() for one in running]


def columns_of(schema: Iterable[SchemaField]) -> dict[str, str]:
    """Return names and types, as SQL names them, of a schema's columns."""
    return {field.name: _sql_type(field) for field in schema}


def _sql_type(field: SchemaField) -> str:
    type_ = OLD_NAMES.get(field.field_type, field.field_type)
    if type_ in {"RECORD", "STRUCT"}:
        type_ = f"STRUCT<{', '.join(f'{quoted(part.name)} {_sql_type(part)}' for part in field.fields)}>"
    return f"ARRAY<{type_}>" if field.mode == "REPEATED" else type_
