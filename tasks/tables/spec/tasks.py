"""The tasks of a pipeline: extract, transform, load, models, graph."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from lookbook.tasks.tables.spec.graphs import Entity, EntityName, Link, Mention, Query
from lookbook.tasks.tables.spec.loading import LoadSettings
from lookbook.tasks.tables.spec.models import ModelName, ModelSpec
from lookbook.tasks.tables.spec.sources import Source
from lookbook.tasks.tables.spec.values import FunctionPath, Length, Names, RelativePath, Strict, TaskName


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
