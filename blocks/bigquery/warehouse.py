"""The warehouse in BigQuery."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from lookbook.blocks.errors import LookbookError, needs_extra
from lookbook.blocks.models import BuiltModel, FeedModel
from lookbook.blocks.warehouse import STAGING_KEYS, QueryCost, SnapshotLoad, StarModel, Warehouse, WarehouseTable

with needs_extra("gcp", "A warehouse in BigQuery"):
    from prefect_gcp import GcpCredentials

    from lookbook.blocks.bigquery import models as feeds
    from lookbook.blocks.bigquery.client import Store, columns_of, named_faults
    from lookbook.blocks.bigquery.snapshots import current_rows, find_differences, load_snapshot, remove_dataset

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud.bigquery import QueryJob

_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,1023}$"
#: https://cloud.google.com/bigquery/docs/labels-intro#requirements
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")

_QUERY_HELP = "One SELECT in GoogleSQL; the views lie in the dataset {warehouse}."


class BigQueryWarehouse(Warehouse):
    """A warehouse in datasets of a Google Cloud project.

    Any method may raise, besides what `Warehouse` says, `OutOfReachError` when the service did not answer for as long
    as it was tried, and `LookbookError` when the project, the credentials or a quota stand in the way.
    """

    _block_type_name = "Lookbook BigQuery Warehouse"
    _block_type_slug = "lookbook-bigquery-warehouse"

    reads_buckets: ClassVar[bool] = True

    project: str = Field(description="Id of the Google Cloud project that holds the datasets and pays for queries.")
    staging_dataset: str = Field("staging", pattern=_NAME, description="Dataset of the tables; made if it is missing.")
    warehouse_dataset: str = Field("warehouse", pattern=_NAME, description="Dataset of the views that readers use.")
    feeds_dataset: str = Field(
        "feeds", pattern=_NAME, description="Dataset of the tables that pipelines load and make."
    )
    location: str = Field(
        "EU", description="Where the datasets lie, and the lake's bucket, too: EU, US, europe-west3 …"
    )
    credentials: GcpCredentials = Field(description="Who asks; without a key it is whom the environment names.")
    maximum_bytes_billed: int | None = Field(
        None, ge=1, description="A statement that would bill more bytes fails, and bills nothing. Empty: no limit."
    )
    labels: dict[str, str] = Field({"tool": "lookbook"}, description="Labels of datasets, tables and jobs.")
    retry_seconds: float = Field(60.0, gt=0, description="How long a request is tried again while the service fails.")
    job_seconds: float = Field(3600.0, gt=0, description="How long a job is waited for.")

    @field_validator("labels")
    @classmethod
    def _labels_are_bigquerys(cls, labels: dict[str, str]) -> dict[str, str]:
        for name, value in labels.items():
            if not _LABEL.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
                raise ValueError(f"label {name}: {value}: lower-case letters, digits, _ and -, at most 63 characters")
        return labels

    def load_snapshot(self, load: SnapshotLoad, models: list[StarModel]) -> None:
        """See `Warehouse.load_snapshot`. A load that was killed is taken up where it was, by whoever repeats it."""
        absent = sorted(STAGING_KEYS.keys() ^ load.tables.keys())
        if absent:
            raise LookbookError(f"A snapshot has the tables {', '.join(STAGING_KEYS)}; see {', '.join(absent)}.")
        with self._store() as store:
            load_snapshot(store, load, models)

    def remove_dataset(self, dataset: str, models: list[StarModel]) -> None:
        """See `Warehouse.remove_dataset`."""
        with self._store() as store:
            remove_dataset(store, dataset, models)

    def current_snapshots(self) -> dict[str, str]:
        """See `Warehouse.current_snapshots`."""
        with self._store() as store:
            return {dataset: row["snapshot_id"] for dataset, row in sorted(current_rows(store).items())}

    def query(self, sql: str) -> pa.Table:
        """See `Warehouse.query`. A dry run tells first what kind of statement it is."""
        with self._store() as store:
            self._checked(store, sql)
            job = store.execute(sql)
            rows = job.result(retry=store.retry, timeout=store.job_seconds, job_retry=None)
            return rows.to_arrow(create_bqstorage_client=False)

    def dry_run(self, sql: str) -> QueryCost:
        """See `Warehouse.dry_run`."""
        with self._store() as store:
            job = self._checked(store, sql)
            tables = [f"{table.dataset_id}.{table.table_id}" for table in job.referenced_tables]
            return QueryCost(int(job.total_bytes_processed or 0), sorted(tables), self.maximum_bytes_billed)

    @property
    def readers_schema(self) -> str:
        """See `Warehouse.readers_schema`."""
        return self.warehouse_dataset

    @property
    def feeds_schema(self) -> str:
        """See `Warehouse.feeds_schema`."""
        return self.feeds_dataset

    def tables(self) -> dict[str, WarehouseTable]:
        """See `Warehouse.tables`. Lists and looks up: no statement is run, and nothing billed."""
        with self._store() as store:
            found = {}
            for dataset in dict.fromkeys((self.warehouse_dataset, self.feeds_dataset)):
                for name, table in sorted(store.tables(dataset, store.names(dataset)).items()):
                    if table is not None:
                        counted = (None, None) if table.table_type == "VIEW" else (table.num_rows, table.num_bytes)
                        found[f"{dataset}.{name}"] = WarehouseTable(columns_of(table.schema), *counted)
            return found

    def differences(self, load: SnapshotLoad, models: list[StarModel]) -> list[str]:
        """See `Warehouse.differences`."""
        with self._store() as store:
            return find_differences(store, load, models)

    def build_feed_models(self, models: Sequence[FeedModel]) -> list[BuiltModel]:
        """See `Warehouse.build_feed_models`. Tables that keep their columns change in one transaction."""
        with self._store() as store:
            return feeds.build_models(store, self.feeds_dataset, models)

    @contextmanager
    def feeding(self) -> Iterator[Store]:
        """Yield the datasets of staging and of feeds, which are made where they are not there, for who loads feeds."""
        with self._store() as store:
            for dataset in (store.staging, self.feeds_dataset):
                feeds.ensure_dataset(store, dataset)
            yield store

    def read_columns(self, table: str, columns: Sequence[str]) -> pa.Table:
        """See `Warehouse.read_columns`."""
        with self._store() as store:
            statement = feeds.reading(store, self.feeds_dataset, table, columns)
        return self.query(statement)

    def _checked(self, store: Store, sql: str) -> QueryJob:
        """Return the dry run of a SELECT; anything else is refused."""
        way_out = _QUERY_HELP.format(warehouse=self.warehouse_dataset)
        if not sql.strip():
            raise LookbookError("The statement gives no rows.", way_out)
        try:
            job = store.dry_run(sql)
        except Exception as error:
            if not self._is_loaded(store, error):
                raise LookbookError(
                    f"Nothing was loaded yet: project {self.project} has no snapshot in {self.staging_dataset}.",
                    'Run "lookbook ingest SOURCE --dataset NAME" first.',
                ) from error
            raise
        if job.statement_type != "SELECT":
            raise LookbookError(f"A query only reads: this is {job.statement_type or 'no SELECT'}.", way_out)
        return job

    @staticmethod
    def _is_loaded(store: Store, error: Exception) -> bool:
        """Return whether anything was loaded, where a statement failed because it names what is not there."""
        missing = "Not found: Dataset" in str(error) or "Not found: Table" in str(error)
        return not missing or bool(current_rows(store))

    @contextmanager
    def _store(self) -> Iterator[Store]:
        with named_faults(self.project):
            client = self.credentials.get_bigquery_client(project=self.project, location=self.location)
            try:
                yield Store(
                    client=client,
                    staging=self.staging_dataset,
                    warehouse=self.warehouse_dataset,
                    location=self.location,
                    labels=self.labels,
                    maximum_bytes_billed=self.maximum_bytes_billed,
                    retry_seconds=self.retry_seconds,
                    job_seconds=self.job_seconds,
                )
            finally:
                client.close()
