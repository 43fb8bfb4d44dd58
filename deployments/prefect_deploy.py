"""Prefect's own command ``prefect deploy``, run on prefect.yaml, and what it changed on the server."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import yaml

from lookbook.blocks.errors import LookbookError
from lookbook.deployments.shipped import prefect_file

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from lookbook.deployments.deploying import Deployed

#: What the server notes by itself while nothing changes.
VOLATILE = {"updated", "updated_by", "last_polled", "status", "active_slots"}


def deploy_all(client: SyncPrefectClient, done: Deployed, environment: dict[str, str]) -> None:
    """Deploy all of prefect.yaml by Prefect's own command, and see what that changed.

    Args:
        client: of the server.
        done: gets the names of what was made, changed and left.
        environment: the values of what prefect.yaml takes from the environment.

    Raises:
        LookbookError: the command failed, or left one out.
    """
    names = deployment_names()
    before = {name: _state(client, name) for name in names}
    said = _prefect_deploy(environment)
    _remove_schedules(client)
    for name in names:
        after = _state(client, name)
        if after is None:
            raise LookbookError(f"prefect deploy left {name} out: {said[-2000:]}", "Mend prefect.yaml.")
        which = done.made if before[name] is None else done.left if before[name] == after else done.changed
        which.append(name)


def deployment_names() -> list[str]:
    """Return the deployments of prefect.yaml as ``flow/deployment``."""
    return list(_entries())


def _entries() -> dict[str, dict[str, Any]]:
    """Return what prefect.yaml says of each deployment, by its name."""
    entries = yaml.safe_load(prefect_file().read_text(encoding="utf-8"))["deployments"]
    return {f"{_flow_name(entry['entrypoint'])}/{entry['name']}": entry for entry in entries}


def _remove_schedules(client: SyncPrefectClient) -> None:
    """Remove schedules that were taken out of prefect.yaml: Prefect's command leaves them.

    Those of the file have slugs; those that a user made in the UI have none, and stay.
    """
    from prefect.exceptions import ObjectNotFound

    for name, entry in _entries().items():
        slugs = {schedule["slug"] for schedule in entry.get("schedules", [])}
        with suppress(ObjectNotFound):  # it was left out, which is told
            deployment = client.read_deployment_by_name(name)
            for schedule in deployment.schedules:
                if schedule.slug is not None and schedule.slug not in slugs:
                    client.delete_deployment_schedule(deployment.id, schedule.id)


def _flow_name(entrypoint: str) -> str:
    module, _, name = entrypoint.rpartition(".")
    return str(getattr(import_module(module), name).name)


def _state(client: SyncPrefectClient, name: str) -> dict[str, Any] | None:
    """Return a deployment as the server has it, without what changes by itself; None where it is missing."""
    from prefect.exceptions import ObjectNotFound

    try:
        found = client.read_deployment_by_name(name).model_dump(mode="json")
    except ObjectNotFound:
        return None
    found["schedules"].sort(key=lambda schedule: str(schedule["id"]))  # the server has the last changed one first
    state: dict[str, Any] = _lasting(found)
    return state


def _lasting(value: Any) -> Any:  # noqa: ANN401 - anything that JSON can say
    if isinstance(value, dict):
        return {key: _lasting(part) for key, part in value.items() if key not in VOLATILE}
    return [_lasting(part) for part in value] if isinstance(value, list) else value


def _prefect_deploy(environment: dict[str, str]) -> str:
    """Run ``prefect deploy --all``; returns what it printed."""
    file = prefect_file()
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file.name],
        cwd=file.parent,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LookbookError(f"prefect deploy failed: {done.stdout[-2000:]}", "")
    return done.stdout
