"""Proof by force: commands are killed at each of their steps, beside each other, and on full disks; then all is well.

``make chaos`` does all of it and writes the section of docs/benchmarks.md; ``make chaos SEED=17`` lives through one
history, and tells each command.
What a world is, and what is looked at, stands in `tests.support.chaos`.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import forget, say
from lookbook.blocks.workspace import Workspace
from lookbook.flows.export_dataset import export_dataset
from lookbook.flows.forget import forget as forget_on_request
from lookbook.flows.gc import gc
from lookbook.flows.ingest import ingest
from lookbook.flows.pipeline import pipeline
from lookbook.flows.publish import publish
from lookbook.flows.remove import remove
from lookbook.flows.rename import rename
from lookbook.flows.replay import replay
from lookbook.flows.restore import restore
from lookbook.flows.verify import verify as verify_flow
from lookbook.tasks.datasets.checks import Checks, set_checks
from lookbook.tasks.datasets.tags import remove_tag, set_tag
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.exports.finished import list_files
from lookbook.tasks.exports.request import FormatWanted
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from tests.support.chaos import (
    Command,
    Ended,
    Fault,
    Trouble,
    World,
    chain,
    do_without_prefect,
    load,
    lost,
    names_in,
    rows_of,
    spread,
    stranded,
)
from tests.support.pipeline import photo, row, write_collection

#: Histories, and processes that live through them at the same time.
HISTORIES, WORKERS = 1000, 2
#: Of so many, one has reports and a warehouse with rows.
WHOLE = 10
#: Runs that are killed or fail in another way, of each command; and at how many of them by the clock.
STRUCK, BY_THE_CLOCK = 20, 5
NOW, LATER = timedelta(0), timedelta(days=40)
#: One small output: this is about books, not about pixels.
PLAIN = Recipe(outputs={"standard": OutputDefinition(image_size=16)})
DATASETS = ("one", "two", "three")
#: A snapshot with more images becomes a candidate.
CHECK = {"name": "few", "sql": "SELECT count(*) FROM images HAVING count(*) > 5", "says": "too many images"}
SPEC = """
name: prices
tasks:
  extract: {source: {type: file, path: rows.csv}}
  load: {after: [extract], table: prices, write_disposition: merge, primary_key: [sku]}
  keep: {after: [extract], table: kept, target: lake, write_disposition: merge, primary_key: [sku]}
