"""What the reading of an input gives: rows, and beside them what could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.extract.arrays import text_of
from lookbook.tasks.tables.extract.json_values import as_json
from lookbook.tasks.tables.staging import INPUT, LINE, REJECT_SCHEMA

#: A record of a text file has no more bytes: what is longer is a reject.
MAX_RECORD = 16 * 2**20
#: So many characters are kept of what could not be read.
MAX_RAW = 64 * 2**10


@dataclass(frozen=True)
class Reject:
    """What could not be read.

    Attributes:
        rule: its name.
        message: why.
        raw: the line or record as it stands.
        input: address of what it stands in.
        line: where; None: nobody knows.
    """

    rule: str
    message: str
    raw: str
    input: str
    line: int | None = None


@dataclass(frozen=True)
class Piece:
    """Rows that were read together.

    Attributes:
        rows: with the columns `INPUT` and `LINE` as the last ones; None where there are none.
        rejects: what could not be read.
        group: that the rows belong to, as a table's name; empty: to none.
        delimited: columns whose texts stood in a delimited file, which knows no types, with its decimal sign.
    """

    rows: pa.Table | None = None
    rejects: Sequence[Reject] = ()
    group: str = ""
    delimited: Mapping[str, str] = field(default_factory=dict)


@dataclass
class TakenInput:
    """A file that a source of type objects has taken.

    Attributes:
        input: its address.
        fingerprint: another one when it changed.
        modified: when it was changed.
    """

    input: str
    fingerprint: str
    modified: datetime | None = None


@dataclass
class Notes:
    """What the reading of a source finds out beside its rows; complete when all pieces were taken.

    Attributes:
        inputs: addresses of what was read.
        state: what the source is to know at the next run.
        taken: files that are not to be taken again; None of a source that takes them at each run.
        unchanged: the source says that nothing changed; there are no pieces then.
    """

    inputs: list[str] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    taken: list[TakenInput] | None = None
    unchanged: bool = False


class UnreadableError(Exception):
    """A file that cannot be read, or not to its end.

    Args:
        rule: as of a reject.
        message: why.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def for_user(self, address: str) -> LookbookError:
        """Return the error that names the file."""
        return LookbookError(
            f"{address} cannot be read ({self.rule}): {self.message}.", "Mend the file or what says how to read it."
        )


def rejects_table(rejects: Sequence[Reject]) -> pa.Table:
    """Return rejects as rows of `REJECT_SCHEMA`."""
    columns = [
        [reject.rule for reject in rejects],
        [reject.message for reject in rejects],
        [reject.raw for reject in rejects],
        [reject.input for reject in rejects],
        [reject.line for reject in rejects],
    ]
    return pa.Table.from_arrays(
        [pa.array(column, kind.type) for column, kind in zip(columns, REJECT_SCHEMA, strict=True)],
        schema=REJECT_SCHEMA,
    )


def raw_of(row: Mapping[str, Any]) -> str:
    """Return a row as it is kept among the rejects: JSON."""
    return as_json({name: text_of(value) for name, value in row.items() if name not in (INPUT, LINE)})


def shortened(raw: str) -> str:
    """As much of a raw record as is kept."""
    return raw if len(raw) <= MAX_RAW else raw[:MAX_RAW] + "…"


def located(rows: pa.Table, address: str, lines: pa.Array) -> pa.Table:
    """Return rows with their address and lines as last columns; columns of theirs with these names get others."""
    names = unique_names(rows.column_names, taken=(INPUT, LINE))
    told = pa.DictionaryArray.from_arrays(pa.array([0] * rows.num_rows, pa.int8()), pa.array([address], pa.string()))
    return (
        rows.rename_columns(names)
        .append_column(pa.field(INPUT, pa.string()), told.cast(pa.string()))
        .append_column(pa.field(LINE, pa.int64()), lines.cast(pa.int64()))
    )


def unique_names(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return the names with a number behind each that is empty or stands there already."""
    used = set(taken)
    unique: list[str] = []
    wanted = {name for name in names if name}
    for number, name in enumerate(names, 1):
        base = name or f"column_{number}"
        result, count = base, 1
        while result in used or (result != name and result in wanted):
            count += 1
            result = f"{base}_{count}"
        used.add(result)
        unique.append(result)
    return unique
