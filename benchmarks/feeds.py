"""Loads of a million rows: what ours costs beside dlt alone, and which way to merge is quickest where."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import feed_rows
from benchmarks.processes import discard, say, timed
from benchmarks.series import Aim, Series, aims_table

RUNS = 5
PLACES = {"warehouse": "DuckDB", "registry": "PostgreSQL"}
AIM_SHARE = 1.10
AIM_MB = 500


@dataclass(frozen=True)
class Load:
    """One load that is measured: which rows, how, and where to."""

    place: str
    rows: str
    disposition: str
    strategy: str = "delete-insert"

    @property
    def title(self) -> str:
        """What the tables call it."""
        rows = feed_rows.ROWS if self.rows == feed_rows.BASE else feed_rows.MERGED
        return f"{PLACES[self.place]}: {self.disposition} {rows:,}"


#: In this order, so that each finds what it needs: a replace over a table, an append to it, a merge into a million.
LOADS = [
    Load(place, rows, disposition)
    for place in PLACES
    for rows, disposition in (
        (feed_rows.BASE, "append"),
        (feed_rows.BASE, "replace"),
        (feed_rows.CHANGES, "merge"),
    )
]
#: The engine's MERGE in place of DELETE and INSERT, by ours and, where it ends in this lifetime, by dlt alone.
MERGES = [(side, place) for place in PLACES for side in ("ours", "plain")]


def section(home: Path) -> str:
    """Measure."""
    rows = home / "rows"
    feed_rows.make(rows)
    series = {(side, load): Series() for load in LOADS for side in ("ours", "plain")}
    for number in range(RUNS):
        for load in LOADS:
            for side in ("ours", "plain"):  # one behind the other: what else the machine does, both suffer
                say(f"feeds: run {number + 1} of {RUNS}, {load.title}, {side}")
                series[side, load].add(measure(home, side, load))
        forget_tables(home)
    merges = measure_merges(home)
    return document(series, merges)


def measure(home: Path, side: str, load: Load) -> dict[str, float]:
    """One load in a process of its own."""
    told = [str(home), str(home / "rows" / load.rows), load.place, load.disposition, load.strategy]
    printed, _ = timed([sys.executable, "-m", f"benchmarks.feed_{side}", *told], home)
    return {"seconds": printed["seconds"], "cpu": printed["cpu_seconds"], "mb": printed["peak_mb"]}


def forget_tables(home: Path) -> None:
    """The next run starts with none."""
    for name in ("lookbook.duckdb", "by_dlt.duckdb", "dlt", "lake"):
        discard(home / name)
    from benchmarks.feed_plain import drop_tables  # noqa: PLC0415 - dlt takes its time

    drop_tables(home)


def measure_merges(home: Path) -> dict[tuple[str, str, str], Series]:
    """Each way to merge half a million rows into a million."""
    found: dict[tuple[str, str, str], Series] = {}
    for _ in range(RUNS):
        for side, place in MERGES:
            for strategy in ("delete-insert", "upsert"):
                say(f"feeds: merge into {PLACES[place]} by {strategy}, {side}")
                measure(home, side, Load(place, feed_rows.BASE, "replace"))
                measured = measure(home, side, Load(place, feed_rows.CHANGES, "merge", strategy))
                found.setdefault((side, place, strategy), Series()).add(measured)
        forget_tables(home)
    return found


def document(series: dict[tuple[str, Load], Series], merges: dict[tuple[str, str, str], Series]) -> str:
    """The section's text."""
    lines = [
        f"| {load.title} | {ours.cell('seconds', 2)} | {plain.cell('seconds', 2)} | {ours.cell('mb', 0)} |"
        f" {plain.cell('mb', 0)} |"
        for load, ours, plain in ((load, series["ours", load], series["plain", load]) for load in LOADS)
    ]
    ways = [
        f"| {PLACES[place]} | {'ours' if side == 'ours' else 'dlt alone'} | {strategy} | {found.cell('seconds', 2)} |"
        for (side, place, strategy), found in merges.items()
    ]
    aims = [
        Aim(f"{load.title}: ours by dlt alone", ours.ratios("seconds", plain), AIM_SHARE)
        for load, ours, plain in ((load, series["ours", load], series["plain", load]) for load in LOADS)
    ]
    memory = [max(series["ours", load].values["mb"]) for load in LOADS]
    aims.append(Aim("MB of the process, the largest of all loads", [max(memory)], AIM_MB, digits=0))
    newline = "\n"
    return f"""## Feeds

{feed_rows.ROWS:,} rows of six columns from staged Parquet; the merge brings {feed_rows.MERGED:,}, half of which are
there. Ours makes the rows fit, writes them in one transaction and keeps the books; dlt alone loads the same files in
its quickest documented way (Parquet imported as it stands into DuckDB, CSV copied into PostgreSQL), without any of
that. Seconds of the load, {RUNS} runs, one behind the other; MB of the whole process.

| load | ours, s | dlt alone, s | ours, MB | dlt alone, MB |
|---|---|---|---|---|
{newline.join(lines)}

{aims_table(aims)}
Which way to merge: `delete-insert` is DELETE and INSERT, `upsert` the engine's MERGE.

| place | by | strategy | seconds |
|---|---|---|---|
{newline.join(ways)}
"""
