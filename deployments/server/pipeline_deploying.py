"""Deployments of specs: one for each pipeline and orchestration, and what starts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lookbook.blocks.settings import read_settings
from lookbook.deployments.server.applying import Wanted, apply, by_name, remove
from lookbook.tasks.tables.orchestrations import orchestrate_file, read_orchestrations
from lookbook.tasks.tables.planning import ANCHOR
from lookbook.tasks.tables.spec.problems import SpecError
from lookbook.tasks.tables.spec.reading import read_spec, specs

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from lookbook.deployments.server.applying import Deployed
    from lookbook.tasks.tables.spec.pipeline import Orchestration, Pipeline, Schedule

POOL = "lookbook"
#: The flows whose deployments specs make; prefect.yaml names none of them.
FLOWS = ("pipeline", "orchestrate", "watch-files")


@dataclass
class FoundSpecs:
    """What the folder of pipelines says.

    Attributes:
        deployed: by the name of their deployments.
        broken: deployments whose files cannot be read, with what is wrong.
    """

    deployed: dict[str, Pipeline | Orchestration] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def deploy_all(client: SyncPrefectClient, done: Deployed, *, prune: bool = False) -> None:
    """Deploy all specs, and what starts them by files or events.

    A file that cannot be read stops no other; what is deployed of it stays as it is.

    Args:
        client: of the server.
        done: takes what was done.
        prune: remove what was deployed of specs that are gone.
    """
    from lookbook.deployments.server import pipeline_triggers

    found = read_all(read_settings().pipelines)
    for name, spec in found.deployed.items():
        identity = apply(client, wanted(name, spec), done)
        pipeline_triggers.install(client, name, spec.on, identity, done)
    for name, why in found.broken.items():
        done.broken.append(name)
        done.notes.append(f"{name}: {why}")
    _settle_gone(client, found, done, prune=prune)


def read_all(folder: Path) -> FoundSpecs:
    """Return all pipelines and orchestrations of a folder."""
    found = FoundSpecs()
    for name, path in specs(folder).items():
        try:
            found.deployed[f"pipeline/{name}"] = read_spec(path)
        except SpecError as error:
            found.broken[f"pipeline/{name}"] = error.problem
    try:
        orchestrations = read_orchestrations(folder)
        found.deployed |= {f"orchestrate/{name}": one for name, one in orchestrations.items()}
    except SpecError as error:
        found.broken[f"orchestrate/* of {orchestrate_file(folder).name}"] = error.problem
    return found


def wanted(name: str, spec: Pipeline | Orchestration) -> Wanted:
    """Return the deployment of a spec."""
    flow, _, own = name.partition("/")
    return Wanted(
        flow=flow,
        name=own,
        entrypoint=f"lookbook.flows.{flow}.{flow}",
        description=spec.description or f"The {'pipeline' if flow == 'pipeline' else 'orchestration'} {own}.",
        parameters={"pipeline" if flow == "pipeline" else "orchestration": own},
        schedule=api_schedule(spec.schedule) if spec.schedule is not None else None,
        active=spec.schedule.active if spec.schedule is not None else True,
        collision="ENQUEUE",
    )


def api_schedule(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as Prefect's API takes it."""
    if schedule.every is None:
        return {"cron": schedule.cron, "timezone": schedule.timezone, "day_or": True}
    # Counted in UTC: in a zone whose clocks are set, Prefect's own dates depend on when it looks.
    return {"interval": schedule.every.total_seconds(), "anchor_date": ANCHOR.isoformat(), "timezone": "UTC"}


def _settle_gone(client: SyncPrefectClient, found: FoundSpecs, done: Deployed, *, prune: bool) -> None:
    """Name, or remove, what was deployed of specs that are gone."""
    from lookbook.deployments.server import pipeline_triggers

    known = {*found.deployed, *found.broken}
    whole = not any(name.startswith("orchestrate/") for name in found.broken)
    for flow in ("pipeline", "orchestrate") if whole else ("pipeline",):
        for name in by_name(client, flow):
            if name in known:
                continue
            if prune:
                pipeline_triggers.install(client, name, None, None, done)
                remove(client, name)
                done.removed.append(name)
            else:
                done.notes.append(f"{name} has no spec any more; lookbook pipeline deploy --prune removes it")
