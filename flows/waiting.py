"""Whether somebody waits for a run."""

from __future__ import annotations

import math
import os

from prefect import runtime


def patience() -> float:
    """Return seconds that a run waits for another one of what it works on.

    A run that a worker started waits as long as the other one renews its lease; somebody who waits is told at once.
    """
    deployed = bool(runtime.deployment.id) or "PREFECT__FLOW_RUN_ID" in os.environ
    return math.inf if deployed else 0.0
