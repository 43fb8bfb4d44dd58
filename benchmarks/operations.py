"""What Prefect's users report, measured here: runs that are cancelled or killed, heartbeats, deploying many times.

It takes an hour, nearly all of it for the heartbeats, which beat meanwhile on a server of their own.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import psutil

from benchmarks.processes import ROOT, say
from lookbook.blocks.embedded import prefect_server
from tests.integration.conftest import deployed_server
from tests.support.pipeline import write_slow_collection
from tests.support.prefect_processes import FINAL, HANG, Server, Worker, deploy, wait_for

#: How many runs are cancelled, and how soon their last process is to be gone, in seconds.
CANCELLED, PROMISED = 20, 30
#: How many runs are killed, and how many at a time.
KILLED, AT_ONCE = 20, 5
#: How long runs beat, how often server and worker are started again meanwhile, and for how many seconds the server is
#: down.
HEARTBEAT_MINUTES, RESTARTS, DOWN = 60, 2, 20
DEPLOYS = 50
CHANCE = random.Random(1)  # noqa: S311 - no secret

#: A run without a heartbeat is found out sooner than the five minutes of a deployed home, so that many can be killed.
SILENCE = 100
SOON = f"""
from datetime import timedelta
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from lookbook.deployments.server.automations import install
from lookbook.deployments.server.deploying import Deployed
with get_client(sync_client=True) as client:
    install(client, Deployed(), timedelta(seconds={SILENCE}))
    ingest = client.read_deployment_by_name("ingest/local")
    client.update_deployment(ingest.id, DeploymentUpdate(concurrency_limit={AT_ONCE}))
"""
#: Holds the datasets that runs wait for, until its input ends.
HOLD = """
import math, sys
from contextlib import ExitStack
from lookbook.blocks.workspace import load_workspace
from lookbook.tasks.runs.lease import lease
with ExitStack() as stack:
    for name in sys.argv[1:]:
        stack.enter_context(lease(load_workspace("local").registry, name))
    print("held", flush=True)
    sys.stdin.read()
"""


def section(home: Path) -> str:
    """Measure all four."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside:
        beats = beside.submit(heartbeats, home / "beating" / "home")
        with deployed_server(home / "ending" / "home") as server:
            parts = [cancelling(server, home / "slow"), killing(server), deploying(server)]
        parts.append(beats.result())
    return "\n".join(["## What Prefect's users report", "", *parts])


def cancelling(server: Server, source: Path) -> str:
    """Cancel the parent alone (the box of its subflows is not ticked) at a random moment, by either executor."""
    seconds: list[float] = []
    ends = Counter[str]()
    photos = str(write_slow_collection(source, 240))
    with server.worker(limit=4, LOOKBOOK_THREADS="1") as worker:
        for number in range(CANCELLED):
            say(f"cancelling {number + 1} of {CANCELLED}")
            executor = ("threads", "pool")[number % 2]
            given = {"source": photos, "dataset": f"cancelled-{number}", "batch_size": 60, "executor": executor}
            run = server.start_run("ingest/local", **given)
            seconds.append(cancel(server, worker, run))
            ends[server.finished(run)["state_name"]] += 1
    soon = sum(each <= PROMISED for each in seconds)
    return (
        f"**Cancelling:** of {CANCELLED} ingests that were cancelled at random moments without their subflows, half of"
        f" them by threads and half on a pool, the last process was gone within {PROMISED} s in {soon}: median"
        f" {median(seconds):.1f} s, longest {max(seconds):.1f} s. Their ends: {told(ends)}.\n"
    )


def cancel(server: Server, worker: Worker, run: str) -> float:
    """Cancel a run whose batches are under way; the seconds until all that the worker started for it is gone."""

    def drawing() -> bool:
        return [child["state_type"] for child in server.children(run)].count("RUNNING") > 1

    wait_for("two batches run", drawing)
    time.sleep(CHANCE.uniform(0, 3))
    seen = set(worker.family()[1:])
    server.cancel(run)
    asked = time.monotonic()
    while any(map(lives, seen)):
        if time.monotonic() - asked > HANG:
            raise SystemExit(f"run {run} was cancelled, and there still are {[*filter(lives, seen)]}")
        time.sleep(0.1)
        seen |= set(worker.family()[1:])
    return time.monotonic() - asked


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def killing(server: Server) -> str:
    """Kill workers with the runs that they started at random moments; then another comes, and nobody does more."""
    if (done := server.python("-c", SOON)).returncode:
        raise SystemExit(done.stderr)
    seconds: list[float] = []
    met, ends = Counter[str](), Counter[str]()
    while met.total() < KILLED:
        say(f"killed {met.total()} of {KILLED}")
        runs = [ingest(server, f"killed-{len(seconds)}-{number}") for number in range(AT_ONCE)]
        killed = kill(server, runs)
        met.update(filter(None, (state_at(server, run, killed) for run in runs)))
        with server.worker(limit=AT_ONCE):
            ends.update(settled(server, run) for run in runs)
            wait_for("their places are free", lambda: not places(server), 900)
        seconds.append((datetime.now(UTC) - max(killed.values())).total_seconds())
    return (
        f"**Killing:** {met.total()} runs lost their process and their worker at once, at random moments"
        f" ({told(met)}); another worker came, and nobody did anything else. So ended all {ends.total()}:"
        f" {told(ends)}. The places that the limit gives were free again {median(seconds):.0f} s after the last kill"
        f" (median of {len(seconds)} rounds of {AT_ONCE} runs; longest {max(seconds):.0f} s). A run counts as dead here"
        f" after {SILENCE} s without a heartbeat.\n"
    )


