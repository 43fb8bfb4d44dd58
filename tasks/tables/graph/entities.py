"""Nodes and edges of a graph: rows of tables by their keys, foreign keys, and labels found in texts."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import copy_rows
from lookbook.blocks.sql_text import quoted
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.load.books import COLUMNS
from lookbook.tasks.tables.spec.tasks import Entity, Link, Mention
from lookbook.tasks.tables.staging import INPUT, LINE

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

# Terms and texts are folded alike, and looked for in what that gives: no position in the text as it stood is needed,
# so it does not matter that a letter may become two (ß is ss, İ is i with a dot above). A text is put into NFC,
# folded by Unicode's full case folding, and put into NFC again, so that é is one letter however it is written.
#
# A word is made of letters, digits and underscores, and of the combining marks behind them (an accent that no letter
# has of its own, a vowel sign). Folding turns letters into letters only, so a match that begins or ends within ß
# stands within a word, and does not count.
#
# Whole words are found by marks: one stands where what is before it is no part of a word (``START``), one where what
# is behind it is none (``END``). A term with both is found nowhere but between words, so that finding takes time by
# the length of the text and by what is found, whatever the terms.

START, END = "\x02", "\x03"
#: Of so many kinds of characters between words, each is marked by itself.
_FEW = 16
_NO_MARKS = str.maketrans(dict.fromkeys((START, END), "\ufffd"))


def fold(text: str) -> str:
    """Return a text without case, in which the marks stand nowhere."""
    if START in text or END in text:
        text = text.translate(_NO_MARKS)
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def marked(text: str) -> str:
    """Return a folded text with its marks; that of a whole word in a text stands in that of the text."""
    letters = set(text)
    others = [letter for letter in letters if _kind(letter) != "word"]
    if len(others) <= _FEW and not any(_kind(letter) == "mark" for letter in others):
        for letter in others:  # in C, a letter at a time: ten times as fast as a regular expression
            text = text.replace(letter, f"{END}{letter}{START}")
    else:
        text = _between_words().sub(_with_marks, text)
    return f"{START}{text}{END}"


@cache
def _kind(letter: str) -> str:
    if letter == "_" or letter.isalnum():
        return "word"
    return "mark" if unicodedata.category(letter).startswith("M") else "other"


def _with_marks(found: re.Match[str]) -> str:
    return f"{END}{found[0]}{START}"


@cache
def _between_words() -> re.Pattern[str]:
    """Match a character that is no part of a word, with the combining marks behind it; or marks behind nothing."""
    marks = combining_marks()
    return re.compile(rf"[^\w{marks}][{marks}]*|^[{marks}]+")


@cache
def combining_marks() -> str:
    """Return all combining marks, as ranges of a class of a regular expression."""
    ranges: list[list[int]] = []
    for number in range(sys.maxunicode + 1):
        if unicodedata.category(chr(number)).startswith("M"):
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


class Terms:
    """The labels of an entity, to be found in texts.

    Equal terms of two keys both count, and so do terms that overlap. Blanks around a term do not belong to it.

    Args:
        labels: for each key its term.

    Attributes:
        empty: the keys that have no term, and are never found.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        from ahocorasick_rs import AhoCorasick  # noqa: PLC0415 - late: importing the tasks is to be quick

        owners: dict[str, list[str]] = {}
        for key, label in labels.items():
            owners.setdefault(fold(label.strip()), []).append(key)
        self.empty = owners.pop("", [])
        self._owners = list(owners.values())
        self._automaton = AhoCorasick([marked(term) for term in owners], store_patterns=False) if owners else None

    def find(self, text: str) -> dict[str, int]:
        """Return how often each key's term stands in a text; those that do not are left out."""
        if self._automaton is None or not text:
            return {}
        found = self._automaton.find_matches_as_indexes(marked(fold(text)), overlapping=True)
        counts = Counter(pattern for pattern, _, _ in found)
        return {key: count for pattern, count in counts.items() for key in self._owners[pattern]}


#: So many rows of a graph are kept; all are counted.
MOST_KEPT = 10_000


@dataclass(frozen=True)
class Row:
    """A row that is left out: of which table, by which rule, why, and what it says in the columns that are read."""

    table: str
    rule: str
    message: str
    said: Mapping[str, object]


