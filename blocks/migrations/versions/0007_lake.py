"""The lake whose books these are; none yet in a schema that was made before lakes had ids."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table, of one row at the most."""
    op.execute("CREATE TABLE lake (id text NOT NULL)")
    op.execute("CREATE UNIQUE INDEX ON lake ((true))")


def downgrade() -> None:
    """Drop the table: the next lake that comes may take the schema."""
    op.execute("DROP TABLE lake")
