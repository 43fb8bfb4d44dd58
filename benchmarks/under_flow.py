"""The same batches as subflows under Prefect, fanned out as the main flow does: ``SOURCE HOME``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil

from benchmarks.peers import clock
from lookbook.deployments.server.environment import prepare_server


def server_seconds(home: Path) -> float:
    """CPU seconds that the home's Prefect server has used so far."""
    record = json.loads((home / "prefect" / "server.json").read_text(encoding="utf-8"))
    server = psutil.Process(int(record["pid"]))
    return sum(clock.tree_seconds(process) for process in [server, *server.children(recursive=True)])


def main(source: str, home: Path) -> None:
    """Report the time from the fan-out to the last batch's end, inside a flow that runs already."""
    prepare_server(home, debug=False)
    from prefect import flow  # noqa: PLC0415 - the server's address stands in the environment only now
    from prefect.futures import wait  # noqa: PLC0415
    from prefect.task_runners import ThreadPoolTaskRunner  # noqa: PLC0415

    from benchmarks.bare import prepared, start_processes  # noqa: PLC0415
    from lookbook.blocks.settings import read_settings  # noqa: PLC0415
    from lookbook.blocks.workspace import local_workspace  # noqa: PLC0415
    from lookbook.flows.fan_out import run_batch  # noqa: PLC0415
    from lookbook.tasks.images.batch import finished_counts  # noqa: PLC0415

    place = local_workspace(home)
    batches, lake = prepared(source, place), place.lake
    start_processes()

    def fan_out() -> int:
        futures = run_batch.map("local", batches, "threads")
        wait(list(futures))
        done = [finished_counts(lake, batch) for batch in batches]
        return sum(counts.images for counts in done if counts is not None)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=read_settings().batches_at_once))  # type: ignore[arg-type]
    def parent() -> None:
        before = server_seconds(home)
        measured = clock.measured(fan_out)
        clock.write(measured | {"server_cpu_seconds": server_seconds(home) - before})

    parent()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