"""


@dataclass
class Stock:
    """What a dataset should hold.

    Attributes:
        files: of its source: the number of the picture by name; a negative one is no picture.
        gone: products that were forgotten; their images never come back.
        going: products of which nobody knows: whoever was to forget them was killed.
        buried: pictures that went with a product, under whatever name.
    """

    files: dict[str, int] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    going: set[int] = field(default_factory=set)
    buried: set[int] = field(default_factory=set)

    def copy(self, *, certain: bool = True) -> Stock:
        """The same, or with what was forgotten as something of which nobody knows."""
        gone = set(self.gone) if certain else set()
        return Stock(dict(self.files), gone, self.going | self.gone - gone, set(self.buried))

    def may_lack(self, name: str) -> bool:
        """Whether an image of the source may be missing because it was to be forgotten."""
        return product_of(name) in self.gone | self.going or self.files[name] in self.buried


def product_of(name: str) -> int:
    """The product that an image shows."""
    return int(Path(name).stem)


def bytes_of(number: int) -> bytes:
    """A picture by its number; of a negative one, what is none."""
    return photo(number) if number >= 0 else f"<html>{number}</html>".encode()


class History:
    """A life of some datasets: commands of all kinds, most of them with a fault, some beside each other.

    Args:
        world: where it takes place.
        seed: of all that is chosen.
        tell: is told of each command and its end.
    """

    def __init__(self, world: World, seed: int, tell: Callable[[str], object] = lambda _: None) -> None:
        self.world, self.seed, self._tell = world, seed, tell
        self.chosen = random.Random(seed)  # noqa: S311 - no secret
        self.stocks: dict[str, Stock] = {}
        self.open: set[str] = set()
        self.faults: list[str] = []
        self.counts = Counter[str]()

    def live(self, commands: int | None = None) -> list[str]:
        """Live it to its end; what was wrong with it."""
        self.world.begin(light=self.seed % WHOLE != 0)
        self.ingest(self.dataset())
        for _ in range(commands or self.chosen.randint(2, 4 if self.world.light else 8)):
            if self.faults:
                break
            beside = 2 if self.chosen.random() < 0.15 else 1  # noqa: PLR2004
            self.do([self.choose() for _ in range(beside)])
        if not self.faults:
            self.settle()
        return self.faults

    def dataset(self) -> str:
        """One of the names."""
        return self.chosen.choice(DATASETS[:2])

    def stock(self, dataset: str) -> Stock:
        """Return what a dataset should hold; of one that came by commands beside each other, something."""
        return self.stocks.setdefault(dataset, Stock({"1.jpg": 1}))

    def fault(self, steps: int) -> Fault:
        """What goes wrong with the next command, which has about so many steps."""
        troubles: tuple[Trouble, ...] = ("none", "kill", "disk full", "warehouse away")
        trouble = self.chosen.choices(troubles, (30, 55, 10, 5))[0]
        return Fault(trouble, self.chosen.randint(1, steps) if trouble != "none" else 0)

    def clock(self) -> timedelta:
        """How far the clock of a command is ahead: it may be set back."""
        back = self.chosen.random() < 0.1  # noqa: PLR2004
        return -self.chosen.choice((timedelta(seconds=1), timedelta(minutes=5), timedelta(days=2))) if back else NOW

    def choose(self) -> Planned:
        """Choose a command that makes sense by now, as far as one who reads the lake can tell."""
        published = [name for name in DATASETS if chain(self.world.root, name)]
        if not published:
            return self.ingesting(self.dataset())
        dataset = self.chosen.choice(published)
        kinds: tuple[tuple[Callable[[str], Planned], int], ...] = (
            (lambda _: self.ingesting(self.dataset()), 30),
            (self.collecting, 22),
            (self.restoring, 8),
            (self.tagging, 6),
            (self.forgetting, 8),
            (self.exporting, 8),
            (self.checking, 5),
            (self.publishing, 4),
            (self.renaming, 4),
            (self.removing, 4),
            (self.replaying, 4),
            (self.verifying, 2),
            (self.piping, 3),
        )
        plan = self.chosen.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        return plan(dataset)

    # Commands, each with what is known once it is done, and once it was killed.

    def ingesting(self, dataset: str) -> Planned:
        """Ingest what the source holds now, which may have changed since the last time."""
        stock = self.stocks.setdefault(dataset, Stock())
        if not stock.files or self.chosen.random() < 0.8:  # noqa: PLR2004
            stock.files = self.files()
        return Planned(f"ingest {dataset}", self.ingest_of(dataset), self.fault(140), self.clock())

    def files(self) -> dict[str, int]:
        """Some files of a source."""
        found = {f"{n}.jpg": n + 10 * (self.chosen.random() < 0.2) for n in range(1, 6) if self.chosen.random() < 0.6}  # noqa: PLR2004
        found |= {f"more/{n}.jpg": n + 1 for n in range(1, 6) if self.chosen.random() < 0.2}  # noqa: PLR2004
        found |= {"bad/7.jpg": -7} if self.chosen.random() < 0.3 else {}  # noqa: PLR2004
        return found or {"1.jpg": 1}

    def ingest_of(self, dataset: str) -> Command:
        """The command; it finds what the source is to hold when it begins."""
        files, folder = dict(self.stock(dataset).files), self.world.sources / dataset
        return lambda _: ingest_files(folder, dataset, files)

    def ingest(self, dataset: str) -> None:
        """Ingest it to the end."""
        self.stocks.setdefault(dataset, Stock(self.files()))
        self.do([Planned(f"ingest {dataset}", self.ingest_of(dataset), must=True)])

    def collecting(self, _: str) -> Planned:
        """Clean up, today or later."""
        keep, older = self.chosen.randint(1, 3), self.chosen.choice(("0s", "0s", "30d"))
        ahead = self.chosen.choice((NOW, LATER, LATER))
        only = self.chosen.choice((None, None, None, *(name for name in DATASETS if chain(self.world.root, name))))
        return Planned(
            f"gc {only or ''} keep {keep}, older than {older}",
            lambda _: gc.fn(only, keep=keep, older_than=older),
            self.fault(60),
            ahead,
            graceful=not ahead,
        )

    def restoring(self, dataset: str) -> Planned:
        """Go back to one of the snapshots."""
        name = self.chosen.choice(chain(self.world.root, dataset))["snapshot_id"]
        return Planned(f"restore {dataset}", lambda _: restore.fn(dataset, name), self.fault(80), self.clock())

    def tagging(self, dataset: str) -> Planned:
        """Set a tag, or remove it."""
        name, tag = self.chosen.choice(chain(self.world.root, dataset))["snapshot_id"], self.chosen.choice("ab")
        if self.chosen.random() < 0.3:  # noqa: PLR2004
            return Planned(f"untag {dataset}", lambda place: remove_tag(place.lake, dataset, tag), self.fault(6))
        return Planned(
            f"tag {dataset}", lambda place: set_tag(place.lake, dataset, tag, name, move=True), self.fault(6)
        )

    def forgetting(self, dataset: str, product: int | None = None) -> Planned:
        """Delete a product on request."""
        stock, product = self.stock(dataset), product or self.chosen.randint(1, 5)

        def known(ended: Ended) -> None:
            if ended.how == "done" and str(product) not in ended.value["unknown"]:
                stock.gone.add(product)
                stock.going.discard(product)
            elif ended.how != "refused" or ended.steps > 40:  # noqa: PLR2004 - it did not even begin
                stock.going |= {product} - stock.gone
            if product in stock.gone | stock.going:
                stock.buried |= {product, product + 1, product + 10}

        asked = [str(product)]
        command: Command = lambda _: forget_on_request.fn(dataset, asked)  # noqa: E731
        return Planned(f"forget {product} of {dataset}", command, self.fault(200), self.clock(), known)

    def exporting(self, dataset: str) -> Planned:
        """Export into the lake."""
        formats: tuple[FormatWanted, ...] = ("csv", "imagefolder", "webdataset")
        how = self.chosen.choice(formats)
        return Planned(f"export {dataset} as {how}", lambda _: export_dataset.fn(dataset, format=how), self.fault(60))

    def checking(self, dataset: str) -> Planned:
        """Have later ingests checked, or no more."""
        checks = Checks.model_validate({"checks": [CHECK]}) if self.chosen.random() < 0.7 else None  # noqa: PLR2004
        return Planned(f"checks of {dataset}", lambda place: set_checks(place.lake, dataset, checks), self.fault(6))

    def publishing(self, dataset: str) -> Planned:
        """Publish a candidate, where there is one."""
        return Planned(f"publish {dataset}", lambda _: publish.fn(dataset), self.fault(60), self.clock())

    def renaming(self, dataset: str, other: str = "") -> Planned:
        """Give a dataset another name."""
        other = other or self.chosen.choice([name for name in DATASETS if name != dataset])

        def known(ended: Ended) -> None:
            if ended.how == "done":
                self.stocks[other] = self.stock(dataset)
                del self.stocks[dataset]
            elif ended.how != "refused" and other not in self.stocks:
                self.stocks[other] = self.stock(dataset).copy(certain=False)

        return Planned(
            f"rename {dataset} {other}", lambda _: rename.fn(dataset, other), self.fault(220), self.clock(), known
        )

    def removing(self, dataset: str) -> Planned:
        """Remove a dataset."""

        def known(ended: Ended) -> None:
            if ended.how == "done":
                self.stocks.pop(dataset, None)
            elif ended.how != "refused" and dataset in self.stocks:
                self.stocks[dataset] = self.stocks[dataset].copy(certain=False)

        return Planned(f"remove {dataset}", lambda _: remove.fn(dataset), self.fault(110), NOW, known)

    def replaying(self, dataset: str) -> Planned:
        """Judge rejects again."""
        return Planned(f"replay {dataset}", lambda _: replay.fn(dataset), self.fault(60), self.clock())

    def verifying(self, dataset: str) -> Planned:
        """Verify all of a dataset; whoever is killed leaves something in the lake, too."""
        return Planned(f"verify {dataset}", lambda _: verify_flow.fn(dataset, everything=True), self.fault(26))

    def piping(self, _: str) -> Planned:
        """Run a pipeline over other rows each time, where there is a warehouse for it."""
        if self.world.light:
            return self.ingesting(self.dataset())
        rows = [(sku, self.chosen.randint(1, 9)) for sku in self.chosen.sample("abcdef", 3)]
        return Planned(f"pipeline {rows}", lambda _: run_pipeline(self.world.sources, rows), self.fault(80))

    # What is done, and looked at.

    def do(self, planned: Sequence[Planned]) -> list[Ended]:
        """Do a command, or some beside each other; and look at what there is."""
        before = {name: ids(self.world, name) for name in DATASETS}
        pauses = [spread(self.chosen) if len(planned) > 1 else () for _ in planned]
        begun = [
            self.world.start(each.command, each.fault, each.ahead, pause)
            for each, pause in zip(planned, pauses, strict=True)
        ]
        ends = self.world.finish(begun)
        for each, ended in zip(planned, ends, strict=True):
            self._tell(f"{each}: {ended}")
            self.counts["commands"] += 1
            self.counts["beside another"] += len(planned) > 1
            self.counts["with the clock set back"] += each.ahead < NOW
            came = ended.how == "killed" or 0 < each.fault.at <= ended.steps
            self.counts[each.fault.trouble] += came and each.fault.trouble != "none"
            each.known(ended)
            named = set(each.what.split()).intersection(DATASETS)
            if ended.how != "done":
                self.open |= named
            elif "ingest" in each.what:
                self.open -= named
            self.faults += ended.seen
            if ended.how == "broke":
                self.faults.append(f"{each} broke: {ended.said}")
            if ended.how == "refused" and (each.must or is_alarming(ended.said)):
                self.faults.append(f"{each} was refused: {ended.said}")
        self.faults += self.world.in_child(lambda: lost(self.world.root))
        # Of what was published while the clock was set back nobody can tell when that was.
        if all(each.graceful for each in planned) and not self.counts["with the clock set back"]:
            for name, snapshots in before.items():
                gone = set(snapshots) - set(ids(self.world, name))
                self.faults += [f"{name}: {each} went within the hour after it was current" for each in gone]
        return ends

    def settle(self) -> None:
        """Do what the books say is to be done after a kill: the same again; ingest once more; clean up; look."""
        for _ in range(4):
            left = [one for name in self.names() if (one := self.unfinished(name)) is not None]
            if not left or self.faults:
                break
            self.do(left[:1])
        # Registry and warehouse of what a killed run has published follow with the next run.
        fresh = self.names() if self.seed % 4 == 0 else sorted(self.open.intersection(self.names()))
        for name in fresh:
            if not self.faults:
                (self.world.root / "datasets" / name / "checks.json").unlink(missing_ok=True)
                self.ingest(name)
        if not self.faults:
            self.do([Planned("gc at last", lambda _: gc.fn(), ahead=LATER, must=True)])
        if not self.faults:
            self.faults += self.world.in_child(lambda: stranded(self.world.root))
            self.faults += self.world.in_child(lambda: unlike(self.world.root, self.stocks, fresh))
            self.faults += self.world.in_child(lambda: differences(self.world.workspace()))

    def names(self) -> list[str]:
        """All datasets of which anything is there."""
        return sorted({*names_in(self.world.root / "datasets"), *names_in(self.world.root / "batches")})

    def unfinished(self, dataset: str) -> Planned | None:
        """What a killed command has left to be done again, by the note that it left."""
        folder = self.world.root / "datasets" / dataset
        if (folder / "renaming").exists():
            old = load(self.world.root, f"datasets/{dataset}/renaming")["of"]

            def known(ended: Ended) -> None:
                if ended.how == "refused":  # both have gone on since: one of them is to be removed
                    self.do([Planned(f"remove {dataset}", lambda _: remove.fn(dataset), must=True)])
                    self.stocks.pop(dataset, None)
                else:
                    self.stocks.setdefault(dataset, self.stocks.pop(old, Stock({"1.jpg": 1})))

            return Planned(f"rename {old} {dataset} again", lambda _: rename.fn(old, dataset), known=known)
        if (folder / "removing").exists() and not (folder / "CURRENT").exists():  # else it was wanted again
            return Planned(
                f"remove {dataset} again",
                lambda _: remove.fn(dataset),
                known=lambda _: self.stocks.pop(dataset, None),
                must=True,
            )
        if (folder / "forgetting").exists():
            return Planned(f"forget of {dataset} again", lambda _: forget_on_request.fn(dataset), must=True)
        return None


@dataclass(frozen=True)
class Planned:
    """A command that is to be done.

    Attributes:
        ahead: how far its clock is ahead.
        known: told how it ended.
        must: nothing may keep it from being done.
        graceful: no snapshot goes that was current within the last hour.
    """

    what: str
    command: Command
    fault: Fault = field(default_factory=Fault)
    ahead: timedelta = NOW
    known: Callable[[Ended], object] = lambda _: None
    must: bool = False
    graceful: bool = False

    def __str__(self) -> str:
        clock = f", the clock {self.ahead} ahead" if self.ahead else ""
        return f"{self.what} ({self.fault}{clock})"


def ids(world: World, dataset: str) -> list[str]:
    """The published snapshots of a dataset."""
    return [manifest["snapshot_id"] for manifest in chain(world.root, dataset)]


#: Words of errors that nobody should see here: nothing was damaged.
ALARMING = ("damaged", "missing", "cannot be read", "is gone", "checksum", "please report", "holds other bytes")


def is_alarming(said: str) -> bool:
    """Whether an error tells of damage."""
    return any(word in said.partition("\n")[0] for word in ALARMING)


def ingest_files(folder: Path, dataset: str, files: dict[str, int]) -> object:
    """Let a source hold some files, and ingest it."""
    now = dict[str, bytes]()
    for path in folder.rglob("*.jpg"):
        with suppress(FileNotFoundError):  # another ingest of the same source removes it at this moment
            now[path.relative_to(folder).as_posix()] = path.read_bytes()
    for name in now.keys() - files.keys():
        (folder / name).unlink(missing_ok=True)
    fresh = {name: bytes_of(number) for name, number in files.items() if now.get(name) != bytes_of(number)}
    folder.mkdir(exist_ok=True)
    write_collection(folder, fresh, [row(n) for n in range(1, 6)])
    return ingest.fn(str(folder), dataset, recipe=PLAIN, batch_size=3, reject_limit=1.0)


def run_pipeline(folder: Path, rows: Sequence[tuple[str, int]]) -> object:
    """Let the source of a pipeline hold some rows, and run it."""
    (folder / "prices.yaml").write_text(SPEC)
    (folder / "rows.csv").write_text("sku,price\n" + "".join(f"{sku},{price}\n" for sku, price in rows))
    return pipeline.fn("prices", date=datetime(2026, 1, 1, tzinfo=UTC))


def unlike(root: Path, stocks: dict[str, Stock], fresh: Sequence[str]) -> list[str]:
    """What snapshots hold otherwise than their sources, if these were ingested now, and what of the forgotten."""
    found = []
    for dataset in names_in(root / "datasets"):
        stock, snapshots = stocks.get(dataset, Stock()), chain(root, dataset)
        if dataset in fresh:
            current = {one["key"] for one in rows_of(root, snapshots[0], "images")}
            found += [f"{dataset}: {name} is not of its source" for name in current - stock.files.keys()]
            lacking = [name for name in stock.files.keys() - current if not stock.may_lack(name)]
            found += [f"{dataset}: {name} is lacking" for name in lacking]
        for snapshot in snapshots:
            names = {one["key"] for one in rows_of(root, snapshot, "images") if not one["key"].startswith("bad")}
            back = [name for name in names if product_of(name) in stock.gone]
            found += [f"{dataset}: {name} was forgotten, and is in {snapshot['snapshot_id']}" for name in back]
            counts = snapshot["summary"]["images"]
            if counts["found"] != sum(counts.values()) - counts["found"]:
                found.append(f"{dataset}: the books of {snapshot['snapshot_id']} do not balance: {counts}")
    return found


def differences(place: Workspace) -> list[str]:
    """What `verify --all` finds, what the books of the registry lack, and what is left in scratch."""
    root, found = place.scratch.parent / "lake", []
    for dataset in names_in(root / "datasets"):
        found += [each.line for each in verify(place, dataset, everything=list_files).differences]
        current = chain(root, dataset)[0]["snapshot_id"]
        loads = place.registry.fetch("SELECT 1 FROM loads WHERE dataset = $1 AND snapshot_id = $2", dataset, current)
        tables = place.registry.fetch(
            "SELECT 1 FROM tables WHERE place = 'lake' AND inputs::text LIKE $1 AND inputs::text LIKE $2",
            *(f'%"{dataset}"%', f"%{current}%"),
        )
        found += [] if loads else [f"registry: the load of {dataset} {current} is not noted"]
        found += [] if tables else [f"registry: no table of {dataset} {current} is in the catalogue"]
    left = [path.name for path in place.scratch.iterdir() if path.name != ".writable"]
    return found + [f"scratch: {name} is left" for name in left if name != "exports" or names_in(place.scratch / name)]


# One command after the other is struck, at steps all over it, in a world in which it has something to do.

#: What the datasets hold, and what their sources hold then.
BEFORE, HELD, CHANGED = (
    {"1.jpg": 1, "2.jpg": 2, "bad/7.jpg": -7},
    {"2.jpg": 2, "3.jpg": 3, "more/2.jpg": 3, "bad/7.jpg": -7},
    {"3.jpg": 13},
)
CHANGED |= {"1.jpg": 1, "4.jpg": 4, "5.jpg": 5, "bad/7.jpg": -7}
MANY = {f"{n}.jpg": n for n in range(1, 7)}
#: Commands that meet each other.
MEETING = (
    *(
        ("gc", "gc"),
        ("gc", "ingest"),
        ("gc now", "export"),
        ("gc", "restore"),
        ("gc", "verify"),
        ("forget", "ingest two"),
    ),
    *(("remove", "export"), ("rename", "gc"), ("ingest", "ingest two"), ("publish", "gc"), ("ingest", "pipeline")),
)


def prepare(world: World, *, light: bool) -> None:
    """Make the world: a dataset of three snapshots with a tag and an export, and one with a candidate."""
    world.begin(light=light)
    one, two = world.sources / "one", world.sources / "two"
    checks = Checks.model_validate({"checks": [CHECK]})
    ends = [
        world.do(lambda _: ingest_files(one, "one", {"1.jpg": 1})),
        world.do(lambda _: ingest_files(one, "one", BEFORE)),
        world.do(lambda place: set_tag(place.lake, "one", "v1")),
        world.do(lambda _: ingest_files(one, "one", HELD)),
        world.do(lambda _: export_dataset.fn("one", format="imagefolder")),
        world.do(lambda _: ingest_files(two, "two", BEFORE)),
        world.do(lambda place: set_checks(place.lake, "two", checks)),
    ]
    kept = world.do(lambda _: ingest_files(two, "two", MANY))
    if any(ended.how != "done" for ended in ends) or "candidate" not in kept.said:
        raise RuntimeError(f"the world was not made: {[*map(str, ends), str(kept)]}")
    world.save()


def commands(history: History) -> dict[str, Planned]:
    """The commands that are struck, by their names."""
    history.stocks = {"one": Stock(dict(HELD)), "two": Stock(dict(MANY))}
    sources = history.world.sources

    def changed(dataset: str) -> Planned:
        return Planned(f"ingest {dataset}", lambda _: ingest_files(sources / dataset, dataset, CHANGED))

    piped = Planned("pipeline", lambda _: run_pipeline(sources, [("a", 1), ("b", 2)]))
    return {
        "ingest": changed("one"),
        "ingest two": changed("two"),
        "restore": Planned("restore one", lambda _: restore.fn("one", "v1")),
        "export": Planned(
            "export one", lambda _: export_dataset.fn("one", format="webdataset", split="train=0.5,test=0.5")
        ),
        "publish": history.publishing("two"),
        "replay": Planned("replay one", lambda _: replay.fn("one")),
        "forget": history.forgetting("one", 2),
        "gc": Planned("gc", lambda _: gc.fn(keep=1, older_than="0s"), ahead=LATER),
        "gc now": Planned("gc now", lambda _: gc.fn(keep=1, older_than="0s"), graceful=True),
        "remove": history.removing("one"),
        "rename": history.renaming("one", "three"),
        "verify": history.verifying("one"),
    } | ({} if history.world.light else {"pipeline": piped})


@dataclass(frozen=True)
class Strike:
    """What is struck, and how.

    Attributes:
        names: of the commands; several meet each other.
        faults: of each.
        ahead: added to the clock of each.
    """

    names: tuple[str, ...]
    faults: tuple[Fault, ...]
    ahead: timedelta = NOW
    light: bool = True

    def __str__(self) -> str:
        return " beside ".join(f"{name} ({fault})" for name, fault in zip(self.names, self.faults, strict=True))


#: How a command is refused that the first try, or the one beside it, has done.
DONE_BEFORE = ("no such dataset", "there is a dataset of this name", "there is no candidate", "there is no product")


def strike(world: World, struck: Strike, tell: Callable[[str], object] = lambda _: None) -> History:
    """Strike a command, do it again, and see that all is well."""
    world.come_back()
    history = History(world, sum(fault.at for fault in struck.faults), tell)
    known = commands(history)
    for name in struck.names:
        if name.startswith("ingest"):
            history.stocks[name.partition(" ")[2] or "one"].files = dict(CHANGED)
    plans = [
        replace(known[name], fault=fault, ahead=known[name].ahead + struck.ahead)
        for name, fault in zip(struck.names, struck.faults, strict=True)
    ]
    watching = world.watch() if any(fault.after for fault in struck.faults) else nullcontext()
    with watching:
        ends = history.do(plans)
    history.counts["runs"] += 1
    for plan, ended in zip(plans, ends, strict=True):
        if ended.how != "done" and not history.faults:
            again = history.do([replace(plan, fault=Fault())])[0]
            history.open -= set(plan.what.split())  # whoever did it again has caught up
            if again.how != "done" and not any(words in again.said for words in DONE_BEFORE):
                history.faults.append(f"{plan} was not done the second time: {again.said}")
    if not history.faults:
        history.settle()
    return history


def measure(world: World) -> dict[str, tuple[int, float]]:
    """The steps of each command that is struck, and its seconds."""
    found = {}
    for name, plan in commands(History(world, 0)).items():
        world.come_back()
        began = time.monotonic()
        ended = world.do(plan.command, ahead=plan.ahead)
        if ended.how != "done":
            raise RuntimeError(f"{name} was not done: {ended}")
        found[name] = ended.steps, time.monotonic() - began
    return found


def plan_strikes(measured: dict[str, tuple[int, float]], many: int, *, light: bool) -> Iterator[Strike]:
    """All that is struck: each command at steps all over it, and by the clock, and some beside each other."""
    chosen = random.Random(1)  # noqa: S311 - no secret
    troubles: tuple[tuple[Trouble, int], ...] = (
        ("kill", many),
        ("disk full", many // 2),
        ("registry killed", many // 8),
    )
    troubles += (("warehouse away", many // 8),)
    for name, (steps, seconds) in measured.items():
        for trouble, times in troubles:
            for place in range(min(times, steps)):
                at = 1 + (place * steps + chosen.randrange(steps)) // times
                yield Strike((name,), (Fault(trouble, at),), light=light)
        for _ in range(many // 4):
            yield Strike((name,), (Fault("kill", after=chosen.uniform(0.02, seconds)),), light=light)
        for back in (timedelta(minutes=5), timedelta(days=2)):
            yield Strike((name,), (Fault("kill", chosen.randint(1, steps)),), -back, light=light)
    for names in (names for names in MEETING if measured.keys() >= set(names)):
        for _ in range(many // 4):
            faults = [Fault("kill", chosen.randint(1, 2 * measured[name][0])) for name in names]
            yield Strike(names, tuple(faults), light=light)


# Shared out among processes, and told.


@dataclass
class Tally:
    """What was done, and what was wrong.

    Attributes:
        counts: of what was done.
        faults: those of a history or a strike, by its name.
        seconds: of the processor, but for PostgreSQL's.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, what: str, history: History) -> None:
        """Count one more."""
        self.counts += history.counts
        if history.faults:
            self.faults[what] = history.faults
            say(f"{what}:\n  " + "\n  ".join(history.faults))

    def __add__(self, other: Tally) -> Tally:
        """Both."""
        return Tally(self.counts + other.counts, self.faults | other.faults, self.seconds + other.seconds)


