"""What is wrong with a graph's spec, told before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from lookbook.tasks.tables.spec.tasks import Entity, GraphTask

#: The tables of a dataset's snapshot lie in the lake as lake.DATASET.TABLE.
_TABLE = re.compile(r"(feeds|warehouse|lake)\.[A-Za-z_]\w*|lake\.[A-Za-z0-9_-]+\.[A-Za-z_]\w*")
#: The name of a query is that of a file.
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,100}")


def check_graph(task: GraphTask) -> list[str]:
    """Return a line for each problem of a graph: tables that it cannot read, steps of the path that nothing makes."""
    problems = [line for name, entity in task.entities.items() for line in _unreadable(name, entity, task)]
    return [*problems, *_broken_path(task), *_unanswerable(task)]


def _unreadable(name: str, entity: Entity, task: GraphTask) -> Iterator[str]:
    if "." not in entity.table and entity.table not in task.after:
        yield f"entities.{name}.table: {entity.table} is no task in after, and no feeds.NAME, warehouse.NAME, lake.NAME"
    elif "." in entity.table and not _TABLE.fullmatch(entity.table):
        yield f"entities.{name}.table: {entity.table} is none of feeds.NAME, warehouse.NAME, lake.NAME"


def _broken_path(task: GraphTask) -> Iterator[str]:
    steps = {frozenset((link.source, link.target)) for link in task.links}
    steps |= {frozenset((mention.terms, mention.entity)) for mention in task.mentions}
    if len(set(task.path)) != len(task.path):
        yield "path: an entity stands there twice"
    for here, there in pairwise(task.path):
        if frozenset((here, there)) not in steps:
            yield f"path: no link and no mention leads from {here} to {there}"


def _unanswerable(task: GraphTask) -> Iterator[str]:
    for name, query in task.queries.items():
        if not _FILE.fullmatch(name):
            yield f"queries.{name}: its name is that of a file: letters, digits, _ and -"
        for entity in (query.count, query.by):
            if entity not in task.path:
                yield f"queries.{name}: {entity} does not stand on the path"
