"""Rules for runs that say nothing more: which events end the waiting, judged by the server's own triggers."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore
from prefect.server.events.schemas.automations import EventTrigger, Posture
from prefect.server.events.schemas.events import ReceivedEvent

from lookbook.deployments.server import automations, pipeline_triggers
from lookbook.deployments.server.applying import Deployed
from lookbook.deployments.server.automation_rules import rules
from lookbook.tasks.runs.announcements import TABLE_LOADED
from lookbook.tasks.tables.spec.pipeline import Trigger

SILENCE = timedelta(minutes=5)
ENDS = ["Completed", "Failed", "Cancelled", "Crashed", "TimedOut"]


def automation(name: str) -> AutomationCore:
    found = {rule.name: rule.automation for rule in rules(None, SILENCE)}[f"lookbook: {name}"]
    assert found is not None
    return found


def trigger(name: str) -> EventTrigger:
    """The trigger as the server reads it."""
    return EventTrigger.model_validate(automation(name).trigger.model_dump(mode="json"))


@pytest.mark.parametrize("state", [*ENDS, "Paused", "Suspended", "AwaitingRetry", "Cancelling"])
def test_a_run_that_ended_rests_or_is_being_cancelled_does_not_crash_for_want_of_heartbeats(state: str) -> None:
    silent = trigger("no heartbeat → crashed")
    assert silent.starts_after("prefect.flow-run.heartbeat")
    assert silent.expects("prefect.flow-run.heartbeat")
    assert silent.expects(f"prefect.flow-run.{state}")


@pytest.mark.parametrize("state", [*ENDS, "Paused", "Suspended", "AwaitingRetry", "Cancelling", "heartbeat"])
def test_a_deployed_run_that_started_and_was_never_heard_of_crashes(state: str) -> None:
    """Seen when a worker was killed four seconds after it had started two runs: they stayed Running for ever."""
    unheard = trigger("started and no heartbeat → crashed")
    assert unheard.starts_after("prefect.flow-run.Running")
    assert not unheard.starts_after("prefect.flow-run.heartbeat"), "the other rule is for those"
    assert unheard.expects(f"prefect.flow-run.{state}")
    assert (unheard.posture, unheard.within) == (Posture.Proactive, SILENCE)
    document = unheard.model_dump(mode="json")["match_related"]
    roles = [related["prefect.resource.role"] for related in document]
    assert roles == ["flow", "deployment", "tag"], "other runs need not send heartbeats"
    (action,) = automation("started and no heartbeat → crashed").actions
    assert isinstance(action, ChangeFlowRunState)
    assert action.state == StateType.CRASHED


def test_a_run_that_was_being_cancelled_and_never_ended_is_cancelled_before_a_last_heartbeat_is_missed() -> None:
    rule = automation("cancelling without an end → cancelled")
    unended = trigger("cancelling without an end → cancelled")
    assert unended.starts_after("prefect.flow-run.Cancelling")
    assert not unended.starts_after("prefect.flow-run.heartbeat")
    assert all(unended.expects(f"prefect.flow-run.{state}") for state in ENDS)
    assert not unended.expects("prefect.flow-run.heartbeat"), "a process that still lives is no end"
    assert unended.posture == Posture.Proactive
    assert unended.for_each == {"prefect.resource.id"}
    assert SILENCE - unended.within >= timedelta(seconds=60), "a rule is looked at every few seconds"
    (action,) = rule.actions
    assert isinstance(action, ChangeFlowRunState)
    assert (action.state, action.name, action.force) == (StateType.CANCELLED, "Cancelled", False)


def test_a_run_that_was_claimed_and_never_started_is_given_to_the_next_worker() -> None:
    """Seen when a worker was killed with fifty runs before it: some stayed Pending, some Submitting, for ever."""
    unstarted = trigger("claimed and never started → once more")
    assert unstarted.starts_after("prefect.flow-run.Pending")
    assert not unstarted.expects("prefect.flow-run.Submitting")
    assert all(
        unstarted.expects(f"prefect.flow-run.{state}") for state in ["Running", "AwaitingRetry", "Cancelling", *ENDS]
    )
    assert unstarted.posture == Posture.Proactive
    assert unstarted.for_each == {"prefect.resource.id"}
    assert unstarted.within > SILENCE
    document = unstarted.model_dump(mode="json")["match_related"]
    roles = [related["prefect.resource.role"] for related in document]
    assert roles == ["flow", "deployment", "tag"], "a run of the command has no worker that would take it again"
    (action,) = automation("claimed and never started → once more").actions
    assert isinstance(action, ChangeFlowRunState)
    assert (action.state, action.name) == (StateType.SCHEDULED, "AwaitingRetry")


@pytest.mark.parametrize(("runs", "again"), [("0", True), ("1", True), ("2", False)])
@pytest.mark.parametrize("flow", ["ingest", "export-dataset", "pipeline"])
def test_a_run_that_crashed_is_started_once_more_and_never_a_third_time(flow: str, runs: str, again: bool) -> None:
    rule = trigger(f"{flow.partition('-')[0]} crashed → once more")
    assert rule.covers(of_a_deployed_run(flow, "Crashed", runs)) is again


def of_a_deployed_run(flow: str, state: str, runs: str = "1") -> ReceivedEvent:
    return ReceivedEvent(
        id=uuid.uuid4(),
        occurred=datetime.now(UTC),
        event=f"prefect.flow-run.{state}",
        resource={"prefect.resource.id": f"prefect.flow-run.{uuid.uuid4()}", "prefect.run-count": runs},
        related=[
            {"prefect.resource.role": "flow", "prefect.resource.id": "prefect.flow.1", "prefect.resource.name": flow},
            {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.1"},
            {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.lookbook"},
        ],
    )


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("no heartbeat → crashed", "heartbeat"),
        ("started and no heartbeat → crashed", "Running"),
        ("claimed and never started → once more", "Pending"),
        ("cancelling without an end → cancelled", "Cancelling"),
    ],
)
def test_a_batch_on_a_work_pool_is_ended_by_the_rules_alone_and_sent_again_by_its_parent(name: str, after: str) -> None:
    event = of_a_deployed_run("process-batch", after)
    assert trigger(name).starts_after(event.event)
    assert trigger(name).covers(event)
    crashed = of_a_deployed_run("process-batch", "Crashed")
    assert not any(trigger(f"{flow} crashed → once more").covers(crashed) for flow in ("ingest", "export", "pipeline"))


def test_a_pipeline_that_waits_for_tables_is_not_started_by_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    put: dict[str, AutomationCore | None] = {}
    monkeypatch.setattr(automations, "put", lambda _, rule, __: put.update({rule.name: rule.automation}))
    monkeypatch.setattr(pipeline_triggers, "read", lambda *_: None)
    waits = Trigger(event=TABLE_LOADED)
    pipeline_triggers.install(SimpleNamespace(), "pipeline/prices", waits, uuid.UUID(int=3), Deployed())  # type: ignore[arg-type]
    made = put["lookbook: event → pipeline/prices"]
    assert made is not None
    rule = EventTrigger.model_validate(made.trigger.model_dump(mode="json"))

    def loaded_by(pipeline: str) -> ReceivedEvent:
        resource = {"prefect.resource.id": "lookbook.table.stock", "lookbook.pipeline": pipeline}
        return ReceivedEvent(id=uuid.uuid4(), occurred=datetime.now(UTC), event=TABLE_LOADED, resource=resource)

    assert rule.covers(loaded_by("stock"))
    assert not rule.covers(loaded_by("prices"))
