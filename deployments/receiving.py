"""The command ``lookbook receive``. Loaded when it is called: the web framework is slow to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

Config = Annotated[Path, Parameter(help="YAML file: which buckets and prefixes become which datasets.")]
Debug = Annotated[bool, Parameter(negative="", help="Show logs, and tracebacks of errors.")]
Unauthenticated = Annotated[
    bool,
    Parameter(negative="", help="Listen for other machines without a token: something before it checks who posts."),
]
Port = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65535))]


def receive(
    config: Config,
    /,
    *,
    host: str = "127.0.0.1",
    port: Port = 8080,
    unauthenticated: Unauthenticated = False,
    debug: Debug = False,
) -> None:
    """Take Pub/Sub's messages about buckets and announce their changes; CONFIG is a YAML file, see docs/events.md."""
    import uvicorn
    from uvicorn.config import LOGGING_CONFIG

    from lookbook.blocks.hosts import HostCheck, is_loopback
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments import prefect_environment
    from lookbook.deployments.receiver_config import check_guarded, read_config

    found = read_config(config)
    check_guarded(host, found.token, unauthenticated=unauthenticated)
    prefect_environment.prepare_server(read_settings().home, debug=debug)
    from lookbook.deployments.receiver import make_app

    own = {"lookbook": {"handlers": ["default"], "level": "INFO", "propagate": False}}
    logs = LOGGING_CONFIG | {"loggers": LOGGING_CONFIG["loggers"] | own}
    # A token stands in the address that is posted to, and uvicorn's access log would keep it.
    app = HostCheck(make_app(found), allowed=(), anywhere=not is_loopback(host), setting="--host")
    uvicorn.run(app, host=host, port=port, access_log=False, log_config=logs)
