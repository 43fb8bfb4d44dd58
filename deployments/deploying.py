"""Put the deployments of prefect.yaml on a Prefect server: work pools, block types, deployments, automations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lookbook.blocks.errors import LookbookError
from lookbook.deployments import automations, pipeline_deploying, prefect_deploy
from lookbook.deployments.shipped import job_template_file

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: Work pools by name, one for each kind of infrastructure.
POOLS = {
    "lookbook": "process",
    "lookbook-docker": "docker",
    "lookbook-kubernetes": "kubernetes",
    "lookbook-cloud-run": "cloud-run-v2",
}
#: The oldest server that has all that prefect.yaml asks for.
OLDEST_SERVER = (3, 8)


@dataclass
class Deployed:
    """What a deploy did, by the names of pools, deployments and automations, and what it has to say about them."""

    made: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def deploy() -> Deployed:
    """Make what is missing and update what differs, on the server of PREFECT_API_URL or the active profile.

    Pipelines of the folder of specs are among it; specs that cannot be read are named in the notes.

    Raises:
        LookbookError: the server is too old, does not answer, or refused something.
    """
    done = Deployed()
    with connected() as client:
        make_pools(client, done)
        register_blocks()
        prefect_deploy.deploy_all(client, done, environment())
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


def make_pools(client: SyncPrefectClient, done: Deployed, names: Iterable[str] = POOLS) -> None:
    """Make the work pools that are missing. A pool that is there stays as it is: it may have been edited."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    for name in names:
        kind = POOLS[name]
        template = job_template(kind)
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
        if pool.base_job_template != template:
            done.notes.append(f"work pool {name} has a job template of its own, which stays")


def job_template(kind: str) -> dict[str, Any]:
    """Return the base job template of a kind of infrastructure."""
    template: dict[str, Any] = json.loads(job_template_file(kind).read_text(encoding="utf-8"))
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
