"""Graphs: entities of tables, linked by keys and by mentions in texts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lookbook.tasks.tables.spec.values import Names, Strict

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
