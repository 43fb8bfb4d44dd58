"""A load in a process of its own that kills itself at a given point, as a power cut would."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from lookbook.blocks.registry import PostgresRegistry
from lookbook.blocks.workspace import Workspace
from tests.support.feeds import Row, context, load_rows

#: Functions that a load calls, in their order, and whether it dies before or after the call.
POINTS = {
    "rows are prepared": ("lookbook.tasks.tables.load.loading.prepare_rows", "after"),
    "the transaction has begun": ("lookbook.tasks.tables.load.statements.evolve_table", "after"),
    "rows are about to be deleted": ("lookbook.tasks.tables.load.statements.delete_before", "after"),
    "rows are landed": ("lookbook.tasks.tables.load.statements.merge_statements", "after"),
    "rows are written, not committed": ("lookbook.tasks.tables.load.statements.list_load", "after"),
    "rows are committed": ("lookbook.tasks.tables.load.loading.write", "after"),
    "rejects are in the lake": ("lookbook.blocks.lake.FolderLake.replace", "after"),
    "the books are open": ("lookbook.tasks.tables.load.books.copy_rows", "after"),
    "the books are closed": ("lookbook.tasks.tables.load.loading.result_of", "before"),
}


def load_killed(workspace: Workspace, point: str, day: int, rows: list[Row], settings: dict[str, Any]) -> bool:
    """Stage rows and load them in another process that dies at a point; whether it came there."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.support.killed_load"])
    assert isinstance(workspace.registry, PostgresRegistry)
    home = workspace.scratch.parent
    child = processes.Process(target=_child, args=(home, workspace.registry.home, point, day, rows, settings))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL), f"the load ended with {child.exitcode}"
    return child.exitcode != 0


def _child(home: Path, registry: Path, point: str, day: int, rows: list[Row], settings: dict[str, Any]) -> None:
    from dataclasses import replace  # noqa: PLC0415 - the child's own

    from lookbook.blocks.workspace import local_workspace  # noqa: PLC0415

    workspace = replace(local_workspace(home), registry=PostgresRegistry(home=registry))
    target, when = POINTS[point]
    armed = _Armed(target, when)
    with mock.patch(target, armed.call):
        load_rows(context(workspace, day=day, **settings), rows)


class _Armed:
    """A function that dies before or after it does its work."""

    def __init__(self, target: str, when: str) -> None:
        self._when = when
        self._work: Callable[..., Any] = pkgutil.resolve_name(target)
        self._of_class = isinstance(pkgutil.resolve_name(target.rpartition(".")[0]), type)

    @property
    def call(self) -> Callable[..., Any]:
        """In place of the function."""

        def dying(*args: Any, **kwargs: Any) -> Any:
            if self._of_class and not args[1].startswith("rejects/"):
                return self._work(*args, **kwargs)
            if self._when == "after":
                found = self._work(*args, **kwargs)
                if hasattr(found, "__await__"):
                    return _die_after(found)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("not reached")

        return dying


async def _die_after(work: Any) -> None:
    await work
    os.kill(os.getpid(), signal.SIGKILL)