@dataclass
class LeftOut:
    """The rows that a graph leaves out.

    Attributes:
        rows: the first `MOST_KEPT` of them.
        number: of all.
    """

    rows: list[Row] = field(default_factory=list)
    number: int = 0

    def add(self, table: str, rule: str, message: str, said: Mapping[str, object]) -> None:
        """Add a row."""
        self.number += 1
        if len(self.rows) < MOST_KEPT:
            self.rows.append(Row(table, rule, message, said))

    def write(self, context: Context, task: str, batch: str) -> None:
        """Put them in the place of those that the graph left out before.

        Args:
            context: the run.
            task: of the graph.
            batch: names the graph that was made.
        """
        records = [_record(context.pipeline.name, task, batch, place, row) for place, row in enumerate(self.rows)]

        async def work(connection: Connection) -> None:
            await connection.execute(
                "DELETE FROM feed_rejects WHERE pipeline = $1 AND task = $2", context.pipeline.name, task
            )
            await copy_rows(connection, "feed_rejects", COLUMNS, records)

        context.workspace.registry.run(work)


def _record(pipeline: str, task: str, batch: str, place: int, row: Row) -> tuple[object, ...]:
    source, line = row.said.get(INPUT), row.said.get(LINE)
    raw = json.dumps(
        {name: value for name, value in row.said.items() if name not in (INPUT, LINE)}, default=str, ensure_ascii=False
    )
    name = hashlib.sha256(f"{batch}|{place}|{row.rule}|{raw}".encode()).hexdigest()[:20]
    return (f"r-{name}", pipeline, task, "lake", row.table, batch, row.rule, row.message, raw, source, line)


#: Rows that are held at a time.
_BATCH = 4096

#: Columns by name, in rows of one order, over and over.
Batches = Callable[[], Iterator[dict[str, list[Any]]]]


def table_batches(
    workspace: Workspace, table: str, columns: Sequence[str], inputs: Mapping[str, Staged], scratch: Path
) -> Batches:
    """Return the rows of a table: a task's result, or feeds.name, warehouse.name, lake.name.

    Args:
        workspace: where tables lie.
        table: as the spec names it.
        columns: that are read; each once.
        inputs: results of tasks.
        scratch: a folder of this machine for copies.

    Raises:
        LookbookError: there is no such table, or it lacks a column.
    """
    schema, dot, name = table.partition(".")
    if not dot:
        if table not in inputs:
            raise UsageError(f"There is no result of a task {table}; there are {', '.join(inputs) or 'none'}.")
        return _staged(workspace.lake, table, columns, inputs[table], scratch)
    if schema in {"feeds", "warehouse"}:
        return _fetched(workspace.warehouse.read_columns(table, columns))
    if schema == "lake":
        return _fetched(_lake_table(workspace, name, columns))
    raise UsageError(
        f"{table} is no table of a graph.", "Name a task in its after, or feeds.NAME, warehouse.NAME, lake.NAME."
    )


def _lake_table(workspace: Workspace, name: str, columns: Sequence[str]) -> pa.Table:
    from lookbook.tasks.tables.query import query  # noqa: PLC0415 - late: importing the tasks is to be quick

    order = ", ".join(str(n) for n in range(1, len(columns) + 1))
    source = ".".join(map(quoted, name.split(".")))
    return query(
        workspace,
        f"SELECT {', '.join(map(quoted, columns))} FROM lake.{source} ORDER BY {order}",  # noqa: S608
    )


def _fetched(table: pa.Table) -> Batches:
    def batches() -> Iterator[dict[str, list[Any]]]:
        for batch in table.to_batches(max_chunksize=_BATCH):
            yield batch.to_pydict()

    return batches


def _staged(lake: Lake, name: str, columns: Sequence[str], staged: Staged, scratch: Path) -> Batches:
    """Yield the rows of all groups of a result, with where they come from; a column that a file lacks is null."""
    keys = [file.key for _, stage in sorted(staged.groups.items()) for file in stage.files]
    paths = [lake.local_copy(key, scratch) for key in keys]
    present = list(dict.fromkeys(column for path in paths for column in pq.read_schema(path).names))
    missing = [column for column in columns if column not in present]
    if paths and missing:
        raise LookbookError(
            f"{name} has no column {missing[0]}; it has {', '.join(present)}.", "Name one of these in the spec."
        )
    columns = [*columns, *(column for column in (INPUT, LINE) if column in present and column not in columns)]

    def batches() -> Iterator[dict[str, list[Any]]]:
        for path in paths:
            with pq.ParquetFile(path) as file:
                own = [column for column in columns if column in file.schema_arrow.names]
                if not own:
                    yield {column: [None] * file.metadata.num_rows for column in columns}
                    continue
                for batch in file.iter_batches(batch_size=_BATCH, columns=own):
                    yield dict.fromkeys(columns, [None] * batch.num_rows) | batch.to_pydict()

    return batches


