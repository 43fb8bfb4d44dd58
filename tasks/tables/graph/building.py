"""Building a graph: entities, edges, answers, files."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lookbook.blocks.errors import UsageError
from lookbook.tasks.tables.batches import LENGTH
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.graph.checking import check_graph
from lookbook.tasks.tables.graph.edges import link_edges, mention_edges
from lookbook.tasks.tables.graph.left_out import LeftOut
from lookbook.tasks.tables.graph.nodes import Nodes
from lookbook.tasks.tables.graph.output import node_link, publish
from lookbook.tasks.tables.graph.queries import Row, answer
from lookbook.tasks.tables.graph.tables import table_batches
from lookbook.tasks.tables.spec.tasks import GraphTask

#: So many rows of each answer are told with the result; all are in the lake.
TOP = 10


@dataclass(frozen=True)
class GraphResult:
    """A graph that was made.

    Attributes:
        nodes: how many each entity has.
        edges: how many there are of each kind: ``link``, ``mention``.
        keys: of its files in the lake: ``graph``, ``nodes``, ``edges``, ``queries.<name>``.
        top: of each query the first rows: rank, key, label, count.
        problems: rows and values that no node and no edge shows.
        left_out: how many they are; `left_out.MOST_KEPT` of them are among the rejects of the pipeline.
        digest: of nodes and edges; the same for the same graph.
    """

    nodes: Mapping[str, int]
    edges: Mapping[str, int]
    keys: Mapping[str, str]
    top: Mapping[str, tuple[Row, ...]]
    problems: tuple[str, ...]
    left_out: int
    digest: str


def build(context: Context, name: str, inputs: Mapping[str, Staged]) -> GraphResult:
    """Make the graph of the task `name`, and put it in place of the former one.

    Args:
        context: the run.
        name: of the task.
        inputs: the results of the tasks in its after.

    Raises:
        UsageError: the spec's graph has problems, as `check_graph` tells them.
        LookbookError: a table cannot be read, or lacks a column.
    """
    task = context.pipeline.tasks[name]
    if not isinstance(task, GraphTask):
        raise UsageError(f"{context.pipeline.name}: tasks.{name} is no graph.")
    if faults := check_graph(task):
        raise UsageError("\n".join(f"{context.pipeline.name}: tasks.{name}.{fault}" for fault in faults))
    context.workspace.scratch.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    left_out = LeftOut()
    with tempfile.TemporaryDirectory(dir=context.workspace.scratch, prefix="graph-") as scratch:
        nodes = {entity: _read(context, task, entity, inputs, Path(scratch), left_out) for entity in task.entities}
        problems += [line for each in nodes.values() for line in each.problems()]
        edges = link_edges(nodes, task.links, problems, left_out)
        edges += mention_edges(nodes, task.mentions, problems, left_out)
    labels = {entity: each.labels for entity, each in nodes.items()}
    answers = {asked: answer(query, task.path, labels, edges) for asked, query in task.queries.items()}
    graph = node_link(f"{context.pipeline.name}/{name}", labels, edges)
    folder = f"graphs/{context.pipeline.name}/{name}"
    keys = publish(context.workspace.lake, folder, graph, task.queries, answers)
    left_out.write(context, name, graph.digest[:LENGTH])
    return GraphResult(
        nodes={entity: len(keys) for entity, keys in labels.items()},
        edges=dict(sorted(Counter(edge.kind for edge in edges).items())),
        keys=keys,
        top={asked: tuple(rows[:TOP]) for asked, rows in answers.items()},
        problems=tuple(problems),
        left_out=left_out.number,
        digest=graph.digest,
    )


def _read(
    context: Context, task: GraphTask, entity: str, inputs: Mapping[str, Staged], scratch: Path, left_out: LeftOut
) -> Nodes:
    """Return the nodes of an entity."""
    spec = task.entities[entity]
    links = [link for link in task.links if link.source == entity]
    texts = [column for mention in task.mentions if mention.entity == entity for column in mention.columns]
    columns = list(dict.fromkeys([spec.key, spec.label or spec.key, *(link.by for link in links), *texts]))
    nodes = Nodes(entity, spec, table_batches(context.workspace, spec.table, columns, inputs, scratch))
    nodes.read(links, left_out)
    return nodes
