"""What starts a pipeline but the clock: files that arrive, and events. Imports Prefect."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from prefect.events.schemas.automations import EventTrigger

from lookbook.deployments.server import automations
from lookbook.deployments.server.applying import Wanted, apply, read, remove
from lookbook.deployments.server.automation_rules import AutomationRule, started_by
from lookbook.tasks.runs.announcements import FILES_ARRIVED, TABLE_LOADED
from lookbook.tasks.tables.planning import ANCHOR

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from lookbook.deployments.server.applying import Deployed
    from lookbook.tasks.tables.spec.pipeline import Trigger

#: Seconds between looks at the files that a spec waits for.
LOOK = 60


def install(
    client: SyncPrefectClient, name: str, trigger: Trigger | None, deployment: UUID | None, done: Deployed
) -> None:
    """Bring the watch and the automations of a deployment into line with what its spec says in `on`.

    Args:
        client: of the server.
        name: of the deployment, as ``pipeline/prices``.
        trigger: what the spec says; None: nothing.
        deployment: its id.
        done: takes what was done.
    """
    arrival = trigger.arrival if trigger is not None and deployment is not None else None
    event = trigger.event if trigger is not None and deployment is not None else None
    if arrival is not None:
        apply(client, watch_of(name), done)
    elif read(client, f"watch-files/{watch_of(name).name}") is not None:
        remove(client, f"watch-files/{watch_of(name).name}")
        done.removed.append(f"watch-files/{watch_of(name).name}")
    arrivals = f"lookbook: files arrived → {name}"
    events = f"lookbook: event → {name}"
    automations.put(client, _on_files(arrivals, name, deployment) if arrival else AutomationRule(arrivals, None), done)
    automations.put(client, _on_event(events, name, event, deployment) if event else AutomationRule(events, None), done)


def watch_of(name: str) -> Wanted:
    """Return the deployment that looks for the files that start another one."""
    flow, _, own = name.partition("/")
    return Wanted(
        flow="watch-files",
        name=own if flow == "pipeline" else f"{flow}-{own}",
        entrypoint="lookbook.flows.watch.watch_files",
        description=f"Look for the files that start {name}; once new ones have come to rest, an automation starts it.",
        parameters={"starts": name},
        schedule={"interval": float(LOOK), "anchor_date": ANCHOR.isoformat(), "timezone": "UTC"},
        active=True,
        collision="CANCEL_NEW",
    )


def _on_files(rule: str, name: str, deployment: UUID | None) -> AutomationRule:
    trigger = EventTrigger(
        expect={FILES_ARRIVED}, match={"prefect.resource.id": f"lookbook.files.{name.replace('/', '.')}"}
    )
    return started_by(rule, trigger, _known(deployment))


def _on_event(rule: str, name: str, event: str | None, deployment: UUID | None) -> AutomationRule:
    # A pipeline that waits for tables does not start itself by those that it loads.
    own = {"lookbook.pipeline": f"!{name.partition('/')[2]}"} if event == TABLE_LOADED else {}
    return started_by(rule, EventTrigger(expect={event or ""}, match=own), _known(deployment))


def _known(deployment: UUID | None) -> UUID:
    assert deployment is not None  # noqa: S101 - nothing starts what is not there
    return deployment
