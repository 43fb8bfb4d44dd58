"""What the comparisons of the imaging gave, as tables."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.corpora import Corpus
from benchmarks.series import Aim, Series, aims_table, spread

#: The ways of `benchmarks.peers.floor`, and their names in the tables.
KEEPING = "floor, Pillow, originals kept"
FLOORS = {"pillow": "floor, Pillow", "simplejpeg": "floor, TurboJPEG", "planes": "floor, TurboJPEG by planes"}

EXPLAINED = """
Each photo is read from a file and three files are written: 512×512 with a border, the same in grey, 128×128; JPEG of
quality 90. CPU is user and system time of the process and its children, start-up and imports apart. A ratio
compares the runs of one round.

- **ours, bare**: `process_batch` on the batches of the folder, with its checksums, measures, metadata and checks;
  originals are kept as well, and everything is flushed to the disk at the end.
- **ours, under a flow**: the same batches by `run_batch.map` of the main flow, each a subflow of a flow that runs
  already, with its server on the same machine (its CPU is told apart, and not added).
- **floor**: scaled decode and the same encodes by libjpeg-turbo, as many threads as cores; without checksum,
  measures, metadata, checks or originals. Of three ways (`benchmarks/peers/floor.py`) the fastest counts; once
  more with a copy of each original kept, which ours does too, and which is no check or measure.
- **plain loop**: one pass for each output and one for size, checksum and EXIF, as a hobby pipeline has it; one process.
- **img2dataset**: its resizer with its own defaults (border, 512, quality 90), as many processes as cores. It makes one
  output a call and no grey: three calls make the three outputs, the grey one in colour.
"""


@dataclass(frozen=True)
class Result:
    """The measurements of one corpus: series by contender, why some have none, and which photos they did."""

    corpus: Corpus
    bytes_each: int
    series: dict[str, Series]
    faults: dict[str, str]
    every: dict[str, int]

    def ratios(self, kind: str, one: str, other: str) -> list[float]:
        """One contender's ``wall_ms`` or ``cpu_ms`` by another's, round by round; empty where one has none."""
        if self._missing(one) or self._missing(other):
            return []
        return self.series[one].ratios(kind, self.series[other])

    def floor(self) -> str | None:
        """The fastest way to the floor, by the median of wall time."""
        ran = [name for name in FLOORS.values() if not self._missing(name)]
        return min(ran, key=lambda name: self.series[name].median("wall_ms"), default=None)

    def _missing(self, name: str) -> bool:
        return name in self.faults or not self.series[name].values


def section_text(large: Result, small: Result) -> str:
    """The section of both corpora."""
    parts = ["## Imaging, against others", EXPLAINED, aims_table(_aims(large, small)), _seen_best(small)]
    return "\n".join([*parts, corpus_table(large), corpus_table(small)])


def corpus_table(result: Result) -> str:
    """Milliseconds a photo of each contender, and how they stand to ours."""
    corpus = result.corpus
    size = f"{corpus.width}×{corpus.height}, {result.bytes_each / 1000:.4g} kB each"
    lines = [
        f"### {corpus.name}: {corpus.count} photos of {size}",
        "",
        f"| contender | runs | photos | wall ms a photo | CPU ms a photo | wall by ours | CPU by ours |\n|{'---|' * 7}",
        *(_row(result, name) for name in result.series),
        "",
        *_server_note(result),
    ]
    return "\n".join(lines)


def _row(result: Result, name: str) -> str:
    if name in result.faults:
        return f"| {name} | 0 | | not measured: {result.faults[name]} | | | |"
    series = result.series[name]
    photos = len(range(0, result.corpus.count, result.every[name]))
    compared = [spread(result.ratios(kind, name, "ours, bare"), 2) for kind in ("wall_ms", "cpu_ms")]
    cells = [str(len(series.values["wall_ms"])), str(photos), series.cell("wall_ms", 2), series.cell("cpu_ms", 2)]
    return f"| {name} | " + " | ".join(cells + compared) + " |"


def _server_note(result: Result) -> list[str]:
    flow = result.series["ours, under a flow"]
    if "server_cpu_seconds" not in flow.values:
        return []
    return [f"Prefect's server used {flow.cell('server_cpu_seconds')} s of CPU while the flow's batches ran.", ""]


def _aims(large: Result, small: Result) -> list[Aim]:
    bare, flow = "ours, bare", "ours, under a flow"
    peer = "img2dataset, three calls"
    floor = large.floor() or FLOORS["pillow"]
    aims = [
        Aim("large: CPU of the plain loop by ours", large.ratios("cpu_ms", "plain loop", bare), 8, at_least=True),
        Aim(f"large: wall time by the {floor}", large.ratios("wall_ms", bare, floor), 1.35),
        Aim(f"large: CPU by the {floor}", large.ratios("cpu_ms", bare, floor), 1.35),
        Aim(f"large: wall time by the {KEEPING}", large.ratios("wall_ms", bare, KEEPING), 1.35),
        Aim(f"large: CPU by the {KEEPING}", large.ratios("cpu_ms", bare, KEEPING), 1.35),
    ]
    for result in (large, small):
        name = result.corpus.name
        aims += [
            Aim(f"{name}: wall time of {peer}, by ours", result.ratios("wall_ms", peer, bare), 2, at_least=True),
            Aim(f"{name}: CPU of {peer}, by ours", result.ratios("cpu_ms", peer, bare), 2, at_least=True),
            Aim(f"{name}: wall time under a flow by bare", result.ratios("wall_ms", flow, bare), 1.05),
        ]
    return aims


def _seen_best(small: Result) -> str:
    """The small corpus by its floor: there the aim is to come near."""
    floor = small.floor()
    if floor is None:
        return "Small, by its floor: not measured.\n"
    wall, cpu = (spread(small.ratios(kind, "ours, bare", floor), 2) for kind in ("wall_ms", "cpu_ms"))
    return f"Small, by the {floor}: wall time {wall}, CPU {cpu}, where the aim is to come as near as can be.\n"
