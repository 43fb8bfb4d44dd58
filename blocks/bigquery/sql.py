"""SQL for BigQuery, made of a snapshot's tables and models: text only, nothing here asks the service.

A snapshot's files are first loaded as they stand into tables of their own (landing tables). A `Relation` is what a
table of staging is to hold of this snapshot: a SELECT on landing tables, on which the models build by their bare
names. Loading writes relations to staging; comparing holds them against it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lookbook.blocks.sql_text import names_read, needed, read_select, said
from lookbook.blocks.sql_types import DATETIME, TYPES
from lookbook.blocks.warehouse import STANDING_COLUMNS, TAGS, SnapshotLoad, StarModel, free_names

#: A snapshot's times are in UTC, and say so in BigQuery.
_TYPES = {type_.duckdb: type_.bigquery for type_ in TYPES} | {DATETIME: "TIMESTAMP"}
DUCKDB_TYPES = {type_.bigquery: type_.duckdb for type_ in TYPES}
#: What tables' schemas say, with the names of SQL.
OLD_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}

#: What every row of staging carries. `_version` names one attempt at one load: by it a reader's view finds its rows.
STAGING_TAGS: dict[str, str] = {name: _TYPES[type_] for name, type_ in TAGS.items()} | {"_version": "INT64"}

#: Tables are partitioned by the day of loading. Clusters: BigQuery takes four columns, none of them a float or a list.
PARTITION_COLUMN = "_loaded_at"
_CLUSTERED = ("dataset", "_version")
_MOST_CLUSTERED = 4
_CLUSTERABLE = frozenset({"STRING", "INT64", "BOOL", "DATE", "DATETIME", "TIMESTAMP", "NUMERIC"})


@dataclass(frozen=True)
class Relation:
    """What a staging table is to hold of a snapshot.

    Attributes:
        select: SELECT that gives its rows; it names other relations by their bare names.
        columns: names and types of what it gives, but for the tags.
        reads: the relations that `select` names.
    """

    select: str
    columns: Mapping[str, str]
    reads: frozenset[str] = frozenset()


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """Return a text as an SQL literal: JSON's escapes are BigQuery's, too."""
    return json.dumps(text, ensure_ascii=False)


def version_of(
    load: SnapshotLoad, models: Sequence[StarModel], staging: str, replaces: int | None, attempt: int
) -> int:
    """Return a number for an attempt at a load: the same for the same load until it has become current.

    Args:
        load: the load.
        models: what is made of it.
        staging: the BigQuery dataset that it goes into.
        replaces: the version that is current now; once the load is done, the next one gets another number.
        attempt: counts attempts whose tables are gone.
    """
    identity = [load.dataset, load.snapshot_id, load.load_id, sorted(load.tables), [m.sql for m in models]]
    text = json.dumps([*identity, staging, replaces, attempt])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1  # INT64 is signed


def wider(one: str, other: str) -> str:
    """Return the type that holds values of both: FLOAT64 for numbers, else STRING."""
    if one == other:
        return one
    return "FLOAT64" if {one, other} == {"INT64", "FLOAT64"} else "STRING"


def converted(value: str, before: str, after: str) -> str:
    """`value` in another type. As text, 2012.0 is 2012, and lists and bytes are as JSON has them."""
    if before == after:
        return value
    if after == "STRING" and before == "FLOAT64":
        return f"REGEXP_REPLACE(CAST({value} AS STRING), r'\\.0$', '')"
    if after == "STRING" and (before == "BYTES" or before.startswith(("ARRAY", "STRUCT"))):
        return f"TO_JSON_STRING({value})"
    return f"CAST({value} AS {after})"


def wanted_columns(table: str, landed: Mapping[str, str]) -> dict[str, str]:
    """Return names and types of the columns that staging needs for a file: its own, and the constant ones."""
    own = dict(zip(free_names(list(landed), STAGING_TAGS), landed.values(), strict=True))
    present = {name.lower() for name in own}
    standing = STANDING_COLUMNS.get(table, {})
    return own | {name: _TYPES[type_] for name, type_ in standing.items() if name.lower() not in present}


def landed_relation(
    dataset: str, table: str, source: str, landed: Mapping[str, str], shape: Mapping[str, str]
) -> Relation:
    """Return a loaded file in the shape of its staging table.

    Args:
        dataset: whose snapshot it is.
        table: its name in staging.
        source: the landing table, quoted.
        landed: names and types of the landing table's columns.
        shape: names and types of the staging table's columns, without tags.
    """
    present = {name.lower() for name in shape}
    missing = {n: t for n, t in wanted_columns(table, landed).items() if n.lower() not in present}
    names = dict(zip((n.lower() for n in free_names(list(landed), STAGING_TAGS)), landed, strict=True))
    columns = {**shape, **missing}
    values = [f"{literal(dataset)} AS dataset"]
    for name, type_ in columns.items():
        own = names.get(name.lower())
        value = converted(quoted(own), landed[own], type_) if own is not None else f"CAST(NULL AS {type_})"
        values.append(f"{value} AS {quoted(name)}")
    return Relation(f"SELECT {', '.join(values)} FROM {source}", columns)  # noqa: S608 - quoted


def model_relation(model: StarModel, columns: Mapping[str, str]) -> Relation:
    """Return a model as a relation; its columns are known once the service was asked (a dry run tells them)."""
    return Relation(said(read_select(model.sql), "bigquery"), columns, frozenset(names_read(model.sql)))


def with_relations(select: str, names: Iterable[str], relations: Mapping[str, Relation]) -> str:
    """Return a SELECT that may name relations, with the definitions of those `names` and of all that they read."""
    wanted = needed(list(names), {name: relation.reads for name, relation in relations.items()})
    parts = [f"{quoted(name)} AS ({relations[name].select})" for name in relations if name in wanted]
    return f"WITH {', '.join(parts)} {select}"


def insertion(
    target: str, name: str, relations: Mapping[str, Relation], shape: Mapping[str, str], tags: Sequence[str]
) -> str:
    """INSERT of a relation's rows into its staging table; `tags` are the values of `STAGING_TAGS` as SQL."""
    columns = relations[name].columns
    kinds = {column.lower(): type_ for column, type_ in shape.items()}
    values = [converted(quoted(column), type_, kinds[column.lower()]) for column, type_ in columns.items()]
    source = with_relations(f"SELECT * FROM {quoted(name)}", [name], relations)  # noqa: S608 - quoted
    names = ", ".join([*STAGING_TAGS, *map(quoted, columns)])
    return f"INSERT INTO {target} ({names}) SELECT {', '.join([*tags, *values])} FROM ({source})"  # noqa: S608 - quoted


