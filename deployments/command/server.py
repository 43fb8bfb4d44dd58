"""The commands that run servers or talk to one: deploy, serve."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from lookbook.blocks.embedded import prefect_server
from lookbook.deployments.command.options import Debug, Json

if TYPE_CHECKING:
    from lookbook.deployments.server.applying import Deployed
    from lookbook.deployments.server.serving import Served

Port = Annotated[int, Field(ge=1, le=65535, description="Where Prefect listens; by default 4200, or any free port.")]

NoSignIn = Annotated[
    bool, Parameter(negative="", help="Let every user of this machine use Prefect's server, without a key.")
]
UNGUARDED = "every user of this machine can run commands as you, and read the secrets of your blocks."
ApiPort = Annotated[int, Field(ge=1, le=65535, description="Where the API listens; by default 4201, or any free port.")]


def deploy(*, json: Json = False, debug: Debug = False) -> int:
    """Put work pools, block types and deployments on the Prefect server of PREFECT_API_URL or the active profile."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import progress
    from lookbook.deployments.command.output import print_json
    from lookbook.deployments.server import deploying, environment

    home = read_settings().home
    with progress.shown() as say:
        say("looking for Prefect's server")
        api = environment.prepare_server(home, debug=debug)
        say(f"deploying to {api}")
        done = deploying.deploy()
    print_json({"server": api} | asdict(done)) if json else _print_deployed(done, api, home)
    return 1 if done.broken else 0


def serve(
    *,
    port: Port | None = None,
    api_port: ApiPort | None = None,
    no_sign_in: NoSignIn = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run everything on this machine until Ctrl-C: Prefect's server and UI, a worker, all deployments, the API."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import progress
    from lookbook.deployments.command.output import print_json, printable
    from lookbook.deployments.server import serving

    with ExitStack() as starting:
        show = starting.enter_context(progress.shown())
        up = False

        def say(text: str) -> None:
            sys.stderr.write(f"{printable(text)}\n") if up else show(text)

        def announce(served: Served) -> None:
            nonlocal up
            up = True
            starting.close()
            print_json(
                {name: value and str(value) for name, value in asdict(served).items()}
            ) if json else _print_served(served)
            sys.stdout.flush()

        home = read_settings().home
        if no_sign_in:
            sys.stderr.write(f"Warning: {UNGUARDED}\n")
        serving.serve(*(home, port), debug=debug, say=say, announce=announce, api_port=api_port, sign_in=not no_sign_in)


def _print_deployed(done: Deployed, api: str, home: Path) -> None:
    print_changes(done)
    worker = f"LOOKBOOK_HOME={quote(str(home))} {_prefect(api, home)} worker start --pool lookbook"
    sys.stdout.write(f"To run them on this machine: {worker}\n")


def print_changes(done: Deployed) -> None:
    """Say what a deploy did."""
    lists = {
        "made": done.made,
        "changed": done.changed,
        "left as they were": done.left,
        "removed": done.removed,
        "not deployed": done.broken,
    }
    for what, names in lists.items():
        if names:
            sys.stdout.write(f"{what}: {', '.join(names)}\n")
    for note in done.notes:
        sys.stdout.write(f"note: {note}\n")


def _print_served(served: Served) -> None:
    run = f"{_prefect(served.api, served.home)} deployment run ingest/local"
    lines = {
        "UI": served.sign_in or served.ui,
        "start a run": f"{served.ui}/deployments, or",
        "": f"{run} -p source=sample://500 -p dataset=demo",
        "page": f"{served.service}/",
        "API": f"{served.service}/api/v1/docs",
        "workspace": f"local, in {served.home}",
        "inbox": str(served.inbox),
        "logs": f"{served.logs / 'server.log'}, {served.logs / 'worker.log'}, {served.logs / 'api.log'}",
    }
    sys.stdout.write("Lookbook serves; Ctrl-C ends it all.\n")
    for name, text in lines.items():
        sys.stdout.write(f"  {name:<12}  {text}\n")


def _prefect(api: str, home: Path) -> str:
    """Prefect's command beside this Python with what leads it to a server, as it is typed from here in a shell.

    The profile of this home's own server lies in the home, with its key.
    """
    own = prefect_server.running(home) == api
    where = f"PREFECT_HOME={quote(_short(home / 'prefect'))}" if own else f"PREFECT_API_URL={quote(api)}"
    return f"{where} {quote(_short(Path(sys.executable).with_name('prefect')))}"


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
