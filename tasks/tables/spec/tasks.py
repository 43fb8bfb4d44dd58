"""The tasks of a pipeline: extract, transform, load, models, graph; sources and how tables are loaded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from lookbook.tasks.runs.parameters import RejectLimit
from lookbook.tasks.tables.spec.values import (
    BlockName,
    ContractMode,
    Fields,
    FunctionPath,
    Length,
    Names,
    RelativePath,
    Strict,
    TableName,
    Target,
    TaskName,
    WriteDisposition,
)

DecimalSign = Literal[".", ","]
FileFormat = Literal["auto", "csv", "tsv", "json", "jsonl", "parquet"]


class Delimited(Strict):
    """How CSV is to be read, where it is not as usual.

    Attributes:
        encoding: of the file. Bytes that it has no character for make a line a reject.
        delimiter: one character; None: what the first lines show (a comma, semicolon, tab or bar).
        header: whether the first line names the columns; else they are named column_1, column_2, …
        nulls: texts that stand for a missing value.
        skip: lines before the header (or the first record) that are none of the table, such as a title.
        decimal: the sign before the fraction of a number: with a comma, 10,5 is a number and 10.5 is none.
    """

    encoding: str = "utf-8"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    header: bool = True
    nulls: tuple[str, ...] = ("",)
    skip: Annotated[int, Field(ge=0, le=10_000)] = 0
    decimal: DecimalSign = "."


class FileSource(Strict):
    """Files that are read whole at each run.

    Attributes:
        path: a path, relative to the spec's folder or absolute, or ``lake://key``, or ``inbox://name``; with ``*``,
            ``?`` and ``**``; with the placeholders of templates ({year}, {month}, …).
        format: of the files, or of those inside their gzip or zip; auto: by their names.
    """

    type: Literal["file"]
    path: Annotated[str, Field(min_length=1)]
    format: FileFormat = "auto"
    csv: Delimited = Delimited()


class ObjectsSource(Strict):
    """Files that are taken once each: by the time they were changed, and by which were taken already."""

    type: Literal["objects"]
    path: Annotated[str, Field(min_length=1)]
    format: FileFormat = "auto"
    csv: Delimited = Delimited()


class HttpSource(Strict):
    """A file behind an address. Only http and https; no address of a private network, unless allowed.

    Attributes:
        max_bytes: a larger answer is refused.
        max_seconds: a fetch that takes longer, with all its tries, fails.
        allow_private: loopback, link-local and private addresses too.
    """

    type: Literal["http"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    format: FileFormat = "auto"
    csv: Delimited = Delimited()
    max_bytes: Annotated[int, Field(ge=1, le=2**40)] = 2 * 2**30
    max_seconds: Annotated[int, Field(ge=1, le=7 * 86_400)] = 3600
    allow_private: bool = False


class SqlSource(Strict):
    """A table or a query of a database, streamed in chunks.

    Attributes:
        connector: a saved block of prefect-sqlalchemy (SqlAlchemyConnector or AsyncSqlAlchemyConnector).
        table: its name, with its schema if need be.
        query: a SELECT in place of a table; it may name :logical_date, and params as :name.
        chunk_size: rows that are fetched at a time.
    """

    type: Literal["sql"]
    connector: BlockName
    table: Annotated[str, Field(pattern=r"^[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*){0,2}$")] | None = None
    query: Annotated[str, Field(min_length=1)] | None = None
    chunk_size: Annotated[int, Field(ge=1, le=10_000_000)] = 50_000

    @model_validator(mode="after")
    def _one_of_both(self) -> SqlSource:
        if (self.table is None) == (self.query is None):
            raise ValueError("a source of type sql names either a table or a query")
        return self


Source = Annotated[FileSource | ObjectsSource | HttpSource | SqlSource, Field(discriminator="type")]


class Incremental(Strict):
    """Only rows that are new since the last load.

    Attributes:
        cursor: a column that grows: a time, a date or a number.
        lag: so far behind the highest value seen rows are taken again, for those that came late; needs merge.
        on_missing: what to do with a row whose cursor is null.
    """

    cursor: str
    lag: Length | None = None
    on_missing: Literal["raise", "include", "exclude"] = "raise"


class SchemaContract(Strict):
    """What happens when rows do not look like the table: the words and their meaning are dlt's.

    Attributes:
        tables: a table that is not there yet.
        columns: a column that the table does not have.
        data_type: a value that the column's type cannot take; evolve: it goes to a column of its own,
            ``price__v_text``.
    """

    tables: Literal["evolve", "freeze"] = "evolve"
    columns: ContractMode = "evolve"
    data_type: ContractMode = "evolve"


def _for_all(value: object) -> object:
    return {"columns": value, "data_type": value} if isinstance(value, str) else value


class LoadSettings(Strict):
    """What a load says of its table.

    Attributes:
        target: the warehouse (schema feeds), the registry's PostgreSQL (schema feeds), or Parquet in the lake.
        write_disposition: append: each batch is in the table once; replace: the table is what this run brings;
            merge: a row takes the place of the one with its key.
        primary_key: the columns that name a row.
        strategy: of merge: upsert keeps one row a key; scd2 keeps its history with valid_from and valid_to.
        dedup_sort: which of several rows with one key counts: the first by these columns, each asc or desc.
        hard_delete: a row in which this column is true (or, if it is no truth value, not null) deletes its key's.
        partition_by: of a table in the lake: folders column=value.
        reject_limit: the load fails, and the table stays, if a larger share of the rows is rejected (0 to 1).
        fields: columns with their types.
    """

    table: TableName
    target: Target = "warehouse"
    write_disposition: WriteDisposition = "append"
    primary_key: Names = ()
    strategy: Literal["upsert", "scd2"] = "upsert"
    dedup_sort: dict[str, Literal["asc", "desc"]] = Field(default_factory=dict)
    hard_delete: str | None = None
    incremental: Incremental | None = None
    schema_contract: Annotated[
        SchemaContract, BeforeValidator(_for_all, json_schema_input_type=SchemaContract | ContractMode)
    ] = SchemaContract()
    partition_by: Names = ()
    reject_limit: RejectLimit = 0.1
    fields: Fields = Field(default_factory=dict)

    @model_validator(mode="after")
    def _goes_together(self) -> LoadSettings:
        merges = self.write_disposition == "merge"
        upserts = merges and self.strategy == "upsert"
        faults = {
            "write_disposition merge needs a primary_key": upserts and not self.primary_key,
            "incremental.lag takes rows again, and needs write_disposition merge": self.incremental is not None
            and self.incremental.lag is not None
            and not merges,
            "incremental brings what is new, and replace would drop the rest": self.incremental is not None
            and self.write_disposition == "replace",
            "strategy scd2 is one of write_disposition merge": self.strategy == "scd2" and not merges,
            "strategy scd2 compares whole tables, and cannot be incremental": merges
            and self.strategy == "scd2"
            and self.incremental is not None,
            "dedup_sort chooses among rows of one key: it needs write_disposition merge with strategy upsert": bool(
                self.dedup_sort
            )
            and not upserts,
            "hard_delete deletes by key: it needs write_disposition merge with strategy upsert": (
                self.hard_delete is not None and not upserts
            ),
            "partition_by is for target lake": bool(self.partition_by) and self.target != "lake",
            "strategy scd2 is for tables in a database, not for target lake": self.strategy == "scd2"
            and self.target == "lake",
        }
        if any(faults.values()):
            raise ValueError("\n".join(fault for fault, holds in faults.items() if holds))
        return self

    @property
    def contract(self) -> SchemaContract:
        """The schema contract."""
        return self.schema_contract


ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Relationship(Strict):
    """Each value of a column stands in a column of another table; null is none."""

    column: str
    to: str
    field: str


class ModelTests(Strict):
    """What must hold of a model before it takes the place of the former one; the words are dbt's.

    Attributes:
        unique: columns whose values are there once each; several in one: [day, sku].
        not_null: columns without missing values.
        accepted_values: for columns, the values that they may have.
    """

    unique: tuple[Names, ...] = ()
    not_null: Names = ()
    accepted_values: dict[str, tuple[str | int | float | bool, ...]] = Field(default_factory=dict)
    relationships: tuple[Relationship, ...] = ()


class ModelSpec(Strict):
    """A table made by one SELECT.

    Attributes:
        sql: the file, relative to the spec's folder; DuckDB's dialect. It names loaded tables as feeds.name, those of
            datasets as warehouse.name, and other models by their bare names.
        key: the columns that name one of its rows; they are tested to be unique and not null.
        surrogate_key: a column that is added: a number for each key, the same in every run.
        partition_by: a column with dates, by which a warehouse that can partitions the table.
    """

    sql: RelativePath
    key: Names
    surrogate_key: str | None = None
    partition_by: str | None = None
    tests: ModelTests = ModelTests()

    @model_validator(mode="after")
    def _has_a_key(self) -> ModelSpec:
        if not self.key:
            raise ValueError("a model names its key: the columns that name one of its rows")
        return self


EntityName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Entity(Strict):
    """The rows of a table as nodes.

    Attributes:
        table: a task of this pipeline, or feeds.name, warehouse.name, lake.name.
        key: the column that names a row.
        label: the column that people read; by default the key.
    """

    table: str
    key: str
    label: str | None = None


class Link(Strict):
    """A foreign key: the column `by` of one entity's table holds keys of another entity."""

    source: Annotated[EntityName, Field(alias="from")]
    target: Annotated[EntityName, Field(alias="to")]
    by: str


