"""Put prefect.yaml on a Prefect server: work pools, block types, deployments by Prefect's command, automations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import filterfalse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from lookbook.blocks.errors import LookbookError
from lookbook.deployments.server import automations, pipeline_deploying
from lookbook.deployments.server.applying import Deployed
from lookbook.deployments.shipped import job_template_file, prefect_file

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: What the server notes by itself while nothing changes.
VOLATILE = {"updated", "updated_by", "last_polled", "status", "active_slots"}


def deploy_file(client: SyncPrefectClient, done: Deployed, environment: dict[str, str]) -> None:
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
    said = _prefect_deploy(environment, before)
    _remove_schedules(client)
    for name in names:
        after = _state(client, name)
        if after is None:
            raise LookbookError(f"prefect deploy left {name} out: {said[-2000:]}", "Mend prefect.yaml.")
        which = done.made if before[name] is None else done.left if before[name] == after else done.changed
        which.append(name)
    _install_triggers(client, done)


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


def _install_triggers(client: SyncPrefectClient, done: Deployed) -> None:
    """Bring the automations of our triggers into line; they keep their ids, and one that is off stays off."""
    from lookbook.deployments.server.automation_rules import of_trigger

    for name, entry in _entries().items():
        for trigger in filter(_is_ours, entry.get("triggers", [])):
            automations.put(client, of_trigger(trigger, client.read_deployment_by_name(name).id), done)


def _is_ours(trigger: dict[str, Any]) -> bool:
    return str(trigger.get("name")).startswith("lookbook: ")


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


def _prefect_deploy(environment: dict[str, str], before: Mapping[str, dict[str, Any] | None]) -> str:
    """Run ``prefect deploy --all``, without our triggers; returns what it printed.

    At each deploy it would delete their automations and make others: events of that second or two start nothing, and
    what was switched off is on again. A schedule that is off at first and was switched on stays on.
    """
    said = yaml.safe_load(prefect_file().read_text(encoding="utf-8"))
    for entry in said["deployments"]:
        entry["triggers"] = [*filterfalse(_is_ours, entry.get("triggers", []))]
        standing = before.get(f"{_flow_name(entry['entrypoint'])}/{entry['name']}") or {"schedules": []}
        switched = {schedule["slug"]: schedule["active"] for schedule in standing["schedules"]}
        for schedule in entry.get("schedules", []):
            if "active" in schedule:
                schedule["active"] = switched.get(schedule["slug"], schedule["active"])
    with TemporaryDirectory() as folder:
        file = Path(folder, "prefect.yaml")
        file.write_text(yaml.safe_dump(said), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)],
            cwd=prefect_file().parent,
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


#: Work pools by name, one for each kind of infrastructure.
POOLS = {
    "lookbook": "process",
    "lookbook-docker": "docker",
    "lookbook-kubernetes": "kubernetes",
    "lookbook-cloud-run": "cloud-run-v2",
}
#: Starts a run at once. Without a command, a worker first starts a Python that prepares a folder of code for the run,
#: of which ours have none: a second and more of a processor for each run, each batch and export included.
RUN_AT_ONCE = "python3 -m prefect.engine"
#: The oldest server that has all that prefect.yaml asks for.
OLDEST_SERVER = (3, 8)


def deploy(*, at_once: bool = False) -> Deployed:
    """Make what is missing and update what differs, on the server of PREFECT_API_URL or the active profile.

    Pipelines of the folder of specs are among it; specs that cannot be read are named in the notes.

    Args:
        at_once: let runs of a new pool of processes start by `RUN_AT_ONCE`: where all of its workers find a ``python3``
            on their PATH that has this package.

    Raises:
        LookbookError: the server is too old, does not answer, or refused something.
    """
    done = Deployed()
    with connected() as client:
        make_pools(client, done, at_once=at_once)
        register_blocks()
        deploy_file(client, done, environment())
        automations.install(client, done)
        pipeline_deploying.deploy_all(client, done)
    return done


def deploy_pipelines(*, prune: bool = False) -> Deployed:
    """Deploy the pipelines and orchestrations alone.

    Args:
        prune: remove what was deployed of specs that are gone.

    Raises:
        LookbookError: as in `deploy`.
    """
    done = Deployed()
    with connected() as client:
        make_pools(client, done, [pipeline_deploying.POOL])
        pipeline_deploying.deploy_all(client, done, prune=prune)
    return done


@contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """Yield a client of a server that is new enough; what goes wrong with it is told by name."""
    from prefect.client.orchestration import get_client

    with _faults_named(), get_client(sync_client=True) as client:
        _check_version(client)
        yield client


def make_pools(
    client: SyncPrefectClient, done: Deployed, names: Iterable[str] = POOLS, *, at_once: bool = False
) -> None:
    """Make the work pools that are missing. A pool that is there stays as it is: it may have been edited."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    for name in names:
        kind = POOLS[name]
        template = job_template(kind, at_once=at_once)
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
            done.made.append(f"work pool {name}")
            continue
        if pool.type != kind:
            raise LookbookError(
                f"The work pool {name} is of the type {pool.type}, and these deployments need {kind}.",
                f"Remove or rename that pool: prefect work-pool delete {name}.",
            )
        done.left.append(f"work pool {name}")
        if pool.base_job_template not in (job_template(kind), job_template(kind, at_once=True)):
            done.notes.append(f"work pool {name} has a job template of its own, which stays")


