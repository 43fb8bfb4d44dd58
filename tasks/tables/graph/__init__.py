"""Graphs of tables: rows as nodes, keys and mentions in texts as edges, and questions along a path."""

from tasks.tables.graph.building import GraphResult, build
from tasks.tables.graph.checking import check_graph

__all__ = ["GraphResult", "build", "check_graph"]
