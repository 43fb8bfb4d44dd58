"""How many rows of a load may be rejected before it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from blocks.errors import LookbookError
from tasks.tables.staging import INPUT, LINE

#: Rejects named in an error, at the most.
NAMED = 5


def check_reject_limit(table: str, limit: float, rejects: Sequence[Path], rows: int) -> None:
    """No larger share of the rows may be rejected than the load allows.

    Args:
        table: its name.
        limit: the share, 0 to 1.
        rejects: files of `REJECT_SCHEMA`.
        rows: all of them, those that are rejected included.

    Raises:
        LookbookError: more are rejected; the message counts them by rule and names the first.
    """
    rejected = sum(pq.ParquetFile(path).metadata.num_rows for path in rejects)
    if rejected <= limit * rows:
        return
    by_rule, named = _read(rejects)
    more = f" and {rejected - len(named)} more" if rejected > len(named) else ""
    raise LookbookError(
        f"{table}: {rejected} of {rows} rows ({rejected / rows:.1%}) were rejected: "
        f"{', '.join(f'{count} {rule}' for rule, count in sorted(by_rule.items()))} ({'; '.join(named)}{more}); "
        f"reject_limit is {limit:g}. Nothing was loaded, and the table stays as it was.",
        "Mend the source or what the load says of its columns, or allow more with reject_limit (of an import, "
        '--reject-limit): 1 loads the rest all the same, and "lookbook pipeline rejects" then lists them.',
    )


def _read(files: Sequence[Path]) -> tuple[Counter[str], list[str]]:
    """How many rejects broke each rule, and the first ones, each with its place."""
    by_rule: Counter[str] = Counter()
    named: list[str] = []
    for path in files:
        with pq.ParquetFile(path) as file:
            for chunk in file.iter_batches(columns=["rule", "message", INPUT, LINE]):
                by_rule.update(chunk.column("rule").to_pylist())
                named += [_said(row) for row in chunk.slice(0, NAMED - len(named)).to_pylist()]
    return by_rule, named


def _said(reject: dict[str, object]) -> str:
    line = f" line {reject[LINE]}" if reject[LINE] is not None else ""
    return f"{reject[INPUT]}{line}: {reject['message']}" if reject[INPUT] else str(reject["message"])
