"""The automations themselves: each a name, what it waits for, and what it does then. Imports Prefect.

Those that start a deployment of prefect.yaml stand there, as its triggers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events import DeploymentEventTrigger
from prefect.events.actions import ActionTypes, ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture, TriggerTypes

#: A block of any type that can notify; it hears of failed runs.
NOTIFICATION_BLOCK = "lookbook-failures"
#: A worker that lives starts what it has claimed within this many silences, images that it pulls included.
STARTING_SILENCES = 2
#: At most one notification of a watch that fails at each look.
WATCH_SILENCE = timedelta(hours=1)

#: A run that was being cancelled may have sent one heartbeat more: it is Cancelled before that one is missed.
CANCELLING_SHARE = 0.8

FLOWS = [
    "ingest",
    "process-batch",
    "export-dataset",
    "restore",
    "publish",
    "replay",
    "plan",
    "gc",
    "remove",
    "rename",
    "forget",
    "verify",
    "watch",
    "pipeline",
    "import-table",
    "orchestrate",
    "watch-files",
]
#: Runs that go on where they stopped: started once more after a crash, they do nothing twice.
FEEDS = ["pipeline", "import-table", "orchestrate"]
#: Runs over a whole dataset: a failure of theirs is told at once, too.
DATASETS = ["ingest", "restore", "publish", "replay", "gc", "remove", "rename", "forget", "verify"]
#: What else an event tells of a run: its flow, its deployment's tags.
Related = dict[str, str | list[str]]
OURS: Related = {"prefect.resource.role": "flow", "prefect.resource.name": FLOWS}
ENDED = ["Completed", "Failed", "Cancelled", "Crashed", "TimedOut"]
#: A run in one of these states has no process, and so no heartbeats; or it is to have none soon, and must not be
#: started once more.
RESTING = ["Paused", "Suspended", "AwaitingRetry", "Cancelling"]

DESCRIPTION = 'Made by "make deploy"; what is changed here is set back by the next. Switched off it stays off.'
BODY = """{{ flow_run.name }} of {{ flow.name }} is {{ flow_run.state.name }}: {{ flow_run.state.message }}
{{ flow_run | ui_url }}"""


@dataclass(frozen=True)
class AutomationRule:
    """An automation by its name; None where there shall be none."""

    name: str
    automation: AutomationCore | None


def rules(block: UUID | None, silence: timedelta) -> list[AutomationRule]:
    """Return what prefect.yaml can't say: what becomes of runs whose process died, and who is told of failures.

    Args:
        block: the notification block, if there is one.
        silence: a run that sends no heartbeat for so long has crashed.
    """
    return [
        _rule(
            "lookbook: no heartbeat → crashed",
            _silent(silence),
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"No heartbeat for {silence.total_seconds():.0f} s: its process has died.",
            ),
        ),
        _rule(
            "lookbook: started and no heartbeat → crashed",
            _unheard(silence),
            ChangeFlowRunState(
                state=StateType.CRASHED, name="Crashed", message="Its process died before its first heartbeat."
            ),
        ),
        _rule(
            "lookbook: cancelling without an end → cancelled",
            _unended(silence * CANCELLING_SHARE),
            ChangeFlowRunState(
                state=StateType.CANCELLED, name="Cancelled", message="Nobody is left to say that its process has ended."
            ),
        ),
        _rule("lookbook: claimed and never started → once more", _unstarted(silence * STARTING_SILENCES), _anew()),
        _rule("lookbook: ingest crashed → once more", _crashed_once(["ingest"]), _again()),
        _rule("lookbook: export crashed → once more", _crashed_once(["export-dataset"]), _again()),
        _rule("lookbook: pipeline crashed → once more", _crashed_once(FEEDS), _again()),
        _notification("lookbook: run failed → notify", [*DATASETS, *FEEDS], timedelta(0), block),
        _notification("lookbook: watch failed → notify", ["watch", "watch-files"], WATCH_SILENCE, block),
    ]


def of_trigger(said: dict[str, Any], deployment: UUID) -> AutomationRule:
    """Return the automation of an event trigger of prefect.yaml, as Prefect reads it.

    The deployment does not own it: Prefect's command deletes what a deployment owns each time that it deploys it.
    """
    trigger = DeploymentEventTrigger.model_validate(said)
    trigger.set_deployment_id(deployment)
    automation = trigger.as_automation().model_copy(update={"description": DESCRIPTION, "owner_resource": None})
    return AutomationRule(automation.name, automation)


def started_by(name: str, trigger: EventTrigger, deployment: UUID) -> AutomationRule:
    """Return an automation that starts a deployment as it stands whenever an event comes."""
    return _rule(name, trigger, RunDeployment(deployment_id=deployment, parameters={}))


def _rule(name: str, trigger: TriggerTypes, action: ActionTypes) -> AutomationRule:
    return AutomationRule(name, AutomationCore(name=name, description=DESCRIPTION, trigger=trigger, actions=[action]))


def _silent(silence: timedelta) -> EventTrigger:
    """After a heartbeat, neither a further one nor an end. Subflows and runs of the command count too."""
    return _missing("heartbeat", ["heartbeat", *ENDED, *RESTING], silence)


def _unheard(silence: timedelta) -> EventTrigger:
    """Return a process died between its start and its first heartbeat, which comes seconds after.

    Of runs of deployments alone: those are told to send heartbeats, others need not.
    """
    return _missing("Running", ["heartbeat", *ENDED, *RESTING], silence, _deployed(FLOWS))


def _unended(silence: timedelta) -> EventTrigger:
    """Watch for a run that is being cancelled and whose worker has died: nobody says that it has ended."""
    return _missing("Cancelling", ENDED, silence)


def _unstarted(silence: timedelta) -> EventTrigger:
    """Return a worker claimed a run and died before it started it: there is no process, and so no heartbeat is missed.

    Of runs of deployments alone: no worker would ever take another one.
    """
    started = ["Running", "heartbeat", "InfrastructurePending", "Scheduled", "Late", *ENDED, *RESTING]
    return _missing("Pending", started, silence, _deployed(FLOWS))


def _missing(
    after: str, expect: list[str], silence: timedelta, related: Related | list[Related] = OURS
) -> EventTrigger:
    """After one event of a run of ours, none of those that are expected, for so long."""
    return EventTrigger(
        after={f"prefect.flow-run.{after}"},
        expect={f"prefect.flow-run.{event}" for event in expect},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=related,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=silence,
    )


def _crashed_once(flows: list[str]) -> EventTrigger:
    """Return a run of a deployment crashed in its first try. The second try counts 2: there is no third."""
    return EventTrigger(
        expect={"prefect.flow-run.Crashed"},
        match={"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": ["0", "1"]},
        match_related=_deployed(flows),
    )


def _anew() -> ChangeFlowRunState:
    """Return a run that never started, for the next free worker."""
    return ChangeFlowRunState(
        state=StateType.SCHEDULED, name="AwaitingRetry", message="Its worker died before it started.", force=True
    )


def _again() -> ChangeFlowRunState:
    """Return the same run, with the same parameters, for the next free worker: as the button Retry of the UI does."""
    return ChangeFlowRunState(
        state=StateType.SCHEDULED, name="AwaitingRetry", message="It crashed: once more.", force=True
    )


def _notification(name: str, flows: list[str], quiet: timedelta, block: UUID | None) -> AutomationRule:
    if block is None:
        return AutomationRule(name, None)
    trigger = EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=_deployed(flows),
        within=quiet,
    )
    subject = "Lookbook: {{ flow_run.name }} {{ flow_run.state.name }}"
    return _rule(name, trigger, SendNotification(block_document_id=block, subject=subject, body=BODY))


def _deployed(flows: list[str]) -> list[Related]:
    """Match runs of these flows, started from deployments that carry the tag of this package."""
    return [
        {"prefect.resource.role": "flow", "prefect.resource.name": flows},
        {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"},
        {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.lookbook"},
    ]
