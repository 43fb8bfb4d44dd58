"""A lake in a bucket: small objects a second beside other clients, and what an image costs in requests and bytes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import corpora
from benchmarks.environment import peers_python
from benchmarks.gcs_serving import Serving, serving
from benchmarks.peers.objects import SIZE, THREADS
from benchmarks.processes import contend, ours, say
from benchmarks.series import Aim, Series, aims_table

RUNS = 3
LATENCIES = (0.0, 0.02, 0.05)
OBJECTS = 1000
PHOTOS = 400
#: The original and three outputs; and a batch of hundreds of images adds two.
AIM_WRITES = 4.05

NAMES = {
    "lake": f"our lake, {THREADS} threads",
    "transfer_manager": f"transfer_manager, {THREADS} threads",
    "one_by_one": "our lake, one by one",
    "obstore": f"obstore, {THREADS} threads",
}

EXPLAINED = f"""## A lake in a bucket

Against a stand-in for Google Cloud Storage on the loopback, in a process of its own, that lets every request wait;
the two share the machine's cores. Objects of {SIZE // 1000} KB, created only where there is none. Our lake and
transfer_manager have the CRC32C of each object compared by the server; obstore has no way to.
"""


@dataclass
class Images:
    """The imaging at one latency: times of the bucket and of the folder, and what the server counted for an image."""

    bucket: Series = field(default_factory=Series)
    folder: Series = field(default_factory=Series)
    server: Series = field(default_factory=Series)


def section(home: Path, photos: int | None = None) -> str:
    """Measure; with `photos`, so many of each, for a trial."""
    written = written_table(home, photos or OBJECTS)
    measured = {latency: imaging(home, latency, photos or PHOTOS) for latency in LATENCIES}
    return "\n".join([EXPLAINED, written, imaging_table(measured, photos or PHOTOS)])


def written_table(home: Path, count: int) -> str:
    """Objects a second, and the CPU time of one, of each client at each latency."""
    lines = ["| client | " + " | ".join(f"{1000 * latency:.0f} ms: objects/s, CPU ms" for latency in LATENCIES) + " |"]
    lines.append("|---|" + "---|" * len(LATENCIES))
    cells: dict[str, list[str]] = {contender: [] for contender in NAMES}
    for latency in LATENCIES:
        series = {contender: Series() for contender in NAMES}
        with serving(latency, home) as server:
            for number in range(RUNS):
                for contender, measured in series.items():
                    say(f"bucket, {1000 * latency:.0f} ms: run {number + 1} of {RUNS}, {contender}")
                    measured.add(one_run(contender, server, home, count))
        for contender, measured in series.items():
            cells[contender].append(f"{measured.cell('objects_a_second', 0)}, {measured.median('cpu_ms'):.2f}")
    return "\n".join([*lines, *(f"| {NAMES[name]} | {' | '.join(row)} |" for name, row in cells.items()), ""])


def one_run(contender: str, server: Serving, home: Path, count: int) -> dict[str, float]:
    """One contender once; one by one is slow enough to tell from a tenth."""
    objects = max(10, count // 10) if contender == "one_by_one" else count
    command = [sys.executable, "-m", "benchmarks.gcs_writing", contender]
    if contender == "obstore":
        command = [str(peers_python() or sys.executable), "-m", "benchmarks.peers.obstore_writing"]
    measured = contend([*command, server.url, str(objects)], home)
    return measured | {"objects_a_second": measured["images"] / measured["seconds"]}


def imaging(home: Path, latency: float, photos: int) -> Images:
    """A small corpus into a bucket and into a folder, in turn."""
    folder = corpora.folder_of(replace(corpora.SMALL, count=photos))
    size = sum(path.stat().st_size for path in folder.iterdir())
    images = Images()
    for number in range(RUNS):
        say(f"imaging, {1000 * latency:.0f} ms: run {number + 1} of {RUNS}")
        images.folder.add(ours("gcs_imaging", folder, home))
        with serving(latency, home) as server:
            images.bucket.add(ours("gcs_imaging", folder, home, server.url))
            images.server.add(dict(for_an_image(server, photos, size)))
    return images


def for_an_image(server: Serving, photos: int, size: int) -> Iterator[tuple[str, float]]:
    """Requests by kind and bytes, for each image; bytes also by those of the photos."""
    calls, moved = server.counted()
    yield "writes", calls.pop("objects.insert", 0) / photos
    yield "others", sum(calls.values()) / photos
    yield "bytes", sum(moved.values()) / photos
    yield "by_photo", sum(moved.values()) / size


def imaging_table(measured: dict[float, Images], photos: int) -> str:
    """What an image takes at each latency."""
    lines = [
        f"The imaging alone, {photos} photos of 1.5 KB from a folder: each is kept, with three outputs. A batch adds",
        "its manifest and its part.",
        "",
        "| latency | bucket, ms a photo | folder, ms a photo | CPU, bucket | CPU, folder | writes | other requests |"
        " bytes moved | by its own |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for latency, images in measured.items():
        bucket, folder, server = images.bucket, images.folder, images.server
        lines.append(
            f"| {1000 * latency:.0f} ms | {bucket.cell('wall_ms', 2)} | {folder.cell('wall_ms', 2)} |"
            f" {bucket.cell('cpu_ms', 2)} | {folder.cell('cpu_ms', 2)} | {server.median('writes'):.3f} |"
            f" {server.median('others'):.3f} | {server.median('bytes'):.0f} | {server.median('by_photo'):.2f} |"
        )
    counted = [value for images in measured.values() for value in images.server.values["writes"]]
    aims = [Aim("writes an image, with its share of the batch's own", counted, AIM_WRITES, digits=3)]
    return "\n".join([*lines, "", aims_table(aims)])
