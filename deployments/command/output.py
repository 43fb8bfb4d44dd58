"""What commands print: tables and summaries for people, JSON for programs."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import simplejson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookbook.tasks.datasets.report.text import outcomes

if TYPE_CHECKING:
    from lookbook.blocks.warehouse import QueryCost

#: Columns of a page that no terminal bounds.
WIDE = 10_000


def print_json(document: Any) -> None:  # noqa: ANN401 - anything that JSON can say
    """Print one JSON document to standard output; decimals are numbers with all their digits.

    An iterator is an array, whose values are written as they come.
    """
    options = {"indent": 2, "default": str, "ensure_ascii": False, "use_decimal": True, "iterable_as_array": True}
    simplejson.dump(_finite(document), sys.stdout, **options)
    sys.stdout.write("\n")


def _finite(document: Any) -> Any:  # noqa: ANN401 - anything that JSON can say
    """JSON has no word for NaN and the infinities: they are null."""
    if isinstance(document, Decimal):
        return document if document.is_finite() else None
    if isinstance(document, float) and not math.isfinite(document):
        return None
    if isinstance(document, dict):
        return {key: _finite(value) for key, value in document.items()}
    if isinstance(document, Iterator):
        return map(_finite, document)
    return [_finite(value) for value in document] if isinstance(document, list) else document


def unique_names(names: Sequence[str]) -> list[str]:
    """Column names, numbered where several are equal: ``a``, ``a_2``."""
    unique: list[str] = []
    for name in names:
        count = 2
        candidate = name
        while candidate in unique:
            candidate, count = f"{name}_{count}", count + 1
        unique.append(candidate)
    return unique


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str = "Nothing.") -> None:
    """Print rows as a table; names and texts from users are shown as they are, never as markup."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(_cell(column), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console.width = WIDE  # another program reads it: no line is broken
    console.print(table if table.row_count else empty)


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print the summary of a run: images, rows and outputs with their outcomes."""
    from lookbook.tasks.datasets.checks import told

    published = "published" if summary["published"] else "nothing published: this snapshot stays"
    if summary["hint"]:
        sys.stdout.write(printable(summary["hint"]) + "\n")
    rows = [(name, outcomes(summary[name])) for name in ("files", "images", "rows")]
    if summary["matched_by"]:
        rows.append(("matched by", ", ".join(f"{count} {rule}" for rule, count in summary["matched_by"].items())))
    rows.append(("orphan images", str(summary["orphan_images"])))
    if summary["ignored"]:
        rows.append(("ignored", outcomes(summary["ignored"])))
    if checks := summary.get("checks"):
        rows.append(("checks", outcomes(Counter(check["outcome"] for check in checks))))
        rows += [(check["outcome"], printable(told(check))) for check in checks if check["outcome"] != "passed"]
    rows.append(("outputs drawn", outcomes(summary["outputs"])))
    rows.append(("time", f"{summary['seconds']} s, {summary['images_per_second']} images a second"))
    if summary["source"].startswith("kaggle://"):
        rows.append(("source", printable(summary["source"])))
    rows.append(("report", printable(summary["report"])))
    if not summary["published"] and any(summary[name].get("rejected") for name in ("files", "images", "rows")):
        rows.append(("rejects", f'"lookbook rejects {summary["dataset"]}" lists them'))
    Console(file=sys.stdout).print(
        Text(f"{summary['dataset']}  snapshot {summary['snapshot']}  ({published})", style="bold"),
        soft_wrap=True,
    )
    for name, text in rows:
        sys.stdout.write(f"  {name:<14} {text}\n")


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print what an ingest would do."""
    from lookbook.tasks.datasets.estimate import plan_lines

    title, *lines = plan_lines(plan)
    Console(file=sys.stdout).print(Text(printable(f"{title[0]}  {title[1]}"), style="bold"), soft_wrap=True)
    for name, text in lines:
        sys.stdout.write(f"  {name:<18} {printable(text)}\n")


