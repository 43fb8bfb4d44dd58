"""The shipped pipelines as deployments of this checkout: a worker runs them; their tables hold what the files say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.command import lookbook_json
from tests.support.example_readings import objects, publications, trips
from tests.support.example_runs import SHIPPED
from tests.support.prefect_processes import Server

pytestmark = [pytest.mark.integration, pytest.mark.full]


def rows(server: Server, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lookbook_json(server.home, "query", sql, PREFECT_API_URL=server.url)
    return found


def test_taxi_events_and_the_orchestration_run_by_deployment(prefect: Server) -> None:
    started = {
        "taxi": prefect.start_run("pipeline/taxi", date="2026-01-02"),
        "events": prefect.start_run("pipeline/events"),
        "sample": prefect.start_run("orchestrate/sample"),
    }
    for name, run_id in started.items():
        run = prefect.finished(run_id)
        assert run["state_type"] == "COMPLETED", (name, prefect.logs(run_id))

    (taxi,) = rows(prefect, "SELECT count(*) AS trips FROM feeds.trips")
    (facts,) = rows(prefect, "SELECT sum(trips) AS trips FROM feeds.fact_trip")
    assert taxi["trips"] == facts["trips"] == len(trips(SHIPPED, "2026-01"))
    named = [event["event"] for event in objects(SHIPPED) if event["event"]]
    for event in set(named):
        (table,) = rows(prefect, f"SELECT count(*) AS n FROM feeds.{event.lower().replace(' ', '_')}")
        assert table["n"] == named.count(event)
    # Steps of the orchestration: images first, then their prices, then a graph.
    (priced,) = rows(prefect, "SELECT count(*) AS n FROM feeds.product_price WHERE dataset = 'sample'")
    assert priced["n"] > 0
    (papers,) = rows(prefect, "SELECT count(*) AS n FROM feeds.publications")
    assert papers["n"] == len(publications(SHIPPED))
    steps = [run["name"].split("-20")[0] for run in prefect.runs("pipeline")]
    assert steps.count("pipeline-mentions") == steps.count("pipeline-prices") == 1
