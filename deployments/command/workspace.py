"""The commands ``lookbook workspace …``. What is slow is imported inside: help and usage errors come at once."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter

from lookbook.deployments.command.options import Debug, Json, with_checked_options
from lookbook.tasks.runs.parameters import WorkspaceName

workspace = App(name="workspace", help="Save workspaces, for --workspace NAME and for deployments.")


@workspace.command
@with_checked_options
def save(
    name: WorkspaceName,
    /,
    *,
    lake: Annotated[str | None, Parameter(help="A folder, or gs://BUCKET/PREFIX. By default as in local.")] = None,
    warehouse: Annotated[
        str | None, Parameter(help="A DuckDB file, or bigquery://PROJECT/LOCATION. By default as in local.")
    ] = None,
    credentials: Annotated[
        str | None, Parameter(help="GCP Credentials block for both; by default those of whoever runs.")
    ] = None,
    connector: Annotated[
        str | None, Parameter(help="Async SQLAlchemy Connector block for the registry, instead of its URL.")
    ] = None,
    kaggle: Annotated[str | None, Parameter(help="Lookbook Kaggle Credentials block.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Save a workspace as blocks on the Prefect server, in place of one of that NAME.

    The registry is the PostgreSQL of LOOKBOOK_REGISTRY_URL (a password has no place among arguments, which everybody
    on the machine can read), or the embedded one.
    """
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command.output import print_json, printable
    from lookbook.deployments.server import environment

    home = read_settings().home
    environment.prepare_server(home, debug=debug)
    from lookbook.deployments.command import workspaces

    place = workspaces.assemble(home, lake, warehouse, credentials, connector, kaggle)
    notes = workspaces.notes(home, place)
    saved = workspaces.save(name, place)
    if json:
        print_json(saved)
    else:
        sys.stdout.write("".join(printable(f"{part}: {what}") + "\n" for part, what in saved.items()))
        sys.stdout.write("".join(printable(note) + "\n" for note in notes))
