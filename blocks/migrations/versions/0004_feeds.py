"""Feeds: what their extracts know, what was taken, their runs, loads and rejects; and the catalogue of all tables."""

from alembic import op

revision = "0004"
down_revision = "0003"

# As in the books: an index holds no name of several thousand bytes.
STATEMENTS = """
CREATE TABLE feed_states (
    pipeline text NOT NULL,
    task text NOT NULL,
    state jsonb NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, task)
);
CREATE TABLE feed_inputs (
    pipeline text NOT NULL,
    task text NOT NULL,
    input text NOT NULL,
    fingerprint text NOT NULL,
    modified_at timestamptz,
    taken_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ON feed_inputs (pipeline, task, md5(input));
CREATE TABLE feed_runs (
    pipeline text NOT NULL,
    logical_date timestamptz NOT NULL,
    params text NOT NULL,
    run_id text NOT NULL,
    owner text NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'completed', 'skipped', 'failed')),
    generation integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    summary jsonb,
    error text,
    PRIMARY KEY (pipeline, logical_date, params)
);
CREATE TABLE feed_loads (
    load_id text NOT NULL,
    place text NOT NULL,
    table_name text NOT NULL,
    pipeline text NOT NULL,
    task text NOT NULL,
    run_id text NOT NULL,
    rows bigint NOT NULL,
    rejected bigint NOT NULL,
    inputs jsonb NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (load_id, place, table_name)
);
CREATE TABLE feed_rejects (
    reject_id text NOT NULL,
    pipeline text NOT NULL,
    task text NOT NULL,
    place text NOT NULL,
    table_name text NOT NULL,
    load_id text NOT NULL,
    rule text NOT NULL,
    message text NOT NULL,
    raw text NOT NULL,
    input text,
    line bigint,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, task, reject_id)
);
CREATE INDEX ON feed_rejects (load_id);
CREATE TABLE tables (
    place text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    columns jsonb NOT NULL,
    partitions jsonb NOT NULL,
    rows bigint,
    bytes bigint,
    fresh_at timestamptz NOT NULL,
    run_id text,
    load_id text,
    inputs jsonb NOT NULL,
    PRIMARY KEY (place, name)
)
"""


def upgrade() -> None:
    """Create the tables."""
    for statement in STATEMENTS.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """Drop them: states and inputs are lost, so that every feed is extracted once more."""
    op.execute("DROP TABLE feed_states, feed_inputs, feed_runs, feed_loads, feed_rejects, tables")
