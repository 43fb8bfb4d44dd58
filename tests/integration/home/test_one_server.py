"""Every command, with no server configured: it uses the home's own, and starts no other beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.embedded import prefect_server
from lookbook.blocks.workspace import local_workspace
from lookbook.deployments.command.cli import app
from tests.support.command import environment
from tests.support.forking import run_python
from tests.support.sets import sampled

pytestmark = pytest.mark.integration

#: The command, telling each program that it starts.
TELLING = """
import os, sys
def tell(event, given):
    if event == "subprocess.Popen":
        with open(os.environ["STARTED"], "a") as file:
            print(given[1], file=file)
sys.addaudithook(tell)
from lookbook.deployments.command.cli import main
main()
"""
PIPELINE = """
name: few
tasks:
  extract: {source: {type: file, path: few.csv}}
  load: {after: [extract], table: few}
"""
ORCHESTRATION = "orchestrations: {nightly: {steps: {first: {pipeline: few}}}}\n"
ARGUMENTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("api-key", "create"): ("one", "--scope", "read"),
    ("api-key", "list"): (),
    ("api-key", "revoke"): ("one",),
    ("checks",): ("nobody",),
    ("copy",): ("nobody", "--to", "copied"),
    ("datasets",): ("--workspace", "moon"),
    ("deploy",): (),
    ("describe",): ("warehouse.few",),
    ("diff",): ("nobody",),
    ("export",): ("nobody", "--out", "exported"),
    ("import",): ("few.csv", "--table", "imported"),
    ("ingest",): ("sample://5", "--dataset", "one-server"),
    ("open",): ("nobody",),
    ("orchestrate", "run"): ("nightly",),
    ("orchestrate", "validate"): (),
    ("forget",): ("nobody", "1", "--yes"),
    ("gc",): ("--dry-run",),
    ("pipeline", "backfill"): ("few", "--from", "2026-03-01", "--to", "2026-03-02"),
    ("pipeline", "deploy"): (),
    ("pipeline", "list"): (),
    ("pipeline", "rejects"): ("few",),
    ("pipeline", "replay"): ("few",),
    ("pipeline", "run"): ("few",),
    ("pipeline", "schema"): (),
    ("pipeline", "validate"): (),
    ("plan",): ("sample://5", "--dataset", "planned"),
    ("publish",): ("nobody",),
    ("query",): ("SELECT 1",),
    ("rejects",): ("nobody",),
    ("remove",): ("nobody", "--yes"),
    ("rename",): ("nobody", "somebody"),
    ("replay",): ("nobody",),
    ("restore",): ("nobody", "former"),
    ("runs",): (),
    ("snapshots",): ("nobody",),
    ("tables",): (),
    ("tag",): ("nobody",),
    ("verify",): ("nobody", "--workspace", "moon"),
    ("workspace", "save"): ("another",),
}
#: They run until they are ended, or end the server themselves; tests of their own watch them.
OTHERS = {("api",), ("receive",), ("serve",), ("stop",)}


def commands(of: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands that there are."""
    for name in of:
        if not name.startswith("-"):
            below = list(commands(of[name], (*before, name)))
            yield from below or [(*before, name)]


def test_all_commands_are_tried() -> None:
    assert set(commands(app)) == ARGUMENTS.keys() | OTHERS


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("specs") / "pipelines"
    folder.mkdir()
    (folder / "few.yaml").write_text(PIPELINE)
    (folder / "few.csv").write_text("id\n1\n2\n")
    (folder.parent / "orchestrate.yaml").write_text(ORCHESTRATION)
    return folder


@pytest.mark.parametrize(
    "command",
    sampled(map(" ".join, ARGUMENTS), fast=["pipeline backfill", "datasets"]),
)
def test_no_command_starts_a_server_beside_the_homes(
    shared_home: Path, specs: Path, tmp_path: Path, command: str
) -> None:
    words = tuple(command.split())
    local_workspace(shared_home)
    server = prefect_server.start(shared_home)
    told = tmp_path / "started"
    told.touch()
    env = environment(shared_home, STARTED=str(told), LOOKBOOK_PIPELINES=str(specs))
    done = run_python(TELLING, *words, *ARGUMENTS[words], env=env, cwd=specs)
    assert done.returncode in {0, 1, 2}
    assert "fault of Lookbook" not in done.stderr
    assert not [line for line in told.read_text().splitlines() if "uvicorn" in line or "guarded_server" in line]
    assert prefect_server.running(shared_home) == server
    if command in {"pipeline backfill", "import", "orchestrate run", "pipeline run", "ingest", "deploy"}:
        assert done.returncode == 0, done.stderr
