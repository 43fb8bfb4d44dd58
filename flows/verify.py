"""Verify what is published: the flow that follows each snapshot, and that looks at all datasets every night."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Failed

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.flows.endings import end_children_of_earlier_try, end_family
from lookbook.flows.fan_out import doing, warn_of_sqlite
from lookbook.tasks.datasets.manifest import list_datasets
from lookbook.tasks.datasets.verify import verify_or_repair
from lookbook.tasks.exports.finished import list_files
from lookbook.tasks.images.jobs import DoBatches
from lookbook.tasks.images.pacing import StoppedError
from lookbook.tasks.runs.parameters import DatasetName, Executor, WorkspaceName, described

DatasetOrAll = Annotated[DatasetName | None, described("Dataset", "Name of the dataset. None: all of the workspace.")]
Repair = Annotated[bool, described("Repair", "Mend what can be mended, then verify again.")]
Everything = Annotated[bool, described("Everything", "Read older snapshots and finished exports, too.")]
#: Seconds that a run which publishes meanwhile is waited for.
MAX_WAIT = 300.0
#: Lines in the artifact, and in the message of the failed run.
LISTED = 1000
NAMED = 3


@flow(name="verify", on_cancellation=[end_family], on_crashed=[end_family])
def verify(
    dataset: DatasetOrAll = None,
    workspace: WorkspaceName = "local",
    repair: Repair = False,
    everything: Everything = False,
    executor: Executor = "threads",
) -> list[dict[str, Any]] | State[Any]:
    """Read snapshots, objects, registry and warehouse again and compare; fails where anything differs.

    Without a dataset, all datasets of the workspace are verified.

    Returns:
        For each dataset: its ``snapshot``, the number of ``objects`` read, ``repairs`` and ``differences``.
    """
    end_children_of_earlier_try()
    warn_of_sqlite(executor)
    place = load_workspace(workspace)
    names = [dataset] if dataset else list_datasets(place.lake)
    do = doing(place.lake, workspace, executor)
    found = [_verified(place, name, repair, everything, do) for name in names]
    lines = [(each["dataset"], line) for each in found for line in each["differences"]]
    _describe(found, lines, dataset or "all-datasets")
    if lines:
        more = f" and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
        named = "; ".join(f"{name}: {line}" for name, line in lines[:NAMED])
        message = f"{len(lines)} differences: {named}{more}. Run verify with repair, or ingest again."
        return Failed(data=found, message=message)
    return found


def _verified(place: Workspace, name: str, mend: bool, everything: bool, do: DoBatches) -> dict[str, Any]:
    """Return one dataset; a fault of one is a difference, and hides no other."""
    say = get_run_logger().info
    row: dict[str, Any] = {"dataset": name, "snapshot": None, "objects": 0, "repairs": [], "differences": []}
    try:
        found, repairs = verify_or_repair(
            place,
            name,
            mend,
            MAX_WAIT,
            lambda why: say("Waiting: %s", why),
            everything=list_files if everything else None,
            do=do,
        )
        lines = [difference.line for difference in found.differences]
    except StoppedError:  # of no dataset: the run is to end
        raise
    except LookbookError as error:
        return row | {"differences": [error.problem]}
    return row | {"snapshot": found.snapshot_id, "objects": found.objects, "repairs": repairs, "differences": lines}


def _describe(found: list[dict[str, Any]], lines: list[tuple[str, str]], key: str) -> None:
    """Make the artifacts that the UI shows with the run: what was read, and each difference."""
    for each in found:
        get_run_logger().info(
            "%s: %s, %d objects read, %d repairs, %d differences",
            *(each["dataset"], each["snapshot"], each["objects"], len(each["repairs"]), len(each["differences"])),
        )
    counts = [each | {"repairs": len(each["repairs"]), "differences": len(each["differences"])} for each in found]
    key = key.replace("_", "-")
    create_table_artifact(counts, key=f"{key}-verified", description="What was read, and how much of it differs")
    if lines:
        rows = [{"dataset": name, "difference": line} for name, line in lines[:LISTED]]
        more = f", the first {LISTED}" if len(lines) > LISTED else ""
        create_table_artifact(rows, key=f"{key}-differences", description=f"{len(lines)} differences{more}")
