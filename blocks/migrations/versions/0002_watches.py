"""Watched sources: what they held when they were last looked at, and what was last announced."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.execute("""
        CREATE TABLE watches (
            dataset text NOT NULL,
            source text NOT NULL,
            seen text NOT NULL,
            announced text,
            changed_at timestamptz NOT NULL
        )
    """)
    # As in the books: an index holds no path of several thousand bytes.
    op.execute("CREATE UNIQUE INDEX ON watches (dataset, md5(source))")


def downgrade() -> None:
    """Drop the table: every source is then announced once more, which changes nothing."""
    op.execute("DROP TABLE watches")
