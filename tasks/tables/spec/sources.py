"""Where an extract takes its rows from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lookbook.tasks.tables.spec.values import BlockName, Strict

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
