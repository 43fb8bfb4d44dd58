"""The API as a server of this process."""

from __future__ import annotations

import logging
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from lookbook.blocks.errors import UsageError
from lookbook.blocks.workspace import load_workspace
from lookbook.deployments.api.access import list_keys
from lookbook.deployments.api.app import make_app
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.runs import PrefectRuns

#: Connections that may wait, and seconds that an idle one stays open and that requests under way have at the end.
BACKLOG = 2048
IDLE_SECONDS = 30
ENDING_SECONDS = 10
#: The head of a request is no larger.
HEAD_BYTES = 256 * 1024


def serve(workspace_name: str, config: ApiConfig, port: int) -> None:
    """Serve until a signal.

    Raises:
        UsageError: other machines could reach it, and there is no key; or the port is taken.
    """
    workspace = load_workspace(workspace_name)
    if not config.is_local and not any(key.revoked_at is None for key in list_keys(workspace.registry)):
        raise UsageError(
            f"--host {config.host}: without a key anybody who reaches it could read and start runs.",
            'Make one first: "lookbook api-key create NAME --scope read,export".',
        )
    app = make_app(workspace, workspace_name, config, PrefectRuns())
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=config.host,
            port=port,
            log_config=logs(),
            access_log=False,  # the app's own has request ids, and no queries
            server_header=False,
            proxy_headers=False,  # anybody could say to be anybody
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=ENDING_SECONDS,
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
    )
    try:
        server.run()
    except SystemExit as error:
        raise UsageError(f"--port {port}: it cannot be listened on.", "Give another one.") from error


def logs() -> dict[str, Any]:
    """Uvicorn's configuration of logs, with a line of our own for each request."""
    own = {"lookbook": {"handlers": ["default"], "level": logging.INFO, "propagate": False}}
    return LOGGING_CONFIG | {"loggers": LOGGING_CONFIG["loggers"] | own}
