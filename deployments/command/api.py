"""The commands of services: the API and its keys, the receiver of notifications. What is slow is imported inside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter, validators
from pydantic import Field

from lookbook.deployments.command.options import Debug, Json, with_checked_options
from lookbook.tasks.runs.parameters import WorkspaceName

if TYPE_CHECKING:
    from lookbook.blocks.registry import Registry

#: Prefect's own is 4200.
PORT = 4201

ApiPort = Annotated[int, Field(ge=1, le=65535, description="Where the API listens.")]
KeyName = Annotated[str, Parameter(help="Name of the key, for whoever lists or revokes it.")]

api_key = App(name="api-key", help="Keys of the API: made, listed, revoked. Before the first one it is open here.")


@with_checked_options
def api(
    *,
    host: Annotated[str, Parameter(help="Where it listens. For other machines it needs a key.")] = "127.0.0.1",
    port: ApiPort = PORT,
    workspace: WorkspaceName = "local",
    source_root: Annotated[
        tuple[str, ...], Parameter(help="Folder of the workers whose contents may be ingested; may be repeated.")
    ] = (),
    debug: Debug = False,
) -> None:
    """Serve the HTTP API until Ctrl-C; it submits runs to the Prefect of PREFECT_API_URL or the active profile."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.api.config import read_config
    from lookbook.deployments.server import environment

    given: dict[str, object] = {"host": host}
    config = read_config(**given | ({"source_roots": source_root} if source_root else {}))
    environment.prepare_server(read_settings().home, debug=debug)
    from lookbook.deployments.api.server import serve

    serve(workspace, config, port)


@api_key.command
@with_checked_options
def create(
    name: KeyName,
    /,
    *,
    scope: Annotated[str, Parameter(help="What it may, with commas between: read, export, ingest.")] = "read",
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a key and print it, this once. From the first one on the API asks for keys, on this machine as well."""
    from lookbook.deployments.command.output import print_json

    scopes = [part.strip() for part in scope.split(",") if part.strip()]
    registry = _registry(workspace, debug)
    from lookbook.deployments.api.access import create_key

    key = create_key(registry, name, scopes)
    print_json({"name": name, "scopes": scopes, "key": key}) if json else sys.stdout.write(key + "\n")


@api_key.command(name="list")
@with_checked_options
def list_(*, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False) -> None:
    """List the keys; what they are nobody can tell any more."""
    from lookbook.deployments.command.output import print_json, print_rows

    registry = _registry(workspace, debug)
    from lookbook.deployments.api.access import list_keys

    rows = [
        {
            "name": key.name,
            "scopes": ",".join(sorted(key.scopes)),
            "created_at": key.created_at.isoformat(timespec="seconds"),
            "revoked_at": key.revoked_at.isoformat(timespec="seconds") if key.revoked_at else None,
        }
        for key in list_keys(registry)
    ]
    if json:
        print_json(rows)
    else:
        names = ["name", "scopes", "created_at", "revoked_at"]
        print_rows(names, ([row[name] for name in names] for row in rows), "No keys yet.")


@api_key.command
@with_checked_options
def revoke(name: KeyName, /, *, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False) -> None:
    """Revoke a key: seconds later it opens nothing any more."""
    from lookbook.deployments.command.output import print_json

    registry = _registry(workspace, debug)
    from lookbook.deployments.api.access import revoke_key

    revoke_key(registry, name)
    print_json({"revoked": name}) if json else sys.stdout.write(f"{name} is revoked.\n")


def _registry(workspace: str, debug: bool) -> Registry:
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.server import environment

    environment.prepare(read_settings().home, debug=debug)
    from lookbook.blocks.workspace import load_workspace

    return load_workspace(workspace).registry


Config = Annotated[Path, Parameter(help="YAML file: which buckets and prefixes become which datasets.")]
ReceiverDebug = Annotated[bool, Parameter(negative="", help="Show logs, and tracebacks of errors.")]
Unauthenticated = Annotated[
    bool,
    Parameter(negative="", help="Listen for other machines without a token: something before it checks who posts."),
]
ReceiverPort = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65535))]


def receive(
    config: Config,
    /,
    *,
    host: str = "127.0.0.1",
    port: ReceiverPort = 8080,
    unauthenticated: Unauthenticated = False,
    debug: ReceiverDebug = False,
) -> None:
    """Take Pub/Sub's messages about buckets and announce their changes; CONFIG is a YAML file, see docs/events.md."""
    import uvicorn
    from uvicorn.config import LOGGING_CONFIG

    from lookbook.blocks.hosts import HostCheck, is_loopback
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.receiver import check_guarded, read_config
    from lookbook.deployments.server import environment

    found = read_config(config)
    check_guarded(host, found.token, unauthenticated=unauthenticated)
    environment.prepare_server(read_settings().home, debug=debug)
    from lookbook.deployments.receiver import make_app

    own = {"lookbook": {"handlers": ["default"], "level": "INFO", "propagate": False}}
    logs = LOGGING_CONFIG | {"loggers": LOGGING_CONFIG["loggers"] | own}
    # A token stands in the address that is posted to, and uvicorn's access log would keep it.
    app = HostCheck(make_app(found), allowed=(), anywhere=not is_loopback(host), setting="--host")
    uvicorn.run(app, host=host, port=port, access_log=False, log_config=logs)