class Mention(Strict):
    """The labels of one entity, found as whole words in text columns of another, whatever their case."""

    terms: EntityName
    entity: Annotated[EntityName, Field(alias="in")]
    columns: Names


class Query(Strict):
    """How many different entities of one kind are reached from each of another along the path."""

    count: EntityName
    by: EntityName


class Step(Strict):
    """What all tasks have.

    Attributes:
        after: the tasks whose results this one takes.
        retries: how often it is tried again.
        retry_delay: between tries.
        timeout: so long it may take.
    """

    after: Annotated[tuple[TaskName, ...], Field(description="Tasks whose results this one takes.")] = ()
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    retry_delay: Length | None = None
    timeout: Length | None = None


class ExtractTask(Step):
    """Takes rows from a source.

    Attributes:
        skip_unchanged: with the same columns and rows as at the last load, in whatever order, nothing that follows
            is done.
        split_by: a column; the rows of each of its values become a table of their own.
    """

    source: Source
    skip_unchanged: bool = False
    split_by: str | None = None


class SqlTask(Step):
    """Makes a table of tables by one SELECT in DuckDB's dialect, which names the tasks in `after` as tables."""

    sql: RelativePath


class PythonTask(Step):
    """Calls a function: without `after` it extracts, else it takes the results of those tasks by their names.

    Attributes:
        skip_unchanged: of one that extracts, as of an extract.
    """

    python: FunctionPath
    skip_unchanged: bool = False


