"""The books: runs, snapshots, assets, products, rejects, loads, leases."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
CREATE TABLE runs (
    run_id text PRIMARY KEY,
    dataset text NOT NULL,
    source text NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'killed')),
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    owner text NOT NULL,
    snapshot_id text,
    published boolean NOT NULL DEFAULT false,
    summary jsonb,
    error text
);
CREATE INDEX ON runs (dataset, started_at);
CREATE TABLE snapshots (
    dataset text NOT NULL,
    snapshot_id text NOT NULL,
    digest text NOT NULL,
    created_at timestamptz NOT NULL,
    images bigint NOT NULL,
    products bigint NOT NULL,
    PRIMARY KEY (dataset, snapshot_id)
);
CREATE TABLE current_snapshots (
    dataset text PRIMARY KEY,
    snapshot_id text NOT NULL
);
CREATE TABLE assets (
    dataset text NOT NULL,
    key text NOT NULL,
    outcome text NOT NULL,
    duplicate_of text,
    rule text,
    sha256 text,
    bytes bigint,
    original_key text,
    product_key text,
    orphan boolean NOT NULL
);
-- An index holds no name of several thousand bytes, as archives may: their digests take its place.
CREATE UNIQUE INDEX ON assets (dataset, md5(key));
CREATE INDEX ON assets (sha256);
CREATE TABLE products (
    dataset text NOT NULL,
    file text NOT NULL,
    line bigint NOT NULL,
    product_key text NOT NULL,
    outcome text NOT NULL,
    missing_reason text,
    image_key text
);
CREATE UNIQUE INDEX ON products (dataset, md5(file), line);
CREATE TABLE rejects (
    dataset text NOT NULL,
    reject_id text NOT NULL,
    kind text NOT NULL,
    locator text NOT NULL,
    rule text NOT NULL,
    message text NOT NULL,
    raw text NOT NULL,
    PRIMARY KEY (dataset, reject_id)
);
CREATE TABLE loads (
    load_id text PRIMARY KEY,
    dataset text NOT NULL,
    snapshot_id text NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    rows jsonb NOT NULL
);
CREATE TABLE leases (
    name text PRIMARY KEY,
    owner text NOT NULL,
    expires_at timestamptz NOT NULL
)
"""


def upgrade() -> None:
    """Create the tables."""
    for statement in STATEMENTS.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables: the lake holds what is needed to fill them again."""
    op.execute("DROP TABLE runs, snapshots, current_snapshots, assets, products, rejects, loads, leases")
