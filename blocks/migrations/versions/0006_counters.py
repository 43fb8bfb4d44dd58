"""Fencing counters: each owner of a lease has a higher one than those before it; see ``blocks/registry.py``."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; who holds a lease now lets all others go first."""
    op.execute("ALTER TABLE leases ADD COLUMN counter bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    """Drop the column, and the leases that were given back."""
    op.execute("DELETE FROM leases WHERE owner = ''")
    op.execute("ALTER TABLE leases DROP COLUMN counter")