def kill(server: Server, runs: Sequence[str]) -> dict[str, datetime]:
    """Let workers take the runs, one each, and kill them with all that they started; when each was killed."""
    killed = {}
    with ExitStack() as stack:
        workers = [stack.enter_context(server.worker(limit=1)) for _ in runs]
        wait_for("some are claimed", lambda: any(server.run(run)["state_type"] != "SCHEDULED" for run in runs))
        for worker in workers:
            time.sleep(CHANCE.uniform(0, 6))
            killed[worker.name] = datetime.now(UTC)
            worker.kill()
    return killed


def settled(server: Server, run: str) -> str:
    """How a run ended in the end: one that crashed in its first try is tried once more."""

    def look() -> str | None:
        found = server.run(run)
        ended = found["state_type"] in FINAL and (found["state_type"] != "CRASHED" or found["run_count"] > 1)
        return f"{found['state_name']} in try {found['run_count']}" if ended else None

    return wait_for(f"run {run} ends", look, 900)


def told(counts: Counter[str]) -> str:
    """Counts as words."""
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def ingest(server: Server, dataset: str) -> str:
    """Start an ingest that beats every half minute."""
    beating = {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}}
    return server.start_run("ingest/local", beating, source="sample://150", dataset=dataset, batch_size=50)


def state_at(server: Server, run: str, killed: Mapping[str, datetime]) -> str | None:
    """In which state the run was when its worker was killed; None: no worker had it, or it had ended."""
    wanted = {
        "event": {"name": ["prefect.worker.submitted-flow-run"]},
        "any_resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    taken = {
        each["resource"]["prefect.resource.name"]
        for each in server.post("/events/filter", {"filter": wanted})["events"]
    }
    moments = [killed[name] for name in taken if name in killed]
    if not moments:
        return None
    history = sorted(server.get(f"/flow_run_states/?flow_run_id={run}"), key=lambda state: state["timestamp"])
    before = [state for state in history if datetime.fromisoformat(state["timestamp"]) < moments[0]]
    return None if not before or before[-1]["type"] in FINAL else str(before[-1]["name"])


def places(server: Server) -> int:
    """How many places of the ingests' limit are taken."""
    return int(server.deployment("ingest/local")["global_concurrency_limit"]["active_slots"])


def deploying(server: Server) -> str:
    """Deploy again and again, and count the ticks of each schedule."""
    watch = server.deployment("watch/local")
    for schedule in watch["schedules"]:  # the test's server has them switched off
        server.patch(f"/deployments/{watch['id']}/schedules/{schedule['id']}", {"active": True})
    for number in range(DEPLOYS):
        say(f"deploy {number + 1} of {DEPLOYS}")
        deploy(server)

    def ahead() -> list[tuple[str, str]]:
        runs = [
            run for flow in ("watch", "verify") for run in server.runs(flow, state={"type": {"any_": ["SCHEDULED"]}})
        ]
        return [(run["deployment_id"], run["expected_start_time"]) for run in runs if run["auto_scheduled"]]

    ticks = wait_for("the scheduler plans", ahead)
    schedules = sum(len(server.deployment(name)["schedules"]) for name in ("watch/local", "verify/local"))
    return (
        f"**Deploying:** after {DEPLOYS} deploys there are {schedules} schedules of `watch` and `verify`, and"
        f" {len(ticks)} ticks ahead of them, {len(ticks) - len(set(ticks))} of them twice.\n"
    )


def heartbeats(home: Path) -> str:
    """Let healthy runs wait for a lease for an hour, and restart the server and the worker meanwhile."""
    datasets = ("first", "second")
    with deployed_server(home) as server, ExitStack() as stack:
        held = stack.enter_context(holding(server, *(f"dataset/{name}" for name in datasets)))
        worker = stack.enter_context(server.worker())
        runs = [server.start_run("ingest/local", source="sample://20", dataset=name) for name in datasets]
        for restarts in range(RESTARTS + 1):
            time.sleep(60 * HEARTBEAT_MINUTES / (RESTARTS + 1))
            if restarts < RESTARTS:
                say(f"restart {restarts + 1} of {RESTARTS}")
                worker.process.kill()  # alone: the runs that it started live
                restart(server)
                worker = stack.enter_context(server.worker())
        held.communicate("")
        ended = [server.finished(run) for run in runs]
        beats = [event["resource"]["prefect.resource.id"] for event in server.events("prefect.flow-run.heartbeat")]
        count = sum(beat.removeprefix("prefect.flow-run.") in runs for beat in beats)
        ends = Counter(f"{run['state_name']} in try {run['run_count']}" for run in ended)
    return (
        f"**Heartbeats:** {len(runs)} healthy runs went on for {HEARTBEAT_MINUTES} minutes, in which the server was"
        f" stopped for {DOWN} s and the worker killed {RESTARTS} times; they sent {count} heartbeats,"
        f" and ended: {told(ends)}.\n"
    )


def restart(server: Server) -> None:
    """Stop a server, and start it after a while where it was."""
    port = int(server.url.removesuffix("/api").rpartition(":")[2])
    if server.database:
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = server.database
    prefect_server.stop(server.home)
    time.sleep(DOWN)
    prefect_server.start(server.home, port)


@contextmanager
def holding(server: Server, *names: str) -> Iterator[subprocess.Popen[str]]:
    """Hold leases in a process of its own, until something is said to it."""
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", HOLD, *names],
        env=server.environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "held\n":
                raise SystemExit(f"the leases {names} cannot be taken")
            yield process
        finally:
            process.kill()
