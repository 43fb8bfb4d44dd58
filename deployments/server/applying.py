"""One deployment, brought to what it is to be by Prefect's API: made, changed, or left as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import UUID

import yaml

from lookbook.deployments.shipped import prefect_file

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

#: The slug of the schedule that is ours. Others, made in the UI, are left alone.
SLUG = "spec"
TAGS = ["lookbook"]


@dataclass
class Deployed:
    """What a deploy did, by the names of pools, deployments and automations, and what it has to say about them."""

    made: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """A deployment on the pool of this machine's processes, one run at a time.

    Attributes:
        flow: name of the flow.
        name: of the deployment.
        entrypoint: module and function of the flow.
        schedule: as the API takes it; None: none of ours.
        active: whether the schedule is switched on when it is made.
        collision: what becomes of a run while another is under way: ENQUEUE or CANCEL_NEW.
    """

    flow: str
    name: str
    entrypoint: str
    description: str
    parameters: dict[str, Any]
    schedule: dict[str, Any] | None
    active: bool
    collision: str


def apply(client: SyncPrefectClient, wanted: Wanted, done: Deployed) -> UUID:
    """Make a deployment, or update what differs; what nobody said here stays, as a schedule that is switched off.

    Returns:
        Its id.
    """
    name = f"{wanted.flow}/{wanted.name}"
    found = read(client, name)
    fields = _fields(wanted)
    if found is None:
        flow = client.create_flow_from_name(wanted.flow)
        answer = client.request("POST", "/deployments/", json=fields | {"flow_id": str(flow), "name": wanted.name})
        identity = UUID(answer.json()["id"])
        _schedule(client, identity, [], wanted)
        done.made.append(name)
        return identity
    changed = _differs(found, fields)
    if changed:
        client.request("PATCH", "/deployments/{id}", path_params={"id": str(found.id)}, json=fields)
    said = found.model_dump(mode="json")["schedules"]
    changed |= _schedule(client, found.id, [one for one in said if one["slug"] == SLUG], wanted)
    (done.changed if changed else done.left).append(name)
    return found.id


def read(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """Return a deployment by the name ``flow/deployment``; None where there is none."""
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def by_name(client: SyncPrefectClient, flow: str) -> list[str]:
    """Return the deployments of a flow that carry our tag, as ``flow/deployment``."""
    found: list[str] = []
    wanted = {"flows": {"name": {"any_": [flow]}}, "deployments": {"tags": {"all_": TAGS}}, "limit": 200}
    while page := client.request("POST", "/deployments/filter", json=wanted | {"offset": len(found)}).json():
        found += [f"{flow}/{each['name']}" for each in page]
    return sorted(found)


def remove(client: SyncPrefectClient, name: str) -> bool:
    """Remove a deployment; whether there was one."""
    found = read(client, name)
    if found is not None:
        client.delete_deployment(found.id)
    return found is not None


def _fields(wanted: Wanted) -> dict[str, Any]:
    from prefect.utilities.callables import parameter_schema

    pool = yaml.safe_load(prefect_file().read_text(encoding="utf-8"))["definitions"]["pools"]["local"]
    module, _, function = wanted.entrypoint.rpartition(".")
    flow = getattr(import_module(module), function)
    return {
        "description": wanted.description,
        "tags": TAGS,
        "entrypoint": wanted.entrypoint,
        "parameters": wanted.parameters,
        "parameter_openapi_schema": parameter_schema(flow).model_dump(mode="json"),
        "enforce_parameter_schema": True,
        "work_pool_name": pool["name"],
        "job_variables": pool["job_variables"],
        "concurrency_limit": 1,
        "concurrency_options": {"collision_strategy": wanted.collision},
    }


def _differs(found: DeploymentResponse, fields: dict[str, Any]) -> bool:
    said = found.model_dump(mode="json")
    limit = (said.get("global_concurrency_limit") or {}).get("limit")
    strategy = (said.get("concurrency_options") or {}).get("collision_strategy")
    now = said | {"concurrency_limit": limit, "concurrency_options": {"collision_strategy": strategy}}
    return any(now.get(key) != value for key, value in fields.items())


def _schedule(client: SyncPrefectClient, identity: UUID, found: list[dict[str, Any]], wanted: Wanted) -> bool:
    """Bring the schedule of ours into line; whether there was something to do."""
    place = f"/deployments/{identity}/schedules"
    if wanted.schedule is None:
        for one in found:
            client.request("DELETE", f"{place}/{one['id']}")  # type: ignore[arg-type] # a path is a text
        return bool(found)
    if not found:
        made = {"schedule": wanted.schedule, "active": wanted.active, "slug": SLUG}
        client.request("POST", place, json=[made])  # type: ignore[arg-type]
        return True
    if _same(found[0]["schedule"], wanted.schedule):
        return False
    client.request("PATCH", f"{place}/{found[0]['id']}", json={"schedule": wanted.schedule})  # type: ignore[arg-type]
    return True


def _same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Return whether two schedules are one: the API writes times in its own way."""
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    kind = CronSchedule if "cron" in wanted else IntervalSchedule
    try:
        return kind.model_validate(found) == kind.model_validate(wanted)
    except ValueError:
        return False
