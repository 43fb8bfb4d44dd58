"""The API: its keys (hashes of them), and the runs that it submitted, each with the key that it belongs to."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = """
CREATE TABLE api_keys (
    key_id text PRIMARY KEY,
    name text NOT NULL,
    hash text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE UNIQUE INDEX ON api_keys (name) WHERE revoked_at IS NULL;
CREATE TABLE api_runs (
    id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('export', 'ingest')),
    key_id text NOT NULL,
    idempotency_key text,
    request_digest text NOT NULL,
    request json NOT NULL,
    snapshot_id text,
    export_id text,
    run_id text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ON api_runs (key_id, kind, idempotency_key);
CREATE INDEX ON api_runs (key_id, kind, created_at)
"""


def upgrade() -> None:
    """Create the tables."""
    for statement in STATEMENTS.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """Drop them: keys are lost, runs and what they made stay."""
    for name in ("api_keys", "api_runs"):
        op.execute(f"DROP TABLE {name}")