def as_text(value: Any) -> str | None:  # noqa: ANN401 - whatever a column holds
    """Return a value as a key or label: a whole number is the same whatever its type; nothing and blanks are None."""
    if value is None or isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, float):
        text = None if value != value else str(int(value)) if value.is_integer() else repr(value)  # noqa: PLR0124 - NaN
    elif isinstance(value, Decimal):
        text = f"{value:f}".rstrip("0").rstrip(".") if value.as_tuple().exponent else f"{value:f}"
    elif isinstance(value, date | datetime | time):
        text = value.isoformat()
    elif isinstance(value, bytes):
        text = value.decode("utf-8", errors="replace")
    elif isinstance(value, list | dict):
        text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    else:
        text = str(value)
    return text if text is not None and text.strip() else None


@dataclass
class Nodes:
    """The nodes of an entity, and what its rows say of others.

    Attributes:
        batches: the rows of its table.
        labels: for each key its label; where a row has none, its key.
        terms: for each key its label, empty where a row has none.
        foreign: for each column that links, how often each pair of a key and a value stands there.
        repeated: rows whose key an earlier one has: that one counts.
        nameless: rows without a key.
    """

    entity: str
    spec: Entity
    batches: Batches
    labels: dict[str, str] = field(default_factory=dict)
    terms: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    repeated: int = 0
    nameless: int = 0

    def read(self, links: Sequence[Link], left_out: LeftOut) -> None:
        """Read keys, labels and foreign keys; rows that no node shows are put among those that are `left_out`.

        One with a repeated key that says the same as the first is shown by its node.
        """
        self.foreign = {link.by: Counter() for link in links}
        label = self.spec.label or self.spec.key
        said: dict[str, int] = {}
        for key, row in self._rows():
            own = hash(tuple(as_text(value) for name, value in row.items() if name not in (INPUT, LINE)))
            if key is None:
                self.nameless += 1
                why = f"{self.entity}: no {self.spec.key}, and a node needs one"
                left_out.add(self.spec.table, "no_key", why, row)
            elif key not in said:
                said[key] = own
                self._take(key, row, label)
            else:
                self.repeated += 1
                if said[key] != own:
                    why = f"{self.entity}: an earlier row has the {self.spec.key} {key}, and that one counts"
                    left_out.add(self.spec.table, "repeated_key", why, row)

    def _take(self, key: str, row: Mapping[str, object], label: str) -> None:
        told = as_text(row[label])
        self.labels[key], self.terms[key] = told or key, told or ""
        for column, counts in self.foreign.items():
            if (text := as_text(row[column])) is not None:
                counts[key, text] += 1

    def texts(self, columns: Sequence[str]) -> Iterator[tuple[str, list[str | None]]]:
        """Yield for each node its key and the texts of these columns."""
        seen: set[str] = set()
        for key, row in self._rows():
            if key is not None and key not in seen:
                seen.add(key)
                yield key, [as_text(row[column]) for column in columns]

    def _rows(self) -> Iterator[tuple[str | None, dict[str, object]]]:
        """Yield each row with its key, if it has one."""
        for batch in self.batches():
            for values in zip(*batch.values(), strict=True):
                row = dict(zip(batch, values, strict=True))
                yield as_text(row[self.spec.key]), row

    def problems(self) -> Iterator[str]:
        """Yield what its rows have that no node shows."""
        place = f"entities.{self.entity}: {self.spec.table}"
        if self.nameless:
            yield f"{place}: {_rows(self.nameless)} without a {self.spec.key}: no node"
        if self.repeated:
            yield f"{place}: {_rows(self.repeated)} with a {self.spec.key} that an earlier one has: that one counts"


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


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
