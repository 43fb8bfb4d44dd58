"""Building a graph: entities, edges, questions along a path, and the files that hold them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import UsageError
from lookbook.blocks.lake import Lake
from lookbook.tasks.tables.context import LENGTH, Context, Staged
from lookbook.tasks.tables.graph.checking import check_graph
from lookbook.tasks.tables.graph.entities import Edge, LeftOut, Node, Nodes, link_edges, mention_edges, table_batches
from lookbook.tasks.tables.spec.tasks import GraphTask, Query

Row = dict[str, str | int]


def answer(
    query: Query, path: Sequence[str], labels: Mapping[str, Mapping[str, str]], edges: Iterable[Edge]
) -> list[Row]:
    """Return a row for each node of the entity that is asked for: rank, key, label, count.

    The highest counts come first; equal ones have one rank, and stand in the order of labels, then keys. Edges count
    in both directions, and several between two nodes once.

    Args:
        query: what is counted, by what; both stand on the path.
        path: entities, one beside the next.
        labels: for each entity, its nodes.
        edges: all of the graph.
    """
    steps = _between(path, query.count, query.by)
    reached: dict[str, set[str]] = {key: {key} for key in labels[query.count]}
    neighbours = _neighbours(edges)
    for here, there in pairwise(steps):
        following: dict[str, set[str]] = defaultdict(set)
        for key, counted in reached.items():
            for entity, other in neighbours[here, key]:
                if entity == there:
                    following[other] |= counted
        reached = following
    counts = {key: len(reached.get(key, ())) for key in labels[query.by]}
    order = sorted(counts, key=lambda key: (-counts[key], labels[query.by][key], key))
    ranks = _ranks([counts[key] for key in order])
    return [
        {"rank": rank, "key": key, "label": labels[query.by][key], "count": counts[key]}
        for rank, key in zip(ranks, order, strict=True)
    ]


def _between(path: Sequence[str], start: str, end: str) -> list[str]:
    """Return the part of a path from one entity to another, whichever of both comes first."""
    first, last = path.index(start), path.index(end)
    return list(path[first : last + 1]) if first <= last else list(path[last : first + 1])[::-1]


def _neighbours(edges: Iterable[Edge]) -> Mapping[Node, set[Node]]:
    found: dict[Node, set[Node]] = defaultdict(set)
    for edge in edges:
        found[edge.source].add(edge.target)
        found[edge.target].add(edge.source)
    return found


def _ranks(counts: Sequence[int]) -> list[int]:
    ranks: list[int] = []
    for position, count in enumerate(counts):
        ranks.append(ranks[-1] if position and counts[position - 1] == count else position + 1)
    return ranks


NODES = pa.schema([(name, pa.string()) for name in ("id", "entity", "key", "label")])
EDGES = pa.schema(
    [
        ("source", pa.string()),
        ("target", pa.string()),
        ("kind", pa.string()),
        ("count", pa.int64()),
        ("columns", pa.list_(pa.string())),
    ]
)
ANSWER = pa.schema([("rank", pa.int64()), ("key", pa.string()), ("label", pa.string()), ("count", pa.int64())])


def node_id(node: Node) -> str:
    """Return what names a node in the whole graph."""
    return f"{node[0]}:{node[1]}"


@dataclass(frozen=True)
class Graph:
    """Nodes and edges as rows, and as JSON."""

    name: str
    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    nodes_json: bytes
    edges_json: bytes

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of nodes and edges, in hex digits."""
        return hashlib.sha256(self.nodes_json + b"\n" + self.edges_json).hexdigest()

    def json(self) -> bytes:
        """Return the graph as networkx and D3 read it.

        networkx reads ``edges``, and D3 by custom ``links``: both hold the same.
        """
        head = _json({"directed": True, "multigraph": True, "graph": {"name": self.name, "digest": self.digest}})
        parts = {"nodes": self.nodes_json, "edges": self.edges_json, "links": self.edges_json}
        return head[:-1] + b"".join(b',"%s":%s' % (name.encode(), part) for name, part in parts.items()) + b"}"


def node_link(name: str, labels: Mapping[str, Mapping[str, str]], edges: Sequence[Edge]) -> Graph:
    """Return a graph in an order that depends on nothing but its content.

    Two nodes may have several edges, which ``key`` tells apart.
    """
    nodes = [
        {"id": node_id((entity, key)), "entity": entity, "key": key, "label": label}
        for entity, of_entity in labels.items()
        for key, label in sorted(of_entity.items())
    ]
    shown = [_shown(edge) for edge in sorted(edges)]
    return Graph(name, nodes, shown, _json(nodes), _json(shown))


def _shown(edge: Edge) -> dict[str, Any]:
    return {
        "source": node_id(edge.source),
        "target": node_id(edge.target),
        "key": edge.kind if edge.kind == "mention" else f"{edge.kind}:{edge.columns[0]}",
        "kind": edge.kind,
        "count": edge.occurrences,
        "columns": list(edge.columns),
    }


def publish(
    lake: Lake, folder: str, graph: Graph, queries: Mapping[str, Query], answers: Mapping[str, list[Row]]
) -> dict[str, str]:
    """Write the files, each of which appears whole; graph.json comes last, and all carry its digest.

    Returns:
        Their keys in the lake: ``graph``, ``nodes``, ``edges``, and ``queries.<name>``.
    """
    keys = {"graph": f"{folder}/graph.json"}
    for name, rows, schema in (("nodes", graph.nodes, NODES), ("edges", graph.edges, EDGES)):
        keys[name] = f"{folder}/{name}.parquet"
        lake.replace(keys[name], _parquet(rows, schema, graph.digest))
    for name, rows in answers.items():
        keys[f"queries.{name}"] = f"{folder}/queries/{name}.json"
        asked = {"query": name, "count": queries[name].count, "by": queries[name].by, "graph": graph.digest}
        lake.replace(keys[f"queries.{name}"], _json(asked | {"rows": rows}))
        lake.replace(f"{folder}/queries/{name}.parquet", _parquet(rows, ANSWER, graph.digest))
    lake.settle()
    lake.replace(keys["graph"], graph.json())
    lake.settle()
    _remove_former(lake, f"{folder}/queries", set(answers))
    return keys


def _remove_former(lake: Lake, folder: str, names: set[str]) -> None:
    """Remove answers to what is no longer asked."""
    for found in list(lake.list(folder)):
        if found.key.rsplit("/", 1)[-1].rpartition(".")[0] not in names:
            lake.remove(found.key)


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, digest: str) -> bytes:
    sink = pa.BufferOutputStream()
    columns = {name: [row[name] for row in rows] for name in schema.names}
    pq.write_table(pa.table(columns, schema=schema.with_metadata({"graph": digest})), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


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
