"""Which Prefect a command uses: the one that the user configured, or this home's own. Imports no Prefect."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

from lookbook.blocks.embedded import prefect_server
from lookbook.blocks.errors import LookbookError

#: Seconds that a configured server has to answer, at each of the looks, and between them.
LOOKS = (5, 10, 15)
PAUSE = 1


def prepare(home: Path, *, debug: bool) -> None:
    """Set what Prefect reads when it is imported, for a command that runs no flow."""
    if prefect_server.configured_api_url(home) is None:
        os.environ |= prefect_server.environment(home)
        if url := prefect_server.running(home):
            os.environ["PREFECT_API_URL"] = url
    # Prefect says so when it cannot make its home, as below a home that is read-only or no folder: our own errors
    # name the home.
    warnings.filterwarnings("ignore", message="Failed to create the Prefect home", category=UserWarning)
    if not debug:  # faults are told in one or two lines; the whole of them is in the run's log
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


def prepare_server(home: Path, *, debug: bool) -> str:
    """Like `prepare`, for a command that runs flows: start or find a server; returns the URL of its API.

    Raises:
        LookbookError: the configured server does not answer, or this home's own does not start.
    """
    configured = prefect_server.configured_api_url(home)
    prepare(home, debug=debug)
    if configured is None:
        return prefect_server.use(home)
    if "api.prefect.cloud" not in configured and not _answers(configured):
        raise LookbookError(
            f"No Prefect API answers at {configured}, which PREFECT_API_URL or the active profile names.",
            "Start that server, or unset it: Lookbook then uses a server of its own.",
        )
    return configured


def _answers(url: str) -> bool:
    """Return whether a server answers; a busy one may need a while."""
    for seconds in LOOKS:
        if prefect_server.answers(url, seconds):
            return True
        time.sleep(PAUSE)
    return False
