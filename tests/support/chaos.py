"""A world for chaos: real flows without Prefect's server, each in a process that dies, or fails, at a step of its own.

A step is whatever changes the lake, the registry or the warehouse, before and after it is done. At each of them a
reader looks at what is published; and what lies in the lake at the end is compared with what manifests list, both read
without our own code.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib
import io
import itertools
import json
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
import types
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import psutil
import pyarrow.parquet as pq
from prefect.tasks import Task

from lookbook.blocks import lake as lakes
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.embedded import postgres
from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.registry import PostgresRegistry, Registry
from lookbook.blocks.warehouse import SnapshotLoad, StarModel, WarehouseTable
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.tasks.datasets import forgetting, publish
from lookbook.tasks.datasets.report.page import ReportData
from lookbook.tasks.exports.drawing import draw_image
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.render import render
from lookbook.tasks.images.renderers import Renderers
from lookbook.tasks.runs import announcements, lease
from tests.support.homes import forget_books
from tests.support.registries import execute

Command = Callable[[Workspace], object]
#: What becomes of a process at a step, and from then on.
Trouble = Literal["none", "kill", "disk full", "registry killed", "warehouse away"]


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        at: the step at which it comes, counted from 1.
        after: or the seconds after which the process is killed, wherever it is.
    """

    trouble: Trouble = "none"
    at: int = 0
    after: float = 0.0

    def __str__(self) -> str:
        when = f"after {self.after:.2f} s" if self.after else f"at step {self.at}"
        return "whole" if self.trouble == "none" else f"{self.trouble} {when}"


@dataclass
class Ended:
    """How a command ended.

    Attributes:
        how: "killed", "done", "refused" with an error that has a name, or "broke" with another one.
        said: the error.
        value: what it returned, as JSON can say it.
        steps: that it came to.
        seen: what the reader saw that nobody should see.
    """

    how: Literal["killed", "done", "refused", "broke"]
    said: str = ""
    value: Any = None
    steps: int = 0
    seen: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = self.said.strip().splitlines()
        told = f": {lines[-1 if self.how == 'broke' else 0]}" if lines else ""
        return f"{self.how}, {self.steps} steps{told}"


# Flows without Prefect's server.

_here: dict[str, Workspace] = {}
_run = SimpleNamespace(id="", name="chaos", run_count=1, parameters={}, ui_url=None)


class _Future:
    """The future of a task that is done already."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._value, self._error = None, None
        try:
            self._value = work()
        except Exception as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error

    def add_done_callback(self, call: Callable[[_Future], object]) -> None:
        call(self)

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


class _Runner:
    """Does tasks one after the other, in this thread."""

    def __init__(self, **_: object) -> None:
        """Take what a pool of threads takes."""

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def submit(self, made: Task[Any, Any], **_: object) -> _Future:
        return _Future(made.fn)


def do_without_prefect() -> None:
    """Let flows of this process be called as functions: nothing of them is asked of, or told to, Prefect's server."""
    stand_ins: dict[str, Any] = {
        "get_run_logger": lambda: logging.getLogger("chaos"),
        "load_workspace": lambda _: _here["workspace"],
        "runtime": SimpleNamespace(flow_run=_run, deployment=SimpleNamespace(id=None)),
        "ThreadPoolTaskRunner": _Runner,
        "_leave_no_names": lambda _: None,
        "draw": lambda lake, _, batches, __: [process_batch(lake, batch, threads=1) for batch in batches],
        "doing": lambda *_: None,
        "is_scheduled": lambda: False,
    }
    for module in [module for name, module in sys.modules.items() if name.startswith("lookbook.flows.")]:
        for name, value in list(vars(module).items()):
            if isinstance(value, Task):
                setattr(module, name, value.fn)
            elif name in stand_ins:
                setattr(module, name, stand_ins[name])
            elif name.endswith("_artifact") and not name.startswith("_"):
                setattr(module, name, lambda *_, **__: None)
    announcements._send = lambda *_, **__: None
    Renderers.render = _draw_here  # type: ignore[method-assign, assignment]
    setattr(FolderLake, "settle", lambda _: None)  # noqa: B010 - the power stays
    lease.SWEEP_WAIT = 0.0
    logging.disable(logging.CRITICAL)


