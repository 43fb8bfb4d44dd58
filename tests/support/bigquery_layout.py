"""How a table is to be laid out, by its DDL: partitions, clusters, labels, expiry."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlglot import exp

from tests.support.bigquery_catalog import Refused

_MOST_CLUSTERED = 4


def layout(create: exp.Expr) -> dict[str, Any]:
    """What REST tells of a table that this CREATE makes."""
    found: dict[str, Any] = {}
    properties = create.args.get("properties")
    for one in properties.expressions if properties else ():
        if isinstance(one, exp.PartitionedByProperty):
            found["timePartitioning"] = _partitions(one.this)
        elif isinstance(one, exp.ClusterProperty):
            found["clustering"] = {"fields": [column.name for column in one.expressions]}
        elif isinstance(one, exp.Property):
            found |= _option(one.name, one.args["value"])
    if len(found.get("clustering", {}).get("fields", [])) > _MOST_CLUSTERED:
        raise Refused(400, "invalidQuery", f"Too many clustering fields; at most {_MOST_CLUSTERED} are allowed")
    return found


def _partitions(by: exp.Expr) -> dict[str, str]:
    """`DATE(column)`, a column of DATE, or `TIMESTAMP_TRUNC(column, DAY)`."""
    column = by.find(exp.Column) or by.find(exp.Identifier)
    if column is None:
        raise Refused(400, "invalidQuery", f"PARTITION BY expression must name a column: {by.sql('bigquery')}")
    unit = by.args.get("unit")
    return {"type": unit.name.upper() if unit is not None else "DAY", "field": column.name}


def _option(name: str, value: exp.Expr) -> dict[str, Any]:
    if name == "expiration_timestamp":
        text = value.find(exp.Literal)
        moment = dt.datetime.fromisoformat(text.name if text is not None else "")
        return {"expirationTime": str(int(moment.timestamp() * 1000))}
    if name == "labels":
        pairs = [[part.name for part in pair.expressions] for pair in value.expressions]
        return {"labels": dict(pairs)}
    if name in {"description", "friendly_name"}:
        return {{"description": "description", "friendly_name": "friendlyName"}[name]: value.name}
    raise Refused(400, "invalidQuery", f"Unknown option: {name}")
