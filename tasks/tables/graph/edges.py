"""Edges: foreign keys, and labels of one entity found in texts of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lookbook.tasks.tables.graph.left_out import LeftOut
from lookbook.tasks.tables.graph.nodes import Nodes
from lookbook.tasks.tables.graph.terms import Terms
from lookbook.tasks.tables.spec.graphs import Link, Mention

#: So many values without a node are named.
_EXAMPLES = 3

#: A node: its entity and its key.
Node = tuple[str, str]


class Edge(NamedTuple):
    """From the row that says something to what it says it of.

    Attributes:
        kind: ``link`` or ``mention``.
        columns: in which it stands.
        occurrences: how often it stands there; 1 of a link.
    """

    source: Node
    target: Node
    kind: str
    columns: tuple[str, ...]
    occurrences: int = 1


def link_edges(nodes: Mapping[str, Nodes], links: Iterable[Link], problems: list[str], left_out: LeftOut) -> list[Edge]:
    """Return the foreign keys whose other row is there; count the rest in `problems` and `left_out`."""
    edges = []
    for link in links:
        found = nodes[link.source].foreign[link.by]
        there = nodes[link.target].labels
        lost = sorted({value for _, value in found if value not in there})
        edges += [
            Edge((link.source, key), (link.target, value), "link", (link.by,)) for key, value in found if value in there
        ]
        if lost:
            source = nodes[link.source].spec
            for key, value in found:
                if value not in there:
                    why = f"{link.source}.{link.by}: no {link.target} has the key {value}: no edge"
                    left_out.add(source.table, "no_target", why, {source.key: key, link.by: value})
            rows = sum(value not in there for _, value in found)
            named = ", ".join(lost[:_EXAMPLES]) + (", …" if len(lost) > _EXAMPLES else "")
            problems.append(
                f"links: {link.source}.{link.by} names {len(lost)} keys that no {link.target} has"
                f" ({named}), in {rows} rows: no edge"
            )
    return edges


def mention_edges(
    nodes: Mapping[str, Nodes], mentions: Iterable[Mention], problems: list[str], left_out: LeftOut
) -> list[Edge]:
    """Return the terms of one entity in the texts of another: an edge for each pair, whatever the columns."""
    finders: dict[str, Terms] = {}
    counts: dict[tuple[Node, Node], dict[str, int]] = {}
    for mention in mentions:
        if mention.terms not in finders:
            finders[mention.terms] = Terms(nodes[mention.terms].terms)
            if empty := finders[mention.terms].empty:
                problems.append(f"mentions: {len(empty)} of {mention.terms} have no label, and are never found")
            terms = nodes[mention.terms].spec
            for key in empty:
                why = f"{mention.terms}: no label, and is never found in a text"
                left_out.add(terms.table, "no_label", why, {terms.key: key})
        _count(nodes[mention.entity], finders[mention.terms], mention, counts)
    return [
        Edge(source, target, "mention", tuple(sorted(by_column)), sum(by_column.values()))
        for (source, target), by_column in counts.items()
    ]


def _count(nodes: Nodes, terms: Terms, mention: Mention, counts: dict[tuple[Node, Node], dict[str, int]]) -> None:
    columns: Sequence[str] = list(dict.fromkeys(mention.columns))
    for key, texts in nodes.texts(columns):
        source = (mention.entity, key)
        for column, text in zip(columns, texts, strict=True):
            for term, count in terms.find(text).items() if text else ():
                target = (mention.terms, term)
                if target != source:  # its own label in its own text says nothing
                    by_column = counts.setdefault((source, target), {})
                    by_column[column] = count
