"""Automations as code: what happens to runs whose process died, and who is told of failures."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from lookbook.blocks.embedded.prefect_server import HEARTBEAT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

    from lookbook.deployments.server.applying import Deployed
    from lookbook.deployments.server.automation_rules import AutomationRule

#: A run whose heartbeats stop for so long has crashed. Five of those that deployed runs send, and more than one of
#: Prefect's own default (180 s): a lost heartbeat, a laptop asleep or a server that restarts must not crash a run.
HEARTBEAT_SILENCE = timedelta(seconds=5 * HEARTBEAT)


def install(client: SyncPrefectClient, done: Deployed, silence: timedelta = HEARTBEAT_SILENCE) -> None:
    """Make the automations that are missing and update those that differ.

    An automation is found again by its name and keeps its id; one that was switched off stays off. Doing it twice
    changes nothing.

    Args:
        client: of the server.
        done: takes what was done.
        silence: a run that sends no heartbeat for so long has crashed.
    """
    from lookbook.deployments.server.automation_rules import NOTIFICATION_BLOCK, rules

    block = _notification_block(client, NOTIFICATION_BLOCK)
    for rule in rules(block, silence):
        put(client, rule, done)
    if block is None:
        done.notes.append(
            f"nobody is told of failed runs: save a notification block named {NOTIFICATION_BLOCK}, then deploy again"
        )


def put(client: SyncPrefectClient, rule: AutomationRule, done: Deployed) -> None:
    """Bring one automation into line: make it, change it, leave it, or remove it."""
    from prefect.events.schemas.automations import AutomationCore

    found, name = client.read_automations_by_name(rule.name), f"automation {rule.name}"
    if rule.automation is None:
        for old in found:
            client.delete_automation(old.id)
            done.changed.append(f"{name}, which is gone")
        return
    if not found:
        client.create_automation(rule.automation)
        done.made.append(name)
        return
    wanted = _content(rule.automation) | {"enabled": found[0].enabled}
    if _content(found[0]) == wanted:
        done.left.append(name)
        return
    # All fields are given: the client sends no others, and the server wants the defaults too.
    client.update_automation(found[0].id, AutomationCore.model_validate(wanted))
    done.changed.append(name)


def _content(automation: AutomationCore) -> dict[str, Any]:
    """Return what an automation says, without what the server adds to it."""
    from prefect.events.schemas.automations import AutomationCore

    core = AutomationCore.model_validate(automation.model_dump(mode="json"))
    content: dict[str, Any] = core.model_dump(mode="json", exclude={"owner_resource"})
    for name in ("after", "expect", "for_each"):  # sets, in whatever order
        content["trigger"][name] = sorted(content["trigger"][name])
    return content


def _notification_block(client: SyncPrefectClient, name: str) -> UUID | None:
    """Return the block of this name, of whatever type, that can notify."""
    wanted = {"block_documents": {"name": {"any_": [name]}}, "include_secrets": False}
    for document in client.request("POST", "/block_documents/filter", json=wanted).json():
        if "notify" in document["block_schema"]["capabilities"]:
            return UUID(document["id"])
    return None