def job_template(kind: str, *, at_once: bool = False) -> dict[str, Any]:
    """Return the base job template of a kind of infrastructure; of processes `at_once`, as `deploy` says."""
    template: dict[str, Any] = json.loads(job_template_file(kind).read_text(encoding="utf-8"))
    if at_once and kind == "process":
        template["variables"]["properties"]["command"]["default"] = RUN_AT_ONCE
    return template


def register_blocks() -> None:
    """Register the block types that the UI offers; the workspace brings along those that it is made of."""
    from lookbook.blocks import saved_workspace

    saved_workspace.register()


def environment() -> dict[str, str]:
    """Return the values of what prefect.yaml takes from the environment, where it does not say them."""
    accounts = ("LOOKBOOK_INGEST_ACCOUNT", "LOOKBOOK_BATCH_ACCOUNT")  # empty: that of the project's Compute Engine
    values = {name: os.environ.get(name, "") for name in accounts}
    return {"LOOKBOOK_IMAGE": os.environ.get("LOOKBOOK_IMAGE") or "lookbook:latest"} | values


def _check_version(client: SyncPrefectClient) -> None:
    from prefect.client.base import ServerType

    if client.server_type == ServerType.CLOUD:
        return
    version = client.api_version()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_SERVER:
        needed = ".".join(map(str, OLDEST_SERVER))
        raise LookbookError(
            f"The Prefect server at {client.api_url} is of version {version}; Lookbook needs {needed} or newer.",
            "Upgrade that server.",
        )


@contextmanager
def _faults_named() -> Iterator[None]:
    """Say what the server refused, or that it does not answer, in place of a traceback."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        yield
    except PrefectHTTPStatusError as error:
        answer = error.response
        way_out = "Give PREFECT_API_KEY or PREFECT_API_AUTH_STRING." if answer.status_code in {401, 403} else ""
        raise LookbookError(
            f"{_place(str(answer.request.url))} refused {answer.request.method} {answer.request.url.path}: "
            f"{answer.status_code} {answer.text[:500]}",
            way_out,
        ) from error
    except httpx.HTTPError as error:
        raise LookbookError(
            f"The Prefect server does not answer: {type(error).__name__}: {error}.", "See that it runs."
        ) from error


def _place(url: str) -> str:
    import httpx

    parts = httpx.URL(url)
    return f"The Prefect server at {parts.host}:{parts.port or parts.scheme}"