@contextmanager
def worker(home: Path, number: int) -> Iterator[tuple[World, Tally]]:
    """Make a world of this process, in which nothing has run yet; what it used is counted at the end."""
    do_without_prefect()
    world, tally = World(home / str(number) / "home"), Tally()
    try:
        world.begin()
        folder = world.sources / "one"
        world.learn(
            [
                lambda _: ingest_files(folder, "one", BEFORE),
                lambda _: export_dataset.fn("one", format="webdataset"),
                lambda _: forget_on_request.fn("one", ["1"]),
                lambda _: gc.fn(),
                lambda _: verify_flow.fn("one", everything=True),
                lambda _: run_pipeline(world.sources, [("a", 1)]),
            ]
        )
        yield world, tally
    finally:
        forget(world.home)
    for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(whose)
        tally.seconds += used.ru_utime + used.ru_stime


def live_through(home: Path, seeds: Sequence[int], number: int = 0, of: int = 1) -> Tally:
    """Live through those of some histories that are this worker's, of so many."""
    with worker(home, number) as (world, tally):
        for seed in seeds[number::of]:
            history = History(world, seed)
            history.live()
            history.counts["runs"] += 1
            tally.add(f"make chaos SEED={seed}", history)
    return tally


def strike_all(home: Path, many: int, light: bool, number: int = 0, of: int = 1) -> Tally:
    """Strike all commands; those strikes that are this worker's, of so many."""
    with worker(home, number) as (world, tally):
        prepare(world, light=light)
        for struck in list(plan_strikes(measure(world), many, light=light))[number::of]:
            tally.add(str(struck), strike(world, struck))
    return tally


