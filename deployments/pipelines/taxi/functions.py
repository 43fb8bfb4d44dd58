"""What SQL would say at more length: columns and values get the names that config.yaml gives them."""

from __future__ import annotations

from typing import Any

import pandas as pd


def tidy(yellow: pd.DataFrame, green: pd.DataFrame, config: dict[str, Any]) -> pd.DataFrame:
    """Return the trips of both kinds of taxi in one table, with the columns that they share."""
    columns, values = config["columns"], config["values"]
    trips = pd.concat([yellow.assign(taxi="yellow"), green.assign(taxi="green")], ignore_index=True)
    for old, new in columns.items():
        if old in trips:
            trips[new] = trips[new].fillna(trips[old]) if new in trips else trips[old]
    for column, names in values.items():
        trips[column] = trips[column].map(names)
    return trips[["taxi", *dict.fromkeys(columns.values()), "_input", "_line"]]