def print_replayed(summary: Mapping[str, Any]) -> None:
    """Print what became of rejects that were judged again."""
    counts = summary["replayed"]
    ended = "  ".join(f"{count:,} {name}" for name, count in counts.items() if name != "judged")
    said = f"published: {summary['snapshot']}" if summary["published"] else f"nothing published: {summary['note']}"
    judged = f"{counts['judged']:,} reject{'' if counts['judged'] == 1 else 's'} judged again"
    sys.stdout.write(f"{summary['dataset']}  {judged}: {ended}\n  {printable(said)}\n")


def print_query_cost(cost: QueryCost, *, as_json: bool) -> None:
    """Print what a query would cost, by its dry run."""
    billed, limit = cost.bytes_billed, cost.maximum_bytes_billed
    allowed = billed is None or limit is None or billed <= limit
    if as_json:
        told = {"bytes_processed": cost.bytes_processed, "bytes_billed": billed, "tables": list(cost.tables)}
        print_json(told | {"maximum_bytes_billed": limit, "allowed": allowed})
    elif billed is None:
        sys.stdout.write("The statement is right. This warehouse bills nothing.\n")
    else:
        sys.stdout.write(f"The statement is right. It reads {cost.bytes_processed:,} bytes")
        sys.stdout.write(f" and bills {billed:,} at least (10 MiB for each table that is read).\n")
        if not allowed:
            sys.stdout.write(f"maximum_bytes_billed is {limit:,}: it would fail, and bill nothing.\n")


def printable(text: str) -> str:
    """Return text on one line: what a terminal would obey, and what no encoding can say, is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cell(value: Any) -> Text:  # noqa: ANN401 - any value of a table
    if isinstance(value, bytes):
        return Text(f"<{len(value)} bytes>")
    return Text("" if value is None else printable(str(value)))


TASKS = ["task", "kind", "outcome", "rows_in", "rows_out", "rejected", "seconds"]
TABLES = ["place", "table", "loaded", "rejected", "superseded", "rows"]


def print_pipeline(summary: Mapping[str, Any]) -> None:
    """Print the summary of a run: its tasks, and the tables that were loaded."""
    title = f"{summary['pipeline']}  {summary['date']}  ({summary['status']})"
    Console(file=sys.stdout).print(Text(title, style="bold"), soft_wrap=True)
    if summary["why"]:
        sys.stdout.write(f"{printable(summary['why'])}\n")
    print_rows(TASKS, ([row[column] for column in TASKS] for row in summary["tasks"]))
    for row in summary["tasks"]:
        if row["note"]:
            sys.stdout.write(f"{row['task']}: {printable(row['note'])}\n")
    if summary["tables"]:
        sys.stdout.write("\n")
        print_rows(TABLES, ([row.get(column) for column in TABLES] for row in summary["tables"]))
    if any(row["rejected"] for row in summary["tasks"]):
        sys.stdout.write(f'"lookbook pipeline rejects {summary["pipeline"]}" shows what was rejected.\n')


def print_backfill(name: str, done: Mapping[str, Any]) -> None:
    """Print the dates of a backfill."""
    rows = ([run["date"], run["status"], _loaded(run)] for run in done["runs"])
    print_rows(["date", "status", "loaded"], rows, f"{name}: nothing is left to do.")
    if done["done_before"]:
        sys.stdout.write(f"{done['done_before']} of {done['dates']} dates were done before.\n")


def print_replay(done: Sequence[Mapping[str, Any]]) -> None:
    """Print what became of rejects."""
    columns = ["place", "table", "taken_up", "loaded", "rejected"]
    print_rows(columns, ([row[column] for column in columns] for row in done), "No rejects.")


def _loaded(run: Mapping[str, Any]) -> int:
    return sum(table.get("loaded") or 0 for table in run["tables"])