def _draw_here(_: Renderers, data: bytes, recipe: Any, names: Any) -> Any:
    if isinstance(recipe, Recipe):
        return render(data, recipe, names)
    sha256, copies, small = names
    return draw_image(data, recipe, sha256, int(copies), small=bool(small))


class NotedWarehouse(DuckDBWarehouse):
    """A warehouse that notes which snapshots it holds, and no rows: a load takes a millisecond."""

    _block_type_slug = "chaos-noted-warehouse"

    def load_snapshot(self, load: SnapshotLoad, models: list[StarModel]) -> None:  # noqa: ARG002
        self._note(self.current_snapshots() | {load.dataset: load.snapshot_id})

    def remove_dataset(self, dataset: str, models: list[StarModel]) -> None:  # noqa: ARG002
        self._note({name: held for name, held in self.current_snapshots().items() if name != dataset})

    def compact(self) -> None: ...

    def current_snapshots(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found

    def differences(self, load: SnapshotLoad, models: list[StarModel]) -> list[str]:  # noqa: ARG002
        held = self.current_snapshots().get(load.dataset)
        return [] if held == load.snapshot_id else [f"warehouse: it holds {held}, not {load.snapshot_id}"]

    def tables(self) -> dict[str, WarehouseTable]:
        return {}

    def tables_holding(self, values: Collection[str]) -> list[str]:  # noqa: ARG002
        return []

    def _note(self, held: dict[str, str]) -> None:
        aside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}")
        aside.write_text(json.dumps(held))
        aside.replace(self.path)


def _short_report(data: ReportData, _: object) -> str:
    """Return a page that names the images, as a report does, and draws nothing."""
    return f"<body>{' '.join(key for (key,) in data.images.answer(data.images.at('key')))}"


# Steps.