def shared_out(work: Callable[..., Tally], *given: object) -> Tally:
    """Let some processes share work; all that they found."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        begun = [pool.submit(work, *given, number, WORKERS) for number in range(WORKERS)]
        return sum((one.result() for one in begun), Tally())


def section(home: Path) -> str:
    """Strike all commands, and live through all histories."""
    light = shared_out(strike_all, home / "light", STRUCK, True)
    whole = shared_out(strike_all, home / "whole", STRUCK // 4, False)
    return told(light + whole, shared_out(live_through, home / "histories", range(HISTORIES)))


#: What is counted, in the order of the table.
COUNTED = (
    *("runs", "commands", "kill", "disk full", "warehouse away", "registry killed", "with the clock set back"),
    "beside another",
)


def told(strikes: Tally, histories: Tally) -> str:
    """The section."""
    names = {"kill": "killed", "runs": "strikes, histories"}
    rows = [f"| {names.get(name, name)} | {strikes.counts[name]:,} | {histories.counts[name]:,} |" for name in COUNTED]
    rows.append(f"| **faults** | **{len(strikes.faults)}** | **{len(histories.faults)}** |")
    rows.append(f"| seconds of the processor | {strikes.seconds:,.0f} | {histories.seconds:,.0f} |")
    return "\n".join(
        [
            "## Proof by force",
            "",
            "Each command is struck at steps all over it, and by the clock: killed (SIGKILL), on a full disk, with the"
            " registry's server killed or the warehouse away, with the clock set back, and beside another one. A step"
            " is each change of lake, registry or warehouse, before and after it. Histories are random commands of all"
            " kinds, most of them struck. At each step a reader looks at what is published; the same command again, an"
            " ingest where one is due, and a clean-up follow. Then the keys in the lake are exactly those that"
            " manifests list, no snapshot holds what was forgotten, books balance, and `verify --all` finds no"
            " difference. Flows are called in processes of their own, without Prefect's server; in most of them reports"
            " draw nothing and the warehouse holds no rows.",
            "",
            "| | struck one by one | histories |",
            "|---|---:|---:|",
            *rows,
            "",
            *(f"- {what}: {faults[0]}" for what, faults in (strikes.faults | histories.faults).items()),
        ]
    )


def tell_history(seed: int) -> int:
    """Live through one history, and say what happens; 1 where anything was wrong."""
    do_without_prefect()
    with TemporaryDirectory(prefix="lookbook-bench-") as folder:
        world = World(Path(folder) / "home")
        try:
            faults = History(world, seed, lambda line: sys.stdout.write(f"{line}\n")).live()
        finally:
            forget(world.home)
    sys.stdout.write("\n".join(faults or ["All is well."]) + "\n")
    return int(bool(faults))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description="Live through one history.")
    parser.add_argument("seed", type=int, help="of the history")
    sys.exit(tell_history(parser.parse_args().seed))
