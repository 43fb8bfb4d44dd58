"""How a table is loaded: where to, in which way, and what becomes of rows that do not fit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from lookbook.tasks.runs.parameters import RejectLimit
from lookbook.tasks.tables.spec.values import (
    ContractMode,
    Fields,
    Length,
    Names,
    Strict,
    TableName,
    Target,
    WriteDisposition,
)


class Incremental(Strict):
    """Only rows that are new since the last load.

    Attributes:
        cursor: a column that grows: a time, a date or a number.
        lag: so far behind the highest value seen rows are taken again, for those that came late; needs merge.
        on_missing: what to do with a row whose cursor is null.
    """

    cursor: str
    lag: Length | None = None
    on_missing: Literal["raise", "include", "exclude"] = "raise"


class SchemaContract(Strict):
    """What happens when rows do not look like the table: the words and their meaning are dlt's.

    Attributes:
        tables: a table that is not there yet.
        columns: a column that the table does not have.
        data_type: a value that the column's type cannot take; evolve: it goes to a column of its own,
            ``price__v_text``.
    """

    tables: Literal["evolve", "freeze"] = "evolve"
    columns: ContractMode = "evolve"
    data_type: ContractMode = "evolve"


def _for_all(value: object) -> object:
    return {"columns": value, "data_type": value} if isinstance(value, str) else value


class LoadSettings(Strict):
    """What a load says of its table.

    Attributes:
        target: the warehouse (schema feeds), the registry's PostgreSQL (schema feeds), or Parquet in the lake.
        write_disposition: append: each batch is in the table once; replace: the table is what this run brings;
            merge: a row takes the place of the one with its key.
        primary_key: the columns that name a row.
        strategy: of merge: upsert keeps one row a key; scd2 keeps its history with valid_from and valid_to.
        dedup_sort: which of several rows with one key counts: the first by these columns, each asc or desc.
        hard_delete: a row in which this column is true (or, if it is no truth value, not null) deletes its key's.
        partition_by: of a table in the lake: folders column=value.
        reject_limit: the load fails, and the table stays, if a larger share of the rows is rejected (0 to 1).
        fields: columns with their types.
    """

    table: TableName
    target: Target = "warehouse"
    write_disposition: WriteDisposition = "append"
    primary_key: Names = ()
    strategy: Literal["upsert", "scd2"] = "upsert"
    dedup_sort: dict[str, Literal["asc", "desc"]] = Field(default_factory=dict)
    hard_delete: str | None = None
    incremental: Incremental | None = None
    schema_contract: Annotated[
        SchemaContract, BeforeValidator(_for_all, json_schema_input_type=SchemaContract | ContractMode)
    ] = SchemaContract()
    partition_by: Names = ()
    reject_limit: RejectLimit = 0.1
    fields: Fields = Field(default_factory=dict)

    @model_validator(mode="after")
    def _goes_together(self) -> LoadSettings:
        merges = self.write_disposition == "merge"
        upserts = merges and self.strategy == "upsert"
        faults = {
            "write_disposition merge needs a primary_key": upserts and not self.primary_key,
            "incremental.lag takes rows again, and needs write_disposition merge": self.incremental is not None
            and self.incremental.lag is not None
            and not merges,
            "incremental brings what is new, and replace would drop the rest": self.incremental is not None
            and self.write_disposition == "replace",
            "strategy scd2 is one of write_disposition merge": self.strategy == "scd2" and not merges,
            "strategy scd2 compares whole tables, and cannot be incremental": merges
            and self.strategy == "scd2"
            and self.incremental is not None,
            "dedup_sort chooses among rows of one key: it needs write_disposition merge with strategy upsert": bool(
                self.dedup_sort
            )
            and not upserts,
            "hard_delete deletes by key: it needs write_disposition merge with strategy upsert": (
                self.hard_delete is not None and not upserts
            ),
            "partition_by is for target lake": bool(self.partition_by) and self.target != "lake",
            "strategy scd2 is for tables in a database, not for target lake": self.strategy == "scd2"
            and self.target == "lake",
        }
        if any(faults.values()):
            raise ValueError("\n".join(fault for fault, holds in faults.items() if holds))
        return self

    @property
    def contract(self) -> SchemaContract:
        """The schema contract."""
        return self.schema_contract
