"""Automations as code: what follows an event, what happens to runs whose process died, and who is told of failures."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from blocks.errors import LookbookError
from deployments.automation_rules import HEARTBEAT_SILENCE, NOTIFICATION_BLOCK, Rule, rules

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient


def install(silence: timedelta = HEARTBEAT_SILENCE) -> list[str]:
    """Make the automations that are missing and update those that differ, on the server of PREFECT_API_URL.

    An automation is found again by its name and keeps its id; one that was switched off stays off. Doing it twice
    changes nothing.

    Args:
        silence: a run that sends no heartbeat for so long has crashed.

    Returns:
        A line for each thing that was done, and for what is missing.

    Raises:
        LookbookError: a deployment is missing that an automation starts.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        deployments = {name: _deployment(client, name) for name in ("ingest/local", "verify/local")}
        block = _notification_block(client)
        said = [line for rule in rules(deployments, block, silence) if (line := _put(client, rule))]
    if block is None:
        said.append(f"Nobody is told of failed runs: save a notification block named {NOTIFICATION_BLOCK}, then deploy.")
    return said


def _put(client: SyncPrefectClient, rule: Rule) -> str:
    """Bring one automation into line; says what was done, or "" where nothing was."""
    found = client.read_automations_by_name(rule.name)
    if rule.automation is None:
        for old in found:
            client.delete_automation(old.id)
        return f"{rule.name}: removed" if found else ""
    if not found:
        client.create_automation(rule.automation)
        return f"{rule.name}: made"
    kept, *twins = found
    for twin in twins:
        client.delete_automation(twin.id)
    wanted = rule.automation.model_copy(update={"enabled": kept.enabled})
    if _content(kept) == _content(wanted) and not twins:
        return ""
    client.update_automation(kept.id, wanted)
    return f"{rule.name}: updated"


def _content(automation: Any) -> dict[str, Any]:  # noqa: ANN401 - as written, or as the server gives it back
    """What an automation says, without what the server adds to it."""
    from prefect.events.schemas.automations import AutomationCore

    given = automation.model_dump(mode="json")
    content: dict[str, Any] = AutomationCore.model_validate(given).model_dump(mode="json", exclude={"owner_resource"})
    for name in ("after", "expect", "for_each"):  # sets, in whatever order
        content["trigger"][name] = sorted(content["trigger"][name])
    return content


def _deployment(client: SyncPrefectClient, name: str) -> UUID:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound as error:
        raise LookbookError(
            f"The deployment {name} is not there, and an automation starts it.", 'Deploy it first: "make deploy".'
        ) from error


def _notification_block(client: SyncPrefectClient) -> UUID | None:
    """The block named `NOTIFICATION_BLOCK`, of whatever type, that can notify."""
    wanted = {"block_documents": {"name": {"any_": [NOTIFICATION_BLOCK]}}, "include_secrets": False}
    for document in client.request("POST", "/block_documents/filter", json=wanted).json():
        if "notify" in document["block_schema"]["capabilities"]:
            from uuid import UUID

            return UUID(document["id"])
    return None
