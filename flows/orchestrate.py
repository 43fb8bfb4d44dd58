"""The flow of an orchestration: pipelines, ingests and imports, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_table_artifact

from lookbook.blocks.settings import read_settings
from lookbook.blocks.workspace import load_workspace
from lookbook.flows.endings import end_pipeline, recorded_run, telling
from lookbook.flows.import_table import import_table
from lookbook.flows.pipeline import date_of_earlier_try, date_of_this_run, pipeline
from lookbook.tasks.runs.parameters import LogicalDate, WorkspaceName, described
from lookbook.tasks.tables import ledger
from lookbook.tasks.tables.orchestrations import find_orchestration
from lookbook.tasks.tables.spec.pipeline import GraphStep, ImportStep, IngestStep, OrchestrationStep, PipelineStep

OrchestrationName = Annotated[
    str,
    described(
        "Orchestration",
        "Its name in orchestrate.yaml, beside the worker's folder of pipelines.",
        pattern=r"^[a-z][a-z0-9_-]{0,62}$",
    ),
]


@flow(name="orchestrate", flow_run_name="orchestrate-{orchestration}", on_cancellation=[end_pipeline])
def orchestrate(
    orchestration: OrchestrationName, date: LogicalDate = None, workspace: WorkspaceName = "local"
) -> dict[str, Any]:
    """Run the steps of an orchestration in their order; after one that fails none is run.

    Run again for the same date, it goes on with the step that failed.

    Returns:
        The outcome of each step.
    """
    spec = find_orchestration(read_settings().pipelines, orchestration)
    name, place = f"orchestrate/{orchestration}", load_workspace(workspace)
    registry, run_id = place.registry, str(runtime.flow_run.id)
    own = date_of_earlier_try(registry) or date_of_this_run(spec.schedule, date)
    say = get_run_logger().info
    with (
        telling(name, spec.notify),
        recorded_run(
            registry,
            name,
            lambda: ledger.start_run(registry, name, own, "", run_id),
            lambda why: ledger.fail_run(registry, run_id, why),
        ) as entry,
    ):
        before = (ledger.read_run(registry, name, own, "") or {}).get("summary") or {}
        done: dict[str, str] = dict(before.get("steps", {}))
        for step in spec.in_order():
            if step in done:
                say("%s was done by an earlier run of this date.", step)
                continue
            say("Step %s", step)
            done[step] = _run_step(spec.steps[step], own, workspace)
            ledger.note_progress(registry, entry, {"steps": done})
        summary = {"orchestration": orchestration, "date": own.isoformat(), "steps": done}
        ledger.commit_run(registry, entry, "completed", summary, {})
    rows = [{"step": step, "outcome": outcome} for step, outcome in done.items()]
    create_table_artifact(rows, key=name.replace("/", "-").replace("_", "-"), description="The steps")
    return summary


def _run_step(step: OrchestrationStep, date: datetime, workspace: str) -> str:
    """Run a step as a subflow; how it ended, in a few words."""
    match step:
        case PipelineStep():
            return _said(pipeline(step.pipeline, date=date, params=dict(step.params) or None, workspace=workspace))
        case GraphStep():
            return _said(pipeline(step.graph, date=date, workspace=workspace))
        case IngestStep():
            from lookbook.flows.ingest import ingest  # noqa: PLC0415 - it brings all that draws, and few steps need that

            done = ingest(**step.ingest.model_dump(), workspace=workspace)
            return f"snapshot {done['snapshot']}{'' if done['published'] else ', unchanged'}"
        case ImportStep():
            given = step.import_.model_dump() | {"primary_key": list(step.import_.primary_key)}
            return _said(import_table(**given, date=date, workspace=workspace))


def _said(summary: Mapping[str, Any] | Any) -> str:  # noqa: ANN401 - a flow gives a state, too, by its type
    if not isinstance(summary, Mapping):
        return "done"
    return summary["why"] or f"{sum(table.get('loaded') or 0 for table in summary['tables']):,} rows loaded"
