"""What the files of the shipped pipelines say, read without anything of ours."""

from __future__ import annotations

import csv
import json
import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any


def lines(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV that have as many fields as its header."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *rest = csv.reader(file)
        return [dict(zip(header, fields, strict=True)) for fields in rest if len(fields) == len(header)]


def trips(folder: Path, month: str) -> list[tuple[Any, ...]]:
    """The trips of a month, as the SQL and the config of the example mean them."""
    zones = {zone["LocationID"]: zone["Zone"] for zone in lines(folder / "taxi/zones.csv")}
    payments = {"1": "card", "2": "cash", "3": "no charge", "4": "dispute"}
    found = []
    for taxi, prefix in (("yellow", "tpep"), ("green", "lpep")):
        for trip in lines(folder / f"taxi/{taxi}_{month}.csv"):
            if trip["trip_distance"] != "n/a":
                pickup = datetime.fromisoformat(trip[f"{prefix}_pickup_datetime"])
                zone, total = zones.get(trip["PULocationID"]), Decimal(trip["total_amount"])
                found.append((taxi, pickup, zone, payments[trip["payment_type"]], total))
    return found


def objects(folder: Path) -> list[dict[str, Any]]:
    """The JSON objects of all files of events, one after the other."""
    found, decoder = [], json.JSONDecoder()
    for path in sorted((folder / "events").glob("*.json")):
        text, at = path.read_text(encoding="utf-8"), 0
        while at < len(text):
            event, at = decoder.raw_decode(text, at)
            found.append(event)
    return found


def publications(folder: Path) -> dict[str, tuple[str, str | None]]:
    """Title and journal of what has an id, by the id."""
    rows = [(one["id"], one["scientific_title"], one["journal"]) for one in lines(folder / "mentions/trials.csv")]
    rows += [(one["id"], one["title"], one["journal"]) for one in lines(folder / "mentions/publications.csv")]
    text = re.sub(r",\s*\]", "]", (folder / "mentions/publications.json").read_text(encoding="utf-8"))
    rows += [(str(one["id"]), one["title"], one["journal"]) for one in json.loads(text)]
    return {key: (title, journal or None) for key, title, journal in rows if key and title and "\udcc3" not in title}
