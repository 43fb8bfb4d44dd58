"""SQL models: tables that are made of loaded ones, with their keys and tests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lookbook.tasks.tables.spec.values import Names, RelativePath, Strict

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
