"""The files of a graph in the lake: node-link JSON for networkx and D3, Parquet for SQL, the answers of its queries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.lake import Lake
from lookbook.tasks.tables.graph.edges import Edge, Node
from lookbook.tasks.tables.graph.queries import Row
from lookbook.tasks.tables.spec.graphs import Query

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
        """Of nodes and edges."""
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
