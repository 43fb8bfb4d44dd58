"""A star of trips, as loaded tables and as models, for tests of every warehouse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlglot

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.models import FeedModel, Reference
from tests.support.warehouses import RIGS, Rig

ZONES = pd.DataFrame(
    {"zone_id": [1, 2, 3, 4], "borough": ["Queens", "Bronx", "Bronx", "O'Hare"], "zone": ["JFK", "Park", "Zoo", "ü"]}
)

DIM_ZONE = FeedModel(
    "dim_zone",
    "SELECT zone_id, borough, zone FROM feeds.zones",
    key=("zone_id",),
    surrogate_key="zone_key",
    unique=(("borough", "zone"),),
    not_null=("borough",),
)
DIM_VENDOR = FeedModel(
    "dim_vendor",
    "SELECT DISTINCT vendor FROM feeds.trips WHERE vendor IS NOT NULL",
    key=("vendor",),
    surrogate_key="vendor_key",
    accepted_values={"vendor": ("green", "yellow")},
)
DIM_DATE = FeedModel(
    "dim_date",
    "SELECT DISTINCT day, EXTRACT(year FROM day) AS year FROM feeds.trips",
    key=("day",),
    surrogate_key="date_key",
)
FACT_TRIP = FeedModel(
    "fact_trip",
    """
    WITH trips AS (SELECT * FROM feeds.trips WHERE fare >= 0)
    SELECT trips.trip_id, trips.day, dim_date.date_key, z.zone_key, dim_vendor.vendor_key, trips.fare
    FROM trips
    JOIN dim_date ON dim_date.day = trips.day
    LEFT JOIN dim_zone AS z ON z.zone_id = trips.zone_id
    LEFT JOIN dim_vendor ON dim_vendor.vendor = trips.vendor -- of the licence
    """,
    key=("trip_id",),
    partition_by="day",
    references=(Reference("zone_key", "dim_zone", "zone_key"), Reference("vendor_key", "dim_vendor", "vendor_key")),
)
STAR = [DIM_ZONE, DIM_VENDOR, DIM_DATE, FACT_TRIP]


def trips(count: int = 60, seed: int = 0) -> pd.DataFrame:
    """Trips of a few days, some of no zone, of no vendor, or of a negative fare."""
    chance = np.random.default_rng(seed)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(chance.integers(0, 5, count), "D")
    return pd.DataFrame(
        {
            "trip_id": range(count),
            "day": days.date,
            "zone_id": chance.choice([1, 2, 3], count),
            "vendor": pd.Series(chance.choice(["green", "yellow", ""], count)).replace("", None),
            "fare": chance.integers(-4, 40, count) / 4,
        }
    )


def changed(name: str, **values: Any) -> list[FeedModel]:
    """The star with another model of this name."""
    return [replace(model, **values) if model.name == name else model for model in STAR]


@contextmanager
def loaded_rig(kind: str, folder: Path, **tables: pd.DataFrame) -> Iterator[Rig]:
    """A warehouse with the loaded tables of the star, or others of these names."""
    with RIGS[kind](folder) as rig:
        if kind == "duckdb":
            rig.warehouse.path.parent.mkdir(parents=True, exist_ok=True)  # type: ignore[attr-defined]
        rig.change("CREATE SCHEMA feeds")
        for name, frame in ({"zones": ZONES, "trips": trips()} | tables).items():
            put(rig, name, frame)
        yield rig


def put(rig: Rig, name: str, frame: pd.DataFrame) -> None:
    """Put a table of pipelines there, in place of what stands there."""
    rows = [", ".join(f"{_literal(v)} AS {c}" for c, v in zip(frame, row, strict=True)) for row in _rows(frame)]
    create = f"CREATE TABLE feeds.{name} AS " + " UNION ALL ".join(f"SELECT {row}" for row in rows)
    duckdb = isinstance(rig.warehouse, DuckDBWarehouse)
    rig.change(f"DROP TABLE IF EXISTS feeds.{name}")
    rig.change(create if duckdb else sqlglot.transpile(create, read="duckdb", write="bigquery")[0])


def _rows(frame: pd.DataFrame) -> Sequence[tuple[Any, ...]]:
    return list(frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None))


def _literal(value: Any) -> str:
    if value is None:
        return "CAST(NULL AS VARCHAR)"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, int | np.integer):
        return str(value)
    return f"CAST({value!r} AS DOUBLE)" if isinstance(value, float) else f"DATE '{value}'"