class LoadTask(LoadSettings, Step):
    """Loads the result of the tasks in `after` into a table; several are put one behind the other."""


class ModelsTask(Step):
    """Makes tables of loaded tables, in the order of their dependencies, and tests them before readers see them."""

    models: Annotated[dict[ModelName, ModelSpec], Field(min_length=1)]


class GraphTask(Step):
    """Makes a graph: a node-link JSON in the lake that networkx and D3 read.

    Attributes:
        path: from which entity over which to which; each step a link or a mention.
        queries: by name.
    """

    type: Literal["graph"]
    entities: Annotated[dict[EntityName, Entity], Field(min_length=1)]
    links: tuple[Link, ...] = ()
    mentions: tuple[Mention, ...] = ()
    path: Names = ()
    queries: dict[str, Query] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_entities(self) -> GraphTask:
        named = [
            *(name for link in self.links for name in (link.source, link.target)),
            *(name for mention in self.mentions for name in (mention.terms, mention.entity)),
            *self.path,
            *(name for query in self.queries.values() for name in (query.count, query.by)),
        ]
        for name in named:
            if name not in self.entities:
                raise ValueError(f"{name} is no entity of this graph; it has {', '.join(self.entities)}")
        return self


#: The key that tells of which kind a task is.
KINDS = {
    "source": "extract",
    "sql": "sql",
    "python": "python",
    "table": "load",
    "models": "models",
    "type": "graph",
}


def _kind(value: Any) -> str | None:  # noqa: ANN401 - a task, or what stands in the YAML
    for key, kind in KINDS.items():
        if key in value if isinstance(value, dict) else hasattr(value, key):
            return kind
    return None


Task = Annotated[
    Annotated[ExtractTask, Tag("extract")]
    | Annotated[SqlTask, Tag("sql")]
    | Annotated[PythonTask, Tag("python")]
    | Annotated[LoadTask, Tag("load")]
    | Annotated[ModelsTask, Tag("models")]
    | Annotated[GraphTask, Tag("graph")],
    Discriminator(
        _kind,
        custom_error_type="task_kind",
        custom_error_message="a task has one of source, sql, python, table, models, or type: graph",
    ),
]
