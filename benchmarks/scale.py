"""A million images: memory of their ingest, export and verification; and what a second worker gains an export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.corpora import LARGE
from benchmarks.executors import workers
from benchmarks.exports import build
from benchmarks.processes import COMMAND, contend, discard, forget, say, shell, timed
from benchmarks.series import Aim, Series, aims_table
from tests.support.prefect_processes import Server, deploy, start_server

#: Images of the snapshots whose memory is compared.
COUNTS = (250_000, 1_000_000)
AIM_MB = 1000
#: Images of the export by one worker and by two, files in a batch (half a minute of one thread), and rounds.
PHOTOS, BATCH, ROUNDS = 10_000, 1000, 2
AIM_GAIN = 1.8


def section(home: Path, photos: int | None = None) -> str:
    """Measure both; with `photos`, so many of each, once, for a trial."""
    return "\n".join([*memory(home, photos), "", *gain(home, photos)])


def memory(home: Path, photos: int | None) -> list[str]:
    """The most megabytes of the processes that plan, publish, publish the same again, export and verify."""
    rows, peaks = [], []
    for count in (photos,) if photos else COUNTS:
        place = home / f"scale-{count}"
        place.mkdir()
        try:
            scale(place, "write", count)
            for what in ("export", "verify"):
                say(f"scale: {what} of {count} images")
                measured = contend([sys.executable, "-m", "benchmarks.scale_lake", what, str(place)], place)
                peaks.append(measured["peak_mb"])
                rows.append(f"| {what} | {count:,} | {measured['seconds']:.0f} | {measured['peak_mb']:.0f} | |")
            discard(place / "lake")
            ingested(place, count, rows, peaks)
        finally:
            forget(place)
            discard(place)
    return [
        "## A million images",
        "",
        "A snapshot that nobody drew: a row of the catalogue and an output for each image, bytes made when they are"
        " read (`benchmarks/scale_lake.py`). The export is of links, with all metadata, split and stratified; the"
        " verification reads all originals and outputs, the registry and the warehouse. Then an ingest of images that"
        " are nowhere, with a row of `styles.csv` each (`benchmarks/scale_ingest.py`): `plan`; `publish`, all of a run"
        " but the drawing, and the snapshot in registry and warehouse; `again`, a run that finds nothing changed; and"
        " `one more`, one that finds one image more. Resident MB of the process at its peak, without PostgreSQL's; and"
        " the MB that it wrote of the snapshot: pieces of tables, report and manifest.",
        "",
        "| what | images | seconds | peak MB | MB written |",
        "|---|---|---|---|---|",
        *rows,
        "",
        aims_table([Aim("MB at the most", [max(peaks)], AIM_MB, digits=0)]),
    ]


def ingested(home: Path, count: int, rows: list[str], peaks: list[float]) -> None:
    """Measure an ingest: its plan; all that follows once the batches are drawn; once more; and with one more image."""
    steps = [(what, count) for what in ("plan", "draw", "publish", "again")]
    for what, images in (*steps, ("draw", count + 1), ("one more", count + 1)):
        say(f"scale: {what} of {images} images")
        measured = contend([sys.executable, "-m", "benchmarks.scale_ingest", what, str(home), str(images)], home)
        if what != "draw":
            peaks.append(measured["peak_mb"])
            figures = [measured["seconds"], measured["peak_mb"], measured["written_mb"]]
            rows.append(f"| {what} | {images:,} | {' | '.join(f'{each:.0f}' for each in figures)} |")


def scale(home: Path, what: str, count: int) -> None:
    """Do something with the snapshot in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale_lake", what, str(home), str(count)]
    subprocess.run(command, env=shell(home), cwd=home, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def gain(home: Path, photos: int | None) -> list[str]:
    """The same export by one worker and by two, in turn."""
    count, batch = (photos, max(1, photos // 10)) if photos else (PHOTOS, BATCH)
    server = start_server(home)
    deploy(server)
    build(home, "many", "LARGE", count)
    series = {1: Series(), 2: Series()}
    for number in range(1 if photos else ROUNDS):
        for many, measured in series.items():
            say(f"scale: round {number + 1}: {many} workers")
            with workers(server, many, limit=1):
                measured.add({"seconds": export(server, batch)})
    aim = Aim("wall time of one worker by that of two", series[1].ratios("seconds", series[2]), AIM_GAIN, at_least=True)
    return [
        f"### An export of {count:,} images by two workers, and by one",
        "",
        f"Photos of {LARGE.width}×{LARGE.height} by `square-512` into shards of WebDataset, in batches of {batch:,}, by"
        " the executor `pool`; each worker takes one batch at a time and draws with one thread. Parent, server and both"
        " workers share this machine's cores.",
        "",
        "| workers | whole command, s |",
        "|---|---|",
        *(f"| {many} | {measured.cell('seconds')} |" for many, measured in series.items()),
        "",
        aims_table([aim]),
    ]


def export(server: Server, batch: int) -> float:
    """Seconds of one export."""
    discard(server.home / "lake" / "exports")
    command = [*COMMAND, "export", "many", "--recipe", "square-512", "--format", "webdataset", "--shard-size", "250"]
    _, used = timed([*command, "--executor", "pool", "--batch-size", str(batch), "--json"], server.home)
    return used["process_seconds"]