def tag_values(load: SnapshotLoad, version: int, moment: datetime) -> list[str]:
    """Return the values of `STAGING_TAGS` as SQL."""
    texts = [literal(text) for text in (load.dataset, load.snapshot_id, load.load_id)]
    return [*texts, _timestamp(moment), str(version)]


def _timestamp(moment: datetime) -> str:
    return f"TIMESTAMP {literal(moment.isoformat(sep=' ', timespec='microseconds'))}"


def clustering(columns: Mapping[str, str], key: Sequence[str]) -> list[str]:
    """Return the columns that a staging table is clustered by: dataset, version, then those of its key."""
    kinds = {name.lower(): (name, type_) for name, type_ in columns.items()}
    own = [kinds[name.lower()] for name in key if name.lower() in kinds]
    return [*_CLUSTERED, *(name for name, type_ in own if type_ in _CLUSTERABLE)][:_MOST_CLUSTERED]


def rewriting(
    target: str, changed: Mapping[str, tuple[str, str]], clusters: Sequence[str], labels: Mapping[str, str]
) -> str:
    """Return the statement that makes a table anew with wider columns: BigQuery turns none into text in place.

    Args:
        target: the table, quoted.
        changed: for each column that changes, its type before and after.
        clusters: the columns that it is clustered by.
        labels: what it is labelled with.
    """
    replaced = [f"{converted(quoted(n), *types)} AS {quoted(n)}" for n, types in changed.items()]
    pairs = ", ".join(f"({literal(name)}, {literal(value)})" for name, value in labels.items())
    return (
        f"CREATE OR REPLACE TABLE {target} PARTITION BY TIMESTAMP_TRUNC({PARTITION_COLUMN}, DAY)"  # noqa: S608 - quoted
        f" CLUSTER BY {', '.join(map(quoted, clusters))} OPTIONS (labels = [{pairs}])"
        f" AS SELECT * REPLACE ({', '.join(replaced)}) FROM {target}"
    )


def view_query(source: str, current: str, columns: Iterable[str]) -> str:
    """Return what readers see of a staging table: the rows of the versions that are current."""
    shown = ", ".join(f"t.{quoted(name)}" for name in ["dataset", *columns, "snapshot_id", "_load_id", "_loaded_at"])
    return f"SELECT {shown} FROM {source} AS t JOIN {current} AS c ON t._version = c._version"  # noqa: S608 - quoted


def flipping(current: str, tags: Sequence[str]) -> str:
    """Return the one statement that makes a snapshot current: readers see all of its tables from here on."""
    names = list(STAGING_TAGS)
    given = ", ".join(f"{value} AS {name}" for name, value in zip(names, tags, strict=True))
    sets = ", ".join(f"{name} = s.{name}" for name in names if name != "dataset")
    return (
        f"MERGE INTO {current} AS c USING (SELECT {given}) AS s ON c.dataset = s.dataset"  # noqa: S608 - quoted
        f" WHEN MATCHED THEN UPDATE SET {sets}"
        f" WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) VALUES ({', '.join(f's.{name}' for name in names)})"
    )


def removing_all(target: str, dataset: str) -> str:
    """Return the DELETE of all rows of a dataset."""
    return f"DELETE FROM {target} WHERE dataset = {literal(dataset)}"  # noqa: S608 - quoted


def removing(target: str, dataset: str, version: int, moment: datetime) -> str:
    """DELETE of what no view shows once `version` is current: the former snapshot's rows, and those of killed loads.

    The rows of a load that began after `moment` stay: the statement may be queued behind that load.
    """
    former = f"_version != {version} AND _loaded_at <= {_timestamp(moment)}"
    return f"DELETE FROM {target} WHERE dataset = {literal(dataset)} AND (_version IS NULL OR ({former}))"  # noqa: S608 - quoted
