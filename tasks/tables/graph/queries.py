"""Questions along a path: how many different nodes of one entity are reached from each node of another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from lookbook.tasks.tables.graph.edges import Edge, Node
from lookbook.tasks.tables.spec.graphs import Query

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