class Steps:
    """Counts the steps of this process; at one of them the fault comes, and a reader looks at each.

    Args:
        world: where it happens.
        fault: what comes.
        pauses: seconds between steps, at the most: processes that run beside each other meet otherwise each time.
    """

    def __init__(self, world: World, fault: Fault, pauses: Iterator[float]) -> None:
        self._world, self._fault, self._pauses = world, fault, pauses
        self._lock = threading.Lock()
        self._reader = Reader(world.root)
        self.count = 0

    def __call__(self, what: str) -> None:
        """Come to a step."""
        with self._lock:
            self.count += 1
            pause = next(self._pauses)
            if pause:
                time.sleep(pause)
            if seen := self._reader.look():
                self._world.note(f"{each} at {what}" for each in seen)
            if self.count == self._fault.at:
                if self._fault.trouble == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if self._fault.trouble == "registry killed":
                    self._world.kill_registry()

    def suffers(self, trouble: Trouble) -> bool:
        """Whether a fault has come that stays."""
        return self._fault.trouble == trouble and self.count >= self._fault.at > 0

    def install(self) -> None:
        """Let all that changes anything come by here: in this process, for good."""
        for name in ("put", "replace", "remove", "swap"):
            self._around(FolderLake, name, lambda _, key, *__: key)
        self._around(PostgresRegistry, "run", lambda *_: "")
        self._around(Registry, "vacuum", lambda *_: "")
        kind = NotedWarehouse if self._world.light else DuckDBWarehouse
        for name in ("load_snapshot", "remove_dataset", "compact"):
            self._around(kind, name, lambda *_: "")
        self._before(lakes, "_rename", "written aside")
        self._unless(lakes, "_write_new", "disk full", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        away = OutOfReachError("The warehouse is away.", "Run the command again.")
        self._unless(kind, "current_snapshots" if self._world.light else "_open", "warehouse away", away)

    def _around(self, owner: type, name: str, told: Callable[..., str]) -> None:
        work = getattr(owner, name)

        @functools.wraps(work)
        def stepping(*args: Any, **kwargs: Any) -> Any:
            what = f"{name} {told(*args)}"
            self(f"before {what}")
            result = work(*args, **kwargs)
            self(f"after {what}")
            return result

        setattr(owner, name, stepping)

    def _before(self, owner: types.ModuleType, name: str, what: str) -> None:
        work = getattr(owner, name)

        def stepping(*args: Any) -> Any:
            self(what)
            return work(*args)

        setattr(owner, name, stepping)

    def _unless(self, owner: Any, name: str, trouble: Trouble, error: Exception) -> None:
        work = getattr(owner, name)

        def suffering(*args: Any, **kwargs: Any) -> Any:
            if self.suffers(trouble):
                raise error
            return work(*args, **kwargs)

        setattr(owner, name, suffering)


def set_clock(ahead: timedelta) -> None:
    """Set the clock of this process, as far as our own code looks at it, and the times of objects that it writes."""
    if not ahead:
        return

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Shifted(datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + ahead

    for name, module in list(sys.modules.items()):
        if name.startswith("lookbook.") and vars(module).get("datetime") is datetime:
            module.datetime = Shifted  # type: ignore[attr-defined]
    rename = lakes._rename

    def renamed(source: str, target: str) -> None:
        os.utime(source, (time.time() + ahead.total_seconds(),) * 2)
        rename(source, target)

    lakes._rename = renamed


# What a reader sees, and what lies in the lake, without our own code.


class UnreadableError(Exception):
    """What is published cannot be read."""


def load(root: Path, key: str) -> dict[str, Any]:
    """Return a document of the lake."""
    found: dict[str, Any] = json.loads((root / key).read_bytes())
    return found


def files_of(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the files that the manifest of a snapshot lists, by their keys."""
    dataset, snapshot = f"datasets/{manifest['dataset']}", f"snapshots/{manifest['snapshot_id']}/"
    names = ((file["name"], file) for file in manifest["files"])
    return {f"{dataset}/{'' if name.startswith('tables/') else snapshot}{name}": file for name, file in names}


def rows_of(root: Path, manifest: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """Return the rows of a table of a snapshot."""
    pieces = [key for key in files_of(manifest) if f"/tables/{table}/" in key]
    return [row for key in pieces for row in pq.read_table(io.BytesIO((root / key).read_bytes())).to_pylist()]


def objects_of(root: Path, manifest: dict[str, Any]) -> set[str]:
    """Return the originals, outputs and rejected files that a snapshot lists."""
    named = (("images", "original_key"), ("outputs", "object_key"))
    return {row[column] for table, column in named for row in rows_of(root, manifest, table) if row[column]}


def names_in(folder: Path) -> list[str]:
    """Return the names of what lies in a folder, sorted; none where there is none."""
    return sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208 - quick


class Reader:
    """Who reads what is published, again and again.

    Args:
        root: folder of the lake.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[dict[str, int], set[str]]] = {}

    def look(self) -> list[str]:
        """Return what is wrong with what CURRENT of each dataset names now."""
        return [fault for name in names_in(self._root / "datasets") for fault in self._look_at(name)]

    def _look_at(self, dataset: str) -> Iterator[str]:
        current = self._root / "datasets" / dataset / "CURRENT"
        while True:
            try:
                named = current.read_bytes()
            except FileNotFoundError:
                return
            fault = self._fault(dataset, json.loads(named))
            if not fault:
                return
            with suppress(FileNotFoundError):
                if _named(current.read_bytes()) == _named(named):
                    yield f"a reader of {dataset} sees {fault}"
                    return

    def _fault(self, dataset: str, current: dict[str, Any]) -> str:
        checksum, folder = current["manifest_sha256"], f"datasets/{dataset}/snapshots/{current['snapshot_id']}"
        try:
            text = (self._root / folder / "manifest.json").read_bytes()
            if hashlib.sha256(text).hexdigest() != checksum:
                return f"{folder}/manifest.json with another checksum than CURRENT says"
            if checksum not in self._known:
                manifest = json.loads(text)
                for key, file in files_of(manifest).items():
                    if hashlib.sha256((self._root / key).read_bytes()).hexdigest() != file["sha256"]:
                        return f"{key} with another checksum than the manifest says"
                sizes = {key: int(file["size"]) for key, file in files_of(manifest).items()}
                self._known[checksum] = sizes, objects_of(self._root, manifest)
            sizes, objects = self._known[checksum]
            for key, size in sizes.items():
                if (self._root / key).stat().st_size != size:
                    return f"{key} with another size than the manifest says"
        except FileNotFoundError as error:
            return f"no {Path(error.filename).relative_to(self._root)}"
        return next((f"no {key}" for key in objects if not os.path.exists(f"{self._root}/{key}")), "")  # noqa: PTH110


def _named(current: bytes) -> tuple[str, str]:
    """Return what CURRENT names: its fences may change without it."""
    found = json.loads(current)
    return found["snapshot_id"], found["manifest_sha256"]


def chain(root: Path, dataset: str) -> list[dict[str, Any]]:
    """Return the manifests of the snapshots that are published, newest first; none where nothing is.

    Raises:
        UnreadableError: one is missing that was not removed.
    """
    folder = f"datasets/{dataset}"
    if not (root / folder / "CURRENT").exists():
        return []
    removed = load(root, f"{folder}/removed.json")["removed"] if (root / folder / "removed.json").exists() else {}
    found, name = [], load(root, f"{folder}/CURRENT")["snapshot_id"]
    while name is not None:
        try:
            found.append(load(root, f"{folder}/snapshots/{name}/manifest.json"))
        except FileNotFoundError as error:
            raise UnreadableError(f"{folder}: the manifest of {name} is gone, which was not removed") from error
        name = found[-1]["previous"]
        while name in removed:
            name = removed[name]
    return found


#: Of a dataset, beside its snapshots.
PAPERS = ("CURRENT", "tags.json", "removed.json", "checks.json", "forgotten.json")
#: And of these folders, whatever is in them.
FOLDERS = ("receipts", "predictions", "unpublished")


def listed(root: Path) -> set[str]:
    """Return the keys of all that manifests list, with themselves and with what leads to them."""
    found = {key for key in ("lake.json", "sweep.json") if (root / key).exists()}
    for dataset in names_in(root / "datasets"):
        folder = f"datasets/{dataset}"
        found |= {f"{folder}/{name}" for name in PAPERS if (root / folder / name).exists()}
        found |= {key for name in FOLDERS for key in there(root, f"{folder}/{name}")}
        manifests = chain(root, dataset)
        for name in names_in(root / folder / "candidates"):
            manifests.append(load(root, f"{folder}/snapshots/{name}/manifest.json"))
            found.add(f"{folder}/candidates/{name}")
        for manifest in manifests:
            found |= {f"{folder}/snapshots/{manifest['snapshot_id']}/manifest.json", *files_of(manifest)}
            found |= objects_of(root, manifest)
    for export in names_in(root / "exports"):
        found |= _of_export(root, f"exports/{export}")
    for kind in ("raw", "transformed"):
        for path in (root / kind).rglob("manifest.json"):
            key = path.relative_to(root).as_posix()
            stage = load(root, key)
            found |= {key, *(file["key"] for file in stage["files"]), *filter(None, [stage["rejects"]])}
    for table in names_in(root / "tables"):
        found |= _of_table(root, f"tables/{table}")
    return found


def _of_export(root: Path, folder: str) -> set[str]:
    if not (root / folder / "manifest.json").exists():
        return set()
    files = pq.read_table(io.BytesIO((root / folder / "files.parquet").read_bytes()), columns=["name"])
    names = [f"files/{name}" for name in files["name"].to_pylist()]
    return {f"{folder}/{name}" for name in ("manifest.json", "files.parquet", *names)}


def _of_table(root: Path, folder: str) -> set[str]:
    """A table of the lake keeps the snapshot before the last one: somebody may be reading it."""
    if not (root / folder / "CURRENT").exists():
        return set()
    found, current = {f"{folder}/CURRENT"}, load(root, f"{folder}/CURRENT")["snapshot_id"]
    for name in filter(None, (current, load(root, f"{folder}/snapshots/{current}.json")["previous"])):
        manifest = load(root, f"{folder}/snapshots/{name}.json")
        found |= {f"{folder}/snapshots/{name}.json", *(file["key"] for file in manifest["files"])}
    return found


def there(root: Path, folder: str = "") -> set[str]:
    """Return the keys of all that lies in the lake, or in a folder of it, but for lock files."""
    found = (Path(at, name) for at, _, names in os.walk(root / folder) for name in names if not name.endswith(".lock"))
    return {path.relative_to(root).as_posix() for path in found}


def lost(root: Path) -> list[str]:
    """Return what manifests list that is not there, or has another checksum than its name or its manifest says."""
    try:
        wanted = listed(root)
    except (UnreadableError, FileNotFoundError) as error:
        return [f"what is published cannot be read: {error}"]
    found = [f"{key} is listed, and is not there" for key in sorted(wanted - there(root))]
    for key in wanted:
        if key.startswith(("originals/", "rejected/")):
            with suppress(FileNotFoundError):
                if hashlib.sha256((root / key).read_bytes()).hexdigest() != Path(key).stem:
                    found.append(f"{key} has another checksum than its name")
    for dataset in names_in(root / "datasets"):
        whole = (one for one in chain(root, dataset) if not _is_being_replaced(root, one))
        for key, file in (pair for manifest in whole for pair in files_of(manifest).items()):
            with suppress(FileNotFoundError):
                if hashlib.sha256((root / key).read_bytes()).hexdigest() != file["sha256"]:
                    found.append(f"{key} has another checksum than its manifest says")
    return found


def _is_being_replaced(root: Path, manifest: dict[str, Any]) -> bool:
    """Return whether an older snapshot was being made anew without what was forgotten: the next run goes on."""
    return (root / f"datasets/{manifest['dataset']}/rewriting/{manifest['snapshot_id']}/manifest.json").exists()


def stranded(root: Path) -> list[str]:
    """Return what is there that nothing lists."""
    return [f"{key} is there, and nothing lists it" for key in sorted(there(root) - listed(root))]


# The world.


class World:
    """A home with its registry, and the processes that work in it.

    Args:
        home: its folder.

    Attributes:
        light: reports draw nothing, and the warehouse holds no rows: lake and registry are as they are.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.root, self.light = home, home / "lake", False
        self._numbers = itertools.count()
        self.sources, self._saved, self._told = home / "sources", home / "saved", home / "told"
        for folder in (home, self.sources, self._told):
            folder.mkdir(parents=True, exist_ok=True)

    def workspace(self) -> Workspace:
        """Return the workspace."""
        place = local_workspace(self.home)
        return replace(place, warehouse=NotedWarehouse(path=self.home / "lookbook.duckdb")) if self.light else place

    def begin(self, *, light: bool = False) -> None:
        """Make it empty."""
        self.light = light
        for folder in (self.root, self.home / "scratch", self.sources, self._told):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
        for path in self.home.glob("lookbook.duckdb*"):
            path.unlink()
        self.in_child(lambda: forget_books(PostgresRegistry(home=self.home)))

    def in_child(self, work: Callable[[], object]) -> Any:
        """Return what some work gives that is done in a process of its own: this one is to stay without threads."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                answer = json.dumps(["", work()], default=str)
            except BaseException:  # noqa: BLE001 - told to who asked
                answer = json.dumps([traceback.format_exc(), None])
            with os.fdopen(writing, "w") as file:
                file.write(answer)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as file:
            answer = file.read()
        os.waitpid(child, 0)
        fault, value = json.loads(answer)
        if fault:
            raise RuntimeError(fault)
        return value

    def learn(self, commands: Iterable[Command]) -> None:
        """Import here what commands import when they need it: no process has to do so again."""
        for command in commands:

            def noting(place: Workspace, command: Command = command) -> list[str]:
                command(place)
                return list(sys.modules)

            for name in self.do(noting).value or ():
                with suppress(ImportError):
                    importlib.import_module(name)

    def do(self, command: Command, fault: Fault = Fault(), ahead: timedelta = timedelta(0)) -> Ended:
        """Do a command in a process of its own, to its end."""
        return self.finish([self.start(command, fault, ahead)])[0]

    def start(
        self,
        command: Command,
        fault: Fault = Fault(),
        ahead: timedelta = timedelta(0),
        pauses: Iterable[float] = (),
    ) -> tuple[int, Path]:
        """Begin a command in a process of its own: its id, and where it tells how it ended."""
        told = self._told / f"{next(self._numbers)}.json"
        child = os.fork()
        if child:
            if fault.after:
                time.sleep(fault.after)
                os.kill(child, signal.SIGKILL)
            return child, told
        try:
            ended = self._here(command, fault, ahead, itertools.chain(pauses, itertools.repeat(0.0)))
            told.write_text(json.dumps(vars(ended), default=str))
        except BaseException:  # noqa: BLE001 - of this world, not of the command
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _here(self, command: Command, fault: Fault, ahead: timedelta, pauses: Iterator[float]) -> Ended:
        os.environ |= {"LOOKBOOK_HOME": str(self.home), "LOOKBOOK_PIPELINES": str(self.sources)}
        _here["workspace"], _run.id = self.workspace(), str(uuid.uuid4())
        _run.scheduled_start_time = datetime.now(UTC)
        if self.light:
            for module in (publish, forgetting):
                vars(module)["render_report"] = _short_report
        steps = Steps(self, fault, pauses)
        steps.install()
        set_clock(ahead)
        ended = Ended("done")
        try:
            ended.value = command(_here["workspace"])
        except LookbookError as error:
            ended = Ended("refused", str(error))
        except BaseException:  # noqa: BLE001 - told to who asked
            ended = Ended("broke", traceback.format_exc())
        ended.steps = steps.count
        return ended

    def finish(self, begun: Sequence[tuple[int, Path]]) -> list[Ended]:
        """Wait for the ends of processes that were begun, in whatever order they come: the dead hold no lease.

        Raises:
            RuntimeError: one ended by a fault of this world: nothing was tried.
        """
        waiting = {child for child, _ in begun}
        while waiting:
            child, status = os.wait()
            if child in waiting and os.WIFEXITED(status) and os.WEXITSTATUS(status):
                raise RuntimeError("the world failed, not the command: see what it wrote")
            waiting.discard(child)
        ends = [Ended(**json.loads(told.read_text())) if told.exists() else Ended("killed") for _, told in begun]
        ends[0].seen = self.noted()
        (self._told / "seen").unlink(missing_ok=True)
        return ends

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Have another process read what is published, all the while."""
        child = os.fork()
        if not child:
            reader = Reader(self.root)
            while True:
                if seen := reader.look():
                    self.note(seen)
                time.sleep(0.001)
        try:
            yield
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def note(self, seen: Iterable[str]) -> None:
        """Keep what a reader saw, whatever becomes of this process."""
        with (self._told / "seen").open("a") as file:
            file.writelines(f"{line}\n" for line in seen)

    def noted(self) -> list[str]:
        """Return what readers saw."""
        with suppress(FileNotFoundError):
            return (self._told / "seen").read_text().splitlines()
        return []

    def kill_registry(self) -> None:
        """Kill the registry's server, which leaves no time to anybody."""
        lines = (postgres.data_folder(self.home) / "postmaster.pid").read_text().splitlines()
        with suppress(psutil.Error):
            server = psutil.Process(int(lines[0]))
            family = [server, *server.children(recursive=True)]
            for process in family:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(family, timeout=10)

    def save(self) -> None:
        """Keep what is there, to come back to it: all but the registry, which is kept as a database beside it."""
        shutil.rmtree(self._saved, ignore_errors=True)
        self._saved.mkdir()
        for name in self._parts():
            self._copy(self.home / name, self._saved / name)
        self.in_child(lambda: self._registry_from("postgres", "saved"))

    def come_back(self) -> None:
        """Let all be as it was saved."""
        for name in self._parts():
            shutil.rmtree(self.home / name) if (self.home / name).is_dir() else (self.home / name).unlink()
        for path in self._saved.iterdir():
            self._copy(path, self.home / path.name)
        self.in_child(lambda: self._registry_from("saved", "postgres"))

    def _parts(self) -> list[str]:
        return [name for name in ("lake", "sources", "scratch", "lookbook.duckdb") if (self.home / name).exists()]

    def _registry_from(self, source: str, target: str) -> None:
        server = postgres.start(self.home)
        url = f"postgresql://postgres@/template1?host={server.socket_folder}&port={server.port}"
        execute(url, f"DROP DATABASE IF EXISTS {target} WITH (FORCE)")
        execute(url, f"CREATE DATABASE {target} TEMPLATE {source}")

    def _copy(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)


def spread(chosen: random.Random, most: float = 0.004) -> Iterator[float]:
    """Yield pauses of other lengths each time."""
    while True:
        yield chosen.random() * most * chosen.choice((0, 0, 1))
