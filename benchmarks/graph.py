"""What a graph costs: ten thousand terms looked for in a hundred thousand titles."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.processes import say
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.graph import GraphResult, build
from lookbook.tasks.tables.graph.entities import Terms
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.staging import StageWriter

TITLES, TERMS, JOURNALS = 100_000, 10_000, 500
#: Titles of the sample on which a regular expression for each term, and one for all, are tried.
SAMPLE, SAMPLE_OF_ALL = 30, 300
REPEATS = 3

_SOURCE = {"source": {"type": "file", "path": "made.csv"}}
SPEC = {
    "name": "bench",
    "tasks": {
        "drugs": _SOURCE,
        "titles": _SOURCE,
        "journals": _SOURCE,
        "graph": {
            "type": "graph",
            "after": ["drugs", "titles", "journals"],
            "entities": {
                "drug": {"table": "drugs", "key": "id", "label": "name"},
                "publication": {"table": "titles", "key": "id", "label": "title"},
                "journal": {"table": "journals", "key": "id"},
            },
            "links": [{"from": "publication", "to": "journal", "by": "journal"}],
            "mentions": [{"terms": "drug", "in": "publication", "columns": "title"}],
            "path": ["drug", "publication", "journal"],
            "queries": {"most_drugs": {"count": "drug", "by": "journal"}},
        },
    },
}

TEXT = """## Graphs

{terms:,} terms of one to three words in {titles:,} titles of {characters} characters ({mentions:,} mentions), by a
task of type graph from staged Parquet.

| | seconds | titles a second |
|---|---|---|
{rows}

Looking for terms takes {growth:.1f} times as long in twice as many titles, and {by_terms:.1f} times as long with ten
times as many terms. The regular expressions are Python's `re`, ignoring case, with `\\b` around each term, compiled
before; tried on {sample} and {sample_of_all} titles. They find what the automaton does (these terms
have no ß, which `re` does not know as ss).
"""


def section(home: Path) -> str:
    """The section of docs/benchmarks.md, in Markdown."""
    terms, titles = made(TERMS, TITLES)
    say("graph: the whole task")
    whole, result = timed(lambda: whole_task(local_workspace(home), terms, titles))
    say("graph: terms alone")
    labels = {str(number): term for number, term in enumerate(terms)}
    alone, _ = timed(lambda: found_by_automaton(labels, titles))
    twice, _ = timed(lambda: found_by_automaton(labels, [*titles, *titles]))
    few, _ = timed(lambda: found_by_automaton(dict(list(labels.items())[: TERMS // 10]), titles))
    say("graph: regular expressions")
    each = per_term(terms, titles[:SAMPLE], labels)
    union = of_all(terms, titles[:SAMPLE_OF_ALL])
    rows = [
        row("the whole task: nodes, edges, files, answer", whole, TITLES),
        row("looking for the terms, automaton made", alone, TITLES),
        row("a regular expression for each term", each, SAMPLE),
        row("one regular expression of all terms, longest first: finds no overlaps", union, SAMPLE_OF_ALL),
    ]
    return TEXT.format(
        terms=TERMS,
        titles=TITLES,
        characters=round(sum(map(len, titles)) / len(titles)),
        mentions=result.edges["mention"],
        rows="\n".join(rows),
        growth=twice / alone,
        by_terms=alone / few,
        sample=SAMPLE,
        sample_of_all=SAMPLE_OF_ALL,
    )


def made(count: int, title_count: int) -> tuple[list[str], list[str]]:
    """Terms, and titles in which every other one holds one or two of them."""
    chance = np.random.default_rng(6)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzéü"))
    words = list(dict.fromkeys("".join(chance.choice(letters, chance.integers(3, 11))) for _ in range(30_000)))
    terms = list(
        dict.fromkeys(
            " ".join(words[n] for n in chance.integers(0, len(words), chance.integers(1, 4)))
            for _ in range(count + count // 10)
        )
    )
    titles = []
    for number, picked in enumerate(chance.integers(0, len(words), (title_count, 10)).tolist()):
        title = [words[n] for n in picked]
        if number % 2:
            title[number // 2 % 10] = terms[chance.integers(0, count)].upper()
        titles.append(" ".join(title).capitalize() + ".")
    return terms[:count], titles


def timed(work: Callable[[], GraphResult | None]) -> tuple[float, GraphResult]:
    """The median of some repeats, and the last result."""
    seconds, result = [], None
    for _ in range(REPEATS):
        begun = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds), result  # type: ignore[return-value]


def whole_task(workspace: Workspace, terms: list[str], titles: list[str]) -> GraphResult:
    """A graph of staged tables."""
    tables = {
        "drugs": pa.table({"id": range(len(terms)), "name": terms}),
        "titles": pa.table(
            {"id": range(len(titles)), "title": titles, "journal": [n % JOURNALS for n in range(len(titles))]}
        ),
        "journals": pa.table({"id": range(JOURNALS)}),
    }
    inputs = {}
    for name, table in tables.items():
        with StageWriter(workspace.lake, f"raw/bench/{name}", workspace.scratch) as writer:
            writer.write(table)
            inputs[name] = Staged({"": writer.close()})
    context = Context(workspace, Pipeline.model_validate(SPEC), Path("/"), datetime(2024, 1, 1, tzinfo=UTC))
    return build(context, "graph", inputs)


def found_by_automaton(labels: dict[str, str], titles: list[str]) -> None:
    """Look for all terms in all titles."""
    terms = Terms(labels)
    for title in titles:
        terms.find(title)


def per_term(terms: list[str], titles: list[str], labels: dict[str, str]) -> float:
    """Seconds that a regular expression for each term takes; it finds what the automaton does."""
    patterns = [re.compile(rf"\b{re.escape(term)}\b", re.IGNORECASE) for term in terms]
    automaton = Terms(labels)
    begun = time.perf_counter()
    found = [{str(n) for n, pattern in enumerate(patterns) if pattern.search(title)} for title in titles]
    seconds = time.perf_counter() - begun
    for title, by_patterns in zip(titles, found, strict=True):
        if by_patterns != set(automaton.find(title)):
            raise AssertionError(f"the automaton and regular expressions differ: {title}")
    return seconds


def of_all(terms: list[str], titles: list[str]) -> float:
    """Seconds that one regular expression of all terms takes."""
    longest_first = sorted(terms, key=len, reverse=True)
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)
    begun = time.perf_counter()
    for title in titles:
        pattern.findall(title)
    return time.perf_counter() - begun


def row(name: str, seconds: float, titles: int) -> str:
    """A line of the table; what was tried on a sample is put to all titles."""
    whole = seconds * TITLES / titles
    shown = f"{whole:.1f}" if titles == TITLES else f"{whole:,.0f} (from {titles} titles)"
    return f"| {name} | {shown} | {titles / seconds:,.0f} |"
